"""The command line, ``snowplow-logging``: one function a command."""

from __future__ import annotations

import argparse
import errno
import math
import os
import signal
import sys
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ._version import __version__
from .arguments import Arguments, add_header
from .colour import GREEN, RED, YELLOW
from .relay.command import add_relay
from .streams import fail, flushed, write_line
from .told_to_end import told_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from .schema_check import SchemaCheck

__all__ = ["main", "parser"]

_CLOSED_PIPE: Final = 141
"""The exit status where nobody reads on, as a shell has it for a process that SIGPIPE ends."""

_INTERRUPTED: Final = 128  # plus the number of the signal, as a shell has it

MICRO_PORT: Final = 9090
"""The port that Snowplow Micro listens on by default."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; None takes those of the process.

    Returns:
        The exit status: 0 where all went well, 1 where the command says what did not, 2 where
        the arguments make no sense, or a collector is out of reach.

    Raises:
        SystemExit: The arguments make no sense (status 2), or ask for help (status 0).
    """
    # Python has no stream where the descriptor is closed, as some daemons start their programs.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    status = 0
    try:
        status = _run(argv)
    except KeyboardInterrupt:
        status = _INTERRUPTED + signal.SIGINT
    except BrokenPipeError:
        status = _CLOSED_PIPE
    except SystemExit:  # argparse has said what it had to say
        if all([flushed(sys.stdout), flushed(sys.stderr)]):
            raise
        return _CLOSED_PIPE
    return status if all([flushed(sys.stdout), flushed(sys.stderr)]) else _CLOSED_PIPE


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def parser() -> argparse.ArgumentParser:
    """Return what reads the arguments of all commands."""
    made = Arguments(
        prog="snowplow-logging", description="Snowplow events through Python's logging."
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return made


def _add_collector(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``collector``, a local collector for development."""
    parser = commands.add_parser(
        "collector",
        help="run a local collector that says of each event whether Snowplow would take it",
        description=(
            "A local Snowplow collector for development and tests, on loopback, with Snowplow "
            "Micro's REST API, and a page that shows what arrives. Ctrl-C ends it. The variables "
            "MICRO_IGLU_REGISTRY_URL and MICRO_IGLU_API_KEY name one more registry and the key."
        ),
    )
    parser.add_argument(
        "--port",
        type=int,
        default=MICRO_PORT,
        help="the port to listen on, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help=(
            "the address to listen on, such as 0.0.0.0 in a container; whoever reaches it sees "
            "what arrives (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name with dots that it may be asked by on a network; may be repeated",
    )
    _add_iglu(parser)
    parser.add_argument(
        "--keep",
        type=partial(_number, int),
        metavar="N",
        help="how many events are kept at most (default: 100000)",
    )
    parser.add_argument(
        "--keep-bytes",
        type=partial(_number, int),
        metavar="N",
        help="how many bytes of events are kept at most (default: 536870912)",
    )
    parser.add_argument("--quiet", action="store_true", help="do not print a line for each event")
    forms = parser.add_mutually_exclusive_group()
    for form, text in (
        ("log-json", "print a JSON object for each event in the place of a line"),
        ("output-json", "print each good event on standard output, enriched, as JSON"),
        ("output-tsv", "print each good event on standard output, enriched, as TSV"),
    ):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=text)
    parser.set_defaults(run=_run_collector, form="lines")


def _add_iglu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--iglu",
        action="append",
        metavar="FOLDER|URL",
        help=(
            "an Iglu registry with the schemas that self-describing data and entities are checked "
            "against; several are asked in their order"
        ),
    )
    parser.add_argument("--iglu-api-key", metavar="KEY", help="the key for Iglu Servers")


def _run_collector(arguments: argparse.Namespace) -> int:
    from .collector import LocalCollector
    from .collector.kept import KEEP, KEEP_BYTES, Entry
    from .collector.terminal import Terminal

    # Signal handlers and request threads only put into the queue; this thread prints.
    arrived: SimpleQueue[Entry | None] = SimpleQueue()

    def stop(_number: int, _frame: FrameType | None) -> None:
        arrived.put(None)

    terminal = Terminal(arguments.form, quiet=arguments.quiet)
    registry = os.environ.get("MICRO_IGLU_REGISTRY_URL")
    try:
        collector = LocalCollector(
            arguments.host,
            port=arguments.port,
            allow_network=True,
            names=arguments.name,
            iglu=[*(arguments.iglu or ()), *([registry] if registry else ())] or None,
            iglu_api_key=arguments.iglu_api_key or os.environ.get("MICRO_IGLU_API_KEY") or None,
            keep=arguments.keep or KEEP,
            keep_bytes=arguments.keep_bytes or KEEP_BYTES,
        )
        if not arguments.quiet or arguments.form.startswith("output-"):
            collector.listen(arrived.put)
        collector.start()
    except (ImportError, ValueError) as error:
        fail("collector", error)
        return 1
    except OSError as error:
        reason = f"cannot be used on {arguments.host}: {error}"
        if error.errno == errno.EADDRINUSE:
            reason = "is in use"
        fail("collector", f"port {arguments.port} {reason}; choose another with --port")
        return 1
    try:
        with told_to_end(stop):
            terminal.greet(collector.endpoint)
            if collector.is_on_network:
                print(
                    f"It is open to the network: whoever reaches port {collector.port} of "
                    f"{arguments.host} sees the events that arrive, and may remove them.",
                    file=sys.stderr,
                    flush=True,
                )
            while (entry := arrived.get()) is not None:
                terminal.show(entry)
    finally:
        collector.close()
    return 0


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``replay``, which sends logged events again."""
    parser = commands.add_parser(
        "replay",
        help="send the events of log files and dead-letter files again",
        description=(
            "Send the events of lines that SnowplowJsonFormatter wrote, and of dead-letter files, "
            "as they were first meant to be sent: an event that had arrived after all is an exact "
            "duplicate. Lines without an event are skipped."
        ),
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a file, gzipped or not, or a store that was set aside; - for standard input",
    )
    _add_endpoint(parser)
    _add_request(parser)
    parser.add_argument(
        "--batch-size",
        type=partial(_number, int),
        default=500,
        metavar="N",
        help="the events that a request carries at most (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=partial(_number, float),
        metavar="N",
        help="the events a second at most",
    )
    parser.add_argument(
        "--give-up",
        type=partial(_number, float),
        metavar="SECONDS",
        help="end, with status 1, once no event has been taken or refused for so long",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep there how far the replay has come, and go on from there if it was stopped",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything and send nothing")
    parser.add_argument(
        "--event-key",
        default="snowplow",
        metavar="KEY",
        help="the key of a line that holds its event (default: %(default)s)",
    )
    parser.add_argument(
        "--true-timestamp",
        action="store_true",
        help="give events without a true timestamp the time of their log call",
    )
    _add_iglu(parser)
    logged = parser.add_argument_group(
        "for lines of SnowplowJsonFormatter",
        "What the handler would have added; dead letters have it.",
    )
    logged.add_argument("--namespace", default="snowplow_logging", help="(default: %(default)s)")
    logged.add_argument("--app-id")
    logged.add_argument("--platform", default="srv", help="(default: %(default)s)")
    logged.add_argument(
        "--no-base64", action="store_true", help="send self-describing data and entities as JSON"
    )
    parser.set_defaults(run=_run_replay)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint", metavar="URL", help="the collector (default: the variable SNOWPLOW_ENDPOINT)"
    )


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method", choices=("post", "get"), default="post", help="(default: %(default)s)"
    )
    parser.add_argument("--path", help="the path on the collector (default: the protocol's own)")
    add_header(parser)


def _number(kind: Callable[[str], float], text: str) -> float:
    try:
        value = kind(text)
    except ValueError:  # whose words would show the text
        value = math.nan
    if not 0 < value < math.inf:
        wanted = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"give {wanted} more than 0")
    return value


def _run_replay(arguments: argparse.Namespace) -> int:
    from .delivery.transport import Transport
    from .given_settings import given_or_variable
    from .payload import PayloadEncoder
    from .replay import Replay, ReplayError, Screen, giving_up
    from .settings import Settings

    def encoder(tracker: str) -> PayloadEncoder:
        return PayloadEncoder(
            namespace=arguments.namespace,
            app_id=arguments.app_id,
            platform=arguments.platform,
            subject=None,
            context=None,
            encode_base64=not arguments.no_base64,
            report=screen.tell,
            tracker=tracker,
        )

    paths = [Path(file) for file in arguments.files if file != "-"]
    known = len(paths) == len(arguments.files)
    screen = Screen(sum(p.stat().st_size for p in paths if os.path.exists(p)) if known else None)
    missing = "endpoint is missing; give the collector's URL"
    try:
        with given_or_variable("endpoint", arguments.endpoint, missing) as endpoint:
            settings = Settings(
                endpoint,
                method=arguments.method,
                path=arguments.path,
                headers=dict(arguments.header),
                # A wrong address is for who waits for the command to mend, so it ends there.
                retry_codes=dict.fromkeys((301, 302, 303, 307, 308, 404), False),
            )
        replay = Replay(
            arguments.files,
            transport=Transport(settings),
            encoder=encoder,
            event_key=arguments.event_key,
            true_timestamp=arguments.true_timestamp,
            rate=arguments.rate,
            resume=arguments.resume,
            batch_size=arguments.batch_size,
            dry_run=arguments.dry_run,
            screen=screen,
            schemas=_schemas(arguments, screen.tell),
        )
    except (ReplayError, ImportError, ValueError) as error:
        screen.close()
        fail("replay", error)
        return 2
    caught: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    try:
        with told_to_end(stop), giving_up(replay, arguments.give_up):
            all_taken = replay.run()
    except ReplayError as error:
        fail("replay", error)
        return 2
    print(replay.summary)
    if screen.is_closed:
        return _CLOSED_PIPE
    if caught and not replay.has_been_stopped:
        return _INTERRUPTED + caught[0]
    return 0 if all_taken else 1


def _schemas(arguments: argparse.Namespace, tell: Callable[[str], None]) -> SchemaCheck | None:
    if not arguments.iglu:
        return None
    from .iglu import Iglu
    from .schema_check import SchemaCheck

    return SchemaCheck(Iglu(arguments.iglu, arguments.iglu_api_key, report=tell).find)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``check``, which tries a logging configuration."""
    parser = commands.add_parser(
        "check",
        help="say what is wrong with a logging configuration, and send a test event",
        description=(
            "Say what is wrong with a configuration for dictConfig and where, send a test event "
            "(a struct_event, category snowplow-logging, action check) through each Snowplow "
            "handler in it, and say what its settings mean. The exit status is 0 where all is "
            "well, 1 for a bad configuration, 2 for a collector that is out of reach or refuses."
        ),
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a file of YAML, JSON or TOML, or package.module:NAME"
    )
    parser.add_argument("--no-send", action="store_true", help="send no test event")
    parser.add_argument(
        "--no-import",
        action="store_true",
        help="import and run nothing that the configuration names, and pass over what needs that",
    )
    parser.set_defaults(run=_run_check)


def _run_check(arguments: argparse.Namespace) -> int:
    from .check import check

    colours = {"good": GREEN, "bad": RED, "error": RED, "warning": YELLOW}

    def tell(line: str) -> None:
        write_line(sys.stdout, line, colours.get(line.strip().partition(":")[0]))

    def announce(line: str) -> None:
        write_line(sys.stderr, f"snowplow-logging check: {line}")

    return check(
        arguments.config,
        tell,
        send=not arguments.no_send,
        imports=not arguments.no_import,
        announce=announce,
    )


def _add_send(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``send``, which sends one event."""
    parser = commands.add_parser(
        "send",
        help="send one event, and say what became of it",
        description=(
            "Send one event and say what became of it. key=value gives text, or what the key takes "
            "that the text stands for: a number, or JSON that begins with { or [. key:=value gives "
            "JSON. A key with a dot is one within another, as in subject.user_id=u-42. The exit "
            "status is 0 where the collector has taken the event, 1 where Snowplow would refuse "
            "it, 2 where the collector does, or is out of reach, or has taken only a part of a "
            "transaction."
        ),
    )
    parser.add_argument("event", metavar="EVENT", help="the type of the event, such as page_view")
    parser.add_argument("values", nargs="*", metavar="KEY=VALUE", help="what is in it")
    _add_endpoint(parser)
    _add_request(parser)
    for name, text in (
        ("--namespace", "the tracker's namespace"),
        ("--app-id", "the application's id"),
        ("--platform", "one of the protocol's platforms, such as srv"),
    ):
        variable = f"SNOWPLOW_{name[2:].replace('-', '_').upper()}"
        parser.add_argument(name, help=f"{text} (default: the variable {variable})")
    _add_iglu(parser)
    parser.set_defaults(run=_run_send)


def _run_send(arguments: argparse.Namespace) -> int:
    from .send import NotSentError, read_event, send

    given: dict[str, Any] = {
        "endpoint": arguments.endpoint,
        "namespace": arguments.namespace,
        "app_id": arguments.app_id,
        "platform": arguments.platform,
        "path": arguments.path,
        "iglu": arguments.iglu,
        "iglu_api_key": arguments.iglu_api_key,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {"method": arguments.method, "headers": dict(arguments.header)}
    try:
        event = read_event(arguments.event, arguments.values)
        write_line(sys.stdout, send(event, settings))
    except NotSentError as error:
        fail("send", error)
        return error.status
    return 0


_COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    _add_check,
    _add_collector,
    add_relay,
    _add_replay,
    _add_send,
)
