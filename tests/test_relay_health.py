"""How a relay is, on a port and in a file; what is wrong with either is said."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from faulty_collector import nowhere
from relays import SECONDS, Relay
from snowplow_logging.cli import main

VICTIM = "what somebody else wrote\n"


@pytest.fixture
def relay(tmp_path):
    """Return a function that starts a relay whose collector is away, and gives it with its URL."""
    with contextlib.ExitStack() as opened:
        endpoint = opened.enter_context(nowhere())

        def start(*arguments):
            relay = Relay("--store", tmp_path / "events.db", *arguments, endpoint=endpoint)
            opened.enter_context(relay)
            return relay

        yield start


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "::1:0", "localhost:0", "0"])
def test_addresses(relay, address):
    """Of both families; the URL that is said is one that can be asked."""
    if "::1" in address:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    started = relay("--health", address)
    url = started.line().split()[-1]
    assert url.startswith("http://[::1]:" if "::1" in address else "http://127.0.0.1:")
    assert json.load(urlopen(url))["status"] == "ok"
    started.end()


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/metrics", 200), ("/nothing", 404)]
)
def test_head(relay, path, status):
    """It is answered as GET is, without a body, as watchers ask."""
    started = relay("--health", 0)
    port = urlsplit(started.line().split()[-1]).port
    answers = {}
    for method in "GET", "HEAD":
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        connection.request(method, path)
        answer = connection.getresponse()
        answers[method] = answer.status, answer.headers["Content-Type"], bool(answer.read())
        connection.close()
    assert answers["GET"] == (status, answers["HEAD"][1], True)
    assert answers["HEAD"] == (status, answers["GET"][1], False)
    started.end()


@pytest.mark.exhaustive
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are set as on Linux")
def test_a_shortage_of_descriptors_costs_no_busy_loop(command, tmp_path):
    """Idle connections are ended to have room, so that it is answered while many are open."""
    import resource

    process = command(
        *("relay", "--store", tmp_path / "events.db", "--health", 0),
        *("--endpoint", "http://127.0.0.1:1"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    )
    url = process.stdout.readline().split()[-1]
    assert process.stdout.readline().startswith("relays from")

    def busy_seconds():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    address = ("127.0.0.1", urlsplit(url).port)
    with contextlib.ExitStack() as opened:
        before = busy_seconds()
        held = [
            opened.enter_context(socket.create_connection(address, timeout=SECONDS))
            for _ in range(60)
        ]
        for connection in held[:20]:  # which have begun a request
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n")
        assert json.load(urlopen(url, timeout=SECONDS))["status"] == "ok"
        assert busy_seconds() - before < 0.7
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


BAD_FILES = {
    "no folder": ("none/health.json", "No such file or directory"),
    "a folder": ("", "Is a directory"),
    "a pipe": ("pipe", "it is no regular file"),
    "the store": ("events.db", "--health-file is a file of the relay's events, too"),
    "a file of the store": ("events.db-wal", "--health-file is a file of the relay's events, too"),
    "the dead letters": ("./dead.jsonl", "--health-file is a file of the relay's events, too"),
}


@pytest.mark.skipif(os.name != "posix", reason="the words are those of POSIX")
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_written(name, tmp_path, capfd):
    """The relay does not begin, and says why in one line."""
    file, words = BAD_FILES[name]
    os.mkfifo(tmp_path / "pipe")
    arguments = ["--store", tmp_path / "events.db", "--dead-letter", tmp_path / "dead.jsonl"]
    arguments += ["--health", 0, "--health-file", f"{tmp_path}/{file}".rstrip("/")]
    arguments += ["--endpoint", "http://127.0.0.1:1"]
    assert main(["relay", *map(str, arguments)]) == 2
    error = capfd.readouterr().err
    assert error.startswith("snowplow-logging relay: error: --health-file ")
    assert words in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken(tmp_path, capfd):
    """The option is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--store", tmp_path / "x.db", "--endpoint", "http://127.0.0.1:1"]
        assert main(["relay", *map(str, arguments), "--health", str(port)]) == 2
    assert f"error: --health cannot listen at 127.0.0.1, port {port}: " in capfd.readouterr().err


def test_a_file_that_can_be_written_no_more(relay, tmp_path):
    """It is there from the start on; that it cannot be written later is a report, and no end."""
    folder = tmp_path / "health"
    folder.mkdir()
    file = folder / "health.json"
    started = relay("--health-file", file).started()
    assert json.loads(file.read_text())["status"] == "ok"
    shutil.rmtree(folder)
    started.end()
    assert f"--health-file {file} cannot be written: No such file" in "".join(started.error)


@pytest.mark.skipif(not hasattr(os, "link"), reason="links are tested where they are")
@pytest.mark.parametrize("how", ["link", "symlink"])
def test_what_others_have_put_beside_it(relay, tmp_path, how):
    """Neither keeps a name that can be known beforehand from writing, nor is it written to."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o1777)
    victim = tmp_path / "victim"
    victim.write_text(VICTIM)
    getattr(os, how)(victim, folder / "health.json.new")
    getattr(os, how)(victim, folder / "health.json")
    relay("--health-file", folder / "health.json").started().end()
    assert victim.read_text() == VICTIM
    assert json.loads((folder / "health.json").read_text())["status"] == "ok"
    assert {file.name for file in folder.iterdir()} == {"health.json", "health.json.new"}
