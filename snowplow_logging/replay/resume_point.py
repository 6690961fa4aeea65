"""How far into its input a replay has come, and the file that the next run goes on from."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from snowplow_logging.endpoint import without_credentials
from snowplow_logging.printable import printable
from snowplow_logging.private_files import open_private, replace_private

__all__ = ["COUNTS", "Point", "ReplayError", "ResumePoint"]

COUNTS: Final = ("sent", "refused", "skipped", "broken")

_VERSION: Final = 1
_LARGEST: Final = 65_536  # bytes; one has some 200
_MOST: Final = 2**63  # of any number in it


class ReplayError(Exception):
    """The replay cannot begin, and why."""


@dataclass(frozen=True)
class Point:
    """How far into its input, all files one after the other, a replay has come.

    Attributes:
        lines: The lines before it.
        size: Their length in bytes.
        crc32: Their checksum, which tells whether an input is the same so far.
    """

    lines: int = 0
    size: int = 0
    crc32: int = 0

    def after(self, line: bytes) -> Point:
        """Return the point after one more line."""
        return self.within(line).ended()

    def within(self, part: bytes) -> Point:
        """Return the point after a part of the next line."""
        return Point(self.lines, self.size + len(part), zlib.crc32(part, self.crc32))

    def ended(self) -> Point:
        """Return the point after the line that it is within."""
        return Point(self.lines + 1, self.size, self.crc32)


class ResumePoint:
    """The file with the point before which nothing is open, and what had become of all up to it.

    It is made for its owner alone, and a link in its place is not followed.

    Args:
        path: Where it is.
        url: Where the events go: to replay to another place is to begin anew.

    Attributes:
        point: Where to begin.
        counts: What has become of the events and lines before that.

    Raises:
        ReplayError: Something else is at the path, or the point is that of another replay.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links
        self._url = url
        self.point, self.counts = Point(), Counter[str]()
        try:
            descriptor = open_private(str(self._path), os.O_RDONLY)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ReplayError(f"the resume point cannot be read: {error}") from None
        with open(descriptor, "rb") as file:  # noqa: PTH123 - it is open
            text = file.read(_LARGEST + 1)
        try:
            self._read(text)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # Not what it holds, which may be anything.
            raise ReplayError(
                f"{path} is no resume point ({type(error).__name__}); give another file"
            ) from None

    def _read(self, text: bytes) -> None:
        if len(text) > _LARGEST:
            raise ValueError("it is too large")
        state = json.loads(text.decode("utf-8-sig"))
        if state["version"] != _VERSION:
            raise ValueError("it is of another version")
        self.point = Point(*(_count(state[field.name]) for field in fields(Point)))
        self.counts = Counter({name: _count(state["counts"][name]) for name in COUNTS})
        url = without_credentials(str(state["url"]))
        if url != self._url:
            shown = printable(url, 200)
            raise ReplayError(
                f"{self._path.name} is the resume point of a replay to {shown}; give another file"
            )

    def save(self, point: Point, counts: Mapping[str, int]) -> None:
        """Write how far the replay has come.

        Raises:
            OSError: It cannot be written; the one before is still there.
        """
        counted = {name: counts.get(name, 0) for name in COUNTS}
        state = {"version": _VERSION, "url": self._url, **asdict(point), "counts": counted}
        replace_private(self._path, f"{json.dumps(state)}\n".encode())


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError("it holds what is no count")
    return value
