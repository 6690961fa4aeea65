"""A collector that speaks TLS, and no faster than it is told."""

from __future__ import annotations

import contextlib
import socket
import ssl

from faulty_collector import FaultyCollector

__all__ = ["SecureCollector"]


class SecureCollector(FaultyCollector):
    """One that speaks TLS.

    Args:
        certificate: The file of its certificate.
        hears: Seconds between the pieces of a body that it reads; None to read at once.
    """

    def __init__(self, certificate, hears=None):
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate)
        self.hears = hears
        super().__init__()

    @property
    def endpoint(self):
        """What a handler is given to send here."""
        return super().endpoint.replace("http:", "https:")

    def start(self):
        """Listen, with little room for what is not read yet."""
        super().start()
        if self.hears is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def _serve(self, connection, number, stopping):
        with (
            contextlib.suppress(OSError),
            connection,
            self.context.wrap_socket(connection, server_side=True) as secure,
        ):
            while self.hears is not None and not stopping.wait(self.hears):
                secure.recv(1_024)
            super()._serve(secure, number, stopping)
