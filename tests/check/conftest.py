"""Fixtures of the tests of `check`."""

from __future__ import annotations

import json

import pytest

from snowplow_logging.check import check


@pytest.fixture
def report(tmp_path):
    """Give a function that checks a configuration and returns the exit status and the report."""

    def checked(config, **more):
        path = tmp_path / "logging.json"
        path.write_text(json.dumps(config))
        lines: list[str] = []
        status = check(str(path), lines.append, announce=lambda _: None, **more)
        return status, "\n".join(lines)

    return checked
