"""What has become of each line, and the point before which nothing is open."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from snowplow_logging.delivery.waiting import new_lock

from .resume_point import Point, ReplayError, ResumePoint

__all__ = ["Account"]

_SAVE_INTERVAL: Final = 0.2  # seconds between two writes of the resume point
_REFUSALS_AT_FIRST: Final = 3  # requests; where nothing but these came back, it is no collector


@dataclass(eq=False)
class _Stretch:
    """A line with events that are under way, and the lines after it that have none.

    Attributes:
        where: The line's file and number.
        waiting: The events that are not answered for.
        end: Where the stretch ends; None where the next run is not to begin there.
        counts: What has become of what is in it.
    """

    where: str
    waiting: int
    end: Point | None
    counts: Counter[str] = field(default_factory=Counter)


class Account:
    """Knows what has become of each line, and keeps the point before which nothing is open.

    Args:
        file: Where the resume point is kept, if anywhere.
        url: Where the events go: to replay to another place is to begin anew.
        report: Told what goes wrong with the resume point.
        refused: Told of each event that the collector refuses.
        keeps: Whether the resume point moves on.
        due: The seconds within which an event leaves that is handed over.

    Attributes:
        counts: What has become of events (`sent`, `refused`) and lines (`skipped`, `broken`), of
            those before the resume point, too.
        start: Where to begin.
        stopped: Why the replay is to end before its input does.
    """

    def __init__(
        self,
        file: Path | None,
        url: str,
        report: Callable[[str], None],
        refused: Callable[[str], None],
        *,
        keeps: bool,
        due: float,
    ) -> None:
        self._report = report
        self._refused = refused
        self._lock = new_lock()
        self._stretches: deque[_Stretch] = deque()
        self._under_way: defaultdict[str, deque[_Stretch]] = defaultdict(deque)
        self._refusals = 0  # requests that the collector has refused
        self._saved_at = -math.inf
        self._due = due
        self._owed = 0  # events that are handed over to be sent, and not answered for
        self._waits_since = math.inf
        self._ending = False
        self.stopped: str | None = None
        self.start, self._settled = Point(), Counter[str]()
        self._beyond = Counter[str]()  # what is settled, and not before the point yet
        self._file = None
        if file is not None:
            resume = ResumePoint(file, url)
            self.start, self._settled = resume.point, resume.counts
            self._file = resume if keeps else None
        self._point = self.start
        self.counts = self._settled.copy()
        try:
            self._save()
        except OSError as error:
            raise ReplayError(f"the resume point cannot be written: {error}") from None

    @property
    def open(self) -> int:
        """The events that are not answered for."""
        with self._lock:
            return sum(stretch.waiting for stretch in self._stretches)

    @property
    def waits(self) -> float:
        """The seconds for which the collector has answered for none of what it was to be sent."""
        with self._lock:
            return max(0.0, time.monotonic() - self._waits_since) if self._owed else 0.0

    def hand_over(self) -> None:
        """Note that an event is about to be handed over."""
        with self._lock:
            if not self._owed:
                self._waits_since = time.monotonic() + self._due
            self._owed += 1

    def begin(
        self, where: str, end: Point | None, ids: Sequence[str], counts: Mapping[str, int]
    ) -> None:
        """Note that a line has been read.

        Args:
            where: Its file and number.
            end: The point after it; None where the next run is to begin before it.
            ids: The ids of its events, which are about to be sent.
            counts: What has become of the rest of it.
        """
        with self._lock:
            self.counts.update(counts)
            last = self._stretches[-1] if self._stretches else None
            # What is not to be begun after is not to be counted before either.
            apart = last is None or (end is None and last.end is not None)
            if ids or apart:
                self._stretches.append(_Stretch(where, len(ids), end, Counter(counts)))
            else:
                self._stretches[-1].end = end
                self._stretches[-1].counts.update(counts)
            for event_id in ids:
                self._under_way[event_id].append(self._stretches[-1])
            if not ids:
                self._advance()

    def sent(self, events: Sequence[Mapping[str, str]]) -> None:
        """Note that the collector has taken events."""
        with self._lock:
            for event in events:
                self._answered(event["eid"], "sent")
            self._advance()

    def failed(self, events: Sequence[Mapping[str, str]], reason: str) -> None:
        """Note that the collector has refused events, and name them."""
        with self._lock:
            if self._ending:
                return  # they were given up for lack of time
            for event in events:
                where = self._answered(event["eid"], "refused").where
                self._refused(f"{where}: {event['eid']}: {reason}")
            self._refusals += 1
            if not self.counts["sent"] and self._refusals >= _REFUSALS_AT_FIRST:
                self.stopped = f"nothing but refusals came back: {reason}"
            self._advance()

    def end(self) -> None:
        """Note that events which are given up from now on were not refused."""
        with self._lock:
            self._ending = True

    def close(self) -> None:
        """Write the resume point as it is."""
        with self._lock:
            self._try_to_save()

    def _answered(self, event_id: str, count: str) -> _Stretch:
        stretches = self._under_way[event_id]
        self._owed -= 1
        # What is still owed may have been handed over only now.
        self._waits_since = time.monotonic() + self._due
        stretch = stretches.popleft()
        if not stretches:
            del self._under_way[event_id]
        stretch.waiting -= 1
        stretch.counts[count] += 1
        self.counts[count] += 1
        return stretch

    def _advance(self) -> None:
        # As long as all was refused, it may be the endpoint that is wrong, and not the events.
        if self._refusals and not self.counts["sent"]:
            return
        moved = False
        while self._stretches and not self._stretches[0].waiting:
            stretch = self._stretches.popleft()
            self._beyond.update(stretch.counts)
            if stretch.end is not None:
                self._point, moved = stretch.end, True
                self._settled.update(self._beyond)
                self._beyond.clear()
        if moved and time.monotonic() - self._saved_at > _SAVE_INTERVAL:
            self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self._save()
        except OSError as error:
            self._report(f"the resume point stays as it was: {error}")

    def _save(self) -> None:
        if self._file is not None:
            self._file.save(self._point, self._settled)
            self._saved_at = time.monotonic()
