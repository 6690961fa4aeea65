"""Programs of the tests' own, run as processes with the collectors that they send to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PREAMBLE", "Programs", "Run"]

PREAMBLE = """
import logging, logging.config, os, signal, sys, threading, time

ENDPOINTS = sys.argv[1:]

def configure(*, level="INFO", **settings):
    # Enough for a machine that is busy with other tests; a close waits no longer than it has to.
    settings = {"shutdown_timeout": 20, **settings}
    names = []
    handlers = {}
    # What is reported would go to standard error, where these programs have no other handler.
    logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
    for number, endpoint in enumerate(ENDPOINTS):
        names.append(f"snowplow{number}")
        handlers[names[-1]] = {
            "class": "snowplow_logging.SnowplowHandler", "endpoint": endpoint, **settings,
        }
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": handlers,
        "root": {"level": level, "handlers": names},
    })
    return logging.getLogger().handlers[0]

def log(label, logger=logging.getLogger("shop")):
    event = {"event": "struct_event", "category": "c", "action": "a", "label": str(label)}
    logger.info("an event", extra={"snowplow": event})

def say(*what):
    print(*what, flush=True)
"""
"""What a program begins with: `configure`, which sends to all endpoints, `log` and `say`."""


@dataclass(frozen=True)
class Run:
    """A program that has ended: how, what it said, and when."""

    status: int
    out: str
    err: str
    ended: float

    @property
    def words(self) -> list[str]:
        """What it said, word by word."""
        return self.out.split()

    def ended_after(self, word: int = -1) -> float:
        """Return how many seconds it took to end after the time that it said."""
        return self.ended - float(self.words[word])


class Programs:
    """Starts programs in a folder, and ends those that are left.

    Args:
        folder: Where they run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            # With its children, for a pipe that one of them holds would be waited for.
            with contextlib.suppress(AttributeError, ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.communicate()

    def start(
        self, program: str, *collectors: Any, preamble: str = PREAMBLE
    ) -> subprocess.Popen[str]:
        """Start a program.

        Args:
            program: What comes after the preamble.
            *collectors: The collectors, or endpoints, that it is given.
            preamble: What it begins with.
        """
        script = self._folder / f"program{len(self._processes)}.py"
        script.write_text(preamble + textwrap.dedent(program))
        endpoints = [getattr(collector, "endpoint", collector) for collector in collectors]
        options = ["-W", "ignore::DeprecationWarning", script]
        return self._started(*options, *endpoints, stdin=subprocess.PIPE)

    def command(self, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
        """Start the command line.

        Args:
            *arguments: Its arguments.
            **options: What `Popen` takes, over what is usual.
        """
        return self._started("-m", "snowplow_logging", *map(str, arguments), **options)

    def _started(self, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
        usual: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "encoding": "utf-8",
            "cwd": self._folder,
            "start_new_session": True,
        }
        process = subprocess.Popen([sys.executable, *arguments], **{**usual, **options})
        self._processes.append(process)
        return process

    def run(
        self, program: str, *collectors: Any, preamble: str = PREAMBLE, error: str | None = ""
    ) -> Run:
        """Run a program to its end.

        Args:
            program: What comes after the preamble.
            *collectors: The collectors, or endpoints, that it is given.
            preamble: What it begins with.
            error: What it is to say on standard error; nothing at all where this is empty, and
                anything where it is None.
        """
        process = self.start(program, *collectors, preamble=preamble)
        out, err = process.communicate(timeout=60)
        ran = Run(process.returncode, out, err, time.monotonic())
        assert error is None or error in err, err
        if error == "":
            assert err == "", err
        return ran
