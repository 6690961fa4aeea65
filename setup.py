"""Packaging of snowplow-logging: everything about the distribution is said here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Read the version without importing the package, whose requirements may not be there yet."""
    source = (HERE / "snowplow_logging" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        message = 'snowplow_logging/_version.py has no line of the form __version__ = "1.2.3"'
        raise RuntimeError(message)
    return match[1]


# What each feature beyond the handler itself needs.
FEATURES = {
    "collector": ["jsonschema-rs>=0.52", "werkzeug>=3.0"],
    "fast": ["orjson>=3.10"],
    "kafka": ["confluent-kafka>=2.3"],
    "kombu": ["boto3>=1.28", "kombu>=5.3"],
    "progress": ["tqdm>=4.65"],
    "redis": ["redis>=5.0"],
    "schemas": ["jsonschema-rs>=0.52"],
    "yaml": ["PyYAML>=6.0.1"],
}
# What the programs in `examples/` use the handler with; the package itself knows none of it.
EXAMPLES = ["celery", "django", "fastapi", "flask", "gunicorn", "structlog", "uvicorn"]
# What the handler has to get on with in one process, or works with where it is there. channels,
# httpx and websockets are what the middleware is tested with.
BESIDE = [
    "channels",
    "eventlet",
    "gevent",
    "httpx",
    "loguru",
    "opentelemetry-sdk",
    "prometheus-client",
    "rich",
    "sentry-sdk",
    "sqlalchemy",
    "websockets",
]
# What runs code in ways of its own, and ends it so.
RUNNERS = [
    "awslambdaric; sys_platform == 'linux'",
    "dramatiq[redis]",
    "huey",
    "ipykernel",
    "jupyter-client",
    "rq",
    "uvicorn-worker",
]
# Whose objects are taken as data.
OBJECTS = ["attrs", "msgspec", "numpy", "pydantic"]
# What tests/benchmarks compares the package with, whose version is part of the comparison, and what
# the guide to migration starts from.
TRACKER = "snowplow-tracker==1.1.0"
# What builds the pages in `docs/`.
DOCS = ["furo>=2025.7", "myst-parser>=4", "sphinx>=8.1"]
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
    python_requires=">=3.10",
    # The lowest versions are the ones that the nox session `minimal` installs.
    install_requires=["python-json-logger>=3.1", "requests>=2.28"],
    extras_require={
        **FEATURES,
        "test": [
            *TEST,
            TRACKER,
            *EXAMPLES,
            *BESIDE,
            *RUNNERS,
            *OBJECTS,
            *(name for needs in FEATURES.values() for name in needs),
        ],
        "bench": ["orjson>=3.10", TRACKER],
        "docs": DOCS,
        "dev": DEV,
    },
    entry_points={
        "console_scripts": ["snowplow-logging = snowplow_logging.cli:main"],
        "pytest11": ["snowplow_logging = snowplow_logging.pytest_plugin"],
    },
    zip_safe=False,
)
