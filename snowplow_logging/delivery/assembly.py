"""The parts put together: where events go, and what belongs to one process, its threads to come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.limits import STM_BYTES
from snowplow_logging.delivery.line import Shared
from snowplow_logging.delivery.memory_queue import MemoryQueue
from snowplow_logging.delivery.notices import Notices, Reports
from snowplow_logging.delivery.queue import Limits, Queue
from snowplow_logging.delivery.waiting import Bell, Lock, new_lock
from snowplow_logging.delivery.way_out import WayOut
from snowplow_logging.delivery.worker import Worker, start_thread

if TYPE_CHECKING:
    from snowplow_logging.delivery.notices import DeadLetters
    from snowplow_logging.delivery.store import StoreQueue
    from snowplow_logging.settings import Settings

__all__ = ["MakeQueue", "Parts", "assemble", "store_queue", "way_out"]

_OUTBOX_DELAY: Final = 0.02  # seconds that an event waits for others on its way into an outbox


@dataclass(frozen=True)
class Parts:
    """What a queue is made with.

    Attributes:
        settings: What the user has set.
        url: Where the events are to go.
        lock: The lock of all that waits.
        ledger: Where events are counted.
        reports: Where it is reported what goes wrong.
        limits: How much may wait in memory, and how much goes into one request.
        wake: Wakes who sends, if an event gives him something to do.
        work: Rung when there may be something to do for who sends, if anybody does.
        done: Rung when there may be room again.
    """

    settings: Settings
    url: str
    lock: Lock
    ledger: Ledger
    reports: Reports
    limits: Limits
    wake: Callable[[], None]
    work: Bell
    done: Bell


MakeQueue: TypeAlias = Callable[[Parts], Queue]


def way_out(settings: Settings) -> WayOut:
    """Return where the settings have events go.

    Raises:
        ImportError: The extra that it takes is not installed.
        ValueError: There is no such place.
    """
    if settings.broker is not None:
        from snowplow_logging.brokers import broker_of

        return broker_of(settings)
    if not settings.send:
        from snowplow_logging.delivery.outbox import Outbox

        return Outbox(settings)
    from snowplow_logging.delivery.transport import Transport

    return Transport(settings)


def assemble(
    settings: Settings,
    transport: WayOut,
    dead_letters: DeadLetters | None,
    make_queue: MakeQueue | None = None,
) -> Worker:
    """Make a worker with all that it shares; none of its threads runs yet.

    Args:
        settings: What the user has set.
        transport: Sends a batch.
        dead_letters: Where events are kept that were given up.
        make_queue: Makes the place where events wait; None for what the settings say.
    """
    # Re-entrant: a signal handler or a finaliser may log while its own thread holds it.
    lock = new_lock()
    work, done = Bell(lock), Bell(lock)
    ledger = Ledger(lock)
    batch_bytes = min(settings.batch_bytes, transport.batch_bytes or settings.batch_bytes)
    limits = Limits(
        events=settings.queue_size,
        size=settings.queue_bytes,
        batch_events=min(settings.batch_size, transport.batch_limit or settings.batch_size),
        batch_size=batch_bytes,
        room=batch_bytes - transport.overhead,
        overhead=STM_BYTES,
    )
    reports = Reports(lock, done, start_thread)
    notices = Notices(
        lock,
        done,
        ledger,
        reports,
        on_success=settings.on_success,
        on_failure=settings.on_failure,
        dead_letters=dead_letters,
        most=settings.queue_size,
        most_size=settings.queue_bytes,
        must_keep=make_queue is not None,  # what comes from elsewhere is only others' to lose
    )

    def wake() -> None:
        worker.wake()

    parts = Parts(
        settings, transport.url, lock, ledger, reports, limits, wake, work=work, done=done
    )
    leaves = not settings.send
    flush_interval = settings.flush_interval
    if leaves:
        flush_interval = 0.0 if settings.leaves_at_once else _OUTBOX_DELAY
    shared = Shared(
        transport=transport,
        lock=lock,
        ledger=ledger,
        queue=(make_queue or _queue)(parts),
        notices=notices,
        reports=reports,
        work=work,
        done=done,
        flush_interval=flush_interval,
        max_attempts=settings.max_attempts,
        max_retry_delay=min(settings.max_retry_delay, threading.TIMEOUT_MAX),
    )
    # A file takes one batch after the other.
    worker = Worker(shared, 1 if leaves else settings.connections)
    return worker


def _queue(parts: Parts) -> Queue:
    settings = parts.settings
    if settings.store is not None and settings.enabled and settings.send:
        return store_queue(parts)
    # Who leaves events for others at the log call sends them himself, see `Worker.send_here`.
    wake = _rest if settings.leaves_at_once else parts.wake
    return MemoryQueue(parts.lock, parts.ledger, parts.limits, wake)


def store_queue(parts: Parts, look_interval: float | None = None) -> StoreQueue:
    """Make a queue with a file behind it.

    Args:
        parts: What it is made with.
        look_interval: The seconds between two looks for what others have left there.
    """
    # Here, because it is a good part of what a handler imports, and some Pythons have no SQLite.
    from snowplow_logging.delivery.sqlite_file import SQLiteFile
    from snowplow_logging.delivery.store import StoreQueue

    settings = parts.settings
    return StoreQueue(
        parts.lock,
        parts.ledger,
        parts.reports,
        parts.limits,
        file=SQLiteFile(settings.store or "", settings.store_limit, parts.url),
        sync=bool(settings.store_sync),
        drops_oldest=settings.on_full == "drop_oldest",
        called=parts.wake,
        work=parts.work,
        done=parts.done,
        look_interval=look_interval,
    )


def _rest() -> None:
    """Wake nobody."""
