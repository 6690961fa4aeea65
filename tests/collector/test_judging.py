"""What the local collector takes for a good event, and what it says of a bad one."""

from __future__ import annotations

import json
import random
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging import (
    CONTEXTS,
    EVENT,
    GAME,
    ITEM,
    ORDER,
    PAYLOAD_DATA,
    STRUCT,
    UNSTRUCT,
    UNSTRUCT_EVENT,
    contexts,
    encode,
    errors,
    judge,
    nested,
    send,
    unstruct,
)

pytestmark = pytest.mark.usefixtures("judging")


@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        {**EVENT, "e": "pp"},
        STRUCT,
        ORDER,
        ITEM,
        {**UNSTRUCT_EVENT, "ue_pr": json.dumps(unstruct())},
    ],
    ids=lambda event: event["e"],
)
def test_each_event_type_with_its_required_names_is_good(event):
    """An event with what its type needs is good."""
    good, bad = judge(event)

    assert (len(good), bad) == (1, [])


@pytest.mark.parametrize(
    "event",
    [
        {"e": "pv"},
        {"e": "pp"},
        {"e": "se", "se_ca": "shop", "se_ac": ""},
        {"e": "se"},
        {"e": "ev"},
        {"e": "tr", "tr_id": ""},
        {"e": "ti"},
        {"e": "ue"},
    ],
    ids=str,
)
def test_an_event_needs_nothing_but_its_type(event):
    """Enrich takes an event of any type without a value of its own, and leaves columns null."""
    [good], bad = judge({"tv": "", "p": "srv", **event})

    assert bad == []
    assert good["event"]["v_tracker"] is None
    assert good["event"]["page_url"] is None


def test_a_self_describing_event_without_its_data_has_no_schema():
    """Enrich lets it through, with neither schema nor name."""
    [good], _ = judge(UNSTRUCT_EVENT)

    assert (good["schema"], good["event"]["event_name"]) == (None, None)
    assert good["eventType"] == "unstruct"


@pytest.mark.parametrize("name", ["tv", "p", "e"])
def test_one_event_without_a_required_name_fails_the_request(name):
    """An event without `tv`, `p` or `e` takes the others of its request with it."""
    good, [bad] = judge(EVENT, {key: value for key, value in EVENT.items() if key != name})

    assert not good
    assert bad["rawEvent"] is None
    assert f"event 2 of 2: {name} is missing" in bad["errors"][0]


@pytest.mark.parametrize("name", ["p", "e"])
def test_an_empty_required_name_fails_only_its_event(name):
    """An empty `p` or `e` passes the body's check, and is no platform and no event type."""
    good, [bad] = judge(EVENT, {**EVENT, name: ""})

    assert len(good) == 1
    [error] = bad["errors"]
    assert error.startswith(f"{name}: '' is not")


@pytest.mark.parametrize("value", [1, 1.5, True, None, ["a"], {"a": "b"}], ids=str)
def test_one_value_that_is_no_string_fails_the_request(value):
    """A value that is no JSON string takes every event of its request with it."""
    good, [bad] = judge(EVENT, EVENT, {**EVENT, "uid": value})

    assert not good
    assert "event 3 of 3: uid is " in bad["errors"][0]
    assert bad["errors"][0].endswith("give a JSON string")


def test_one_unknown_name_fails_the_request():
    """A name that payload_data does not know takes every event of its request with it."""
    good, [bad] = judge({**EVENT, "colour": "red"}, EVENT)

    assert not good
    assert "event 1 of 2: 'colour' is no name of the protocol" in bad["errors"][0]


@pytest.mark.parametrize(
    "name",
    "ad_ba ad_ca ad_ad ad_uid ctype cookie cs f_pdf f_qt f_realp f_wma f_dir f_fla f_java "
    "f_gears f_ag fp mac nuid sa sn sp st ti_na tid ue_na".split(),
)
def test_the_names_that_payload_data_knows_besides_are_good(name):
    """The names that are only let through do not fail an event."""
    good, bad = judge({**EVENT, name: "1"})

    assert (len(good), bad) == (1, [])


def test_an_event_without_an_id_is_given_one():
    """An event without `eid` is good, and gets an id from Enrich."""
    [good], _ = judge(EVENT)

    assert uuid.UUID(good["event"]["event_id"]).version == 4


@pytest.mark.parametrize(
    ("winner", "loser", "column"),
    [
        ("tnuid", "nuid", "network_userid"),
        ("ti_nm", "ti_na", "ti_name"),
        ("ue_px", "ue_pr", "unstruct_event"),
        ("cx", "co", "contexts"),
    ],
)
def test_of_two_names_for_one_value_one_counts(winner, loser, column):
    """Where an event has both names, both values have to be good, and one is the column's."""
    values = {winner: "won", loser: "lost"}
    shown = "won"
    if column in {"unstruct_event", "contexts"}:
        wrap = (
            unstruct
            if column == "unstruct_event"
            else lambda data: contexts({"schema": GAME, "data": data})
        )
        shown = wrap({"a": "won"})
        values = {winner: encode(shown), loser: json.dumps(wrap({"a": "lost"}))}
        for bad in ({**values, winner: "!"}, {**values, loser: "!"}):
            assert len(errors({**UNSTRUCT_EVENT, **bad})) == 1

    [good], _ = judge({**UNSTRUCT_EVENT, **values})
    [turned], _ = judge({**UNSTRUCT_EVENT, **dict(reversed(values.items()))})

    assert good["event"][column] == turned["event"][column] == shown


def test_an_event_carries_all_its_errors():
    """All that is wrong with an event is said at once."""
    found = errors({**STRUCT, "eid": "", "vid": "x", "aid": "a" * 256, "cx": "!", "refr": "//"})

    assert sorted(error.split(":")[0] for error in found) == ["aid", "cx", "eid", "refr", "vid"]


@pytest.mark.parametrize(
    "value",
    ["application/json", "application/json; charset=utf-8", "application/json; charset=UTF-8"],
)
def test_three_content_types_are_good(value):
    """Each of the three spellings of the content type is taken."""
    good, bad = send({"schema": PAYLOAD_DATA, "data": [EVENT]}, value)

    assert (len(good), bad) == (1, [])


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text/plain",
        "application/json;charset=utf-8",
        "application/json; charset=Utf-8",
        "APPLICATION/JSON",
    ],
)
def test_any_other_content_type_fails_the_request(value):
    """Any other content type fails all events at once."""
    good, [bad] = send({"schema": PAYLOAD_DATA, "data": [EVENT, EVENT]}, value)

    assert not good
    [error] = bad["errors"]
    assert error.startswith("Content-Type: ")
    assert "'application/json; charset=utf-8'" in error


BODY = json.dumps({"schema": PAYLOAD_DATA, "data": [EVENT]}).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (BODY.replace(b'"srv"', b"NaN"), "NaN is not a JSON value"),
        (BODY.replace(b'"srv"', b"-Infinity"), "-Infinity is not a JSON value"),
        (BODY.replace(b"srv", b"\xff"), "is not UTF-8"),
        (b"\x1f\x8b\x08\x00", "is not UTF-8"),
        (b"[]", "give an object of 'schema' and 'data'"),
        (json.dumps([EVENT]).encode(), "give an object of 'schema' and 'data'"),
        (BODY.replace(b"payload_data", b"payload"), f"give '{PAYLOAD_DATA}'"),
        (BODY.replace(b"1-0-4", b"2-0-0"), f"give '{PAYLOAD_DATA}'"),
        (json.dumps({"schema": PAYLOAD_DATA, "data": []}).encode(), "at least one event"),
        (json.dumps({"schema": PAYLOAD_DATA, "data": EVENT}).encode(), "at least one event"),
        (json.dumps({"schema": PAYLOAD_DATA, "data": ["pv"]}).encode(), "an object of names"),
        (b"[" * 500_000, "is nested deeper than 50 levels"),
    ],
    ids=[
        "empty", "broken", "nan", "infinity", "utf-8", "gzip", "list", "no envelope",
        "schema", "version", "none", "one", "string", "deep",
    ],
)  # fmt: skip
def test_a_body_of_another_form_fails_the_request(body, expected):
    """A body that is no payload_data becomes one failed event."""
    good, [bad] = send(body)

    assert not good
    assert expected in bad["errors"][0]


def test_json_in_a_body_may_be_nested_50_levels_deep():
    """The body's depth counts from its outermost object, a leaf being one level."""
    # Schema and data are on level 2, events on 3, values on 4: the lists below begin there.
    good, [bad] = judge({**EVENT, "uid": nested(47)})
    assert not good
    assert "uid is [[[" in bad["errors"][0]

    [error] = errors({**EVENT, "uid": nested(48)})
    assert "is nested deeper than 50 levels" in error


@pytest.mark.parametrize("name", ["ue_px", "ue_pr", "cx", "co"])
def test_json_in_a_value_may_be_nested_50_levels_deep(name):
    """The depth of a self-describing event or of entities counts for itself."""
    entity = {"schema": GAME}
    found = []
    for deep in (False, True):
        # The data of an event is on level 3, that of an entity on 4.
        if name.startswith("ue"):
            value, event = unstruct(nested(48 + deep)), UNSTRUCT_EVENT
        else:
            value, event = contexts({**entity, "data": nested(47 + deep)}), EVENT
        text = encode(value) if name in {"ue_px", "cx"} else json.dumps(value)
        found.append(judge({**event, name: text}))

    assert [len(good) for good, _ in found] == [1, 0]
    [bad] = found[1][1]
    [error] = bad["errors"]
    assert error.startswith(f"{name}: is nested deeper than 50 levels; flatten it")


VARIANTS = {
    "URL-safe": lambda text: text,
    "without padding": lambda text: text.rstrip("="),
    "standard alphabet": lambda text: text.replace("-", "+").replace("_", "/"),
    "in lines": lambda text: "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
    "spaces and tabs": lambda text: f" {text[:9]}\t{text[9:]} ",
    "what is no base64": lambda text: f"{text[:9]}!.é🦊{text[9:]}",
    "more after the padding": lambda text: f"{text.rstrip('=')}=e30=",
    "six bits more": lambda text: f"{text}A",
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("extra", range(3))
def test_a_self_describing_event_is_read_from_any_base64(variant, extra):
    """What `ue_px` holds comes out in the enriched event, in whichever variant of base64."""
    value = unstruct({"level": "é?>~ÿ" + "x" * extra})
    text = encode(json.dumps(value, ensure_ascii=False).encode())

    [good], _ = judge({**UNSTRUCT_EVENT, "ue_px": variant(text)})

    assert good["schema"] == GAME
    assert good["event"]["unstruct_event"] == value
    assert (good["event"]["event"], good["event"]["event_name"]) == ("unstruct", "save_game")


def test_bytes_in_base64_that_are_no_utf_8_are_replaced():
    """A malformed sequence inside of JSON text becomes U+FFFD, as Java has it."""
    text = json.dumps(unstruct({"level": "@"})).encode().replace(b"@", b"a\xff\xed\xa0\x80z")

    [good], _ = judge({**UNSTRUCT_EVENT, "ue_px": encode(text)})

    assert good["event"]["unstruct_event"]["data"]["data"] == {"level": "a\ufffd\ufffdz"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("!", "is not valid JSON"),
        ("abcde", "encoded by base64.urlsafe_b64encode"),
        (encode(b"\xff\xfe"), "is not valid JSON"),
        (encode(b"{"), "is not valid JSON"),
        (encode(b'{"a": NaN}'), "is not valid JSON"),
        (encode([]), "give an object of 'schema' and 'data'"),
        (encode({"schema": UNSTRUCT}), "give an object of 'schema' and 'data'"),
        (encode({"schema": GAME, "data": {}}), f"give '{UNSTRUCT}'"),
        (encode({**unstruct(), "schema": UNSTRUCT.replace("1-0-0", "1-0-1")}), "give 'iglu:"),
        (
            encode({"schema": UNSTRUCT, "data": {"schema": GAME, "data": {}, "x": 1}}),
            "give an object of just 'schema' and 'data'",
        ),
        (
            encode({"schema": UNSTRUCT, "data": {"schema": GAME}}),
            "give an object of just 'schema' and 'data'",
        ),
        (encode(unstruct(schema="iglu:a/b/jsonschema/1-0")), "give 'iglu:VENDOR/NAME/"),
        (encode(unstruct(schema="iglu:a b/c/jsonschema/1-0-0")), "give 'iglu:VENDOR/NAME/"),
        (encode(unstruct(schema="a/b/jsonschema/1-0-0")), "give 'iglu:VENDOR/NAME/"),
        (encode(unstruct(schema="iglu:a/b/jsonschema/0-0-0")), "give 'iglu:VENDOR/NAME/"),
        (encode(unstruct(schema="iglu:a/b/jsonschema/1-00-0")), "give 'iglu:VENDOR/NAME/"),
        (encode(unstruct(schema=GAME + "\n")), "give 'iglu:VENDOR/NAME/"),
        (encode(unstruct(schema=1)), "give 'iglu:VENDOR/NAME/"),
    ],
)
def test_a_self_describing_event_of_another_form_is_bad(value, expected):
    """What is no base64, no JSON or has another envelope fails the event."""
    [error] = errors({**UNSTRUCT_EVENT, "ue_px": value})

    assert error.startswith("ue_px: ")
    assert expected in error


def test_a_key_beside_schema_and_data_of_an_envelope_is_left_out():
    """The body, the wrapper of an event and that of entities may have more keys."""
    event = {
        **UNSTRUCT_EVENT,
        "ue_pr": json.dumps({"x": 1, **unstruct()}),
        "co": json.dumps({**contexts(), "x": 1}),
    }

    [good], _ = send({"schema": PAYLOAD_DATA, "data": [event], "x": 1})

    assert good["event"]["unstruct_event"] == unstruct()
    assert good["event"]["contexts"] == contexts()


def test_of_a_name_given_twice_the_last_value_counts():
    """JSON with a name given twice is good, in the body and in a value."""
    body = BODY.replace(b'"p": "srv"', b'"p": "nope", "p": "srv"')
    text = json.dumps(unstruct()).replace("{}", '{"a": 1, "a": 2}')

    [first], _ = send(body)
    [second], _ = judge({**UNSTRUCT_EVENT, "ue_pr": text})

    assert first["event"]["platform"] == "srv"
    assert second["event"]["unstruct_event"]["data"]["data"] == {"a": 2}


@pytest.mark.parametrize(
    ("version", "name", "known"),
    [
        (0, "aid", True), (0, "ua", False), (1, "ua", True), (1, "tnuid", False),
        (2, "tnuid", True), (2, "stm", False), (2, "sid", False), (3, "stm", True),
        (3, "ttm", False), (4, "ttm", True),
    ],
)  # fmt: skip
def test_each_version_of_payload_data_knows_its_own_names(version, name, known):
    """A name that came with a later version fails the request."""
    value = {"sid": str(uuid.uuid4())}.get(name, "1")
    schema = PAYLOAD_DATA.replace("1-0-4", f"1-0-{version}")

    good, bad = send({"schema": schema, "data": [{**EVENT, name: value}]})

    assert (len(good), len(bad)) == ((1, 0) if known else (0, 1))


def test_half_a_surrogate_pair_becomes_a_question_mark():
    """Text that cannot be written in UTF-8 comes out as Java writes it."""
    [good], _ = judge({**EVENT, "page": "a\ud83d", "url": "https://h/\udd8a"})

    assert good["event"]["page_title"] == "a?"
    assert good["event"]["page_url"] == "https://h/?"


def test_an_event_of_another_type_may_carry_self_describing_data():
    """A page view with `ue_pr` stays a page view, and the data is checked like any other."""
    [good], [bad] = judge({**EVENT, "ue_pr": json.dumps(unstruct())}, {**EVENT, "ue_pr": "{"})

    assert (good["eventType"], good["event"]["unstruct_event"]) == ("page_view", unstruct())
    assert "ue_pr: is not valid JSON" in bad["errors"][0]


@pytest.mark.parametrize("name", ["cx", "co"])
@pytest.mark.parametrize("version", ["1-0-0", "1-0-1"])
def test_entities_are_read_from_both_names(name, version):
    """Entities come out in the enriched event, whichever name and version they came under."""
    value = contexts({"schema": GAME, "data": {}}, schema=CONTEXTS.replace("1-0-1", version))

    [good], _ = judge({**EVENT, name: encode(value) if name == "cx" else json.dumps(value)})

    assert good["contexts"] == [GAME]
    assert good["event"]["contexts"] == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (unstruct(), f"give '{CONTEXTS}'"),
        ({"schema": CONTEXTS, "data": {}}, "give an array of entities"),
        (contexts({"schema": GAME}), "entity 1: holds"),
        (
            contexts({"schema": GAME, "data": {}}, {"schema": "x", "data": {}}),
            "entity 2: schema is 'x'",
        ),
        (contexts(schema=CONTEXTS.replace("1-0-1", "1-0-0")), "give at least one entity"),
    ],
    ids=["envelope", "object", "incomplete", "schema", "none"],
)
def test_entities_of_another_form_are_bad(value, expected):
    """Entities with another envelope, or of another form, fail the event."""
    [error] = errors({**EVENT, "co": json.dumps(value)})

    assert error.startswith("co: ")
    assert expected in error


def test_a_body_over_a_mebibyte_is_one_failed_event():
    """A body of 1,048,576 bytes is read, one of a byte more is answered 200 and fails."""
    size = 1_048_576
    empty = json.dumps({"schema": PAYLOAD_DATA, "data": [{**EVENT, "ue_na": ""}]})
    exact = json.dumps(
        {"schema": PAYLOAD_DATA, "data": [{**EVENT, "ue_na": "x" * (size - len(empty))}]}
    )

    good, bad = send(exact.encode())
    assert (len(exact), len(good), bad) == (size, 1, [])

    good, [bad] = send(exact.encode() + b" ")
    assert not good
    [error] = bad["errors"]
    assert error.startswith("body: has 1048577 bytes, and Snowplow takes 1048576")


@pytest.mark.parametrize(
    ("times", "offset"),
    [
        ({"dtm": "1700000000000", "stm": "1700000001500"}, -1500),
        ({"dtm": "1700000000000", "stm": "1700000000000"}, 0),
        ({"dtm": "1700000000000"}, 0),
        ({"stm": "1700000000000"}, 0),
        ({}, 0),
    ],
    ids=["late", "at once", "no stm", "no dtm", "neither"],
)
def test_the_derived_time_allows_for_the_time_until_sending(times, offset):
    """Without `ttm`, an event's time is the collector's less what passed until it was sent."""
    [good], _ = judge({**EVENT, **times})

    def milliseconds(column):
        hours, minutes, seconds = good["event"][column][11:-1].split(":")
        return (int(hours) * 60 + int(minutes)) * 60_000 + round(float(seconds) * 1000)

    day = 86_400_000
    difference = (milliseconds("derived_tstamp") - milliseconds("collector_tstamp")) % day
    assert difference == offset % day


def test_the_derived_time_is_the_true_one_where_it_is_given():
    """`ttm` is the event's time, whatever the clocks say."""
    times = {"dtm": "1700000000000", "stm": "1700000001500", "ttm": "1600000000000"}

    [good], _ = judge({**EVENT, **times})

    assert good["event"]["derived_tstamp"] == "2020-09-13T12:26:40.000Z"


@given(st.binary(max_size=200), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_bytes_come_the_request_is_judged(noise, seed):
    """Any body at all is answered, and counted once it cannot be read."""
    data = bytearray(BODY)
    at = random.Random(seed).randrange(len(data))
    data[at : at + 1] = noise

    good, bad = send(bytes(data))

    assert len(good) + len(bad) == 1
