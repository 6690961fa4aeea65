"""What the web examples share: it binds a request to all that is logged while it is served.

Copy it into your project. Each event inside `serving` gets the request's user, IP address and
user agent; `page_view` also has its URL and its referrer.
"""

import ipaddress
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from snowplow_logging import SnowplowAdapter, subject_context

TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("10.0.0.0/8")]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[\w.~-]+)(:\d*)?", re.IGNORECASE | re.ASCII)
_page: ContextVar[dict[str, Any] | None] = ContextVar("page", default=None)
_shop = SnowplowAdapter(logging.getLogger("shop"))


@contextmanager
def serving(
    *, user_id: str | None, peer: str, forwarded_for: str, useragent: str, url: str, referrer: str
) -> Iterator[None]:
    """Bind a request to the events that are logged inside. A header that is absent is empty."""
    page = _page.set({"page_url": as_uri(url), "referrer": as_uri(referrer)})
    client = client_address(peer, forwarded_for)
    try:
        with subject_context(user_id=user_id or "", ip_address=client, useragent=useragent):
            yield
    finally:
        _page.reset(page)


def page_view(page_title: str, **keys: Any) -> None:
    """Log a view of the page that is being served."""
    keys = {**(_page.get() or {}), "page_title": page_title, **keys}
    _shop.page_view(level=logging.INFO, stacklevel=2, **keys)


def client_address(peer: str, forwarded_for: str) -> str:
    """Return the client's address; only trusted proxies are believed when they say for whom."""
    address = peer
    for hop in reversed(forwarded_for.split(",")):
        try:
            if not any(ipaddress.ip_address(address) in network for network in TRUSTED_PROXIES):
                break
            address = str(ipaddress.ip_address(hop.strip()))
        except ValueError:  # what stands there is no address, and was set by who knows whom
            break
    return address


def as_uri(url: str) -> str | None:
    """Return a URL of a header, in HTTP's Latin-1, as text; None where it is none of the web.

    Snowplow takes nearly every URL. What a visitor's browser may send instead, such as a host that
    is none, would cost the whole event.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        return None
    path, query = (
        re.sub("%(?![0-9A-Fa-f]{2})", "%25", quote(part, "/:@!$&'()*+,;=?~%", "latin-1", "replace"))
        for part in (parts.path, parts.query)
    )
    uri = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
    return uri if len(uri) <= 3_000 else None
