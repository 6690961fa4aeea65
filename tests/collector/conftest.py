"""Fixtures of the tests of the local collector."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def _judging():
    # Imported here, because it skips the tests where the collector cannot run.
    from judging import client, running

    with running, client:
        yield running


@pytest.fixture
def judging(_judging):
    """Start the collector that `judging.judge` sends to, and empty it."""
    _judging.reset()
