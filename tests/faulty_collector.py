"""A collector on loopback that answers as it is told: late, wrongly, with a reset or not at all.

It is a raw server on the standard library alone, so that it can misbehave in ways that no web
library allows, and it knows nothing of the code that sends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

__all__ = ["DROP", "RESET", "SILENCE", "Answer", "FaultyCollector", "Request", "nowhere"]


@dataclass(frozen=True)
class Answer:
    """What the collector does with a request.

    Attributes:
        status: The status of the answer.
        headers: Headers besides Content-Length.
        body: Its body.
        after: Seconds to wait before it.
        gate: An event to wait for before it.
        drip: Seconds between its bytes.
        close: Whether to close the connection after it, without having said so.
        reset: Whether to reset the connection instead of answering.
        silent: Whether to leave the connection open and never answer.
        raw: Bytes to send instead of all that.
        endless: Bytes to send again and again after all that, one each 0.05 s.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    after: float = 0.0
    gate: threading.Event | None = None
    drip: float = 0.0
    close: bool = False
    reset: bool = False
    silent: bool = False
    raw: bytes | None = None
    endless: bytes = b""


RESET = Answer(reset=True)
SILENCE = Answer(silent=True)
DROP = Answer(close=True)


@dataclass(frozen=True)
class Request:
    """A request as it came.

    Attributes:
        method: Its method.
        target: Its target, as in the request line.
        headers: Its headers, the names in lower case.
        body: Its body.
        at: The monotonic time at which it was complete.
        connection: The number of its connection, counted from 1.
        answer: What the collector does with it.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    connection: int
    answer: Answer

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @cached_property
    def events(self) -> list[dict[str, str]]:
        """The events that it carries, as the protocol's names and values."""
        if self.method == "GET":
            return [dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))]
        events: list[dict[str, str]] = json.loads(self.body)["data"]
        return events


Told: TypeAlias = int | Answer | Callable[[list[dict[str, str]]], "int | Answer"]
"""A status, an answer, or a function from a request's events to one of them."""


class FaultyCollector:
    """Answers request by request as it is told, and keeps what it got.

    Args:
        *answers: The answers to the first requests, one each.
        default: The answer to those after them; may be changed at any time.

    Attributes:
        answers: The answers to the next requests; may be added to.
        requests: The requests so far, in the order in which they were complete.
        connections: How many connections were ever made.
        most_at_once: The most requests that were under way at the same time.
    """

    def __init__(self, *answers: Told, default: Told = 200) -> None:
        self.answers: deque[Told] = deque(answers)
        self.default = default
        self.requests: list[Request] = []
        self.connections = 0
        self.most_at_once = 0
        self._under_way: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._port = 0
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """What a handler is given to send here."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._sockets)

    @property
    def events(self) -> list[dict[str, str]]:
        """The events of the requests that are answered with 2xx, in the order they came."""
        with self._changed:
            taken = [r for r in self.requests if _takes(r.answer)]
        return [event for request in taken for event in request.events]

    @property
    def ids(self) -> list[str]:
        """Their event ids."""
        return [event["eid"] for event in self.events]

    @property
    def labels(self) -> list[str]:
        """Their labels, sorted. The test has failed where an event came twice."""
        events = self.events
        assert len({event["eid"] for event in events}) == len(events)
        return sorted(event["se_la"] for event in events)

    def wait(self, condition: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until a condition holds, which is looked at after each request and connection.

        Args:
            condition: Called with no arguments.
            timeout: The seconds after which the test has failed.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                taken = len(self.events)
                raise AssertionError(f"got {len(self.requests)} requests, took {taken} events")

    def wait_for_requests(self, count: int, timeout: float = 60.0) -> list[Request]:
        """Wait until so many requests have come, and return all."""
        self.wait(lambda: len(self.requests) >= count, timeout)
        return self.requests

    def wait_for_events(self, count: int, timeout: float = 60.0) -> list[dict[str, str]]:
        """Wait until so many events have been taken, and return all."""
        self.wait(lambda: len(self.events) >= count, timeout)
        return self.events

    def start(self) -> None:
        """Listen, on the same port as before if it has been stopped."""
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = self._listener.getsockname()[1]
        arguments = (self._listener, self._stopping)
        self._thread = threading.Thread(target=self._accept, args=arguments, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on, and reset those that there are."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Reset all connections, as a firewall does that has forgotten them."""
        with self._changed:
            for connection in self._sockets:
                _reset(connection)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it

    def _accept(self, listener: socket.socket, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.connections += 1
                number = self.connections
                self._sockets.add(connection)
                self._changed.notify_all()
            arguments = (connection, number, stopping)
            threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, connection: socket.socket, number: int, stopping: threading.Event) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                going = True
                while going and not stopping.is_set():
                    line = stream.readline()
                    if not line:
                        return
                    going = self._answer(
                        connection, self._read(connection, line, stream, number), stopping
                    )
        except (OSError, ValueError):
            return
        finally:
            with self._changed:
                self._sockets.discard(connection)

    def _read(self, connection: socket.socket, line: bytes, stream: Any, number: int) -> Request:
        method, target, _ = line.decode("ascii").split()
        headers = {}
        while (line := stream.readline()) != b"\r\n":
            if not line:
                raise ConnectionError("the client has given the request up")
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        body = stream.read(length)
        if len(body) < length:
            raise ConnectionError("the client has given the request up")
        with self._changed:
            told = self.answers.popleft() if self.answers else self.default
            if callable(told):
                draft = Request(method, target, headers, body, 0.0, number, Answer())
                told = told(draft.events)
            answer = Answer(told) if isinstance(told, int) else told
            request = Request(method, target, headers, body, time.monotonic(), number, answer)
            self.requests.append(request)
            # This one may have been given up as well, before its thread came to read it.
            all_of_them = {*self._under_way, connection}
            self._under_way = {one for one in all_of_them if not _is_given_up(one)}
            self.most_at_once = max(self.most_at_once, len(self._under_way))
            self._changed.notify_all()
        return request

    def _answer(
        self, connection: socket.socket, request: Request, stopping: threading.Event
    ) -> bool:
        """Answer, and return whether the connection goes on."""
        answer = request.answer
        try:
            if answer.gate is not None:
                answer.gate.wait(60)
            if answer.after:
                stopping.wait(answer.after)
            if answer.silent:
                connection.recv(1)  # until the other end gives up
        finally:
            with self._changed:
                # Before the answer, because who has it may send the next request at once.
                self._under_way.discard(connection)
                self._changed.notify_all()
        if answer.silent:
            return False
        if answer.reset:
            _reset(connection)
            return False
        phrase = HTTPStatus(answer.status).phrase
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        data = f"HTTP/1.1 {answer.status} {phrase}\r\n{head}\r\n".encode("latin-1") + answer.body
        data = data if answer.raw is None else answer.raw
        for piece in [bytes([byte]) for byte in data] if answer.drip else [data]:
            connection.sendall(piece)
            stopping.wait(answer.drip)
        while answer.endless and not stopping.is_set():
            for byte in answer.endless:
                connection.sendall(bytes([byte]))
                stopping.wait(0.05)
        return not answer.close


def _takes(answer: Answer) -> bool:
    answers = not (answer.reset or answer.silent or answer.raw is not None)
    return answers and 200 <= answer.status < 300


def _is_given_up(connection: socket.socket) -> bool:
    """Tell whether the other end has closed a connection whose thread has yet to see it."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, ValueError):  # TLS does not tell
        return False
    except OSError:
        return True


def _reset(connection: socket.socket) -> None:
    """Have the connection reset, not ended, once it is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def nowhere() -> Iterator[str]:
    """Give an endpoint where connections are refused, and see to it that nobody listens there."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"
