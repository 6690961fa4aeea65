"""A thread of the emitter may stand still anywhere while the program closes: nothing is amiss."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import time

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from snowplow_logging.delivery.line import Line
from snowplow_logging.delivery.store import StoreQueue
from snowplow_logging.delivery.stored import Stored
from snowplow_logging.delivery.worker import Worker

pytestmark = pytest.mark.every_python

STANDSTILL = 0.03
"""The seconds that a thread stands still at most; `close` has less, so as to be done before."""

BUSY = 0.1
"""Seconds; where a thread or a close takes longer, the machine is too busy for a judgement.

A tenth of a second after the time of a close nothing more is written into the file, as it should.
"""


class _Points:
    """A trace function that lets a thread stand still at one of the lines that it passes.

    Args:
        name: The name of the thread.
        stood: The lines at which it has stood still, in all runs.
        step: It stands still at every line of this number.
    """

    def __init__(self, name, stood, step):
        self.name, self.stood, self.step, self.where = name, stood, step, None
        self.took = 0.0
        self.reached, self.closed = threading.Event(), threading.Event()

    def __call__(self, frame, event, argument):
        here = isinstance(frame.f_locals.get("self"), (Line, StoreQueue, Stored, Worker))
        return self.trace if here and threading.current_thread().name == self.name else None

    def trace(self, frame, event, argument):
        # With the lock it keeps the program waiting, so that nothing can come in between.
        if frame.f_lineno % self.step:
            return self.trace
        if event == "line" and not (self.where or lock_of(frame.f_locals["self"])._is_owned()):
            place = frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno
            if place not in self.stood:
                self.stood.add(place)
                self.where, start = place, time.monotonic()
                self.reached.set()
                self.closed.wait(STANDSTILL)
                self.took = max(self.took, time.monotonic() - start)
        return self.trace


def lock_of(one):
    """Return the lock of all that waits."""
    return one._lock if isinstance(one, (StoreQueue, Stored)) else one._shared.lock


@contextlib.contextmanager
def standing_still(name, stood, step):
    """Let the thread of that name stand still at a line where it has not done so."""
    points = _Points(name, stood, step)
    threading.settrace(points)
    try:
        yield points
    finally:
        threading.settrace(None)


def threads_of_emitters():
    """Return the threads that emitters have now, but for those that write a report."""
    names = ("snowplow-logging-1", "snowplow-logging-store")
    return {one for one in threading.enumerate() if one.name in names}


@pytest.mark.parametrize("thread", ["snowplow-logging-1", "snowplow-logging-store"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(
    "step", [13, pytest.param(1, marks=pytest.mark.exhaustive)], ids=["some lines", "all lines"]
)
def test_a_thread_may_stand_still_anywhere_while_the_program_closes(
    thread, answers, step, tmp_path
):
    """What was logged has arrived or waits in a file that nobody holds, and the threads end.

    The program goes on after it, opens the file again, and still has each event in one place.
    """
    stood, again, judged = set(), 0, 0
    for number in itertools.count(1):
        path, before = tmp_path / f"{number}.db", threads_of_emitters()
        with FaultyCollector() as collector, standing_still(thread, stood, step) as points:
            settings = {"store": path, "shutdown_timeout": STANDSTILL / 2, "flush_interval": 0}
            with tracking(collector if answers else None, **settings) as tracked:
                log(tracked, "abc")
                points.reached.wait(STANDSTILL)
                close(tracked, points, before)
                first = seen(tracked.handler, collector, path)
                log(tracked, "d")
                if answers:
                    assert tracked.handler.flush(20), points.where
                close(tracked, points, before)
                if points.took > BUSY:
                    if again < MOST_REPEATED:
                        again += 1
                        stood.discard(points.where)
                    continue
                judged += 1
                check(*first, 3, points.where)
                check(*seen(tracked.handler, collector, path), 4, points.where)
        if not points.where:
            break
    assert judged > LEAST_LINES // step


def log(tracked, actions):
    """Log an event for each of these letters."""
    for action in actions:
        tracked.log({"event": "struct_event", "category": "c", "action": action})


def close(tracked, points, before):
    """Close the handler, and wait for the threads of it to end."""
    start = time.monotonic()
    tracked.handler.close()
    points.took = max(points.took, time.monotonic() - start)
    points.closed.set()
    while threads := threads_of_emitters() - before:
        one = threads.pop()
        one.join(20)
        assert not one.is_alive()


def seen(handler, collector, path):
    """Return the counts, the events that have arrived, and how many wait in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        waiting = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    return handler.stats, [sent["se_ac"] for sent in collector.events], waiting


def check(stats, arrived, waiting, logged, where):
    """See that each event is in one place, and counted as what it is."""
    all_seen = where, stats, arrived, waiting
    assert len({*arrived}) + waiting >= logged, all_seen
    assert (stats.sent + stats.queued, stats.failed, stats.recovered) == (logged, 0, 0), all_seen
    assert stats.sent <= len(arrived), all_seen


MOST_REPEATED = 50
"""How many runs are made again because the machine was busy."""

LEAST_LINES = 20
"""How many lines a thread passes at least; with fewer the test would have turned hollow."""
