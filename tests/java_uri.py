"""What `java.net.URI` reads, told independently of the code that sends: by its grammar, as sets.

It is RFC 2396 with the literal IPv6 addresses of RFC 2732, their scope ids, empty authorities
before a path, and characters beyond ASCII, as the class's documentation lists its deviations.
"""

from __future__ import annotations

import ipaddress
import string
import unicodedata
from dataclasses import dataclass

__all__ = ["Uri", "read"]

ALNUM = frozenset(string.ascii_letters + string.digits)
UNRESERVED = ALNUM | frozenset("-_.!~*'()")
PATH = UNRESERVED | frozenset(":@&=+$,;/")
URIC = PATH | frozenset("?[]")
REGISTRY = UNRESERVED | frozenset("$,;:@&=+")
USER_INFO = UNRESERVED | frozenset(";:&=+$,")
HEX = frozenset(string.hexdigits)


@dataclass(frozen=True)
class Uri:
    """The parts of a URI as they stand in it; None where there is none."""

    scheme: str | None
    host: str | None
    path: str | None
    query: str | None
    fragment: str | None


def legal(text: str, ascii_characters: frozenset[str]) -> bool:
    """Tell whether a text has only these characters, whole escapes and what is beyond ASCII."""
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "%":
            if not (at + 2 < len(text) and {*text[at + 1 : at + 3]} <= HEX):
                return False
            at += 2
        elif sign < "\x80":
            if sign not in ascii_characters:
                return False
        elif unicodedata.category(sign) in ("Cc", "Zs", "Zl", "Zp", "Cs"):
            return False
        at += 1
    return True


def host_of(authority: str) -> str | None:
    """Return the host of an authority, or None where it names none that a server could have."""
    user_info, at, rest = authority.partition("@")
    if not at:
        user_info, rest = "", authority
    if rest.startswith("["):
        host, bracket, port = rest.partition("]")
        host += bracket
        is_host = bool(bracket) and is_address(host[1:-1])
    else:
        host, colon, port = rest.partition(":")
        port = colon + port
        is_host = is_name(host.removesuffix(".").split("."))
    is_port = not port or (port[0] == ":" and {*port[1:]} <= {*string.digits})
    if not (is_host and is_port and int(port[1:] or 0) < 2**31 and legal(user_info, USER_INFO)):
        return None
    return host


def is_address(text: str) -> bool:
    """Tell whether a text is an IPv6 address, with the scope id that may follow it."""
    address, percent, scope = text.partition("%")
    if percent and not (scope and {*scope} <= ALNUM | {"_", "."}):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def is_name(labels: list[str]) -> bool:
    """Tell whether labels are those of a host's name or IPv4 address."""
    if not all(
        label and {*label} <= ALNUM | {"-"} and label[0] != "-" != label[-1] for label in labels
    ):
        return False
    is_ipv4 = len(labels) == 4 and all(label.isdecimal() and int(label) < 256 for label in labels)
    return len(labels) == 1 or not labels[-1][0].isdecimal() or is_ipv4


def read(text: str) -> Uri | None:
    """Return the parts of a URI, or None where the text is no URI."""
    before, hash_mark, fragment = text.partition("#")
    colon = min((before.find(sign) for sign in ":/?" if sign in before), default=-1)
    scheme = None
    rest = before
    if colon >= 0 and before[colon] == ":":
        scheme, rest = before[:colon], before[colon + 1 :]
    is_scheme = scheme is None or (
        scheme[:1] in {*string.ascii_letters} and {*scheme} <= ALNUM | {*"+-."}
    )
    if not is_scheme or not legal(fragment, URIC):
        return None
    after = fragment if hash_mark else None
    if scheme is not None and not rest.startswith("/"):
        return Uri(scheme, None, None, None, after) if rest and legal(rest, URIC) else None
    path, question, query = rest.partition("?")
    host = None
    if path.startswith("//"):
        authority, slash, path = path[2:].partition("/")
        path = slash + path
        host = host_of(authority)
        is_empty = not (authority or path or question or hash_mark)
        if is_empty or (host is None and not legal(authority, REGISTRY)):
            return None
    if not legal(path, PATH) or not legal(query, URIC):
        return None
    return Uri(scheme, host, path, query if question else None, after)
