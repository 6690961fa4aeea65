"""The rows of the guide to the ends of processes: the programs, how they are run, what arrives."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from celery_broker import BROKER

__all__ = [
    "CHILDREN",
    "ENDS",
    "FORK",
    "LAMBDA",
    "LOGS",
    "SCRIPT",
    "SIGTERM",
    "Child",
    "End",
    "guide",
]

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

def wait():
    # Not in one piece: a signal that comes right before a wait is heard of after it.
    while True:
        time.sleep(0.05)
"""

SCRIPT = """
from logs import *
for _ in range(5):
    log()
say("LOGGED")
wait()
"""

FORK = """
from logs import *
import atexit
from snowplow_logging import flush
if not os.fork():
    if "forgets" in sys.argv:
        atexit._clear()
    for _ in range(5):
        log()
    if "flush" in sys.argv:
        flush()
    if "forgets" in sys.argv:
        atexit._run_exitfuncs()
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

CELERY = (
    BROKER
    + """
from logs import *
app.conf.worker_hijack_root_logger = False
@app.task
def work():
    log()
    say("LOGGED")
def enqueue():
    for _ in range(5):
        work.delay()
"""
)

PROCESS = """
from logs import *
import multiprocessing
def work():
    for _ in range(5):
        log()
    say("LOGGED")
    wait()
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
    wait()
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

TERMINATE = """
from logs import *
import multiprocessing
begun, begins = os.pipe()
def work():
    for _ in range(5):
        log()
    os.write(begins, b".")
    wait()
if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    os.read(begun, 1)
    process.terminate()
    process.join()
"""

HUEY = """
from logs import *
from huey import SqliteHuey
huey = SqliteHuey(filename=os.path.join(os.path.dirname(os.path.abspath(__file__)), "huey.db"))
@huey.task()
def work():
    log()
    say("LOGGED")
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


LAMBDA = """
import logging, logs
from snowplow_logging import flushing

def handler(event, context):
    logs.log()
    return {}

flushed = flushing(handler)
"""

ALL = 5
"""What is logged, and what `all` means in the guide."""


@dataclass(frozen=True)
class End:
    """A way to run code, and what of five events arrives by the signal that ends it.

    Args:
        row: The row of the guide that it is, without its marks.
        program: The module `main`.
        command: How it is run.
        needs: What has to be installed.
        begins: How it comes to log five events: by `requests`, by a call that puts five tasks into
            a queue, or by itself, where this is empty.
        added: What there is to add, by the guide, and was.
        term: What arrives at SIGTERM to its main process; None where it is not tried.
        ctrl_c: What arrives at Ctrl-C, SIGINT to its group; None where it is not tried.
        settings: What is added to the handler's settings.
        is_seldom: Whether it is only run with the exhaustive tests, because another like it is
            run always.
    """

    row: str
    program: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    begins: str = ""
    added: str = ""
    term: int | None = None
    ctrl_c: int | None = None
    settings: dict = field(default_factory=dict)
    is_seldom: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.row}, {self.added}" if self.added else self.row


SIGTERM = {"flush_on_sigterm": True}
UVICORN = "uvicorn_worker.UvicornWorker"
RUNSERVER = ("main.py", "runserver", "127.0.0.1:PORT")
FLASK_RUN = ("-m", "flask", "--app=main", "run", "--port=PORT")
HUEY_RUN = ("-m", "huey.bin.huey_consumer", "main.huey", "--workers=2")
RQ_RUN = ("-m", "rq.cli", "worker", "--url=redis://127.0.0.1:REDIS", "--worker-class")
DRAMATIQ_RUN = ("-m", "dramatiq", "main", "--processes=1", "--threads=2")
CELERY_RUN = ("-m", "celery", "-A", "main", "worker", "--loglevel=INFO", "--concurrency=2")
QUICKLY = ("--without-gossip", "--without-mingle", "--without-heartbeat")

INTERRUPTED = {"term": 0, "ctrl_c": ALL}
DELIVERS = {"added": "flush_on_sigterm", "settings": SIGTERM, "term": ALL}
MIDDLEWARE = {"added": "the middleware", "term": ALL}


def _uvicorn(app, *options):
    return ("-m", "uvicorn", f"main:{app}", "--port=PORT", *options)


def _gunicorn(app, worker, *options):
    more = ("--bind=127.0.0.1:PORT", "--no-control-socket", f"--worker-class={worker}", *options)
    return ("-m", "gunicorn", f"main:{app}", *more)


def _web(row, command, *needs, program=WEB, **more):
    return End(row, program, command, needs, "requests", **more)


def _tasks(row, program, command, *needs, enqueue="enqueue()", **more):
    return End(row, program, command, needs, enqueue, **more)


def _seldom(end, *args, **more):
    return end(*args, is_seldom=True, **more)


ENDS = [
    End("a script", SCRIPT, ("main.py",), **INTERRUPTED),
    End("a script", SCRIPT, ("main.py",), **DELIVERS, ctrl_c=ALL),
    End("multiprocessing.Process, at its end or Ctrl-C", PROCESS, ("main.py",), ctrl_c=ALL),
    _web("uvicorn", _uvicorn("asgi"), "uvicorn", **INTERRUPTED),
    _web("uvicorn", _uvicorn("asgi"), "uvicorn", **DELIVERS),
    _web("uvicorn", _uvicorn("lifespan"), "uvicorn", **MIDDLEWARE, ctrl_c=ALL),
    _seldom(_web, "uvicorn --workers", _uvicorn("asgi", "--workers=2"), "uvicorn", term=0),
    _web("uvicorn --workers", _uvicorn("lifespan", "--workers=2"), "uvicorn", **MIDDLEWARE),
    _seldom(_web, "uvicorn --reload", _uvicorn("asgi", "--reload"), "uvicorn", term=0),
    _seldom(_web, "uvicorn --reload", _uvicorn("lifespan", "--reload"), "uvicorn", **MIDDLEWARE),
    _web("gunicorn sync", _gunicorn("wsgi", "sync"), "gunicorn", term=ALL, ctrl_c=ALL),
    *(
        _seldom(
            _web,
            f"gunicorn {kind}",
            _gunicorn("wsgi", kind),
            "gunicorn",
            *needs,
            term=ALL,
            ctrl_c=ctrl_c,
        )
        for kind, needs, ctrl_c in (
            ("gthread", (), None),  # its worker may lock up by itself, as the guide says
            ("gevent", ("gevent",), ALL),
            ("tornado", ("tornado",), ALL),
        )
    ),
    _seldom(
        _web,
        "gunicorn --preload",
        _gunicorn("wsgi", "sync", "--preload"),
        "gunicorn",
        term=ALL,
        ctrl_c=ALL,
    ),
    *(
        _web(
            "gunicorn with UvicornWorker",
            _gunicorn(app, UVICORN),
            "gunicorn",
            "uvicorn_worker",
            **more,
        )
        for app, more in (
            ("asgi", {"term": 0, "ctrl_c": 0, "is_seldom": True}),
            ("lifespan", MIDDLEWARE),
        )
    ),
    _seldom(_web, "Django runserver", RUNSERVER, "django", program=DJANGO, **INTERRUPTED),
    *(
        _web(
            "Django runserver --noreload",
            (*RUNSERVER, "--noreload"),
            "django",
            program=DJANGO,
            **more,
        )
        for more in ({**INTERRUPTED, "is_seldom": True}, DELIVERS)
    ),
    *(
        _web("Flask's development server", FLASK_RUN, "flask", program=FLASK, **more)
        for more in ({**INTERRUPTED, "is_seldom": True}, DELIVERS)
    ),
    *(
        _seldom(
            _tasks,
            f"Celery {pool}",
            CELERY,
            (*CELERY_RUN, f"--pool={pool}", *QUICKLY),
            "celery",
            term=arrive,
            ctrl_c=arrive,
        )
        for pool, arrive in (("prefork", 0), ("threads", ALL), ("solo", ALL))
    ),
    _tasks("huey with threads", HUEY, (*HUEY_RUN, "--worker-type=thread"), "huey", term=ALL),
    _seldom(
        _tasks,
        "huey with greenlets",
        HUEY,
        (*HUEY_RUN, "--worker-type=greenlet"),
        "huey",
        "gevent",
        term=ALL,
    ),
    *(
        _tasks(
            f"RQ {worker}",
            RQ,
            (*RQ_RUN, f"rq.worker.{worker}"),
            "rq",
            "redis",
            **more,
        )
        for worker, more in (
            ("Worker", {"enqueue": "enqueue('work')", "term": 0, "is_seldom": True}),
            ("Worker", {"enqueue": "enqueue('flushed')", "added": "flushing", "term": ALL}),
            ("SimpleWorker", {"enqueue": "enqueue('work')", "term": ALL, "is_seldom": True}),
        )
    ),
    _tasks("dramatiq", DRAMATIQ, DRAMATIQ_RUN, "dramatiq", "redis", term=ALL),
]


@dataclass(frozen=True)
class Child:
    """A child that logs five events, and what of them arrives when it has ended.

    Args:
        row: The row of the guide that it is, without its marks.
        program: The module `main`.
        words: What it is called with.
        arrive: What arrives.
        added: What there is to add, by the guide, and was.
        settings: What is added to the handler's settings.
    """

    row: str
    program: str
    words: str
    arrive: int
    added: str = ""
    settings: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.row}, {self.words}, {self.added}"


_WITH_POOL = "with Pool(), which ends by SIGTERM each child that has not ended yet"
_FORK = "os.fork(), then os._exit()"
CHILDREN = [
    Child(_FORK, FORK, "", 0),
    Child(_FORK, FORK, "flush", ALL, "flush"),
    Child("Process.terminate()", TERMINATE, "", 0),
    Child("Process.terminate()", TERMINATE, "", ALL, "flush_on_sigterm", SIGTERM),
    Child("Pool, after close() and join()", POOL, "closed", ALL),
    Child("ProcessPoolExecutor", POOL, "executor", ALL),
    Child(_WITH_POOL, POOL, "with", 0),
    Child(_WITH_POOL, POOL, "with flushing", ALL, "flushing"),
    Child(_WITH_POOL, POOL, "with", ALL, "flush_on_sigterm", SIGTERM),
]


def guide(page: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the guide's tables by their first cells, without the marks of Markdown.

    Args:
        page: The guide. The other cells of a row are by the heads of their columns; the mark of a
            row that tests run is the cell `run`.
    """
    rows = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.replace("`", "").strip("|").split("|")]
        if line.startswith("| ") and cells[0]:
            row, run, _ = re.split(r" (✓)$|$", cells[0], maxsplit=1)
            rows[row] = {
                "run": run or "",
                **dict(zip(("term", "ctrl_c", "to add", "then"), cells[1:], strict=True)),
            }
    return rows
