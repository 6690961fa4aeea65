"""All that is checked before a change goes in: `nox` runs it all, `nox --list` names the parts."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
# An interpreter that is missing is skipped with a note, and an error where the variable CI is set.
# None is ever downloaded: what is tested is what the machine has.
nox.options.download_python = "never"

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
COMPILE = "SNOWPLOW_LOGGING_COMPILE"  # the variable with which what each log call takes is compiled


def install(session: nox.Session, *requirements: str) -> None:
    """Install what is named, and the package as a user gets it: built, and not a link to the tree.

    A build directory that an earlier build left behind goes first, because setuptools would pack
    the modules in it that the tree no longer has.
    """
    shutil.rmtree("build", ignore_errors=True)
    session.install(*requirements)


def pytest(session: nox.Session, *tests: str) -> None:
    """Run the tests, or some files of them, on two processes; `--` may give more arguments."""
    # `pytest` and not `python -m pytest`, which would put the tree in front of what is installed.
    session.run("pytest", "--numprocesses=2", "--dist=worksteal", *tests, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff."""
    install(session, ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, as the oldest and the newest supported Python see them."""
    install(session, ".[dev,test]")
    paths = [path for path in ("snowplow_logging", "tests/typing") if Path(path).exists()]
    for python in (PYTHONS[0], PYTHONS[-1]):
        session.run("mypy", f"--python-version={python}", *paths)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, where whatever Sphinx warns of is an error."""
    install(session, ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests with every extra installed."""
    install(session, ".[test]")
    pytest(session)


@nox.session
def compiled(session: nox.Session) -> None:
    """Run the tests of what each log call goes through, with that compiled.

    Without a compiler they run as Python. With one that is an error, where the variable CI is set.
    """
    session.env[COMPILE] = "1"
    install(session, ".[test]")
    if os.environ.get("CI") and shutil.which("cc"):
        check = "import snowplow_logging.protocol as one; assert not one.__file__.endswith('.py')"
        # Isolated, which leaves the tree out of the path.
        session.run("python", "-I", "-c", check)
    names = """before_send compiled event_values events faster_ways formatter hostile_input
        python_types refused urls values verdicts whatever_is_logged"""
    pytest(session, *(f"tests/test_{name}.py" for name in names.split()))


@nox.session
def minimal(session: nox.Session) -> None:
    """Run the tests with the two requirements alone, each in its lowest version, uncompiled.

    Tests of what needs an extra skip themselves here.
    """
    install(
        session,
        ".",
        "python-json-logger==3.1.0",
        "requests==2.28.0",
        "hypothesis",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
    )
    pytest(session)
