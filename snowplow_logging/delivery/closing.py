"""The close of an emitter: what it waits for, and what it gives up when its time is over."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from snowplow_logging.delivery.waiting import clock
from snowplow_logging.delivery.worker import Worker, holds_logging_lock
from snowplow_logging.lifecycle import lifecycle
from snowplow_logging.reporting import counted
from snowplow_logging.unfinished import finished

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["GRACE", "Closing"]

GRACE: Final = 0.2
"""Seconds after the time of a close for telling what was given up."""

_KEEP_SECONDS: Final = 0.15
"""Seconds of that for keeping what was given up in the dead-letter file."""

_AT_ONCE: Final = 500  # events that are told of and kept at once, at least; of these no more
_KEPT_BYTES: Final = 1_000_000  # bytes, so that the time is looked at often enough

_LOOK: Final = 0.02  # seconds after which who waits for the reports looks again

_ROUNDS_AT_EXIT: Final = 3  # how often a close at exit goes on for what came in meanwhile


class Closing:
    """Closes an emitter once.

    Args:
        worker: Its threads, with all that they share.
        settings: What the user has set.
        start: When it began; by the clock of `waiting`.
        deadline: The time by which it is to be done.
        say: Writes a line to standard error, as is done at the end of the process.
    """

    def __init__(
        self,
        worker: Worker,
        settings: Settings,
        start: float,
        deadline: float,
        say: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._shared = worker.shared
        self._settings = settings
        self._start = start
        self._deadline = deadline
        self._over = deadline  # when the time for what comes afterwards begins
        self._say = say
        self._at_once = max(_AT_ONCE, settings.batch_size)

    def run(self, shut: Callable[[], None]) -> None:
        """Wait until all is answered for and told, then end the threads and give up the rest.

        Args:
            shut: Called when, at the end of the process, what other threads log comes too late.
        """
        shared, worker = self._shared, self._worker
        queue = shared.queue
        try:
            shared.parked, shared.closing_since = False, self._start
            shared.closing = self._deadline
            queue.wait_until(self._deadline)
            shared.work.ring()
            self._end(gives_up=not self._wait(shut) or lifecycle.is_ending)
        except BaseException:  # an interrupt, after which the program may go on
            worker.forget_dead_threads()
            raise
        finally:
            shared.closing, shared.parked = None, False
            queue.wait_until(math.inf)
        if shared.notices.any_waits or queue.at_risk:
            worker.wake()  # events have come in meanwhile

    def _wait(self, shut: Callable[[], None]) -> bool:
        """Wait until all that was logged is answered for; return whether it was in time."""
        shared, worker = self._shared, self._worker
        rounds, last, in_time = 0, shared.ledger.logged, True
        while in_time and rounds < _ROUNDS_AT_EXIT:
            shared.queue.collect()
            in_time = self._wait_for(last) and worker.wait_told(self._deadline)
            if lifecycle.is_ending:
                shut()
            if lifecycle.is_ending and shared.ledger.logged > last:
                rounds, last = rounds + 1, shared.ledger.logged
            elif not (in_time and clock.now() < self._deadline and shared.queue.recover()):
                break
        # A process may have stood still beyond its deadline, as in a container that has no share of
        # the processor; what it has is written, kept and told of all the same.
        self._over = max(self._deadline, clock.now())
        shared.queue.wait_until(self._over)
        shared.queue.collect()
        return in_time

    def _wait_for(self, last: int) -> bool:
        """Wait until all up to a place in the order is answered for, but for what stays."""
        worker, queue = self._worker, self._shared.queue
        return worker.wait(lambda: worker.is_answered(last - queue.out_of_reach), self._deadline)

    def _end(self, *, gives_up: bool) -> None:
        """Let the threads end, and count as failed what is given up."""
        shared, worker, settings = self._shared, self._worker, self._settings
        with shared.lock:
            if gives_up:
                worker.abandon()
            worker.end()
            given_up = [*map(finished, shared.left)] if shared.notices.tells_of_failures else []
            count = len(shared.left)
            error = shared.ledger.last_failure
            error = f"; the last error was: {error}" if error else ""
            reason = f"not delivered within the shutdown_timeout of {settings.shutdown_timeout:g} s"
            url = shared.transport.url
            lost = counted(count, f"event for {url} was", f"events for {url} were")
            line = f"{lost} {reason}{error}"
            if count:
                shared.ledger.fail(shared.left, count, "shutdown_timeout", line)
        shared.work.ring()
        shared.done.ring()
        if count:
            kept = self._tell_given_up(given_up, reason)
            if kept:
                which = counted(kept, "of them is", "of them are")
                if kept == count:
                    which = "it is" if count == 1 else "they are"
                line = f"{line}; {which} in {shared.notices.path}"
            if lifecycle.is_ending:
                self._say(line)
            else:
                shared.reports.add("shutdown_timeout", line)
        self._let_go()
        waiting = shared.queue.waiting
        if lifecycle.is_ending and waiting and settings.store is not None:
            path = os.path.abspath(settings.store)  # noqa: PTH100 - `resolve` follows links
            url = shared.transport.url
            left = counted(waiting, f"event for {url} waits", f"events for {url} wait")
            self._say(f"{left} in {path}{error}")

    def _tell_given_up(self, payloads: list[bytes], reason: str) -> int:
        """Tell of events that were given up; return how many are in the dead-letter file."""
        notices = self._shared.notices
        kept = 0 if notices.path is None else self._keep(payloads, reason)
        for start in range(0, len(payloads), most := self._at_once):
            notices.given_up(payloads[start : start + most], reason)
        return kept

    def _keep(self, payloads: list[bytes], reason: str) -> int:
        """Keep as many events in the dead-letter file as there is time for."""
        notices, until = self._shared.notices, self._over + _KEEP_SECONDS
        start = kept = 0
        while start < len(payloads) and clock.now() < until:
            some = payloads[start : start + self._at_once]
            while len(some) > 1 and sum(map(len, some)) > _KEPT_BYTES:
                some = some[: len(some) // 2]
            start += len(some)
            if notices.keep(some, reason):
                kept += len(some)
        if start < len(payloads):
            late = f"there was no time to keep all that was given up in {notices.path}"
            notices.lose_letters(len(payloads) - start, late)
        return kept

    def _let_go(self) -> None:
        """Tell and report what is left to be told, and let go of connections and file."""
        shared, worker = self._shared, self._worker
        if not shared.notices.is_telling():
            shared.notices.tell(own_thread=False, until=self._over + GRACE)
        self._report()
        shared.transport.close()
        worker.close_file()  # if it is not used by what was logged meanwhile
        self._report()  # what that has found, if anything

    def _report(self) -> None:
        """See to it that the reports are written, by the thread that does so if there is one."""
        reports, until = self._shared.reports, self._over + GRACE

        def pause() -> float:
            return 0.0 if reports.are_written else min(until - clock.now(), _LOOK)

        while not reports.are_written:
            # That thread may wait for the lock of logging; and one that ends may have left some.
            if holds_logging_lock() or not reports.have_thread:
                reports.write()
            if clock.now() >= until:
                return  # a handler that shows them may hang
            self._shared.done.wait(pause)
