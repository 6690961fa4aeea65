"""A signal handler that logs, flushes or closes does no harm, wherever in the emitter it comes."""

from __future__ import annotations

import dis
import itertools
import math
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from faulty_collector import Answer, FaultyCollector
from helpers import tracking
from snowplow_logging import delivery, lifecycle

FOLDER = str(Path(delivery.__file__).parent)
"""Where the code is in which a signal may come, that of the file and of the requests left out."""

OTHERS = ("delivery.py", "exchange.py", "retry.py", "transport.py")
"""What is never done on a thread of the program's own, or changes nothing that stays."""


def is_chosen(filename):
    """Tell whether a signal is to come in the code of a file."""
    folder, _, name = filename.rpartition(os.sep)
    chosen = folder == FOLDER and name not in OTHERS and not name.startswith(("sqlite", "store_"))
    return chosen or filename == lifecycle.__file__


def signals_are_handled(before, instruction):
    """Tell whether Python may call signal handlers between two instructions of a function.

    That is where a function starts, after a call, and at a jump: one back, or on 3.10 any.
    """
    if before is None or before.opname.startswith("CALL"):
        return True
    if sys.version_info >= (3, 11):
        return instruction.offset < before.offset
    jumps = before.opname.startswith(("JUMP_ABSOLUTE", "POP_JUMP"))
    return jumps and instruction.offset != before.offset + 2


class _Points:
    """A trace function that calls a handler at one of the points at which a signal may come."""

    def __init__(self, number, handler):
        self.left, self.handler = number, handler
        self.instructions, self.before = {}, {}

    def __call__(self, frame, event, argument):
        if self.left == 0 or not is_chosen(frame.f_code.co_filename):
            return None
        code = frame.f_code
        if code not in self.instructions:
            self.instructions[code] = {one.offset: one for one in dis.get_instructions(code)}
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.before[frame] = None
        return self.trace

    def trace(self, frame, event, argument):
        now = self.instructions[frame.f_code].get(frame.f_lasti)
        if event == "opcode" and now is not None and self.left > 0:
            if signals_are_handled(self.before[frame], now):
                self.left -= 1
                if self.left == 0:
                    self.handler()
            self.before[frame] = now
        return self.trace


@contextmanager
def signal_at(number, handler):
    """Call a handler on this thread, at so manieth a point of the emitter's code that it passes."""
    points, before = _Points(number, handler), sys.gettrace()
    sys.settrace(points)
    try:
        yield points
    finally:
        sys.settrace(before)


def event(number):
    """Return an event that can be told from others; they differ in length, too."""
    return {"event": "struct_event", "category": "c", "action": "x" * number, "label": str(number)}


class Program:
    """A program that logs, and what its signal handlers do."""

    def __init__(self, tracked, collector):
        self.tracked, self.collector = tracked, collector
        self.gate = threading.Event()
        self.logged = 0

    def log(self, count=1):
        """Log events."""
        for _ in range(count):
            self.logged += 1
            self.tracked.log(event(self.logged))

    def log_two(self):
        """Log two events."""
        self.log(2)

    def flush(self):
        """Flush, with nothing in the way."""
        self.gate.set()
        assert self.tracked.handler.flush(10)

    def close(self):
        """Close, with nothing in the way."""
        self.gate.set()
        self.tracked.handler.close()

    def fill(self):
        """Fill the queue while a request is under way."""
        self.collector.answers.append(Answer(gate=self.gate))
        self.log()
        self.collector.wait_for_requests(1)
        self.log()


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
def test_a_signal_handler_may_come_anywhere(situation, handle, tmp_path):
    """Each event is accounted for once, arrives once, and the next one finds all in order."""
    settings, prepare, act = SITUATIONS[situation]
    # Once without a signal: 3.12 traces no instruction of a function that it has not traced before.
    for number in itertools.chain([math.inf], itertools.count(1)):
        if "store_sync" in settings:
            settings = {**settings, "store": tmp_path / f"{number}.db"}
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
        if 0 < points.left < math.inf:
            break
    assert number > LEAST_POINTS[situation] or TRACES_IN_PART


LEAST_POINTS = {"first": 30, "batch": 15, "full": 30, "flush": 30, "close": 60, "store": 30}
"""How many points each situation has at least; with fewer the tests would have turned hollow."""

TRACES_IN_PART = sys.version_info >= (3, 13)
"""Whether `sys.settrace` leaves out instructions, so that fewer points are tried than there are."""
