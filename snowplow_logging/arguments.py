"""The arguments of commands: read as argparse does it, and errors that show nothing secret."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

__all__ = ["Arguments", "add_header"]

_OPTION: Final = re.compile(r"--[A-Za-z][A-Za-z0-9_-]*|-[A-Za-z]")
"""The name of an option. What follows the letter of a short one may be its value."""

_QUOTED: Final = re.compile(r""":? ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)
"""A value as argparse quotes it, by `repr`, with what leads up to it."""

_AMBIGUOUS: Final = re.compile(r"(ambiguous option: -[\w-]*)=.*(?= could match )", re.DOTALL)


class Arguments(argparse.ArgumentParser):
    """Reads the arguments of a command, or of one of its subcommands.

    argparse repeats in its errors what it was given. A password, a header or a key may be among
    that, behind the misspelt name of its option or without one. So these errors name options, and
    never show a value.
    """

    def parse_known_args(  # type: ignore[override]  # the overloads of one behaviour
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Read the arguments; what is left over is an error of the command that it was given to.

        argparse leaves that to the outermost parser, whose error would not name the command.
        """
        found, left = super().parse_known_args(args, namespace)
        if left:
            # One alone: what follows it may be its value, even where that begins with a dash.
            option = next(filter(None, map(_OPTION.match, left)), None)
            hidden = f"{len(left)}, not shown, for a password may be among them"
            self.error(f"unrecognized arguments: {option[0] if option else hidden}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """End the program with a message, less the value that it quotes."""
        message = _AMBIGUOUS.sub(r"\1", message)
        super().error(_QUOTED.sub("", message, count=1))


def add_header(parser: argparse.ArgumentParser) -> None:
    """Add ``--header``, which may be given several times; each is a pair of name and value."""
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="NAME:VALUE",
        help="a header of every request; may be given several times",
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):  # which may be a password, and is not shown
        raise argparse.ArgumentTypeError("it is not of the form NAME:VALUE")
    return name.strip(), value.strip()
