"""All that is checked before a change goes in: `nox` runs it, `nox --list` names the parts.

Without a name the sessions run that a change has to pass: all tests on one Python, on the others
those that depend on the version of Python, and without the extras those that depend on them.
`nox -s tests` runs all tests on every Python, `nox -s minimal -- tests` all of them without the
extras, and `nox -s exhaustive` those that try all there is; a release has to pass these, too.
"""

import os
import re
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
# An interpreter that is missing is skipped with a note, and an error where the variable CI is set.
# None is ever downloaded: what is tested is what the machine has.
nox.options.download_python = "never"
# An environment is made once; each run installs the package into it anew.
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv|virtualenv"


SUPPORTED = ["3.10", "3.11", "3.12", "3.13"]
COMING = ["3.14", "3.14t", "3.15"]

# pyenv puts names into the path that lead to nothing but for the versions that are chosen just now.
# nox is to find all of them.
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
FOLDERS = [str(path) for python in SUPPORTED + COMING for path in PYENV.glob(f"{python}.*/bin")]
FOLDERS.sort(key=lambda folder: (len(folder), folder), reverse=True)  # the newest first
os.environ["PATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PATH", "")])


def is_there(python: str) -> bool:
    """Tell whether the machine has a Python; a name in the path may lead to none."""
    try:
        command = [f"python{python}", "-c", ""]
        done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - a Python
    except OSError:
        return False
    return done.returncode == 0


# What is not claimed yet is tested where a machine has it, and missed nowhere.
PYTHONS = SUPPORTED + [python for python in COMING if is_there(python)]
ALL_TESTS = "3.12"  # the Python on which each change has to pass all tests

nox.options.sessions = [
    "lint",
    "types",
    "docs",
    f"tests-{ALL_TESTS}",
    "every_python",
    "minimal",
    "package",
]


# What depends on the extras or on the versions of what is required: HTTP (urllib3 is an older one),
# the formatter, JSON without orjson, and what says which extra is missing.
MINIMAL = [
    "tests/check",
    "tests/delivery/test_answers.py",
    "tests/delivery/test_closing.py",
    "tests/delivery/test_requests.py",
    "tests/replay",
    "tests/test_broker_messages.py",
    "tests/test_command_line.py",
    "tests/test_configuration.py",
    "tests/test_dead_letter.py",
    "tests/test_event_values.py",
    "tests/test_events.py",
    "tests/test_forked_descriptors.py",
    "tests/test_formatter.py",
    "tests/test_hostile_input.py",
    "tests/test_iglu.py",
    "tests/test_imports.py",
    "tests/test_python_types.py",
    "tests/test_schemas.py",
    "tests/test_secrets.py",
    "tests/test_testing.py",
    "tests/test_values.py",
    "tests/test_whatever_is_logged.py",
]


def install(session: nox.Session, *requirements: str) -> None:
    """Install what is named, and the package as a user gets it: built, and not a link to the tree.

    A build directory that an earlier build left behind goes first, because setuptools would pack
    the modules in it that the tree no longer has.
    """
    shutil.rmtree("build", ignore_errors=True)
    session.install(*requirements)


def marked(name: str) -> list[str]:
    """Return the files of tests in which a mark stands, so that no others need be collected."""
    mark = re.compile(rf"\bmark\.{name}\b")
    # Some of those marked exhaustive stand in a module that several files share.
    modules = [path for path in Path("tests").glob("*.py") if not path.name.startswith("test_")]
    shared = {path.stem for path in modules if mark.search(path.read_text(encoding="utf-8"))}
    uses = re.compile(rf"^(?:from|import) (?:{'|'.join(shared)})\b", re.MULTILINE)
    return [
        str(path)
        for path in sorted(Path("tests").rglob("test_*.py"))
        if mark.search(text := path.read_text(encoding="utf-8")) or (shared and uses.search(text))
    ]


def pytest(session: nox.Session, *arguments: str, processes: int = 4) -> None:
    """Run tests; `--` may give more arguments.

    Twice as many processes as processors, or more: many tests wait for a time that they have set.
    """
    # Where this variable is set, as images of containers like to, each of the hundreds of processes
    # that the tests start would compile all that it imports anew, which is half of what tests cost.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    # A few tests, chosen by `-- -k name` or by their file, are not worth several processes.
    few = any(chosen == "-k" or ".py" in chosen for chosen in session.posargs)
    parallel = [] if few else [f"--numprocesses={processes}", "--dist=worksteal"]
    # `pytest` and not `python -m pytest`, which would put the tree in front of what is installed.
    session.run("pytest", *parallel, *arguments, *session.posargs)


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

    def check(python: str) -> None:
        session.run("mypy", f"--python-version={python}", *paths)

    # At once, for each takes one processor for a minute.
    with ThreadPoolExecutor() as threads:
        list(threads.map(check, (SUPPORTED[0], SUPPORTED[-1])))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, with warnings as errors, and look at the pages."""
    install(session, ".[docs]", "hypothesis", "pytest", "pytest-timeout")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build")
    session.run("pytest", "tests/test_built_pages.py", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests, with every extra installed, but for the exhaustive ones."""
    install(session, ".[test]")
    pytest(session)


@nox.session(python=[python for python in PYTHONS if python != ALL_TESTS])
def every_python(session: nox.Session) -> None:
    """Run the tests of what differs between versions of Python: threads, forks, exit, logging."""
    install(session, ".[test]")
    pytest(session, "-m", "every_python and not exhaustive", *marked("every_python"))


@nox.session(python=PYTHONS)
def exhaustive(session: nox.Session) -> None:
    """Run the tests that take long, because they try all that there is: some minutes each."""
    install(session, ".[test]")
    pytest(session, "-m", "exhaustive", "--timeout=900", *marked("exhaustive"))


@nox.session(python=SUPPORTED[0])
def minimal(session: nox.Session) -> None:
    """Run the tests with the two requirements alone, each in its lowest version.

    By default those that they can make a difference to; `-- tests` runs all, and `-- FILE` that.
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
    named = any(Path(chosen.partition("::")[0]).exists() for chosen in session.posargs)
    pytest(session, *([] if named else MINIMAL), processes=6)  # most of their time is waiting


@nox.session
def package(session: nox.Session) -> None:
    """Build what is released, check it, and run its tests from the unpacked source.

    What comes out is in `dist`.
    """
    for folder in ("build", "dist"):
        shutil.rmtree(folder, ignore_errors=True)
    session.install("build", "check-wheel-contents", "twine")
    session.run("python", "-m", "build")
    wheel, source = sorted(Path("dist").iterdir())
    if not wheel.name.endswith("-py3-none-any.whl"):
        session.error(f"{wheel.name} is no wheel for any Python")
    session.run("twine", "check", "--strict", str(source), str(wheel))
    session.run("check-wheel-contents", str(wheel))
    session.install(f"{wheel}[test]")
    with tarfile.open(source) as archive:
        archive.extractall(session.create_tmp(), filter="data")
    with session.chdir(Path(session.create_tmp()) / source.name.removesuffix(".tar.gz")):
        # A few of them, because the session `tests` runs all; here `-- tests` does.
        tests = session.posargs or ["tests/test_events.py", "tests/test_readme.py"]
        session.run("pytest", "--numprocesses=4", "--dist=worksteal", *tests)
