"""The end of a process and of an interpreter: in time, with every event sent or counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from faulty_collector import SILENCE, Answer, FaultyCollector, nowhere
from programs import PREAMBLE

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="what ends here is POSIX"),
]

SOON = 20.0  # seconds: half the `shutdown_timeout` of those that have nothing to wait for


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


FINALISER = """
    handler = configure(shutdown_timeout=1)
    logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
    class Late:
        def __del__(self, log=log):
            log("late")
    late = Late()
    {before}
    say(time.monotonic())
    """


@pytest.mark.parametrize("before", ["log('before')", "log('before'); late.itself = late"])
def test_a_finaliser_that_logs_while_the_interpreter_goes_down_is_heard(collector, run, before):
    """Its event arrives once, and nobody says that it did not."""
    ran = run(FINALISER.format(before=before), collector)
    assert [event["se_la"] for event in collector.events] == ["before", "late"]
    assert len(collector.requests) == 2
    assert ran.ended_after() < SOON


def test_a_finaliser_that_logs_the_first_event_ends(collector, run):
    """One line says that it was not sent, where too little of Python is left to begin with that."""
    ran = run(FINALISER.format(before=""), collector, error=None)
    lines = [line for line in ran.err.splitlines() if line.startswith("snowplow_logging: ")]
    arrived = [event["se_la"] for event in collector.events]
    assert len(lines) == len(ran.err.splitlines()) == 1 - len(arrived)
    assert ran.ended_after() < SOON


BEFORE_LOGGING = """
import atexit, threading
wanted, taken = threading.Event(), threading.Event()
def stand_still():
    wanted.set()
    taken.wait()
atexit.register(stand_still)  # first, so that it runs last
"""

HELD = """
    handler = configure(shutdown_timeout=1)
    logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
    def hold(lock=handler._emitter._shared.lock):
        wanted.wait()
        with lock:
            taken.set()
            threading.Event().wait()
    threading.Thread(target=hold, daemon=True).start()
    class Late:
        def __del__(self, info=logging.getLogger("shop").info):
            event = {{"event": "struct_event", "category": "c", "action": "a", "label": {label}}}
            info("", extra={{"snowplow": event}})
    import types
    sys.modules["late"] = types.ModuleType("late")  # the thread keeps all of this one
    sys.modules["late"].late = Late()
    log("before")
    say(time.monotonic())
    """


@pytest.mark.parametrize(
    ("label", "arriving"),
    [("'late'", ["before", "late"]), ("[]", ["before"])],
    ids=["good", "bad"],
)
def test_a_finaliser_finds_our_lock_held_by_a_thread_that_stands_still(
    collector, run, label, arriving
):
    """It waits for no thread that never goes on: its event is sent, or one line says it is not."""
    ran = run(HELD.format(label=label), collector, preamble=BEFORE_LOGGING + PREAMBLE, error=None)
    assert [event["se_la"] for event in collector.events] == arriving
    lines = [line for line in ran.err.splitlines() if line.startswith("snowplow_logging: ")]
    assert len(lines) == len(ran.err.splitlines()) == 2 - len(arriving)
    assert ran.ended_after() < SOON


def test_a_finaliser_that_logs_to_a_dead_collector_ends_in_time(run):
    """Its event is counted, on one line of standard error."""
    with nowhere() as endpoint:
        before = "log('before'); handler.close()"
        ran = run(FINALISER.format(before=before), endpoint, error="snowplow_logging: 1 event ")
    assert len(ran.err.splitlines()) == 1
    assert ran.ended_after() < SOON


def test_a_daemon_thread_that_logs_on_is_left_behind(collector, run):
    """The process ends in time, all that was sent is good, and one line says what was not."""
    ran = run(
        """
        handler = configure(shutdown_timeout=40)
        def go_on():
            number = 0
            while True:
                log(number)
                number += 1
                time.sleep(0.0005)
        threading.Thread(target=go_on, daemon=True).start()
        while handler.stats.sent < 101:
            time.sleep(0.01)
        import atexit
        def last():
            until = time.monotonic() + 20
            while not handler.stats.losses and time.monotonic() < until:
                time.sleep(0.01)  # it logs on
            stats = handler.stats
            say(stats.invalid, stats.sent, stats.queued, stats.losses.get("process ended", 0))
        import snowplow_logging.lifecycle as life
        atexit.unregister(life.lifecycle._at_exit)
        atexit.register(last)  # runs after that of the library
        atexit.register(life.lifecycle._at_exit)
        say(time.monotonic())
        """,
        collector,
        error="snowplow_logging: ",
    )
    _, invalid, sent, queued, ended = ran.words
    assert (int(invalid), int(queued)) == (0, 0)
    assert int(ended) > 0
    assert len(collector.events) == int(sent) > 100
    assert len(ran.err.splitlines()) == 1
    assert ran.ended_after(0) < SOON


def test_an_emitter_that_raises_keeps_no_other_from_being_closed(collector, run):
    """Whatever goes wrong with one at the end, the events of the others are delivered."""
    ran = run(
        """
        import snowplow_logging
        class Session(__import__("requests").Session):
            def close(self):
                raise RuntimeError("cannot be closed")
        handlers = [snowplow_logging.SnowplowHandler(ENDPOINTS[0]) for _ in range(5)]
        def raises(*_):
            raise RuntimeError("cannot be closed")
        handlers[2]._emitter.close = raises
        handlers[2].close = handlers[2].flush = lambda: None
        for number, handler in enumerate(handlers):
            if number != 2:
                handler.handle(logging.makeLogRecord({"snowplow": {
                    "event": "struct_event", "category": "c", "action": "a", "label": str(number),
                }}))
        """,
        collector,
        error="snowplow_logging: an emitter could not be closed",
    )
    assert collector.labels == ["0", "1", "3", "4"]
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("fault", [SILENCE, "dead"])
def test_ctrl_c_during_the_wait_at_exit_ends_it_at_once(start, fault):
    """Without a traceback, and with one line that says what was not delivered."""
    with FaultyCollector(default=SILENCE) as collector:
        if fault == "dead":
            collector.stop()
        process = start(
            """
            handler = configure(shutdown_timeout=30)
            for number in range(3):
                log(number)
            import atexit
            atexit.register(say, "ends")
            """,
            collector,
        )
        assert process.stdout.readline() == "ends\n"
        if fault is SILENCE:
            collector.wait_for_requests(1)
        with pytest.raises(Exception, match="timed out"):
            process.communicate(timeout=0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SOON)
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("snowplow_logging: ")]
    assert len(lines) == 1
    assert lines[0].startswith("snowplow_logging: 3 events")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
def test_an_exit_that_is_asked_for_again_is_not_cut_short(start):
    """A supervisor may send its signal twice, and each `sys.exit` means the same exit."""
    gate = threading.Event()
    with FaultyCollector(Answer(gate=gate)) as collector:
        process = start(
            """
            handler = configure(shutdown_timeout=60, flush_interval=600)
            def end(*_):
                say("asked")
                sys.exit(0)
            signal.signal(signal.SIGUSR1, end)
            for number in range(3):
                log(number)
            say("logged")
            while True:
                time.sleep(0.05)
            """,
            collector,
        )
        assert process.stdout.readline() == "logged\n"
        for _ in range(2):
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "asked\n"
            collector.wait_for_requests(1)  # which is made at exit
        gate.set()
        _, err = process.communicate(timeout=SOON)
    assert (process.returncode, err) == (0, "")
    assert collector.labels == ["0", "1", "2"]


INTERPRETER = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    code = '''if True:
        import sys, warnings
        warnings.simplefilter("ignore")  # of libraries that do not know subinterpreters
        sys.path[:] = %r
        import logging, snowplow_logging
        handler = snowplow_logging.SnowplowHandler(%r, shutdown_timeout=40)
        logger = logging.getLogger("shop")
        logger.addHandler(handler)
        for number in range(3):
            logger.warning("", extra={"snowplow": {
                "event": "struct_event", "category": "c", "action": "a", "label": str(number),
            }})
        %s
    ''' % (sys.path, ENDPOINTS[0], sys.argv[2])
    interpreter = interpreters.create() if hasattr(interpreters, "create") else None
    if sys.version_info >= (3, 13):
        error = interpreters.exec(interpreter, code)
        assert error is None, error
    else:
        interpreters.run_string(interpreter, code)
    interpreters.destroy(interpreter)
    say(time.monotonic())
    """


REQUESTS_ALONE = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
interpreter = interpreters.create()
code = "import sys; sys.path[:] = %r; import requests" % sys.path
getattr(interpreters, "exec", interpreters.run_string)(interpreter, code)
interpreters.destroy(interpreter)
"""


@pytest.fixture(scope="module")
def requests_in_a_subinterpreter():
    """Skip where `requests`, by what it imports, ends a process that has a subinterpreter."""
    command = [sys.executable, "-W", "ignore", "-c", REQUESTS_ALONE]
    if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode != 0:
        pytest.skip("importing requests alone in a subinterpreter ends the process here")


@pytest.mark.usefixtures("requests_in_a_subinterpreter")
@pytest.mark.parametrize("end", ["assert handler.flush()", "handler.close()", "pass"])
def test_a_subinterpreter_sends_where_no_daemon_threads_are_allowed(collector, run, end):
    """The thread that flushes, closes or ends it sends, and no log call says a word."""
    ran = run(INTERPRETER, collector, end)
    assert collector.labels == ["0", "1", "2"]
    assert ran.ended_after() < SOON


MANY = """
    import fcntl, pathlib, sqlite3
    handler = configure(
        queue_size=10**6, queue_bytes=10**10, shutdown_timeout=0.1, **SETTINGS
    )
    put = handler._emitter.put
    payload = b'{"e":"pv","eid":"1","dtm":"1700000000000","url":"https://shop.example.com/"'
    BEFORE
    for _ in range(COUNT):
        put(payload)
    start = time.monotonic()
    handler.close()
    seconds, stats = time.monotonic() - start, handler.stats
    kept = pathlib.Path().glob("dead*")
    lines = sum(path.read_bytes().count(b"\\n") for path in kept)
    say(seconds, stats.failed, stats.queued, lines, stats.dead_letters_lost)
    os._exit(0)
    """

LOCKED_STORE = """
    put(payload)
    while not handler._emitter._shared.queue._stored.waiting:
        time.sleep(0.01)
    locked = sqlite3.connect("s.db", isolation_level=None, timeout=60)
    locked.execute("BEGIN IMMEDIATE")
    """

LOCKED_LETTERS = """
    locked = open("dead.lock", "w")
    fcntl.flock(locked, fcntl.LOCK_EX)
    """

HANGING_REPORT = """
    hangs = threading.Event()
    class Hangs(logging.Handler):
        def emit(self, record):
            hangs.set()
            time.sleep(60)
    logging.getLogger("snowplow_logging").addHandler(Hangs())
    handler._emitter.report("one", "the first report, before that of the close")
    hangs.wait()
    """


@pytest.mark.parametrize(
    ("settings", "before", "count"),
    [
        pytest.param({}, "", 400_000, id="memory"),
        pytest.param({"store": "s.db"}, "", 400_000, id="store"),
        pytest.param(
            {"store": "s.db"},
            LOCKED_STORE,
            400_000,
            id="locked store",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param({"dead_letter": "dead"}, "", 400_000, id="letters"),
        pytest.param(
            {"dead_letter": "dead", "batch_size": 1},
            "",
            100_000,
            id="single letters",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param({"dead_letter": "dead"}, LOCKED_LETTERS, 1_000, id="locked letters"),
        pytest.param({}, HANGING_REPORT, 1_000, id="hanging report"),
    ],
)
def test_a_close_is_as_quick_with_many_events(collector, run, settings, before, count):
    """What waits is written and counted up to a moment after the time, and the rest counted."""
    collector.default = SILENCE
    program = MANY.replace("BEFORE", before.strip()).replace("COUNT", str(count))
    ran = run(program.replace("SETTINGS", repr(settings)), collector, error=None)
    seconds, failed, queued, kept, lost = map(float, ran.words)
    assert seconds < 0.1 + 1  # it was up to 46; the rest is for a busy machine
    assert failed + queued == count + (before == LOCKED_STORE)
    assert (queued > 0) is ("store" in settings)
    assert kept + lost == ("dead_letter" in settings) * failed
