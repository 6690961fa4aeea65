"""A payload as it waits in memory: what is left of its making is done by the thread that sends it.

That is the base64 of its JSON, which takes as long as a good part of a log call. What was logged is
fixed all the same, for it is written.
"""

from __future__ import annotations

from typing import Final

from snowplow_logging.json_data import base64_json, self_describing
from snowplow_logging.protocol import CONTEXTS, UNSTRUCT_EVENT

__all__ = ["finished", "longest_finished", "longest_unfinished", "unfinished"]

_MARK: Final = b"\0"  # which never stands in JSON
_CONTEXTS: Final = self_describing(CONTEXTS, b"%b")
_UNSTRUCT: Final = self_describing(UNSTRUCT_EVENT, b"%b")
_ADDED: Final = len(_CONTEXTS % b"" + _UNSTRUCT % b"")


unfinished: Final = _MARK.join
"""Joins the parts of a payload, whose JSON waits for its base64.

They are its own parameters with those that it has in common with others, without the closing brace;
the list of its entities as JSON, empty where it has none; and its own self-describing JSON, empty
where it has none.
"""


def longest_finished(size: int, count: int) -> int:
    """Return the bytes that payloads take at most once they are finished.

    Args:
        size: The bytes that they take now.
        count: How many they are.
    """
    # Base64 makes four bytes of three, and there is more before it than its names add to that.
    return (size + count * _ADDED) * 4 // 3


def longest_unfinished(size: int) -> int:
    """Return the bytes of a payload that surely takes no more than so many once it is finished."""
    return size * 3 // 4 - _ADDED


def finished(payload: bytes) -> bytes:
    """Return a payload with its JSON as base64, in `ue_px` and `cx`; a finished one as it is."""
    payload, _, rest = payload.partition(_MARK)
    if rest:
        entities, _, described = rest.partition(_MARK)
        if described:
            payload = b'%b,"ue_px":"%b"' % (payload, base64_json(_UNSTRUCT % described))
        if entities:
            payload = b'%b,"cx":"%b"' % (payload, base64_json(_CONTEXTS % entities))
    return payload
