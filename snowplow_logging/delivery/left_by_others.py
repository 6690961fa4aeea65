"""What other processes have left in a store: taken over, or told of where nobody sends it."""

from __future__ import annotations

from snowplow_logging.delivery.notices import Reports
from snowplow_logging.delivery.sqlite_file import SQLiteFile
from snowplow_logging.reporting import counted

__all__ = ["LeftByOthers"]


class LeftByOthers:
    """The events in a file of processes that have died or closed it. Used by who has the file.

    Args:
        file: The file.
        reports: Where it is told what nobody sends.

    Attributes:
        have_more: Whether there may be more than was taken over last.
    """

    def __init__(self, file: SQLiteFile, reports: Reports) -> None:
        self._file = file
        self._reports = reports
        self._told_of: set[str] = set()  # destinations
        self.have_more = False

    def take_over(self) -> int:
        """Make some of them this process's own, if they go where its own go; return how many."""
        count = self._file.share.recover()
        self.have_more = count > 0
        return count

    def tell(self) -> None:
        """Report once what is there for a destination to which nobody sends any more."""
        path = self._file.path
        for destination, count in self._file.share.left_for_others(self._told_of).items():
            self._told_of.add(destination)
            self._reports.add(
                f"store for {destination}",
                f"{counted(count, 'event waits', 'events wait')} in {path} for {destination}, to"
                " which no handler with this store sends: one with that endpoint and this store"
                f" does so, or `snowplow-logging replay {path} --endpoint URL` sends copies of all"
                " that is in it to another",
            )
