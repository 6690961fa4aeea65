"""Which value of each name the local collector takes, and what it makes of it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judging import (
    EVENT,
    errors,
    host,
    judge,
)
from snowplow_logging.collector.protocol import FIELDS

pytestmark = pytest.mark.usefixtures("judging")


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


@pytest.mark.parametrize(("name", "limit"), TEXTS.items(), ids=TEXTS)
def test_text_is_good_up_to_its_limit(name, limit):
    """A text of exactly as many characters as Snowplow takes is good, one more is not."""
    good, [bad] = judge({**host(name), name: "x" * limit}, {**host(name), name: "x" * (limit + 1)})

    assert len(good) == 1
    [error] = bad["errors"]
    assert error.startswith(f"{name}: has {limit + 1} characters")
    assert f"Snowplow takes {limit}" in error


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
