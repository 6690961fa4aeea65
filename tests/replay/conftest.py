"""Fixtures of the tests of replay."""

from __future__ import annotations

from functools import partial

import pytest

from faulty_collector import FaultyCollector


@pytest.fixture
def sink():
    """Start a collector that takes everything."""
    with FaultyCollector() as collector:
        yield collector


@pytest.fixture
def launch(command):
    """Start the command as a process of its own."""
    return partial(command, "replay")
