"""What belongs to one process, put together: locks, counts, an empty queue, and threads to come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.line import Shared
from snowplow_logging.delivery.notices import Notices, Reports
from snowplow_logging.delivery.queue import Limits, MemoryQueue, Queue
from snowplow_logging.delivery.sqlite_file import SQLiteFile
from snowplow_logging.delivery.store import StoreQueue
from snowplow_logging.delivery.transport import STM_BYTES, Transport
from snowplow_logging.delivery.waiting import Bell
from snowplow_logging.delivery.worker import Worker, start_thread

if TYPE_CHECKING:
    from snowplow_logging.dead_letter import DeadLetterFile
    from snowplow_logging.settings import Settings

__all__ = ["assemble"]


def assemble(
    settings: Settings, transport: Transport, dead_letters: DeadLetterFile | None
) -> Worker:
    """Make a worker with all that it shares; none of its threads runs yet.

    Args:
        settings: What the user has set.
        transport: Sends a batch.
        dead_letters: Where events are kept that were given up.
    """
    # Re-entrant: a signal handler or a finaliser may log while its own thread holds it.
    lock = threading.RLock()
    work, done = Bell(lock), Bell(lock)
    ledger = Ledger(lock)
    limits = Limits(
        events=settings.queue_size,
        size=settings.queue_bytes,
        batch_events=min(settings.batch_size, transport.batch_limit or settings.batch_size),
        batch_size=settings.batch_bytes,
        room=settings.batch_bytes - transport.overhead,
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
    )
    queue: Queue

    def wake() -> None:
        worker.wake()

    if settings.store is None or not settings.enabled:
        queue = MemoryQueue(lock, ledger, limits, wake)
    else:
        queue = StoreQueue(
            lock,
            ledger,
            reports,
            limits,
            file=SQLiteFile(settings.store, settings.store_limit, transport.url),
            sync=settings.store_sync,
            drops_oldest=settings.on_full == "drop_oldest",
            called=wake,
            work=work,
            done=done,
        )
    shared = Shared(
        transport=transport,
        lock=lock,
        ledger=ledger,
        queue=queue,
        notices=notices,
        reports=reports,
        work=work,
        done=done,
        flush_interval=settings.flush_interval,
        max_attempts=settings.max_attempts,
        max_retry_delay=min(settings.max_retry_delay, threading.TIMEOUT_MAX),
    )
    worker = Worker(shared, settings.connections)
    return worker
