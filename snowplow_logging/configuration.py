"""A logging configuration as `dictConfig` takes it: what is wrong with it, and where.

No handler but Snowplow's is built, no logger is touched, and no store or dead-letter file is
opened, so that looking at a configuration does not disturb the program that runs with it.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import logging.config
import logging.handlers
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from snowplow_logging.configuration_source import Announce
from snowplow_logging.foreign_code import NotImported, named_in, resolve_own
from snowplow_logging.given_settings import from_environment, variable
from snowplow_logging.handler import SnowplowHandler
from snowplow_logging.protocol import nearest
from snowplow_logging.settings import SETTINGS
from snowplow_logging.variables import expanded

__all__ = ["Configuration", "Found"]

_SECTIONS: Final = (
    *("version", "formatters", "filters", "handlers", "loggers", "root"),
    *("incremental", "disable_existing_loggers"),
)
_LOGGER_KEYS: Final = ("level", "handlers", "filters", "propagate")
_HANDLER_KEYS: Final = ("class", "()", "level", "formatter", "filters", ".")
_FORMATTER_KEYS: Final = ("class", "format", "datefmt", "style", "validate", "defaults")
_LOCALHOST: Final = "http://localhost"
_LEVELS: Final = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET")
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SETTING: Final = re.compile(r"(?P<setting>\w+)(?:[^\w\s]\S*)? ")
"""How the message of a setting that is refused begins."""


@dataclass(frozen=True)
class Found:
    """A Snowplow handler of a configuration.

    Attributes:
        name: Its name in the configuration.
        handler: The handler, which is not enabled.
        settings: Its settings, defaults included.
        on: The loggers that it is attached to, with the level from which each logs.
    """

    name: str
    handler: SnowplowHandler
    settings: Mapping[str, Any]
    on: Mapping[str, int]


class _OwnConfigurator(logging.config.DictConfigurator):
    """Imports nothing of anybody else's, and finds nothing that would be called."""

    def resolve(self, s: str) -> Any:
        """Find what a name stands for."""
        return resolve_own(s)


class Configuration:
    """What is in a configuration, and what is wrong with it.

    Args:
        config: The configuration.
        announce: Told before what the configuration names is imported; None where nothing is to
            be imported and called, so that it is passed over with a warning.

    Attributes:
        problems: What `dictConfig` or a Snowplow handler would refuse, each with its place.
        warnings: What they take and is hardly meant so.
        found: The Snowplow handlers, where there are no problems.
    """

    def __init__(self, config: Mapping[str, Any], announce: Announce | None) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.found: list[Found] = []
        self._bad: list[str] = []  # the places of the problems, and of what is passed over
        self._imports = announce is not None
        self.config = self._with_variables(config)
        if announce is not None and (names := named_in(self.config)):
            announce(names)
        # A copy, with parts that convert `ext://` and `cfg://` when they are asked for.
        configurator = logging.config.DictConfigurator if self._imports else _OwnConfigurator
        self._configurator: Any = configurator(dict(self.config))
        self._referred_to = {*_references(self.config)}
        self._check_top()
        self._check_references("", self.config)
        for name, part in self._section("formatters"):
            self._check_formatter(name, part)
        for name, part in self._section("filters"):
            if "()" in part:
                self._factory(f"filters.{name}", part)
        self._check_handlers_and_loggers()
        if not self.found and not self.problems and (self._imports or not self._bad):
            self._problem("handlers", "holds no SnowplowHandler")

    def _with_variables(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        def part_of(key: str, part: Any) -> Any:
            # A format may have a style in which ${message} is one of a record's attributes.
            return part if key == "formatters" else expanded(key, part, self._problem, self._warn)

        return {key: part_of(str(key), part) for key, part in config.items()}

    def _check_handlers_and_loggers(self) -> None:
        factories = {name: self._check_handler(name, p) for name, p in self._section("handlers")}
        for name, part in self._section("loggers"):
            self._check_logger(f"loggers.{name}", part)
        if self._is_mapping("root", self.config.get("root", {})):
            self._check_logger("root", self.config.get("root", {}))
        for name, factory in factories.items():
            if factory is not None:
                self._build(name, factory)

    def _problem(self, path: str, problem: str) -> None:
        self._bad.append(path)
        self.problems.append(f"{path} {problem}")

    def _warn(self, path: str, warning: str) -> None:
        self.warnings.append(f"{path} {warning}")

    def _is_bad(self, path: str) -> bool:
        return any(bad == path or bad.startswith((f"{path}.", f"{path}[")) for bad in self._bad)

    def _check_top(self) -> None:
        version = self.config.get("version")
        if version != 1 or isinstance(version, bool):
            said = "is missing" if version is None else f"is {_shown(version)}"
            self._problem("version", f"{said}; give 1")
        if self.config.get("incremental"):
            self._problem("incremental", "is set, and such a configuration makes no handlers")
        elif "disable_existing_loggers" not in self.config:
            self._warn(
                "disable_existing_loggers",
                "is left out, which silences the loggers of modules that were imported before, but "
                "for those that are named here; give False",
            )
        for key in self.config:
            self._check_key("", key, _SECTIONS)

    def _section(self, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        section = self.config.get(name, {})
        if self._is_mapping(name, section):
            for key, part in section.items():
                if self._is_mapping(f"{name}.{key}", part):
                    yield key, part

    def _is_mapping(self, path: str, value: Any) -> bool:
        if not isinstance(value, Mapping):
            # A setting may have come here with its password, where a level was left out.
            shown = "None" if value is None else f"of the type {type(value).__name__}"
            self._problem(path, f"is {shown}; give a mapping")
        return isinstance(value, Mapping)

    def _check_key(self, path: str, key: Any, known: Iterable[str]) -> None:
        """Warn of a key that `dictConfig` passes over in silence, unless `cfg://…` leads to it."""
        name = f"{path}{key}"
        if key not in known and not any(
            at == name or at.startswith((f"{name}.", f"{name}[")) for at in self._referred_to
        ):
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"; is it {close[0]!r}?" if close else ""
            self.warnings.append(f"{name} is no key that dictConfig knows, and ignored{hint}")

    def _check_references(self, path: str, value: Any) -> None:
        """Check that everything of the form `ext://…` and `cfg://…` is there."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                self._check_references(f"{path}.{key}" if path else str(key), item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._check_references(f"{path}[{index}]", item)
        elif isinstance(value, str) and value.startswith("ext://"):
            self._resolve(path, value, value.removeprefix("ext://"))
        elif isinstance(value, str) and value.startswith("cfg://"):
            try:
                self._configurator.convert(value)
            except Exception:  # noqa: BLE001 - it may come upon anything on its way
                self._problem(path, f"is {value!r}, which is not in the configuration")

    def _resolve(self, path: str, given: Any, name: str) -> Any:
        """Import what a name stands for; None where that cannot be done."""
        try:
            return self._configurator.resolve(name)
        except NotImported:
            if not self._is_bad(path):
                self._bad.append(path)
                self._warn(path, f"is {given!r}, which is not imported or looked at")
            return None
        except Exception as error:  # noqa: BLE001 - importing runs anybody's code
            cause = error.__cause__ or error
            if isinstance(cause, (AttributeError, ModuleNotFoundError)):
                reason = _missing(name)
            else:
                reason = f"which cannot be imported: {type(cause).__name__}: {cause}"
            self._problem(path, f"is {given!r}, {reason}")
            return None

    def _factory(self, path: str, part: Mapping[str, Any], own: Iterable[str] = ()) -> Any:
        """Return what makes a part, or None; check that it takes the part's keys.

        Args:
            path: Where the part stands.
            part: The part, a mapping with `()` or `class`.
            own: The keys that are no arguments.
        """
        key = "()" if "()" in part else "class"
        factory = part[key]
        if isinstance(factory, str):
            factory = self._resolve(f"{path}.{key}", factory, factory.removeprefix("ext://"))
            if factory is None:
                return None
        if not callable(factory):
            self._problem(f"{path}.{key}", f"is {_shown(part[key])}; give a class or a function")
            return None
        arguments = []
        for name in part:
            if name in own or name in ("()", "."):
                continue
            if str(name).isidentifier():
                arguments.append(name)
            else:
                self.warnings.append(f"{path}.{name} is no name of an argument, and ignored")
        if not _is_a(factory, logging.handlers.QueueHandler):  # `dictConfig` has its own ways there
            self._check_arguments(path, factory, arguments)
        return factory

    def _check_arguments(self, path: str, factory: Any, arguments: Sequence[str]) -> None:
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):  # it is written in C
            return
        title = getattr(factory, "__name__", "it")
        named = [n for n, p in parameters.items() if p.kind in _NAMED]
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if takes_any and _is_a(factory, SnowplowHandler):
            takes_any, named = False, list({**dict.fromkeys(named), **SETTINGS})
        for name in arguments:
            if not takes_any and name not in named:
                expected = nearest(name, named) if named else "none"
                self._problem(f"{path}.{name}", f"is no setting of {title}; give {expected}")
        for name, parameter in parameters.items():
            if name in named and parameter.default is parameter.empty and name not in arguments:
                self._problem(f"{path}.{name}", f"is missing, and {title} needs it")
        # Where it is none of these the handler itself says what is missing.
        wanted = _is_a(factory, SnowplowHandler) and "endpoint" in named
        if wanted and not {"endpoint", "broker", "send"} & {*arguments}:
            name = variable("endpoint")
            if not os.environ.get(name):
                self._problem(f"{path}.endpoint", f"is missing, and {name} is not set; give one")

    def _check_formatter(self, name: str, part: Mapping[str, Any]) -> None:
        path, before = f"formatters.{name}", len(self.problems)
        if "()" in part:
            self._factory(path, part, ("format",))  # which some formatters call `fmt`
        else:
            for key in part:
                if key not in _FORMATTER_KEYS:
                    self.warnings.append(
                        f"{path}.{key} is ignored where a formatter is named by 'class'; "
                        "name it by '()'"
                    )
            if "class" in part:
                self._resolve(f"{path}.class", part["class"], part["class"])
        made = self._imports or (not self._is_bad(path) and self._makes_a_formatter(part))
        if len(self.problems) == before and made:
            try:
                self._configurator.configure_formatter(
                    self._configurator.config["formatters"][name]
                )
            except Exception as error:  # noqa: BLE001 - it may be anybody's code
                self._problem(path, f"makes no formatter: {_said(error)}")

    def _makes_a_formatter(self, part: Mapping[str, Any]) -> bool:
        """Tell whether a formatter is made by a class, and not by any function there is."""
        named = part.get("()") or part.get("class") or "logging.Formatter"
        factory = named
        if isinstance(named, str):
            factory = self._configurator.resolve(named.removeprefix("ext://"))
        return _is_a(factory, logging.Formatter)

    def _check_handler(self, name: str, part: Mapping[str, Any]) -> Any:
        """Check what handlers have in common; return what makes it, if it may be Snowplow's."""
        path = f"handlers.{name}"
        if "class" not in part and "()" not in part:
            self._problem(f"{path}.class", "is missing; give the class of the handler")
            return None
        self._check_level(path, part)
        self._check_names(path, part, "filters", "filters")
        formatter = part.get("formatter")
        if formatter:
            self._check_name(f"{path}.formatter", formatter, "formatters")
        factory = self._factory(path, part, _HANDLER_KEYS)
        if _is_a(factory, logging.handlers.MemoryHandler) and "target" in part:
            self._check_name(f"{path}.target", part["target"], "handlers")
        if _is_a(factory, logging.handlers.QueueHandler):
            self._check_names(path, part, "handlers", "handlers")
        # What a function makes, only the function can say.
        is_function = factory is not None and not isinstance(factory, type)
        is_function = is_function and self._imports
        may_be = _is_a(factory, SnowplowHandler) or (is_function and "endpoint" in part)
        return factory if may_be else None

    def _check_logger(self, path: str, part: Mapping[str, Any]) -> None:
        for key in part:
            self._check_key(f"{path}.", key, _LOGGER_KEYS)
        self._check_level(path, part)
        self._check_names(path, part, "handlers", "handlers")
        self._check_names(path, part, "filters", "filters")

    def _check_level(self, path: str, part: Mapping[str, Any]) -> None:
        level = part.get("level")
        if level is not None and _level(level) is None:
            self._problem(f"{path}.level", f"is {_shown(level)}; give {nearest(level, _LEVELS)}")

    def _check_names(self, path: str, part: Mapping[str, Any], key: str, section: str) -> None:
        names = part.get(key)
        if isinstance(names, (list, tuple)):
            for index, name in enumerate(names):
                self._check_name(f"{path}.{key}[{index}]", name, section)
        elif names is not None:
            self._problem(f"{path}.{key}", f"is {_shown(names)}; give a list of names")

    def _check_name(self, path: str, name: Any, section: str) -> None:
        known = self.config.get(section, {})
        if isinstance(known, Mapping) and isinstance(name, str) and name not in known:
            expected = f"give {nearest(name, known)}" if known else "there are none"
            self._problem(path, f"is {name!r}, which {section} does not hold; {expected}")

    def _build(self, name: str, factory: Any) -> None:
        """Build a Snowplow handler, and keep it if nothing at all is wrong."""
        path = f"handlers.{name}"
        part = self._configurator.config["handlers"][name]
        keys = [k for k in part if k not in _HANDLER_KEYS and str(k).isidentifier()]
        arguments = {key: part[key] for key in keys if not self._is_bad(f"{path}.{key}")}
        if self._is_bad(f"{path}.endpoint"):
            arguments["endpoint"] = _LOCALHOST
        settings: dict[str, Any] = {}
        handler = self._made(path, factory, arguments, settings)
        if not isinstance(handler, SnowplowHandler):
            return
        if self._is_bad(f"{path}.endpoint"):
            return  # there is nowhere to send to
        for key in ("store", "dead_letter"):
            if settings[key] is not None:
                folder = Path(os.path.abspath(settings[key])).parent  # noqa: PTH100
                if not os.access(folder, os.W_OK | os.X_OK):
                    reason = "cannot be written to" if os.path.isdir(folder) else "is no folder"
                    self._problem(f"{path}.{key}", f"is {settings[key]!r}, but {folder} {reason}")
        if not self.problems:
            handler.setLevel(_level(part.get("level")) or handler.level)
            on = self._loggers_with(name, handler)
            if self.problems:
                self.found.clear()
            else:
                self.found.append(Found(name, handler, settings, on))

    def _made(
        self, path: str, factory: Any, arguments: dict[str, Any], settings: dict[str, Any]
    ) -> Any:
        """Build a handler, again without each setting that it refuses."""
        while True:
            try:
                with _inert(settings):
                    return factory(**arguments)
            except Exception as error:  # noqa: BLE001 - it may be anybody's class
                message = _said(error)
                match = _SETTING.match(message)
                if match is None or match["setting"] not in arguments:
                    self._problem(path, f"cannot be made: {message}")
                    return None
                place, _, problem = message.partition(" ")
                self._problem(f"{path}.{place}", problem)
                if arguments.pop(match["setting"]) != _LOCALHOST and place == "endpoint":
                    arguments["endpoint"] = _LOCALHOST

    def _loggers_with(self, name: str, handler: logging.Handler) -> dict[str, int]:
        """Return the loggers that have a handler, and warn where hardly anything comes to it."""
        path = f"handlers.{name}"
        parts = {**self.config.get("loggers", {}), "root": self.config.get("root", {})}
        levels = {logger: _effective_level(logger, parts) for logger in parts}
        on = {k: levels[k] for k, part in parts.items() if name in self._reached_by(part)}
        if not on:
            self._problem(path, "is on no logger, so that no event comes to it; add it to one")
            return on
        reaching = [
            k for k in parts if any(name in self._reached_by(parts[up]) for up in _up(k, parts))
        ]
        least = max(handler.level, min(levels[logger] for logger in reaching))
        if least > logging.INFO:
            why = logging.getLevelName(least)
            self.warnings.append(
                f"{path} gets nothing below {why}: the level of "
                f"{'the handler' if least == handler.level else ' and '.join(on)} is {why}, "
                "and events are usually logged at INFO"
            )
        return on

    def _reached_by(self, part: Mapping[str, Any]) -> set[str]:
        """Return the handlers of a logger, those behind queues and buffers included."""
        reached: set[str] = set()
        names = list(part.get("handlers") or ())
        while names:
            name = names.pop()
            if name not in reached:
                reached.add(name)
                handler = self.config["handlers"][name]
                names += handler.get("handlers") or ()
                names += [t for t in [handler.get("target")] if t in self.config["handlers"]]
        return reached


@contextmanager
def _inert(settings: dict[str, Any]) -> Iterator[None]:
    """Have a Snowplow handler that is built inside start nothing, and tell its settings."""
    original = SnowplowHandler.__init__

    @functools.wraps(original)
    def init(self: SnowplowHandler, *args: Any, **kwargs: Any) -> None:
        enabled = kwargs.get("enabled", from_environment().get("enabled", True))
        if isinstance(enabled, bool):
            kwargs["enabled"] = False
        original(self, *args, **kwargs)
        settings.update({name: getattr(self.settings, name) for name in SETTINGS}, enabled=enabled)

    setattr(SnowplowHandler, "__init__", init)  # noqa: B010 - it is no ordinary attribute
    try:
        yield
    finally:
        setattr(SnowplowHandler, "__init__", original)  # noqa: B010


def _references(value: Any) -> Iterator[str]:
    """Yield where each `cfg://…` in a part of a configuration leads."""
    if isinstance(value, str) and value.startswith("cfg://"):
        yield value.removeprefix("cfg://").strip()
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _references(item)


def _is_a(factory: Any, cls: type) -> bool:
    return isinstance(factory, type) and issubclass(factory, cls)


def _level(value: Any) -> int | None:
    """Return a level as a number; None where it is none."""
    if isinstance(value, str):
        value = logging.getLevelName(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _up(logger: str, parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a logger and those above it to which its records go."""
    while True:
        if logger in parts:
            yield logger
            if logger == "root" or not parts[logger].get("propagate", True):
                return
        logger = logger.rpartition(".")[0] or "root"


def _effective_level(logger: str, parts: Mapping[str, Mapping[str, Any]]) -> int:
    names = [logger]
    while names[-1] != "root":
        names.append(names[-1].rpartition(".")[0] or "root")
    levels = (_level(parts.get(name, {}).get("level")) for name in names)
    return next((level for level in levels if level), logging.WARNING)


def _missing(name: str) -> str:
    """Say which part of the name of a module's attribute is not there."""
    parts = name.split(".")
    found: Any = None
    for index, part in enumerate(parts):
        module = sys.modules.get(".".join(parts[: index + 1]))
        inner = module or getattr(found, part, None)
        if inner is None:
            where = ".".join(parts[:index])
            close = difflib.get_close_matches(part, dir(found), 1) if where else []
            hint = f"; give {f'{where}.{close[0]}'!r}" if close else ""
            return (
                f"but {where} has no {part}" if where else f"but there is no module {part}"
            ) + hint
        found = inner
    return "which cannot be imported"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _shown(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, (str, int, float, type(None)))
        else f"a {type(value).__name__}"
    )
