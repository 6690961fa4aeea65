"""The pytest plugin, which every run of pytest loads: one fixture, and nothing until it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowplow_logging.testing import CapturedEvents

__all__ = ["snowplow_events"]


@pytest.fixture
def snowplow_events() -> Iterator[CapturedEvents]:
    """Capture the Snowplow events that the test logs, with no network.

    It is a list of `snowplow_logging.testing.CapturedEvent`, each with the `event` as it was
    logged and the `payload` as it would have been sent. `named("page_view")` returns those of one
    type, `schemas` the schemas, and `invalid` the events that Snowplow would have refused.
    """
    from snowplow_logging.testing import capture_events

    with capture_events() as events:
        yield events
