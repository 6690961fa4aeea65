"""Reads the URL of a collector or a registry: its credentials leave it, and nothing shows them."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

__all__ = [
    "Endpoint",
    "read_endpoint",
    "split_credentials",
    "without_any_credentials",
    "without_credentials",
]

_AUTHORITY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://|//)?([^/?#]*)")
_CREDENTIALS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*:/{1,2})\S*@")
"""Those of a URL within a text, which as the path of a file may have lost a slash."""
_NOT_IN_CREDENTIALS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_URL: Final = re.compile(r'[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\\<>"]')
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_EXPECTED: Final = "give the collector's URL, such as 'https://collector.example.com'"


class Endpoint(NamedTuple):
    """Where to send to.

    Attributes:
        url: The URL, with its scheme and without credentials. That of a collector has its scheme
            and its host in lower case, and no port that is its scheme's own.
        authorization: The value of the header `Authorization` that the credentials make, if any.
    """

    url: str
    authorization: str | None

    def __repr__(self) -> str:
        """Show the URL alone."""
        return f"<{type(self).__name__} {self.url}>"


def read_endpoint(name: str, value: str) -> Endpoint:
    """Read the URL of a collector; a bare host means https.

    Args:
        name: The setting that it is given as.
        value: The URL. It may have a user and a password, each percent-encoded where need be.

    Raises:
        ValueError: It makes no sense. The message never shows it: it may hold a password, and
            where the URL is broken nobody can say where that begins.
    """
    if re.match(r"https?:(?!//)", value, re.IGNORECASE):
        raise ValueError(f"{name} has no // after its scheme; {_EXPECTED}")
    with_scheme = value if "://" in value.partition("@")[0] else f"https://{value}"
    url = without_credentials(with_scheme)
    if _NOT_IN_URL.search(url) or _NOT_IN_CREDENTIALS.search(value):
        raise ValueError(f"{name} has characters that no URL has; {_EXPECTED}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{name} has a host or a port that is none; {_EXPECTED}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{name} has neither http nor https as its scheme; {_EXPECTED}")
    if not host or port == 0:
        raise ValueError(f"{name} has {'no host' if port != 0 else 'the port 0'}; {_EXPECTED}")
    if any(not 0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
        raise ValueError(f"{name} has a host with an empty or an overlong part; {_EXPECTED}")
    if "@" in parts.path + parts.query + parts.fragment:
        # Of `http://user:pass/word@host` the host would be `user`.
        raise ValueError(
            f"{name} has an @ behind its host; write / ? and # in a password as %2F, %3F and %23"
        )
    if "?" in url or "#" in url:
        raise ValueError(f"{name} has more than a path; {_EXPECTED}, without query and fragment")
    # Spelt in one way, by which a store keeps apart what is for several collectors (RFC 3986,
    # 6.2.2.1 and 6.2.3).
    name_of_host = f"[{host}]" if ":" in host else host
    if parts.netloc.rpartition(":")[0].lower() != name_of_host != parts.netloc.lower():
        raise ValueError(f"{name} has a host or a port that is none; {_EXPECTED}")
    is_default = port in (None, _DEFAULT_PORTS[parts.scheme])
    authority = name_of_host if is_default else f"{name_of_host}:{port}"
    authorization = split_credentials(with_scheme).authorization
    return Endpoint(f"{parts.scheme}://{authority}{parts.path}", authorization)


def split_credentials(url: str) -> Endpoint:
    """Take user and password out of a URL, and make Basic authentication of them (RFC 7617).

    Args:
        url: The URL, of which UTF-8 can hold each character.
    """
    before, user_info, after = _parts(url)
    if not user_info:
        return Endpoint(before + after, None)
    user, _, password = user_info.partition(":")
    pair = b":".join(map(unquote_to_bytes, (user, password)))
    return Endpoint(before + after, f"Basic {b64encode(pair).decode()}")


def without_credentials(url: str) -> str:
    """Return a URL that may be shown, whether it makes sense or not: no user and no password."""
    before, _, after = _parts(url)
    return before + after


def without_any_credentials(text: str) -> str:
    """Return a text that may be shown, whatever URLs are in it: no user and no password."""
    return _CREDENTIALS.sub(r"\1", text)


def _parts(url: str) -> tuple[str, str, str]:
    """Return what is before the credentials of a URL, them, and what is after them."""
    match = _AUTHORITY.match(url)
    scheme, authority = ("", "") if match is None else (match[1] or "", match[2])
    user_info, _, host = authority.rpartition("@")
    return scheme, user_info, host + url[len(scheme) + len(authority) :]
