"""What Python programs hold is taken in data and entities, with orjson and without."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import ANYTHING, record
from snowplow_logging import (
    FormSubmit,
    SelfDescribing,
    SelfDescribingJson,
    SnowplowHandler,
    SnowplowJsonFormatter,
    json_data,
)
from type_examples import (
    OBJECTS,
    ODD,
    VALUES,
    Basket,
    Item,
    Named,
    Plan,
    built,
    event_with,
    written,
)

NAIVE = datetime(2026, 11, 25)  # noqa: DTZ001 - what is to be refused
ALL = VALUES | OBJECTS
WITHOUT_ORJSON = "import sys; sys.modules['orjson'] = None; "


def read(text: str) -> Any:
    """Return what is in the JSON of data or of an entity, decimals with all their digits."""
    (content,) = [json.loads(text, parse_float=Decimal)["data"]]
    return content[0]["data"] if isinstance(content, list) else content["data"]


def digits(value: Any) -> Any:
    """Return JSON with numbers as their digits, so that 9.9 and 9.90 are two."""
    if isinstance(value, dict):
        return {key: digits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [digits(item) for item in value]
    return value.as_tuple() if isinstance(value, Decimal) else value


def reason(event: Any, **settings: Any) -> str:
    """Return why an event is refused."""
    (made,) = written(event, **settings)
    assert not made.startswith("{")
    return made


class TestTaken:
    """Each of the types, wherever data may hold it."""

    @pytest.mark.parametrize("place", ["data", "nested", "entity"])
    @pytest.mark.parametrize("kind", ALL)
    def test_arrives_as_what_it_means(self, kind, place):
        """A value means the same at every place."""
        value, expected = ALL[kind]
        (made,) = written(event_with(place, value))
        data = read(made)
        inner = data["a"][1][0] if place == "nested" else data
        assert digits(inner["value"]) == digits(expected)

    @pytest.mark.parametrize("kind", OBJECTS)
    def test_objects_are_data_whole(self, kind):
        """An object is data by itself, of an event and of an entity."""
        value, expected = OBJECTS[kind]
        entity = SelfDescribingJson(ANYTHING, value)
        page = {"event": "page_view", "page_url": "https://a.example/"}
        made = written(
            event_with("whole", value),
            SelfDescribing(schema=ANYTHING, data=value).as_event_dict(),
            {**page, "context": [entity]},
            {**page, "context": [{"schema": ANYTHING, "data": value}]},
        )
        assert [digits(read(one)) for one in made] == [digits(expected)] * 4

    def test_objects_are_entities_whole(self):
        """An object that has a schema and data is an entity, and nothing more may it have."""

        @dataclasses.dataclass
        class Entity:
            schema: str
            data: Any

        @dataclasses.dataclass
        class More(Entity):
            more: int = 1

        page = {"event": "page_view", "page_url": "https://a.example/"}
        (made,) = written({**page, "context": [Entity(ANYTHING, {"plan": Plan.GOLD})]})
        assert read(made) == {"plan": "gold"}
        (made,) = written(page, context=[Entity(ANYTHING, {"plan": Plan.GOLD})])
        assert read(made) == {"plan": "gold"}
        assert "has the key 'more'" in reason({**page, "context": [More(ANYTHING, {})]})

    def test_keys_of_events_take_them(self):
        """The lists and dicts that events have keys for may be of these types as well."""

        @dataclasses.dataclass
        class Element:
            name: str
            value: str | None
            node_name: str

        form = FormSubmit(form_id="f", elements=(Element("n", None, "INPUT"),))
        (made,) = written(form.as_event_dict())
        assert read(made)["elements"] == [{"name": "n", "value": None, "nodeName": "INPUT"}]

    def test_a_decimal_keeps_its_digits_beside_anything(self):
        """A decimal is written with all its digits, whatever else sends it the slow way."""
        events = [event_with("data", [Decimal("9.90"), other]) for other in (None, 2**70, 1.5)]
        assert all("[9.90," in made for made in written(*events))

    def test_what_changes_later_changes_nothing(self):
        """An object that its owner changes after the log call was sent as it was."""
        event = event_with("whole", item := Item("s1", Decimal(1)))
        seen = []
        (made,) = written(event, before_send=lambda event: seen.append(event) or event)
        item.sku = "s2"
        assert read(made)["sku"] == "s1"
        assert seen[0]["data"].sku == "s1"

    @pytest.mark.parametrize("kind", ALL)
    def test_a_line_holds_the_same(self, kind):
        """The formatter's line holds what the payload does."""
        value, expected = ALL[kind]
        line = SnowplowJsonFormatter().format(record(event_with("data", value)))
        event = json.loads(line, parse_float=Decimal)["snowplow"]
        assert "incomplete" not in event
        assert event["data"]["value"] == expected

    def test_deep_data_is_sent_with_a_warning(self, reports):
        """More than 40 levels are sent, and told of, because an older Enrich refuses them."""
        value: Any = 1
        for _ in range(40):
            value = [value]
        (made,) = written(event_with("data", value))
        assert made.count("[") == 40
        assert [one for one in reports if "more than 40 levels" in one]


class TestRefused:
    """What would be guessed, or is no JSON, is refused with one line that names its path."""

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (NAIVE, "naive datetime, which has no time zone; give an aware one"),
            (b"bytes", "is a bytes; give JSON: .* decode"),
            ({1}, "is a set; give JSON: .* sorted"),
            (timedelta(1), "is a timedelta; give JSON: .* total_seconds"),
            (float("nan"), "is nan; give a finite number"),
            (Decimal("Infinity"), "is Infinity; give a finite number"),
            (SimpleNamespace(a=1), "is a SimpleNamespace; give JSON: .* json_default"),
            (Item, "is a type; give JSON"),
            (1j, "is a complex; give JSON"),
            ({1: 1, "1": 2}, "has two keys that are both '1' in JSON"),
            ({(1,): 1}, "has a key that is a tuple; give strings as keys"),
        ],
        ids=repr,
    )
    def test_says_where(self, value, problem):
        """The path goes through objects as through dicts."""
        event = event_with("data", Basket((Item("s", value),), Plan.GOLD))
        message = reason(event)
        assert re.match(
            rf"self_describing_event: data\.value\.items\[0\]\.price {problem}|"
            rf"self_describing_event: data\.value\.items\[0\]\.price is an? {problem}",
            message,
        ), message
        assert "\n" not in message

    def test_a_naive_datetime_in_an_object_of_a_library(self):
        """What pydantic or msgspec would write without a zone is refused as well."""
        pydantic, msgspec = pytest.importorskip("pydantic"), pytest.importorskip("msgspec")
        model = pydantic.create_model("Model", at=(list[datetime], ...))
        struct = msgspec.defstruct("Struct", [("at", list[datetime])])
        for made in (model(at=[NAIVE]), struct(at=[NAIVE])):
            assert "data.value.at[0] is a naive datetime" in reason(event_with("data", made))

    def test_what_refers_to_itself(self):
        """Data that holds itself is refused as too deep."""
        circle: list[Any] = []
        circle.append(circle)
        item = Item("s", Decimal(1))
        item.sku = item  # type: ignore[assignment]
        for value in (circle, item):
            assert "nested too deep" in reason(event_with("data", value))


class TestJsonDefault:
    """`json_default` takes the rest."""

    def test_takes_what_is_no_json(self):
        """What it returns may hold Python's own types again."""
        value = SimpleNamespace(at=datetime(2026, 1, 1, tzinfo=timezone.utc), of=b"x")
        for place in ("data", "nested", "entity", "whole"):
            (made,) = written(
                event_with(place, value),
                json_default=lambda one: one.decode() if isinstance(one, bytes) else vars(one),
            )
            assert '{"at":"2026-01-01T00:00:00+00:00","of":"x"}' in made

    def test_is_asked_once_for_an_object(self):
        """What it uses up is not asked for again."""
        (made,) = written(event_with("data", [iter([1, None])]), json_default=list)
        assert read(made) == {"value": [[1, None]]}

    def test_that_raises_costs_the_event_alone(self):
        """The error names the path and what it raised."""
        events = [event_with("data", {"a": [b"x"]}), event_with("data", 1)]

        def refuse(value):
            raise TypeError("no\nbytes")

        refused, made = written(*events, json_default=refuse)
        assert (
            "data.value.a[0] is a bytes, for which json_default raised TypeError: no b" in refused
        )
        assert read(made) == {"value": 1}

    def test_that_never_ends(self):
        """One that returns what it was given is refused."""
        assert "data.value is never JSON" in reason(
            event_with("data", b"x"), json_default=lambda value: value
        )

    def test_of_the_formatter(self):
        """A line holds what the formatter's own `json_default` makes of it."""
        formatter = SnowplowJsonFormatter(json_default=vars)
        line = formatter.format(record(event_with("data", SimpleNamespace(a=1))))
        assert json.loads(line)["snowplow"]["data"] == {"value": {"a": 1}}

    def test_has_to_be_callable(self):
        """A setting that makes no sense is named."""
        with pytest.raises(TypeError, match="json_default is of the type int; give a callable"):
            SnowplowHandler("http://localhost", json_default=5)


@pytest.fixture(scope="module")
def without_orjson():
    """Return a function that asks a process without orjson what is written of a value."""
    pytest.importorskip("orjson")
    here = Path(__file__).parent
    run = f"{WITHOUT_ORJSON}sys.path.insert(0, {str(here)!r}); "
    run += "import type_examples; type_examples.answer()"
    process = subprocess.Popen(
        [sys.executable, "-c", run], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def ask(place: str, recipe: Any) -> list[str]:
        pickle.dump((place, recipe), process.stdin)
        process.stdin.flush()
        made: list[str] = pickle.load(process.stdout)  # noqa: S301 - from the tests' own process
        return made

    yield ask
    with process:
        process.stdin.close()


leaves = (
    st.sampled_from([Named(name) for name in (*ALL, *ODD)])
    | st.none()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(), max_size=5)
    | st.datetimes(timezones=st.none() | st.timezones())
)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.dates(), inner, max_size=4)
        | st.builds(Item, st.just("s"), inner)
    ),
    max_leaves=8,
)


@pytest.mark.timeout(300)
class TestSameWithoutOrjson:
    """orjson makes the library faster and changes nothing else."""

    def test_whatever_is_logged(self, without_orjson):
        """Both write the same values with the same digits, and refuse the same."""
        assert json_data.orjson is not None

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(nested, st.sampled_from(["data", "nested", "entity"]))
        def check(value, place):
            (fast,) = written(event_with(place, built(value)))
            (slow,) = without_orjson(place, value)
            if fast.startswith("{"):
                fast, slow = (digits(json.loads(x, parse_float=Decimal)) for x in (fast, slow))
            assert fast == slow

        check()

    @pytest.mark.exhaustive  # the session `minimal` runs them without orjson at each change
    def test_these_tests(self):
        """All that is tested here holds without orjson."""
        pytest.importorskip("orjson")
        result = subprocess.run(
            [
                *(sys.executable, "-c"),
                f"{WITHOUT_ORJSON}import pytest; sys.exit(pytest.main())",
                *("-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *("-k", "not TestSameWithoutOrjson", __file__),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r"\d\d\d passed", result.stdout)
