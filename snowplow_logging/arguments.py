"""Arguments that several commands have."""

from __future__ import annotations

import argparse

__all__ = ["add_header"]


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
