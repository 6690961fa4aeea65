"""The id of an event: how it is made, and how an event carries it through copies and as text.

An event also carries the log call that it comes from, where its record cannot. Receivers without
this package can read all that is pickled here.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import OrderedDict, UserString
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final, TypeAlias

from snowplow_logging.delivery.waiting import new_lock
from snowplow_logging.surroundings import Bound, surroundings

__all__ = [
    "IdentifiedEvent",
    "LogCall",
    "MessageText",
    "event_of_text",
    "id_of",
    "identified",
    "is_absent",
    "keep_log_call",
    "log_call_of",
    "new_id",
    "with_id",
    "with_this_id",
]

_LONGEST_USE: Final = 1.0  # seconds

# Without the global interpreter lock two threads may get the same from one iterator at once, and
# two events the same id, of which Snowplow drops one.
_HAS_GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()


def _alone(function: Callable[[], int]) -> Callable[[], int]:
    """Return a function that is called by one thread at a time.

    A signal handler may interrupt it and call it again, and a forked child makes another one.
    """
    lock = new_lock()

    def call() -> int:
        with lock:
            return function()

    return call


class _Ids:
    """Makes the event ids of this process: what is random, and a count behind it.

    So two ids of one process differ by the count, whatever the clock does. Two processes differ
    by what is random. That is drawn anew after a fork, and once a second besides, because a
    machine may be copied with its memory and no program be told, as AWS Lambda's SnapStart does.
    It is not drawn for each id: a thread that asks the system gives up the interpreter lock
    meanwhile, and then waits for it for as long as other threads compute.
    """

    def __init__(self) -> None:
        self.draw()
        if hasattr(os, "register_at_fork"):  # Windows has neither this nor forks
            # The process id alone does not tell: in containers two forks may both have the id 1.
            os.register_at_fork(after_in_child=self.draw)

    def draw(self) -> None:
        """Draw what is random."""
        h = os.urandom(16).hex()
        start = f"{h[:8]}-{h[8:12]}-8{h[12:15]}-a{h[15:18]}-"
        count = itertools.count(int(h[18:29], 16))  # of 48 bits, the highest four of them zero
        following = count.__next__ if _HAS_GIL else _alone(count.__next__)
        now = monotonic()
        self._state = os.getpid(), now, now + _LONGEST_USE, start, following

    def new(self, process: int | None = None) -> str:
        """Make an event id that no other event has: a UUID of version 8 (RFC 9562).

        Args:
            process: The id of this process, where the caller has just asked for it.
        """
        owner, since, until, start, following = self._state
        # Not every server that forks runs Python's hooks for that; uWSGI does not.
        if (process != owner and os.getpid() != owner) or not since <= monotonic() < until:
            self.draw()
            _, _, _, start, following = self._state
        return start + following().to_bytes(6, "big").hex()


new_id: Final = _Ids().new


_ID: Final = "_snowplow_event_id"
"""The attribute beside the fields of an event object, or of a dict, that holds its given id."""

_LOG_CALL: Final = "_snowplow_log_call"
"""The attribute of a dict that holds when and in what surroundings it was logged."""


LogCall: TypeAlias = tuple[float, Mapping[str, Any], Sequence[Any], Mapping[str, Any] | None]
"""When an event was logged, in seconds since 1970, and the parts of what surrounded it.

Plain values, for whoever unpickles them may not have this package.
"""


class IdentifiedEvent(dict[str, Any]):
    """An event of a record as a dict, with the id that it was given beside its keys.

    Where the record itself cannot keep it, its log call is there, too.

    It stands in the record for the dict that was logged, which is the caller's and may be logged
    again. To whoever reads the record it is an equal dict. A receiver of the pickled record that
    does not have this package finds an `OrderedDict`, which keeps attributes, too.
    """

    __slots__ = ("event_id", "log_call")

    event_id: str
    log_call: LogCall | None

    def __reduce__(self) -> tuple[Any, ...]:
        state: dict[str, Any] = {_ID: self.event_id}
        if self.log_call is not None:
            state[_LOG_CALL] = self.log_call
        return OrderedDict, (), state, None, iter(self.items())

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()


def with_this_id(
    event: Mapping[str, Any], event_id: str, log_call: LogCall | None = None
) -> IdentifiedEvent:
    """Return a copy of an event with an id, and perhaps its log call, beside its keys."""
    identified = IdentifiedEvent(event)
    identified.event_id, identified.log_call = event_id, log_call
    return identified


def identified(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event object as a dict, which keeps the id that it was given."""
    event_id = fields.pop(_ID, None)
    return fields if event_id is None else with_this_id(fields, event_id)


def is_absent(event_id: Any) -> bool:
    """Tell whether an event's own id is none: absent, or empty text."""
    return event_id is None or (isinstance(event_id, str) and not event_id)


def id_of(event: Any) -> str:
    """Return the id of an event of a record, given by its owner or by `give_ids`.

    What can hold no id, because it is no event at all, has a new one each time.
    """
    if type(event) is IdentifiedEvent:
        return event.event_id
    try:
        given = event.get("event_id")
        if is_absent(given) and type(event) is OrderedDict:
            given = vars(event).get(_ID)
        return new_id() if is_absent(given) else str(given)
    except Exception:  # noqa: BLE001 - it may be anything
        return new_id()


def with_id(event: Any, process: int | None) -> Any:
    """Return an event, or a list of them, with ids; itself where it has one or is no event.

    Args:
        event: What was logged as the event.
        process: The id of this process, where the caller has it at hand.
    """
    kind = type(event)
    if kind is dict:
        given = event.get("event_id")
        if given is None or is_absent(given):
            return with_this_id(event, new_id(process))
        return event
    if kind is IdentifiedEvent:
        return event
    if issubclass(kind, (list, tuple)):
        with_ids = [with_id(event[index], process) for index in range(len(event))]
        same = all(one is other for one, other in zip(event, with_ids, strict=True))
        return event if same else with_ids
    return _other_with_id(kind, event, process)


def _other_with_id(kind: type, event: Any, process: int | None) -> Any:
    if hasattr(kind, "as_event_dict"):
        fields = event.as_event_dict()
        if type(fields) is IdentifiedEvent or not is_absent(fields.get("event_id")):
            return fields
        return with_this_id(fields, new_id(process))
    if issubclass(kind, Mapping):
        is_marked = kind is OrderedDict and _ID in vars(event)
        if is_absent(event.get("event_id")) and not is_marked:
            return with_this_id(dict(event.items()), new_id(process))
    return event


def keep_log_call(event: Any, created: float | None = None) -> Any:
    """Return an event, or a list of them, that keeps its id, and what is so now, by itself.

    For records that are made later, and elsewhere than the log call, and for those that cannot
    keep it.

    Args:
        event: What was logged as the event.
        created: When that was, in seconds since 1970; None for now.
    """
    layer = surroundings()
    around = Bound({}, ()) if layer is None else layer.bound()
    log_call = created or time.time(), around.subject, around.context, around.page

    def keeping(one: Any) -> Any:
        one = with_id(one, None)
        if not isinstance(one, dict):
            return one  # no event at all, for the check to say so
        return with_this_id(one, id_of(one), log_call)

    return [*map(keeping, event)] if isinstance(event, (list, tuple)) else keeping(event)


def log_call_of(event: Any) -> LogCall | None:
    """Return what `keep_log_call` kept with an event, or with the first of a list; else None."""
    try:
        first = event[0] if isinstance(event, (list, tuple)) and event else event
    except Exception:  # noqa: BLE001 - a class of the program's; the check says what is wrong
        return None
    if type(first) is IdentifiedEvent:
        return first.log_call
    if type(first) is OrderedDict:
        kept: LogCall | None = vars(first).get(_LOG_CALL)
        return kept
    return None


_EVENT: Final = "snowplow_event"


class MessageText(str):
    """The text of an event that is a record's message.

    `SocketHandler` sends a message's text in its place. This one takes the event along, as an
    attribute of what also a receiver without this library reads as the text.
    """

    __slots__ = ("event",)

    event: dict[str, Any]

    def __str__(self) -> str:
        return self  # for who makes text of it, as loguru does

    def __reduce__(self) -> tuple[Any, ...]:
        return UserString, (str.__str__(self),), {_EVENT: self.event}


def event_of_text(text: UserString) -> Any:
    """Return the event that is with a text which was a `MessageText` before it was pickled."""
    return vars(text).get(_EVENT)
