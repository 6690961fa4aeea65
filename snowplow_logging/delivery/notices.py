"""What is told of events: callbacks and dead letters in their order, and reports once a minute."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final, Protocol

from snowplow_logging.delivery.ledger import Ledger
from snowplow_logging.delivery.waiting import Bell, Lock, clock
from snowplow_logging.reporting import INTERVAL, report

if TYPE_CHECKING:
    from snowplow_logging.settings import OnFailure, OnSuccess

__all__ = ["DeadLetters", "Notices", "Reports"]

_ONE: Final = ((),)  # the arguments of one call


class DeadLetters(Protocol):
    """Where events are kept that were given up: a file, or a stream of a broker."""

    @property
    def path(self) -> str:
        """Where that is, as it may be shown."""

    def write(self, events: Sequence[bytes | Mapping[str, Any]], reason: str) -> int:
        """Append events; return how many older ones were removed for that."""


class Reports:
    """Writes what goes wrong to the logger `snowplow_logging`, at most once a minute for each kind.

    A thread of their own does it, which begins when there is something to write, because every
    other thread may be held up by what is to be reported. Where no thread can begin, `write` is
    called by who closes the emitter.

    Args:
        lock: The lock of all that waits.
        done: Rung when something was written.
        start: Starts a thread that calls what it is given; returns it, None where there is none.
    """

    def __init__(
        self,
        lock: Lock,
        done: Bell,
        start: Callable[[Callable[[], None], str], threading.Thread | None],
    ) -> None:
        self._lock = lock
        self._done = done
        self._start = start
        self._reported: dict[str, float] = {}  # when, by kind
        self._more: dict[str, int] = {}  # since then, by kind
        self._waiting: deque[str] = deque()
        self._writing: list[int] = []  # the threads that write one
        self.thread: threading.Thread | None = None

    def add(self, kind: str, message: str) -> None:
        """Have something written, unless something of its kind was in the last minute."""
        with self._lock:
            now = clock.now()
            if now - self._reported.get(kind, -INTERVAL) < INTERVAL:
                self._more[kind] = self._more.get(kind, 0) + 1
                return
            self._reported[kind] = now
            if more := self._more.pop(kind, 0):
                message = f"{message} (and {more:,} more like this since the last report)"
            self._waiting.append(message)
        if not self.have_thread:
            self.thread = self._start(self.write, "snowplow-logging-reports")

    @property
    def have_thread(self) -> bool:
        """Whether there is a thread that writes them."""
        thread = self.thread
        return thread is not None and thread.is_alive()

    @property
    def are_written(self) -> bool:
        """Whether everything is, but for what this thread itself is writing."""
        me = threading.get_ident()
        return not self._waiting and all(thread == me for thread in self._writing)

    def write(self) -> None:
        """Write what waits, on this thread."""
        me = threading.get_ident()
        while self._waiting:
            message: list[str] = []
            try:
                self._writing.append(me)
                with contextlib.suppress(IndexError):  # another thread has taken it
                    message.extend(starmap(self._waiting.popleft, _ONE))
                for one in message:
                    with contextlib.suppress(Exception):  # a handler of others may raise
                        report(one)
            finally:
                self._writing.remove(me)
                self._done.ring()


@dataclass(eq=False)
class _Notice:
    """Something to tell about events.

    Attributes:
        number: How many there were before.
        events: The events, as payloads, or one as it was logged.
        reason: Why they are given up; None where the collector has taken them.
        keeps: Whether they are to be kept in the dead-letter file as well.
        size: The bytes of events that hold up others, about.
    """

    number: int
    events: Sequence[bytes | Mapping[str, Any]]
    reason: str | None
    keeps: bool = False
    size: int = 0


@dataclass(eq=False)
class _Telling:
    """A thread that tells of something, and of what."""

    thread: int
    notices: list[_Notice] = field(default_factory=list)


class Notices:
    """Calls back about events, and keeps those that were given up in the dead-letter file.

    Args:
        lock: The lock of all that waits.
        done: Rung when something was told.
        ledger: Where dead letters that are lost are counted.
        reports: Where it is reported what goes wrong.
        on_success: Called with the events that the collector has taken.
        on_failure: Called with events that were given up, and why.
        dead_letters: Where events are kept that were given up.
        most: The events refused at the log call that may wait to be told of.
        most_size: The bytes that they may take.
        must_keep: Whether an event that was given up has to wait until it is in the dead letters,
            as those do which others have left; else it is counted as missing there.
    """

    def __init__(
        self,
        lock: Lock,
        done: Bell,
        ledger: Ledger,
        reports: Reports,
        *,
        on_success: OnSuccess | None,
        on_failure: OnFailure | None,
        dead_letters: DeadLetters | None,
        most: int,
        most_size: int,
        must_keep: bool = False,
    ) -> None:
        self._lock = lock
        self._done = done
        self._ledger = ledger
        self._reports = reports
        self._on_success = on_success
        self._on_failure = on_failure
        self._dead_letters = dead_letters
        self._most = most
        self._most_size = most_size
        self.must_keep = must_keep
        self._size = 0
        self._waiting: deque[_Notice] = deque()
        self._telling: list[_Telling] = []
        self.added = 0

    @property
    def path(self) -> str | None:
        """Where dead letters are kept."""
        return None if self._dead_letters is None else self._dead_letters.path

    @property
    def tells_of_failures(self) -> bool:
        """Whether anybody wants to know of events that were given up."""
        return self._on_failure is not None or self._dead_letters is not None

    def taken(self, payloads: list[bytes]) -> None:
        """Tell that the collector has taken events."""
        if self._on_success is not None:
            self._add(payloads, None)

    def given_up(self, payloads: list[bytes], reason: str) -> None:
        """Tell that events were given up, which `keep` has kept already."""
        if self._on_failure is not None:
            self._add(payloads, reason)

    def refused(self, event: Mapping[str, Any], reason: str) -> bool:
        """Tell of an event that Snowplow would have refused; return whether anybody listens."""
        if not self.tells_of_failures:
            return False
        size = _size(event)
        if len(self._waiting) >= self._most or self._size + size > self._most_size:
            self.lose_letters(1, "too many bad events wait for the dead-letter file")
            return False
        self._add([event], reason, keeps=True, size=size)
        return True

    def _add(
        self,
        events: Sequence[bytes | Mapping[str, Any]],
        reason: str | None,
        *,
        keeps: bool = False,
        size: int = 0,
    ) -> None:
        with self._lock:
            self._size += size
            self.added += 1
            self._waiting.append(_Notice(self.added, events, reason, keeps, size))

    @property
    def any_waits(self) -> bool:
        """Whether there is something to tell that nobody tells of yet."""
        return bool(self._waiting)

    def is_told(self, up_to: int) -> bool:
        """Tell whether nobody waits for, or is being told of, any notice up to a number."""
        with self._lock:
            waits = any(
                notice.number <= up_to
                for notices in ([*self._waiting][:1], *(one.notices for one in self._telling))
                for notice in notices
            )
        return not waits

    def is_telling(self) -> bool:
        """Tell whether this thread is in a callback."""
        me = threading.get_ident()
        return any(one.thread == me for one in [*self._telling])

    def tell(self, *, own_thread: bool, until: float = math.inf) -> None:
        """Tell of what waits, one after the other.

        Args:
            own_thread: Whether this thread is the emitter's own, which no callback may end.
            until: The time after which it begins with no other; by the clock of `waiting`.
        """
        while self._waiting and clock.now() < until:
            telling = _Telling(threading.get_ident())
            try:
                self._telling.append(telling)
                with contextlib.suppress(IndexError):  # another thread has taken it
                    telling.notices.extend(starmap(self._waiting.popleft, _ONE))
                for notice in telling.notices:
                    self._tell(notice, own_thread=own_thread)
            finally:
                self._telling.remove(telling)
                self._done.ring()

    def _tell(self, notice: _Notice, *, own_thread: bool) -> None:
        with self._lock:
            self._size -= notice.size
        if notice.keeps:
            self.keep(notice.events, str(notice.reason))
        callback: Callable[..., None] | None
        callback = self._on_success if notice.reason is None else self._on_failure
        if callback is None:
            return
        try:
            events = [_event(event) for event in notice.events]
            callback(*((events,) if notice.reason is None else (events, notice.reason)))
        except BaseException as error:
            if not isinstance(error, Exception) and not own_thread:
                raise  # an interrupt is for who works instead of the emitter's threads
            # Not `repr`, which may raise as well.
            raised = traceback.format_exception_only(type(error), error)[-1].strip()
            name = getattr(callback, "__qualname__", type(callback).__qualname__)
            self._reports.add("callback", f"the callback {name} raised {raised}")

    def keep(self, events: Sequence[bytes | Mapping[str, Any]], reason: str) -> bool:
        """Write events into the dead-letter file, if there is one; return False where it fails."""
        if self._dead_letters is None:
            return True
        path = self._dead_letters.path
        try:
            removed = self._dead_letters.write(events, reason)
        except Exception as error:  # noqa: BLE001 - a full disk must not end the thread
            message = f"events could not be kept in {path}: {error!r}"
            if self.must_keep:
                self._reports.add("dead letter", f"{message}; it is tried again")
            else:
                self.lose_letters(len(events), message)
            return False
        if removed:
            self.lose_letters(removed, f"{path} was full, and its oldest events were removed")
        return True

    def lose_letters(self, count: int, message: str) -> None:
        """Count and report events that are not in the dead-letter file, though they should be."""
        if self._dead_letters is not None:
            with self._lock:
                self._ledger.dead_letters_lost += count
        self._reports.add("dead letter", message)


def _event(event: bytes | Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(event + b"}")) if isinstance(event, bytes) else dict(event)


def _size(event: Mapping[str, Any]) -> int:
    """Return about how many bytes an event takes that may hold anything."""
    try:
        return len(repr(event))
    except Exception:  # noqa: BLE001 - what it holds may raise
        return 1_000
