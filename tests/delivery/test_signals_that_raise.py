"""A signal handler that raises, wherever in delivery it comes, costs its own event at most."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from signal_points import LEAST_POINTS, Program, every_nth_point, signal_at

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
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a finaliser
@pytest.mark.parametrize("act", ACTS)
@every_nth_point
def test_a_signal_handler_may_raise_anywhere(act, step):
    """The others are delivered or counted, and the next event finds all in order."""
    settings, prepare, do = ACTS[act]
    for number in itertools.count(1, step):
        with FaultyCollector() as collector, tracking(collector, **settings) as tracked:
            program = Program(tracked, collector)
            prepare(program)
            with contextlib.suppress(Interrupt), signal_at(number, interrupt) as points:
                do(program)
            program.gate.set()
            assert tracked.handler.flush(10)
            logged = program.logged
            program.log()
            assert tracked.handler.flush(10)
            stats = tracked.handler.stats
            assert (stats.queued, stats.failed) == (0, 0)
            gone = stats.sent + stats.dropped + stats.filtered
            assert logged <= gone <= logged + 1
            assert len({sent["eid"] for sent in collector.events}) >= stats.sent - 1
        if points.left > 0:
            break
    assert number > LEAST_POINTS.get(act, 1)
