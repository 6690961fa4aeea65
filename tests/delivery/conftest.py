"""Fixtures of the tests of delivery."""

from __future__ import annotations

import pytest

from faulty_collector import FaultyCollector


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


@pytest.fixture
def path(tmp_path):
    """Return a path for a store."""
    return tmp_path / "events.db"
