"""The pytest plugin, which every run of pytest loads: one fixture, and nothing until it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from snowplow_logging.testing import CapturedEvents

__all__ = ["pytest_addoption", "pytest_runtest_call", "snowplow_events"]


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

    A test in which an event was invalid fails, unless it has looked at `invalid`.
    """
    from snowplow_logging.testing import capture_events

    near = (pytestconfig.inipath or pytestconfig.rootpath / "any").parent
    given = pytestconfig.getini("snowplow_iglu")
    iglu = [place if "://" in place else near / place for place in given]
    with capture_events(iglu=iglu or None) as events:
        yield events
        _fail_for_unseen(events)  # those of other fixtures, which are torn down before this one


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Fail a test that has gone well but for invalid events that it did not look for.

    Here and not in the fixture, so that the test itself fails, and not what comes after it. A test
    that has failed already says besides what was invalid, which may be why.
    """
    outcome = yield
    events = getattr(item, "funcargs", {}).get("snowplow_events")
    if events is not None and events.unseen:
        if outcome.excinfo is not None:
            item.add_report_section("call", "snowplow", _told(events))
        else:
            try:
                _fail_for_unseen(events)
            except pytest.fail.Exception as failed:
                outcome.force_exception(failed)


def _fail_for_unseen(events: CapturedEvents) -> None:
    if events.unseen:
        pytest.fail(
            f"{_told(events)}\n(a test in which that is right looks at snowplow_events.invalid)",
            pytrace=False,
        )


def _told(events: CapturedEvents) -> str:
    """Say what was invalid, once."""
    from snowplow_logging.record import place_of

    unseen = events.unseen
    events.invalid  # noqa: B018 - to have looked is what makes it told
    told = (f"\n  {refused.error}\n    {place_of(refused.record)}" for refused in unseen)
    return f"events that Snowplow would refuse were logged:{''.join(told)}"
