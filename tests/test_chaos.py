"""Processes that are killed at random lose nothing that had reached their store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(50, marks=[pytest.mark.exhaustive, pytest.mark.timeout(600)])]
)
def test_nothing_is_lost_or_changed_in_rounds_of_chaos(rounds):
    """What arrives is what had reached the store, the same in all but `stm`."""
    program = Path(__file__).with_name("chaos.py")
    arguments = [sys.executable, program, "--rounds", str(rounds), "--seed", "1"]
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lost 0 []" in ended.stdout
