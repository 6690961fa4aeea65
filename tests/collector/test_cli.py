"""The command `snowplow-logging collector`, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
import requests

from snowplow_logging.cli import main

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

EVENT = {"tv": "test-1.0", "p": "srv", "e": "pv", "url": "https://a/", "aid": "shop"}


@pytest.fixture
def launch():
    """Start the command, and return its process and its endpoint once it listens."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "snowplow_logging", "collector", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        started.append(process)
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("Collector: http://127.0.0.1:"), lines
        endpoint = lines[0].split()[1]
        assert f"{endpoint}/micro/all" in lines[1]
        return process, endpoint

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_with_status_0(launch, number):
    """SIGTERM and Ctrl-C end the collector quietly."""
    process, _ = launch()

    process.send_signal(number)

    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_it_prints_a_line_for_each_event(launch):
    """Each event has its line, and a bad one its errors below."""
    process, endpoint = launch()
    requests.get(f"{endpoint}/i", params={**EVENT, "aid": "shöp\x1b[2J"}, timeout=10)
    requests.get(f"{endpoint}/i", params={**EVENT, "vid": "x", "sid": "y"}, timeout=10)
    requests.post(f"{endpoint}/com.snowplowanalytics.snowplow/tp2", timeout=10)
    process.send_signal(signal.SIGTERM)

    output, problems = process.communicate(timeout=10)

    good, bad, *details, request, reason, hint = output.splitlines()
    assert (good.split()[1:3], bad.split()[1:3]) == (["good", "page_view"], ["BAD", "pv"])
    assert "sh\\xf6p" in good
    assert "\x1b" not in output
    assert [line[:9] for line in details] == ["    vid: ", "    sid: "]
    assert "BAD  the whole request" in request
    assert reason.startswith("    Content-Type: ")
    assert hint.startswith("    body: ")
    assert problems == ""


def test_quiet_prints_no_events(launch):
    """With --quiet there is the endpoint and nothing else, and Micro's API still answers."""
    process, endpoint = launch("--quiet")
    requests.get(f"{endpoint}/i", params=EVENT, timeout=10)
    counts = requests.get(f"{endpoint}/micro/all", timeout=10).json()
    process.send_signal(signal.SIGTERM)

    assert process.communicate(timeout=10) == ("", "")
    assert counts == {"total": 1, "good": 1, "bad": 0}


def test_it_takes_a_registry(launch, tmp_path):
    """With --iglu schemas are looked up in a folder."""
    (tmp_path / "com.acme" / "plan" / "jsonschema").mkdir(parents=True)
    (tmp_path / "com.acme" / "plan" / "jsonschema" / "1-0-0").write_text('{"type": "object"}')
    _, endpoint = launch("--iglu", str(tmp_path))

    answer = requests.get(f"{endpoint}/micro/iglu/com.acme/plan/jsonschema/1-0-0", timeout=10)

    assert answer.json() == {"type": "object"}


def test_a_port_in_use_is_said(capsys):
    """A port that is taken is one clear line and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert main(["collector", "--port", str(port)]) == 1

    output = capsys.readouterr()
    assert f"port {port} is in use" in output.err
    assert output.out == ""


def test_a_registry_that_does_not_exist_is_said(capsys, tmp_path):
    """A folder that is none is one clear line and status 1."""
    assert main(["collector", "--port", "0", "--iglu", str(tmp_path / "nothing")]) == 1

    assert "is no folder" in capsys.readouterr().err


def test_the_port_is_that_of_micro_by_default(capsys):
    """The help names the port that Micro's users know."""
    with pytest.raises(SystemExit) as ended:
        main(["collector", "--help"])

    assert ended.value.code == 0
    assert "9090" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["collector", "--port", "x"]])
def test_arguments_that_make_no_sense_are_status_2(arguments, capsys):
    """A command line that cannot be read is explained on standard error."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
