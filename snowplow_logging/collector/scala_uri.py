"""The repair of a URL that `java.net.URI` refuses, as the library scala-uri 1.5 does it.

Enrich's second judge of a URL takes it apart by a looser grammar, decodes the parts and encodes
them again, more than they need. That loses data: ``%2B`` becomes ``+``, half a surrogate pair
(and so each half of an emoji) a question mark, an escape that is no UTF-8 U+FFFD.
"""

from __future__ import annotations

import re
from typing import Final

from .java_text import decode_utf8

__all__ = ["repair"]

_INT_MAX: Final = 2**31 - 1
_END: Final = "\uffff"  # scala-uri's parser takes this character for the end of the text

# Enrich has everything encoded but these.
_KEPT: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+")

_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):")
_URN: Final = re.compile(
    r"urn:(?P<id>[A-Za-z0-9][A-Za-z0-9\-]*[A-Za-z0-9]):"
    r"(?P<rest>[A-Za-z0-9\-._~%!$&'()*+,;=:@][A-Za-z0-9\-._~%!$&'()*+,;=:@/]*)"
)
_USER_INFO: Final = re.compile(r"(?P<user>[^:/?\[\]@]+)(?::(?P<password>[^@]*))?@", re.DOTALL)
_IPV4: Final = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?=[:/?#]|\Z)", re.ASCII)
_IPV6: Final = re.compile(r"\[(?P<address>[0-9A-Fa-f:]+)\]")
_GROUPS: Final = re.compile(r"(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4})*)?")
_DOMAIN: Final = re.compile(r"[^:/?#]+", re.DOTALL)
_PORT: Final = re.compile(r":(\d{1,10})", re.ASCII)
# Integer.parseInt reads a sign and one digit as well, and digits of any alphabet.
_HEX_PAIR: Final = re.compile(r"(?:[+\-]|[\dA-Fa-f])(?![^\x00-\uffff])[\dA-Fa-f]")


def repair(text: str) -> str:
    """Take a URL apart and put it together again with everything encoded.

    Args:
        text: The URL.

    Returns:
        The repaired URL. It is for `java.net.URI` to say whether it is one now.

    Raises:
        ValueError: The text does not fit even the looser grammar.
    """
    text = text.partition(_END)[0]
    urn = _URN.fullmatch(text)
    if urn:
        return f"urn:{urn['id']}:{_recode(urn['rest'])}"
    match = _SCHEME.match(text)
    head = match.group() if match else ""
    authority = ""
    rest = text[len(head) :]
    if rest.startswith("//"):
        parsed = _read_authority(rest[2:])
        if parsed:
            authority, rest = f"//{parsed[0]}", parsed[1]
            if rest and rest[0] not in "/?#":
                message = f"has neither a path nor an end after its host, but {rest!r}"
                raise ValueError(message)
    rest, mark, fragment = rest.partition("#")
    path, _, query = rest.partition("?")
    repaired = head + authority + "/".join(_recode(segment) for segment in path.split("/"))
    if query:
        repaired += "?" + "&".join(_recode_parameter(parameter) for parameter in query.split("&"))
    return f"{repaired}#{_recode(fragment)}" if mark else repaired


def _read_authority(text: str) -> tuple[str, str] | None:
    """Return the authority that a text begins with, encoded, and what follows it."""
    encoded = ""
    user_info = _USER_INFO.match(text)
    if user_info:
        encoded = _recode(user_info["user"])
        if user_info["password"] is not None:
            encoded += f":{_recode(user_info['password'])}"
        encoded += "@"
        text = text[user_info.end() :]
    host = _read_host(text)
    if not host:
        return None
    encoded += host[0]
    text = text[host[1] :]
    port = _PORT.match(text)
    if port:
        if int(port[1]) > _INT_MAX:
            message = f"has a port number that is too large: {port[1]}"
            raise ValueError(message)
        encoded += f":{int(port[1])}"
        text = text[port.end() :]
    return encoded, text


def _read_host(text: str) -> tuple[str, int] | None:
    """Return the host that a text begins with, IP addresses in their usual form, and its end."""
    ipv4 = _IPV4.match(text)
    if ipv4:
        parts = [int(part) for part in ipv4.groups()]
        if max(parts) <= 255:
            return ".".join(map(str, parts)), ipv4.end()
    ipv6 = _IPV6.match(text)
    groups = _read_ipv6(ipv6["address"]) if ipv6 else None
    if ipv6 and groups:
        return _show_ipv6(groups), ipv6.end()
    domain = _DOMAIN.match(text)
    return (domain.group(), domain.end()) if domain else None


def _read_ipv6(address: str) -> list[int] | None:
    before, elided, after = address.partition("::")
    if not (_GROUPS.fullmatch(before) and _GROUPS.fullmatch(after)):
        return None
    first, last = (
        [int(group, 16) for group in part.split(":") if group] for part in (before, after)
    )
    missing = 8 - len(first) - len(last)
    if not elided:
        return first if missing == 0 else None
    if missing < 1:
        message = f"has an IPv6 address of too many parts: {address!r}"
        raise ValueError(message)
    return [*first, *[0] * missing, *last]


def _show_ipv6(groups: list[int]) -> str:
    """Write an IPv6 address with its first longest run of zeros elided."""
    start = length = 0
    for at in range(len(groups)):
        run = 0
        while at + run < len(groups) and groups[at + run] == 0:
            run += 1
        if run > length:
            start, length = at, run
    if length < 2:
        return f"[{':'.join(f'{group:x}' for group in groups)}]"
    before, after = groups[:start], groups[start + length :]
    return f"[{':'.join(f'{g:x}' for g in before)}::{':'.join(f'{g:x}' for g in after)}]"


def _recode_parameter(parameter: str) -> str:
    name, mark, value = parameter.partition("=")
    return f"{_recode(name)}={_recode(value)}" if mark else _recode(name)


def _recode(text: str) -> str:
    """Decode what is percent-encoded, and encode everything but the plainest characters."""
    return "".join(
        chr(byte) if byte in _KEPT else f"%{byte:02X}" for byte in _decode(text).encode()
    )


def _decode(text: str) -> str:
    if "%" not in text and text.isascii():
        return text
    first, *parts = text.split("%")
    decoded = [_encode_units(first)]
    for part in parts:
        byte = _read_escape(part[:2])
        decoded.append(
            b"%" + _encode_units(part) if byte is None else bytes([byte]) + _encode_units(part[2:])
        )
    return decode_utf8(b"".join(decoded))


def _read_escape(pair: str) -> int | None:
    return int(pair, 16) & 0xFF if _HEX_PAIR.fullmatch(pair) else None


def _encode_units(text: str) -> bytes:
    # Each UTF-16 unit is encoded alone, so that half a surrogate pair becomes a question mark.
    return "".join("??" if unit > "\uffff" else unit for unit in text).encode("utf-8", "replace")
