"""Tests of how data is checked against its schema: as Snowplow's Enrich does, at the log call."""

from __future__ import annotations

import json
import logging.config
import subprocess
import sys
import uuid
from decimal import Decimal
from importlib.resources import files

import pytest

pytest.importorskip("jsonschema_rs", reason="checking schemas needs it")

from hypothesis import example, given
from hypothesis import strategies as st

from helpers import NOWHERE, tracking
from snowplow_logging import InvalidEvent, SelfDescribingJson, SnowplowHandler, subject_context
from snowplow_logging.iglu import Iglu
from snowplow_logging.schemas import Absent, BrokenSchema, Schema
from snowplow_logging.testing import capture_events

BUY = "iglu:com.acme/buy/jsonschema/1-0-0"
OTHER = "iglu:com.acme/other/jsonschema/1-0-0"
LINK_CLICK = "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1"
BUY_SCHEMA = {
    "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
    "self": {"vendor": "com.acme", "name": "buy", "format": "jsonschema", "version": "1-0-0"},
    "type": "object",
    "properties": {
        "price": {"type": "number", "multipleOf": 0.01, "minimum": 0},
        "count": {"type": "integer", "maximum": 2147483647},
        "id": {"type": "string", "format": "uuid"},
        "when": {"type": "string", "format": "date-time"},
        "kind": {"enum": ["new", "used"]},
        "note": {"type": ["string", "null"], "maxLength": 3},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "required": ["price"],
    "additionalProperties": False,
}


def takes(rules, *values):
    """Return which of some values a schema takes."""
    schema = Schema(BUY, rules)
    return [value for value in values if not schema.faults(value)]


@pytest.fixture
def folder(tmp_path):
    """Make a registry of one schema in a folder."""
    file = tmp_path / "schemas" / BUY.removeprefix("iglu:")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(BUY_SCHEMA), encoding="utf-8")
    return tmp_path


def event(data, schema=BUY, **others):
    """Return a self-describing event."""
    return {"event": "self_describing_event", "schema": schema, "data": data, **others}


def refusal(data, schema=BUY, *, settings, **others):
    """Log an event and return why it is refused, None where it is not."""
    with tracking(**settings) as track, capture_events() as events:
        track.log(event(data, schema, **others))
    errors = [str(refused.error) for refused in events.invalid]
    assert len(errors) + len(events) == 1
    return errors[0] if errors else None


class TestJudgement:
    """What Enrich's validator says of values, in its own ways among them."""

    def test_types_are_those_of_draft_4(self):
        """A number with a fraction is no integer, be it 0, and a boolean is no number."""
        assert takes({"type": "integer"}, 1, 10**30, 1.0, 1e3, True, "1") == [1, 10**30]
        assert takes({"type": "number"}, 1, 1.5, True, "1", None) == [1, 1.5]
        assert takes({"type": ["string", "null"]}, None, "", 0) == [None, ""]

    def test_lengths_are_in_characters(self):
        """An emoji is one character, a letter with a combining accent two."""
        one = {"minLength": 1, "maxLength": 1}

        assert takes(one, "a", "\N{GRINNING FACE}", "", "ab", "e\u0301") == [
            "a",
            "\N{GRINNING FACE}",
        ]

    def test_a_multiple_is_one_in_decimal(self):
        """19.99 is a multiple of 0.01, however floats are stored."""
        given = (19.99, 0.07, 1.1, 4.35, 123456789.99, -0.03, 0, 10**20)

        assert takes({"multipleOf": 0.01}, *given) == [*given]
        assert takes({"multipleOf": 0.01}, 19.999, 0.001, 1e-9) == []
        assert takes({"multipleOf": 0}, 1, 2) == [1, 2]  # which Enrich passes over

    @given(
        value=st.decimals(-(10**6), 10**6, places=4, allow_nan=False),
        divisor=st.sampled_from(["0.01", "0.1", "0.5", "0.25", "0.001", "1", "3", "0.03", "2.5"]),
    )
    @example(value=Decimal("19.9900"), divisor="0.01")
    def test_multiples_are_those_of_decimal_arithmetic(self, value, divisor):
        """For any value the verdict is that of exact arithmetic with the digits as written."""
        number, rule = float(value), float(divisor)
        expected = Decimal(repr(number)) % Decimal(divisor) == 0

        assert bool(takes({"multipleOf": rule}, number)) is expected

    def test_unique_items_are_told_apart_as_enrich_does(self):
        """1 and 1.0 are two values, and so are 1 and true."""
        good = [[1, 1.0], [1, True], [{"a": 1}, {"a": 2}], [], ["a", "b"]]
        bad = [[1, 1], [{"a": 1, "b": 2}, {"b": 2, "a": 1}], ["a", "a"], [1.0, 1.00]]

        assert takes({"uniqueItems": True}, *good, *bad) == good
        assert takes({"uniqueItems": False}, *bad) == bad

    @pytest.mark.parametrize(
        ("name", "good", "bad"),
        [
            (
                "uuid",
                ["0f8fad5b-d9cb-869f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E"],
                ["0f8fad5bd9cb469fa16570867728950e", "x", "", " " * 36],
            ),
            (
                "date-time",
                [
                    "2024-02-29T23:59:59Z",
                    "2024-02-29t00:00:00.123456789+02:00",
                    "2016-12-31T23:59:60Z",
                    "2017-01-01T01:59:59-18:00",
                ],
                [
                    "2023-02-29T00:00:00Z",
                    "2024-01-01T00:00:00",
                    "2024-01-01",
                    "2024-01-01T24:00:00Z",
                    "2024-01-01T00:00Z",
                    "2024-01-01T00:00:00-00:00",
                    "2024-01-01T00:00:00+19:00",
                    "2024-01-01T00:00:00.1234567890Z",
                    "2024-01-01T00:00:60Z",
                    "2024-01-01T00:00:00Z\n",
                    "\u0662024-01-01T00:00:00Z",
                ],
            ),
            (
                "date",
                ["2024-02-29", "0000-01-01", "-0001-12-31", "+12345-06-07"],
                ["2023-02-29", "2024-1-1", "2024-13-01", "12345-01-01", "20240101", "-0000-01-01"],
            ),
            ("time", ["12:00:00", "12:00:00.5", "12:00:00Z"], ["12:00", "noon"]),
            (
                "uri",
                ["https://h/a?b#c", "a:", "//h/x", "x,y:z", "http://h/ü", "http://h/a|b"],
                ["a b", "http://h/a b", "x", "/x", "1a:x", "", "http://h/\n"],
            ),
            ("hostname", ["a", "a-b.example.com", "1.2"], ["-a", "a_b", "a..b", "a." * 2, "é"]),
            ("ipv4", ["192.0.2.1", "0.0.0.0", "255.255.255.255"], ["256.0.0.1", "01.0.0.1", "1.2"]),
            ("ip-address", ["192.0.2.1", "01.0.0.1"], ["256.0.0.1", "1.2.3.4.", "1.2.3"]),
            ("ipv6", ["::1", "2001:db8::1%eth0", " ::ffff:192.0.2.1 "], ["1::2::3", "1", "::1%"]),
            (
                "email",
                [
                    *("a@b.de", "a.b+c@x.example.com", '"a b"@c.org', "o'neil@a.ie"),
                    *("a@[192.0.2.1]", r'"a\".b"@c.de', r'"a\".b@c.de', r"\@a.b@c.de", " a@b.de"),
                ],
                [
                    *("a", "a@b", "a@localhost", "a b@c.de", "a@b.de.", "@b.de", "a@", "a@-b.de"),
                    *('"a"b@c.de', '"a@c.de', '"a"b"@c.de', "a..b@c.de", "a.@c.de"),
                ],
            ),
            ("utc-millisec", ["1700000000000", "1.5", "1"], ["-1", "x", "1.", ".5", "1.2.3"]),
            ("phone", ["+49 30 1234567"], ["0301234567"]),
            ("regex", ["(", "a"], []),
            ("whatever", ["anything"], []),
        ],
    )
    def test_formats_are_those_of_enrich(self, name, good, bad):
        """A format takes what Enrich's takes; one that Enrich does not know takes anything."""
        assert takes({"format": name}, *good, *bad) == good
        assert takes({"format": name}, 5, None, []) == [5, None, []]

    @pytest.mark.parametrize(
        ("rules", "certain"),
        [
            ([], True),
            (None, True),
            ({"type": "thing"}, True),
            ({"properties": []}, True),
            ({"maxLength": -1}, True),
            ({"properties": {"a": {"pattern": "(?<a"}}}, True),
            ({"$ref": "http://schemas.invalid/a"}, False),
        ],
    )
    def test_a_schema_that_is_none_says_so(self, rules, certain):
        """A broken schema is told from one that only cannot be used here."""
        with pytest.raises(BrokenSchema) as raised:
            Schema(BUY, rules)

        assert raised.value.certain is certain

    def test_rules_are_found_wherever_they_stand(self):
        """What is rewritten is rewritten in schemas within schemas, and nowhere else."""
        rules = {
            "definitions": {"id": {"format": "uuid"}},
            "properties": {
                "format": {"$ref": "#/definitions/id"},
                "pattern": {"anyOf": [{"pattern": r"^\s$"}, {"type": "null"}]},
                "uniqueItems": {"items": [{"uniqueItems": True}]},
                "e": {"enum": [{"format": "nonsense", "pattern": "("}]},
            },
            "exclusiveMinimum": 3,
        }
        id_ = str(uuid.uuid4())
        good = [
            {"format": id_, "pattern": " ", "uniqueItems": [[1, 1.0]]},
            {"e": {"format": "nonsense", "pattern": "("}},
        ]
        bad = [{"format": "x"}, {"pattern": "\u00a0"}, {"uniqueItems": [[1, 1]]}, {"e": {}}]

        assert takes(rules, *good, *bad) == good

    def test_lone_surrogates_and_huge_numbers_are_judged(self):
        """What Python's JSON reads and the validator does not is judged all the same."""
        lone = json.loads(r'"\ud83d"')

        assert takes({"maxLength": 1}, lone, lone * 2) == [lone]
        assert takes({"type": "number"}, Decimal("1e400"), 10**400) == [Decimal("1e400"), 10**400]


LONG_TEXTS = r"""
from snowplow_logging.schema_formats import FORMATS
from snowplow_logging.schemas import Schema

UNITS = ("1", "a", ".", "-", ":", " ", "1.", "a.", "1:", "+1 ", "aé", '\\".".', '"."')
# A letter of its own at each place: none of them repeats what is known of another.
UNITS += ("".join(map(chr, range(0x4E00, 0x9E00))),)
for name in FORMATS:
    is_valid = Schema("iglu:com.acme/buy/jsonschema/1-0-0", {"format": name}).is_valid
    for start in ("", "a@", '"', "2024-01-01T00:00:00.", "00:00:00.", "a@[IPv6:"):
        for unit in UNITS:
            for end in ("", "x", "!", "@a.org"):
                is_valid(start + unit * (100_000 // len(unit)) + end)
"""


def test_no_format_takes_longer_than_the_length_of_a_text():
    """A text of any form is judged in moments, where trying all its parts takes hours."""
    subprocess.run([sys.executable, "-c", LONG_TEXTS], check=True, timeout=110, capture_output=True)


class TestLogCall:
    """Events that do not fit their schema, at the log call."""

    @pytest.mark.parametrize(
        ("data", "what", "rule", "expected"),
        [
            ({"price": "x"}, ".price is 'x'", "type is number", "a number"),
            ({}, " has no 'price'", "'price' is required", "'price'"),
            (
                {"price": 1, "prise": 2},
                " has 'prise'",
                "additionalProperties is false",
                "'price'",
            ),
            (
                {"price": 19.999},
                ".price is 19.999",
                "multipleOf is 0.01",
                "a multiple of 0.01",
            ),
            ({"price": 1, "count": 1.0}, ".count is 1.0", "type is integer", "an integer"),
            (
                {"price": 1, "count": 2**31},
                ".count is 2147483648",
                "maximum is 2147483647",
                "at most 2147483647",
            ),
            ({"price": 1, "id": "x"}, ".id is 'x'", "format is uuid", "text of the format uuid"),
            ({"price": 1, "kind": "ne"}, ".kind is 'ne'", 'enum is ["new", "used"]', "'new'"),
            (
                {"price": 1, "note": "abcd"},
                ".note is 'abcd'",
                "maxLength is 3",
                "at most 3 characters",
            ),
            ({"price": 1, "tags": ["a", 1]}, ".tags[1] is 1", "type is string", "text"),
            (
                {"price": 1, "tags": ["a", "a"]},
                ".tags is a list",
                "uniqueItems is true",
                "each item once",
            ),
            ({"price": -1, "kind": 5}, ".price is -1", "minimum is 0 (and 1 more)", "at least 0"),
            (
                {"price": 1, "tags": [*range(1_000)]},
                ".tags[0] is 0",
                "type is string (and at least 99 more)",
                "text",
            ),
        ],
    )
    def test_the_refusal_names_path_value_and_rule(self, folder, data, what, rule, expected):
        """One line says where, what, by which rule, and what would be right."""
        assert refusal(data, settings={"iglu": folder}) == (
            f"self_describing_event: data{what}, which the schema {BUY} does not take: {rule}; "
            f"give {expected}"
        )

    @pytest.mark.parametrize(
        "data",
        [
            {"price": 19.99},
            {"price": Decimal("19.99"), "count": Decimal(1)},
            {"price": 1, "id": uuid.UUID(int=5)},
            {"price": 1, "note": None},
            {"price": 1, "tags": ("a", "b")},
        ],
    )
    def test_what_fits_as_it_is_written_is_sent(self, folder, data):
        """Data is judged as the JSON that is sent, whatever Python types it is made of."""
        assert refusal(data, settings={"iglu": folder}) is None

    @pytest.mark.parametrize(
        "data",
        [
            {"price": Decimal("19.999")},
            {"price": Decimal("19.9900000000000000000000001")},
            {"price": 1, "count": Decimal("1.00")},
            {"price": 1, "count": Decimal("1E+2")},
            {"price": 1, "id": uuid.UUID(int=5).hex},
        ],
    )
    def test_what_does_not_fit_as_it_is_written_is_refused(self, folder, data):
        """So it is where a `Decimal` has digits that a float has not, or a fraction of none."""
        assert "which the schema" in refusal(data, settings={"iglu": folder})

    @pytest.mark.parametrize("encode_base64", [True, False])
    def test_entities_are_checked_wherever_they_are_bound(self, folder, encode_base64):
        """An event's own entities and those around it count, by their places."""
        settings = {"iglu": folder, "encode_base64": encode_base64}
        good, bad = ({"schema": BUY, "data": {"price": price}} for price in (1, "x"))

        own = refusal({"price": 1}, settings=settings, context=[good, bad])
        assert own.startswith("self_describing_event: context[1].data.price is 'x'")
        with subject_context(context=[SelfDescribingJson(BUY, {"price": "x"})]):
            around = refusal({"price": 1}, settings=settings, context=[good])
        assert around.startswith("self_describing_event: context[0].data.price is 'x'")
        assert refusal({"price": 1}, settings=settings, context=[good, good]) is None

    def test_entities_of_other_events_are_checked(self, folder):
        """A page view with a bad entity is refused as well."""
        with tracking(iglu=folder) as track, capture_events() as events:
            bad = {"schema": BUY, "data": {}}
            track.log({"event": "page_view", "page_url": "https://a/", "context": [bad]})

        assert str(events.invalid[0].error).startswith("page_view: context[0].data has no 'price'")

    def test_before_send_is_checked(self, folder):
        """What `before_send` makes of an event is what is checked."""
        settings = {"iglu": folder, "before_send": lambda full: {**full, "data": {"price": "x"}}}

        assert "data.price is 'x'" in refusal({"price": 1}, settings=settings)

    def test_a_schema_that_nobody_has_is_refused(self, folder):
        """Enrich fails an event whose schema is found nowhere, so that the registries are named."""
        assert refusal({}, OTHER, settings={"iglu": [folder, str(folder / "schemas")]}) == (
            f"self_describing_event: schema is '{OTHER}', which is not found in the registries "
            f"{folder}, {folder / 'schemas'}; give one that is published there"
        )

    def test_a_broken_schema_is_refused(self, folder):
        """Enrich fails an event whose schema is broken."""
        (folder / "schemas" / BUY.removeprefix("iglu:")).write_text('{"type": "thing"}')

        assert f"schema is '{BUY}', which is broken in the registry {folder}: " in refusal(
            {}, settings={"iglu": folder}
        )

    def test_a_schema_that_is_no_json_refuses_nothing(self, folder):
        """A file that is half written is no reason to lose an event."""
        (folder / "schemas" / BUY.removeprefix("iglu:")).write_text("{")

        assert refusal({}, settings={"iglu": folder}) is None

    def test_the_schemas_of_the_own_events_need_no_registry(self):
        """A link click that is logged as a self-describing event is checked without one."""
        assert "data has no 'targetUrl'" in refusal({}, LINK_CLICK, settings={})
        assert refusal({"targetUrl": "/x"}, LINK_CLICK, settings={}) is None
        assert refusal({"any": "thing"}, BUY, settings={}) is None

    def test_a_refusal_is_counted_by_its_reason(self, folder):
        """It is an InvalidEvent, invalid in `stats`, under the reason `schema`."""
        with tracking(iglu=folder) as track:
            track.log(event({"price": "x"}))
            track.log(event(5))
            stats = track.handler.stats

        assert [type(error) for error in track.handler.errors] == [InvalidEvent] * 2
        assert (stats.invalid, dict(stats.losses)) == (2, {"schema": 1, "invalid event": 1})

    def test_warn_sends_and_reports(self, folder, collector, caplog):
        """With `warn` an event is sent, and reported once a minute."""
        with tracking(collector, iglu=folder, schema_check="warn") as track:
            track.log(event({"price": "x"}))
            track.log(event({"price": "y"}))
            assert track.handler.flush(30)
            assert collector.counts["total"] == 2
            assert track.handler.stats.invalid == 0

        [report] = [r.getMessage() for r in caplog.records if r.name == "snowplow_logging"]
        assert f"data.price is 'x', which the schema {BUY} does not take" in report

    def test_off_checks_nothing(self, folder):
        """With `off` nothing is checked."""
        assert refusal({}, settings={"iglu": folder, "schema_check": "off"}) is None
        assert refusal({}, LINK_CLICK, settings={"schema_check": "off"}) is None

    def test_an_entity_of_the_handler_is_checked_at_once(self, folder):
        """One that does not fit is an error of the setting, and a callable's is left out."""
        with pytest.raises(
            ValueError, match=r"^context\[0\]\.data\.price is 'x', which the schema"
        ):
            SnowplowHandler(NOWHERE, iglu=folder, context=[{"schema": BUY, "data": {"price": "x"}}])

        made = [lambda _record: {"schema": BUY, "data": {"price": "x"}}]
        with tracking(iglu=folder, context=made) as track, capture_events() as events:
            track.log(event({"price": 1}))
        assert [captured.entities for captured in events] == [[]]


class TestSettings:
    """What is wrong with a setting is said when the handler is made."""

    @pytest.mark.parametrize(
        ("settings", "error", "words"),
        [
            ({"iglu": "/nowhere/at/all"}, ValueError, "iglu: '/nowhere/at/all' is no folder; give"),
            ({"iglu": 5}, TypeError, "iglu is, or holds, none of these; give a folder"),
            ({"iglu": [""]}, TypeError, "iglu is, or holds, none of these; give a folder"),
            ({"iglu": "ftp://host/"}, ValueError, "iglu: a URL has the scheme 'ftp'; give"),
            ({"iglu": "http://"}, ValueError, "iglu: a URL has no host; give"),
            ({"iglu_api_key": 5}, TypeError, "iglu_api_key is of the type int; give"),
            ({"schema_check": "on"}, ValueError, "schema_check is 'on'; give 'refuse', 'warn'"),
        ],
    )
    def test_a_setting_that_makes_no_sense(self, settings, error, words):
        """The error names the keyword and what it takes."""
        with pytest.raises(error) as raised:
            SnowplowHandler(NOWHERE, **settings)

        assert str(raised.value).startswith(words)

    def test_no_secret_is_in_an_error(self):
        """A key that no header can carry, and a URL's password, are never shown."""
        for settings in ({"iglu_api_key": "se\ncret"}, {"iglu": "http://u:secret@h:port/"}):
            with pytest.raises(ValueError, match="iglu") as raised:
                SnowplowHandler(NOWHERE, **settings)
            assert "secret" not in str(raised.value)
            assert "se\ncret" not in str(raised.value)

    def test_a_missing_extra_is_named_where_it_is_needed(self, folder):
        """Without the extra a handler works, and one with registries says what to install."""
        program = (
            "import logging, sys\n"
            "sys.modules['jsonschema_rs'] = None\n"
            "from snowplow_logging import SnowplowHandler\n"
            "from snowplow_logging.testing import capture_events\n"
            "with capture_events() as events:\n"
            f"    logging.error('x', extra={{'snowplow': {event({}, LINK_CLICK)!r}}})\n"
            "print(len(events))\n"
            f"SnowplowHandler({NOWHERE!r}, iglu={str(folder)!r}, schema_check='off')\n"
            "try:\n"
            f"    SnowplowHandler({NOWHERE!r}, iglu={str(folder)!r})\n"
            "except ModuleNotFoundError as error:\n"
            "    print(error)\n"
        )

        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )

        sent, error = run.stdout.splitlines()
        assert sent == "1"
        assert error.startswith("checking schemas needs the package jsonschema-rs: pip install 'sn")
        assert "[schemas]" in error

    def test_dict_config(self, folder):
        """The settings come from a configuration, a list among them."""
        handler = {"class": "snowplow_logging.SnowplowHandler", "endpoint": NOWHERE}
        given = {**handler, "iglu": [str(folder)], "iglu_api_key": "k", "schema_check": "refuse"}
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"snowplow": given},
                "loggers": {"configured": {"level": "INFO", "handlers": ["snowplow"]}},
            }
        )
        logger = logging.getLogger("configured")
        with capture_events() as events:
            logger.info("x", extra={"snowplow": event({"price": "x"})})
        logger.handlers[0].close()
        logger.handlers.clear()

        assert len(events.invalid) == 1


class TestOwnSchemas:
    """The schemas that come with the package."""

    def test_all_can_be_used(self):
        """Each is found by its URI, and its copy is what Iglu Central has."""
        folder = files("snowplow_logging") / "iglu_central" / "schemas"
        found = 0
        for vendor in folder.iterdir():
            for name in vendor.iterdir():
                for version in (name / "jsonschema").iterdir():
                    uri = f"iglu:{vendor.name}/{name.name}/jsonschema/{version.name}"
                    schema = Iglu().find(uri)
                    assert not isinstance(schema, Absent), uri
                    own = schema.document["self"]
                    assert (own["vendor"], own["name"]) == (vendor.name, name.name)
                    found += 1
        assert found > 20
        assert "Apache License 2.0" in (folder.parent / "README.md").read_text()
