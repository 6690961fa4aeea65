"""The command `snowplow-logging collector`, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests

from snowplow_logging.cli import main

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

EVENT = {"tv": "test-1.0", "p": "srv", "e": "pv", "url": "https://a/", "aid": "shop"}


@pytest.fixture
def launch_raw(command):
    """Start the command with a port of its own, and return its process."""

    def start(*arguments):
        # The environment as it is when it starts, in which tests set variables.
        env = {**os.environ, "PYTHONIOENCODING": "ascii"}
        return command("collector", "--port", 0, *arguments, env=env)

    return start


@pytest.fixture
def launch(launch_raw):
    """Start the command, and return its process and its endpoint once it listens."""

    def start(*arguments):
        process = launch_raw(*arguments)
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("Collector: http://127.0.0.1:"), lines
        endpoint = lines[0].split()[1]
        assert f"{endpoint}/micro/all" in lines[1]
        return process, endpoint

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_with_status_0(launch, number):
    """SIGTERM and Ctrl-C end the collector quietly."""
    process, _ = launch()

    process.send_signal(number)

    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def ended(process):
    """End the collector, and return what it printed since its greeting, as lines."""
    process.send_signal(signal.SIGTERM)
    output, problems = process.communicate(timeout=60)
    return output.splitlines(), problems.splitlines()


def test_it_prints_a_line_for_each_event(launch):
    """Each event has a line: verdict, name, main values, user, application, and what is wrong."""
    process, endpoint = launch()
    hostile = "u-1\u202e\u2028\x9b2J"
    requests.get(
        f"{endpoint}/i", params={**EVENT, "aid": "shöp\x1b[2J", "uid": hostile}, timeout=60
    )
    requests.get(f"{endpoint}/i", params={**EVENT, "vid": "x", "sid": "y"}, timeout=60)
    requests.post(f"{endpoint}/com.snowplowanalytics.snowplow/tp2", timeout=60)

    (good, bad, request), problems = ended(process)

    assert good.split()[1:5] == ["good", "page_view", "https://a/", R"user=u-1\ufffd\ufffd\ufffd2J"]
    assert "app=sh\\xf6p" in good
    assert "\x1b" not in good
    assert bad.split()[1:3] == ["BAD", "page_view"]
    assert "  vid: 'x' is not an int; give " in bad
    assert " | sid: " in bad
    assert "BAD   whole request  Content-Type: is missing; give " in request
    assert " | body: " in request
    assert problems == []


def test_colour_is_for_terminals(launch):
    """On a terminal verdicts have a colour, and where NO_COLOR is set they have none."""
    pty = pytest.importorskip("pty", reason="this platform has no terminals")
    for variables, coloured in (({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False)):
        terminal, other_end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "snowplow_logging", "collector", "--port", "0"],
            stdout=other_end,
            env={**os.environ, "NO_COLOR": "", **variables},
        )
        os.close(other_end)
        with open(terminal, encoding="utf-8", newline="") as screen:  # noqa: PTH123 - a descriptor
            address = screen.readline().replace("\x1b[1m", "").replace("\x1b[0m", "").split()[1]
            requests.get(f"{address}/i", params={**EVENT, "vid": "x"}, timeout=60)
            lines = [screen.readline() for _ in range(3)]
            process.terminate()
            process.wait(60)
        assert ("\x1b[1;31mBAD" in lines[-1], "BAD" in lines[-1]) == (coloured, True)


def test_log_json_is_for_programs(launch_raw):
    """With --log-json each line is a JSON object: the address first, then each event."""
    process = launch_raw("--log-json")
    greeting = json.loads(process.stdout.readline())
    requests.get(f"{greeting['collector']}/i", params={**EVENT, "uid": "u-1"}, timeout=60)
    requests.get(f"{greeting['collector']}/i", params={**EVENT, "vid": "x"}, timeout=60)

    lines, problems = ended(process)

    good, bad = map(json.loads, lines)
    assert greeting["page"] == f"{greeting['collector']}/micro/ui"
    assert (good["good"], good["event"], good["user"], good["app"], good["errors"]) == (
        True, "page_view", "u-1", "shop", [],
    )  # fmt: skip
    assert (bad["good"], [error[:5] for error in bad["errors"]]) == (False, ["vid: "])
    assert problems == []


@pytest.mark.parametrize("form", ["json", "tsv"])
def test_good_events_are_put_out_enriched(launch_raw, form):
    """With --output-json and --output-tsv standard output has the good events and no more."""
    process = launch_raw(f"--output-{form}")
    endpoint = process.stderr.readline().split()[1]
    requests.get(f"{endpoint}/i", params={**EVENT, "page": "A\tB", "vp": "8x9"}, timeout=60)
    requests.get(f"{endpoint}/i", params={**EVENT, "vid": "x"}, timeout=60)

    [line], [*_, good, bad] = ended(process)

    assert (good.split()[1], bad.split()[1]) == ("good", "BAD")
    if form == "json":
        event = json.loads(line)
        assert (event["page_title"], event["br_viewwidth"]) == ("A    B", 8)
    else:
        columns = line.split("\t")
        assert len(columns) == 131
        assert columns[:2] == ["shop", "srv"]
        assert (columns[5], columns[30]) == ("page_view", "A    B")


def test_registries_are_also_named_by_micros_variables(launch, tmp_path, monkeypatch):
    """MICRO_IGLU_REGISTRY_URL is asked after those of --iglu, and all of them are named."""
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    (second / "com.acme" / "plan" / "jsonschema").mkdir(parents=True)
    (second / "com.acme" / "plan" / "jsonschema" / "1-0-0").write_text('{"type": "object"}')
    monkeypatch.setenv("MICRO_IGLU_REGISTRY_URL", str(second))
    _, endpoint = launch("--iglu", str(first))

    found = requests.get(f"{endpoint}/micro/iglu/com.acme/plan/jsonschema/1-0-0", timeout=60)
    missing = requests.get(f"{endpoint}/micro/iglu/com.acme/x/jsonschema/1-0-0", timeout=60)

    assert found.json() == {"type": "object"}
    assert f"the registries {first}, {second}" in missing.json()["message"]


def test_the_registrys_key_is_also_named_by_micros_variable(launch, monkeypatch):
    """MICRO_IGLU_API_KEY is sent to the registry that MICRO_IGLU_REGISTRY_URL names."""
    keys = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            keys.append(self.headers.get("apikey"))
            self.send_error(404)

        def log_message(self, *arguments):
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MICRO_IGLU_REGISTRY_URL", url)
        monkeypatch.setenv("MICRO_IGLU_API_KEY", "a-key")
        _, endpoint = launch()
        missing = requests.get(f"{endpoint}/micro/iglu/com.acme/x/jsonschema/1-0-0", timeout=60)
        server.shutdown()
        thread.join()

    assert missing.status_code == 404
    assert url in missing.json()["message"]
    assert "a-key" in keys


def test_what_is_kept_is_bounded(launch):
    """With --keep the last events are kept, and all are counted."""
    _, endpoint = launch("--keep", "3")
    for number in range(5):
        requests.get(f"{endpoint}/i", params={**EVENT, "page": str(number)}, timeout=60)

    kept = requests.get(f"{endpoint}/micro/good", timeout=60).json()

    assert [event["event"]["page_title"] for event in kept] == ["4", "3", "2"]
    assert requests.get(f"{endpoint}/micro/all", timeout=60).json()["total"] == 5


def test_quiet_prints_no_events(launch):
    """With --quiet there is the endpoint and nothing else, and Micro's API still answers."""
    process, endpoint = launch("--quiet")
    requests.get(f"{endpoint}/i", params=EVENT, timeout=60)
    counts = requests.get(f"{endpoint}/micro/all", timeout=60).json()
    process.send_signal(signal.SIGTERM)

    assert process.communicate(timeout=60) == ("", "")
    assert counts == {"total": 1, "good": 1, "bad": 0}


def test_it_takes_a_registry(launch, tmp_path):
    """With --iglu schemas are looked up in a folder."""
    (tmp_path / "com.acme" / "plan" / "jsonschema").mkdir(parents=True)
    (tmp_path / "com.acme" / "plan" / "jsonschema" / "1-0-0").write_text('{"type": "object"}')
    _, endpoint = launch("--iglu", str(tmp_path))

    answer = requests.get(f"{endpoint}/micro/iglu/com.acme/plan/jsonschema/1-0-0", timeout=60)

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
