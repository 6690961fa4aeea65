"""Has the modules that mypyc compiles, where it did, loaded as Python where they cannot serve."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.machinery import FileFinder, ModuleSpec, PathFinder, SourceFileLoader
from typing import TYPE_CHECKING, Any

__all__ = ["serve_once"]

if TYPE_CHECKING:
    # Never run. For what packs a program together and looks for imports, because this one is made
    # by compiled code alone.
    import snowplow_logging.compiled__mypyc  # type: ignore[import-not-found]  # noqa: F401

_PACKAGE = "snowplow_logging"
_MARK = "_snowplow_logging_is_compiled"  # of `sys`, which outlives modules that are thrown out


class _AsPython:
    """Finds the modules of the package by their source, whether or not they are compiled too."""

    def __init__(self, folder: str) -> None:
        self._finder = FileFinder(folder, (SourceFileLoader, [".py"]))

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Return where a module is to be had, if it is one of the package's."""
        return self._finder.find_spec(name) if name.rpartition(".")[0] == _PACKAGE else None


def serve_once(path: Sequence[str]) -> None:
    """Let the compiled modules serve the first import in the main interpreter, and no other.

    What they hold belongs to the process, so that in another interpreter of it, as mod_wsgi has
    them, or after a second import they would know the classes of the first.

    Args:
        path: Where the package is.
    """
    if PathFinder.find_spec(f"{_PACKAGE}.compiled__mypyc", path) is None:
        return
    if _is_main_interpreter() and not hasattr(sys, _MARK):
        setattr(sys, _MARK, True)
    elif f"{_PACKAGE}.protocol" not in sys.modules:
        sys.meta_path.insert(0, _AsPython(path[0]))


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # the latter before Python 3.13
        with suppress(ImportError):
            interpreters = import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True
