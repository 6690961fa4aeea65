"""What the documentation and the README say is so: their code, tables, commands and links."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import shlex
import sys
from dataclasses import fields
from functools import cache
from importlib import metadata, util

import pytest

from documents import DOCS, ROOT, Page, pages
from snowplow_logging import SnowplowHandler, cli
from snowplow_logging.delivery.ledger import Stats
from snowplow_logging.events import COMMON_KEYS, EVENTS
from snowplow_logging.settings import SETTINGS
from snowplow_logging.subject import SUBJECT_KEYS

ALL = [*(Page(path) for path in sorted(ROOT.glob("*.md"))), *pages()]
EVENT_PAGE = Page(DOCS / "reference" / "events.md")
HANDLER_PAGE = Page(DOCS / "reference" / "handler.md")
EXAMPLE_PAGE = Page(DOCS / "examples.md")

with_code = pytest.mark.parametrize(
    "page", [page for page in pages() if page.program], ids=lambda page: page.name
)
every = pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)


def code(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def skip_without(page: Page) -> None:
    """Skip a page whose programs import what is not installed."""
    sources = [page.program, *(one.text for one in page.blocks if one.file.endswith(".py"))]
    own = {one.file.removesuffix(".py") for one in page.blocks}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - own:
                if name not in sys.stdlib_module_names and util.find_spec(name) is None:
                    pytest.skip(f"{page.name} needs {name}")


@with_code
def test_code_runs(page, collector, tmp_path):
    """The blocks of Python of a page are a program that ends well, whose events are all good."""
    skip_without(page)
    done = page.run(tmp_path, collector.endpoint)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    # The collector may have a registry, in which what the pages make up is not.
    assert [bad["errors"] for bad in collector.bad if "is not found in" not in str(bad)] == []


@every
def test_commands_exist(page):
    """The commands of this library that a page shows, and their options, are there."""
    for line in page.commands():
        words = shlex.split(line, comments=True)
        if words[:3] == ["python", "-m", "snowplow_logging"]:
            words = ["snowplow-logging", *words[3:]]
        if words[:1] != ["snowplow-logging"]:
            continue
        command = [word for word in words[1:2] if not word.startswith("-")]
        for option in [word.partition("=")[0] for word in words if word.startswith("--")]:
            assert option in shown(*command), line


@cache
def shown(*command: str) -> str:
    """Return the help of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0, command
    return out.getvalue()


@every
def test_extras_exist(page):
    """What a page installs of this library is there."""
    extras = set(metadata.metadata("snowplow-logging").get_all("Provides-Extra"))
    named = re.findall(r"(?:snowplow-logging|['\"]\.)\[([\w,-]+)\]", page.text)
    assert {extra for names in named for extra in names.split(",")} <= extras


@every
def test_links(page):
    """What a page links to in the project is there, and so is the heading."""
    text = re.sub(r"^```.*?^```$", "", page.text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"\s]+)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.path.parent / path).resolve() if path else page.path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], target


def slug(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every
def test_tests_that_are_named_exist(page):
    """Where a page says which test shows a thing, that test is there."""
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", page.text):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        nodes: list[ast.AST] = [tree]
        for part in name.split("::"):
            nodes = [
                child
                for node in nodes
                for child in ast.iter_child_nodes(node)
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and child.name == part
            ]
        assert nodes, f"{file}::{name}"


def test_promises_name_their_tests():
    """Each row of the promises of delivery names a test that shows it."""
    rows = Page(DOCS / "how-it-works" / "delivery.md").table("promise")
    assert len(rows) > 20
    for promise, test in rows:
        assert re.search(r"`tests/[\w/]+\.py::[\w:]+`", test), promise


def test_events():
    """The table of events has every event with its names, its class and its keys in their order."""
    documented = {}
    for names, cls, keys in EVENT_PAGE.table("`event`, method"):
        documented.update(dict.fromkeys(code(names), (code(cls)[0], keys.split(", "))))
    assert documented == {
        name: (cls.__name__, [f"{name}{'*' * key.required}" for name, key in cls.keys().items()])
        for name, cls in EVENTS.items()
    }
    assert {"event", *(code(key)[0] for key, _ in EVENT_PAGE.table("key"))} == set(COMMON_KEYS)


def test_subject():
    """The table of the subject has every field, in their order."""
    assert [code(field)[0] for field, *_ in EVENT_PAGE.table("field")] == list(SUBJECT_KEYS)


def test_keywords():
    """The table has every setting of the handler with its default and its words, in their order."""
    parameters = inspect.signature(SnowplowHandler).parameters
    assert list(parameters) == list(SETTINGS)
    defined = [
        (
            name,
            "required" if name == "endpoint" else parameter.default,
            SETTINGS[name].words,
        )
        for name, parameter in parameters.items()
    ]
    documented = [
        (
            code(keyword)[0],
            ast.literal_eval(code(default)[0]) if code(default) else default,
            words,
        )
        for keyword, default, words in HANDLER_PAGE.table("keyword")
    ]
    assert documented == defined


def test_counts():
    """The table of counts has every field of `stats`, in their order."""
    assert [code(count)[0] for count, _ in HANDLER_PAGE.table("count")] == [
        field.name for field in fields(Stats)
    ]


def test_examples():
    """The list of examples names every program in the folder, and no other."""
    linked = set(re.findall(r"\]\(\.\./(examples/[^)]+)\)", EXAMPLE_PAGE.text))
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py")}
    assert linked == there


def test_public_names():
    """The reference of Python names has every public name of the package."""
    import snowplow_logging

    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"auto(?:class|function|exception):: ([\w.]+)", text))
    documented = {name.rpartition(".")[2] for name in listed} | set(EVENTS_LISTED.findall(text))
    assert {*snowplow_logging.__all__} - {"__version__"} <= documented
    assert {cls.__name__ for cls in EVENTS.values()} <= {*snowplow_logging.__all__}


EVENTS_LISTED = re.compile(r"^ {3}([A-Z]\w+)", re.MULTILINE)
