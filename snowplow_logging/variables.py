"""Variables of the environment in a configuration, which `dictConfig` itself leaves as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["expanded"]

_VARIABLE: Final = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?:(?P<form>:?-)(?P<default>[^}]*))?\}")

Tell = Callable[[str, str], None]
"""Told the place of a value, and what is to be said of it."""


def expanded(path: str, value: Any, problem: Tell, warn: Tell) -> Any:
    """Return a part of a configuration with what its variables of the form `${NAME}` stand for.

    `${NAME:-default}` and `${NAME-default}` mean what they mean in a shell. No value is told to
    anybody, because it may be a password.

    Args:
        path: The place of the part.
        value: The part, which is not changed.
        problem: Told of a variable that is not set.
        warn: Told of one that is, because the program has to put its value in itself.
    """
    if isinstance(value, dict):
        return {
            key: expanded(f"{path}.{key}" if path else str(key), item, problem, warn)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            expanded(f"{path}[{index}]", item, problem, warn) for index, item in enumerate(value)
        ]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        name, form = match["name"], match["form"]
        text = os.environ.get(name)
        if form is not None and (text is None or (form == ":-" and not text)):
            text = match["default"]
        if text is None:
            problem(path, f"holds ${{{name}}}, and the variable {name} is not set")
            return match[0]
        warn(
            path,
            f"holds ${{{name}}}, which dictConfig leaves as it is: it is checked with the value "
            f"of {name}, and the program has to put that in",
        )
        return text

    return _VARIABLE.sub(found, value)
