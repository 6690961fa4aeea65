"""Events of all kinds, for Hypothesis: most of them good, some with one odd value or more."""

from __future__ import annotations

import string
from collections import OrderedDict, UserString
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import strategies as st

from enums import Colour, Size
from event_dicts import deep
from helpers import ANYTHING
from snowplow_logging import SelfDescribingJson
from snowplow_logging.events import COMMON_KEYS, EVENTS
from snowplow_logging.subject import SUBJECT_KEYS

__all__ = ["events", "some_or_many"]

some_or_many = pytest.mark.parametrize(
    "examples", [5, pytest.param(50, marks=pytest.mark.exhaustive)], ids=["some", "many"]
)
"""Has a test try a few examples of each event, and many where all there is is tried."""

LIMITS = (1, 3, 12, 128, 255, 1_000, 1_024, 2_000, 2_048, 4_096, 8_192, 10_000, 65_535)


class Name(str):
    """A string of a class of its own."""

    __slots__ = ()


def at_limit(start: str, unit: str, limit: int, more: int) -> str:
    """Return a text whose length is next to a limit, as Enrich counts it or as a schema does."""
    width = {"\t": 4, "😀": 2}.get(unit, 1)
    return (start + unit * ((limit - len(start)) // width + more))[: limit + 8]


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return structures of dicts and lists, and of what is like them."""
    keys = st.text(max_size=5)
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(keys, inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
            | st.dictionaries(keys, inner, max_size=3).map(MappingProxyType)
        ),
        max_leaves=12,
    )


odd_texts = (
    st.text(st.characters(), max_size=9)  # lone surrogates included
    | st.text("\t\n\r\0\x7f\x1b\"'\\/<>&é \u00a0\u2028\u2029\ufeff\uffff😀", max_size=6)
    | st.sampled_from(["", "null", "NaN", "iglu:", "\ud83d", Colour.RED, Size.LARGE, Name("n")])
    | st.uuids()
    | st.integers()
    | st.builds(
        at_limit,
        st.sampled_from(["", "x", "é"]),
        st.sampled_from(["a", "\t", "😀", "é", "あ"]),
        st.sampled_from(LIMITS),
        st.integers(-1, 1),
    )
)
odd_numbers = (
    st.integers()
    | st.fractions()
    | st.floats()
    | st.decimals()
    | st.sampled_from([2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53 + 1, 2**64, 10**400])
    | st.sampled_from([-0.0, 12.0, 1e22, 5e-324, Decimal("sNaN"), Decimal("-0")])
    | st.sampled_from(
        [Decimal(f"1E{exponent}") for exponent in (400, -400, -(2**31), 2**31, 2**40, -(2**40))]
    )
)
anything = (
    st.none()
    | st.booleans()
    | odd_texts
    | odd_numbers
    | st.sampled_from([b"bytes", {1}, Colour.NUMBER, 1j, object(), deep(50, list), deep(50, dict)])
)
uri_ends = st.text(string.ascii_letters + "0123456789-._~:/?#[]@!$&'()*+,;=%| éあ😀\t", max_size=9)
written_uris = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["https://", "app:", "urn:a:", "mailto:", "file:///", "a+b.c-1://", "//", ""]),
    st.sampled_from(["h", "user:pw@h", "[::1]", "[::1]:80", "[fe80::1%25eth0]", "h:80", "h:port"])
    | st.sampled_from(["münchen.de", "a_b.example", "", "-", "1.2.3.4", "a@b@c", "[h]", "a..b"]),
    st.just("/") | uri_ends,
    st.just("") | uri_ends.map("?{}".format),
    st.just("") | uri_ends.map("#{}".format),
)
odd_uris = written_uris | st.builds(
    lambda kind, uri, more: kind(uri + more),
    st.sampled_from([PurePosixPath, UserString, str]),
    written_uris,
    st.sampled_from(["", "\udce9", "\ud83d"]),  # a byte that is no UTF-8, and a lone surrogate
)
plain_data = st.dictionaries(
    st.text(max_size=5),
    nested(st.none() | st.booleans() | st.text(max_size=9) | st.integers() | st.floats(-9, 9)),
    max_size=4,
)
odd_data = (
    nested(anything)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from([Size.LARGE, 1, None]), anything)
    | st.builds(deep, st.integers(35, 42), st.sampled_from([list, dict]))
)
texts = (st.text(max_size=3), odd_texts)
numbers = (st.integers(0, 9_999) | st.floats(0, 1e6) | st.decimals(0, 10**6, places=2), odd_numbers)
integers = (st.integers(0, 9_999) | st.integers(0, 9).map(float), odd_numbers)
uris = (st.just("https://shop.example.com/basket?a=1"), odd_uris)
uuids = (st.uuids() | st.uuids().map(str), st.uuids().map(lambda uuid: uuid.hex) | odd_texts)
classes = (st.lists(texts[0], max_size=3), st.lists(odd_texts, max_size=3))
node_names = (st.sampled_from(["INPUT", "TEXTAREA", "SELECT"]), st.sampled_from(["input", ""]))
field_types = (st.sampled_from(["text", "datetime-local"]), st.sampled_from(["textarea", ""]))
sizes = (st.tuples(integers[0], integers[0]), st.lists(odd_numbers, max_size=3))
schemas = (st.just(ANYTHING), st.sampled_from(["iglu:a/b/c/1-0", "anything", ""]))
flags = (st.booleans(), anything)


@st.composite
def values(draw: st.DrawFn, kind: tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]) -> Any:
    """Return mostly a good value of a kind, at times one at its edges, and rarely anything."""
    plain, odd = kind
    return draw({"plain": plain, "odd": odd, "any": anything}[draw(st.sampled_from(WEIGHTS))])


WEIGHTS = ["plain"] * 16 + ["odd"] * 3 + ["any"]


def dicts(
    required: dict[str, Any], optional: dict[str, Any] | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    """Return dicts whose values are of the kinds given."""
    return st.fixed_dictionaries(
        {key: values(kind) for key, kind in required.items()},
        optional={key: values(kind) for key, kind in (optional or {}).items()},
    )


data = (plain_data, odd_data)
entities = dicts({"schema": schemas, "data": data}) | st.builds(
    SelfDescribingJson, values(schemas), values(data)
)
elements = dicts({"name": texts, "value": texts, "node_name": node_names}, {"type": field_types})
subjects = dicts(
    {},
    {
        **dict.fromkeys(SUBJECT_KEYS, texts),
        "platform": (st.sampled_from(["web", "srv", "headset"]), st.sampled_from(["desktop", ""])),
        "domain_session_id": uuids,
        "domain_session_index": integers,
        "screen_resolution": sizes,
        "viewport": sizes,
    },
)
KINDS = {
    **dict.fromkeys(["page_url", "referrer", "target_url"], uris),
    **dict.fromkeys(["min_x", "max_x", "min_y", "max_y", "quantity", "line_number"], integers),
    **dict.fromkeys(["total_results", "page_results", "thread_id", "line_column"], integers),
    **dict.fromkeys(["total_value", "tax_value", "shipping", "price", "unit_price"], numbers),
    **dict.fromkeys(["element_classes", "form_classes"], classes),
    **dict.fromkeys(["id", "previous_id", "event_id"], uuids),
    ("struct_event", "value"): numbers,
    ("form_change", "type"): field_types,
    "terms": (st.lists(texts[0], min_size=1, max_size=3), classes[1]),
    "filters": (
        st.dictionaries(st.text(max_size=3), st.booleans() | texts[0], max_size=2),
        st.dictionaries(odd_texts, st.booleans() | odd_texts, max_size=2),
    ),
    "elements": (st.lists(elements, max_size=2), st.lists(anything, max_size=2)),
    "is_fatal": flags,
    "programming_language": (st.just("RUST"), st.just("COBOL")),
    "node_name": node_names,
    "schema": schemas,
    "data": data,
    "context": (st.lists(entities, max_size=2), st.lists(anything, max_size=2)),
    "subject": (subjects, st.dictionaries(odd_texts, anything, max_size=2)),
    "true_timestamp": (
        st.integers(0, 2 * 10**12),
        st.datetimes(timezones=st.timezones()) | odd_numbers,
    ),
}


def events(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return events of one type, good and bad."""
    kinds = {
        key: KINDS.get((name, key), KINDS.get(key, texts))
        for key in [*EVENTS[name].keys(), *COMMON_KEYS[1:]]
    }
    if name == "ecommerce_transaction":
        items = events("ecommerce_transaction_item")
        kinds["items"] = (st.lists(items, max_size=2), st.lists(anything, max_size=2))
    needed = {key for key, known in EVENTS[name].keys().items() if known.required}
    return st.builds(
        lambda keys: {"event": name, **keys},
        dicts(
            {key: kind for key, kind in kinds.items() if key in needed},
            {key: kind for key, kind in kinds.items() if key not in needed},
        ),
    )
