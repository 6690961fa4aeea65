"""What Python programs give for the protocol's own values, and the form in which it is sent."""

from __future__ import annotations

import enum
import io
import ipaddress
import logging
import numbers
import os
import subprocess
import sys
from collections import UserString
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from helpers import ANYTHING, NOWHERE, tracking
from snowplow_logging import SnowplowAdapter, SnowplowHandler, subject_context
from snowplow_logging.testing import capture_events

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}


class Colour(enum.Enum):
    """An enum of strings."""

    RED = "red"


class Number(enum.IntEnum):
    """An enum of numbers."""

    SEVEN = 7


class Lazy:
    """A translation that is looked up when it is shown, with the methods of a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __len__(self) -> int:
        return len(self._text)

    def __iter__(self):
        return iter(self._text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


class Url:
    """A URL as the libraries for them have it."""

    def __str__(self) -> str:
        return "https://shop.example.com/a b"


class Bag:
    """A collection that can be shown."""

    def __iter__(self):
        return iter([1])

    def __str__(self) -> str:
        return "a bag"


@numbers.Integral.register
class Int64:
    """An integer as numpy has it, which is no int."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def __str__(self) -> str:
        return str(self._value)


@numbers.Real.register
class Float32:
    """A float as numpy has it, which is no float."""

    def __float__(self) -> float:
        return 1.5


def sent(event: dict[str, Any], **settings: Any) -> dict[str, str]:
    """Return the payload that an event becomes; it must not be refused."""
    handler = SnowplowHandler(NOWHERE, **settings)
    with capture_events() as captured:
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": event}))
    handler.close()
    assert [str(invalid.error) for invalid in captured.invalid] == []
    return captured[0].payload


def struct(**keys: Any) -> dict[str, Any]:
    """Return a structured event."""
    return {"event": "struct_event", "category": "c", "action": "a", **keys}


class TestTexts:
    """Where Snowplow wants text, a text is taken, and what only stands for one."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("plain", "plain"),
            (5, "5"),
            (UUID(int=5), str(UUID(int=5))),
            (Colour.RED, "red"),
            (Number.SEVEN, "7"),
            (Lazy("Körbe"), "Körbe"),
            (UserString("text"), "text"),
            (Url(), "https://shop.example.com/a b"),
            (PurePosixPath("/srv/a b"), "/srv/a b"),
            (ipaddress.ip_address("2001:db8::1"), "2001:db8::1"),
            (ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
            (Int64(7), "7"),
            ("a\tb\n\x00c\x7f", "a    bc"),
            ("\ud83d", "?"),
        ],
    )
    def test_taken(self, value, text):
        """It is sent as the text that it stands for, as Enrich keeps it."""
        assert sent(struct(label=value))["se_la"] == text

    @pytest.mark.parametrize(
        "value",
        [
            True,
            1.5,
            Decimal("1.5"),
            Fraction(1, 2),
            Float32(),
            b"bytes",
            bytearray(b"bytes"),
            memoryview(b"bytes"),
            ["t"],
            {"a": 1},
            {1},
            Bag(),
            object(),
            str,
            len,
            io.StringIO("t"),
            ValueError("text"),
            date(2026, 4, 1),
            datetime(2026, 4, 1, tzinfo=timezone.utc),
            timedelta(1),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_refused(self, refusing, value):
        """What stands for more, or for something else, is refused."""
        refusing.log(struct(label=value))
        (invalid,) = refusing.handler.errors
        assert invalid.key == "label"
        assert "what stands for a text" in invalid.expected

    def test_urls(self):
        """An object that stands for a URL is mended as one."""
        payload = sent({"event": "page_view", "page_url": Url(), "referrer": Path("/a|b")})
        assert payload["url"] == "https://shop.example.com/a%20b"
        assert payload["refr"] == "/a%7Cb"

    def test_nothing_but_control_characters_is_absent(self, refusing):
        """It would leave nothing: it counts as absent, and where it is required as missing."""
        assert "se_la" not in sent(struct(label="\n\x00"))
        refusing.log(struct(category="\n"))
        assert "is missing or empty" in refusing.handler.errors[0].problem


class TestNumbers:
    """Where the protocol wants a number, numbers of any type are taken, and text that is one."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (5, "5"),
            (1.5, "1.5"),
            (-0.0, "0.0"),
            (1e22, "10000000000000000000000"),
            (1e-7, "1E-7"),
            (Decimal("9.90"), "9.90"),
            (Decimal("1E+3"), "1000"),
            (Int64(7), "7"),
            (Float32(), "1.5"),
            (Fraction(1, 4), "0.25"),
            ("12", "12"),
            ("+1", "1"),
            ("007", "7"),
            (".5", "0.5"),
            ("1e3", "1000"),
            ("1.", "1"),
            ("-0", "0"),
            ("0e2147483647", "0"),
            ("\uff11\uff12.\uff15", "12.5"),
            ("null", None),
            ("NULL", None),
            ("", None),
        ],
    )
    def test_decimals(self, value, text):
        """They are sent as Enrich writes them."""
        assert sent(struct(value=value)).get("se_va") == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            *((5, "5"), (5.0, "5"), (Decimal("5.00"), "5"), (Int64(5), "5"), (Number.SEVEN, "7")),
            *(("+1", "1"), ("007", "7"), ("-2147483648", "-2147483648"), ("\uff11\uff12", "12")),
            *(("null", None), ("", None)),
        ],
    )
    def test_integers(self, value, text):
        """An integral number is sent without a fraction."""
        assert sent({**PAGE, "event": "page_ping", "min_x": value}).get("pp_mix") == text
        assert sent({**PAGE, "subject": {"domain_session_index": value}}).get("vid") == text

    def test_an_array_of_numpy_as_data(self, tracked):
        """It is sent as the list that it is, though it has no truth of its own."""
        numpy = pytest.importorskip("numpy")
        event = {"event": "self_describing_event", "schema": ANYTHING, "data": numpy.array([1, 2])}
        tracked.log(event)
        (arrived,) = tracked.arrived()
        assert arrived["event"]["unstruct_event"]["data"]["data"] == [1, 2]

    def test_numpy(self, refusing):
        """The numbers of numpy are taken everywhere, and its bool nowhere."""
        numpy = pytest.importorskip("numpy")
        for number in (numpy.int64(3), numpy.float32(3), numpy.float64(3), numpy.uint8(3)):
            assert float(sent(struct(value=number))["se_va"]) == 3
            assert sent({**PAGE, "event": "page_ping", "min_x": number})["pp_mix"] == "3"
        assert sent(struct(label=numpy.int64(3)))["se_la"] == "3"
        for key in ("value", "label"):
            refusing.log(struct(**{key: numpy.bool_(True)}))
        assert [invalid.key for invalid in refusing.handler.errors] == ["value", "label"]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ((1920, 1080), "1920x1080"),
            ([1920.0, Int64(1080)], "1920x1080"),
            (("1920", "1080"), "1920x1080"),
            ("1920x1080", "1920x1080"),
            ("", None),
        ],
    )
    def test_sizes(self, value, text):
        """A size is a pair, or the text that the protocol has for it."""
        assert sent({**PAGE, "subject": {"viewport": value}}).get("vp") == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1_700_000_000_123.9, "1700000000123"),
            ("+1700000000123", "1700000000123"),
            (Decimal("1700000000123.9"), "1700000000123"),
            (Int64(1_700_000_000_123), "1700000000123"),
            (datetime(1970, 1, 20, tzinfo=timezone.utc), "1641600000"),
            (0, "0"),
            (-1, "-1"),
            ("", None),
        ],
    )
    def test_times(self, value, text):
        """A time is a number of milliseconds, or a text of one, or an aware datetime."""
        assert sent({**PAGE, "true_timestamp": value}).get("ttm") == text


class TestAddresses:
    """An address may be the list of a header, of which Enrich takes the first."""

    @pytest.mark.parametrize(
        ("value", "address"),
        [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
            (" 203.0.113.7 ", "203.0.113.7"),
            (", 203.0.113.7|10.0.0.1", "203.0.113.7"),
            ("\t203.0.113.7\t", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            (ipaddress.ip_address("203.0.113.7"), "203.0.113.7"),
            (f"{'a' * 128}, {'b' * 200}", "a" * 128),
            (" , ||,", None),
            ("\t \n", None),
            ("", None),
        ],
    )
    def test_the_first_is_sent(self, value, address):
        """It is the part before the first comma, bar or space; separators alone are nothing."""
        assert sent({**PAGE, "subject": {"ip_address": value}}).get("ip") == address

    def test_too_long(self, refusing):
        """An address of more than 128 characters is refused."""
        refusing.log({**PAGE, "subject": {"ip_address": "a" * 129 + ", b"}})
        assert refusing.handler.errors[0].problem == "has 129 characters"


class TestEmpty:
    """Empty text counts as absent, for Enrich fails an event for most of it."""

    def test_of_typed_values(self):
        """None of them is sent, and the event's id is made."""
        subject = dict.fromkeys(
            ("platform", "domain_session_id", "domain_session_index", "viewport", "user_id"), ""
        )
        payload = sent(
            {**PAGE, "event_id": "", "true_timestamp": "", "subject": subject},
            namespace="",
            app_id="",
            subject={"user_id": "u"},
        )
        assert all(payload.values())
        assert (payload["p"], payload["uid"]) == ("srv", "u")
        assert not {"sid", "vid", "vp", "ttm", "tna", "aid"} & payload.keys()

    def test_hides_nothing(self, collector):
        """It does not hide what is bound around the event, whoever merges them."""
        with tracking(collector, before_send=lambda event: event) as tracked:
            shop = SnowplowAdapter(tracked.logger, subject={"user_id": "u"})
            event_id = shop.page_view(
                page_url="https://a.example/", event_id="", subject={"user_id": ""}
            )
            with subject_context(user_id="v"), subject_context(user_id=""):
                tracked.log({**PAGE, "subject": {"user_id": ""}})
            payloads = tracked.payloads()
        assert [payload["uid"] for payload in payloads] == ["u", "v"]
        assert payloads[0]["eid"] == event_id

    def test_currency_of_an_item(self, collector):
        """An item with an empty currency takes that of its transaction."""
        item = {"sku": "s", "price": "1.50", "quantity": "2", "currency": ""}
        order = {"event": "ecommerce_transaction", "order_id": "o", "total_value": "3"}
        with tracking(collector) as tracked:
            tracked.log({**order, "currency": "EUR\n", "items": [item]})
            payloads = tracked.payloads()
        assert [payload.get("tr_cu") or payload.get("ti_cu") for payload in payloads] == ["EUR"] * 2


PROGRAM = r"""
import logging
from snowplow_logging import PageView, SnowplowAdapter, SnowplowHandler

logger = logging.getLogger("shop")
logger.addHandler(SnowplowHandler("http://127.0.0.1:9", shutdown_timeout=0))
logger.setLevel("INFO")

def checkout():
    page = {"event": "page_view", "page_url": "https://a.example/", "page_titel": "t"}
    logger.info("seen", extra={"snowplow": page})  # 0
    logger.info(PageView(page_url="https://"))  # 1
    shop = SnowplowAdapter(logger, subject={"user_id": "u"})
    shop.page_view(page_url="https://a\nb|/")  # 2
    shop.info("x", extra={"snowplow": [{"event": "struct_event", "value": "x"}]})  # 3

checkout()
"""


def run(program: Path, **variables: str) -> str:
    """Run a program, and return what it has printed as errors."""
    variables = {**os.environ, "SNOWPLOW_LOGGING_TRACEBACK": "", **variables}
    done = subprocess.run(
        [sys.executable, program], env=variables, capture_output=True, text=True, check=True
    )
    return done.stderr


class TestRefusalIsShort:
    """A bad event prints two lines: what is wrong, and where it was logged."""

    def test_two_lines(self, tmp_path):
        """They are the same from every way in, and there is no frame of the library's."""
        program = tmp_path / "shop.py"
        program.write_text(PROGRAM)
        lines = run(program).splitlines()
        texts = PROGRAM.splitlines()
        assert len(lines) == 8
        for at, (start, end) in enumerate(
            [
                ("page_view: page_titel is not a key of page_view", "give 'page_title'"),
                ("page_view: page_url is 'https://', which ends where", "example.com/'"),
                ("page_view: page_url has the host 'ab|'", "'shop.example.com'"),
                ("struct_event: value is 'x'", "12.5 or '12.5'"),
            ]
        ):
            what, where = lines[2 * at : 2 * at + 2]
            assert what.startswith(f"snowplow_logging: {start}")
            assert what.endswith(end)
            number = next(n for n, text in enumerate(texts, 1) if f"# {at}" in text)
            assert where == f'  File "{program}", line {number}, in checkout'

    def test_the_traceback_for_who_asks(self, tmp_path):
        """With the variable set it is printed as the standard library does it."""
        program = tmp_path / "shop.py"
        program.write_text(PROGRAM)
        printed = run(program, SNOWPLOW_LOGGING_TRACEBACK="1")
        assert printed.count("--- Logging error ---") == 4
        assert "InvalidEvent" in printed
        assert "snowplow_logging: page_view" in run(program, SNOWPLOW_LOGGING_TRACEBACK="0")

    @pytest.mark.parametrize("stderr", [None, "closed", "broken"])
    def test_never_raises(self, monkeypatch, stderr):
        """The log call goes on whatever standard error is."""

        class Broken(io.StringIO):
            def write(self, text):
                raise RuntimeError(text)

        streams = {None: None, "closed": io.StringIO(), "broken": Broken()}
        if stderr == "closed":
            streams[stderr].close()
        handler = SnowplowHandler(NOWHERE, before_send=lambda event: event["nothing"])
        bad = SnowplowHandler(NOWHERE)
        with monkeypatch.context() as context:
            context.setattr(sys, "stderr", streams[stderr])
            bad.handle(logging.makeLogRecord({"name": "shop", "snowplow": 5}))
            handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": PAGE}))
        assert (bad.stats.invalid, handler.stats.invalid) == (1, 1)
        bad.close()
        handler.close()

    def test_nothing_without_raise_exceptions(self, monkeypatch, capsys):
        """`logging.raiseExceptions` holds for it as for any error of logging."""
        monkeypatch.setattr(logging, "raiseExceptions", False)
        handler = SnowplowHandler(NOWHERE)
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": 5}))
        handler.close()
        assert "snowplow" not in capsys.readouterr().err

    def test_other_errors_keep_their_traceback(self, capsys):
        """What `before_send` raises is the program's own fault, and needs its place."""
        handler = SnowplowHandler(NOWHERE, before_send=lambda event: event["nothing"])
        handler.handle(logging.makeLogRecord({"name": "shop", "snowplow": PAGE}))
        handler.close()
        printed = capsys.readouterr().err
        assert "Traceback" in printed
        assert 'event["nothing"]' in printed
