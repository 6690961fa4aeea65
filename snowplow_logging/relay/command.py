"""The command ``relay``: its arguments, what it is made of, and how it begins and ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from snowplow_logging.arguments import add_header
from snowplow_logging.streams import fail, write_line
from snowplow_logging.told_to_end import told_to_end

if TYPE_CHECKING:
    from types import FrameType

    from snowplow_logging.relay.run import Relay

__all__ = ["add_relay", "relay_of"]


def add_relay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``relay``, which sends what handlers left for it."""
    parser = commands.add_parser(
        "relay",
        help="send what handlers have left in a store or with a broker",
        description=(
            "Send what handlers with send=False have left in a store, or handlers with a broker "
            "have given to that. An event is removed there once the collector has answered for "
            "it. Several relays share the work. SIGTERM and Ctrl-C end it; nothing is lost."
        ),
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--store", metavar="FILE", help="the store of handlers with send=False")
    source.add_argument(
        "--broker",
        metavar="URL",
        help=(
            "the broker, such as redis://broker.example.com:6379/0 (default: the variable "
            "SNOWPLOW_BROKER)"
        ),
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help="the collector (default: the variable SNOWPLOW_ENDPOINT)"
    )
    parser.add_argument("--path", help="the path on the collector (default: the protocol's own)")
    add_header(parser)
    parser.add_argument(
        "--connections",
        type=int,
        default=1,
        metavar="N",
        help="requests under way at once (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=500,
        metavar="N",
        help="the events that a request carries at most (default: %(default)s)",
    )
    parser.add_argument(
        "--max-retry-delay",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="between two attempts at most (default: %(default)g)",
    )
    parser.add_argument(
        "--dead-letter",
        metavar="FILE",
        help=(
            "keep what the collector refuses there, as JSON lines that replay reads (default: "
            "with a broker a stream of that, named like the other with -dead-letter)"
        ),
    )
    parser.add_argument(
        "--shutdown-timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="that its end may take; what is left stays where it was (default: %(default)g)",
    )
    parser.add_argument(
        "--health",
        metavar="[ADDRESS:]PORT",
        help="answer /health and /metrics there, on loopback if no address is given",
    )
    parser.add_argument(
        "--health-file",
        metavar="FILE",
        help="write the same as /health into a file every five seconds",
    )
    broker = parser.add_argument_group("with a broker")
    broker.add_argument("--stream", default="snowplow", help="(default: %(default)s)")
    broker.add_argument(
        "--group", default="snowplow-relay", help="of consumers (default: %(default)s)"
    )
    broker.add_argument(
        "--claim-after",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help=(
            "after which what a relay had taken is taken over from it, if that does not say that "
            "it lives (default: %(default)g)"
        ),
    )
    parser.set_defaults(run=run_relay)


def run_relay(arguments: argparse.Namespace) -> int:
    """Run a relay until it is told to end.

    Returns:
        The exit status: 0 where it was told to end, 2 where it could not begin.
    """
    from snowplow_logging.relay.health import Health, address_of

    told: SimpleQueue[int] = SimpleQueue()  # a signal handler may put into it at any point

    def stop(number: int, _frame: FrameType | None) -> None:
        told.put(number)

    try:
        where = None if arguments.health is None else address_of(arguments.health)
        paths = [arguments.store, arguments.dead_letter, arguments.health_file]
        *others, health_file = (None if path is None else os.path.realpath(path) for path in paths)
        # Beside a store are files whose names begin with its own.
        for other in filter(None, others):
            if health_file is not None and f"{health_file}-".startswith(f"{other}-"):
                raise ValueError("--health-file is a file of the relay's events, too; give another")
        relay = relay_of(arguments)
        health = Health(relay, where, arguments.health_file)
    except (ImportError, OSError, TypeError, ValueError) as error:
        fail("relay", error)
        return 2
    with told_to_end(stop):
        try:
            if address := health.start():
                _say(f"health at {address}")
            relay.start()
            _say(f"relays from {relay.source} to {relay.url}")
            ended = False
            while not ended:
                with contextlib.suppress(Empty):  # a wait without an end takes no Ctrl-C on Windows
                    ended = told.get(timeout=1.0) > 0
            relay.close()
        finally:
            health.close()
    _say(relay.summary)
    return 0


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # who reads it may be gone, and the work goes on
        write_line(sys.stdout, line)


def relay_of(arguments: argparse.Namespace) -> Relay:
    """Make the relay that the arguments mean; it does not begin yet.

    Raises:
        ImportError: An extra is not installed.
        TypeError: An argument is of the wrong type.
        ValueError: An argument makes no sense.
    """
    from snowplow_logging.given_settings import given_or_variable
    from snowplow_logging.relay.run import Relay
    from snowplow_logging.settings import Settings

    missing = "endpoint is missing; give the collector's URL"
    with given_or_variable("endpoint", arguments.endpoint, missing) as endpoint:
        settings = Settings(
            endpoint,
            path=arguments.path,
            headers=dict(arguments.header),
            store=arguments.store,
            dead_letter=arguments.dead_letter,
            connections=arguments.connections,
            batch_size=arguments.batch_size,
            max_retry_delay=arguments.max_retry_delay,
            shutdown_timeout=arguments.shutdown_timeout,
            flush_interval=0,  # what it finds has waited already
        )
    if arguments.store is not None:
        from snowplow_logging.relay.from_store import FromStore

        return Relay(settings, FromStore(settings))
    from snowplow_logging.relay.from_broker import FromBroker, stream_of

    missing = "there is nothing to relay from; give --store, --broker"
    with given_or_variable("broker", arguments.broker, missing) as broker:
        stream = stream_of(
            broker,
            name=arguments.stream,
            group=arguments.group,
            claim_after=arguments.claim_after,
        )
    return Relay(settings, FromBroker(stream, arguments.dead_letter))
