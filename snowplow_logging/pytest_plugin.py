"""The pytest plugin, which every run of pytest loads: one fixture, and nothing until it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowplow_logging.testing import CapturedEvents

__all__ = ["pytest_addoption", "snowplow_events"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option `snowplow_iglu`."""
    parser.addini(
        "snowplow_iglu",
        "Iglu registries with the schemas that the fixture snowplow_events checks events against: "
        "folders, relative to this file, or URLs, one a line",
        type="linelist",
        default=[],
    )


@pytest.fixture
def snowplow_events(pytestconfig: pytest.Config) -> Iterator[CapturedEvents]:
    """Capture the Snowplow events that the test logs, with no network.

    It is a list of `snowplow_logging.testing.CapturedEvent`, each with the `event` as it was
    logged and the `payload` as it would have been sent. `named("page_view")` returns those of one
    type, `schemas` the schemas, and `invalid` the events that Snowplow would have refused. Where
    the ini option `snowplow_iglu` names Iglu registries, an event is among these whose data or
    entities do not fit their schemas.
    """
    from snowplow_logging.testing import capture_events

    near = (pytestconfig.inipath or pytestconfig.rootpath / "any").parent
    given = pytestconfig.getini("snowplow_iglu")
    iglu = [place if "://" in place else near / place for place in given]
    with capture_events(iglu=iglu or None) as events:
        yield events
