"""What the tests share: a handler that keeps its errors, on a logger of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowplow_logging import LocalCollector, SnowplowHandler

__all__ = [
    "ANYTHING",
    "CREATED",
    "IGLU",
    "NOWHERE",
    "RecordingHandler",
    "Tracking",
    "entity",
    "record",
    "tracking",
]

IGLU = Path(__file__).parents[2] / "shared" / "iglu"
"""The registry with the schemas of Iglu Central, where there is one."""

ANYTHING = "iglu:com.acme/anything/jsonschema/1-0-0"
"""A schema that the fixture `registry` adds to it, and that any data fits."""

NOWHERE = "http://127.0.0.1:9"
"""Where nobody listens, for events that are never to be sent."""


CREATED = 1_700_000_000.1239
"""When the records of `record` were made."""


def record(event: Any = None, msg: object = "basket opened", **attributes: Any) -> Any:
    """Return a record as a log call makes it, with an event."""
    made = logging.getLogRecordFactory()("shop", logging.INFO, __file__, 1, msg, (), None)
    vars(made).update({"created": CREATED, **attributes})
    if event is not None:
        made.snowplow = event
    return made


def entity(**data: Any) -> dict[str, Any]:
    """Return an entity that any collector takes."""
    return {"schema": ANYTHING, "data": data}


class RecordingHandler(SnowplowHandler):
    """A handler that keeps the errors which it would otherwise print."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.errors: list[BaseException | None] = []
        super().__init__(*args, **settings)

    def handleError(self, record: logging.LogRecord) -> None:
        """Keep the error that is being handled."""
        self.errors.append(sys.exc_info()[1])


@dataclass(frozen=True)
class Tracking:
    """A handler on a logger that nobody else has, and the collector that it sends to."""

    handler: RecordingHandler
    logger: logging.Logger
    collector: LocalCollector | None

    def log(self, event: Any) -> None:
        """Log an event in the record's attribute."""
        self.logger.info("an event", extra={"snowplow": event})

    def arrived(self) -> list[dict[str, Any]]:
        """Return the events that have arrived, as Micro shows them, and see that all are good."""
        assert self.collector is not None
        assert self.handler.flush(30)
        assert [bad["errors"] for bad in self.collector.bad] == []
        return self.collector.good

    def payloads(self) -> list[dict[str, str]]:
        """Return the names and values of the protocol that have arrived, all of them good."""
        return [event["rawEvent"]["parameters"] for event in self.arrived()]


@contextmanager
def tracking(collector: LocalCollector | None = None, **settings: Any) -> Iterator[Tracking]:
    """Give a logger with a handler, and close the handler in the end.

    Args:
        collector: The collector that it sends to; None where nothing is to be sent.
        **settings: Settings of the handler.
    """
    settings.setdefault("shutdown_timeout", 0.2 if collector is None else 30)
    handler = RecordingHandler(NOWHERE if collector is None else collector.endpoint, **settings)
    logger = logging.Logger("shop", logging.DEBUG)
    # Of its own as well, so that a new level takes effect as it does for any logger.
    logger.manager = logging.Manager(logger)  # type: ignore[arg-type]
    logger.addHandler(handler)
    try:
        yield Tracking(handler, logger, collector)
    finally:
        handler.close()
