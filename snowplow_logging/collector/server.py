"""The collector as its users hold it: started, asked, closed."""

from __future__ import annotations

import os
import re
import socket
from importlib.util import find_spec
from threading import Condition
from typing import TYPE_CHECKING, Any, Final

from .enrich import judge
from .explain import explain
from .iglu import Registry
from .kept import KEEP, KEEP_BYTES, Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from snowplow_logging.iglu import Location

    from .enrich import CollectorPayload
    from .http_server import Server
    from .kept import Entry

__all__ = ["LocalCollector"]

_LOOPBACK: Final = {
    "127.0.0.1": socket.AF_INET,
    "localhost": socket.AF_INET,
    "::1": socket.AF_INET6,
}
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask for it then
_BACKLOG: Final = 128
_LONGEST_IDLE: Final = 86_400  # seconds
_PATH: Final = re.compile(r"/(?!micro/)[^/<>\s]+/[^/<>\s]+")


class LocalCollector:
    """A Snowplow collector on loopback, with Micro's REST API and its idea of a good event.

    It is a real HTTP server for development and tests, never for production. It keeps the last
    events in memory until `reset`, and shows them as a page at its endpoint. Use it as a context
    manager, or call `start` and `close`::

        with LocalCollector() as collector:
            ...  # send events to collector.endpoint
            assert collector.wait_for(1)
            assert not collector.bad

    All methods may be called from any thread. A forked child can send events to a collector of
    its parent, and `close` does nothing there.

    Args:
        host: The loopback address to listen on: ``127.0.0.1``, ``localhost`` or ``::1``.
        port: The TCP port; 0 takes a free one at each start.
        iglu: Where to find the schemas that the data of events and entities is checked against: a
            folder that holds ``schemas/VENDOR/NAME/FORMAT/VERSION``, an http(s) URL of the same
            layout or of an Iglu Server, or a list of them in their order. The schemas of the events
            that this library knows come with it; with None no other data is checked.
        paths: Paths such as ``/com.acme/track`` to take events at, besides
            ``/com.snowplowanalytics.snowplow/tp2`` and ``/i``.
        iglu_api_key: The key for Iglu Servers, sent in the header ``apikey``.
        on_event: Called with each entry of `good` and `bad` as it arrives, on the thread that
            took the request, while the collector is locked for other threads.
        keep: How many events are kept at most. The oldest ones go first; they stay counted.
        keep_bytes: How many bytes of events are kept at most.
        allow_network: Whether the host may be any address of this machine, such as ``0.0.0.0`` in
            a container. Whoever reaches it sees what arrives, and may `reset` it.
        names: Further names by which it may be asked on a network. Without them Micro's API answers
            to IP addresses, to this machine's name and to names without a dot, as containers have
            them, because a page of another site could give itself any other name.
        idle_seconds: Seconds after which a connection is ended on which no request has come, and
            that a request may take to come.

    Raises:
        ModuleNotFoundError: The extra ``collector`` is not installed.
        ValueError: The host is not loopback and no network is allowed, the port is no port, the
            registry's folder does not exist, a path is not of the form ``/vendor/version``, nothing
            is to be kept, or nothing can be waited for.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        iglu: Location | Sequence[Location] | None = None,
        paths: Iterable[str] = (),
        *,
        iglu_api_key: str | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        keep: int = KEEP,
        keep_bytes: int = KEEP_BYTES,
        allow_network: bool = False,
        names: Iterable[str] = (),
        idle_seconds: float = 60.0,
    ) -> None:
        if host not in _LOOPBACK and not allow_network:
            message = (
                f"host: {host!r} is not loopback; give one of {', '.join(_LOOPBACK)}, or "
                "allow_network=True for an address that others may reach"
            )
            raise ValueError(message)
        if not 0 < idle_seconds <= _LONGEST_IDLE:
            message = f"idle_seconds: {idle_seconds!r} is no time to wait; give up to a day"
            raise ValueError(message)
        if not 0 <= port <= 65_535:
            message = f"port: {port!r} is no TCP port; give 0 to 65535, 0 for a free one"
            raise ValueError(message)
        for name, limit in (("keep", keep), ("keep_bytes", keep_bytes)):
            if limit < 1:
                message = f"{name}: {limit!r} would keep nothing; give 1 or more"
                raise ValueError(message)
        self._paths = tuple(paths)
        for path in self._paths:
            if not _PATH.fullmatch(path):
                message = f"paths: {path!r} cannot be mapped; give '/vendor/version'"
                raise ValueError(message)
        # Here and not in `start`, so that a missing extra is told where the fault is made.
        from .own_names import OwnNames
        from .wsgi import Application

        hosts = OwnNames(names, on_network=host not in _LOOPBACK)
        self._application = Application(self, self._paths, hosts)
        self._idle_seconds = idle_seconds
        self._host = host
        self._wanted_port = port
        checks = iglu is not None or find_spec("jsonschema_rs") is not None
        self._registry = Registry(iglu, iglu_api_key) if checks else None
        self._on_entry: Callable[[Entry], None] | None = (
            None if on_event is None else lambda entry: on_event(entry.as_json())
        )
        self._arrived = Condition()
        self._kept = Kept(keep, keep_bytes)
        self._server: Server | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        """Name the endpoint, and how many events there are."""
        where = self.endpoint if self._server else "closed"
        return f"<{type(self).__name__} {where} {self.counts}>"

    def __enter__(self) -> Self:
        """Start, and return the collector itself."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def start(self) -> None:
        """Listen, and take events on threads of their own. Once started, do nothing.

        Raises:
            OSError: The port is taken (`errno.EADDRINUSE`) or not allowed.
        """
        if self._server:
            return
        from .http_server import Server

        host = "127.0.0.1" if self._host == "localhost" else self._host
        family = _LOOPBACK.get(self._host)
        if family is None:
            family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
            host = str(address[0])
        # Bound here: werkzeug would end the process where the port is taken.
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            if os.name != "nt":  # there it would let two processes share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, self._wanted_port))
            listener.listen(_BACKLOG)
            self._server = Server(
                host,
                listener.getsockname()[1],
                self._application,
                fd=listener.fileno(),
                idle_seconds=self._idle_seconds,
            )
        self._pid = os.getpid()
        self._server.start()

    def close(self) -> None:
        """Stop listening, end open connections and free the port; the events stay.

        A request under way is answered first, if that takes no longer than a second. Closing
        twice, or in a forked child, does nothing.
        """
        server, self._server = self._server, None
        if server and self._pid == os.getpid():
            server.close()

    @property
    def port(self) -> int:
        """The TCP port that the collector listens on.

        Raises:
            RuntimeError: It is not started.
        """
        if not self._server:
            message = "the collector is not started; call start() or use it in a with statement"
            raise RuntimeError(message)
        return self._server.port

    @property
    def is_on_network(self) -> bool:
        """Whether others than this machine may reach it."""
        return self._host not in _LOOPBACK

    @property
    def endpoint(self) -> str:
        """The URL to send events to, such as ``http://127.0.0.1:43123``.

        Raises:
            RuntimeError: The collector is not started.
        """
        host = _EVERYWHERE.get(self._host, self._host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def good(self) -> list[dict[str, Any]]:
        """The good events in the shape of Micro's ``/micro/good``, ordered as they arrived."""
        return [entry.as_json() for entry in self.entries() if entry.good]

    @property
    def bad(self) -> list[dict[str, Any]]:
        """The failed events in the shape of Micro's ``/micro/bad``, ordered as they arrived."""
        return [entry.as_json() for entry in self.entries() if not entry.good]

    @property
    def counts(self) -> dict[str, int]:
        """How many events arrived, as ``{"total": …, "good": …, "bad": …}``."""
        with self._arrived:
            good, bad = self._kept.good, self._kept.bad
        return {"total": good + bad, "good": good, "bad": bad}

    def entries(self) -> list[Entry]:
        """Return what is kept, ordered as it arrived."""
        with self._arrived:
            return self._kept.entries()

    def state(self) -> dict[str, int]:
        """Return what changes with each event, and with each `reset`."""
        with self._arrived:
            kept = self._kept
            return {
                "last": kept.last,
                "resets": kept.cleared,
                "kept": len(kept),
                "good": kept.good,
                "bad": kept.bad,
            }

    def reset(self) -> None:
        """Forget all events."""
        with self._arrived:
            self._kept.clear()

    def wait_for(self, total: int, timeout: float = 10.0) -> bool:
        """Wait until so many events, good and bad together, have arrived.

        Args:
            total: How many there shall be since the start or the last `reset`.
            timeout: The longest wait in seconds.

        Returns:
            True as soon as they are there, False when the time is up.
        """
        kept = self._kept
        with self._arrived:
            return self._arrived.wait_for(lambda: kept.good + kept.bad >= total, timeout)

    def listen(self, on_entry: Callable[[Entry], None]) -> None:
        """Have a function called with each event that arrives, in the place of ``on_event``.

        Args:
            on_entry: Called on the thread that took the request, while the collector is locked.
        """
        self._on_entry = on_entry

    def take(self, payload: CollectorPayload) -> None:
        """Judge a request and keep what became of its events; the HTTP side calls this."""
        verdicts = judge(payload, self._registry)
        with self._arrived:
            added = self._kept.add(payload, verdicts)
            self._arrived.notify_all()
            if self._on_entry:
                for entry in added:
                    self._on_entry(entry)

    def explain(self, number: int) -> dict[str, Any] | None:
        """Return all there is to say of an event that is kept; None where it is not.

        Args:
            number: Its number, in the order of arrival.
        """
        for entry in self.entries():
            if entry.number == number:
                return explain(entry, self._registry, self.endpoint)
        return None

    def find_schema(self, uri: str) -> dict[str, Any]:
        """Return a schema of the registry.

        Args:
            uri: Its Iglu URI.

        Raises:
            LookupError: It is not to be had, or nothing checks schemas.
        """
        if self._registry is None:
            message = f"schema {uri} is not found: the extra 'collector' is not installed"
            raise LookupError(message)
        return self._registry.lookup(uri)
