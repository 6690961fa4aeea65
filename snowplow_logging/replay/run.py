"""The replay itself: reads, sends, and says what became of it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.delivery.emitter import Emitter
from snowplow_logging.delivery.transport import Transport
from snowplow_logging.events import InvalidEvent
from snowplow_logging.payload import EVENT_ID, PayloadEncoder
from snowplow_logging.settings import Settings

from .account import Account
from .lines import Line, Lines
from .payloads import Payloads, events_in
from .resume_point import ReplayError
from .screen import Reports, Screen

if TYPE_CHECKING:
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["Replay"]

_BATCHES_QUEUED: Final = 4
_RATE_BURST: Final = 2.0  # seconds' worth of events that leave at once after an outage, at most
_FLUSH_INTERVAL: Final = 1.0  # seconds
_END_SECONDS: Final = 2.0  # that ending early may take


class Replay:
    """Sends the events of files again.

    Args:
        files: Paths of files with JSON lines, gzipped or not, or of stores that were set aside;
            `-` is standard input.
        transport: Sends them.
        encoder: Makes the encoder for lines that were logged, by the tracker that they name.
        event_key: The key of a line that holds its event.
        true_timestamp: Whether an event without a true timestamp gets the time of its log call.
        rate: The events a second at most.
        resume: Where to keep how far it has come, and to go on from.
        batch_size: The events that a request carries at most.
        dry_run: Whether everything is checked and nothing is sent.
        screen: Where it says how far it is and what goes wrong.
        schemas: Checks self-describing data and entities, if anything does.

    Raises:
        ReplayError: It cannot begin.
        ValueError: The encoder has a setting that makes no sense.
    """

    def __init__(
        self,
        files: Sequence[str],
        *,
        transport: Transport,
        encoder: Callable[[str], PayloadEncoder],
        event_key: str,
        true_timestamp: bool,
        rate: float | None,
        resume: Path | None,
        batch_size: int,
        dry_run: bool,
        screen: Screen,
        schemas: SchemaCheck | None = None,
    ) -> None:
        self._files = files
        self._event_key = event_key
        self._rate = rate
        self._screen = screen
        self._goes_on = resume is not None
        self._next_put = 0.0
        for file in files:
            if file != "-" and not (os.access(file, os.R_OK) and not os.path.isdir(file)):
                raise ReplayError(f"{file} is no file that can be read")
        self._payloads = Payloads(
            encoder, transport, true_timestamp=true_timestamp, schemas=schemas
        )
        self._account = Account(
            resume,
            transport.url,
            screen.tell,
            lambda message: screen.complain("refused", message),
            keeps=not dry_run,
            due=_FLUSH_INTERVAL,
        )
        self._has_been_stopped = self._is_over = False
        queue_size = _BATCHES_QUEUED * batch_size
        if rate is not None:
            queue_size = min(queue_size, math.ceil(rate * _RATE_BURST))
        self._emitter = None
        if dry_run:
            return
        settings = Settings(
            transport.url,
            batch_size=batch_size,
            flush_interval=_FLUSH_INTERVAL,
            queue_size=queue_size,
            on_full="block",
            block_timeout=threading.TIMEOUT_MAX,
            shutdown_timeout=_END_SECONDS,
            on_success=self._account.sent,
            on_failure=self._account.failed,
        )
        self._emitter = Emitter(settings, transport)

    def run(self) -> bool:
        """Read and send until the end of the input, or until it is interrupted.

        Returns:
            Whether everything that was an event has been taken.

        Raises:
            ReplayError: The resume point belongs to another input.
        """
        reports, logger = Reports(self._screen.tell), logging.getLogger("snowplow_logging")
        logger.addHandler(reports)
        account, ended = self._account, False
        try:
            self._read_all()
            if self._emitter is not None and account.stopped is None:
                self._emitter.flush(math.inf)
            ended = account.stopped is None
        except KeyboardInterrupt:
            account.stopped = account.stopped or "interrupted"
        finally:
            self._is_over = True
            account.end()
            reports.is_quiet = not ended  # the summary says what is left, and why
            if self._emitter is not None:
                with contextlib.suppress(KeyboardInterrupt):  # once more, by who cannot wait
                    self._emitter.close()
                account.close()
            self._screen.close()
            logger.removeHandler(reports)
        bad = account.counts["refused"] + account.counts["broken"]
        return ended and not bad and not account.open

    @property
    def waits(self) -> float:
        """The seconds for which the collector has answered for none of what it was to be sent."""
        return self._account.waits

    @property
    def is_over(self) -> bool:
        """Whether it reads and waits no more, so that no interrupt is needed for it to end."""
        return self._is_over

    @property
    def has_been_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._has_been_stopped

    def stop(self, reason: str) -> None:
        """Have the run end before its input does, once an interrupt or an answer comes.

        Args:
            reason: Why, as the summary says it.
        """
        self._has_been_stopped = True
        self._account.stopped = self._account.stopped or reason

    @property
    def summary(self) -> str:
        """What has become of the input, in a line or two."""
        account = self._account
        counts = Counter(account.counts)
        sent = "would be sent" if self._emitter is None else "sent"
        lines = [f"events: {counts['sent']:,} {sent}, {counts['refused']:,} refused; "]
        lines[0] += f"lines: {counts['skipped']:,} without an event, {counts['broken']:,} broken"
        if after := account.start.lines:
            lines.append(f"resumed after line {after:,}; the counts are those of the whole input")
        if account.stopped is not None or account.open:
            why = f"not finished, {account.stopped}" if account.stopped else "not finished"
            lines.append(f"{why}; events read and not answered for: {account.open:,}")
        return "\n".join(lines)

    def _read_all(self) -> None:
        account, screen = self._account, self._screen
        show = (lambda read: screen.show(read, account.counts)) if screen.shows else None
        lines = Lines(self._files, self._event_key, account.start, show, goes_on=self._goes_on)
        for line in lines:
            if line.problem is not None:
                self._complain(line, line.problem)
                continue
            try:
                events = events_in(line.text, self._event_key)
            except (ValueError, RecursionError) as error:
                if line.is_cut:
                    # Who writes it is not done; what is after it in the input begins no run.
                    screen.tell(f"{line.where}: not finished yet; it is left for the next run")
                    lines.hold()
                else:
                    self._complain(line, _in_words(error))
                continue
            self._replay(line, events)
            if account.stopped is not None:
                return
        if lines.is_open:
            screen.tell("a line that a container runtime has split is not finished yet")

    def _complain(self, line: Line, problem: str) -> None:
        self._screen.complain("broken", f"{line.where}: {problem}")
        self._account.begin(line.where, line.end, (), {"broken": 1})

    def _replay(self, line: Line, events: Sequence[Any]) -> None:
        payloads, refused = [], 0
        for event in events:
            try:
                payloads.append(self._payloads.payload(event))
            except InvalidEvent as error:
                self._screen.complain("refused", f"{line.where}: {error}")
                refused += 1
        counts = {"refused": refused, "skipped": int(not events)}
        if self._emitter is None:
            counts["sent"] = len(payloads)
            self._account.begin(line.where, line.end, (), counts)
            return
        ids = [payload[EVENT_ID].decode() for payload in payloads]
        self._account.begin(line.where, line.end, ids, counts)
        for payload in payloads:
            self._keep_to_rate()
            self._account.hand_over()
            self._emitter.put(payload)

    def _keep_to_rate(self) -> None:
        if self._rate is not None:
            time.sleep(max(0.0, self._next_put - time.monotonic()))
            # An outage is not made up for afterwards.
            self._next_put = max(self._next_put, time.monotonic()) + 1 / self._rate


def _in_words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return str(error)
