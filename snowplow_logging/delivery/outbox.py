"""A file in which events are left for others to send, in place of a collector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from snowplow_logging.delivery.limits import FITS_FOR_SURE, excess
from snowplow_logging.delivery.retry import Answer, Outcome
from snowplow_logging.delivery.sqlite_file import SQLiteFile, StoreError
from snowplow_logging.delivery.waiting import Exclusive, clock, new_lock

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["Outbox"]


class Outbox:
    """Writes batches into a store, from which a relay sends them.

    Args:
        settings: Which file, how large it may become, and for whom the events are.
    """

    batch_limit: Final = None
    batch_bytes: Final = None
    overhead: Final = 0
    fits_for_sure: Final = FITS_FOR_SURE

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._adopt()
        self.url = str(self._file.path)

    def _adopt(self) -> None:
        """Make what is this process's own; a forked child leaves its parent's alone."""
        settings = self._settings
        self._file = SQLiteFile(settings.store or "", settings.store_limit, settings.url)
        self._turns = Exclusive(new_lock())
        self._pid = os.getpid()  # last, because a thread that finds it so looks no further

    def after_fork(self) -> None:
        """Use the file anew in a forked child."""
        if self._pid != os.getpid():
            self._adopt()

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over the collector's limit, if it is."""
        return excess(payload)

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Write payloads into the file, all or none."""
        self.after_fork()
        answers: list[Answer] = []
        until = None if at_most is None else clock.now() + at_most
        self._turns.use(lambda: answers.append(self._leave(payloads, until)))
        return answers[0] if answers else Answer(Outcome.RETRY, f"the store {self.url} is in use")

    def _leave(self, payloads: Sequence[bytes], until: float | None) -> Answer:
        file = self._file
        try:
            file.open(until)
            if file.leave(payloads, until):
                return Answer(Outcome.TAKEN)
        except StoreError as error:
            return Answer(Outcome.RETRY, str(error), at_once=True)
        reason = f"the store {self.url} has reached its {file.limit:,} bytes"
        return Answer(Outcome.RETRY, reason, at_once=True)

    def close(self) -> None:
        """Close the file, unless it is being written."""
        if self._pid == os.getpid():
            self._turns.use(self._file.close)
