"""A payload as it waits in memory: what is left of its making is done by the thread that sends it.

That is the base64 of its JSON, which takes as long as a good part of a log call. What was logged is
fixed all the same, for it is written.
"""

from __future__ import annotations

from typing import Final

from snowplow_logging.json_data import base64_json
from snowplow_logging.protocol import CONTEXTS, UNSTRUCT_EVENT

__all__ = ["finished", "longest_finished", "longest_unfinished", "unfinished"]

_MARK: Final = b"\0"  # which never stands in JSON
_CONTEXTS_START: Final = b'{"schema":"%b","data":' % CONTEXTS.encode()
_UNSTRUCT_START: Final = b'{"schema":"%b","data":' % UNSTRUCT_EVENT.encode()
_END: Final = b"}"
_ADDED: Final = len(_CONTEXTS_START + _END + _UNSTRUCT_START + _END)


def unfinished(payload: bytes, constant: bytes, entities: bytes, described: bytes) -> bytes:
    """Return a payload with JSON that waits for its base64.

    Args:
        payload: What is its own but for that, without the closing brace.
        constant: What it has in common with others, behind a comma.
        entities: The list of its entities as JSON; empty where it has none.
        described: Its own self-describing JSON; empty where it has none.
    """
    return b"%b%b\0%b\0%b" % (payload, constant, entities, described)


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
            written = base64_json(_UNSTRUCT_START + described + _END)
            payload = b'%b,"ue_px":"%b"' % (payload, written)
        if entities:
            written = base64_json(_CONTEXTS_START + entities + _END)
            payload = b'%b,"cx":"%b"' % (payload, written)
    return payload
