"""The course of one batch, from the first request to the last event that is answered for.

There is neither a clock nor a socket in here: a `Delivery` says what is to be done next, who drives
it does that, and tells it what was answered.

Three rules are kept here.

* `max_attempts` counts the requests that carried an event, however the batch was split meanwhile.
* A batch for which the collector has answered 5xx several times in a row is halved, and its halves
  as well with each further one, because one event in it may be what the server stumbles over.
* A single event that gets nothing but 5xx steps aside for those behind it and is tried again
  between them. It is given up once the collector has taken others between many of its attempts.
  In an outage it takes none, so that no event is given up because of an outage.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from snowplow_logging.delivery.retry import Answer, Outcome, backoff
from snowplow_logging.reporting import counted

__all__ = ["Aside", "Connection", "Delivery", "Send", "Settle", "Step", "Wait"]

_SUSPECT_AFTER: Final = 5
"""5xx in a row after which one event may be the cause. Short outages end before, and leave batches
whole and in order; with the usual back-off these are eight seconds on average."""

_GIVE_UP_AFTER: Final = 30
"""5xx for a single event between which the collector took others, after which it is given up. A
collector that answers 5xx to four requests of five gives up one of 800 events by that."""


@dataclass(eq=False)
class Connection:
    """What one connection to the collector has met. It outlives the batches sent over it.

    Attributes:
        failures: The requests that have failed in a row.
        pause: The seconds from the last answer to the next request. Who drives the delivery turns
            it into a time as soon as `Delivery.answered` has returned, for the batch may be given
            up before its `Wait`, and the next one must not be sent any sooner for that.
        taken: The requests that were taken, in all.
    """

    failures: int = 0
    pause: float = 0.0
    taken: int = 0


@dataclass(frozen=True)
class Send:
    """Send these in one request, and tell `Delivery.answered` what came of it.

    Attributes:
        payloads: The first events of those that are left.
        again: Whether they were in a request before, and count as retried.
    """

    payloads: Sequence[bytes]
    again: bool


@dataclass(frozen=True)
class Wait:
    """Send nothing over this connection before so much time has passed.

    Where no event of the batch is left, it is the next batch that waits.

    Attributes:
        seconds: How long.
        reason: What has failed.
        at_once: Whether the user has something to mend.
    """

    seconds: float
    reason: str
    at_once: bool


@dataclass(frozen=True)
class Settle:
    """The first events of those that are left are answered for.

    Attributes:
        count: How many.
        failure: Why they are given up; None where the collector has taken them.
        loss: The kind of loss, in the words of `Stats.losses`; None where there is none.
    """

    count: int
    failure: str | None = None
    loss: str | None = None


@dataclass(frozen=True)
class Aside:
    """The first events of those that are left would hold up the others.

    They leave this batch and become one of their own, which is to be gone on with over the same
    connection after another batch has had its turn, or as soon as no other waits.

    Attributes:
        count: How many.
        delivery: The course of the new batch, as far as it has come.
    """

    count: int
    delivery: Delivery


Step: TypeAlias = Send | Wait | Settle | Aside


@dataclass(eq=False)
class _Part:
    """Events that go in one request.

    Attributes:
        payloads: The events.
        attempts: The requests so far that carried all of them.
        server_errors: The 5xx in a row among the answers.
        proofs: Those 5xx between which the collector took other requests.
        taken: What `Connection.taken` was at the last 5xx.
    """

    payloads: Sequence[bytes]
    attempts: int = 0
    server_errors: int = 0
    proofs: int = 0
    taken: int = 0


@dataclass(eq=False)
class Delivery:
    """Leads one batch to its end. Each event is settled or set aside once, in their order.

    Args:
        payloads: The events.
        max_attempts: The requests that carry an event at most; None for no end.
        max_retry_delay: The seconds to wait between two of them at most.
        connection: What is known of the connection that they are sent over.
        draw: Draws a number between two others.
    """

    payloads: Sequence[bytes]
    max_attempts: int | None
    max_retry_delay: float
    connection: Connection
    draw: Callable[[float, float], float] = random.uniform
    _parts: deque[_Part] = field(init=False, repr=False)
    _steps: deque[Step] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._parts = deque([_Part(self.payloads)] if self.payloads else [])
        self._steps = deque()

    def next(self) -> Step | None:
        """Return what is to be done; None where nothing is left.

        After `Send` the answer is due. All else is returned once.
        """
        if self._steps:
            return self._steps.popleft()
        if self._parts:
            part = self._parts[0]
            return Send(part.payloads, again=part.attempts > 0)
        return None

    def answered(self, answer: Answer) -> None:
        """Take in what came of the request that `next` asked for."""
        part = self._parts[0]
        part.attempts += 1
        if answer.outcome is Outcome.RETRY:
            self._failed(part, answer)
            return
        self.connection.failures, self.connection.pause = 0, 0.0
        if answer.outcome is Outcome.TAKEN:
            self.connection.taken += 1
            self._settle()
        elif answer.outcome is Outcome.REFUSED:
            self._settle(answer.reason, "refused by the collector")
        elif part.attempts == self.max_attempts:
            self._end_attempts(part, answer)
        else:
            self._split(part)

    def _failed(self, part: _Part, answer: Answer) -> None:
        connection = self.connection
        connection.pause = backoff(
            connection.failures, answer.retry_after, self.max_retry_delay, self.draw
        )
        connection.failures += 1
        if answer.server_error:
            part.server_errors += 1
            part.proofs += part.server_errors > 1 and part.taken < connection.taken
            part.taken = connection.taken
        else:
            part.server_errors = part.proofs = 0
        if part.attempts == self.max_attempts:
            self._end_attempts(part, answer)
        elif part.server_errors >= _SUSPECT_AFTER:
            self._suspect(part, answer)
        self._steps.append(Wait(connection.pause, answer.reason, answer.at_once))

    def _suspect(self, part: _Part, answer: Answer) -> None:
        """Find the event that the server may stumble over, and let no other wait for it."""
        if len(part.payloads) > 1:
            self._split(part)
        elif part.proofs >= _GIVE_UP_AFTER:
            failure = f"{answer.reason}, to this event alone while it took others"
            self._settle(
                f"{failure} (after {counted(part.attempts, 'attempt', 'attempts')})",
                "refused by the collector",
            )
        else:
            self._set_aside(part)

    def _settle(self, failure: str | None = None, loss: str | None = None) -> None:
        part = self._parts.popleft()
        self._steps.append(Settle(len(part.payloads), failure, loss))

    def _split(self, part: _Part) -> None:
        self._parts.popleft()
        half = len(part.payloads) // 2
        for payloads in (part.payloads[half:], part.payloads[:half]):
            self._parts.appendleft(_Part(payloads, part.attempts, part.server_errors))

    def _end_attempts(self, part: _Part, answer: Answer) -> None:
        self._settle(
            f"{answer.reason} (after {counted(part.attempts, 'attempt', 'attempts')})",
            "max_attempts",
        )

    def _set_aside(self, part: _Part) -> None:
        delivery = Delivery(
            part.payloads, self.max_attempts, self.max_retry_delay, self.connection, self.draw
        )
        delivery._parts = deque([part])
        self._parts.popleft()
        for other in self._parts:
            other.server_errors = 0  # or in an outage each would step aside with its first failure
        self._steps.append(Aside(1, delivery))
