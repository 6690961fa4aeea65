"""Where events wait: what any such place can do, how much it may hold, and what it gives out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from snowplow_logging.delivery.delivery import Delivery, Settle

__all__ = ["Batch", "Limits", "Queue"]


@dataclass(eq=False)
class Batch:
    """Events that have left the queue and are not answered for yet.

    Attributes:
        first: The place of the first of them in the order of all that was logged.
        payloads: Those that are not answered for.
        ids: Their ids in the store, where they came from it. Where there are more ids than
            payloads, the first of them are those of events that are answered for and still there.
        delivery: How far their delivery has come; None where it begins anew.
        unkept: How they were given up, where that waits until they are in the dead letters.
    """

    first: int
    payloads: list[bytes] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    delivery: Delivery | None = None
    unkept: Settle | None = None


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how much goes into one request.

    Attributes:
        events: The events that may wait in memory.
        size: The bytes that they may take.
        batch_events: The events of a request.
        batch_size: The bytes of its body, without what it has besides events.
        room: The bytes that these may take.
        overhead: The bytes that an event takes in it besides its payload.
    """

    events: int
    size: int
    batch_events: int
    batch_size: int
    room: int
    overhead: int


class Queue(Protocol):
    """Events that wait for a thread to send them.

    Only who has the turn of a line takes from it, see `Line`; everybody may put into it.
    """

    @property
    def since(self) -> float:
        """When the first of those that wait began to, or before; by the clock of `waiting`."""

    @property
    def waiting(self) -> int:
        """How many events wait."""

    @property
    def first(self) -> int:
        """The place of the first of them in the order of all that was logged.

        It never seems to be an earlier one, whatever is logged meanwhile: what was to leave at once
        up to a place would have others leave with it, before there are enough of them.
        """

    @property
    def ready(self) -> int:
        """How many of them can be taken now."""

    @property
    def is_due(self) -> bool:
        """Whether there are as many as go into a request, or as may wait at all."""

    def fits(self, payload: bytes) -> bool:
        """Tell whether there is room for an event."""

    @property
    def size(self) -> int:
        """The bytes of the events in memory, those taken from it included."""

    @property
    def full(self) -> str:
        """What is full where an event has no room."""

    def put(self, payload: bytes) -> list[bytes]:
        """Put an event behind the others; return the last ones where there is no room for all."""

    def call(self) -> None:
        """Have who puts an event call, from now on, once there is something new to do."""

    def call_always(self) -> None:
        """Have who puts an event call whatever there is to do, because nobody is there."""

    def do_not_call(self) -> None:
        """Have nobody call, because somebody is awake who looks for himself."""

    def take(self, batch: Batch, is_wanted: Callable[[], bool]) -> None:
        """Move the next events, as many as go into a request, into a batch.

        Args:
            batch: Which is to be registered already, so that no event is ever nowhere.
            is_wanted: Tells, under the lock, whether it still is: who closes may have given it up,
                and what were moved into it then would be nowhere.
        """

    def finish(self, batch: Batch) -> None:
        """Finish the payloads of a batch, where they are not finished."""

    def forget(self, batch: Batch, payloads: list[bytes]) -> None:
        """Take note that events which were in a batch are answered for, and are not any more."""

    def give_back(self, batch: Batch) -> bool:
        """Take events that are not answered for back, if they stay without the process.

        Needs the lock. Returns whether they are taken again.
        """

    def abandon(self, into: list[bytes]) -> None:
        """Move all that would be lost with the process into a list."""

    @property
    def was_used(self) -> bool:
        """Whether an earlier process may have left events."""

    @property
    def out_of_reach(self) -> int:
        """How many of those that wait cannot be taken, nor will be soon."""

    @property
    def at_risk(self) -> int:
        """How many events would be lost with the process, less those being written into a file."""

    @property
    def is_used(self) -> bool:
        """Whether who takes events now would have to wait for another thread, perhaps for long."""

    @property
    def is_at_rest(self) -> bool:
        """Whether there is nothing to do before an emitter is closed."""

    def collect(self) -> None:
        """Bring what waits to where it can be taken."""

    def recover(self) -> bool:
        """Take over what other processes left; return whether there was anything."""

    def wait_until(self, until: float) -> None:
        """Have nobody wait for other processes after a time; by the clock of `waiting`."""

    def close(self, is_used: Callable[[], bool]) -> None:
        """Let go of what is open.

        Args:
            is_used: Tells, when nobody can take any in between, whether events that were taken are
                under way; then nothing is done.
        """

    @property
    def tend(self) -> Callable[[Callable[[], bool]], None] | None:
        """What a thread of the queue's own does, as long as the function that it is given says."""

    def drop_oldest(self, reason: str) -> bool:
        """Drop the event that waits longest; return False where none can be dropped."""

    def oldest(self) -> bytes | None:
        """Return the event that waits longest, if it is in memory."""
