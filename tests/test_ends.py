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
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from servers import SECONDS, get, names, started

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks are POSIX")

LOGS = """
import json, logging, logging.config, os, signal, sys, time

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"snowplow": {
        "class": "snowplow_logging.SnowplowHandler",
        "endpoint": os.environ["SNOWPLOW_ENDPOINT"],
        "flush_interval": 600,
        **json.loads(os.environ["SETTINGS"]),
    }},
    "root": {"level": "INFO", "handlers": ["snowplow"]},
})

def log(*_):
    event = {"event": "struct_event", "category": "c", "action": "a"}
    logging.getLogger("shop").info("an event", extra={"snowplow": event})

def say(what):
    os.write(1, f"{what}\\n".encode())  # at once, for another process may write, too
"""

SCRIPT = """
from logs import *
for _ in range(5):
    log()
say("LOGGED")
time.sleep(60)
"""

FORK = """
from logs import *
from snowplow_logging import flush
if not os.fork():
    for _ in range(5):
        log()
    if "flush" in sys.argv:
        flush()
    os._exit(0)
os.wait()
"""

WEB = """
from logs import *
from snowplow_logging.web import SnowplowMiddleware

def wsgi(environ, start_response):
    log()
    start_response("200 OK", [("Content-Length", "0")])
    return []

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    log()
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})

lifespan = SnowplowMiddleware(asgi)
"""

DJANGO = """
from logs import *
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["*"], DEBUG=True, LOGGING_CONFIG=None, ROOT_URLCONF=__name__,
                   SECRET_KEY="x", USE_TZ=True)
from django.http import HttpResponse
from django.urls import path
def view(request):
    log()
    return HttpResponse("")
urlpatterns = [path("", view)]
if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""

FLASK = """
from logs import *
from flask import Flask
app = Flask(__name__)
app.route("/")(lambda: log() or "")
"""

PROCESS = """
from logs import *
import multiprocessing
def work():
    for _ in range(5):
        log()
    say("LOGGED")
    time.sleep(60)
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    say(f"child {process.pid}")
    process.join()
"""

POOL = """
from logs import *
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from snowplow_logging import flushing
@flushing
def flushed(number):
    log()
begun, begins = os.pipe()
def busy(number):
    os.write(begins, b".")
    time.sleep(60)
if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    task = flushed if "flushing" in sys.argv else log
    if "executor" in sys.argv:
        with ProcessPoolExecutor(2, mp_context=fork) as executor:
            [*executor.map(log, range(5))]
    elif "with" in sys.argv:
        with fork.Pool(2) as pool:
            pool.map(task, range(5))
            # A child that has nothing to do may end by itself before the signal reaches it.
            pool.map_async(busy, range(2), chunksize=1)
            for _ in range(2):
                os.read(begun, 1)
    else:
        pool = fork.Pool(2)
        pool.map(log, range(5))
        pool.close()
        pool.join()
"""

HUEY = """
from logs import *
from huey import SqliteHuey
from snowplow_logging import flush
huey = SqliteHuey(filename=os.path.join(os.path.dirname(os.path.abspath(__file__)), "huey.db"))
@huey.task()
def work():
    log()
    say("LOGGED")
if "flush" in os.environ["SETTINGS"]:
    @huey.on_shutdown()
    def deliver():
        flush()
def enqueue():
    for _ in range(5):
        work()
"""

RQ = """
from logs import *
import redis, rq
from snowplow_logging import flushing
def work():
    log()
    say("LOGGED")
@flushing
def flushed():
    work()
def enqueue(task):
    queue = rq.Queue(connection=redis.Redis(port=int(os.environ["REDIS"])))
    for _ in range(5):
        queue.enqueue(f"main.{task}")
"""

DRAMATIQ = """
from logs import *
import dramatiq
from dramatiq.brokers.redis import RedisBroker
dramatiq.set_broker(RedisBroker(port=int(os.environ["REDIS"])))
@dramatiq.actor
def work():
    log()
    say("LOGGED")
def enqueue():
    for _ in range(5):
        work.send()
"""


@dataclass(frozen=True)
class End:
    """A way to run code, and what of five events arrives by the signal that ends it.

    Args:
        name: What it is called.
        program: The module `main`.
        command: How it is run.
        needs: What has to be installed.
        begins: How it comes to log five events: by `requests`, by a call that puts five tasks into
            a queue, or by itself, where this is empty.
        term: What arrives at SIGTERM to its main process; None where it is not tried.
        ctrl_c: What arrives at Ctrl-C, SIGINT to its group; None where it is not tried.
        settings: What is added to the handler's settings.
    """

    name: str
    program: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    begins: str = ""
    term: int | None = None
    ctrl_c: int | None = None
    settings: dict = field(default_factory=dict)


SIGTERM = {"flush_on_sigterm": True}
UVICORN = "uvicorn_worker.UvicornWorker"
RUNSERVER = ("main.py", "runserver", "127.0.0.1:PORT")
FLASK_RUN = ("-m", "flask", "--app=main", "run", "--port=PORT")
HUEY_RUN = ("-m", "huey.bin.huey_consumer", "main.huey", "--workers=2")
RQ_RUN = ("-m", "rq.cli", "worker", "--url=redis://127.0.0.1:REDIS", "--worker-class")
DRAMATIQ_RUN = ("-m", "dramatiq", "main", "--processes=1", "--threads=2")


def _uvicorn(app, *options):
    return ("-m", "uvicorn", f"main:{app}", "--port=PORT", *options)


def _gunicorn(app, worker, *options):
    more = ("--bind=127.0.0.1:PORT", "--no-control-socket", f"--worker-class={worker}", *options)
    return ("-m", "gunicorn", f"main:{app}", *more)


def _web(name, command, *needs, program=WEB, **more):
    return End(name, program, command, needs, "requests", **more)


def _tasks(name, program, command, *needs, enqueue="enqueue()", **more):
    return End(name, program, command, needs, enqueue, **more)


BOTH = {"term": 5, "ctrl_c": 5}
INTERRUPTED = {"term": 0, "ctrl_c": 5}
NONE, ALL = {"term": 0}, {"term": 5}

ENDS = [
    End("script", SCRIPT, ("main.py",), **INTERRUPTED),
    End("script, flush_on_sigterm", SCRIPT, ("main.py",), **BOTH, settings=SIGTERM),
    End("Process", PROCESS, ("main.py",), ctrl_c=5),
    _web("uvicorn", _uvicorn("asgi"), "uvicorn", **INTERRUPTED),
    _web("uvicorn, flush_on_sigterm", _uvicorn("asgi"), "uvicorn", **ALL, settings=SIGTERM),
    _web("uvicorn, middleware", _uvicorn("lifespan"), "uvicorn", **BOTH),
    _web("uvicorn --workers", _uvicorn("asgi", "--workers=2"), "uvicorn", **NONE),
    _web("uvicorn --workers, middleware", _uvicorn("lifespan", "--workers=2"), "uvicorn", **ALL),
    _web("uvicorn --reload", _uvicorn("asgi", "--reload"), "uvicorn", **NONE),
    _web("uvicorn --reload, middleware", _uvicorn("lifespan", "--reload"), "uvicorn", **ALL),
    _web("gunicorn sync", _gunicorn("wsgi", "sync"), "gunicorn", **BOTH),
    _web("gunicorn gthread", _gunicorn("wsgi", "gthread"), "gunicorn", **ALL),
    _web("gunicorn gevent", _gunicorn("wsgi", "gevent"), "gunicorn", "gevent", **ALL),
    _web("gunicorn tornado", _gunicorn("wsgi", "tornado"), "gunicorn", "tornado", **ALL),
    _web("gunicorn --preload", _gunicorn("wsgi", "sync", "--preload"), "gunicorn", **ALL),
    _web("UvicornWorker", _gunicorn("asgi", UVICORN), "gunicorn", "uvicorn_worker", **NONE),
    _web(
        "UvicornWorker, middleware",
        _gunicorn("lifespan", UVICORN),
        "gunicorn",
        "uvicorn_worker",
        **ALL,
    ),
    _web("runserver", RUNSERVER, "django", program=DJANGO, **INTERRUPTED),
    _web("--noreload", (*RUNSERVER, "--noreload"), "django", program=DJANGO, **NONE),
    _web(
        "--noreload, flush_on_sigterm",
        (*RUNSERVER, "--noreload"),
        "django",
        program=DJANGO,
        settings=SIGTERM,
        **ALL,
    ),
    _web("flask run", FLASK_RUN, "flask", program=FLASK, **INTERRUPTED),
    _web("flask, flush_on_sigterm", FLASK_RUN, "flask", program=FLASK, settings=SIGTERM, **ALL),
    _tasks("huey thread", HUEY, (*HUEY_RUN, "--worker-type=thread"), "huey", **ALL),
    _tasks("huey greenlet", HUEY, (*HUEY_RUN, "--worker-type=greenlet"), "huey", "gevent", **ALL),
    *(
        _tasks(
            f"RQ {worker}, {task}",
            RQ,
            (*RQ_RUN, f"rq.worker.{worker}"),
            "rq",
            "redis",
            enqueue=f"enqueue({task!r})",
            term=arrive,
        )
        for worker, task, arrive in (
            ("Worker", "work", 0),
            ("Worker", "flushed", 5),
            ("SimpleWorker", "work", 5),
        )
    ),
    _tasks("dramatiq", DRAMATIQ, DRAMATIQ_RUN, "dramatiq", "redis", **ALL),
]
BY_SIGNAL = [
    (end, how) for end in ENDS for how in ("term", "ctrl_c") if getattr(end, how) is not None
]


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


@pytest.mark.parametrize(
    ("end", "how"), BY_SIGNAL, ids=[f"{end.name} {how.upper()}" for end, how in BY_SIGNAL]
)
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


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        (FORK, "os._exit", 0),
        (FORK, "os._exit flush", 5),
        (POOL, "closed", 5),
        (POOL, "executor", 5),
        (POOL, "with", 0),
        (POOL, "with flushing", 5),
        (POOL, "with flush_on_sigterm", 5),
    ],
    ids=[
        "os._exit",
        "os._exit flush",
        "closed",
        "executor",
        "with",
        "with flushing",
        "with SIGTERM",
    ],
)
def test_of_children(collector, tmp_path, program, words, expected):
    """What children log arrives as the guide says."""
    settings = SIGTERM if "flush_on_sigterm" in words else {}
    environment = _environment(tmp_path, collector, program, settings)
    command = [sys.executable, "main.py", *words.split()]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=SECONDS)
    assert len(names(collector, "eid")) == expected


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


LAMBDA = """
import logging, logs
from snowplow_logging import flushing

def handler(event, context):
    logs.log()
    return {}

flushed = flushing(handler)
"""


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


@pytest.mark.parametrize(("function", "expected"), [("handler", 0), ("flushed", 5)])
def test_aws_lambda(collector, tmp_path, function, expected):
    """Its runtime stands still after each call, and is killed one day."""
    pytest.importorskip("awslambdaric")
    environment = _environment(tmp_path, collector, LAMBDA, {})
    with _LambdaRuntime() as runtime:
        threading.Thread(target=runtime.serve_forever).start()
        environment["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{runtime.server_port}"
        environment["PYTHONPATH"] = str(tmp_path)
        command = ("-m", "awslambdaric", f"main.{function}")
        with started(environment, tmp_path, *command) as (_, process):
            answers = [runtime.answers.get(timeout=SECONDS) for _ in range(6)]
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
