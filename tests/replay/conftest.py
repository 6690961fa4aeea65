"""Fixtures of the tests of replay."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from faulty_collector import FaultyCollector


@pytest.fixture
def sink():
    """Start a collector that takes everything."""
    with FaultyCollector() as collector:
        yield collector


@pytest.fixture
def launch():
    """Start the command as a process of its own."""
    with contextlib.ExitStack() as started:

        def start(*arguments, **options):
            process = subprocess.Popen(
                [sys.executable, "-m", "snowplow_logging", "replay", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                **options,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start
