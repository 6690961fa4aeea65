"""JSON taken apart without being read, so that a part which cannot be read spoils no other."""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["items_of", "members_of"]

_TEXT: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_MARK: Final = re.compile(rf'{_TEXT}|[\[\]{{}},"]', re.DOTALL)
_MEMBER: Final = re.compile(rf"({_TEXT})\s*:\s*(.*)", re.DOTALL)


def items_of(text: str, brackets: str = "[]") -> list[str]:
    """Return each item of a list as it is written; no more than the list itself has to be right.

    Args:
        text: The list.
        brackets: In which it stands.

    Raises:
        ValueError: It is no list.
    """
    text = text.strip()
    if text[:1] + text[-1:] != brackets:
        raise ValueError(f"it does not stand in {brackets}")
    items, depth, start = list[str](), 0, 1
    # By a count and not by calls of itself, for what is ignored may be nested however deep.
    for mark in _MARK.finditer(text):
        if mark[0] in ("[", "{"):
            depth += 1
        elif mark[0] in ("]", "}"):
            depth -= 1
            if not depth and mark.end() < len(text):
                raise ValueError("something stands behind it")
        elif mark[0] == "," and depth == 1:
            items.append(text[start : mark.start()].strip())
            start = mark.end()
        elif mark[0] == '"':
            raise ValueError("a text in it has no end")
    if depth:
        raise ValueError("a bracket in it has no end")
    last = text[start:-1].strip()
    return [*items, last] if items or last else []


def members_of(text: str) -> dict[str, str]:
    """Return the values of an object as they are written, by their keys.

    Raises:
        ValueError: It is no object.
    """
    members = {}
    for item in items_of(text, "{}"):
        member = _MEMBER.fullmatch(item)
        if member is None:
            raise ValueError("a member has no key")
        members[str(json.loads(member[1]))] = member[2]
    return members
