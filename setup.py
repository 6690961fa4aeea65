"""Packaging of snowplow-logging: everything about the distribution is said here."""

import os
import platform
import re
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
# The variable with which the modules that every log call goes through are compiled, by mypyc.
COMPILES = bool(os.environ.get("SNOWPLOW_LOGGING_COMPILE"))
PURE = "snowplow-logging is installed without its compiled modules, and takes more time per event"


def version() -> str:
    """Read the version without importing the package, whose requirements may not be there yet."""
    source = (HERE / "snowplow_logging" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        message = 'snowplow_logging/_version.py has no line of the form __version__ = "1.2.3"'
        raise RuntimeError(message)
    return match[1]


def extensions() -> list[Extension]:
    """Return the modules that every log call goes through, to be compiled from their own source.

    Without the variable SNOWPLOW_LOGGING_COMPILE there are none, and the installation takes neither
    a compiler nor mypy.
    """
    # mypyc relies on CPython, and on its global interpreter lock. The versions are those that the
    # tests run on; pyproject.toml names the same.
    tested = platform.python_implementation() == "CPython" and sys.version_info < (3, 14)
    if not COMPILES or not tested or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    # Neither the settings of the project's own type check nor its extras, which are not there.
    options = ["--config-file=", "--ignore-missing-imports"]
    names = ("definitions", "json_data", "number_types", "payload", "protocol", "record", "urls")
    modules = [f"snowplow_logging/{name}.py" for name in names]
    try:
        from mypyc.build import mypycify

        made: list[Extension] = mypycify(
            [*options, *modules], group_name="snowplow_logging.compiled", debug_level="0"
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - not there, or another version
        sys.stderr.write(f"{PURE}: {error!r}\n")
        return []
    return made


class BuildAllOrNone(build_ext):
    """Compiles all of the modules or, where one cannot be, none: each relies on the others."""

    def run(self) -> None:
        """Compile them; where that fails they are installed as the Python that they are.

        So they are where the tree itself is installed, to be edited: what was compiled would hide
        each change.
        """
        if self.inplace or self.editable_mode:
            self.extensions = []
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the compiler
            sys.stderr.write(f"{PURE}: {error!r}\n")
            for output in self.get_outputs():
                Path(output).unlink(missing_ok=True)
            self.extensions = []


# What each feature beyond the handler itself needs.
FEATURES = {
    "collector": ["jsonschema-rs>=0.45", "werkzeug>=3.0"],
    "fast": ["orjson>=3.10"],
    "progress": ["tqdm>=4.65"],
    "redis": ["redis>=5.0"],
    "schemas": ["jsonschema-rs>=0.45"],
    "yaml": ["PyYAML>=6.0.1"],
}
# What the programs in `examples/` use the handler with; the package itself knows none of it.
EXAMPLES = ["celery", "django", "fastapi", "flask", "gunicorn", "structlog", "uvicorn"]
# What the handler has to get on with in one process.
BESIDE = ["gevent", "sqlalchemy"]
# Whose objects are taken as data.
OBJECTS = ["attrs", "msgspec", "numpy", "pydantic"]
TEST = [
    # The rules of accessibility that the collector's page is held to, to be run in the browser.
    "axe-playwright-python>=0.1.4",
    "freezegun>=1.5",
    "hypothesis>=6.100",
    # Drives the Chromium that the machine has.
    "playwright>=1.45",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "time-machine>=2.16",
]
# Linters have an upper bound, because a new release brings new rules: moving to one is a change
# of its own, and never what breaks an unrelated one.
DEV = [
    "mypy>=2.4,<2.5",
    "nox>=2024.4.15",
    "ruff>=0.17.6,<0.18",
    "types-PyYAML",
    "types-requests",
    "types-tqdm",
]

setup(
    name="snowplow-logging",
    version=version(),
    description="Send events to Snowplow through Python's standard logging",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["analytics", "events", "logging", "snowplow", "tracker"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Logging",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["snowplow_logging*"]),
    package_data={
        "snowplow_logging": ["py.typed", "iglu_central/*", "iglu_central/schemas/*/*/*/*"],
        "snowplow_logging.collector": ["page_files/*"],
    },
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildAllOrNone},
    # mypyc is a part of mypy; the same version as in the extra `dev`.
    setup_requires=["mypy>=2.4,<2.5"] if COMPILES else [],
    python_requires=">=3.10",
    # The lowest versions are the ones that the nox session `minimal` installs.
    install_requires=["python-json-logger>=3.1", "requests>=2.28"],
    extras_require={
        **FEATURES,
        "test": [
            *TEST,
            *EXAMPLES,
            *BESIDE,
            *OBJECTS,
            *(name for needs in FEATURES.values() for name in needs),
        ],
        # What tests/benchmarks compares the package with; its version is part of the comparison.
        "bench": ["orjson>=3.10", "snowplow-tracker==1.1.0"],
        "dev": DEV,
    },
    entry_points={
        "console_scripts": ["snowplow-logging = snowplow_logging.cli:main"],
        "pytest11": ["snowplow_logging = snowplow_logging.pytest_plugin"],
    },
    zip_safe=False,
)
