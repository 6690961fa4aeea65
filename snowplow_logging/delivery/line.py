"""A line to the collector: takes a batch, sends it until it is answered for, accounts for it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field, replace

from snowplow_logging.delivery.delivery import Aside, Connection, Delivery, Send, Settle, Wait
from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.notices import Notices, Reports
from snowplow_logging.delivery.queue import Batch, Queue
from snowplow_logging.delivery.retry import Outcome
from snowplow_logging.delivery.waiting import Bell, Lock, alone, clock
from snowplow_logging.delivery.way_out import WayOut
from snowplow_logging.reporting import counted

__all__ = ["FIRST_RETRY_DELAY", "Line", "Shared"]

FIRST_RETRY_DELAY = 0.5  # seconds; the longest that a first wait after a failure may be
_TOO_SHORT = 0.1  # seconds that a close may leave to its last attempt, in which few would answer
_LONGEST_KEEP_DELAY = 5.0  # seconds between two attempts to keep dead letters at most
_MOST_UNKEPT = 100  # batches that wait for that, of a line, before it takes no more events


@dataclass(eq=False)
class Shared:
    """What the lines of one emitter have in common.

    Attributes:
        transport: Makes one request.
        lock: The lock of all that waits.
        ledger: Where events are counted.
        queue: Where events wait.
        notices: Where it is told what has become of them.
        reports: Where it is reported what goes wrong.
        work: Rung when there may be something to do.
        done: Rung when something has been answered for or told.
        flush_interval: The seconds that an event waits for others at most.
        max_attempts: The requests that carry an event at most; None for no end.
        max_retry_delay: The seconds between two of them at most.
        due: Events up to this place in the order of all leave at once.
        closing: The time by which all has to be done; None where the emitter is not being closed.
        closing_since: When that began.
        parked: Whether closing has left events to the store, because they cannot be sent just now.
        left: Events that are given up because the time of a close is over, until they are counted.
        progress: When a line last began or ended something.
    """

    transport: WayOut
    lock: Lock
    ledger: Ledger
    queue: Queue
    notices: Notices
    reports: Reports
    work: Bell
    done: Bell
    flush_interval: float
    max_attempts: int | None
    max_retry_delay: float
    due: int = 0
    closing: float | None = None
    closing_since: float = 0.0
    parked: bool = False
    left: list[bytes] = field(default_factory=list)
    progress: float = 0.0

    @property
    def is_parked(self) -> bool:
        """Whether closing leaves events to the store.

        A thread that stood still meanwhile may say so when the close is over, which is nothing to
        a later flush.
        """
        return self.parked and self.closing is not None


class Line:
    """Sends one request at a time.

    A batch belongs to its line and not to the thread that sends it. So whoever has the next turn,
    a thread of the emitter or a caller that takes over, goes on with what is under way, and no
    event is lost when an exception of a signal handler ends a turn.

    Args:
        shared: What the lines of an emitter have in common.

    Attributes:
        claims: Who wants the turn; the first has it. See `alone`.
        thread: The thread that has it.
        batch: The batch under way.
        aside: Batches of events that would hold up others, and wait for one of these to pass, or
            that were given up and wait until they can be kept.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.claims: list[object] = []
        self.thread: int | None = None
        self.batch: Batch | None = None
        self.aside: list[Batch] = []
        self._aside_next = False  # whether the next turn is theirs
        self._connection = Connection()
        self._reason = ""  # of its last failure
        self._failed_at = 0.0
        self._not_before = 0.0
        self._keep_failures = 0  # in a row
        self._keep_at = 0.0  # when what was given up may be kept, after that has failed

    @property
    def batches(self) -> list[Batch]:
        """All that is under way."""
        batch, aside = self.batch, [*self.aside]
        return aside if batch is None else [batch, *aside]

    def pause(self) -> float:
        """Return the seconds until it has something to do; `inf` where only others change that."""
        if self.claims:
            return math.inf  # who has the turn looks again after it
        return max(self._begin(), self._ready_at()) - clock.now()

    def _begin(self) -> float:
        """Return the time from which on events are due."""
        shared = self._shared
        queue = shared.queue
        if self.batch is not None or self._next_aside() is not None:
            return 0.0
        keep_at = self._keep_at if self.aside else math.inf
        if not self._takes_more:
            return keep_at
        if shared.closing is not None or queue.is_due or queue.first < shared.due:
            return 0.0
        return min(keep_at, queue.since + shared.flush_interval)

    def _next_aside(self) -> int | None:
        """Return which of the batches aside is to be gone on with, if there is one."""
        keeps = clock.now() >= self._keep_at
        due = (n for n, batch in enumerate([*self.aside]) if keeps or batch.unkept is None)
        return next(due, None)

    @property
    def _takes_more(self) -> bool:
        """Whether there are events in the queue, and not too many wait to be kept."""
        unkept = sum(batch.unkept is not None for batch in [*self.aside])
        return self._shared.queue.ready > 0 and unkept < _MOST_UNKEPT

    def _ready_at(self) -> float:
        """Return the time at which the wait after a failure is over."""
        shared = self._shared
        if shared.closing is not None and self._failed_at < shared.closing_since:
            # Closing cuts short a wait that had begun, but not below the first one's length, so
            # that who closes again and again makes no more requests for that.
            return min(self._not_before, self._failed_at + FIRST_RETRY_DELAY)
        return self._not_before

    def turn(self, deadline: float | None) -> bool:
        """Do what is to be done up to the next wait or notice, unless another thread does so.

        Args:
            deadline: When a request has to end, where that is sooner than that of closing.

        Returns:
            Whether anything was done.
        """
        return alone(self.claims, lambda: self._turn(deadline)) or False

    def _turn(self, deadline: float | None) -> bool:
        try:
            self.thread = threading.get_ident()
            if self._ready_at() > clock.now():
                return False
            batch = self.batch or self._take()
            if batch is None:
                return False
            self._shared.progress = clock.now()
            if batch.unkept is None:
                self._deliver(batch, deadline)
            elif batch.payloads:
                self._settle(batch, batch.unkept)
            else:  # a turn was interrupted that had counted them
                self._forget(batch, [])
            return True
        finally:
            self.thread = None
            self._shared.progress = clock.now()

    def _take(self) -> Batch | None:
        queue = self._shared.queue
        with self._shared.lock:
            index = self._next_aside()
            if index is not None and (self._aside_next or not self._takes_more):
                self._aside_next = False
                self.batch = self.aside[index]
                del self.aside[index]
                return self.batch
            if not self._takes_more:
                return None
        batch = self.batch = Batch(0)
        queue.take(batch, lambda: self.batch is batch)
        if not batch.payloads:
            self.batch = None
            return None
        self._aside_next = True
        self._shared.work.ring()  # for the others to look at what is left
        return batch

    def _deliver(self, batch: Batch, deadline: float | None) -> None:
        shared = self._shared
        try:
            if batch.delivery is None:
                shared.queue.forget(batch, [])  # what was answered for when a turn was interrupted
                with shared.lock:
                    if self.batch is batch:  # else who closes has it
                        shared.queue.finish(batch)
                batch.delivery = Delivery(
                    [*batch.payloads],
                    shared.max_attempts,
                    shared.max_retry_delay,
                    self._connection,
                )
            while self.batch is batch:  # until it is given up, by who closes
                step = batch.delivery.next()
                if isinstance(step, Send):
                    if self._ready_at() > clock.now():
                        return
                    self._send(batch.delivery, step, deadline)
                elif isinstance(step, Wait):
                    self._tell_of_wait(batch, step)
                elif isinstance(step, Settle):
                    self._settle(batch, step)
                    return
                elif isinstance(step, Aside):
                    self._set_aside(batch, step.count, Batch(batch.first, delivery=step.delivery))
                else:
                    self.batch = None
        except BaseException:
            batch.delivery = None  # it begins anew, with the events that are not answered for
            raise

    def _send(self, delivery: Delivery, step: Send, deadline: float | None) -> None:
        shared = self._shared
        if step.again:
            count = len(step.payloads)
            with shared.lock:
                shared.ledger.retried += count
        limit = shared.closing if deadline is None else deadline
        at_most = None if limit is None else limit - clock.now()
        answer = shared.transport.send(step.payloads, at_most=at_most)
        if answer.outcome is Outcome.RETRY:
            if step.again and at_most is not None and at_most < _TOO_SHORT:
                # That there was no answer says nothing; why there was none before does.
                answer = replace(answer, reason=self._reason or answer.reason)
            self._reason = answer.reason
        else:
            self._reason = ""  # what failed before is not why the next one does
        delivery.answered(answer)
        now = clock.now()
        self._not_before = now + self._connection.pause
        if self._connection.failures:
            self._failed_at = now

    def _tell_of_wait(self, batch: Batch, step: Wait) -> None:
        shared = self._shared
        shared.ledger.last_error = shared.ledger.last_failure = step.reason
        if shared.closing is not None and batch.ids:
            shared.parked = True  # the store keeps them, so why wait
        waiting = counted(shared.ledger.queued, "event waits", "events wait")
        kind = "mend" if step.at_once else "retry"
        shared.reports.add(kind, f"{step.reason}; {waiting}, next attempt in {step.seconds:.1f} s")

    def _settle(self, batch: Batch, step: Settle) -> None:
        shared = self._shared
        count = step.count
        payloads = batch.payloads[:count]
        reason = f"{counted(count, 'event', 'events')} given up: {step.failure}"
        # First kept, then forgotten: at any moment the events are in one of the files.
        if step.failure is not None and not self._keep(payloads, step.failure):
            if shared.closing is not None and batch.ids:
                shared.parked = True  # they stay where they came from
            self._set_aside(batch, count, Batch(batch.first, unkept=step))
            return
        with shared.lock:
            if self.batch is not batch:
                return  # given up meanwhile, by who closes
            if step.failure is None:
                shared.ledger.take(batch.payloads, count, time.time())
                shared.notices.taken(payloads)
            else:
                shared.ledger.last_failure = reason
                shared.ledger.fail(batch.payloads, count, str(step.loss), reason)
                shared.notices.given_up(payloads, step.failure)
        self._forget(batch, payloads)
        if step.failure is not None:
            shared.reports.add(str(step.loss), reason)

    def _forget(self, batch: Batch, payloads: list[bytes]) -> None:
        """Let go of events that are answered for, and of the batch if there are no others."""
        self._shared.queue.forget(batch, payloads)
        with self._shared.lock:
            # Only now, so that who closes a file waits for this.
            if self.batch is batch and not batch.payloads:
                self.batch = None

    def _keep(self, payloads: list[bytes], failure: str) -> bool:
        """Keep events that are given up; return False where they have to wait until that works."""
        notices = self._shared.notices
        if clock.now() < self._keep_at:
            return False
        if notices.keep(payloads, failure) or not notices.must_keep:
            self._keep_failures = 0
            return True
        ledger = self._shared.ledger
        ledger.last_error = ledger.last_failure = f"events could not be kept in {notices.path}"
        pause = min(_LONGEST_KEEP_DELAY, FIRST_RETRY_DELAY * 2**self._keep_failures)
        self._keep_failures = min(self._keep_failures + 1, 10)
        self._keep_at = clock.now() + pause
        return False

    def _set_aside(self, batch: Batch, count: int, aside: Batch) -> None:
        """Move the first events of a batch into one that others do not wait for."""
        with self._shared.lock:
            if self.batch is not batch:
                return  # given up meanwhile, by who closes
            # With no call in between, so that each event is in one of the two.
            aside.payloads, aside.ids = batch.payloads[:count], batch.ids[:count]
            batch.payloads, batch.ids = batch.payloads[count:], batch.ids[count:]
            self.aside = [*self.aside, aside]
            if not batch.payloads:
                self.batch = None
