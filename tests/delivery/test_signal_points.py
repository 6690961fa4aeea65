"""A signal handler that logs, flushes or closes does no harm, wherever in the emitter it comes."""

from __future__ import annotations

import itertools

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from signal_points import LEAST_POINTS, Program, Walk, every_nth_point, signal_at

pytestmark = pytest.mark.every_python

SITUATIONS = {
    "first": ({}, lambda program: None, Program.log),
    "batch": ({"batch_size": 4}, lambda program: program.log(3), Program.log),
    "full": (
        {"queue_size": 2, "on_full": "drop_oldest", "flush_interval": 0.0},
        Program.fill,
        Program.log,
    ),
    "flush": ({}, lambda program: program.log(3), Program.flush),
    "close": ({}, lambda program: program.log(3), Program.close),
    "store": ({"store_sync": True}, Program.log, Program.log),
}


@pytest.mark.parametrize(
    ("situation", "handle"),
    [
        *itertools.product(("first", "batch", "full"), ("log", "log_two", "flush", "close")),
        ("flush", "log"),
        ("close", "log"),
        ("store", "log"),
    ],
)
@every_nth_point
def test_a_signal_handler_may_come_anywhere(situation, handle, step, tmp_path):
    """Each event is accounted for once, arrives once, and the next one finds all in order."""
    settings, prepare, act = SITUATIONS[situation]
    walk = Walk(step, LEAST_POINTS[situation])
    for number in walk:
        if "store_sync" in settings:
            settings = {**settings, "store": tmp_path / f"{walk.tries}.db"}
        with FaultyCollector() as collector, tracking(collector, **settings) as tracked:
            program = Program(tracked, collector)
            prepare(program)
            with signal_at(number, getattr(program, handle)) as points:
                act(program)
            program.flush()
            program.log()
            program.flush()
            stats = tracked.handler.stats
            assert (stats.queued, stats.failed, stats.invalid) == (0, 0, 0)
            assert stats.sent + stats.dropped == program.logged
            assert len({sent["eid"] for sent in collector.events}) == stats.sent
            assert len(collector.events) == stats.sent
            assert tracked.handler.errors == []
            assert stats.queued_bytes == 0
        walk.note(points)
    assert walk.number > LEAST_POINTS[situation]
