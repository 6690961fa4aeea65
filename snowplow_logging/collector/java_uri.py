"""What `java.net.URI` takes as a URI, and the parts it sees in it.

Enrich runs on the JVM, and its first judge of a URL is this class. It follows RFC 2396, with the
additions of RFC 2732 (IPv6 addresses), and with the deviations that its own documentation names:
an empty path or authority, letters beyond ASCII, and an authority that is any name where it is
not host and port.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["JavaUri", "parse"]

_INT_MAX: Final = 2**31 - 1

# Beyond ASCII all is legal but controls (to U+009F) and Unicode's Zs, Zl and Zp.
_OTHER: Final = r"[^\x00-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_UNRESERVED: Final = r"A-Za-z0-9\-_.!~*'()"


def _run_of(characters: str, *, escapes: bool = True) -> re.Pattern[str]:
    """Return a pattern for as many legal characters as there are, in linear time."""
    escape = "|%[0-9A-Fa-f]{2}" if escapes else ""
    return re.compile(rf"(?:[{_UNRESERVED}{characters}]|{_OTHER}{escape})*")


_URIC: Final = _run_of(r";/?:@&=+$,\[\]")
_PATH: Final = _run_of(":@&=+$,;/")
_USER_INFO: Final = _run_of(";:&=+$,")
_REGISTRY: Final = _run_of("$,;:@&=+")
# What may stand in an authority of host and port; '%' marks the zone of an IPv6 address.
_SERVER: Final = _run_of(r";:&=+$,@\[\]%", escapes=False)

_FIRST_DELIMITER: Final = re.compile(r"[:/?#]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_AUTHORITY_END: Final = re.compile(r"[/?]|\Z")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?")
_ZONE: Final = re.compile(r"[A-Za-z0-9_.]+")
_IPV4: Final = r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+"
_GROUPS: Final = r"[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4})*"
_IPV4_ADDRESS: Final = re.compile(_IPV4)
_IPV6_PART: Final = re.compile(rf"(?P<groups>{_GROUPS})?(?:(?(groups):)(?P<ipv4>{_IPV4}))?")


class JavaUri(NamedTuple):
    """A URI and its parts, raw, as Java's getters return them; None where there is no such part.

    The path of an opaque URI, such as ``mailto:a@b``, is None, and so are its host and query.
    """

    text: str
    scheme: str | None
    host: str | None
    port: int | None
    path: str | None
    query: str | None
    fragment: str | None


def parse(text: str) -> JavaUri:
    """Parse a URI as the constructor of `java.net.URI` does.

    Args:
        text: The URI.

    Returns:
        The URI and its parts.

    Raises:
        ValueError: It is none; the message is the end of a sentence that begins with it.
    """
    scheme = None
    rest = text
    delimiter = _FIRST_DELIMITER.search(text)
    if delimiter and delimiter.group() == ":":
        scheme, rest = text[: delimiter.start()], text[delimiter.end() :]
        if not _SCHEME.fullmatch(scheme):
            message = f"has no scheme before its first colon, but {scheme!r}"
            raise ValueError(message)
    rest, mark, after = rest.partition("#")
    fragment = after if mark else None
    if scheme is not None and not rest.startswith("/"):
        if not rest:
            message = "has nothing after its scheme"
            raise ValueError(message)
        _check(rest, _URIC, "part after the scheme")
        _check(fragment, _URIC, "fragment")
        return JavaUri(text, scheme, None, None, None, None, fragment)

    host = port = None
    if rest.startswith("//"):
        match = _AUTHORITY_END.search(rest, 2)
        end = match.start() if match else len(rest)
        authority, rest = rest[2:end], rest[end:]
        if authority:
            host, port = _parse_authority(authority)
        elif not rest and fragment is None:
            message = "has no host after //"
            raise ValueError(message)
    path, mark, after = rest.partition("?")
    query = after if mark else None
    _check(path, _PATH, "path")
    _check(query, _URIC, "query")
    _check(fragment, _URIC, "fragment")
    return JavaUri(text, scheme, host, port, path, query, fragment)


def _check(part: str | None, legal: re.Pattern[str], what: str) -> None:
    """Raise `ValueError` for the first illegal character of a part."""
    if part is None:
        return
    match = legal.match(part)
    end = match.end() if match else 0
    if end < len(part):
        message = (
            f"has a % in its {what} that begins no escape"
            if part[end] == "%"
            else f"has an illegal character in its {what}: {part[end]!r}"
        )
        raise ValueError(message)


def _parse_authority(authority: str) -> tuple[str | None, int | None]:
    """Return host and port; neither where the authority is a name of some other kind."""
    illegal = None
    try:
        _check(authority, _REGISTRY, "host")
    except ValueError as error:
        illegal = error
        # A broken escape is final, unless a bracket before it makes the '%' that of a zone.
        if "begins no escape" in str(error):
            raise
    if _SERVER.fullmatch(authority):
        try:
            return _parse_server(authority)
        except ValueError:
            if illegal:
                raise
    elif illegal:
        raise illegal
    return None, None


def _parse_server(authority: str) -> tuple[str, int | None]:
    user_info, mark, rest = authority.partition("@")
    if mark:
        _check(user_info, _USER_INFO, "user info")
    else:
        rest = authority
    if rest.startswith("["):
        address, bracket, after = rest[1:].partition("]")
        if not address or not bracket:
            message = "has no closing bracket after its IPv6 address"
            raise ValueError(message)
        _check_ipv6(address)
        host = f"[{address}]"
    else:
        host, colon, port = rest.partition(":")
        after = colon + port
        if not _is_ipv4(host):
            _check_host_name(host)
    if not after or after == ":":
        return host, None
    digits = after[1:]
    if after[0] != ":" or not (digits.isascii() and digits.isdigit()):
        message = f"has no port number after its host, but {after!r}"
        raise ValueError(message)
    if len(digits.lstrip("0")) > len(str(_INT_MAX)) or int(digits) > _INT_MAX:
        message = f"has a port number that is too large: {digits}"
        raise ValueError(message)
    return host, int(digits)


def _check_host_name(host: str) -> None:
    labels = host.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        message = f"has no host name, but {host!r}"
        raise ValueError(message)
    if len(labels) > 1 and labels[-1][0].isdigit():
        message = f"has a host name whose last part begins with a digit: {host!r}"
        raise ValueError(message)


def _is_ipv4(text: str) -> bool:
    # The length keeps int() away from its own limit of digits.
    return bool(_IPV4_ADDRESS.fullmatch(text)) and all(
        len(part.lstrip("0")) <= 3 and int(part) <= 255 for part in text.split(".")
    )


def _check_ipv6(address: str) -> None:
    address, mark, zone = address.partition("%")
    before, elided, after = address.partition("::")
    size = _ipv6_bytes(before, whole=not elided)
    if size is not None and elided:
        more = _ipv6_bytes(after, whole=True)
        # Two colons stand for at least two bytes of zeros.
        size = size + more if more is not None and size + more <= 14 else None
    elif size != 16:
        size = None
    if size is None or (mark and not _ZONE.fullmatch(zone)):
        message = f"has a malformed IPv6 address: {address!r}"
        raise ValueError(message)


def _ipv6_bytes(part: str, *, whole: bool) -> int | None:
    """Return how many bytes a part of an IPv6 address has, None where it is malformed.

    `whole` says that the address ends here, so that an IPv4 address may.
    """
    match = _IPV6_PART.fullmatch(part)
    if not match:
        return None
    groups, ipv4 = match["groups"], match["ipv4"]
    if ipv4 and not (whole and _is_ipv4(ipv4)):
        return None
    return (2 * (groups.count(":") + 1) if groups else 0) + (4 if ipv4 else 0)
