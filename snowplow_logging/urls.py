"""URLs and referrers: mended so that Enrich reads them at once, refused where that cannot be done.

Enrich reads a URL with `java.net.URI`. What that does not read, Enrich mends by decoding and
encoding it again, and loses data. So a URL is mended here, by the grammar of `java.net.URI`
(RFC 2396 with literal IPv6 addresses, and with characters beyond ASCII), which loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from ipaddress import AddressValueError, IPv6Address
from string import ascii_letters, digits
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from snowplow_logging.number_types import is_milliseconds
from snowplow_logging.protocol import (
    Refused,
    as_text,
    kept_text,
    utf16_length,
    without_controls,
)

__all__ = ["page_uri", "referrer_uri"]

# What Enrich takes of each part, in UTF-16 code units.
_MOST: Final = 10_000
_MOST_IN_SCHEME: Final = 16
_MOST_IN_HOST: Final = 255
_MOST_IN_PAGE_PATH: Final = 3_000
_MOST_IN_REFERRER_PATH: Final = 6_000
_MOST_IN_QUERY: Final = 6_000
_MOST_IN_FRAGMENT: Final = 3_000
_MOST_IN_DOMAIN_USER_ID: Final = 128
_MOST_IN_PORT: Final = 2**31 - 1

# What `java.net.URI` takes as it stands, each as the inside of a class of characters.
_UNRESERVED: Final = r"A-Za-z0-9\-_.!~*'()"
# Beyond ASCII: all but control characters, spaces and separators (Unicode's Cc, Zs, Zl, Zp), and
# but lone surrogates, which UTF-8 cannot encode.
_BEYOND_ASCII: Final = (
    r"\xa1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff\u3001-\ud7ff"
    r"\ue000-\U0010ffff"
)
_ESCAPE: Final = "%[0-9A-Fa-f]{2}"


@cache  # and not made beforehand: a program in which no URL has to be mended starts without them
def _illegal(legal: str) -> re.Pattern[str]:
    """Return what finds characters that are not legal, a % without two digits being one."""
    return re.compile(rf"(?:(?!{_ESCAPE})[^{_UNRESERVED}{_BEYOND_ASCII}{legal}])+")


# What is legal in a part besides.
_IN_AUTHORITY: Final = r";:&=+$,@"
_IN_USER_INFO: Final = r";:&=+$,"
_IN_PATH: Final = r";:&=+$,@/"
_IN_FIRST_SEGMENT: Final = r";&=+$,@"
_IN_REST: Final = r";:&=+$,@/?\[\]"

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_ADDRESS: Final = re.compile(r"\[([0-9A-Fa-f:.]*)(?:%[A-Za-z0-9_.]+)?\](?::([0-9]*))?")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
_HOST_NAME: Final = re.compile(rf"({_LABEL}(?:\.{_LABEL})*\.?)(?::([0-9]*))?")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

# The usual URL, of at most `_MOST_USUAL` characters, in which nothing is to be mended and no part
# can be too long. It has no `_sp`, not even one that is spelt in escapes.
_MOST_USUAL: Final = 3_000
_USUAL: Final = r"A-Za-z0-9\-.!~*'();:&=+$,@/"
_USUAL_PATH: Final = rf"[{_USUAL}]*(?:(?:_(?!sp)|%(?!5[Ff]|7[03])[0-9A-Fa-f]{{2}})[{_USUAL}]*)*"
_USUAL_REST: Final = _USUAL_PATH.replace(_USUAL, _USUAL + r"?\[\]")
_USUAL_URL: Final = re.compile(
    r"https?://[A-Za-z0-9][A-Za-z0-9.\-]{0,250}(?::[0-9]{0,9})?"
    rf"(?:/{_USUAL_PATH})?(?:\?{_USUAL_REST})?(?:\#{_USUAL_REST})?"
)
_is_usual: Final = _USUAL_URL.fullmatch

# Most URLs are shorter and plainer still, and for those a whole text can be looked at by two calls
# of C: `bytes.translate` makes a space of what is plain, and there must be nothing else. What is
# plain is legal anywhere after `//` and in any number, so that nothing is to be mended whatever the
# order. A host that is too long does not fit into so few characters.
_LEAST_PLAIN: Final = len("https://h")
_MOST_PLAIN: Final = 255
_PLAIN: Final = (ascii_letters + digits + "-_.!~*'();:&=+$,@/?").encode()
_SPACES: Final = bytes(ord(" " if byte in _PLAIN else "x") for byte in range(256))
_STARTS: Final = ("https://", "http://")


_CheckQuery: TypeAlias = Callable[[str], None]


def _uri(most_in_path: int, check_query: _CheckQuery | None) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        # Nothing of ours is called for the usual URL: this is the way of nearly every log call.
        if type(value) is str:
            if (
                _LEAST_PLAIN <= len(value) <= _MOST_PLAIN
                and value.startswith(_STARTS)
                and "_sp" not in value
                and value.isascii()
                and value.encode().translate(_SPACES).isspace()
            ):
                return value
            if len(value) <= _MOST_USUAL and _is_usual(value):
                return value
        return _mended(value, most_in_path, check_query)

    return check


def _mended(value: object, most_in_path: int, check_query: _CheckQuery | None) -> str:
    text = without_controls(as_text(value))
    if not text:
        return text
    _limit_all(text)  # first, because to mend a million characters takes long
    text = _LONE_SURROGATE.sub(_without_surrogate, text)
    before, mark, fragment = text.partition("#")
    scheme = _SCHEME.match(before)
    start = "" if scheme is None else scheme[0]
    rest = before[len(start) :]
    if (start and not rest) or (rest == "//" and not mark):
        expected = "a URL with something after its scheme, such as 'https://shop.example.com/'"
        raise Refused(f"is {text[:60]!r}, which ends where the URL should begin", expected)
    _limit("scheme", start[:-1], _MOST_IN_SCHEME)
    if start and not rest.startswith("/"):
        # Such as mailto:a@example.com, which has neither path nor query for Enrich.
        url = start + _escaped(_IN_REST, rest)
    else:
        url = start + _mended_hierarchy(rest, most_in_path, check_query, is_relative=not start)
    if mark:
        fragment = _escaped(_IN_REST, fragment)
        _limit("fragment", fragment, _MOST_IN_FRAGMENT)
        url = f"{url}#{fragment}"
    _limit_all(url)
    return url


def _limit_all(url: str) -> None:
    length = utf16_length(url)
    if length > _MOST:
        raise Refused(f"has {length:,} characters", f"at most {_MOST:,}")


def _mended_hierarchy(
    rest: str, most_in_path: int, check_query: _CheckQuery | None, *, is_relative: bool
) -> str:
    """Mend authority, path and query: what stands between scheme and fragment."""
    path, mark, query = rest.partition("?")
    authority = first = ""
    if path.startswith("//"):
        authority, slash, path = path[2:].partition("/")
        authority, path = f"//{_mended_authority(authority)}", slash + path
    elif is_relative:
        # A colon would make a scheme of what stands before it.
        first, slash, path = path.partition("/")
        first, path = _escaped(_IN_FIRST_SEGMENT, first), slash + path
    path = first + _escaped(_IN_PATH, path)
    _limit("path", path, most_in_path)
    if not mark:
        return authority + path
    query = _escaped(_IN_REST, query)
    _limit("query", query, _MOST_IN_QUERY)
    if check_query is not None:
        check_query(query)
    return f"{authority}{path}?{query}"


def _without_surrogate(match: re.Match[str]) -> str:
    # A lone surrogate that stands for a byte, as Python makes them where it decodes file names,
    # becomes the escape of that byte. UTF-8 has nothing for any other.
    code = ord(match[0])
    return f"%{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"


def _escaped(legal: str, part: str) -> str:
    return _illegal(legal).sub(lambda match: quote(match[0], safe=""), part)


def _limit(name: str, part: str, most: int) -> None:
    length = utf16_length(part)
    if length > most:
        problem = f"has a {name} of {length:,} characters"
        if name == "scheme":
            problem = f"has the scheme {part[:60]!r} of {length:,} characters"
        raise Refused(problem, f"a {name} of at most {most:,}")


def _mended_authority(authority: str) -> str:
    """Mend user info, host and port, in which little can be mended."""
    user_info, at, host = authority.rpartition("@")
    # Enrich takes a space in a host, and then finds no host.
    host = host.replace(" ", "%20")
    if host.startswith("["):
        _check_address(host)
        return _escaped(_IN_USER_INFO, user_info) + at + host
    if (illegal := _illegal(_IN_AUTHORITY).search(host)) is not None:
        problem = f"has the host {host[:60]!r}, which holds {illegal[0][0]!r}"
        raise Refused(problem, "a host such as 'shop.example.com'")
    if len(host) > _MOST_IN_HOST and "@" not in user_info:
        name = _HOST_NAME.fullmatch(host)
        # With another port it is no host for Enrich, and has no limit.
        if name is not None and _is_port(name[2]):
            _limit("host", name[1], _MOST_IN_HOST)
    return _escaped(_IN_AUTHORITY, user_info) + at + host


def _check_address(host: str) -> None:
    """Check a literal IPv6 address with what follows it: the only host in brackets there is."""
    match = _ADDRESS.fullmatch(host)
    try:
        good = match is not None and _is_port(match[2]) and bool(IPv6Address(match[1]))
    except AddressValueError:
        good = False
    if not good:
        problem = f"has the host {host[:60]!r}, which is no IPv6 address"
        raise Refused(problem, "a host such as '[2001:db8::1]' or '[2001:db8::1]:8080'")
    _limit("host", host[: host.index("]") + 1], _MOST_IN_HOST)


def _is_port(digits: str | None) -> bool:
    significant = (digits or "").lstrip("0")
    return len(significant) <= 10 and int(significant or 0) <= _MOST_IN_PORT


def _check_link_mark(query: str) -> None:
    """Check the parameter `_sp` of a link across domains, of which Enrich takes the last.

    Its value is `domainUserId.timestamp`, and maybe more after another dot.
    """
    mark = ""
    for parameter in re.split("[&;]", query):
        name, _, value = parameter.partition("=")
        if _decoded(name) == "_sp":
            mark = _decoded(value)
    if not mark:
        return
    user_id, *rest = mark.rstrip(".").split(".")
    expected = "in it 'domainUserId.milliseconds', as Snowplow's trackers mark links, or no _sp"
    problem = f"has the query parameter _sp={mark[:60]!r}"
    if not mark.strip("."):
        raise Refused(f"{problem}, which Enrich cannot read", expected)
    if utf16_length(kept_text(user_id)) > _MOST_IN_DOMAIN_USER_ID:
        raise Refused(f"{problem}, whose first part has over 128 characters", expected)
    if rest and not is_milliseconds(rest[0]):
        raise Refused(f"{problem}, whose second part is no time in milliseconds", expected)


def _decoded(part: str) -> str:
    # Enrich cuts what is beyond ASCII to its lowest byte here: U+015F reads as an underscore.
    octets = part.replace("+", " ").encode("utf-16-le")[::2]
    return unquote_to_bytes(octets).decode(errors="replace")


page_uri: Final = _uri(_MOST_IN_PAGE_PATH, _check_link_mark)
"""Check the URL of a page, and mend it.

Args:
    value: A text, or an object that stands for one. A URL may be relative.

Returns:
    What `java.net.URI` reads; it is empty where nothing but control characters was given.

Raises:
    Refused: Enrich would fail it, and it cannot be mended.
"""

referrer_uri: Final = _uri(_MOST_IN_REFERRER_PATH, None)
"""Check a referrer, and mend it, like `page_uri` but with the limits of a referrer."""
