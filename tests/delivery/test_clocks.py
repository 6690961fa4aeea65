"""Nothing waits by a clock that a test replaces: under freezegun and time-machine all ends."""

from __future__ import annotations

import time
from functools import partial

import pytest

from faulty_collector import SILENCE
from helpers import tracking

freezegun = pytest.importorskip("freezegun")
time_machine = pytest.importorskip("time_machine")

REAL = partial(time.clock_gettime, time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else None

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(REAL is None, reason="there is no clock that is not replaced"),
]

CLOCKS = {
    "freezegun": lambda: freezegun.freeze_time("2026-01-01"),
    "freezegun, ticking": lambda: freezegun.freeze_time("2026-01-01", auto_tick_seconds=1),
    "time-machine": lambda: time_machine.travel("2026-01-01", tick=False),
}


@pytest.fixture(params=CLOCKS)
def replaced(request):
    """Give a context in which the clocks are replaced."""
    return CLOCKS[request.param]()


def event(label):
    """Return an event."""
    return {"event": "struct_event", "category": "c", "action": "a", "label": label}


def test_what_is_logged_while_the_clock_stands_still_is_delivered(collector, replaced):
    """A flush and a close end as soon as the collector has answered."""
    with tracking(collector) as tracked:
        start = REAL()
        with replaced:
            tracked.log(event("flushed"))
            assert tracked.handler.flush()
            tracked.log(event("closed"))
            tracked.handler.close()
        assert REAL() - start < 60
    assert [sent["se_la"] for sent in collector.events] == ["flushed", "closed"]


def test_a_flush_and_a_close_end_in_real_time(collector, replaced):
    """A collector that never answers costs the timeouts, in seconds of the machine."""
    collector.default = SILENCE
    with tracking(collector, shutdown_timeout=0.4) as tracked, replaced:
        tracked.log(event("stuck"))
        start = REAL()
        assert not tracked.handler.flush(0.3)
        flushed = REAL()
        tracked.handler.close()
        assert 0.3 <= flushed - start < 30
        assert REAL() - flushed < 30
        assert tracked.handler.stats.failed == 1


def test_block_ends_in_real_time(collector, replaced):
    """A log call that waits for room does so for `block_timeout`."""
    collector.default = SILENCE
    settings = {"queue_size": 1, "on_full": "block", "block_timeout": 0.3}
    with tracking(collector, shutdown_timeout=0.1, **settings) as tracked, replaced:
        tracked.log(event("first"))
        start = REAL()
        tracked.log(event("second"))
        assert 0.3 <= REAL() - start < 30
        assert tracked.handler.stats.dropped == 1
