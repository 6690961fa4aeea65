"""A full queue: what is dropped, who waits, and that the account of it all balances."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time

import pytest

from faulty_collector import DROP, RESET, SILENCE, Answer
from helpers import tracking
from numbered_events import accounted, event, labels, log

pytestmark = pytest.mark.every_python

OUR_ANSWER = 10.0  # seconds within which this machine answers, however busy it is


# A full queue.


def test_a_full_queue_drops_the_new_event(collector):
    """By default what does not fit any more is dropped, counted and reported."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, queue_size=5) as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 7, 2)
        stats = tracked.handler.stats
        assert (stats.queued, stats.dropped, stats.losses) == (5, 4, {"queue full": 4})
        gate.set()
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1, 2, 3, 4]


def test_a_full_queue_can_drop_the_oldest(collector):
    """With `drop_oldest` the last events are kept, and those of a request under way."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, queue_size=5, on_full="drop_oldest") as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 7, 2)
        assert tracked.handler.stats.dropped == 4
        gate.set()
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1, 6, 7, 8]


def test_a_queue_full_of_what_is_under_way_drops_what_comes(collector, reports):
    """And does not say that it dropped the oldest, which may arrive at any moment."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, queue_size=2, on_full="drop_oldest") as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 3, 2)
        assert tracked.handler.stats.dropped == 3
        gate.set()
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1]
    (report,) = [report for report in reports if "queue" in report]
    assert "events are dropped" in report


def test_a_full_queue_can_block(collector):
    """With `block` the log call waits for room and loses nothing."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(
        collector, batch_size=2, queue_size=2, on_full="block", block_timeout=60
    ) as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        waiting = threading.Thread(target=log, args=(tracked, 3, 2))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        gate.set()
        waiting.join(OUR_ANSWER)
        assert not waiting.is_alive()
        assert tracked.handler.flush()
        assert tracked.handler.stats.dropped == 0
    assert labels(collector.events) == [0, 1, 2, 3, 4]


def test_block_has_an_end(collector):
    """The log call waits no longer than `block_timeout`, and then drops the event."""
    collector.default = SILENCE
    settings = {"queue_size": 1, "on_full": "block", "block_timeout": 0.3}
    with tracking(collector, shutdown_timeout=0.1, **settings) as tracked:
        log(tracked, 1)
        start = time.monotonic()
        log(tracked, 1)
        assert 0.3 <= time.monotonic() - start < 2
        assert tracked.handler.stats.dropped == 1


def test_block_never_blocks_an_event_loop(collector):
    """On the thread of an asyncio loop a full queue drops instead."""
    collector.default = SILENCE
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.create_task(tick())
        for number in range(50):
            tracked.log(event(number))
            await asyncio.sleep(0)
        ticking.cancel()

    settings = {"queue_size": 1, "on_full": "block", "block_timeout": 30}
    with tracking(collector, shutdown_timeout=0.1, **settings) as tracked:
        start = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - start < OUR_ANSWER
        assert tracked.handler.stats.dropped == 49
    assert ticks


def test_block_never_blocks_the_threads_that_make_room(collector):
    """A callback that logs into a full queue does not wait for itself."""

    def logs(_):
        for number in range(20):
            tracked.log(event(number))

    settings = {"queue_size": 2, "on_full": "block", "block_timeout": 30, "batch_size": 1}
    calls = iter([logs])
    with tracking(collector, on_success=lambda _: next(calls, len)([]), **settings) as tracked:
        start = time.monotonic()
        log(tracked, 1)
        collector.wait_for_events(2)
        assert tracked.handler.flush()
        assert time.monotonic() - start < OUR_ANSWER
        stats = tracked.handler.stats
    assert stats.dropped > 0
    assert stats.sent + stats.dropped == 21


# The account.


@pytest.mark.parametrize("on_full", ["drop", "drop_oldest", "block"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_account_balances(collector, caplog, seed, on_full):  # noqa: C901 - a mix is many
    """Every event ends in exactly one place, whatever threads, faults, flushes and closes mix."""
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(seed)
    faults = [200, 200, 200, 503, 500, RESET, DROP, 400, 413]
    collector.default = lambda _: chance.choice(faults)
    sent, given_up, invalid = [], [], []

    def failed(events, _):
        for each in events:
            (given_up if "eid" in each else invalid).append(each)

    def before_send(each):
        if each["label"] == "hidden":
            return None
        if each["label"] == "raises":
            raise ValueError
        return each

    connections = chance.choice([1, 3])
    with tracking(
        collector,
        batch_size=5,
        flush_interval=0.005,
        queue_size=20,
        on_full=on_full,
        block_timeout=0.002,
        connections=connections,
        max_retry_delay=0.004,
        max_attempts=3,
        shutdown_timeout=0.02,
        before_send=before_send,
        on_success=lambda events: sent.extend(event["eid"] for event in events),
        on_failure=failed,
    ) as tracked:

        def work(own):
            for _ in range(150):
                kind = own.choice(["good", "good", "good", "hidden", "raises", "bad"])
                tracked.log(event(kind, **({"value": "much"} if kind == "bad" else {})))
                act = own.random()
                if act < 0.02:
                    tracked.handler.close()
                elif act < 0.06:
                    tracked.handler.flush(own.random() / 100)

        for rounds in (1, 2):
            own = [random.Random(chance.random()) for _ in range(4)]
            threads = [threading.Thread(target=work, args=(each,)) for each in own]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert accounted(tracked.handler.stats) == rounds * 600
        assert tracked.handler.flush(30)
        stats = tracked.handler.stats
        assert stats.queued == 0
        assert accounted(stats) == 1200
        assert collector.most_at_once <= connections
    assert (len(sent), len(given_up)) == (stats.sent, stats.failed)
    assert len(invalid) <= stats.invalid
    assert len({*sent, *(each["eid"] for each in given_up)}) == stats.sent + stats.failed
    assert set(sent) <= set(collector.ids)
