"""Configurations for `check`, and the command itself."""

from __future__ import annotations

import subprocess
import sys

from helpers import NOWHERE

__all__ = ["HANDLER", "configuration", "put", "run"]

HANDLER = "snowplow_logging.SnowplowHandler"


def configuration(**handler: object) -> dict[str, object]:
    """Return a configuration with one handler, on the root logger."""
    settings = {"class": HANDLER, "endpoint": NOWHERE, **handler}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"snowplow": {k: v for k, v in settings.items() if v is not ...}},
        "root": {"level": "INFO", "handlers": ["snowplow"]},
    }


def put(path, value):
    """Return a function that puts a value into a configuration."""

    def change(config):
        *way, last = path.split("/")
        for key in way:
            config = config.setdefault(key, {})
        config[last] = value

    return change


def run(source, *options, cwd):
    """Run the command, and return its exit status and what it printed."""
    command = [sys.executable, "-m", "snowplow_logging", "check", *options, source]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    # All that is said there is what is about to be imported.
    assert all(" check: imports " in line for line in done.stderr.splitlines()), done.stderr
    return done.returncode, done.stdout
