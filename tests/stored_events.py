"""Events that carry a name, on their way through a store, and the programs that log them."""

from __future__ import annotations

import contextlib
import logging
import logging.config
import sqlite3
import subprocess
import sys
import textwrap
import time

__all__ = ["START", "balances", "event", "names", "record", "rows", "run", "start", "wait_until"]

START = """
import json, logging, os, resource, signal, sys, time
from snowplow_logging import SnowplowHandler
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
def track(endpoint, store, **settings):
    handler = SnowplowHandler(endpoint, store=store, **settings)
    logger.addHandler(handler)
    return handler
def log(name):
    logger.info("", extra={"snowplow": {"event": "struct_event", "category": "c", "action": name}})
"""
"""How each program in another process begins."""


def start(program, *arguments):
    """Start a program in another process."""
    code = START + textwrap.dedent(program)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **pipes)


def run(program, *arguments, status=0):
    """Run a program in another process to its end, and return what it wrote."""
    process = start(program, *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    return out, err


def rows(path):
    """Return how many events are in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return 0  # its tables are not made yet
        return connection.execute("SELECT count(*) FROM events").fetchone()[0]


def event(name, **values):
    """Return an event with a name."""
    return {"event": "struct_event", "category": "c", "action": str(name), **values}


def record(name):
    """Return a record with an event of that name."""
    return logging.makeLogRecord({"snowplow": event(name), "relativeCreated": float(name)})


def names(collector):
    """Return the names of the events that a collector has taken, in the order they came."""
    return [event["se_ac"] for event in collector.events]


def balances(stats, logged):
    """Tell whether the account of so many events logged balances."""
    ends = stats.sent + stats.failed + stats.dropped + stats.invalid + stats.filtered
    losses = stats.failed + stats.dropped + stats.invalid
    assert sum(stats.losses.values()) == losses
    return logged + stats.recovered == ends + stats.queued


def wait_until(condition, seconds=20):
    """Wait until a condition holds that no event tells of."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.005)
