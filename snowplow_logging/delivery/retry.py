"""What an answer to a request means for its events, and how long to wait after a failure."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urldefrag

from snowplow_logging.endpoint import without_credentials
from snowplow_logging.printable import printable

__all__ = ["Answer", "Outcome", "backoff", "judge"]

_FINAL: Final = frozenset({400, 401, 403, 410, 422})
"""Statuses that the common rule of Snowplow's trackers does not try again."""

_TOO_LARGE: Final = frozenset({413, 414})
"""Statuses that say that the events are too much for one request."""

_TOO_LONG: Final = frozenset({413, 414, 431})
"""Those that do where the event is in the request line."""

_ADVICE: Final = {
    400: "the collector could not read the request",
    401: "the collector, or a proxy before it, wants authentication: use session or headers",
    403: "the collector, or a proxy before it, forbids the request: check endpoint and headers",
    404: "there is no collector at this path: check endpoint and path",
    410: "the collector is gone from this address: check endpoint",
    413: "the collector, or a proxy before it, takes no request as large as this one event",
    414: "the collector, or a proxy before it, takes no URL as long as that of this request",
    422: "the collector could not process the request",
    431: "the collector, or a proxy before it, takes no headers as large as these",
}
"""What a status means here, and what to mend where something can be mended."""

_LONGEST: Final = 200  # characters of what an answer says that are shown

_FIRST_DELAY: Final = 0.5  # seconds; doubled with each failure in a row


class Outcome(Enum):
    """What becomes of the events of a request.

    Attributes:
        TAKEN: The collector has them.
        RETRY: They are sent again later.
        SPLIT: They are too large for one request, and are sent again in two halves.
        REFUSED: They will never be taken, and are given up.
    """

    TAKEN = "taken"
    RETRY = "retry"
    SPLIT = "split"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """What the collector, or the way to it, answered to one request.

    Args:
        outcome: What becomes of the events.
        reason: Why, and what to mend where something is to be mended.
        retry_after: The seconds that the answer asks to wait at least.
        at_once: Whether it is likely to last until the user mends something, and so is to be
            reported with the first failure.
        server_error: Whether the status is 5xx, which one event of the request may have caused.
    """

    outcome: Outcome
    reason: str = ""
    retry_after: float = 0.0
    at_once: bool = False
    server_error: bool = False


def judge(
    status: int,
    *,
    url: str,
    count: int,
    in_url: bool = False,
    phrase: str = "",
    headers: Mapping[str, str] | None = None,
    location: str | None = None,
    body_start: bytes = b"",
    retry_codes: Mapping[int, bool] | None = None,
) -> Answer:
    """Say what an answer means.

    All but 2xx is tried again except 400, 401, 403, 410 and 422, as Snowplow's trackers have it.
    413 and 414 are about the size of a request, and 431 is where the event is in its URL: several
    events are halved, a single one is refused.

    Args:
        status: The status of the answer.
        url: Where the request went, for the reason.
        count: The events in the request.
        in_url: Whether they are in its URL, and not in its body.
        phrase: The words that came with the status.
        headers: The headers of the answer, their names in any case.
        location: Where a redirect leads.
        body_start: The beginning of the body.
        retry_codes: Statuses with whether they are tried again, over the common rule.
    """
    headers = {} if headers is None else headers
    where = f"{url} answered {status} {printable(phrase, _LONGEST)}".rstrip()
    if 200 <= status < 300:
        is_html = "html" in headers.get("Content-Type", "").lower()
        if is_html and body_start.lstrip().startswith(b"<"):
            return Answer(Outcome.RETRY, f"{where} with a web page, which is no collector's")
        return Answer(Outcome.TAKEN)
    retry = (retry_codes or {}).get(status)
    advice = _ADVICE.get(status, "")
    if 300 <= status < 400:
        target = _shown(location) if location else "nowhere"
        advice = f"it redirects to {target}: give the collector's own address as endpoint"
    reason = f"{where}; {advice}" if advice else where
    if retry is None and status in (_TOO_LONG if in_url else _TOO_LARGE):
        return Answer(Outcome.SPLIT, where) if count > 1 else Answer(Outcome.REFUSED, reason)
    if status in _FINAL if retry is None else not retry:
        return Answer(Outcome.REFUSED, reason)
    return Answer(
        Outcome.RETRY,
        reason,
        _retry_after(headers.get("Retry-After")),
        at_once=status == 404 or 300 <= status < 400,
        server_error=500 <= status < 600,
    )


def _shown(location: str) -> str:
    """Return where a redirect leads, without what may be secret: credentials, tokens, events."""
    target = without_credentials(urldefrag(location).url.partition("?")[0])
    return printable(target, _LONGEST)


def backoff(
    failures: int, retry_after: float, longest: float, draw: Callable[[float, float], float]
) -> float:
    """Return the seconds to wait after a failure: exponential with full jitter.

    Args:
        failures: The failures in a row before this one.
        retry_after: The seconds that the answer asks to wait at least.
        longest: The seconds to wait at most, whatever the answer asks for.
        draw: Draws a number between two others, as `random.uniform` does.
    """
    # More than 30 doublings are longer than anybody waits, and at some point no float.
    drawn = draw(0, min(longest, _FIRST_DELAY * 2 ** min(failures, 30)))
    return max(drawn, min(longest, retry_after))


def _retry_after(value: str | None) -> float:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3)."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (OverflowError, TypeError, ValueError):
        return 0.0
