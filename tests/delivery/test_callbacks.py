"""Callbacks and reports: told of what becomes of events, and free to fail or to log themselves."""

from __future__ import annotations

import logging
import queue
import threading
import time

import pytest

from helpers import tracking
from numbered_events import accounted, event, labels, log
from snowplow_logging import subject_context

pytestmark = pytest.mark.every_python

OUR_ANSWER = 10.0  # seconds within which this machine answers, however busy it is


# Callbacks.


def test_callbacks_are_told_of_every_event(collector):
    """`on_success` and `on_failure` get the events, and why, on a thread of the handler's."""
    told = []
    collector.answers += [200, 400]

    def succeeded(events):
        told.append(("sent", labels(events), None, threading.current_thread()))

    def failed(events, reason):
        what = [event.get("se_la") or event.get("label") for event in events]
        told.append(("failed", [int(label) for label in what], reason, threading.current_thread()))

    with tracking(collector, batch_size=2, on_success=succeeded, on_failure=failed) as tracked:
        log(tracked, 4)
        assert tracked.handler.flush()
        tracked.log(event(4, value="much"))
        assert tracked.handler.flush()
    assert [(what, which) for what, which, _, _ in told] == [
        ("sent", [0, 1]),
        ("failed", [2, 3]),
        ("failed", [4]),
    ]
    assert "answered 400" in told[1][2]
    assert "value" in told[2][2]
    assert all(thread is not threading.main_thread() for *_, thread in told)


class _Unprintable(Exception):
    def __str__(self):
        raise ValueError

    __repr__ = __str__


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), _Unprintable()])
def test_a_callback_that_raises_changes_nothing(collector, caplog, error):
    """It is reported once, and everything else goes on."""

    def raises(*_):
        raise error

    collector.answers += [413, 200, 200, 400]
    callbacks = {"on_success": raises, "on_failure": raises}
    with tracking(collector, batch_size=2, **callbacks) as tracked:
        for first in (0, 2, 4):
            log(tracked, 2, first)
            assert tracked.handler.flush()
        tracked.log({"event": "page_vew"})
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    assert (stats.sent, stats.failed, stats.invalid) == (4, 2, 1)
    reports = [r.getMessage() for r in caplog.records if "callback" in r.getMessage()]
    assert len(reports) == 1
    assert "raises" in reports[0]
    assert type(error).__name__ in reports[0]


@pytest.mark.parametrize("act", ["flush", "close"])
@pytest.mark.parametrize("connections", [1, 2])
def test_a_callback_may_flush_and_close(collector, act, connections):
    """A callback that waits for everything waits neither for itself nor for another callback."""
    calls = queue.SimpleQueue()

    def acts(*_):
        start = time.monotonic()
        answered = getattr(tracked.handler, act)()
        calls.put((answered, time.monotonic() - start))

    collector.answers += [413]
    settings = {"batch_size": 4, "on_success": acts, "on_failure": acts}
    with tracking(collector, connections=connections, **settings) as tracked:
        log(tracked, 4)
        tracked.log({"event": "page_vew"})
        log(tracked, 8, 4)
        assert tracked.handler.flush()
        log(tracked, 4, 12)
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    assert sorted(labels(collector.events)) == list(range(16))
    assert (stats.sent, stats.invalid, stats.failed) == (16, 1, 0)
    for _ in range(6):  # one may still be on its way back when another has closed the handler
        answered, seconds = calls.get(timeout=OUR_ANSWER)
        assert answered is (True if act == "flush" else None)
        assert seconds < OUR_ANSWER


def test_callbacks_on_two_connections_do_not_wait_for_each_other(collector):
    """Two callbacks that flush at the same time both return."""
    meeting = threading.Barrier(2, timeout=OUR_ANSWER)
    answers = []

    def flushes(_):
        meeting.wait()
        answers.append(tracked.handler.flush(20))

    with tracking(collector, batch_size=1, connections=2, on_success=flushes) as tracked:
        start = time.monotonic()
        log(tracked, 2)
        assert tracked.handler.flush()
        assert time.monotonic() - start < OUR_ANSWER
    assert answers == [True, True]


def test_a_callback_logs_with_no_subject_of_another(collector):
    """The sending thread has nothing of the context in which the first event was logged."""

    def logs(events):
        if labels(events) == [0]:
            tracked.log(event(1))

    with tracking(collector, on_success=logs, flush_interval=0.1) as tracked:
        with subject_context(user_id="u-1"):
            log(tracked, 1)
        collector.wait_for_events(2)
    assert [sent.get("uid") for sent in collector.events] == ["u-1", None]


def test_a_callback_may_log(collector):
    """An event that a callback logs is an event like any other."""

    def logs(events):
        if labels(events) == [0]:
            tracked.log(event(1))

    with tracking(collector, on_success=logs, flush_interval=0.1) as tracked:
        log(tracked, 1)
        collector.wait_for_events(2)
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == 2
    assert labels(collector.events) == [0, 1]


# Reports.


def test_a_failing_collector_is_reported_once(collector, caplog):
    """A report a minute for each kind of trouble, and none comes back as an event."""
    collector.default = 500
    root = logging.getLogger()
    with tracking(collector, max_retry_delay=0.01, shutdown_timeout=0.1) as tracked:
        root.addHandler(tracked.handler)
        try:
            with caplog.at_level(logging.NOTSET):
                log(tracked, 1)
                collector.wait_for_requests(20)
        finally:
            root.removeHandler(tracked.handler)
    reports = [r.getMessage() for r in caplog.records if r.name == "snowplow_logging"]
    retries = [report for report in reports if "next attempt" in report]
    assert len(retries) == 1
    assert "answered 500" in retries[0]
    assert {len(request.events) for request in collector.requests} == {1}


def test_a_handler_of_others_that_raises_at_a_report_loses_nothing(collector):
    """Whatever happens on the way of a report, the events stay in the account and are sent."""

    class Raises(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    raises = Raises()
    logger = logging.getLogger("snowplow_logging")
    logger.addHandler(raises)
    collector.answers += [413, 503]
    try:
        with tracking(collector, max_retry_delay=0.05) as tracked:
            log(tracked, 4)
            assert tracked.handler.flush(OUR_ANSWER)
            stats = tracked.handler.stats
            assert (stats.sent, stats.queued, accounted(stats)) == (4, 0, 4)
    finally:
        logger.removeHandler(raises)
    assert labels(collector.events) == [0, 1, 2, 3]
