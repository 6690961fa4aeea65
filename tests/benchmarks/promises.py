"""What each promise costs: log calls with this and that in them, side by side."""

import base64
import inspect
import json
import logging
import queue
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from contenders import PATIENCE, event, log, logger_with

__all__ = ["measure"]

BLOCK: Final = 1_000  # log calls that are timed in one piece; fewer than make a batch


@dataclass(frozen=True)
class _Variant:
    """One kind of log call: the call, what ends a block of them, and what surrounds a block."""

    log: Callable[[int], Any]
    flush: Callable[[], Any] = int
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


def measure(endpoint: str, blocks: int) -> dict[str, list[float]]:
    """Return what a log call of each variant takes, in microseconds, block by block.

    The variants take turns, so that whatever else the machine does meets all of them alike, and
    nothing is sent while a block is timed: it is the calls alone.
    """
    variants = _variants(endpoint)
    times: dict[str, list[float]] = {title: [] for title in variants}
    for block in range(blocks + 1):
        for title, variant in variants.items():
            call, numbers = variant.log, range(block * BLOCK, (block + 1) * BLOCK)
            with variant.inside():
                start = time.perf_counter_ns()
                for number in numbers:
                    call(number)
                nanoseconds = time.perf_counter_ns() - start
            variant.flush()
            if block > 0:  # the first is for warming up
                times[title].append(nanoseconds / BLOCK / 1000)
    return times


def _variants(endpoint: str) -> dict[str, _Variant]:
    """Make the variants, without those whose setting the handler does not have."""
    from snowplow_logging import SnowplowAdapter, SnowplowHandler, subject_context

    folder = Path(tempfile.mkdtemp())
    settings_there_are = inspect.signature(SnowplowHandler).parameters
    null_logger = logger_with(logging.NullHandler())
    events: queue.Queue[Any] = queue.Queue()
    queue_logger = logger_with(QueueHandler(events))
    variants = {
        "no tracking: logging to a null handler": _Variant(partial(log, null_logger)),
        "the standard QueueHandler": _Variant(partial(log, queue_logger), events.queue.clear),
    }

    @contextmanager
    def in_context() -> Iterator[None]:
        # It may have new records keep what is bound, which is no cost of the other variants.
        factory = logging.getLogRecordFactory()
        with subject_context(user_id="u-42", ip_address="198.51.100.7"):
            yield
        logging.setLogRecordFactory(factory)

    def add(
        title: str,
        call: Callable[[Any, int], Any] = log,
        *,
        prepare: Callable[[logging.LogRecord], Any] | None = None,
        adapter: Callable[[logging.Logger], Any] | None = None,
        inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
        **settings: Any,
    ) -> None:
        if not settings.keys() <= settings_there_are.keys():
            return
        handler = SnowplowHandler(
            endpoint,
            namespace="shop-backend",
            app_id="shop",
            # Nothing is due before the flush.
            flush_interval=3600.0,
            batch_size=2 * BLOCK,
            batch_bytes=1_048_576,
            **settings,
        )
        if prepare is not None:
            handler._usual = None
            handler._queue_handler.prepare = prepare  # type: ignore[method-assign]
        logger = logger_with(handler)
        through = logger if adapter is None else adapter(logger)

        def flush() -> None:
            arrived = handler.flush(PATIENCE)
            if not arrived or handler.stats.sent % BLOCK or handler.stats.losses:
                raise SystemExit(f"{title}: not all events have arrived: {handler.stats}")

        variants[title] = _Variant(partial(call, through), flush, inside)

    ready = _written(logging.makeLogRecord({"snowplow": event(0)}))
    add("checks off and the payload made beforehand", prepare=lambda _: ready)
    add("checks off, the payload written by Python", prepare=_written)
    add("plain: checked and written")
    add("through an adapter", _log_adapted, adapter=SnowplowAdapter)
    add("inside subject_context", inside=in_context)
    add("with before_send", before_send=lambda event: event)
    add("with store", store=str(folder / "events.db"))
    add("with store and store_sync", store=str(folder / "synced.db"), store_sync=True)
    if "capture_exceptions" in settings_there_are:
        title = "an exception to a null handler"
        variants[title] = _Variant(partial(_log_caught, null_logger))
        add("an exception with capture_exceptions", _log_caught, capture_exceptions=True)
    return variants


def _log_adapted(adapter: Any, number: int) -> None:
    keys = event(number)
    del keys["event"]
    adapter.page_view(**keys)


def _log_caught(logger: logging.Logger, number: int) -> None:
    try:
        raise LookupError(number)
    except LookupError:
        logger.exception("no such product")


def _written(record: logging.LogRecord) -> list[bytes]:
    """Write the payload of the event in the most direct way, with no check at all."""
    keys = record.__dict__["snowplow"]
    entities = {
        "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
        "data": keys["context"],
    }
    payload = {
        "eid": str(UUID(int=random.getrandbits(128), version=4)),
        "dtm": str(int(record.created * 1000)),
        "tv": "snowplow-logging-1.0.0",
        "p": "srv",
        "tna": "shop-backend",
        "aid": "shop",
        "e": "pv",
        "url": keys["page_url"],
        "page": keys["page_title"],
        "cx": base64.urlsafe_b64encode(_json(entities)).decode(),
    }
    return [_json(payload)[:-1]]


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _json(value: Any) -> bytes:
    orjson = sys.modules.get("orjson")
    return _encode(value).encode() if orjson is None else orjson.dumps(value)
