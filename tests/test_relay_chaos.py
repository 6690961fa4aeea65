"""Programs, relays and brokers that are killed at random lose nothing that was acknowledged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(450)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("kafka", marks=pytest.mark.exhaustive),  # which takes long to start
        pytest.param("rabbitmq", marks=pytest.mark.exhaustive),
        pytest.param("sqs", marks=pytest.mark.exhaustive),
        "redis",
        "store",
    ],
)
def test_nothing_is_lost_or_changed_in_a_few_rounds_of_chaos(kind):
    """What arrives is what was acknowledged, the same in all but `stm`."""
    if kind != "store":
        extra = {"kafka": "confluent_kafka", "rabbitmq": "kombu", "sqs": "boto3"}.get(kind, kind)
        pytest.importorskip(extra, reason="the client of the broker is an extra")
    program = Path(__file__).with_name("relay_chaos.py")
    arguments = [sys.executable, program, kind, "--rounds", "3", "--seed", "1"]
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=400)
    if "Skipped: " in ended.stderr:
        pytest.skip(ended.stderr.rpartition("Skipped: ")[2])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lost 0 []" in ended.stdout
