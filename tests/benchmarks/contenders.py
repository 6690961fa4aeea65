"""What is compared: the ways to track one and the same event."""

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Final

PATIENCE: Final = 120.0  # seconds that a measurement may wait for the sink

# One page view with one entity: some 480 bytes as a payload. Each has a URL of its own, as the
# visits to a shop have, so that no cache of URLs flatters a contender.
TITLE: Final = "Espresso machines"
SCHEMA: Final = "iglu:com.acme/product/jsonschema/1-0-0"
SKUS: Final = [f"sku-{n:04}" for n in range(1000)]


@dataclass(frozen=True)
class Contender:
    """One way to track.

    Attributes:
        log: Tracks the event of a number.
        flush: Waits until all that was tracked has arrived.
    """

    log: Callable[[int], Any]
    flush: Callable[[], Any]


def url(number: int) -> str:
    """Return the URL of the page view of a number."""
    return f"https://shop.example.com/p/{number % 1000:04}?visit={number:07}"


def event(number: int) -> dict[str, Any]:
    """Return the event of a number, made anew as a program makes it for one log call."""
    page = number % 1000
    data = {"sku": SKUS[page], "price": 249.5, "new": True}
    return {
        "event": "page_view",
        "page_url": url(number),
        "page_title": TITLE,
        "context": [{"schema": SCHEMA, "data": data}],
    }


def log(logger: logging.Logger, number: int) -> None:
    """Log the event of a number."""
    logger.info("page viewed", extra={"snowplow": event(number)})


def logger_with(handler: logging.Handler) -> logging.Logger:
    """Return a logger with one handler and no parent to share the cost of a record."""
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)
    return logger


def snowplow_logging(endpoint: str, **settings: Any) -> Contender:
    """Track with this library as it comes, but for a queue that holds the whole measurement.

    The queues of the others have no limit, or are given none.
    """
    from snowplow_logging import SnowplowHandler

    settings = {"namespace": "shop-backend", "app_id": "shop", "queue_size": 10**7, **settings}
    handler = SnowplowHandler(endpoint, **settings)

    def flush() -> None:
        arrived = handler.flush(PATIENCE)
        stats = handler.stats
        if not arrived or stats.queued or stats.losses:
            raise SystemExit(f"not all events have arrived: {stats}")

    return Contender(partial(log, logger_with(handler)), flush)


def queue_handler(endpoint: str) -> Contender:
    """Log through the standard library's queue, to a handler that does nothing at all."""
    events: queue.Queue[Any] = queue.Queue()
    QueueListener(events, logging.NullHandler()).start()
    return Contender(partial(log, logger_with(QueueHandler(events))), events.join)


def snowplow_tracker(
    endpoint: str, *, emitter: str, session: bool, batch_size: int = 100
) -> Contender:
    """Track with `snowplow-tracker` in batches, with a session or as it comes, silent."""
    import requests
    import snowplow_tracker as library

    logging.getLogger("snowplow_tracker.emitters").setLevel(logging.WARNING)
    chosen = getattr(library, emitter)(
        endpoint,
        batch_size=batch_size,
        buffer_capacity=10**7,
        session=requests.Session() if session else None,
    )
    tracker = library.Tracker("shop-backend", chosen, app_id="shop")

    def track(number: int) -> None:
        page = number % 1000
        data = {"sku": SKUS[page], "price": 249.5, "new": True}
        context = [library.SelfDescribingJson(SCHEMA, data)]
        tracker.track(library.PageView(page_url=url(number), page_title=TITLE, context=context))

    return Contender(track, chosen.sync_flush)


CONTENDERS: Final[dict[str, Callable[..., Contender]]] = {
    "snowplow_logging": snowplow_logging,
    "queue_handler": queue_handler,
    "snowplow_tracker": snowplow_tracker,
}
