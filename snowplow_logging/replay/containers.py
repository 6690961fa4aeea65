r"""Takes away what container runtimes put around a line, and joins what they split.

Docker's `json-file` makes `{"log": "…\n", "stream": "stdout", "time": "…"}` of a line, and several
of these, of about 16 KiB each, of a longer one; all but the last end without a line break. What
Kubernetes' runtimes write (CRI) begins with a time, a stream and F, or P where the line goes on.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

__all__ = ["Unwrapped", "Unwrapping"]

_CRI: Final = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)"
    rb" (stdout|stderr) ([PF])(?::\S*)? "
)
_LEAST_OF_A_PART: Final = 8_192  # bytes; Docker splits at twice that, others leave out the break


class Unwrapped(NamedTuple):
    """What a wrapped line holds.

    Attributes:
        text: The line of the program; None where this was a part of it and others follow.
        is_too_long: Whether all parts together are longer than a line may be.
    """

    text: bytes | None
    is_too_long: bool = False


class Unwrapping:
    """Unwraps lines, and remembers the parts of those that were split, for each stream.

    Args:
        event_key: The key of a line that holds its event; a line with it is no wrapped one.
        longest: The bytes that a line may have.
    """

    def __init__(self, event_key: str, longest: int) -> None:
        self._event_key = event_key
        self._longest = longest
        self._parts: dict[str, bytearray | None] = {}  # None of a line that is too long already

    @property
    def is_open(self) -> bool:
        """Whether the last part of a line has not come."""
        return bool(self._parts)

    def take(self, line: bytes) -> Unwrapped | None:
        """Return what a line holds; None where it is not wrapped."""
        match = _CRI.match(line)
        if match is not None:
            is_part = match[2] == b"P"
            text = line[match.end() :]
            return self._join(match[1].decode(), text.rstrip(b"\n") if is_part else text, is_part)
        if not (line.lstrip().startswith(b"{") and b'"log"' in line):
            return None
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        log = value.get("log")
        if not isinstance(log, str) or self._event_key in value:
            return None
        stream = str(value.get("stream"))
        text = log.encode(errors="surrogatepass")
        is_part = not text.endswith(b"\n") and len(text) >= _LEAST_OF_A_PART
        if is_part and stream not in self._parts and _is_json(text):
            is_part = False  # it is whole, and who wrapped it left the line break out
        return self._join(stream, text, is_part)

    def _join(self, stream: str, text: bytes, is_part: bool) -> Unwrapped:  # noqa: FBT001
        if not is_part and stream not in self._parts:
            return Unwrapped(text)
        before = self._parts.setdefault(stream, bytearray())
        if before is not None:
            before += text
            if len(before) > self._longest:
                self._parts[stream] = before = None
        if is_part:
            return Unwrapped(None)
        del self._parts[stream]
        return Unwrapped(None, is_too_long=True) if before is None else Unwrapped(bytes(before))


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
