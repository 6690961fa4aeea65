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


def _parameter(name: str, schema: str) -> tuple[bytes, bytes]:
    """Return the start of a parameter up to the middle of its base64, and what is left of its JSON.

    Three bytes of JSON make four of base64, whatever follows. So what stands before the data in
    every event is written once, but for what would share four with the data.
    """
    before = self_describing(schema, b"")[:-1]
    whole = len(before) // 3 * 3
    return f',"{name}":"'.encode() + base64_json(before[:whole]), before[whole:]


_CX, _BEFORE_ENTITIES = _parameter("cx", CONTEXTS)
_UE_PX, _BEFORE_DESCRIBED = _parameter("ue_px", UNSTRUCT_EVENT)
_ADDED: Final = len(self_describing(CONTEXTS, b"") + self_describing(UNSTRUCT_EVENT, b""))


unfinished: Final = _MARK.join
"""Joins the four parts of a payload, whose JSON waits for its base64.

They are a JSON object of its own parameters; those that it has in common with others, as JSON
behind a comma; the list of its entities as JSON, empty where it has none; and its own
self-describing JSON, empty where it has none.
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
    own, _, rest = payload.partition(_MARK)
    if not rest:
        return payload
    common, _, rest = rest.partition(_MARK)
    entities, _, described = rest.partition(_MARK)
    parts = [own[:-1], common]
    if described:
        parts += _UE_PX, base64_json(_BEFORE_DESCRIBED + described + b"}"), b'"'
    if entities:
        parts += _CX, base64_json(_BEFORE_ENTITIES + entities + b"}"), b'"'
    return b"".join(parts)
