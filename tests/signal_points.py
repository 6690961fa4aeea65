"""Signals that come at one point after the other of the code of delivery, and programs for it."""

from __future__ import annotations

import dis
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from faulty_collector import Answer
from snowplow_logging import delivery, lifecycle

__all__ = ["LEAST_POINTS", "Program", "Walk", "every_nth_point", "signal_at"]

every_nth_point = pytest.mark.parametrize(
    "step", [23, pytest.param(1, marks=pytest.mark.exhaustive)], ids=["some", "all"]
)
"""Has a test take a sample of the points, and all of them where all there is is tried."""

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
    """Calls a handler at one of the points at which a signal may come, on the thread that made it.

    Attributes:
        left: How many points there are still to pass.
    """

    def __init__(self, number, handler):
        self.left, self.handler = number, handler
        self.thread = threading.get_ident()
        self.instructions, self.before = {}, {}

    def at(self, frame, offset):
        """Take note of an instruction that comes next in a frame."""
        code = frame.f_code
        if code not in self.instructions:
            self.instructions[code] = {one.offset: one for one in dis.get_instructions(code)}
        now = self.instructions[code].get(offset)
        if now is None or self.left == 0:
            return
        before, self.before[frame] = self.before.get(frame), now
        if signals_are_handled(before, now):
            self.left -= 1
            if self.left == 0:
                self.handler()

    # Up to 3.11: a trace function.

    def __call__(self, frame, event, argument):
        if self.left == 0 or not is_chosen(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.trace

    def trace(self, frame, event, argument):
        if event == "opcode":
            self.at(frame, frame.f_lasti)
        return self.trace

    # From 3.12 on: a trace function is not told of every instruction.

    def instruction(self, code, offset):
        if not is_chosen(code.co_filename):
            return sys.monitoring.DISABLE
        if threading.get_ident() == self.thread:
            self.at(sys._getframe(1), offset)
        return None


@contextmanager
def signal_at(number, handler):
    """Call a handler on this thread, at so manieth a point of the emitter's code that it passes."""
    points = _Points(number, handler)
    if sys.version_info < (3, 12):
        before = sys.gettrace()
        sys.settrace(points)
        try:
            yield points
        finally:
            sys.settrace(before)
        return
    monitoring = sys.monitoring
    tool, instruction = monitoring.DEBUGGER_ID, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, "signals")
    monitoring.register_callback(tool, instruction, points.instruction)
    monitoring.set_events(tool, instruction)
    try:
        yield points
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, instruction, None)
        monitoring.free_tool_id(tool)


class Walk:
    """The numbers of points, one after the other, up to the first that is not there.

    How many a call passes depends on how far the threads are, which a busy machine has wait. So a
    point that has to be there is tried again when it was not.

    Args:
        step: The difference between two numbers.
        least: How many points there have to be.

    Attributes:
        number: The next number.
        tries: How many points were tried so far.
    """

    def __init__(self, step, least):
        self.number, self.tries = 1, 0
        self._step, self._least, self._missed = step, least, 0

    def __iter__(self):
        while self._missed < (MOST_MISSED if self.number <= self._least else 1):
            yield self.number

    def note(self, points):
        """Take note of whether the point was there."""
        self.tries += 1
        if points.left == 0:
            self.number, self._missed = self.number + self._step, 0
        else:
            self._missed += 1


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


MOST_MISSED = 10
"""How often a point that has to be there may be missed."""

LEAST_POINTS = {"first": 30, "batch": 15, "full": 30, "flush": 30, "close": 60, "store": 30}
"""How many points each situation has at least; with fewer the tests would have turned hollow."""
