"""The queue of a relay whose events come from a broker: messages read, their events, answers."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from snowplow_logging.brokers.message import MOST_DELIVERIES, BadMessage, letter_of, unpack
from snowplow_logging.delivery.waiting import Bell, clock

if TYPE_CHECKING:
    from snowplow_logging.delivery.assembly import Parts
    from snowplow_logging.delivery.notices import DeadLetters
    from snowplow_logging.delivery.queue import Batch

__all__ = ["SUSPECT", "Message", "Stream", "StreamQueue"]

SUSPECT: Final = 3
"""How often a message was delivered that may be what ends the relays; it is read alone."""

_READ_SECONDS: Final = 0.5  # that a read waits for messages at most
_SHORT_READ_SECONDS: Final = 0.05  # that it does while answers may come that are to be acknowledged
_MOST_MESSAGES: Final = 200  # of one read
_FIRST_READ: Final = 10  # messages, while it is not known how large they are
_LONGEST_PAUSE: Final = 5.0  # seconds after which the broker is asked again at most
_CLOSE_SECONDS: Final = 1.0  # that the end takes for the broker, where its time is over
_TOO_OFTEN: Final = (
    f"a message was delivered {MOST_DELIVERIES} times and never answered for; whoever reads it"
    " may not outlive that"
)
_LONGEST_CLOSE: Final = 60.0  # seconds that it takes where nobody set a time


class Message(NamedTuple):
    """A message of a broker.

    Attributes:
        key: What the broker knows it by.
        body: Its body.
        deliveries: How often it was delivered, this time included, as far as the broker counts.
        set_aside: Where it is, if it was delivered too often and was not even read.
    """

    key: Any
    body: bytes
    deliveries: int = 1
    set_aside: str | None = None


class Stream(Protocol):
    """Messages at a broker, shared by the relays of a group. One thread at a time uses it."""

    @property
    def shown(self) -> str:
        """What it is, as it may be shown."""

    @property
    def redelivers(self) -> bool:
        """Whether what was not acknowledged is delivered again once it is opened anew."""

    @property
    def most_bytes(self) -> int | None:
        """The bytes of a message that are taken for sure, if there is a limit."""

    def backlog(self) -> dict[str, float]:
        """Return how much waits there, by what is counted. Any thread may ask."""

    def keep_letter(self, field: str, data: bytes, reason: str) -> None:
        """Append a dead letter beside the stream. Any thread may do so.

        Args:
            field: `batch`, or `message` where it is no batch.
            data: The letter.
            reason: Why it is one.
        """

    def open(self) -> list[str]:
        """Make what is missing; return what speaks against the broker's settings."""

    def read(self, most: int, seconds: float) -> list[Message]:
        """Return messages that are this relay's from now on.

        Args:
            most: How many at most.
            seconds: How long to wait for the first.
        """

    def keep(self, keys: Sequence[Any]) -> None:
        """Say that messages are still this relay's, so that no other takes them over."""

    @property
    def keep_interval(self) -> float:
        """The seconds after which that is to be said again."""

    def acknowledge(self, keys: Sequence[Any]) -> None:
        """Remove messages that are answered for."""

    def release(self, keys: Sequence[Any]) -> None:
        """Let others have messages at once."""

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""

    def close(self) -> None:
        """Let go of the connections."""


@dataclass(eq=False)
class _Open:
    """A message that is not answered for as a whole.

    Attributes:
        key: What the broker knows it by.
        left: How many of its events are not answered for.
    """

    key: Any
    left: int


class StreamQueue:
    """Events of messages that this relay has read and not acknowledged yet.

    A thread of its own reads, as long as there is room. A message is acknowledged once each of its
    events is answered for. What is left at the end stays with the broker.

    Args:
        parts: What a queue is made with.
        stream: The messages.
        dead_letters: Where messages and events are kept that are none.
    """

    was_used: Final = True
    full: Final = "a relay takes no events of its own"

    def __init__(self, parts: Parts, stream: Stream, dead_letters: DeadLetters | None) -> None:
        self._lock = parts.lock
        self._ledger = parts.ledger
        self._reports = parts.reports
        self._limits = parts.limits
        self._work = parts.work
        self._stream = stream
        self._dead_letters = dead_letters
        self._events: deque[bytes] = deque()
        self._serials: deque[int] = deque()  # of the message that each is of
        self._open: dict[int, _Open] = {}
        self._last_serial = 0
        self._answered: list[Any] = []  # keys of messages that are to be acknowledged
        self._broken: deque[tuple[int, bytes, str]] = deque()  # to be kept: message, what, why
        self._using = threading.Lock()  # held by who uses the stream
        self._reading = Bell(parts.lock)  # rung when there may be room
        self._is_open = False
        self._stopping = False
        self._until = math.inf  # when the relay is to have ended
        self._failures = 0
        self._not_before = 0.0  # when the broker is asked again after a failure
        self._keep_at = 0.0
        self._message_bytes = 0.0  # of a message, on average
        self.since = 0.0
        self.size = 0

    # What waits.

    @property
    def waiting(self) -> int:
        """How many events were read and are not under way."""
        return len(self._events)

    @property
    def first(self) -> int:
        """The place of the first of them in the order of all that was read."""
        return self._ledger.logged - len(self._events)

    @property
    def ready(self) -> int:
        """How many of them can be taken now: none once the relay is about to end."""
        return 0 if self._stopping else len(self._events)

    @property
    def out_of_reach(self) -> int:
        """How many of them will not be taken."""
        return len(self._events) if self._stopping else 0

    @property
    def is_due(self) -> bool:
        """Whether there are any: what was read has waited already."""
        return self.ready > 0

    @property
    def at_risk(self) -> int:
        """None: the broker has what is not answered for."""
        return 0

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of the broker's is held."""
        return not (self._open or self._answered or self._is_open)

    def oldest(self) -> bytes | None:
        """Return the event that was read first."""
        with self._lock:
            return self._events[0] if self._events else None

    # The way in: there is none but from the broker.

    def fits(self, payload: bytes) -> bool:  # noqa: ARG002 - as all queues have it
        """Return False: all comes from the broker."""
        return False

    def put(self, payload: bytes) -> list[bytes]:
        """Return the event: all comes from the broker."""
        return [payload]

    def drop_oldest(self, reason: str) -> bool:  # noqa: ARG002 - as all queues have it
        """Return False: no event of a broker is dropped."""
        return False

    def call(self) -> None:
        """Do nothing: it is the thread which reads that calls."""

    call_always = do_not_call = collect = call
    is_used = False

    def recover(self) -> bool:
        """Return False: what others left is read as it comes."""
        return False

    def abandon(self, into: list[bytes]) -> None:
        """Do nothing: what was read stays with the broker."""

    def wait_until(self, until: float) -> None:
        """Read nothing more while the relay ends."""
        self._stopping, self._until = until < math.inf, until

    # The way out.

    def take(self, batch: Batch, is_wanted: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch."""
        limits = self._limits
        with self._lock:
            if self._stopping or not is_wanted():
                return
            batch.first = self.first
            room, taken = limits.room, 0
            while self._events and len(batch.payloads) < limits.batch_events:
                size = len(self._events[0]) + limits.overhead
                if taken and taken + size > room:
                    break
                taken += size
                batch.payloads.append(self._events.popleft())
                batch.ids.append(self._serials.popleft())
            self.size -= taken
        self._reading.ring()

    def finish(self, batch: Batch) -> None:
        """Do nothing: what comes from a broker is finished."""

    def forget(self, batch: Batch, payloads: list[bytes]) -> None:  # noqa: ARG002 - by their ids
        """Take note that events are answered for; acknowledge the messages that are as a whole."""
        with self._lock:
            count = len(batch.ids) - len(batch.payloads)
            for serial in batch.ids[:count]:
                self._settle(serial)
            del batch.ids[:count]
        if self._answered and clock.now() >= self._not_before:
            self._use(self._acknowledge, blocking=False)  # else who reads does it soon

    def _settle(self, serial: int) -> None:
        """Take note that one event of a message is answered for. Needs the lock."""
        message = self._open.get(serial)
        if message is not None:
            message.left -= 1
            if message.left <= 0:
                del self._open[serial]
                self._answered.append(message.key)

    def give_back(self, batch: Batch) -> bool:
        """Leave what is not answered for with the broker. Needs the lock."""
        count = len(batch.ids) - len(batch.payloads)
        self._ledger.recovered -= len(batch.payloads)
        batch.payloads, batch.ids = [], batch.ids[:count]
        return True

    # The broker.

    def tend(self, is_wanted: Callable[[], bool]) -> None:
        """Read messages as long as there is room, keep them, and acknowledge what is answered for.

        Args:
            is_wanted: Tells whether to go on.
        """
        while is_wanted():
            self._use(self._go_on, blocking=True)
            if self._broken:
                self._keep_broken()
            pause = self._not_before - clock.now()
            if pause <= 0 and (self._stopping or not self._room()):
                pause = _READ_SECONDS
            self._reading.wait(lambda pause=pause: pause if is_wanted() else 0.0)  # type: ignore[misc]

    def _go_on(self) -> None:
        if not self._is_open:
            if self._stream.redelivers:
                self._drop()
            for problem in self._stream.open():
                self._reports.add(f"broker: {problem}", f"{self._stream.shown}: {problem}")
            self._is_open = True
        self._acknowledge()
        if clock.now() >= self._keep_at:
            self._keep_at = clock.now() + self._stream.keep_interval
            with self._lock:
                keys = [message.key for message in self._open.values()]
            if keys:
                self._stream.keep(keys)
        if not self._stopping and (most := self._room()):
            seconds = (
                _SHORT_READ_SECONDS if self._stream.redelivers and self._open else _READ_SECONDS
            )
            for message in self._stream.read(most, seconds):
                self._unpack(message)

    def _drop(self) -> None:
        """Forget what will be delivered again, but for what is under way."""
        with self._lock:
            self._ledger.recovered -= len(self._events) + len(self._broken)
            self._open.clear()
            self._events.clear()
            self._serials.clear()
            self._broken.clear()
            self.size = 0

    def _use(self, work: Callable[[], None], *, blocking: bool) -> None:
        """Do something with the stream; where that fails it is done again later."""
        if not self._using.acquire(blocking=blocking):
            return
        try:
            work()
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - whatever the client of a broker raises
            pause = min(_LONGEST_PAUSE, 0.1 * 2**self._failures)
            self._failures = min(self._failures + 1, 10)
            self._not_before = clock.now() + pause
            self._is_open = False  # what was made may be gone as well
            message = f"{self._stream.shown}: {self._stream.describe(error)}"
            self._ledger.last_error = self._ledger.last_failure = message
            self._reports.add("broker", f"{message}; it is asked again")
        finally:
            self._using.release()

    def _room(self) -> int:
        """Return how many messages may be read."""
        limits = self._limits
        if len(self._events) + len(self._broken) >= limits.events or self.size >= limits.size:
            return 0
        if not self._message_bytes:
            return _FIRST_READ
        room = (limits.size - self.size) / 2  # each may be larger than the others were
        return int(max(1, min(_MOST_MESSAGES, room // self._message_bytes)))

    def _acknowledge(self) -> None:
        keys = [*self._answered]
        if keys:
            self._stream.acknowledge(keys)
            with self._lock:
                del self._answered[: len(keys)]

    def _unpack(self, message: Message) -> None:
        if message.set_aside is not None:
            self._count_set_aside(message)
            return
        self._message_bytes += (len(message.body) - self._message_bytes) / 10
        try:
            if message.deliveries > MOST_DELIVERIES:
                payloads, broken = list[bytes](), [(message.body, _TOO_OFTEN)]
            else:
                unpacked = unpack(message.body)
                payloads, broken = unpacked.payloads, unpacked.broken
        except BadMessage as error:
            payloads, broken = [], [(message.body, f"a message could not be read: {error}")]
        size = sum(map(len, payloads)) + len(payloads) * self._limits.overhead
        size += sum(len(what) for what, _ in broken)
        with self._lock:
            self._last_serial = serial = self._last_serial + 1
            left = len(payloads) + len(broken)
            if not left:
                self._answered.append(message.key)
                return
            self._open[serial] = _Open(message.key, left)
            if not self._events:
                self.since = clock.now()
            self._ledger.recovered += left
            self._events.extend(payloads)
            self._serials.extend([serial] * len(payloads))
            self._broken.extend((serial, what, why) for what, why in broken)
            self.size += size
        self._work.ring()

    def _count_set_aside(self, message: Message) -> None:
        reason = f"{self._stream.shown}: {_TOO_OFTEN}; it is in {message.set_aside}"
        with self._lock:
            self._ledger.recovered += 1
            self._ledger.lose(1, "message broken", reason)
            self._answered.append(message.key)
        self._reports.add("message broken", reason)

    def _keep_broken(self) -> None:
        """Keep what can never be sent, and only then take it for answered for."""
        while self._broken:
            serial, what, why = self._broken[0]
            if self._dead_letters is not None:
                try:
                    self._dead_letters.write([letter_of(what)], why)
                except Exception as error:  # noqa: BLE001 - a full disk, or the broker is away
                    where = self._dead_letters.path
                    self._reports.add(
                        "dead letter",
                        f"events could not be kept in {where}: {error!r}; it is tried again",
                    )
                    self._not_before = max(self._not_before, clock.now() + 1.0)
                    return
            reason = f"1 event of {self._stream.shown} given up: {why}"
            with self._lock:
                self._broken.popleft()
                self.size -= len(what)
                self._ledger.lose(1, "message broken", reason)
                self._settle(serial)
            self._reports.add("message broken", reason)

    def close(self, is_used: Callable[[], bool]) -> None:
        """Acknowledge what is answered for, and leave the rest with the broker.

        A broker that does not answer is waited for no longer than the end may take; then others
        take over what is left once they miss this relay.
        """
        # By a thread of its own, for the clients of brokers wait as long as they like.
        left = min(max(self._until - clock.now(), _CLOSE_SECONDS), _LONGEST_CLOSE)
        closing = threading.Thread(target=self._close, args=(is_used, left), daemon=True)
        try:
            closing.start()
        except RuntimeError:  # the interpreter ends, and with it each connection
            return
        closing.join(left)

    def _close(self, is_used: Callable[[], bool], seconds: float) -> None:
        if not self._using.acquire(timeout=seconds):
            return
        try:
            with self._lock:
                if is_used() or self.is_at_rest:
                    return
                keys = [message.key for message in self._open.values()]
            self._drop()
            with contextlib.suppress(Exception):  # then others take it over after a while
                self._acknowledge()
                self._stream.release(keys)
            self._answered.clear()
            self._is_open = False
            with contextlib.suppress(Exception):
                self._stream.close()
        finally:
            self._using.release()
