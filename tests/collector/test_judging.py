"""What the local collector takes for a good event, and what it says of a bad one."""

from __future__ import annotations

import base64
import json
import random
import uuid

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from snowplow_logging.collector import LocalCollector
from snowplow_logging.collector.protocol import FIELDS

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
UNSTRUCT = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
CONTEXTS = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1"
GAME = "iglu:com.games_company/save_game/jsonschema/1-0-2"
EVENT = {"tv": "test-1.0", "p": "srv", "e": "pv", "url": "https://shop.example.com/"}
STRUCT = {"tv": "test-1.0", "p": "srv", "e": "se", "se_ca": "shop", "se_ac": "pay"}
ORDER = {"tv": "test-1.0", "p": "srv", "e": "tr", "tr_id": "o1", "tr_tt": "9.90"}
ITEM = {
    "tv": "test-1.0", "p": "srv", "e": "ti",
    "ti_id": "o1", "ti_sk": "s1", "ti_pr": "9.90", "ti_qu": "1",
}  # fmt: skip
UNSTRUCT_EVENT = {"tv": "test-1.0", "p": "srv", "e": "ue"}

running = LocalCollector()
client = requests.Session()


@pytest.fixture(scope="module", autouse=True)
def _collector():
    with running, client:
        yield


@pytest.fixture(autouse=True)
def _empty():
    running.reset()


def send(body, content_type="application/json"):
    """POST a body, and return what became of it: the good and the bad events."""
    running.reset()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if content_type is None else {"Content-Type": content_type}
    url = f"{running.endpoint}/com.snowplowanalytics.snowplow/tp2"
    answer = client.post(url, data=data, headers=headers, timeout=10)
    assert answer.status_code == 200
    return running.good, running.bad


def judge(*events):
    """Send events in one request, and return the good and the bad ones."""
    return send({"schema": PAYLOAD_DATA, "data": list(events)})


def errors(*events):
    """Send events of which one fails, and return its errors."""
    good, [bad] = judge(*events)
    assert not good
    return bad["errors"]


def encode(value):
    """Encode a value as `ue_px` and `cx` hold it."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode()


def unstruct(data=None, schema=GAME):
    """Wrap an event's data in the envelope of a self-describing event."""
    return {"schema": UNSTRUCT, "data": {"schema": schema, "data": data or {}}}


def contexts(*entities, schema=CONTEXTS):
    """Wrap entities in their envelope."""
    return {"schema": schema, "data": list(entities)}


def nested(levels):
    """Return lists nested so deep that a leaf lies on the given level."""
    value = 1
    for _ in range(levels - 1):
        value = [value]
    return value


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


TEXTS = {
    "tv": 100, "tna": 128, "aid": 255, "uid": 255, "duid": 128, "tnuid": 128, "nuid": 128,
    "ip": 128, "fp": 128, "cs": 128, "ti_na": 255,
    "ua": 1000, "lang": 255, "tz": 255, "cd": 12, "page": 2000,
    "se_ca": 1000, "se_ac": 1000, "se_la": 4096, "se_pr": 1000,
    "tr_id": 255, "tr_af": 255, "tr_ci": 255, "tr_st": 255, "tr_co": 255, "tr_cu": 3,
    "ti_id": 255, "ti_sk": 255, "ti_nm": 255, "ti_ca": 255, "ti_cu": 3,
}  # fmt: skip
INTEGERS = ["tid", "vid", "pp_mix", "pp_max", "pp_miy", "pp_may", "ti_qu"]
FLAGS = ["f_pdf", "f_qt", "f_realp", "f_wma", "f_dir", "f_fla", "f_java", "f_gears", "f_ag"]
FLAGS += ["cookie"]
DECIMALS = ["se_va", "tr_tt", "tr_tx", "tr_sh", "ti_pr"]
TIMES = ["dtm", "stm", "ttm"]


def host(name):
    """Return an event of the type that a name belongs to."""
    return {"se": STRUCT, "tr": ORDER, "ti": ITEM}.get(name.split("_")[0], EVENT)


@pytest.mark.parametrize(("name", "limit"), TEXTS.items(), ids=TEXTS)
def test_text_is_good_up_to_its_limit(name, limit):
    """A text of exactly as many characters as Snowplow takes is good, one more is not."""
    good, [bad] = judge({**host(name), name: "x" * limit}, {**host(name), name: "x" * (limit + 1)})

    assert len(good) == 1
    [error] = bad["errors"]
    assert error.startswith(f"{name}: has {limit + 1} characters")
    assert f"Snowplow takes {limit}" in error


@pytest.mark.parametrize(("name", "path"), [("url", 3000), ("refr", 6000)])
def test_each_part_of_a_url_is_good_up_to_its_limit(name, path):
    """Scheme, host, path, query and fragment have limits of their own, the whole has 10,000."""
    prefix = {"url": "page_url", "refr": "refr_url"}[name]
    parts = {
        "scheme": ("{}://h", "x", 16),
        "host": ("x://{}", "h", 255),
        "path": ("x://h{}", "/", path),
        "query": ("x://h/?{}", "q", 6000),
        "fragment": ("x://h/#{}", "f", 3000),
    }
    for part, (shape, letter, limit) in parts.items():
        good, [bad] = judge(
            {**EVENT, name: shape.format(letter * limit)},
            {**EVENT, name: shape.format(letter * (limit + 1))},
        )

        assert good[0]["event"][f"{prefix}{part}"] == letter * limit
        [error] = bad["errors"]
        assert error.startswith(f"{name}: {prefix}{part}: has {limit + 1} characters")

    whole = f"x://h/{'p' * 2999}?{'q' * 6000}#"
    good, [bad] = judge(
        {**EVENT, name: whole.ljust(10_000, "f")}, {**EVENT, name: whole.ljust(10_001, "f")}
    )
    assert len(good) == 1
    [error] = bad["errors"]
    assert error.startswith(f"{name}: has 10001 characters")


@pytest.mark.parametrize(
    ("value", "units"),
    [("é" * 13, 13), ("🦊" * 6 + "x", 13), ("\t" * 3 + "x", 13)],
    ids=["letters", "surrogates", "tabs"],
)
def test_characters_are_counted_as_enrich_counts_them(value, units):
    """A character beyond the basic plane counts as two, and a tab as four."""
    [error] = errors({**EVENT, "cd": value})

    assert error.startswith(f"cd: has {units} characters")
    good, bad = judge({**EVENT, "cd": value[:-1]})
    assert (len(good), bad) == (1, [])


def test_a_tab_becomes_four_spaces():
    """A text comes out of Enrich with spaces for its tabs."""
    [good], _ = judge({**EVENT, "page": "a\tb"})

    assert good["event"]["page_title"] == "a    b"


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["0", "-1", "+7", "007", "2147483647", "-2147483648"])
def test_an_int_is_a_decimal_32_bit_integer(name, value):
    """A whole number of 32 bits is good."""
    good, bad = judge({**host(name), name: value})

    assert (len(good), bad) == (1, [])


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(
    "value",
    ["12.0", "1e3", "2147483648", "-2147483649", "0x1F", "1_000", " 1", "1\n", "x", "9" * 5000],
)
def test_anything_else_is_no_int(name, value):
    """A fraction, an exponent or a number beyond 32 bits fails the event."""
    [error] = errors({**host(name), name: value})

    assert error.startswith(f"{name}: ")
    assert error.endswith("give a decimal 32-bit integer with no fraction")


@pytest.mark.parametrize("name", DECIMALS)
@pytest.mark.parametrize("value", ["0", "-1.5", "+.5", "1.", "1e3", "1E-3", "1" * 400, "1e400"])
def test_a_decimal_is_what_bigdecimal_reads(name, value):
    """Whatever java.math.BigDecimal reads is good, beyond a double too."""
    good, bad = judge({**host(name), name: value})

    assert (len(good), bad) == (1, [])


@pytest.mark.parametrize("name", DECIMALS)
@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "-inf", "1,5", "1_000", " 1", "1\n", ".", "e5", "1e", "1e9999999999"],
)
def test_anything_else_is_no_decimal(name, value):
    """NaN, Infinity and what BigDecimal does not read fail the event."""
    [error] = errors({**host(name), name: value})

    assert error.startswith(f"{name}: ")
    assert "is not a decimal" in error


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "1970-01-01T00:00:00.000Z"),
        ("1700000000123", "2023-11-14T22:13:20.123Z"),
        ("253402300799999", "9999-12-31T23:59:59.999Z"),
        ("-62167219200000", "0000-01-01T00:00:00.000Z"),
        ("-1", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_milliseconds_of_the_years_0_to_9999(name, value, text):
    """Milliseconds since 1970 come out as the moment they are."""
    [good], _ = judge({**EVENT, name: value})

    column = {"dtm": "dvce_created_tstamp", "stm": "dvce_sent_tstamp", "ttm": "true_tstamp"}[name]
    assert good["event"][column] == text


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    "value", ["253402300800000", "-62167219200001", "1700000000.5", "1e12", "now", "9" * 5000]
)
def test_anything_else_is_no_time(name, value):
    """A time outside those years, or not in whole milliseconds, fails the event."""
    [error] = errors({**EVENT, name: value})

    assert error.startswith(f"{name}: ")
    assert "is not a time" in error


@pytest.mark.parametrize("name", ["eid", "sid"])
def test_a_uuid_is_canonical_in_either_case(name):
    """A canonical UUID is good in capitals too, and comes out in small letters."""
    column = {"eid": "event_id", "sid": "domain_sessionid"}[name]
    given = str(uuid.uuid4())

    [good], _ = judge({**EVENT, name: given.upper()})

    assert good["event"][column] == given


@pytest.mark.parametrize("name", ["eid", "sid"])
@pytest.mark.parametrize(
    "value",
    [
        "5e11d0cf3a3f4c5c9a8b4d4f8f5ad0f2",
        "{5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f2}",
        "5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f",
        "5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f2\n",
        "invalidEventId",
    ],
)
def test_anything_else_is_no_uuid(name, value):
    """A UUID in any other form fails the event."""
    [error] = errors({**EVENT, name: value})

    assert error.startswith(f"{name}: ")
    assert "is not a UUID" in error


def test_an_event_without_an_id_is_given_one():
    """An event without `eid` is good, and gets an id from Enrich."""
    [good], _ = judge(EVENT)

    assert uuid.UUID(good["event"]["event_id"]).version == 4


@pytest.mark.parametrize("name", ["res", "vp", "ds"])
def test_a_size_is_width_x_height(name):
    """A size of two whole numbers is good, anything else fails the event."""
    [good], [bad_1, bad_2] = judge(
        {**EVENT, name: "1920x1080"},
        {**EVENT, name: "1920 x 1080"},
        {**EVENT, name: "1x9999999999"},
    )

    columns = {
        "res": ("dvce_screenwidth", "dvce_screenheight"),
        "vp": ("br_viewwidth", "br_viewheight"),
        "ds": ("doc_width", "doc_height"),
    }
    assert [good["event"][column] for column in columns[name]] == [1920, 1080]
    assert "is not a size" in bad_1["errors"][0]
    assert "is not a size" in bad_2["errors"][0]


URIS = [
    "https://shop.example.com/a;b/c?d=e&f=[g]#h",
    "http://user:secret@[2001:db8::1]:8080/",
    "https://bücher.example/straße?q=日本#é",
    "android-app://com.example/",
    "mailto:a@example.com",
    "file:///etc/hosts",
    "/basket?step=2",
    "?a=b",
    "#top",
    "//cdn.example.com/x",
    "https://a/%C3%A4",
]
REPAIRED = {
    "https://a/b c": "https://a/b%20c",
    "https://a/?q=100%": "https://a/?q=100%25",
    "https://a/%zz": "https://a/%25zz",
    "https://a/\u3000": "https://a/%E3%80%80",
    "https://a/#b#c": "https://a/#b%23c",
    "https://a/[b]": "https://a/%5Bb%5D",
    "https://a/\n": "https://a/",
    "https://a/\t": "https://a/%20%20%20%20",
    "127.0.0.1:80/a": "127.0.0.1%3A80/a",
    "1a:b": "1a%3Ab",
    "https://a/?b=%2B|+": "https://a/?b=+%7C+",
    "https://a/%E9|": "https://a/%EF%BF%BD%7C",
    "https://a/🦊|": "https://a/%3F%3F%7C",
    "http://127.0.0.01:080/|": "http://127.0.0.1:80/%7C",
    "http://[0:0:0:0:0:0:0:1]/|": "http://[::1]/%7C",
    "http://[1:0:0:2:0:0:0:3]/|": "http://[1:0:0:2::3]/%7C",
    "http://[1:2:3:4:5:6:7::]/|": "http://[1:2:3:4:5:6:7:0]/%7C",
    "http://u s:p|w@a:1/": "http://u%20s:p%7Cw@a:1/",
    "urn:isbn:100%": "urn:isbn:100%25",
    "https://a/|?": "https://a/%7C",
    "https://a/|\uffffb": "https://a/%7C",
    **{f"https://a/{char}": f"https://a/%{ord(char):02X}" for char in '<>"{}|\\^`'},
}
NO_URIS = [
    "http:",
    "http://",
    "//",
    "x:#",
    "http://a|b/",
    "http://a%/",
    "http://[1]/",
    "http://[::1",
    "http://[::1]x/",
    "http://[1:2:3:4:5:6:7:8::]/|",
    "http://[1::2::3]/",
    "http://[::256.1.1.1]/",
    "http://[::1%]/",
    "http://a:99999999999/|",
    "https://a:443|",
    "https://a/?_sp=.",
    "https://a/?_sp=user@example.com",
    "https://a/?x=1;_sp=a.253402300800000",
    f"https://a/?_sp={'d' * 129}",
]


@pytest.mark.parametrize("name", ["url", "refr"])
@pytest.mark.parametrize("value", URIS)
def test_a_url_is_a_uri(name, value):
    """A URI is good, with letters of any alphabet in it, absolute or not."""
    [good], bad = judge({**EVENT, name: value})

    assert good["event"][{"url": "page_url", "refr": "page_referrer"}[name]] == value
    assert bad == []


@pytest.mark.parametrize(("value", "repaired"), REPAIRED.items(), ids=map(ascii, REPAIRED))
def test_any_other_url_is_repaired(value, repaired):
    """What java.net.URI refuses is taken apart, encoded and tried again."""
    good, bad = judge({**EVENT, "url": value}, {**EVENT, "refr": value})

    assert bad == []
    page, referrer = (event["event"] for event in good)
    assert page["page_url"] == repaired
    # The referrer stays as it was sent; only its parts are those of the repaired one.
    parts = ("scheme", "host", "port", "path", "query", "fragment")
    assert [page[f"page_url{part}"] for part in parts] == [
        referrer[f"refr_url{part}"] for part in parts
    ]


@pytest.mark.parametrize("name", ["url", "refr"])
@pytest.mark.parametrize("value", NO_URIS, ids=ascii)
def test_what_cannot_be_repaired_is_no_url(name, value):
    """A bad host, a bad IPv6 address, nothing after the scheme, or a bad `_sp` fails the event."""
    if name == "refr" and "_sp" in value:
        pytest.skip("only the page's own URL is asked for the mark of a link across domains")

    [error] = errors({**EVENT, name: value})

    assert error.startswith(f"{name}: ")


def test_the_mark_of_a_link_across_domains_is_read():
    """The last `_sp` of a page's URL gives the referring user and the time of the click."""
    url = "https://a/?_sp=one.1&_sp=t%20wo.1700000000123.3"

    [good], _ = judge({**EVENT, "url": url})

    assert good["event"]["refr_domain_userid"] == "t wo"
    assert good["event"]["refr_dvce_tstamp"] == "2023-11-14T22:13:20.123Z"


@pytest.mark.parametrize("url", ["", "\n", None], ids=["empty", "nothing left", "absent"])
def test_the_referer_header_stands_in_for_a_missing_url(url):
    """A request's `Referer` is the page's URL where an event has none, and is judged like one."""
    event = {key: value for key, value in {**EVENT, "url": url}.items() if value is not None}
    body = json.dumps({"schema": PAYLOAD_DATA, "data": [event, EVENT]})
    headers = {"Content-Type": "application/json", "Referer": "https://from/a b|?c=d"}

    client.post(
        f"{running.endpoint}/com.snowplowanalytics.snowplow/tp2",
        data=body,
        headers=headers,
        timeout=10,
    )

    first, second = (good["event"] for good in running.good)
    assert (first["page_url"], first["page_urlhost"]) == ("https://from/a%20b%7C?c=d", "from")
    assert second["page_url"] == EVENT["url"]

    running.reset()
    headers["Referer"] = "http://h|/"
    client.post(
        f"{running.endpoint}/com.snowplowanalytics.snowplow/tp2",
        data=body,
        headers=headers,
        timeout=10,
    )
    assert [len(running.good), len(running.bad)] == [1, 1]
    assert running.bad[0]["errors"][0].startswith("Referer: ")


def test_a_url_is_judged_in_linear_time():
    """A long value that is nearly a URL is refused as quickly as any other."""
    [error] = errors({**EVENT, "url": "http://" + "a@" * 4900 + "["})

    assert error.startswith("url: ")


@pytest.mark.parametrize("value", "web iot app mob pc cnsl tv srv headset".split())
def test_each_platform_is_good(value):
    """Each platform of the protocol is good."""
    [good], _ = judge({**EVENT, "p": value})

    assert good["event"]["platform"] == value


@pytest.mark.parametrize(
    ("name", "value"), [("p", "server"), ("p", "SRV"), ("e", "page_view"), ("e", "ad")]
)
def test_any_other_platform_or_event_type_is_bad(name, value):
    """A platform or an event type that is none fails the event, and the error lists them."""
    found = errors({**EVENT, name: value})

    assert f"{name}: '{value}' is not" in found[0]
    assert {"p": "web, iot, app", "e": "pv, pp, se"}[name] in found[0]


@pytest.mark.parametrize("name", [*TEXTS, "url", "refr", "page"])
@pytest.mark.parametrize("value", ["", "\n\x7f", "\x00"], ids=ascii)
def test_text_of_which_nothing_is_left_counts_as_absent(name, value):
    """Text that is empty, or empty once control characters are gone, leaves its column null."""
    [good], bad = judge({**host(name), name: value})

    [column] = FIELDS[name].columns
    assert good["event"][column] is None
    assert bad == []


@pytest.mark.parametrize(
    "name",
    [*INTEGERS, *DECIMALS, *TIMES, *FLAGS, *"eid sid res vp ds ue_px ue_pr cx co".split()],
)
def test_an_empty_value_is_none_of_a_typed_name(name):
    """A number, a time, a UUID, a size, a flag or JSON that is empty fails the event."""
    [error] = errors({**host(name), name: ""})

    assert error.startswith(f"{name}: ")


@pytest.mark.parametrize("name", [*INTEGERS, *DECIMALS])
@pytest.mark.parametrize("value", ["null", "NULL", "Null"])
def test_null_is_absent_where_a_number_is_expected(name, value):
    """The text `null` leaves the column of a number null."""
    [good], bad = judge({**host(name), name: value})

    [column] = FIELDS[name].columns
    assert good["event"][column] is None
    assert bad == []


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_one_or_zero(name):
    """A flag is `1` or `0` and nothing else, and comes out as a boolean."""
    good, bad = judge(
        *({**EVENT, name: value} for value in ["1", "0"]),
        *({**EVENT, name: value} for value in ["2", "true", "null", " 1"]),
    )

    [column] = FIELDS[name].columns
    assert [event["event"][column] for event in good] == [True, False]
    assert [event["errors"][0].split(":")[0] for event in bad] == [name] * 4


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.1", "198.51.100.7"),
        ("198.51.100.7|10.0.0.1", "198.51.100.7"),
        ("2001:db8::1 x", "2001:db8::1"),
        (" 198.51.100.7", None),
        (",198.51.100.7", None),
        ("", None),
    ],
)
def test_of_a_list_of_addresses_the_first_counts(value, address):
    """What stands before the first comma, bar or space is the address."""
    [good], _ = judge({**EVENT, "ip": value})

    assert good["event"]["user_ipaddress"] == address


@pytest.mark.parametrize("value", [",", "|", " ", ", |,"])
def test_an_address_of_separators_alone_is_bad(value):
    """Enrich up to 6.9 falls over an address that holds nothing but separators."""
    [error] = errors({**EVENT, "ip": value})

    assert error.startswith("ip: ")
    good, bad = judge({**EVENT, "ip": "x" * 129 + ",y"}, {**EVENT, "ip": "x," + "y" * 129})
    assert (len(good), len(bad)) == (1, 1)


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


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([*EVENT, *TEXTS, *INTEGERS, *TIMES, "cx"]), st.text(max_size=20)
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_strings_come_every_event_is_judged(events):
    """Any strings at all under known names leave each event good or bad, never lost."""
    sent = [{**EVENT, **event} for event in events]

    good, bad = judge(*sent)

    assert len(good) + len(bad) == len(sent)
    assert all(event["errors"] for event in bad)


@given(st.binary(max_size=200), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_bytes_come_the_request_is_judged(noise, seed):
    """Any body at all is answered, and counted once it cannot be read."""
    data = bytearray(BODY)
    at = random.Random(seed).randrange(len(data))
    data[at : at + 1] = noise

    good, bad = send(bytes(data))

    assert len(good) + len(bad) == 1
