"""Enums of programs, whose members stand for texts and numbers."""

from __future__ import annotations

import enum

__all__ = ["Colour", "Number", "Size"]


class Colour(enum.Enum):
    """An enum of strings, and one member that is none."""

    RED = "red"
    NUMBER = 3


class Size(str, enum.Enum):
    """An enum whose members are strings themselves."""

    LARGE = "large"


class Number(enum.IntEnum):
    """An enum whose members are ints."""

    TWO = 2
