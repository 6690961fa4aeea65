"""What arrives by itself at the end of a process, and what does with what there is to add.

The guide to the ends of processes has a table of it, whose rows these are: five events, which
nothing sends before the end of the process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from documents import DOCS
from ends import ALL, CHILDREN, ENDS, FORK, LAMBDA, LOGS, SCRIPT, SIGTERM, guide
from servers import SECONDS, get, names, started

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks are POSIX")

BY_SIGNAL = [
    pytest.param(
        end,
        how,
        id=f"{end.name} {how.upper()}",
        marks=[pytest.mark.exhaustive] if end.is_seldom else [],
    )
    for end in ENDS
    for how in ("term", "ctrl_c")
    if getattr(end, how) is not None
]
GUIDE = DOCS / "guides" / "process-ends.md"
ELSEWHERE = {
    *(f"Celery {pool}, install" for pool in ("prefork", "threads", "solo")),  # test_celery.py
    "AWS Lambda, frozen and thrown away later",
    "AWS Lambda, frozen and thrown away later, flushing around the handler",
    "AWS Lambda, ended by SIGTERM, flush_on_sigterm",
    "a Jupyter kernel that is shut down or restarted",
}
"""Rows that are run by other tests than those of ENDS and CHILDREN."""


def _count(cell):
    """Return how many of five a cell says; None where it says nothing that can be counted."""
    return {"0": 0, "all": ALL}.get(cell.partition(",")[0].partition(":")[0])


def test_the_guide_says_the_same():
    """What the tests find out is what the guide says, and each row with a mark is run by a test."""
    rows = guide(GUIDE)
    ran = set()
    for end in ENDS:
        ran.add(end.row)
        row = rows[end.row]
        for how in ("term", "ctrl_c"):
            arrive = getattr(end, how)
            if arrive is not None:
                assert _count(row["then" if end.added else how]) == arrive, (end.name, how)
        assert end.added in row["to add"], end.name
    for child in CHILDREN:
        ran.add(child.row)
        row = rows[child.row]
        assert _count(row["then" if child.added else "term"]) == child.arrive, child.name
        assert child.added in row["to add"], child.name
    for name in ELSEWHERE:
        row, _, added = name.rpartition(", ") if name not in rows else (name, "", "")
        ran.add(row)
        assert rows[row]["run"], name
        assert added in rows[row]["to add"], name
    assert ran == {row for row, cells in rows.items() if cells["run"]}


@pytest.fixture
def redis_port(tmp_path):
    """Start a Redis."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if "Ready to accept" in line:
                    break
            yield str(port)
        finally:
            process.kill()


def _await_server(port, process):
    for _ in range(SECONDS * 20):
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", int(port))),
        ):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended: {process.wait(0.05)}")
    pytest.fail("it does not listen")


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def _environment(folder, collector, program, settings):
    """Write a program into a folder, and return the environment that it runs in."""
    (folder / "logs.py").write_text(LOGS)
    (folder / "main.py").write_text(program)
    return {
        **os.environ,
        "SNOWPLOW_ENDPOINT": collector.endpoint,
        "SETTINGS": json.dumps(settings),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize(("end", "how"), BY_SIGNAL)
def test_by_a_signal(end, how, collector, tmp_path, request):
    """As many arrive as the guide says."""
    for module in end.needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    environment = _environment(tmp_path, collector, end.program, end.settings)
    if "redis" in end.needs:
        if shutil.which("redis-server") is None:
            pytest.skip("there is no redis-server")
        environment["REDIS"] = request.getfixturevalue("redis_port")
    port = _free_port()
    command = [
        part.replace("PORT", port).replace("REDIS", environment.get("REDIS", ""))
        for part in end.command
    ]
    with started(environment, tmp_path, *command) as (said, process):
        if end.begins == "requests":
            _await_server(port, process)
            for _ in range(5):
                assert get(port, "/") == 200
        elif end.begins:
            enqueue = [sys.executable, "-c", f"import main; main.{end.begins}"]
            subprocess.run(enqueue, cwd=tmp_path, env=environment, check=True, timeout=SECONDS)
            for _ in range(5):
                said("LOGGED")
        else:
            said("LOGGED")
        if how == "term":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(SECONDS)
    assert len(names(collector, "eid")) == getattr(end, how)


@pytest.mark.parametrize("child", CHILDREN, ids=[child.name for child in CHILDREN])
def test_of_children(collector, tmp_path, child):
    """What children log arrives as the guide says."""
    environment = _environment(tmp_path, collector, child.program, child.settings)
    command = [sys.executable, "main.py", *child.words.split()]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=SECONDS)
    assert len(names(collector, "eid")) == child.arrive


def test_a_child_that_forgets_the_exit_of_its_parent(collector, tmp_path):
    """It delivers by what it runs at its own exit, as the process of a task of Airflow's does."""
    environment = _environment(tmp_path, collector, FORK, {})
    command = [sys.executable, "main.py", "forgets"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=SECONDS)
    assert len(names(collector, "eid")) == ALL


@pytest.mark.parametrize("stores", [False, True], ids=["memory", "store"])
def test_kill(collector, tmp_path, stores):
    """What is in a file is sent by the next process; what is in memory alone is lost."""
    settings = {"store": str(tmp_path / "store"), "store_sync": True} if stores else {}
    environment = _environment(tmp_path, collector, SCRIPT, settings)
    with started(environment, tmp_path, "main.py") as (said, process):
        said("LOGGED")
        process.kill()
        process.wait(SECONDS)
    assert collector.counts["total"] == 0
    with started(environment, tmp_path, "main.py") as (said, process):
        said("LOGGED")
        os.killpg(process.pid, signal.SIGINT)
        process.wait(SECONDS)
    assert len(names(collector, "eid")) == (10 if stores else 5)


class _LambdaRuntime(ThreadingHTTPServer):
    """The API from which Lambda's runtime takes its work: five calls, and then none."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _LambdaCall)
        self.calls = iter(range(5))
        self.answers = queue.SimpleQueue()
        self.end = threading.Event()


class _LambdaCall(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        call = next(self.server.calls, None)
        if call is None:
            self.server.answers.put("waits")
            self.server.end.wait(SECONDS)
            return
        self._answer(
            200,
            b"{}",
            Lambda_Runtime_Aws_Request_Id=str(call),
            Lambda_Runtime_Deadline_Ms=str(int(time.time() * 1000) + 30_000),
            Lambda_Runtime_Invoked_Function_Arn="arn",
            Content_Type="application/json",
        )

    def do_POST(self):
        self.server.answers.put(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(202, b"")

    def _answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("function", "settings", "expected"),
    [("handler", {}, 0), ("flushed", {}, ALL), ("handler", SIGTERM, ALL)],
    ids=["", "flushing", "flush_on_sigterm"],
)
def test_aws_lambda(collector, tmp_path, function, settings, expected):
    """Its runtime stands still between calls until it is killed, or waits and gets SIGTERM."""
    pytest.importorskip("awslambdaric")
    environment = _environment(tmp_path, collector, LAMBDA, settings)
    with _LambdaRuntime() as runtime:
        threading.Thread(target=runtime.serve_forever).start()
        environment["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{runtime.server_port}"
        environment["PYTHONPATH"] = str(tmp_path)
        command = ("-m", "awslambdaric", f"main.{function}")
        with started(environment, tmp_path, *command) as (_, process):
            answers = [runtime.answers.get(timeout=SECONDS) for _ in range(6)]
            if settings:
                process.terminate()
            else:
                process.send_signal(signal.SIGSTOP)
                process.kill()
            process.wait(SECONDS)
        runtime.end.set()
        runtime.shutdown()
    assert answers == [*[b"{}"] * 5, "waits"]
    assert len(names(collector, "eid")) == expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [("shutdown_kernel", 5), ("restart_kernel", 5)],
    ids=["shutdown", "restart"],
)
def test_a_notebook(collector, tmp_path, monkeypatch, end, expected):
    """Its kernel delivers when it is shut down or begun anew."""
    pytest.importorskip("ipykernel")
    manager = pytest.importorskip("jupyter_client.manager")
    for name, value in _environment(tmp_path, collector, "", {}).items():
        monkeypatch.setenv(name, value)
    kernel = manager.KernelManager(transport="ipc", ip=str(tmp_path / "kernel"))
    kernel.start_kernel(cwd=str(tmp_path))
    try:
        client = kernel.client()
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        reply = client.execute_interactive("import logs\nfor _ in range(5): logs.log()")
        assert reply["content"]["status"] == "ok"
        assert collector.counts["total"] == 0
        getattr(kernel, end)()
        client.stop_channels()
    finally:
        kernel.shutdown_kernel(now=True)
    assert len(names(collector, "eid")) == 5
