"""The guide for who comes from snowplow-tracker: both make the calls of each row, and agree."""

from __future__ import annotations

import base64
import json
import logging
import warnings

import pytest

import snowplow_logging
from documents import DOCS, Page
from snowplow_logging.testing import capture_events

tracker_module = pytest.importorskip("snowplow_tracker", reason="what is migrated from")

PAGE = Page(DOCS / "guides" / "migration.md")
NOT_COMPARED = {"eid", "dtm", "stm", "tv"}


def rows():
    """Return the rows whose both cells are calls."""
    events, subject = PAGE.text.split("\n## ")[2:4]
    found = []
    for line in (events + subject).splitlines():
        if line.startswith("| `tracker."):
            before, after = (cell.strip(" `|") for cell in line.split(" | "))
            found.append(pytest.param(before, after, id=f"{len(found)} {after.split('(')[0]}"))
    assert len(found) > 25
    return found


def decoded(payload):
    """Return a payload with its JSON decoded, and without what is not compared."""
    seen = {name: value for name, value in payload.items() if name not in NOT_COMPARED}
    for name in ("ue_px", "cx"):
        if name in seen:
            seen[name] = json.loads(base64.urlsafe_b64decode(seen[name]))
    if seen["e"] == "ti":
        seen.pop("ttm", None)  # as the page says
    return seen


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (tracker_module.PageView(page_url="https://a.example/"), "event is a PageView"),
        (
            {
                "event": "page_view",
                "page_url": "https://a.example/",
                "subject": tracker_module.Subject(),
            },
            "subject is a Subject",
        ),
        (
            {
                "event": "page_view",
                "page_url": "https://a.example/",
                "context": [
                    tracker_module.SelfDescribingJson("iglu:com.acme/a/jsonschema/1-0-0", {})
                ],
            },
            "context[0] is a SelfDescribingJson",
        ),
    ],
)
def test_what_is_of_the_tracker_is_called_so(event, what):
    """Its classes have the names of those that are taken here."""
    with capture_events() as events:
        logging.getLogger("shop").error("an event", extra={"snowplow": event})
    assert f"{what} of snowplow_tracker; give" in str(events.invalid[0].error)


@pytest.mark.parametrize(("before", "after"), rows())
def test_both_send_the_same(before, after):
    """The tracker's call and the handler's have the same payload."""
    sent = []

    class Emitter(tracker_module.Emitter):
        def input(self, payload):
            sent.append({name: str(value) for name, value in payload.items()})

    emitter = Emitter("collector.example.com")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tracker = tracker_module.Tracker("shop-backend", emitter, app_id="shop")
        eval(before, {**vars(tracker_module), "tracker": tracker})  # noqa: S307 - our own page

    handler = snowplow_logging.SnowplowHandler(
        "https://collector.example.com", namespace="shop-backend", app_id="shop", platform="pc"
    )
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    shop = snowplow_logging.SnowplowAdapter(logger)
    names = {name: getattr(snowplow_logging, name) for name in snowplow_logging.__all__}
    with capture_events() as events:
        eval(after, {**names, "shop": shop})  # noqa: S307 - our own page
    assert not events.invalid
    assert [decoded(event.payload) for event in events] == [decoded(payload) for payload in sent]


def test_every_call_of_the_tracker_is_there():
    """The page names each `track_…` of the tracker, each setter and each class of an event."""
    tracker, subject = tracker_module.Tracker, tracker_module.Subject
    names = [name for name in vars(tracker) if name.startswith("track_")]
    names += [name for name in vars(subject) if name.startswith("set_")]
    names += [f"{one.__name__}(" for one in tracker_module.Event.__subclasses__()]
    assert [name for name in names if name not in PAGE.text] == []
