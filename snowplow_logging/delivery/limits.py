"""How large one event may be, wherever it goes first: it ends in a request to a collector."""

from __future__ import annotations

from typing import Final

from snowplow_logging.protocol import MAX_BODY_BYTES, PAYLOAD_DATA

__all__ = ["BODY_PREFIX", "BODY_SUFFIX", "FITS_FOR_SURE", "STM_BYTES", "excess", "too_large"]

BODY_PREFIX: Final = b'{"schema":"%s","data":[' % PAYLOAD_DATA.encode()
BODY_SUFFIX: Final = b"]}"
STM_BYTES: Final = len(b',"stm":"0000000000000"},')
"""What the time of sending adds to a payload in the body of a request."""

FITS_FOR_SURE: Final = MAX_BODY_BYTES - len(BODY_PREFIX) - len(BODY_SUFFIX) - STM_BYTES
"""The bytes of a payload that fits alone into the body of a request."""


def excess(payload: bytes) -> str | None:
    """Say how far a payload alone would be over the limit of a request's body, if it is."""
    size = len(payload) + STM_BYTES + len(BODY_PREFIX) + len(BODY_SUFFIX)
    return too_large(size, MAX_BODY_BYTES, "a request body")


def too_large(size: int, limit: int, what: str) -> str | None:
    """Say how far something is over its limit, if it is."""
    return f"takes {size:,} bytes as {what}, of {limit:,}" if size > limit else None
