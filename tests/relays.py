"""Relays that the tests start as processes, and where their events come from."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from faulty_collector import FaultyCollector
from programs import PREAMBLE
from snowplow_logging import SnowplowHandler, StructuredEvent
from snowplow_logging.cli import main
from snowplow_logging.relay.command import add_relay, relay_of

__all__ = [
    "SECONDS",
    "WITHOUT_ENDPOINT",
    "LocalRelay",
    "Relay",
    "check_forks",
    "check_kept_whole",
    "check_letters_wait",
    "check_silence",
    "checked",
    "event_of",
    "eventually",
    "giving",
    "labels",
    "relay",
    "spawned",
    "stream_of",
    "unknown",
]

SECONDS: Final = 60
"""For anything that is waited for."""

WITHOUT_ENDPOINT: Final = PREAMBLE.replace('"endpoint": endpoint, ', "") + "ENDPOINTS = [None]\n"
"""What a program begins with whose handlers have no collector."""

_FORKS: Final = """
handler = configure(broker=sys.argv[1], stream=sys.argv[2], flush_interval=0.05)
log("before")
assert handler.flush(30)
for number in range(3):
    if os.fork() == 0:
        log(f"child {{number}}")
        assert handler.flush(30)
        {end}
log("parent")
assert handler.flush(30)
for _ in range(3):
    assert os.wait()[1] == 0
"""


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is so that nobody tells of."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextlib.contextmanager
def giving(broker: Any, **settings: Any):
    """Give a function that logs to a broker, and the handler.

    Args:
        broker: A server, or a URL.
        **settings: Those of the handler.
    """
    url, stream = _place(broker)
    usual = {"stream": stream, "flush_interval": 0.05, "max_retry_delay": 0.2}
    handler = SnowplowHandler(broker=url, **{**usual, **settings})
    logger = logging.Logger("shop")
    logger.addHandler(handler)

    def log(*labels: object) -> bool:
        for label in labels:
            logger.info(StructuredEvent(category="c", action="a", label=str(label)))
        return handler.flush(30)

    try:
        yield log, handler
    finally:
        handler.close()


def unknown(size: int) -> str:
    """Return a message of that many bytes whose version no relay knows yet."""
    message = json.dumps({"version": 2, "events": ["é"], "x": ""}, ensure_ascii=False)
    return f"{message[:-2]}{'x' * (size - len(message.encode()))}{message[-2:]}"


def event_of(label: str) -> dict[str, str]:
    """Return an event for a record's attribute."""
    return {"event": "struct_event", "category": "c", "action": "a", "label": label}


def labels(collector: Any) -> list[str]:
    """Return the labels that have arrived, once for each event id."""
    return sorted({event["eid"]: event["se_la"] for event in collector.events}.values())


def stream_of(request: Any) -> str:
    """Return the name of a stream of the test's own."""
    return "".join(letter for letter in request.node.name if letter.isalnum())


def _place(broker: Any) -> tuple[str, str]:
    return getattr(broker, "url", broker), getattr(broker, "stream", "snowplow")


class Relay:
    """A relay as a process.

    Args:
        *arguments: Those of the command, besides the endpoint.
        endpoint: The collector, or its URL.
    """

    def __init__(self, *arguments: object, endpoint: Any) -> None:
        command = [sys.executable, "-m", "snowplow_logging", "relay", *map(str, arguments)]
        self._process = subprocess.Popen(
            [*command, "--endpoint", getattr(endpoint, "endpoint", endpoint)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started = False
        self.error: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._said = threading.Condition()

    def _read(self) -> None:
        for line in self._process.stderr:
            with self._said:
                self.error.append(line)
                self._said.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._reader.join(SECONDS)
        self._process.stdout.close()
        self._process.stderr.close()

    def line(self) -> str:
        """Return the next line of its output."""
        return self._process.stdout.readline()

    def started(self):
        """Wait until it has begun."""
        if self._started:
            return self
        self._started = True
        while not (line := self.line()).startswith("relays from"):
            assert line, "".join(self.error)
        return self

    def wait_for_error(self, words: str) -> str:
        """Wait until it says something on standard error."""
        with self._said:
            assert self._said.wait_for(lambda: words in "".join(self.error), SECONDS), self.error
        return "".join(self.error)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(SECONDS)

    def end(self, number: int = signal.SIGTERM) -> str:
        """End it as a service is ended, and return what it said."""
        self._process.send_signal(number)
        status = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert status == 0, (status, self.error)
        return self._process.stdout.read()


class LocalRelay:
    """A relay in the process of the tests, which starts far sooner.

    Args:
        *arguments: Those of the command, besides the endpoint.
        endpoint: The collector, or its URL.
    """

    def __init__(self, *arguments: object, endpoint: Any) -> None:
        parser = argparse.ArgumentParser()
        add_relay(parser.add_subparsers())
        words = ["relay", *map(str, arguments)]
        words += ["--endpoint", getattr(endpoint, "endpoint", endpoint)]
        self._relay = relay_of(parser.parse_args(words))

    def __enter__(self):
        self._relay.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._relay.close()

    @property
    def sent(self) -> int:
        """How many events it has sent."""
        return self._relay.stats.sent

    @property
    def failed(self) -> int:
        """How many it has given up."""
        return self._relay.stats.failed

    def end(self) -> str:
        """End it, and return what it would say."""
        self._relay.close()
        return self._relay.summary


def relay(broker: Any, collector: Any, *arguments: object, kind: Any = LocalRelay) -> Any:
    """Return a relay from a server, or the broker of a URL, to a collector."""
    url, stream = _place(broker)
    usual = ("--broker", url, "--stream", stream, "--max-retry-delay", 0.2)
    return kind(*usual, *arguments, endpoint=collector)


def spawned(broker: Any, collector: Any, *arguments: object) -> Relay:
    """Return a relay as a process."""
    return relay(broker, collector, *arguments, kind=Relay)


def checked(folder: Path, capfd: Any, **handler: Any) -> tuple[int, str]:
    """Return the status and the words of `check` for a handler."""
    file = folder / "logging.json"
    handler = {"class": "snowplow_logging.SnowplowHandler", **handler}
    root = {"handlers": ["snowplow"]}
    file.write_text(json.dumps({"version": 1, "handlers": {"snowplow": handler}, "root": root}))
    return main(["check", str(file)]), capfd.readouterr().out


def check_forks(run: Callable[..., Any], broker: Any, end: str = "os._exit(0)") -> None:
    """See that parent and children give what each has logged, and children nothing else.

    Args:
        run: Runs a program.
        broker: A server.
        end: How a child ends.
    """
    program = _FORKS.format(end=end)
    run(program, *_place(broker), preamble=WITHOUT_ENDPOINT, error=None)
    with FaultyCollector() as collector, relay(broker, collector) as one:
        collector.wait_for_events(5)
        assert labels(collector) == ["before", "child 0", "child 1", "child 2", "parent"]
        one.end()


def check_letters_wait(server: Any, folder: Path, count: Callable[[], int]) -> None:
    """See that a relay acknowledges no event that it cannot keep, while others are sent.

    Args:
        server: Where the events are.
        folder: Where there is to be one with the dead letters.
        count: Returns how many messages are not acknowledged.
    """
    place = folder / "missing"
    keeps = ("--batch-size", 1, "--dead-letter", place / "dead.jsonl", "--shutdown-timeout", 0.3)
    with giving(server, batch_size=1) as (log, _):
        log("refused", *range(5))

    def refusals() -> int:
        return sum(request.answer.status == 400 for request in collector.requests)

    def answer(events: list[dict[str, str]]) -> int:
        return 400 if events[0]["se_la"] == "refused" else 200

    with FaultyCollector(default=answer) as collector:
        with relay(server, collector, *keeps) as first:
            collector.wait(lambda: refusals() == 1 and len(labels(collector)) == 5)
            eventually(lambda: first.sent == 5)
            assert "events: 5 sent, 0 given up" in first.end()
        assert count() >= 1
        with relay(server, collector, *keeps) as second:
            collector.wait(lambda: refusals() == 2)
            place.mkdir()
            eventually(lambda: count() == 0)
            assert "1 given up" in second.end()
        assert refusals() == 2
    (letter,) = (place / "dead.jsonl").read_text().splitlines()
    assert json.loads(letter)["snowplow"]["se_la"] == "refused"


def check_kept_whole(server: Any, bodies: Callable[[str], list[bytes]], *messages: Any) -> None:
    """See that messages which cannot be read are kept as they are, and again if they are resent.

    Args:
        server: Where they are to be.
        bodies: Returns what is in a stream.
        *messages: What `server.publish` takes.
    """
    for message in messages:
        server.publish(message)
    with FaultyCollector() as collector:
        for stream in (server.stream, server.letters):
            with relay(server, collector, "--stream", stream) as one:
                eventually(lambda one=one: one.failed == len(messages))
                assert "events: 0 sent" in one.end()
    assert server.count() == 0
    wanted = [one if isinstance(one, bytes) else one.encode() for one in messages]
    assert sorted(bodies(f"{server.letters}-dead-letter")) == sorted(wanted)


def check_silence(start: str) -> None:
    """See that a server which takes connections and says nothing is waited for no longer.

    Args:
        start: The URL up to the server's address.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{start}127.0.0.1:{silent.getsockname()[1]}"
        handler = SnowplowHandler(broker=url, shutdown_timeout=0.5)
        handler.handle(logging.makeLogRecord({"snowplow": event_of("x")}))
        begun = time.monotonic()
        handler.close()
        assert time.monotonic() - begun < 5
        assert handler.stats.losses == {"shutdown_timeout": 1}
