"""The guide to where no events arrive quotes what the library says, word for word."""

from __future__ import annotations

import contextlib
import json
import logging
import re

import pytest

from documents import DOCS, Page
from faulty_collector import Answer, FaultyCollector, nowhere
from helpers import NOWHERE, RecordingHandler
from snowplow_logging import PageView
from snowplow_logging.check import check

PAGE = Page(DOCS / "guides" / "no-events.md")
VIEW = PageView(page_url="https://shop.example.com/")


def code(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def quotes() -> list[re.Pattern[str]]:
    """Return patterns of what the guide says is reported; `…` stands for anything."""
    said = [quote for cells in PAGE.table("it says | which means") for quote in code(cells[0])]
    patterns = [re.escape(quote).replace("…", ".*") for quote in said]
    return [re.compile(re.sub(r"(\d)xx", r"\1\\d\\d", pattern)) for pattern in patterns]


@contextlib.contextmanager
def sending(endpoint, **settings):
    """Give a function that logs an event with a handler of its own, and what came of it."""
    handler = RecordingHandler(endpoint, **{"shutdown_timeout": 5, "max_attempts": 1, **settings})
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    try:
        yield lambda event=VIEW: logger.info(event)
    finally:
        handler.close()


def answered(*answers):
    """Log an event to a collector that answers so."""
    with FaultyCollector(*answers) as collector, sending(collector.endpoint) as log:
        log()


def not_answered():
    """Log an event where nobody listens."""
    with nowhere() as endpoint, sending(endpoint) as log:
        log()


def not_delivered():
    """Close a handler whose events wait for a collector that is not there."""
    with nowhere() as endpoint, sending(endpoint, shutdown_timeout=0, max_attempts=None) as log:
        log()
        log()


def full():
    """Log more than the queue holds."""
    with sending(NOWHERE, queue_size=1, shutdown_timeout=0, max_attempts=None) as log:
        for _ in range(10):
            log()


def raising(*_):
    """Fail, as a function of a program's own may."""
    raise RuntimeError("a fault")


def errors_of_ones_own():
    """Give a handler functions that raise."""
    with FaultyCollector() as collector:
        with sending(collector.endpoint, before_send=raising) as log:
            log()
        with sending(collector.endpoint, on_success=raising) as log:
            log()


def rendered_too_early():
    """Log what structlog, set up without our processor, makes of an event: text."""
    structlog = pytest.importorskip("structlog")
    with FaultyCollector() as collector, sending(collector.endpoint) as log:
        renderer = structlog.processors.JSONRenderer()
        event = {"event": "page_view", "page_url": "https://shop.example.com/"}
        log(renderer(None, "info", {"event": "opened", "snowplow": event}))


CAUSES = [
    not_answered,
    lambda: answered(404),
    lambda: answered(Answer(302, {"Location": "https://a.example/"})),
    lambda: answered(401),
    lambda: answered(403),
    lambda: answered(Answer(200, {"Content-Type": "text/html"}, b"<html>")),
    lambda: answered(503),
    full,
    errors_of_ones_own,
    not_delivered,
]


def test_reports(reports, capsys):
    """Each row of the first table quotes what is said when that happens."""
    for cause in CAUSES:
        cause()
    rendered_too_early()
    said = "\n".join([*reports, capsys.readouterr().err])
    patterns = quotes()
    assert len(patterns) >= 10
    assert [one.pattern for one in patterns if not one.search(said)] == [], said


def config(endpoint, **more):
    """Return a configuration of logging with one handler."""
    handler = {"class": "snowplow_logging.SnowplowHandler", "endpoint": endpoint, **more}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"snowplow": handler},
        "root": {"level": "INFO", "handlers": ["snowplow"]},
    }


def test_verdicts(tmp_path):
    """Each row of the verdicts of `check` quotes one, with the status that the row names."""
    with FaultyCollector() as good, FaultyCollector(default=403) as bad, nowhere() as closed:
        quiet = config(good.endpoint)
        quiet["root"]["level"] = "WARNING"
        alone = config(good.endpoint)
        alone["root"]["handlers"] = []
        causes = [
            config(good.endpoint),
            config(good.endpoint, enabled=False),
            quiet,
            config(good.endpoint, queue_size="many"),
            config("http://no-such-host.invalid"),
            config(closed, timeout=1),
            config(bad.endpoint),
            alone,
        ]
        said = []
        for number, cause in enumerate(causes):
            path = tmp_path / f"{number}.json"
            path.write_text(json.dumps(cause))
            lines: list[str] = []
            status = check(str(path), lines.append, announce=lambda _: None)
            said.append((status, "\n".join(lines)))
    rows = [
        (quote, int(cells[1]))
        for cells in PAGE.table("it says | status")
        for quote in code(cells[0])
    ]
    assert len(rows) >= 7
    for quote, status in rows:
        pattern = re.compile(re.escape(quote).replace("…", ".*"))
        assert [got for got, text in said if got == status and pattern.search(text)], (quote, said)
    everything = "\n".join(text for _, text in said)
    assert "handlers.snowplow gets nothing below WARNING" in everything
    assert "is on no logger" in everything
