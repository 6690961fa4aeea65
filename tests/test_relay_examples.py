"""The unit of systemd and the compose file in `examples/relay` start a relay as it is."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from snowplow_logging.relay.command import add_relay

FOLDER = Path(__file__).parents[1] / "examples" / "relay"


def arguments_of(command):
    """Return what the relay of a command line would be told."""
    words = shlex.split(command)
    parser = argparse.ArgumentParser()
    add_relay(parser.add_subparsers())
    return parser.parse_args(words[words.index("relay") :])


def test_unit(tmp_path):
    """It is one that systemd takes, where that is, and its command one that the relay takes."""
    text = (FOLDER / "snowplow-relay.service").read_text()
    program = "/opt/shop/bin/snowplow-logging"
    assert program in text
    (line,) = (
        one for one in text.replace("\\\n", " ").splitlines() if one.startswith("ExecStart=")
    )
    arguments = arguments_of(line)
    assert arguments.store == "/var/lib/snowplow/events.db"
    # All users of a machine see the arguments; who has a password gives it by the environment.
    assert arguments.endpoint is None
    assert "$" not in line
    assert "EnvironmentFile=-/etc/snowplow-relay.env" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / "snowplow-relay.service"
    unit.write_text(text.replace(program, shutil.which("true")).replace("User=shop", "User=root"))
    command = ["systemd-analyze", "verify", unit]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert [line for line in ended.stderr.splitlines() if "snowplow-relay" in line] == []
    if ended.returncode:  # for reasons of the machine, or a container
        pytest.skip(ended.stderr)


def test_compose_file():
    """Its relay is one that reads from its broker."""
    yaml = pytest.importorskip("yaml", reason="the file is YAML")
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    command, environment = services["relay"]["command"][-1], services["relay"]["environment"]
    arguments = arguments_of(command)
    assert (arguments.broker, arguments.endpoint) == (None, None)
    assert "$" not in command
    assert environment["SNOWPLOW_BROKER"] == "redis://broker:6379/0"
    assert environment["SNOWPLOW_ENDPOINT"].startswith("${SNOWPLOW_ENDPOINT:?")
    assert services["relay"]["depends_on"]["broker"] == {"condition": "service_healthy"}
    assert "--appendonly yes" in services["broker"]["command"]
