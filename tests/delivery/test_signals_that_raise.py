"""A signal handler that raises, wherever in delivery it comes, costs its own event at most."""

from __future__ import annotations

import contextlib
import threading

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from signal_points import LEAST_POINTS, Program, Walk, every_nth_point, signal_at

pytestmark = pytest.mark.every_python


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupt():
    """Raise, as the handler of Ctrl-C does."""
    raise Interrupt


def stats_of(program):
    """Ask for the counts."""
    assert program.tracked.handler.stats is not None


def bad(program):
    """Log an event that Snowplow would refuse."""
    program.tracked.log({"event": "struct_event", "category": "c"})


def open_soon(program):
    """Fill the queue, and let the request that is under way end while the next event waits."""
    program.fill()
    threading.Timer(0.01, program.gate.set).start()


ACTS = {
    "log": ({}, lambda program: None, Program.log),
    "full": (
        {"queue_size": 2, "on_full": "drop_oldest", "flush_interval": 0.0},
        Program.fill,
        Program.log,
    ),
    "batch": ({"batch_size": 4}, lambda program: program.log(3), Program.log),
    "bad": ({}, lambda program: None, bad),
    "filtered": ({"before_send": lambda event: None}, lambda program: None, Program.log),
    "stats": ({}, lambda program: program.log(3), stats_of),
    "flush": ({}, lambda program: program.log(3), Program.flush),
    "close": ({}, lambda program: program.log(3), Program.close),
    "block": (
        {"queue_size": 2, "on_full": "block", "block_timeout": 10, "flush_interval": 0.0},
        open_soon,
        Program.log,
    ),
    "log with a store": ({"store": True}, lambda program: program.log(2), Program.log),
    "store_sync": ({"store": True, "store_sync": True}, Program.log, Program.log),
    "stats with a store": ({"store": True}, lambda program: program.log(3), stats_of),
    "flush with a store": ({"store": True}, lambda program: program.log(3), Program.flush),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a finaliser
@pytest.mark.parametrize("act", ACTS)
@every_nth_point
def test_a_signal_handler_may_raise_anywhere(act, step, tmp_path):
    """The others are delivered or counted, and the next event, of any thread, is as well."""
    settings, prepare, do = ACTS[act]
    # Few of the many points, which are the same again and again, where each takes long.
    slow = 7 if "store_sync" in settings else 3 if "store" in settings else 1
    walk = Walk(step * slow, LEAST_POINTS.get(act, 1))
    for number in walk:
        if "store" in settings:
            settings = {**settings, "store": tmp_path / f"{walk.tries}.db"}
        with FaultyCollector() as collector, tracking(collector, **settings) as tracked:
            program = Program(tracked, collector)
            prepare(program)
            with contextlib.suppress(Interrupt), signal_at(number, interrupt) as points:
                do(program)
            program.gate.set()
            assert tracked.handler.flush(10)
            logged = program.logged
            # A lock that was left behind keeps out all threads but this one.
            other = threading.Thread(target=program.log, daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive()
            assert tracked.handler.flush(10)
            stats = tracked.handler.stats
            assert (stats.queued, stats.failed) == (0, 0)
            # One that was written when the interrupt came may be found in the file as well.
            gone = stats.sent + stats.dropped + stats.filtered - stats.recovered
            assert logged <= gone <= logged + 1
            assert len({sent["eid"] for sent in collector.events}) >= stats.sent - 1
        walk.note(points)
    assert walk.number > LEAST_POINTS.get(act, 1)
