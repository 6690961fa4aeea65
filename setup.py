"""Packaging of snowplow-logging: everything about the distribution is said here."""

import os
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
# Experimental, and so only where it is asked for.
COMPILE = bool(os.environ.get("SNOWPLOW_LOGGING_COMPILE"))
MYPY = "mypy>=2.4,<2.5"  # which compiles as well as checks


def version() -> str:
    """Read the version without importing the package, whose requirements may not be there yet."""
    source = (HERE / "snowplow_logging" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        message = 'snowplow_logging/_version.py has no line of the form __version__ = "1.2.3"'
        raise RuntimeError(message)
    return match[1]


def extensions() -> list[Extension]:
    """Return the modules that every log call goes through, to be compiled from their own source."""
    try:
        from mypyc.build import mypycify
    except ImportError:  # before pip has installed what `setup_requires` says
        return []
    # Neither the settings of the project's own type check nor its extras, which are not there.
    options = ["--config-file=", "--ignore-missing-imports"]
    modules = [f"snowplow_logging/{name}.py" for name in ("payload", "protocol", "record")]
    made: list[Extension] = mypycify(
        [*options, *modules], group_name="snowplow_logging.compiled", debug_level="0"
    )
    return made


# What each feature beyond the handler itself needs.
FEATURES = {
    "collector": ["jsonschema>=4.18", "werkzeug>=3.0"],
    "fast": ["orjson>=3.10"],
    "progress": ["tqdm>=4.65"],
    "yaml": ["PyYAML>=6.0.1"],
}
# What the programs in `examples/` use the handler with; the package itself knows none of it.
EXAMPLES = ["celery", "django", "fastapi", "flask", "gunicorn", "structlog", "uvicorn"]
# What the handler has to get on with in one process.
BESIDE = ["gevent", "sqlalchemy"]
TEST = ["hypothesis>=6.100", "pytest>=8.2", "pytest-timeout>=2.3", "pytest-xdist>=3.6"]
# Linters have an upper bound, because a new release brings new rules: moving to one is a change
# of its own, and never what breaks an unrelated one.
DEV = [
    MYPY,
    "nox>=2024.4.15",
    "ruff>=0.17.6,<0.18",
    "types-jsonschema",
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
    package_data={"snowplow_logging": ["py.typed"]},
    setup_requires=[MYPY] if COMPILE else [],
    ext_modules=extensions() if COMPILE else [],
    python_requires=">=3.10",
    # The lowest versions are the ones that the nox session `minimal` installs.
    install_requires=["python-json-logger>=3.1", "requests>=2.28"],
    extras_require={
        **FEATURES,
        "test": [
            *TEST,
            *EXAMPLES,
            *BESIDE,
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
