"""Dead letters that stay with the broker: a stream, queue or topic beside the one that is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from snowplow_logging.brokers.message import OVERHEAD, message_in, pack

__all__ = ["DeadLetterStream"]


class DeadLetterStream:
    """Keeps events that were given up with a broker, and the reason with them.

    Args:
        path: Where, as it may be shown.
        append: Appends one message: `batch`, or `message` where it is no batch, its body, and the
            reason. It raises `OSError` without a secret.
        most_bytes: The bytes of a batch at most, but for a single event, if there is a limit.
    """

    def __init__(
        self, path: str, append: Callable[[str, bytes, str], None], most_bytes: int | None
    ) -> None:
        self.path = path
        self._append = append
        self._most_bytes = most_bytes or math.inf

    def write(self, events: Sequence[bytes | Mapping[str, Any]], reason: str) -> int:
        """Append events, those that could have been sent in batches, and others one each."""
        batch, size = list[bytes](), 0
        for payload in (event for event in events if isinstance(event, bytes)):
            if batch and size + len(payload) + OVERHEAD > self._most_bytes:
                self._append("batch", pack(batch), reason)
                batch, size = [], 0
            batch.append(payload)
            size += len(payload) + OVERHEAD
        if batch:
            self._append("batch", pack(batch), reason)
        for event in events:
            if not isinstance(event, bytes):
                message = message_in(event)
                self._append(
                    "message", json.dumps(event).encode() if message is None else message, reason
                )
        return 0
