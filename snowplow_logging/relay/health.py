"""How a relay is, for who watches it: a page and metrics on a port, or a file."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.descriptor_shortage import DescriptorShortage
from snowplow_logging.private_files import replace_private
from snowplow_logging.reporting import report_seldom

if TYPE_CHECKING:
    from snowplow_logging.relay.run import Relay

__all__ = ["Health", "address_of"]

_WRITE_INTERVAL: Final = 5.0  # seconds between two writes of the file
_COUNTERS: Final = {
    "sent": "Events that the collector has taken.",
    "retried": "Events that were sent again, once each time.",
    "failed": "Events given up, which are in the dead letters.",
    "dead_letters_lost": "Events given up that are not in the dead letters.",
}


def address_of(text: str) -> tuple[str, int]:
    """Read an address and a port.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"(?:(?:\[([^\[\]]*)\]|([^\[\]]*?)):)?(\d{1,5})", text)
    if found is None or int(found[3]) > 65_535:
        raise ValueError(f"--health is {text!r}; give a port, or an address and a port")
    return found[1] or found[2] or "127.0.0.1", int(found[3])


class _Server(DescriptorShortage, ThreadingHTTPServer):
    """Listens, and answers each connection on a thread of its own."""

    daemon_threads = True

    def __init__(self, health: Health, address: tuple[str, int]) -> None:
        self.health = health
        self.idle = set()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One connection, which is for one request."""

    server: _Server
    timeout = 5

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self.server.idle.add(self.connection)
        try:
            super().handle_one_request()
        finally:
            self.server.idle.discard(self.connection)

    def parse_request(self) -> bool:
        """Read a request, whose line has come."""
        is_one = super().parse_request()
        self.server.idle.discard(self.connection)
        return is_one

    def do_GET(self) -> None:
        """Answer."""
        self.server.health.answer(self)

    def do_HEAD(self) -> None:
        """Answer as to GET, less the body."""
        self.server.health.answer(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


class Health:
    """Answers `/health` and `/metrics`, and writes a file, until it is closed.

    Args:
        relay: The relay.
        address: Where to listen; None for nowhere. The port 0 takes a free one.
        file: Where to write; None for nowhere.

    Raises:
        OSError: The port cannot be used, or the file not be written.
    """

    def __init__(self, relay: Relay, address: tuple[str, int] | None, file: str | None) -> None:
        self._relay = relay
        self._file = file
        self._writing = threading.Lock()
        self._ended = False
        self._server: _Server | None = None
        if address is not None:
            try:
                self._server = _Server(self, address)
            except OSError as error:
                host, port = address
                raise OSError(f"--health cannot listen at {host}, port {port}: {error}") from None
        try:
            # Who watches the file hears now that it cannot be written, and not by its silence.
            self._write(asks=False)
        except OSError:
            if self._server is not None:
                self._server.server_close()
            raise

    def start(self) -> str | None:
        """Begin to listen and to write; return where is listened."""
        if self._file is not None:
            # Not by who waits for signals: the source may take its time to say what waits there.
            threading.Thread(
                target=self._keep_writing, name="snowplow-relay-health-file", daemon=True
            ).start()
        if self._server is not None:
            threading.Thread(
                target=self._server.serve_forever, name="snowplow-relay-health", daemon=True
            ).start()
            host, port = str(self._server.server_address[0]), self._server.server_address[1]
            return f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
        return None

    def _keep_writing(self) -> None:
        while True:
            self._write_or_report(asks=True)
            time.sleep(_WRITE_INTERVAL)

    def close(self) -> None:
        """End to listen, and write the last counts."""
        with self._writing:
            self._ended = True
        self._write_or_report(asks=False)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _state(self, *, asks: bool = True) -> tuple[bool, dict[str, Any]]:
        """Return whether the source is within reach, and all that there is to say."""
        stats = self._relay.stats
        state: dict[str, Any] = {
            "status": "ok",
            "time": time.time(),
            "source": self._relay.source,
            "endpoint": self._relay.url,
            "taken": stats.queued,
            **{name: getattr(stats, name) for name in _COUNTERS},
            "oldest_taken_seconds": stats.oldest_queued_seconds,
            "last_sent": stats.last_sent,
            "last_error": stats.last_error,
        }
        if not asks:
            return True, state
        try:
            state["waiting"] = self._relay.backlog()
        except Exception as error:  # noqa: BLE001 - whatever the client of a broker raises
            state["status"] = f"the source is out of reach: {error}"
            return False, state
        return True, state

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        if path not in ("/health", "/metrics"):
            request.send_error(404)
            return
        well, state = self._state()
        if path == "/health":
            body, kind = json.dumps(state).encode(), "application/json"
        else:
            body, kind = _metrics(well, state).encode(), "text/plain; version=0.0.4"
        request.send_response(200 if well or path == "/metrics" else 503)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def _write_or_report(self, *, asks: bool) -> None:
        """Write the file; a full disk must not end the relay."""
        try:
            self._write(asks=asks)
        except OSError as error:
            report_seldom("health file", str(error))

    def _write(self, *, asks: bool) -> None:
        """Write the file, whole at once.

        Raises:
            OSError: It cannot be written.
        """
        if self._file is None:
            return
        body = json.dumps(self._state(asks=asks)[1]).encode()
        with self._writing:
            if self._ended and asks:
                return
            try:
                there = Path(self._file)
                if there.exists() and not (there.is_file() or there.is_dir()):
                    raise OSError("it is no regular file, and would be replaced")
                replace_private(self._file, body)
            except OSError as error:
                reason = error.strerror or error
                raise OSError(f"--health-file {self._file} cannot be written: {reason}") from None


def _metrics(well: bool, state: dict[str, Any]) -> str:  # noqa: FBT001
    lines: list[str] = []

    def add(name: str, kind: str, words: str, value: float, labels: str = "") -> None:
        lines.extend(
            (
                f"# HELP snowplow_relay_{name} {words}",
                f"# TYPE snowplow_relay_{name} {kind}",
                f"snowplow_relay_{name}{labels} {value}",
            )
        )

    for name, words in _COUNTERS.items():
        add(f"{name}_total", "counter", words, state[name])
    add("taken", "gauge", "Events taken from the source and not answered for.", state["taken"])
    add("up", "gauge", "Whether the source is within reach.", int(well))
    oldest = state["oldest_taken_seconds"]
    if oldest is not None:
        words = "Seconds since the oldest of those was logged."
        add("oldest_taken_seconds", "gauge", words, oldest)
    if state["last_sent"] is not None:
        words = "When the collector last took events, in seconds since 1970."
        add("last_sent_timestamp_seconds", "gauge", words, state["last_sent"])
    for what, count in state.get("waiting", {}).items():
        add(f"waiting_{what}", "gauge", f"The lag: {what} at the source, those taken too.", count)
    return "\n".join(lines) + "\n"
