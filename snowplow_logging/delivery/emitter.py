"""What a handler holds: it takes events in, and can be flushed, closed and asked for its counts."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.delivery.assembly import MakeQueue, assemble
from snowplow_logging.delivery.closing import GRACE, Closing
from snowplow_logging.delivery.ledger import Stats
from snowplow_logging.delivery.same_process import NOWHERE, same_process
from snowplow_logging.delivery.waiting import clock
from snowplow_logging.delivery.way_out import WayOut
from snowplow_logging.delivery.worker import Worker
from snowplow_logging.lifecycle import lifecycle, tell_at_exit

if TYPE_CHECKING:
    from snowplow_logging.delivery.notices import DeadLetters
    from snowplow_logging.settings import Settings

__all__ = ["Emitter"]

_OTHERS_GRACE: Final = 1.0  # seconds after its own time in which a close lets another one end


class Emitter:
    """Takes payloads for threads of its own, which send them in batches until answered.

    The threads start at the first event. A forked child starts empty, with threads of its own.

    Args:
        settings: What the user has set.
        transport: Sends a batch.
        dead_letters: Where events are kept that were given up.
        make_queue: Makes the place where events wait; None for what the settings say.

    Attributes:
        process: The id of the process that it works in; none once that has come to its end.
        is_here: Whether that is this process, as its first item.
        into_queue: Puts a payload of that process into its queue, and returns those for which there
            is no room, for `make_room`.
    """

    def __init__(
        self,
        settings: Settings,
        transport: WayOut,
        dead_letters: DeadLetters | None = None,
        make_queue: MakeQueue | None = None,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._dead_letters = dead_letters
        self._make_queue = make_queue
        self._leaves_at_once = settings.leaves_at_once
        self.shutdown_timeout: float = settings.shutdown_timeout
        self._workers: dict[int, Worker] = {}  # by process
        self._last_flush: tuple[int, float, float] | None = None
        self._exit_seconds = 0.0
        self._said_at_exit = False
        self._adopt()
        lifecycle.register(self)
        if self._shared.queue.was_used:
            self._worker.wake()  # an earlier process may have left events in the file

    def _adopt(self) -> None:
        """Go over to what is this process's own; not every server runs fork hooks."""
        pid = 0
        while pid != os.getpid():  # a signal handler may fork in here, and the child go on with it
            pid, is_here = os.getpid(), same_process()
            # Threads that come here at once go over to the same.
            self._worker = self._workers.setdefault(
                pid, assemble(self._settings, self._transport, self._dead_letters, self._make_queue)
            )
            self._shared = self._worker.shared
            self.into_queue = self._shared.queue.put
            # Last, because who finds it true looks no further.
            self.process, self.is_here = pid, is_here

    def after_fork(self) -> None:
        """Start afresh in a child process; what waits in the parent is the parent's to send."""
        self._transport.after_fork()  # while the descriptors are what they were, if a hook does it
        for pid, worker in [*self._workers.items()]:
            if pid != os.getpid():
                worker.leave_to_parent()
                self._workers.pop(pid, None)
        self._last_flush, self._exit_seconds, self._said_at_exit = None, 0.0, False
        self._adopt()

    def _here(self) -> None:
        pid = os.getpid()
        # A thread that finds another on its way does the same; all come to the same worker.
        if self.process != pid and (self.process or pid not in self._workers):
            self.after_fork()

    @property
    def url(self) -> str:
        """Where the events go."""
        return self._transport.url

    # The way in, on the thread of the log call.

    def put(self, payload: bytes) -> None:
        """Queue one payload. Waits, if at all, no longer than `block_timeout`."""
        if self.process != os.getpid():
            self._here()
            if self.process != os.getpid():
                self._put_at_the_end(payload)
                return
        try:
            if away := self.into_queue(payload):
                self.make_room(away)
            if self._leaves_at_once:
                self._worker.send_here()
        except MemoryError:
            self.lack_memory()

    def make_room(self, away: list[bytes]) -> None:
        """Do what `on_full` says with events for which there is no room."""
        shared, on_full = self._shared, self._settings.on_full
        reason = f"{shared.queue.full}, events are dropped"
        if on_full == "drop_oldest":
            oldest = f"{shared.queue.full}, the oldest are dropped"
            while away and shared.queue.drop_oldest(oldest):
                away = [*away[1:], *self.into_queue(away[0])]
            # Those that are being sent are not dropped, and may take all the room.
            reason = reason if away else oldest
        elif on_full == "block" and self._may_wait():
            until = clock.now() + self._settings.block_timeout
            while away and (left := until - clock.now()) > 0:
                self._wait_for_room(away[0], left)
                away = [*away[1:], *self.into_queue(away[0])]
        for _ in away:
            shared.ledger.drop(reason)
        if away or on_full == "drop_oldest":
            shared.reports.add("queue full", reason)

    def _wait_for_room(self, payload: bytes, seconds: float) -> None:
        queue = self._shared.queue
        self._shared.done.wait(lambda: 0.0 if queue.fits(payload) else seconds)

    def _may_wait(self) -> bool:
        if self._worker.is_own_thread() or self._shared.notices.is_telling():
            return False
        try:
            sys.modules["asyncio"].get_running_loop()
        except (AttributeError, KeyError, RuntimeError):
            return True  # asyncio is not there, or only half imported, or does not run here
        return False  # an event loop must never wait

    def _put_at_the_end(self, payload: bytes) -> None:
        """Deliver one payload at once, because nothing happens later: the process has ended.

        Only the thread on which it ends can do so. The others stand still soon, wherever they are.
        """
        if not lifecycle.ends_here():
            self.give_up_at_the_end()
            return
        self._survive_the_end()
        for _ in self.into_queue(payload):
            self._shared.ledger.drop(self._shared.queue.full)
        # What cannot be sent at once then never can: too much of Python is gone.
        self.close(clock.now() + (GRACE if sys.is_finalizing() else self.shutdown_timeout))
        self.leave()

    def _survive_the_end(self) -> None:
        """Go on with what still works while the interpreter goes down, if it does."""
        if not sys.is_finalizing():
            return
        if self._shared.lock.acquire(blocking=False):
            self._shared.lock.release()
        else:  # a thread that stands still for ever has it
            self._workers.clear()
            self._adopt()
            self._shut()

    @property
    def tells_of_failures(self) -> bool:
        """Whether anybody wants to see events that are refused."""
        return self._shared.notices.tells_of_failures

    def refuse(
        self, event: Mapping[str, Any], reason: str, loss: str, *, told: bool = False
    ) -> None:
        """Account for an event that is not sent because Snowplow would refuse it.

        Args:
            event: The event as it is shown, where anybody wants to see it.
            reason: What was wrong.
            loss: The reason under which it is counted.
            told: Whether the user is told otherwise, so that a report would say it twice.
        """
        self._here()
        shared = self._shared
        shared.ledger.refuse(loss, reason)
        if not told:
            shared.reports.add(loss, reason)
        if shared.notices.refused(event, reason):
            self._worker.wake()

    def lack_memory(
        self, loss: str = "out of memory", reason: str = "there was no memory for an event"
    ) -> None:
        """Account for an event for which there was no memory, or not enough of the stack.

        Args:
            loss: The reason under which it is counted.
            reason: What was wrong.
        """
        self._here()
        self._shared.ledger.give_up(loss, reason)
        with contextlib.suppress(RecursionError):
            self._shared.reports.add(loss, reason)

    def give_up_at_the_end(self) -> None:
        """Account for an event that comes too late to be sent, with one line for all of them."""
        reason = "logged when the process had come to its end"
        self._survive_the_end()
        self._shared.ledger.give_up("process ended", reason)
        if not self._said_at_exit:
            self._say_at_exit(f"events for {self.url} are not sent: they were {reason}")

    def _say_at_exit(self, line: str) -> None:
        self._said_at_exit = True
        tell_at_exit(line)

    def leave_out(self) -> None:
        """Count an event that `before_send` left out."""
        self._here()
        self._shared.ledger.leave_out()

    def report(self, kind: str, message: str) -> None:
        """Have something reported on the logger `snowplow_logging`, once a minute for its kind."""
        self._here()
        self._shared.reports.add(kind, message)

    # What the owner may ask.

    @property
    def last_failure(self) -> str | None:
        """Why events were last not delivered, if any were not."""
        return self._shared.ledger.last_failure

    @property
    def stats(self) -> Stats:
        """What has become of the events logged in this process so far."""
        self._here()
        shared = self._shared
        with shared.lock:
            oldest = self._worker.oldest()
            stats = shared.ledger.stats(shared.queue.size, _age(oldest))
        return stats  # noqa: RET504 - see `Lock` on calls

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was queued before is answered for.

        Args:
            timeout: The seconds to wait at most; None for `shutdown_timeout`.

        Returns:
            Whether it is.
        """
        self._here()
        for act in lifecycle.at_flush:
            act()
        start = clock.now()
        deadline = start + (self.shutdown_timeout if timeout is None else timeout)
        worker = self._worker
        if worker.has_ended:
            return False
        self.hurry()
        last = self._shared.due
        answered = worker.wait(lambda: worker.is_answered(last), deadline)
        answered = answered and worker.wait_told(deadline)
        self._last_flush = threading.get_ident(), start, clock.now()
        return answered

    def start(self) -> None:
        """Start the threads for what others have left, before anything was logged here."""
        self._here()
        self._worker.wake()

    def hurry(self) -> None:
        """Have what is queued leave at once."""
        self._here()
        if not self._worker.hurry():
            self._worker.wake()

    def retire(self) -> None:
        """Send what is queued and then end the threads, without waiting for either."""
        self._here()
        self._shared.closing, self._shared.closing_since = math.inf, clock.now()
        self._shared.work.ring()

    def close(self, until: float = math.inf) -> None:
        """Send what is queued, for at most `shutdown_timeout`, give up the rest, end the threads.

        The next event opens the emitter again.

        Args:
            until: The time by which to be done, if that is sooner; by the clock of `waiting`.
        """
        self._here()
        if self._worker.is_at_rest:
            self._transport.close()  # which the log call itself may have opened
            return
        start = clock.now()
        deadline = max(start, min(self._close_by(start), until))
        closing = Closing(self._worker, self._settings, start, deadline, self._say_at_exit)
        # A close in a callback may be what another close waits for.
        patience = start if self._shared.notices.is_telling() else deadline + _OTHERS_GRACE
        try:
            if not self._worker.closes.use(lambda: closing.run(self._shut), patience):
                closing.run(self._shut)  # in a signal handler amid another, or that does not end
        finally:
            if lifecycle.is_ending:
                self._exit_seconds += clock.now() - start

    def _shut(self) -> None:
        """Take no more from other threads, because the process ends."""
        self.process, self.is_here = 0, NOWHERE

    def _close_by(self, start: float) -> float:
        """Return the time by which a close is to be done that starts now."""
        seconds = self.shutdown_timeout
        if self._last_flush is not None:
            thread, flush_start, flush_end = self._last_flush
            # `logging.shutdown` flushes and closes, and the two have the time of one.
            if thread == threading.get_ident() and start - flush_end < 0.1:
                seconds -= flush_end - flush_start
        if lifecycle.is_ending:
            seconds -= self._exit_seconds
        return start + seconds

    def leave(self) -> None:
        """Wait for threads that would keep the process from ending; what comes leaves at once."""
        self._worker.join()
        self._shut()


def _age(payload: bytes | None) -> float | None:
    """Return the seconds since the log call of an event."""
    if payload is None:
        return None
    _, _, after = payload.partition(b'"dtm":"')
    logged = after.partition(b'"')[0]
    return max(0.0, time.time() - int(logged) / 1_000) if logged.isdigit() else None
