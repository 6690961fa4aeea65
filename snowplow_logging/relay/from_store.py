"""A store as the source of a relay."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snowplow_logging.dead_letter import DeadLetterFile
from snowplow_logging.delivery.assembly import Parts, store_queue
from snowplow_logging.delivery.store_file import StoreError, What, look

if TYPE_CHECKING:
    from snowplow_logging.delivery.queue import Queue
    from snowplow_logging.settings import Settings

__all__ = ["FromStore"]

_LOOK_INTERVAL: Final = 0.2  # seconds between two looks for what processes have left


class FromStore:
    """Takes over what handlers with `send=False` leave in a file, and what died processes left.

    Args:
        settings: Which file.

    Raises:
        ValueError: Something else is at its path.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = Path(os.path.abspath(settings.store or ""))  # noqa: PTH100 - no links
        self._letter = settings.dead_letter
        self.shown = str(self._path)
        try:
            look(self.shown)
        except StoreError as error:
            raise ValueError(str(error)) from None
        if not os.path.isdir(self._path.parent):
            raise ValueError(f"the store {self.shown} cannot be made: there is no such directory")

    def make_queue(self, parts: Parts) -> Queue:
        """Make the queue with the file behind it."""
        return store_queue(parts, _LOOK_INTERVAL)

    def dead_letters(self) -> DeadLetterFile | None:
        """Return the file where events are kept that were given up, if there is one."""
        return None if self._letter is None else DeadLetterFile(self._letter)

    def backlog(self) -> dict[str, float]:
        """Return how many events are in the file, those that were taken included."""
        if look(self.shown) is not What.STORE:
            return {"events": 0}
        connection = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=1)
        with contextlib.closing(connection):
            (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
        return {"events": float(count)}
