"""The cookies of Snowplow's JavaScript tracker and collector, which anybody may have written."""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["ids_in_cookies"]

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# domainUserId.createTs.visitCount.nowTs.lastVisitTs, then sessionId from 2.5 of the tracker on, and
# from 3.5 on previousSessionId.firstEventId.firstEventTs.eventIndex. What is not known is empty, or
# was written as such a value of JavaScript's. Times are seconds; the ids of older trackers are 16
# hexadecimal digits.
_ID_COOKIE: Final = re.compile(
    r"(?P<user>[0-9A-Za-z_-]{1,128})\.\d{0,12}\.(?P<visits>\d{1,9})\.(?P<now>\d{1,12})"
    r"\.(?:\d{0,12}|undefined|null)(?:\.(?P<session>[0-9A-Za-z_-]*)(?:\.[0-9A-Za-z_-]*){0,8})?",
    re.ASCII,
)
_MOST_COOKIES: Final = 20  # ID cookies that are looked at


def ids_in_cookies(
    header: str, id_cookie: str = "_sp_", network_cookie: str = "sp"
) -> dict[str, Any]:
    """Return the fields of a subject that the cookies of a request name.

    A cookie that is not as the tracker writes it gives none. Of several ID cookies, as they come
    of trackers for a domain and its subdomains, that of the latest visit counts.

    Args:
        header: The value of the header `Cookie`.
        id_cookie: What the name of the tracker's cookies begins with, its setting `cookieName`.
        network_cookie: The name of the collector's cookie.
    """
    found: dict[str, Any] = {}
    if id_cookie not in header and network_cookie not in header:
        return found
    start = f"{id_cookie}id."
    latest, seen = -1, 0
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        name, value = name.strip(), value.strip().strip('"')
        if name.startswith(start) and seen < _MOST_COOKIES:
            seen += 1
            cookie = _ID_COOKIE.fullmatch(value)
            if cookie is None or int(cookie["now"]) <= latest:
                continue
            latest = int(cookie["now"])
            found.pop("domain_session_id", None)
            found["domain_user_id"] = cookie["user"]
            found["domain_session_index"] = int(cookie["visits"])
            if _UUID.fullmatch(cookie["session"] or ""):
                found["domain_session_id"] = cookie["session"].lower()
        elif name == network_cookie and _UUID.fullmatch(value):
            found.setdefault("network_user_id", value.lower())
    return found
