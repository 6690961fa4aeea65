"""The command line, ``snowplow-logging``: one function a command."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

__all__ = ["main"]

MICRO_PORT: Final = 9090
"""The port that Snowplow Micro listens on by default."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; None takes those of the process.

    Returns:
        The exit status: 0 where all went well, 1 where the command says what did not.

    Raises:
        SystemExit: The arguments make no sense (status 2), or ask for help (status 0).
    """
    parser = argparse.ArgumentParser(
        prog="snowplow-logging", description="Snowplow events through Python's logging."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def _add_collector(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``collector``, a local collector for development."""
    parser = commands.add_parser(
        "collector",
        help="run a local collector that says of each event whether Snowplow would take it",
        description=(
            "A local Snowplow collector for development and tests, on loopback, with Snowplow "
            "Micro's REST API. Ctrl-C ends it."
        ),
    )
    parser.add_argument(
        "--port",
        type=int,
        default=MICRO_PORT,
        help="the port to listen on, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--iglu",
        metavar="FOLDER|URL",
        help="an Iglu registry to check events and entities against",
    )
    parser.add_argument("--quiet", action="store_true", help="do not print a line for each event")
    parser.set_defaults(run=_run_collector)


def _run_collector(arguments: argparse.Namespace) -> int:
    from .collector import LocalCollector

    # Signal handlers and request threads only put into the queue; this thread prints.
    arrived: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def stop(_number: int, _frame: FrameType | None) -> None:
        arrived.put(None)

    try:
        collector = LocalCollector(
            port=arguments.port,
            iglu=arguments.iglu,
            on_event=None if arguments.quiet else arrived.put,
        )
        collector.start()
    except (ImportError, ValueError) as error:
        print(f"snowplow-logging collector: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        print(
            f"snowplow-logging collector: port {arguments.port} {reason}; "
            "choose another with --port",
            file=sys.stderr,
        )
        return 1
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(f"Collector: {collector.endpoint}")
        print(f"Counts:    {collector.endpoint}/micro/all")
        print(f"Events:    {collector.endpoint}/micro/good and /micro/bad", flush=True)
        while (event := arrived.get()) is not None:
            for line in _describe(event):
                # What came over the wire must not steer the terminal.
                text = "".join(
                    char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line
                )
                encoding = sys.stdout.encoding or "utf-8"
                print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        collector.close()
    return 0


def _describe(event: dict[str, Any]) -> list[str]:
    """Return the lines for an entry of Micro's good or bad: time, verdict, type, ids."""
    raw = event.get("rawEvent")
    parameters = raw["parameters"] if raw else {}
    context = (raw or event["collectorPayload"])["context"]
    time = context["timestamp"].partition("T")[2]
    if "errors" not in event:
        kind = event["eventType"]
        if kind == "unstruct":
            kind = event["schema"]
        return [
            f"{time} good {kind} {event['event']['event_id']} {event['event']['app_id'] or '-'}"
        ]
    if raw is None:
        return [f"{time} BAD  the whole request", *(f"    {error}" for error in event["errors"])]
    names = (parameters.get(name) or "-" for name in ("e", "eid", "aid"))
    return [f"{time} BAD  {' '.join(names)}", *(f"    {error}" for error in event["errors"])]


_COMMANDS: Final[tuple[Callable[..., None], ...]] = (_add_collector,)
