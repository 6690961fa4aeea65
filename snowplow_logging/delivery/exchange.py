"""One request and its answer, at the level of the connection: when it must end, how far it came.

`requests` and urllib3 give a time to each read, so that a server that sends a byte now and then is
waited for without end; they take an interim answer (RFC 9110, 15.2) for the final one; and they
raise where something after the status cannot be read, as if the server had not answered. So the
connections that they make for a collector are of the class in here, which knows the `Exchange` that
its thread is busy with. Where there is none, as for what a user's session does besides, they are
what they always were.
"""

from __future__ import annotations

import datetime  # noqa: F401, ICN001 - for `_datetime`, see below
import http.client
import io
import os
import socket
import ssl
import sys
import threading
import weakref
from functools import cache
from typing import Any, Final

import requests
import urllib3.response

from snowplow_logging.delivery.descriptors import identity_of
from snowplow_logging.delivery.waiting import clock

__all__ = ["Exchange", "exchange_here", "exchanges", "keep_time", "leave_to_parent"]

_held: Final = sys.modules.get("_datetime")
"""Kept because Python 3.13.0 crashes in `requests` where a finaliser logs when this one is gone."""

_RECORD: Final = 16_384  # bytes that TLS sends at a time
_LINE: Final = 65_536  # bytes that `http.client` takes for a line

_GONE: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What a connection raises that the other end has closed."""


class Exchange:
    """What is known of one request while it is under way.

    Args:
        url: How the URLs begin whose answers count.
        seconds: How long it may take in all; None for no limit.
        read: The seconds to wait for each part of the answer at most; None for no limit.

    Attributes:
        process: The id of the process whose request it is.
        ours: Whether the request that is made is one to such a URL.
        begun: Whether a byte of its answer has come.
        status: The status of the answer, once its line is complete, with the words after it.
        is_stale: Whether the request was lost because the server had closed the connection that was
            left open by the one before, and no byte of an answer to this one has come.
    """

    __slots__ = (
        "_deadline",
        "_url",
        "begun",
        "is_stale",
        "ours",
        "process",
        "read",
        "seconds",
        "status",
    )

    def __init__(self, url: str, seconds: float | None, read: float | None) -> None:
        self.seconds = seconds
        self.read = read
        self.process = os.getpid()
        self._deadline = None if seconds is None else clock.now() + seconds
        self.status: tuple[int, str] | None = None
        self.is_stale = False
        self._url = url
        self.ours = False
        self.begun = False

    def is_over(self) -> bool:
        """Tell whether the time is up."""
        return self._deadline is not None and clock.now() >= self._deadline

    def shorten(self, seconds: float) -> None:
        """Leave no more time than that from now on."""
        until = clock.now() + seconds
        self._deadline = until if self._deadline is None else min(self._deadline, until)

    def begin(self, url: str) -> None:
        """Begin with a request, and forget one before it, which may have been for a token."""
        self.ours = url.startswith(self._url)
        self.restart()

    def restart(self) -> None:
        """Forget what was answered so far, for something is sent that will be answered anew."""
        self.status, self.is_stale, self.begun = None, False, False

    def limit(self, connection: Any, longest: float | None) -> None:
        """Give a socket the time that is left.

        Raises:
            TimeoutError: There is none.
        """
        if self._deadline is None:
            return
        left = self._deadline - clock.now()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left if longest is None else min(left, longest))

    def lost(self, *, used: bool) -> None:
        """Note that the other end has closed a connection, and whether it was used before."""
        self.is_stale = self.ours and used and not self.begun


exchanges: Final[dict[int, Exchange]] = {}
"""The exchange that is under way, by thread."""


def exchange_here() -> Exchange | None:
    """Return the exchange that this thread is busy with, if it is.

    A forked child inherits what its parent's threads were busy with, and is not busy with it.
    """
    exchange = exchanges.get(threading.get_ident())
    return None if exchange is None or exchange.process != os.getpid() else exchange


def keep_time(adapter: requests.adapters.HTTPAdapter) -> None:
    """Have the connections that an adapter makes keep the time of the exchange they serve.

    That is done by the adapter's own pools, so that its proxies, certificates and TLS stay as they
    are. Doing it twice changes nothing.
    """
    for name in ("get_connection_with_tls_context", "_get_connection", "get_connection"):
        get = getattr(adapter, name, None)  # which of them there is depends on the version
        if get is not None and not isinstance(vars(adapter).get(name), _Pools):
            setattr(adapter, name, _Pools(get))


class _Pools:
    """Gets the pool of connections for a request, as the method of an adapter that it stands for.

    Args:
        get: That method.
    """

    def __init__(self, get: Any) -> None:
        self._get = get

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        pool = self._get(request, *args, **kwargs)
        exchange = exchange_here()
        if exchange is not None:
            exchange.begin(request if isinstance(request, str) else request.url)
            kind = getattr(pool, "ConnectionCls", object)
            if not issubclass(kind, _Connection) and issubclass(kind, http.client.HTTPConnection):
                pool.ConnectionCls = _kept(kind)
        return pool


def leave_to_parent() -> None:
    """Let go, in a forked child, of the connections that its parent has made.

    Otherwise each closes its descriptor when the garbage collector comes to it, and that may be
    the descriptor of a file which the child has opened since.
    """
    for connection in [*_connections]:
        connection.leave_to_parent()


@cache
def _kept(kind: type[http.client.HTTPConnection]) -> type[http.client.HTTPConnection]:
    """Return a class of connections that is like another and keeps the time."""
    return type(kind.__name__, (_Connection, kind), {})


class _Response(http.client.HTTPResponse):
    """An answer that is read as long as its exchange has time."""

    _exchange: Exchange | None = None

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        exchange = exchange_here()
        source: Any = sock if exchange is None else _Readable(sock, exchange)
        super().__init__(source, *args, **kwargs)

    def begin(self) -> None:
        """Read status and headers.

        Headers that cannot be read, or do not come, are none: the status says what it says.
        """
        # Not in the constructor: a proxy's answer to CONNECT is read without this method, and must
        # not count as the collector's.
        self._exchange = exchange_here()
        try:
            super().begin()
        except Exception:
            if self._exchange is None or self._exchange.status is None:
                raise
            self.code = self.status = self._exchange.status[0]
            self.reason = self._exchange.status[1]
            self.headers = self.msg = http.client.HTTPMessage()
            self.version, self.chunked, self.length, self.will_close = 11, False, 0, True
            if self.fp is not None:
                self._close_conn()  # type: ignore[attr-defined]

    def _read_status(self) -> tuple[str, int, str]:
        read: Any = super()._read_status  # type: ignore[misc]
        version, status, reason = read()
        exchange = self._exchange
        if exchange is not None:
            while 101 < status < 200:  # `http.client` passes over 100 alone
                while self.fp.readline(_LINE).strip():
                    pass
                version, status, reason = read()
            if status > 100 and exchange.ours:
                exchange.status = status, reason.strip()
        return version, status, reason


class _Readable:
    """The end of a socket that `http.client` reads from.

    Args:
        connection: The socket.
        exchange: What it is read for.
    """

    def __init__(self, connection: Any, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self._connection, self._exchange))


class _Raw(io.RawIOBase):
    """Reads from a socket as long as its exchange has time."""

    def __init__(self, connection: Any, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._exchange.limit(self._connection, self._exchange.read)
        count: int | None = self._raw.readinto(buffer)
        if count:
            self._exchange.begun = True
        return count

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


class _Connection(http.client.HTTPConnection):
    """What is put before a class of urllib3's connections, see `_kept`."""

    response_class = _Response
    _used = False
    _maker = 0  # the process that has made the connection
    _identity: tuple[int, int] | None = None

    def connect(self) -> None:
        self._used = False
        super().connect()
        self._maker, self._identity = os.getpid(), identity_of(self.sock.fileno())
        _connections.add(self)

    def leave_to_parent(self) -> None:
        """Let go of the connection in a forked child, unless the child has made it itself."""
        connection: Any = self.sock  # asked for once, for several threads may come here at once
        if connection is None or self._maker == os.getpid():
            return
        self.sock = None
        while not hasattr(connection, "detach"):  # TLS within the TLS of a proxy
            connection = connection.socket
        descriptor = connection.detach()  # for the first of them; -1 for the others
        # A daemon closes all that it inherits, and what has the number since is a file of its own.
        if self._identity is not None and identity_of(descriptor) == self._identity:
            os.close(descriptor)

    def send(self, data: Any) -> None:
        exchange = exchange_here()
        if exchange is None:
            super().send(data)
            return
        if self.sock is None and self.auto_open:
            self.connect()
        exchange.restart()
        try:
            connection = self.sock
            # A plain socket has its time for all of the data, TLS for each record.
            plain = isinstance(connection, socket.socket) and not isinstance(
                connection, ssl.SSLSocket
            )
            step = _RECORD if isinstance(data, bytes) and not plain else None
            if step is None or len(data) <= step:
                exchange.limit(connection, None)
                super().send(data)
                return
            view = memoryview(data)
            for start in range(0, len(view), step):
                exchange.limit(connection, None)
                super().send(view[start : start + step])
        except _GONE:
            exchange.lost(used=self._used)
            raise

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        # urllib3 imports it again for each answer. That fails once the interpreter, which goes
        # down, has let go of its modules, and an event that was sent would count as failed.
        if sys.modules.get("urllib3.response") is None:
            sys.modules["urllib3.response"] = urllib3.response
        exchange = exchange_here()
        try:
            response = super().getresponse(*args, **kwargs)
        except _GONE:
            if exchange is not None:
                exchange.lost(used=self._used)
            raise
        self._used = True
        return response


_connections: Final[weakref.WeakSet[_Connection]] = weakref.WeakSet()
"""All that may be open."""
