"""The code that a logging configuration names, and that looking at it would import and run."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["NotImported", "named_in", "resolve_own"]

_OWN: Final = ("logging", "pythonjsonlogger", "snowplow_logging", "sys")
"""What is there anyway, and whose classes and values run nothing of anybody else's."""

_SECTIONS: Final = ("formatters", "filters", "handlers")
"""The sections whose parts `dictConfig` makes, by the name that each gives."""


class NotImported(Exception):
    """What a name stands for is not looked at, because nothing is to be imported or called."""


def named_in(config: Mapping[str, Any]) -> list[str]:
    """Return the names of foreign code in a configuration, in their order.

    Args:
        config: A configuration as `dictConfig` takes it.
    """
    names = [*_makers(config), *_references(config)]
    return [name for name in dict.fromkeys(names) if name.partition(".")[0] not in _OWN]


def _makers(config: Mapping[str, Any]) -> Iterator[str]:
    for section in _SECTIONS:
        parts = config.get(section)
        for part in parts.values() if isinstance(parts, Mapping) else ():
            if isinstance(part, Mapping):
                name = part.get("()", part.get("class"))
                if isinstance(name, str):
                    yield name.removeprefix("ext://")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and value.startswith("ext://"):
        yield value.removeprefix("ext://")


def resolve_own(name: str) -> Any:
    """Find what a name stands for as `dictConfig` does, but nothing of anybody else's.

    Args:
        name: A name with dots, that of a module and what is in it.

    Raises:
        NotImported: It leads into a foreign module, such as `logging.os`, or to a function, which
            would be called.
        AttributeError: There is no such thing.
    """
    first, *others = name.split(".")
    if first not in _OWN:
        raise NotImported(name)
    found: Any = importlib.import_module(first)
    path = first
    for part in others:
        path = f"{path}.{part}"
        if isinstance(found, types.ModuleType) and not hasattr(found, part):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError as error:
                raise AttributeError(f"{path} is not there") from error
        found = getattr(found, part)
        if isinstance(found, types.ModuleType) and not _is_own(found.__name__):
            raise NotImported(name)
    if callable(found) and not (isinstance(found, type) and _is_own(found.__module__)):
        raise NotImported(name)
    return found


def _is_own(module: str) -> bool:
    return module.partition(".")[0] in _OWN
