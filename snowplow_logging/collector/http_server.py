"""The HTTP server below the answers: connections, the limits of a request, and their end."""

from __future__ import annotations

import email.errors
import io
import re
import socket
from contextlib import suppress
from functools import partial
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app

from snowplow_logging.descriptor_shortage import DescriptorShortage

from .http_body import BadBody, TimedReader, monotonic, read_body
from .protocol import HEADERS_LIMIT, REQUEST_LINE_LIMIT

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]

_BLOCK: Final = 65_536
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.05
_NO_HEADER: Final = (
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.InvalidHeaderDefect,
    email.errors.MissingHeaderBodySeparatorDefect,
)
"""What Python says of a line among the headers that is none."""
_SPLIT_BY_PYTHON: Final = re.compile(rb"[\s\x1c-\x1f\x85\xa0]")


class _Handler(WSGIRequestHandler):
    """One connection. Unlike werkzeug's own, it keeps the connection open between requests."""

    server: Server
    raw_requestline: bytes
    protocol_version = "HTTP/1.1"
    # An answer is one write: with the headers sent first, the body would wait for the client's
    # delayed acknowledgement, some 40 ms a request.
    disable_nagle_algorithm = True
    _refused = False

    def setup(self) -> None:
        """Have what the client sends read in a time that has an end."""
        super().setup()
        self._reader = TimedReader(
            self.connection, self.server.idle_seconds, partial(self._is_idle, now=False)
        )
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self._is_idle(now=True)
        self._reader.expect()
        try:
            super().handle_one_request()
        finally:
            self._is_idle(now=False)

    def _is_idle(self, *, now: bool) -> None:
        (self.server.idle.add if now else self.server.idle.discard)(self.connection)

    def parse_request(self) -> bool:
        """Read the request line and the headers, within the collector's limits."""
        method, _, rest = self.raw_requestline.rstrip(b"\r\n").partition(b" ")
        target, _, version = rest.rpartition(b" ")
        line = self.raw_requestline
        raw = _SPLIT_BY_PYTHON.search(target) is not None
        if raw:
            # `http.server` takes every kind of space for the end of the target, and the second
            # byte of a raw 'à' for one. What stands there raw is for Enrich to judge.
            self.raw_requestline = b"%b / %b\r\n" % (method, version)
        # The headers are read before the line is refused, so that the client sees the answer
        # and no reset of a connection with unread data.
        if not super().parse_request():
            return False
        if raw:
            self.raw_requestline = line
            self.path = target.decode("latin-1")
        if any(isinstance(defect, _NO_HEADER) for defect in self.headers.defects):
            # A line that is no header, such as one with a space before its colon. What follows it
            # Python does not read, so that nobody knows how long the body is.
            self.send_error(400)
        elif len(self.raw_requestline.rstrip(b"\r\n")) > REQUEST_LINE_LIMIT:
            self.send_error(414)
        elif sum(len(k) + len(v) + 4 for k, v in self.headers.items()) > HEADERS_LIMIT:
            self.send_error(431)
        return not self._refused

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request and end the connection."""
        self._refused = True
        self.close_connection = True
        super().send_error(code, message, explain)

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        # The bytes of the request line as WSGI has them; werkzeug encodes them once more.
        environ["REQUEST_URI"] = self.path
        try:
            body = read_body(self.rfile, self.headers)
        except BadBody as error:
            self.send_error(error.status)
            return
        if body is None:
            status, body_out = "413 Content Too Large", [b"Request body too large"]
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            headers.append(("Content-Length", str(len(body_out[0]))))
        else:
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            try:
                chunks, status, fields = run_wsgi_app(self.server.app, environ, buffered=True)
            except Exception:
                self.send_error(500)
                raise
            body_out, headers = list(chunks), list(fields.items())
        if self.server.closing:
            self.close_connection = True
        headers.append(("Date", self.date_time_string()))
        headers.append(("Connection", "close" if self.close_connection else "keep-alive"))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.connection.settimeout(self.server.idle_seconds)  # for a client that does not read
        self.wfile.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + b"".join(body_out))

    def finish(self) -> None:
        """End the connection; where it was refused, only once the client has had its answer."""
        if self._refused:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                until = monotonic() + _CLOSE_SECONDS
                while (left := until - monotonic()) > 0:
                    self.connection.settimeout(left)
                    if not self.connection.recv(_BLOCK):
                        break
        super().finish()

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing: the program under test has its own handlers on the root logger."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


class Server(DescriptorShortage, ThreadedWSGIServer):
    """The listening socket, with a daemon thread for each connection.

    Args:
        host: The address that the socket is bound to.
        port: The port that it is bound to.
        app: What answers.
        fd: The file descriptor of a listening socket, which is duplicated.
        idle_seconds: How long a request is waited for on a connection, and how long it may take to
            come.

    Attributes:
        idle: The connections on which a request is waited for.
    """

    def __init__(
        self, host: str, port: int, app: WSGIApplication, *, fd: int, idle_seconds: float
    ) -> None:
        self.closing = False
        self.idle_seconds = idle_seconds
        self.idle: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._ended = Condition()
        super().__init__(host, port, app, _Handler, fd=fd)
        self._thread = Thread(
            target=self.serve_forever,
            args=(_POLL_SECONDS,),
            name=f"LocalCollector:{port}",
            daemon=True,
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection, and serve it."""
        with self._ended:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection, and forget it."""
        super().shutdown_request(request)
        with self._ended:
            self._open.discard(request)
            self._ended.notify_all()

    def server_close(self) -> None:
        """Free the port, even where a forked child holds a copy of the socket."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def start(self) -> None:
        """Accept connections on a daemon thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and free the port, then end all connections, idle ones at once."""
        self.closing = True
        self.shutdown()
        # The port is free only once the thread has ended: `shutdown` returns before that.
        self._thread.join()
        for how in socket.SHUT_RD, socket.SHUT_RDWR:
            with self._ended:
                for connection in self._open:
                    with suppress(OSError):
                        connection.shutdown(how)
                if self._ended.wait_for(lambda: not self._open, _CLOSE_SECONDS):
                    return
