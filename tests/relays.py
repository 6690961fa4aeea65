"""Relays that the tests start as processes, and where their events come from."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from snowplow_logging import SnowplowHandler, StructuredEvent
from snowplow_logging.relay.command import add_relay, relay_of

__all__ = [
    "SECONDS",
    "LocalRelay",
    "Relay",
    "event_of",
    "eventually",
    "giving",
    "labels",
    "relay",
    "spawned",
    "stream_of",
]

SECONDS: Final = 60
"""For anything that is waited for."""


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
