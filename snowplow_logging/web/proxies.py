"""Whose address a request has: that of the connection, or what proxies that are trusted say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeAlias

__all__ = ["TrustedProxies", "client_address", "hops_of"]

_Address: TypeAlias = IPv4Address | IPv6Address

UNIX: Final = "unix"
"""What a proxy is called that connects through a Unix socket and so has no address."""

_WITH_PORT: Final = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[\d.]+):\d+")
# A pair of RFC 7239, whose value may be a quoted string, in which commas and semicolons may stand.
# It is tried at one place after the other, never searched for, which would take hours of a header
# that is made for that.
_FORWARDED: Final = re.compile(r"""\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^",;]*)\s*|([,;])""")
_MARK: Final = re.compile("[,;]")


class TrustedProxies:
    """The proxies that are believed when they say for whom they make a request.

    Args:
        proxies: Addresses and networks, such as `10.0.0.0/8`, `192.0.2.1` and `2001:db8::/32`, and
            `unix` for whoever connects through a Unix socket.

    Raises:
        TypeError: It is no list of texts.
        ValueError: One of them is no address and no network.
    """

    def __init__(self, proxies: Iterable[Any]) -> None:
        if isinstance(proxies, (str, bytes)) or not isinstance(proxies, Iterable):
            raise TypeError(f"trusted_proxies is {proxies!r}; give a list of addresses or networks")
        given = [str(proxy) for proxy in proxies]
        self._networks = []
        for index, proxy in enumerate(given):
            if proxy == UNIX:
                continue
            try:
                self._networks.append(ip_network(proxy, strict=False))
            except ValueError:
                raise ValueError(
                    f"trusted_proxies[{index}] is {proxy!r}; give an address or a network, such as "
                    "'10.0.0.0/8', or 'unix'"
                ) from None
        self._trusts_unix = UNIX in given

    def trusts(self, address: _Address | None) -> bool:
        """Tell whether a proxy is trusted; None is one without an address."""
        if address is None:
            return self._trusts_unix
        return any(address in network for network in self._networks)


def client_address(peer: str, hops: Iterable[str], proxies: TrustedProxies) -> str | None:
    """Return the address of the client, or the last one that is known for sure.

    Args:
        peer: The address that the connection comes from; empty where it has none.
        hops: For whom the proxies say they were asked, the nearest proxy's word last.
        proxies: Whose word counts.
    """
    address = _address(peer)
    if address is None and peer:
        return None  # a name that a test client gives, or whatever else
    for hop in reversed([*hops]):
        if not proxies.trusts(address):
            break
        said = _address(hop)
        if said is None:  # what stands there is no address, and was set by who knows whom
            break
        address = said
    return None if address is None else str(address)


def _address(text: str) -> _Address | None:
    """Read an address, which may have a port, brackets or a zone."""
    text = text.strip().strip('"')
    if found := _WITH_PORT.fullmatch(text):
        text = found["v6"] or found["v4"]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket for both versions of IP gives addresses of the fourth this form.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def hops_of(header: str, value: str) -> list[str]:
    """Return the addresses that a header of proxies names, as texts.

    Args:
        header: Its name in lower case: `forwarded`, whose form is that of RFC 7239, or any other,
            which is a list with commas or one address.
        value: Its value, those of several such headers joined with commas.
    """
    if header != "forwarded":
        return value.split(",") if value else []
    hops, hop, place = [], "", 0
    while place < len(value):
        found = _FORWARDED.match(value, place)
        if found is None:
            hop = "?"  # it is broken, up to where the next one may begin
            next_mark = _MARK.search(value, place)
            place = len(value) if next_mark is None else next_mark.start()
            continue
        place = found.end()
        name, quoted, mark = found.groups()
        if mark == ",":
            hops.append(hop)
            hop = ""
        elif name and name.lower() == "for" and hop != "?":
            hop = quoted
    return [*hops, hop]
