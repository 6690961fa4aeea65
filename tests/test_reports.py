"""What goes wrong is shown to somebody, whatever handlers a program has, and shown once."""

from __future__ import annotations

import importlib.util
import os

import pytest

from faulty_collector import FaultyCollector, nowhere
from programs import Programs

pytestmark = pytest.mark.every_python

UNREACHABLE = "snowplow_logging: "

BEFORE = """
    import io
    import logging.handlers, queue
    own = logging.getLogger("snowplow_logging")
    root = logging.getLogger()
    shown = io.StringIO()
    settle = bool
    """

REPORTS = """
    handler = root.handlers[0] if not isinstance(snowplow, logging.Handler) else snowplow
    log("to nobody")
    settle()
    handler.flush(0.1)
    handler.close()
    {after}
    print(shown.getvalue())
    """

CONFIGURED = "snowplow = handler = configure(shutdown_timeout=0.1); own.handlers.clear()"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program which logs to nobody, and gives what it wrote."""
    with Programs(tmp_path) as programs, nowhere() as endpoint:

        def run(setup, after=""):
            program = f"{BEFORE}\n    " + "\n    ".join(setup.strip().splitlines())
            program += REPORTS.format(after=after)
            ran = programs.run(program, endpoint, error=None)
            assert ran.status == 0, ran.err
            return ran.out.strip(), ran.err.strip()

        yield run


QUEUE = """
import snowplow_logging
snowplow = snowplow_logging.SnowplowHandler(ENDPOINTS[0], shutdown_timeout=0.1)
waiting = queue.Queue()
root.addHandler(logging.handlers.QueueHandler(waiting))
root.setLevel("INFO")
listener = logging.handlers.QueueListener(waiting, snowplow, {other})
def settle():
    while waiting.unfinished_tasks: time.sleep(0.01)
listener.start()
"""
LISTENED = "settle(); listener.stop()"

FORWARDED = """
import snowplow_logging
snowplow = snowplow_logging.SnowplowHandler(ENDPOINTS[0], shutdown_timeout=0.1)
class Forward(logging.Handler):
    def emit(self, record): {emit}
root.handlers[:] = [Forward()]
root.setLevel("INFO")
"""
LOGURU = """
import atexit, snowplow_logging
from loguru import logger as loguru
atexit.register(loguru.complete)  # or what its thread has not come to is lost
snowplow = snowplow_logging.SnowplowHandler(ENDPOINTS[0], shutdown_timeout=0.1)
class InterceptHandler(logging.Handler):
    def emit(self, record):
        loguru.opt(depth=6, exception=record.exc_info).log(record.levelno, record.getMessage())
root.handlers[:] = [InterceptHandler()]
root.setLevel("INFO")
loguru.remove()
{other}
loguru.add(snowplow, format="{{level}} {{message}}", enqueue={enqueue})
def log(label):
    loguru.info("x", snowplow={{"event": "struct_event", "category": "c", "action": label}})
"""
"""Its own recipe for records of the standard library, with the handler behind it."""

with_loguru = pytest.mark.skipif(
    importlib.util.find_spec("loguru") is None, reason="loguru is not installed"
)


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param(CONFIGURED, id="alone on the root logger"),
        pytest.param(f"{CONFIGURED}; own.disabled = True", id="a logger that dictConfig disabled"),
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.StreamHandler(shown));"
            "root.handlers[1].setLevel('ERROR')",
            id="a console for errors",
        ),
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.StreamHandler(shown));"
            "root.handlers[1].addFilter(lambda record: record.name != own.name)",
            id="a console with a filter",
        ),
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.StreamHandler(shown));"
            "root.handlers[1].addFilter(lambda record: record.name != own.name or 1 / 0)",
            id="a filter that raises",
        ),
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.handlers.MemoryHandler(9, target=snowplow));"
            "root.handlers[1].setLevel('WARNING')",
            id="in front of a buffer",
        ),
        pytest.param(f"{CONFIGURED}; own.propagate = False", id="a logger that does not propagate"),
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.handlers.MemoryHandler(9))",
            id="a buffer with nothing behind it",
        ),
        pytest.param(
            FORWARDED.format(emit="snowplow.handle(record)"), id="behind a handler of a program's"
        ),
        pytest.param(
            FORWARDED.format(
                emit="snowplow.handle(logging.makeLogRecord({**vars(record), 'name': 'x'}))"
            ),
            id="behind one that makes another record",
        ),
        pytest.param(LOGURU.format(enqueue=False, other=""), id="behind loguru", marks=with_loguru),
    ],
)
def test_where_no_handler_shows_a_report_it_goes_to_standard_error(run, setup):
    """Once, with the name of who reports."""
    out, err = run(setup)
    lines = [line for line in err.splitlines() if line.startswith(UNREACHABLE)]
    assert "did not answer" not in out
    assert len(lines) == len(err.splitlines()) >= 1
    assert len([line for line in lines if "within the shutdown_timeout" in line]) == 1


@with_loguru
@pytest.mark.exhaustive
def test_what_loguru_hands_on_by_another_thread_goes_to_standard_error(run):
    """Nothing tells where it will come out, until it comes to a Snowplow handler."""
    shown_by_others = "loguru.add(shown, level='ERROR')"
    out, err = run(
        LOGURU.format(enqueue=True, other=shown_by_others)
        + "def settle():\n"
        + "    while not handler.stats.last_error: time.sleep(0.01)\n"
        + "    loguru.complete()\n"
    )
    assert out == ""
    assert f"{UNREACHABLE}http" in err
    assert "did not answer" in err


def test_a_queue_with_none_but_us_behind_it_leaves_nobody_in_the_dark(run):
    """What stands behind a queue is found out where the report comes out of it."""
    setup = QUEUE.format(other="logging.NullHandler() if 0 else snowplow")
    out, err = run(setup, LISTENED)
    assert out == ""
    assert "within the shutdown_timeout" in err


@pytest.mark.parametrize(
    ("setup", "after"),
    [
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.StreamHandler(shown))", "", id="a console"
        ),
        pytest.param(
            f"{CONFIGURED}; root.addHandler(logging.StreamHandler(shown)); own.disabled = True",
            "",
            id="a console, and a logger that dictConfig disabled",
        ),
        pytest.param(
            f"{CONFIGURED}; own.addHandler(logging.StreamHandler(shown)); own.propagate = False",
            "",
            id="a handler of its own",
        ),
        pytest.param(
            QUEUE.format(other="logging.StreamHandler(shown)"),
            LISTENED,
            id="a console behind a queue",
        ),
        pytest.param(
            f"{CONFIGURED}; console = logging.StreamHandler(shown);"
            "root.addHandler(logging.handlers.MemoryHandler(99, target=console))",
            "root.handlers[1].flush()",
            id="a console behind a buffer",
        ),
        pytest.param(
            LOGURU.format(enqueue=False, other="loguru.add(shown)"),
            "",
            id="a sink of loguru",
            marks=[with_loguru, pytest.mark.exhaustive],
        ),
    ],
)
def test_where_a_handler_shows_it_nothing_else_does(run, setup, after):
    """Standard error stays empty."""
    out, err = run(setup, after)
    assert err == ""
    assert len([line for line in out.splitlines() if "within the shutdown_timeout" in line]) == 1


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param("own.addHandler(logging.NullHandler())", id="a null handler"),
        pytest.param("own.setLevel('ERROR')", id="a level"),
        pytest.param("logging.disable('WARNING')", id="disabled"),
        pytest.param("logging.lastResort = None", id="no last resort"),
        pytest.param("own.addFilter(lambda record: False)", id="a filter of the logger"),
        pytest.param("sys.stderr = None", id="no standard error"),
        pytest.param(
            "sys.stderr = type('', (io.StringIO,), {'write': lambda _, text: root.error(text)})()",
            id="a standard error that leads into logging",
        ),
    ],
)
def test_who_wants_silence_has_it(run, setup):
    """As with any logger of the standard library."""
    out, err = run(
        f"{CONFIGURED}; {setup}; log = lambda label: root.error('', extra=dict("
        "snowplow=dict(event='struct_event', category='c', action='a')))"
    )
    assert (out, err) == ("", "")


def test_what_only_looks_like_a_handler_shows_reports(run):
    """It has a level, and a method `handle`; logging wants no more."""
    out, err = run(
        CONFIGURED
        + """
class Duck:
    level = 0
    def handle(self, record):
        if record.name == own.name: shown.write(record.getMessage() + "\\n")
    filter = bool
root.addHandler(Duck())
"""
    )
    assert err == ""
    assert "within the shutdown_timeout" in out


def test_a_kind_is_told_once_a_minute(tmp_path):
    """However often a bad event comes, and though two handlers see it."""
    with Programs(tmp_path) as programs, FaultyCollector() as collector:
        ran = programs.run(
            """
            configure()
            logging.getLogger("snowplow_logging").handlers.clear()
            logging.raiseExceptions = False
            for _ in range(50):
                logging.getLogger("shop").info("", extra={"snowplow": {"event": "page_view"}})
            """,
            collector,
            error="page_url is missing",
        )
    assert len(ran.err.splitlines()) == 1


def test_a_bad_event_is_not_told_twice(tmp_path):
    """Its two lines on standard error are all."""
    with Programs(tmp_path) as programs, FaultyCollector() as collector:
        ran = programs.run(
            """
            configure()
            logging.getLogger("snowplow_logging").handlers.clear()
            logging.getLogger("shop").info("", extra={"snowplow": {"event": "page_view"}})
            """,
            collector,
            error="page_url is missing",
        )
    assert len(ran.err.splitlines()) == 2


def test_an_outage_shows_with_the_first_configuration(tmp_path):
    """The handler is the only one; the report comes while the program runs, not at its end."""
    with Programs(tmp_path) as programs, nowhere() as endpoint:
        process = programs.start(
            "configure(flush_interval=0.05);"
            "logging.getLogger('snowplow_logging').handlers.clear(); log(1);"
            "say('logged'); time.sleep(60)",
            endpoint,
        )
        assert process.stdout.readline() == "logged\n"
        assert process.stderr.readline().startswith(UNREACHABLE)
        assert os.getpid() != process.pid
