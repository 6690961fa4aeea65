"""A thread of the emitter may stand still anywhere while the program closes: nothing is amiss."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from collections import Counter

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from snowplow_logging.delivery.line import Line
from snowplow_logging.delivery.store import StoreQueue
from snowplow_logging.delivery.stored import Stored
from snowplow_logging.delivery.worker import Worker

STANDSTILL = 0.03
"""The seconds that a thread stands still at most; `close` has less, so as to be done before."""


class _Points:
    """A trace function that lets a thread stand still at one of the lines that it passes.

    Args:
        name: The name of the thread.
        stood: How often it has stood still at each line, in all runs; at most twice.
    """

    def __init__(self, name, stood):
        self.name, self.stood, self.where = name, stood, None
        self.passed = Counter()
        self.reached, self.closed = threading.Event(), threading.Event()

    def __call__(self, frame, event, argument):
        here = isinstance(frame.f_locals.get("self"), (Line, StoreQueue, Stored, Worker))
        return self.trace if here and threading.current_thread().name == self.name else None

    def trace(self, frame, event, argument):
        # With the lock it keeps the program waiting, so that nothing can come in between.
        if event == "line" and not (self.where or lock_of(frame.f_locals["self"])._is_owned()):
            place = frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno
            self.passed[place] += 1
            if self.stood[place] < min(2, self.passed[place]):
                self.stood[place] += 1
                self.where = place
                self.reached.set()
                self.closed.wait(STANDSTILL)
        return self.trace


def lock_of(one):
    """Return the lock of all that waits."""
    return one._lock if isinstance(one, (StoreQueue, Stored)) else one._shared.lock


@contextlib.contextmanager
def standing_still(name, stood):
    """Let the thread of that name stand still at a line where it has not often done so."""
    points = _Points(name, stood)
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
def test_a_thread_may_stand_still_anywhere_while_the_program_closes(thread, answers, tmp_path):
    """What was logged has arrived or waits in a file that nobody holds, and the threads end.

    The program goes on after it, opens the file again, and still has each event in one place.
    """
    stood = Counter()
    for number in itertools.count(1):
        path, before = tmp_path / f"{number}.db", threads_of_emitters()
        with FaultyCollector() as collector, standing_still(thread, stood) as points:
            settings = {"store": path, "shutdown_timeout": STANDSTILL / 2, "flush_interval": 0}
            with tracking(collector if answers else None, **settings) as tracked:
                log(tracked, "abc")
                points.reached.wait(STANDSTILL)
                close(tracked, points, before)
                check(tracked.handler.stats, 3, collector, path, points.where)
                log(tracked, "d")
                if answers:
                    assert tracked.handler.flush(20), points.where
                close(tracked, points, before)
                check(tracked.handler.stats, 4, collector, path, points.where)
        if not points.where:
            break
    assert len(stood) > LEAST_LINES


def log(tracked, actions):
    """Log an event for each of these letters."""
    for action in actions:
        tracked.log({"event": "struct_event", "category": "c", "action": action})


def close(tracked, points, before):
    """Close the handler, and wait for the threads of it to end."""
    tracked.handler.close()
    points.closed.set()
    while threads := threads_of_emitters() - before:
        one = threads.pop()
        one.join(20)
        assert not one.is_alive()


def check(stats, logged, collector, path, where):
    """See that each event is in one place, and counted as what it is."""
    arrived = {sent["se_ac"] for sent in collector.events}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        waiting = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    seen = where, stats, arrived, waiting
    assert len(arrived) + waiting >= logged, seen
    assert (stats.sent + stats.queued, stats.failed, stats.recovered) == (logged, 0, 0), seen
    assert stats.sent <= len(collector.events), seen


LEAST_LINES = 20
"""How many lines a thread passes at least; with fewer the test would have turned hollow."""
