"""Flushing, closing and being dropped: in time, with every event sent or accounted for."""

from __future__ import annotations

import functools
import gc
import logging
import math
import signal
import sys
import threading
import time
import weakref

import pytest
import requests

from faulty_collector import RESET, SILENCE, Answer, FaultyCollector
from helpers import tracking
from numbered_events import accounted, event, labels, log
from snowplow_logging import SnowplowHandler

pytestmark = pytest.mark.every_python

OUR_ANSWER = 10.0  # seconds within which this machine answers, however busy it is


def threads_of_emitters():
    """Return the threads that emitters have now, but for those that write a report."""
    return {one for one in threading.enumerate() if one.name.startswith("snowplow-logging-1")}


def test_flush_covers_the_batch_under_way(collector):
    """A flush returns only once the request under way is answered."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=1) as tracked:
        log(tracked, 1)
        collector.wait_for_requests(1)
        assert not tracked.handler.flush(0)
        gate.set()
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == 1


def test_flush_does_not_wait_for_what_is_logged_after_it(collector):
    """A flush ends though others go on logging."""
    going = threading.Event()
    stop = threading.Event()

    def produce():
        while not stop.wait(0.001):
            log(tracked, 1)
            going.set()

    with tracking(collector, batch_size=50, queue_size=10**6) as tracked:
        producing = threading.Thread(target=produce)
        producing.start()
        try:
            assert going.wait(OUR_ANSWER)
            for _ in range(5):
                assert tracked.handler.flush(OUR_ANSWER)
        finally:
            stop.set()
            producing.join()
        assert tracked.handler.flush()


@pytest.mark.parametrize("timeout", [0, 0.5])
def test_flush_keeps_its_time(collector, timeout):
    """A collector that accepts and never answers costs a flush its timeout and no more."""
    collector.default = SILENCE
    with tracking(collector, shutdown_timeout=0.2) as tracked:
        log(tracked, 1)
        start = time.monotonic()
        assert tracked.handler.flush(timeout) is False
        assert timeout <= time.monotonic() - start < timeout + 3


@pytest.mark.parametrize("fault", [SILENCE, RESET, 503])
def test_close_keeps_its_time_and_gives_up_the_rest(collector, fault):
    """What is not delivered by then is failed, told and counted, and the next event has a go."""
    failures = []
    collector.default = fault
    with tracking(
        collector,
        batch_size=2,
        shutdown_timeout=0.5,
        timeout=(1, 1),
        on_failure=lambda events, reason: failures.append((labels(events), reason)),
    ) as tracked:
        log(tracked, 5)
        start = time.monotonic()
        tracked.handler.close()
        assert 0.4 < time.monotonic() - start < 20
        stats = tracked.handler.stats
        assert (stats.failed, stats.queued, stats.losses) == (5, 0, {"shutdown_timeout": 5})
        start = time.monotonic()
        assert tracked.handler.flush(OUR_ANSWER)  # what was given up is not waited for
        assert time.monotonic() - start < 20
        collector.default = 200
        log(tracked, 1, 5)
        assert tracked.handler.flush(OUR_ANSWER)
        assert tracked.handler.stats.sent == 1
    # On a machine that stood still at the end of the first close, the second one tells of it.
    assert sorted(label for which, _ in failures for label in which) == [0, 1, 2, 3, 4]
    assert "shutdown_timeout of 0.5 s" in failures[0][1]


@pytest.mark.parametrize("fault", ["dead", "silent"])
def test_what_was_not_delivered_is_not_explained_by_what_was_refused(collector, reports, fault):
    """An event that Snowplow does not take has nothing to do with those that wait."""
    if fault == "dead":
        collector.stop()
    collector.default = SILENCE
    with tracking(collector, shutdown_timeout=0.3) as tracked:
        tracked.log({"event": "page_view", "page_url": "https://shop.example.com/"})
        while fault == "dead" and not tracked.handler.stats.retried:
            tracked.handler.flush(0.05)
        tracked.log({"event": "page_veiw"})
        assert tracked.handler.stats.invalid == 1
        tracked.handler.close()
    (report,) = [report for report in reports if "within the shutdown_timeout" in report]
    assert "page_veiw" not in report
    assert fault == "silent" or "did not answer" in report


def test_what_was_not_delivered_is_not_explained_by_what_is_over(collector, reports):
    """What was given up, or has come to its end, has nothing to do with what comes later."""
    failures = []
    collector.answers += [503, 503, 200]
    collector.default = SILENCE
    settings = {"max_attempts": 1, "max_retry_delay": 0.01, "shutdown_timeout": 0.5}
    with tracking(
        collector, on_failure=lambda events, reason: failures.append(reason), **settings
    ) as tracked:
        for _ in range(4):
            log(tracked, 1)
            tracked.handler.flush(0.5)
        tracked.handler.close()
    assert [failure.count("503") for failure in failures] == [1, 1, 0]
    (report,) = [report for report in reports if "within the shutdown_timeout" in report]
    assert "503" not in report


def test_what_a_close_gives_up_explains_nothing_later(collector):
    """A close says why its own events were not delivered, and not what the one before has said."""
    collector.default = 503
    with tracking(collector, shutdown_timeout=0.3) as tracked:
        for _ in range(2):
            log(tracked, 1)
            tracked.handler.close()
            error = tracked.handler.stats.last_error
            assert error.count("within the shutdown_timeout") == 1
            assert error.count("answered 503") == 1


def test_flush_and_close_together_have_the_time_of_one(collector):
    """What `logging.shutdown` does takes no longer than `shutdown_timeout`."""
    collector.default = SILENCE
    with tracking(collector, shutdown_timeout=1.5) as tracked:
        log(tracked, 1)
        start = time.monotonic()
        logging.shutdown([weakref.ref(tracked.handler)])
        assert time.monotonic() - start < 2.9
        assert tracked.handler.stats.failed == 1


def test_close_before_any_event_and_twice_does_nothing(collector):
    """There is nothing to wait for, and no thread that was never started to join."""
    with tracking(collector) as tracked:
        tracked.handler.close()
        tracked.handler.close()
        assert tracked.handler.flush()
    assert collector.connections == 0


def test_a_closed_handler_opens_again(collector):
    """Events logged after a close are delivered, by threads that did not pile up."""
    before = set(threading.enumerate())
    with tracking(collector) as tracked:
        for number in range(20):
            log(tracked, 1, number)
            tracked.handler.close()
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("snowplow-logging"):
                thread.join(OUR_ANSWER)
                assert not thread.is_alive()
        assert tracked.handler.stats.sent == 20
    assert labels(collector.events) == list(range(20))


def test_threads_that_close_and_log_at_once_lose_nothing(collector):
    """Any number of threads may flush and close while others log."""
    with tracking(collector, batch_size=7, flush_interval=0.01) as tracked:

        def work(first):
            for number in range(first, first + 50):
                log(tracked, 1, number)
                if number % 10 == 0:
                    tracked.handler.close()
                elif number % 10 == 5:
                    assert tracked.handler.flush()

        threads = [threading.Thread(target=work, args=(n * 50,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tracked.handler.flush()
        stats = tracked.handler.stats
        assert (stats.sent, accounted(stats)) == (200, 200)
    assert sorted(labels(collector.events)) == list(range(200))


def test_closes_at_once_do_not_end_each_other(collector):
    """What one has to send leaves at once, whichever ends first, and on connections of its own."""
    with tracking(collector, flush_interval=60, shutdown_timeout=30) as tracked:

        def work(first):
            for number in range(first, first + 40):
                log(tracked, 1, number)
                tracked.handler.close()

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=work, args=(n * 40,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        stats = tracked.handler.stats
        assert (stats.sent, stats.retried, stats.last_error) == (160, 0, None)
    assert sorted(labels(collector.events)) == list(range(160))


def test_a_callback_may_close_while_another_thread_does(collector):
    """Neither waits for the other, which waits for the callback to return."""
    closing, closed = threading.Event(), []

    def close(events):
        assert closing.wait(30)
        start = time.monotonic()
        tracked.handler.close()
        closed.append(time.monotonic() - start)

    with tracking(collector, on_success=close, shutdown_timeout=30) as tracked:
        log(tracked, 1)
        collector.wait_for_events(1)
        timer = threading.Timer(0.2, closing.set)
        timer.start()
        tracked.handler.close()
        timer.join()
        assert accounted(tracked.handler.stats) == tracked.handler.stats.sent == 1
    assert closed[0] < 15


class _Handling:
    """Handles a signal in each of the ways that Python calls."""

    def __init__(self, act):
        self.act = act

    def method(self, number, frame):
        self.act()

    def with_more(self, more, number, frame):
        self.act()

    __call__ = method


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
@pytest.mark.parametrize("kind", ["function", "method", "partial", "object"])
def test_a_signal_handler_may_log_amid_a_request_of_its_own_thread(collector, kind):
    """What it logs is sent as any event is, and so is what the session logs there."""

    class Session(requests.Session):
        def request(self, *arguments, **keywords):
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGUSR1)
                tracked.log(event(2))
            return super().request(*arguments, **keywords)

    handling = _Handling(lambda: log(tracked, 1, 1))
    handler = {
        "function": lambda *_: handling.act(),
        "method": handling.method,
        "partial": functools.partial(handling.with_more, "more"),
        "object": handling,
    }[kind]
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with tracking(collector, session=Session()) as tracked:
            emitter = tracked.handler._emitter
            assert emitter._transport.send([b'{"eid":"","se_la":"0"']).reason == ""
            assert tracked.handler.flush()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert labels(collector.events) == [0, 1, 2]


def test_a_disabled_handler_does_nothing_and_flushes_at_once(collector):
    """With `enabled=False` there is neither thread nor request nor count."""
    before = set(threading.enumerate())
    with tracking(collector, enabled=False) as tracked:
        log(tracked, 3)
        start = time.monotonic()
        assert tracked.handler.flush(30)
        tracked.handler.close()
        assert time.monotonic() - start < OUR_ANSWER
        assert accounted(tracked.handler.stats) == 0
        assert set(threading.enumerate()) <= before
    assert collector.connections == 0


def test_a_handler_that_is_dropped_sends_what_it_has(collector):
    """A handler that is collected as garbage delivers, and its threads end."""
    before = threads_of_emitters()
    handler = SnowplowHandler(collector.endpoint, flush_interval=600)
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    logger.info("an event", extra={"snowplow": event(0)})
    (thread,) = threads_of_emitters() - before
    gone = threading.Event()
    watched = weakref.ref(handler, lambda _: gone.set())
    del handler, logger
    gc.collect()
    # It does nothing while another thread collects, which may wait for a file that it closes.
    while not gone.wait(0.1):
        gc.collect()
    assert watched() is None
    collector.wait_for_events(1)
    thread.join(OUR_ANSWER)
    assert not thread.is_alive()


def test_two_handlers_have_nothing_in_common(collector):
    """Two endpoints: nothing crosses over, and closing one leaves the other at work."""
    with FaultyCollector() as other, tracking(collector) as one, tracking(other) as two:
        log(one, 3)
        log(two, 2, 3)
        one.handler.close()
        log(two, 1, 5)
        assert two.handler.flush()
        assert labels(collector.events) == [0, 1, 2]
        assert labels(other.events) == [3, 4, 5]
        collector.default = SILENCE
        log(one, 1, 6)
        collector.wait_for_requests(2)
        start = time.monotonic()
        log(two, 1, 7)
        assert two.handler.flush()
        assert time.monotonic() - start < OUR_ANSWER
        collector.default = 200
        collector.hang_up()
        assert one.handler.flush()
        assert (one.handler.stats.sent, two.handler.stats.sent) == (4, 4)


def test_times_may_be_as_long_as_a_lock_can_wait(collector):
    """Centuries are no error of a setting, nor is for ever one of a call."""
    longest = threading.TIMEOUT_MAX
    settings = dict.fromkeys(("flush_interval", "max_retry_delay", "block_timeout"), longest)
    collector.answers.append(503)
    with tracking(collector, timeout=None, on_full="block", queue_size=2, **settings) as tracked:
        log(tracked, 5)
        assert tracked.handler.flush(math.inf)
        log(tracked, 1, 5)
        tracked.handler.close()
        assert len(collector.events) == 6
        assert tracked.handler.stats.dropped == 0
