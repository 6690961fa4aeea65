"""The three times of an event: when it was logged, when it was sent, when it truly happened."""

from __future__ import annotations

import enum
import json
import logging
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import RecordingHandler, tracking
from snowplow_logging import InvalidEvent, PageView
from snowplow_logging.testing import capture_events

pytestmark = pytest.mark.every_python

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
BERLIN = timezone(timedelta(hours=2))


def log_at(tracked, created, **keys):
    """Log an event in a record of a certain time, as one that comes from elsewhere."""
    record = logging.makeLogRecord(
        {"name": "shop", "created": created, "snowplow": {**PAGE, **keys}}
    )
    tracked.handler.handle(record)


class TestCreated:
    """`dtm` is the time of the log record."""

    @pytest.mark.parametrize(
        "created", [1_700_000_000.123, 1_700_000_000.9999, 0.0, 1.0005, 253_402_300_799.5]
    )
    def test_is_the_record_s(self, tracked, created):
        """It is the record's `created` in whole milliseconds, with nothing rounded up."""
        log_at(tracked, created)
        (sent,) = tracked.payloads()
        assert sent["dtm"] == str(int(created * 1000))

    def test_is_the_time_of_the_log_call(self, tracked):
        """It lies within the log call, whenever the event is sent."""
        before = int(time.time() * 1000)
        tracked.log(PAGE)
        after = int(time.time() * 1000)
        (sent,) = tracked.payloads()
        assert before <= int(sent["dtm"]) <= after <= int(sent["stm"]) + 1

    def test_is_one_for_all_events_of_a_record(self, tracked):
        """All events of one record have its time."""
        tracked.log([PAGE, PAGE])
        tracked.logger.info(PageView(page_url="https://a.example/"), extra={"snowplow": PAGE})
        first, second, third, fourth = (sent["dtm"] for sent in tracked.payloads())
        assert first == second
        assert third == fourth

    @pytest.mark.parametrize("created", ["yesterday", None, float("nan"), 1e300])
    def test_of_a_broken_record(self, refusing, created):
        """A record whose time somebody has broken costs its event, and the log call goes on."""
        log_at(refusing, created)
        (error,) = refusing.handler.errors
        assert isinstance(error, InvalidEvent)
        assert "created" in str(error)
        assert refusing.handler.stats.invalid == 1


class Moment(enum.IntEnum):
    """A time as an enum, which is an int."""

    LAUNCH = 1_700_000_000_123


class TestTrueTimestamp:
    """`ttm` is the time that the caller gives."""

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (1_700_000_000_123, "1700000000123"),
            (1_700_000_000_123.9, "1700000000123"),
            (0, "0"),
            (-1, "-1"),
            (-0.5, "-1"),
            (253_402_300_799_999, "253402300799999"),
            (-62_167_219_200_000, "-62167219200000"),
            (Moment.LAUNCH, "1700000000123"),
            (datetime(2023, 11, 14, 22, 13, 20, 123_999, timezone.utc), "1700000000123"),
            (datetime(2023, 11, 15, 0, 13, 20, 123_000, BERLIN), "1700000000123"),
            (datetime(1969, 12, 31, 23, 59, 59, 999_500, timezone.utc), "-1"),
            (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), "1729989000000"),
            (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), None),
        ],
    )
    def test_is_taken(self, tracked, given, sent):
        """Milliseconds and aware datetimes become whole milliseconds, before 1970, too."""
        tracked.log({**PAGE, "true_timestamp": given})
        tracked.logger.info(PageView(page_url="https://a.example/", true_timestamp=given))
        expected = sent or "1729992600000"
        assert [payload["ttm"] for payload in tracked.payloads()] == [expected] * 2

    def test_is_the_derived_time(self, tracked):
        """Snowplow takes it for the time of the event."""
        tracked.log({**PAGE, "true_timestamp": 1_700_000_000_123})
        (arrived,) = tracked.arrived()
        assert arrived["event"]["true_tstamp"] == "2023-11-14T22:13:20.123Z"
        assert arrived["event"]["derived_tstamp"] == "2023-11-14T22:13:20.123Z"

    @given(
        st.datetimes(
            min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
            max_value=datetime(9999, 12, 30),  # noqa: DTZ001
            timezones=st.sampled_from([timezone.utc, BERLIN, ZoneInfo("America/New_York")]),
        )
    )
    def test_is_exact(self, moment):
        """A datetime keeps its milliseconds exactly, however far away it is."""
        with capture_events() as captured:
            event = {**PAGE, "true_timestamp": moment}
            logging.getLogger("shop").info("", extra={"snowplow": event})
        sent = int(captured[0].payload["ttm"])
        epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
        left = (moment - epoch) - timedelta(milliseconds=sent)
        assert timedelta(0) <= left < timedelta(milliseconds=1)

    def test_naive(self, refusing):
        """A naive datetime is refused with a message that says so."""
        refusing.log({**PAGE, "true_timestamp": datetime(2026, 4, 1)})  # noqa: DTZ001 - its fault
        (error,) = refusing.handler.errors
        assert str(error) == (
            "page_view: true_timestamp is a naive datetime, which has no time zone; "
            "give an aware one, such as datetime.now(timezone.utc)"
        )


class TestSent:
    """`stm` is the time of the attempt to send."""

    def test_is_stamped_at_each_attempt(self):
        """A second attempt has a later time, in milliseconds, and all else as it was."""
        bodies: list[bytes] = []
        received: list[float] = []
        answered = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            """Takes the second request."""

            def do_POST(self):
                received.append(time.time())
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200 if len(bodies) > 1 else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if len(bodies) > 1:
                    answered.set()

            def log_message(self, *args):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            handler = RecordingHandler(f"http://127.0.0.1:{server.server_port}", flush_interval=0)
            record = logging.makeLogRecord({"name": "shop", "snowplow": PAGE})
            handler.handle(record)
            assert answered.wait(30)
            handler.close()
            server.shutdown()
            thread.join()

        first, second = (json.loads(body)["data"][0] for body in bodies)
        stamps = [int(first.pop("stm")), int(second.pop("stm"))]
        assert first == second
        assert stamps[0] <= stamps[1]
        for stamp, arrival in zip(stamps, received, strict=True):
            assert record.created * 1000 - 1 <= stamp <= arrival * 1000
        # The back-off lies between the two, so that the first stamp has not been sent again.
        assert stamps[1] >= int(received[0] * 1000)

    def test_is_in_milliseconds(self, collector):
        """It is not cut to whole seconds."""
        with tracking(collector, batch_size=1) as tracked:
            for _ in range(20):
                tracked.log(PAGE)
            stamps = [int(sent["stm"]) for sent in tracked.payloads()]
        assert any(stamp % 1000 for stamp in stamps)

    def test_derived_time_is_the_log_call_s(self, collector):
        """An event that waits to be sent keeps the time at which it was logged."""
        with tracking(collector, flush_interval=60) as tracked:
            record = logging.makeLogRecord({"name": "shop", "snowplow": PAGE})
            record.created -= 3_600
            tracked.handler.handle(record)
            (arrived,) = tracked.arrived()
        derived = datetime.fromisoformat(arrived["event"]["derived_tstamp"].replace("Z", "+00:00"))
        # The collector's clock is this one's, so that only the way to it lies between.
        assert 0 <= derived.timestamp() - (record.created - 0.002) < 30
