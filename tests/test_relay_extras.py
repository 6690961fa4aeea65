"""A broker whose client is not installed is an error that names the extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys

for name in ("boto3", "boto3.session", "confluent_kafka", "kombu", "redis"):
    sys.modules[name] = None
from snowplow_logging import SnowplowHandler
from snowplow_logging.cli import main

try:
    SnowplowHandler(broker=sys.argv[1])
except ImportError as error:
    print(error)
sys.exit(main(["relay", "--broker", sys.argv[1], "--endpoint", "http://127.0.0.1:9"]))
"""


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("amqp://h", "kombu"),
        ("kafka://h", "kafka"),
        ("redis://h", "redis"),
        ("redis+cluster://h", "redis"),
        ("sqs://h", "kombu"),
    ],
)
def test_the_error_names_the_extra(url, extra):
    """Of the handler, and of the relay, which ends with status 2."""
    command = [sys.executable, "-c", PROGRAM, url]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    words = f"a broker of this kind needs the extra {extra}"
    assert f"{words}: pip install 'snowplow-logging[{extra}]'" in ended.stdout
    assert ended.stderr.startswith(f"snowplow-logging relay: error: {words}")
    assert ended.returncode == 2
