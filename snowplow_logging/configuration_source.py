"""Where a logging configuration comes from: a file of YAML, JSON or TOML, or a name in a module."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["Announce", "ConfigurationError", "read"]

Announce = Callable[[Sequence[str]], None]
"""Told the names of what is about to be imported, which runs it."""

_IN_CODE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_QUOTED: Final = re.compile(r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)
_HARMLESS: Final = re.compile(r"'(?:<[a-z ]+>|\\?\W|\\[nrt])'")
"""What of that is no text of the file: the kinds of tokens, as '<block end>', and single signs."""
_FILES: Final = (".json", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".toml", ".txt")


class ConfigurationError(Exception):
    """A configuration cannot be read at all, and why."""


def read(source: str, announce: Announce | None) -> Mapping[str, Any]:
    """Read a configuration.

    Args:
        source: A file of YAML, JSON or TOML, or `package.module:NAME`.
        announce: Told before a module is imported; None where none is to be.

    Raises:
        ConfigurationError: It cannot be read, or is no mapping.
    """
    path = Path(source)
    if (problem := _named_wrongly(source, path)) is not None:
        raise ConfigurationError(problem)
    if announce is not None and os.getcwd() not in sys.path:  # noqa: PTH109 - a str stands there
        # As `python -m` and a program's own script have it; what is installed as a command has not.
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    if _IN_CODE.fullmatch(source) and not os.path.exists(path):
        module = source.partition(":")[0]
        if announce is None:
            raise ConfigurationError(
                f"{source} is in the module {module}, which is not to be imported"
            )
        announce([module])
        value = _import(source)
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"{source} cannot be read: {reason}") from None
        value = _parse(source, text)
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{source} is a {type(value).__name__}; a mapping is needed")
    try:
        json.dumps(value, skipkeys=True, default=lambda _: None)  # which looks for circles
    except (ValueError, RecursionError):
        raise ConfigurationError(
            f"{source} has a part that contains itself, or goes very deep; dictConfig takes neither"
        ) from None
    return value


def _named_wrongly(source: str, path: Path) -> str | None:
    """Say how a configuration in code is named, where that was meant and is not said so."""
    name = "LOGGING"
    file, colon, given = source.partition(":")
    if file.endswith(".py") and (os.path.exists(file) or colon):
        module = file.removesuffix(".py").strip("./").replace("/", ".")
        return f"{source} is a file of Python; give its module and a name, {module}:{given or name}"
    module = source.removesuffix(":")
    if os.path.exists(path) or not _MODULE.fullmatch(module) or source.endswith(_FILES):
        return None
    return f"{source} is no file; for a configuration in code give its name too, {module}:{name}"


def _import(source: str) -> Any:
    module_name, _, names = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{source}: {module_name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    value: Any = module
    for name in names.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            known = [key for key in dir(value) if not key.startswith("__")]
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; is it {close[0]}?" if close else ""
            raise ConfigurationError(f"{source}: there is no {name}{hint}") from None
    return value


def _parse(source: str, text: str) -> Any:
    if source.endswith((".ini", ".cfg", ".conf")):
        raise ConfigurationError(
            f"{source} looks like a file for fileConfig; give one for dictConfig, in YAML or JSON, "
            "or package.module:NAME"
        )
    if source.endswith(".toml"):
        return _toml(source, text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if source.endswith(".json"):
            raise ConfigurationError(f"{source} is not JSON: {error}") from None
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"{source} is not JSON; for YAML install snowplow-logging[yaml]"
        ) from None
    try:
        return yaml.safe_load(text)
    except Exception as error:  # noqa: BLE001 - PyYAML lets through what it meets in a bad value
        raise ConfigurationError(f"{source} is not YAML: {_yaml_problem(error)}") from None


def _yaml_problem(error: Any) -> str:
    """Say what is wrong with YAML and where, without the line itself, which may hold a password.

    Also without what is quoted of it, such as the name of an alias: so is a password read that
    begins with a star.
    """
    mark = getattr(error, "problem_mark", None)
    parts = [getattr(error, name, None) for name in ("context", "problem", "reason")]
    problem = ", ".join(filter(None, parts)) or str(error) or type(error).__name__
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return _QUOTED.sub(lambda m: m[0] if _HARMLESS.fullmatch(m[0]) else "…", problem) + where


def _toml(source: str, text: str) -> Any:
    try:
        toml: Any = importlib.import_module("tomllib")
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"{source} cannot be read: Python reads TOML from 3.11 on; give YAML or JSON"
        ) from None
    try:
        return toml.loads(text)
    except (ValueError, RecursionError) as error:  # a number may have too many digits
        raise ConfigurationError(f"{source} is not TOML: {error}") from None
