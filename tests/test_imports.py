"""The package serves every import of it, in another interpreter and a second time, too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import snowplow_logging
from faulty_collector import FaultyCollector
from programs import Programs

pytestmark = pytest.mark.every_python

USE = """
import logging, warnings
warnings.simplefilter("ignore")  # requests misses a compiled module of its own in the second one
from snowplow_logging import InvalidEvent, PageView, SelfDescribingJson, payload
from snowplow_logging.testing import capture_events

logger = logging.getLogger("shop")
logger.setLevel("INFO")
with capture_events() as events:
    entity = SelfDescribingJson("iglu:com.acme/user/jsonschema/1-0-0", {"id": 1})
    logger.info(PageView(page_url="https://shop.example.com/"))
    logger.info("", extra={"snowplow": {
        "event": "page_view", "page_url": "https://shop.example.com/", "context": [entity],
    }})
print(len(events), payload.InvalidEvent is InvalidEvent, flush=True)
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program to its end."""
    with Programs(tmp_path) as programs:
        yield lambda program: programs.run(program, preamble="").words


def test_another_interpreter_of_the_process_is_served(run):
    """As mod_wsgi has them: events of any kind are taken in each, before and after the other."""
    words = run(
        f"""
        import sys
        use = {USE!r}
        try:
            import _interpreters as interpreters
            other = interpreters.create("legacy")
        except ImportError:
            import _xxsubinterpreters as interpreters
            other = interpreters.create(isolated=False)
        exec(use, {{}})
        interpreters.run_string(other, f"import sys; sys.path[:] = {{sys.path!r}}\\n" + use)
        exec(use, {{}})
        """
    )
    assert words == ["2", "True"] * 3


def test_a_second_import_is_served(run):
    """A program may throw the modules out and import them again."""
    words = run(
        f"""
        import sys
        use = {USE!r}
        exec(use, {{}})
        for name in [name for name in sys.modules if name.startswith("snowplow_logging")]:
            del sys.modules[name]
        exec(use, {{}})
        """
    )
    assert words == ["2", "True"] * 2


def test_a_python_without_sqlite_tracks(tmp_path):
    """SQLite is an optional part of Python, and only a store needs it."""
    with FaultyCollector() as collector, Programs(tmp_path) as programs:
        ran = programs.run(
            """
            sys.modules["_sqlite3"] = None
            configure()
            log("one")
            try:
                configure(store="store.db")
            except ValueError as error:
                say(repr(error.__cause__))
            """,
            collector,
        )
        assert "_sqlite3" in ran.out
        assert len(collector.events) == 1


def imported(name, path, names):
    """Return what a module imports of ours, for its types alone or within a function included."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) + 1 - node.level or None]
            base = ".".join([*(parts if node.level else ()), *filter(None, [node.module])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= inner & names or {base}
    return found & names - {name}


def test_no_module_imports_one_that_imports_it():
    """Each can be read without those that use it."""
    root = Path(snowplow_logging.__file__).parent
    modules = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in root.rglob("*.py")
    }
    imports = {name: imported(name, path, set(modules)) for name, path in modules.items()}
    assert sum(map(len, imports.values())) > len(modules)
    while leaves := [name for name, ours in imports.items() if not ours & imports.keys()]:
        for name in leaves:
            del imports[name]
    # What is left is in a circle, or imports from one.
    assert not imports
