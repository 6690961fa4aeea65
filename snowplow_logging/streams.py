"""What the commands write on standard output and standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from .colour import paint, takes_colour
from .endpoint import without_any_credentials
from .printable import printable

__all__ = ["fail", "flushed", "write_line"]


def write_line(stream: TextIO, text: str, colour: str | None = None) -> None:
    """Write a line at once; what came from elsewhere does not steer the terminal.

    Args:
        stream: Where to.
        text: The line.
        colour: Its colour, where the stream takes any.

    Raises:
        BrokenPipeError: Nobody reads the stream any more.
    """
    encoding = stream.encoding or "utf-8"
    text = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    if colour is not None and takes_colour(stream):
        text = paint(colour, text)
    print(text, file=stream, flush=True)


def fail(command: str, error: object) -> None:
    """Say why a command ends, in the form that argparse gives to wrong arguments.

    A URL may have been given in the wrong place, as that of a file, and is shown without its
    password there, too.
    """
    shown = without_any_credentials(str(error))
    write_line(sys.stderr, f"snowplow-logging {command}: error: {shown}")


def flushed(stream: TextIO) -> bool:
    """Write what is left for a stream; tell whether somebody still reads it.

    What nobody reads is given up, for Python would try to write it again at its end, and complain.

    Args:
        stream: Standard output or standard error.
    """
    try:
        stream.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return False
    return True
