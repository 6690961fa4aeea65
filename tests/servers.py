"""Servers that the tests start as processes, and what arrived of what they logged."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["SECONDS", "get", "names", "started"]

SECONDS: Final = 60
"""For anything that is waited for."""


def names(collector: Any, *wanted: str) -> list[tuple[str | None, ...]]:
    """Return the values of some names of the protocol of all events, which have to be good."""
    assert [bad["errors"] for bad in collector.bad] == []
    events = [event["rawEvent"]["parameters"] for event in collector.good]
    assert len({event["eid"] for event in events}) == len(events)
    return sorted((tuple(event.get(name) for name in wanted) for event in events), key=str)


@contextlib.contextmanager
def started(
    environment: Any, folder: Path, *arguments: str
) -> Iterator[tuple[Callable[[str], str], Any]]:
    """Start a server; give a function that waits for a pattern in its output, and the process.

    It has a session of its own, so that what is sent to its group is what Ctrl-C in a terminal
    sends, and nothing of it is left behind.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    seen: list[str] = []

    def said(pattern: str) -> str:
        while (line := lines.get(timeout=SECONDS)) is not None:
            seen.append(line)
            if found := re.search(pattern, line):
                return found[found.re.groups]
        pytest.fail(f"it ended before it said {pattern!r}:\n{''.join(seen)}")

    try:
        yield said, process
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            with contextlib.suppress(AttributeError, ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            reader.join(SECONDS)
            process.stdout.close()


def get(port: str | int, path: str, *, source: str = "127.0.0.1", **headers: str) -> int:
    """Request a page as a browser would, from one of the machine's own addresses."""
    connection = HTTPConnection("127.0.0.1", int(port), SECONDS, source_address=(source, 0))
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=sent)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
