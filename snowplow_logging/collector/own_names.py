"""The names that the collector may be asked by: to a browser any other is that of another site."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

__all__ = ["OwnNames"]

_LOOPBACK: Final = re.compile(
    r"(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])\.?", re.IGNORECASE
)
_ONE_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.IGNORECASE)
_OF_DOCKER: Final = ("host.docker.internal", "gateway.docker.internal")


class OwnNames:
    """Tells the collector's names from those that another site has pointed at this machine.

    Args:
        names: Names that it has besides.
        on_network: Whether it listens where others reach it, by other names than loopback's.
    """

    def __init__(self, names: Iterable[str], *, on_network: bool) -> None:
        self._on_network = on_network
        own = (*names, *_OF_DOCKER, socket.gethostname(), socket.getfqdn()) if on_network else ()
        self._names = {name.lower() for name in own}

    def has(self, host: str) -> bool:
        """Tell whether a header `Host` names the collector; one that is empty names nobody else."""
        name = re.sub(r":[0-9]*$", "", host).lower()
        if not name or _LOOPBACK.fullmatch(name):
            return True
        if not self._on_network:
            return False
        # Nobody can give a page that he has published an address or a name without a dot.
        return name in self._names or bool(_ONE_LABEL.fullmatch(name)) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True
