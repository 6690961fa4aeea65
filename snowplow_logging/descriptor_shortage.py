"""A socket server where the process has no descriptor left: who is idle goes, and nothing spins."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socketserver

    _TCPServer = socketserver.TCPServer
else:
    _TCPServer = object

__all__ = ["DescriptorShortage"]

_SHORTAGE: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_SHORTAGE_SECONDS: Final = 0.2  # between two tries


class DescriptorShortage(_TCPServer):
    """Comes before a server of `socketserver` among the bases of one.

    Attributes:
        idle: The connections on which a request is waited for, as their handlers say.
    """

    idle: set[socket.socket]

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection.

        Where the process has no descriptor left for it, those that nobody uses are ended, and the
        next one is looked for a moment later, not again and again.
        """
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORTAGE:
                for connection in [*self.idle]:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                time.sleep(_SHORTAGE_SECONDS)
            raise
