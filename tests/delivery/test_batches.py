"""Batches: what leaves together, and when, whatever threads log at once."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faulty_collector import Answer, FaultyCollector
from helpers import tracking
from numbered_events import accounted, event, labels, log, sizes

pytestmark = pytest.mark.every_python

OUR_ANSWER = 10.0  # seconds within which this machine answers, however busy it is


def test_a_batch_leaves_as_soon_as_it_is_full(collector):
    """Count makes a batch, and what is left waits."""
    with tracking(collector, batch_size=10, flush_interval=60) as tracked:
        log(tracked, 25)
        collector.wait_for_requests(2)
        assert sizes(collector) == [10, 10]
        assert tracked.handler.flush()
        assert sizes(collector) == [10, 10, 5]
    assert labels(collector.events) == list(range(25))


def test_a_batch_is_as_large_as_its_bytes_allow(collector):
    """Bytes of the body make a batch: no body is larger, and none could hold one event more."""
    with tracking(collector, batch_bytes=3_000, flush_interval=60) as tracked:
        for count in (1, 2, 40):
            log(tracked, count, 100)
            assert tracked.handler.flush()
    one, two, *bodies = (len(request.body) for request in collector.requests)
    assert labels(collector.events)[3:] == list(range(100, 140))
    assert len(bodies) > 2
    assert max(bodies) <= 3_000
    assert min(bodies[:-1]) + two - one > 3_000


def test_an_event_that_alone_is_over_the_bytes_leaves_alone(collector):
    """The limit of a batch is no limit of an event."""
    with tracking(collector, batch_bytes=100) as tracked:
        log(tracked, 3)
        assert tracked.handler.flush()
    assert sizes(collector) == [1, 1, 1]


@given(
    lengths=st.lists(st.sampled_from((1, 400, 3_000, 4_050)) | st.integers(1, 4_096), max_size=40)
)
@settings(max_examples=20, deadline=None)
def test_a_batch_leaves_as_soon_as_its_bytes_are_there(lengths):
    """Bytes make a batch at once, however the small and the large ones mix."""
    with FaultyCollector() as collector:
        with tracking(collector, batch_bytes=20_000, flush_interval=60) as tracked:
            for count in (1, 2):
                log(tracked, count)
                assert tracked.handler.flush()
            one, two = (len(request.body) for request in collector.requests)
            waiting, requests = [], 2
            for length in lengths:
                tracked.log(event("x" * length))
                waiting.append(two - one - 1 + length)
                if sum(waiting) >= 20_000:
                    requests += 1
                    collector.wait_for_requests(requests)
                    del waiting[: sizes(collector)[-1]]
            assert tracked.handler.flush()
        assert len(collector.events) == 3 + len(lengths)


@pytest.fixture
def hasty_threads():
    """Have threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(count, work):
    """Do the same in so many threads, each with its number, as nearly at once as can be."""
    barrier = threading.Barrier(count)

    def begin(number):
        barrier.wait()
        work(number)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("connections", [1, 3])
def test_threads_that_log_at_once_leave_no_batch_behind(collector, connections):
    """Whichever thread completes a batch, it leaves with no other event to push it; none sooner."""
    with tracking(collector, batch_size=24, flush_interval=60, connections=connections) as tracked:
        for turn in range(100):
            first = turn * 24
            in_threads(6, lambda number, first=first: log(tracked, 4, first + number * 4))
            collector.wait_for_requests(turn + 1)
            assert tracked.handler.flush()  # after which nothing more is to leave before it is due
        assert set(sizes(collector)) == {24}
        assert accounted(tracked.handler.stats) == 2_400
    assert sorted(labels(collector.events)) == list(range(2_400))


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_log_at_once_are_seen_by_a_flush(collector):
    """A flush and the account know of every event whose log call has returned."""
    with tracking(collector, flush_interval=60) as tracked:
        known = []

        def work(number):
            for turn in range(50):
                log(tracked, 1, number * 50 + turn)
                if number == 0 and turn % 2:
                    stats = tracked.handler.stats
                    known.append(stats.queued + stats.sent > turn)
                elif number == 0:
                    assert tracked.handler.flush()
                    known.append(turn in labels(collector.events))

        in_threads(6, work)
        assert known == [True] * 50
        assert tracked.handler.flush()
    assert sorted(labels(collector.events)) == list(range(300))


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("on_full", ["drop", "drop_oldest"])
def test_threads_that_log_at_once_do_not_overfill_the_queue(collector, on_full):
    """The queue holds what it may and no event more, and what it did not take is counted."""
    collector.stop()
    with tracking(collector, queue_size=300, on_full=on_full, shutdown_timeout=1) as tracked:
        in_threads(8, lambda number: log(tracked, 100, number * 100))
        stats = tracked.handler.stats
        assert stats.queued == 300
        assert stats.queued + stats.dropped == 800
        collector.start()
        assert tracked.handler.flush(30)
    assert len(collector.events) == stats.queued
    assert len(set(labels(collector.events))) == stats.queued


def test_one_event_leaves_after_the_flush_interval(collector):
    """Age makes a batch, with no further activity."""
    with tracking(collector, flush_interval=0.2) as tracked:
        start = time.monotonic()
        log(tracked, 1)
        (request,) = collector.wait_for_requests(1)
        assert 0.15 < request.at - start < OUR_ANSWER  # a late machine makes it only more
        log(tracked, 1)  # the next one waits for nothing else either
        collector.wait_for_requests(2)


def test_a_producer_that_never_pauses_does_not_put_off_the_first_request(collector):
    """The interval counts from the first event, not from the last."""
    sizes = {"batch_size": 10**6, "batch_bytes": 10**6, "queue_size": 10**6}
    with tracking(collector, flush_interval=0.5, **sizes) as tracked:
        start = time.monotonic()
        count = 0
        while not collector.requests:
            log(tracked, 1, count)
            count += 1
            assert not threading.Event().wait(0.001)  # fewer than a batch has bytes for
            assert time.monotonic() - start < OUR_ANSWER
        assert 0.4 < collector.requests[0].at - start < OUR_ANSWER
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == count


def test_what_a_long_request_held_up_waits_no_longer(collector):
    """An event's age counts from its log call, also where the batch before it took long."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, flush_interval=3.0) as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 3)
        assert not threading.Event().wait(3.1)  # by then all three are due
        gate.set()
        collector.wait_for_requests(3)
    assert collector.requests[2].at - collector.requests[1].at < 2.5
    assert sizes(collector) == [2, 2, 1]


def test_a_full_queue_leaves_at_once(collector):
    """A queue that has no room for a whole batch does not wait for one."""
    full = {"queue_size": 5, "on_full": "block", "block_timeout": 30}
    with tracking(collector, flush_interval=60, **full) as tracked:
        log(tracked, 23)
        assert tracked.handler.flush()
        assert tracked.handler.stats.dropped == 0
    assert labels(collector.events) == list(range(23))


def test_a_backlog_leaves_in_ordinary_batches(collector):
    """After an outage the limits hold, and the order is the one of the log calls."""
    collector.stop()
    with tracking(collector, batch_size=10, flush_interval=0.05, max_retry_delay=0.1) as tracked:
        log(tracked, 55)
        assert not tracked.handler.flush(0.3)
        collector.start()
        assert tracked.handler.flush()
        assert tracked.handler.stats.retried > 0
    assert labels(collector.events) == list(range(55))
    assert max(sizes(collector)) == 10
    assert len(collector.requests) == 6
