"""With a store nothing is lost that had reached its file, and whatever happens is accounted for."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import logging.config
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from faulty_collector import SILENCE, Answer, FaultyCollector, nowhere
from helpers import tracking
from snowplow_logging import SnowplowHandler
from snowplow_logging.cli import main
from snowplow_logging.delivery import store as store_queue
from snowplow_logging.delivery import store_connection as store_module
from snowplow_logging.delivery import stored
from snowplow_logging.delivery.sqlite_file import SQLiteFile as Store
from store_files import fill_up, small_disk, snapshot, write_database

START = """
import json, logging, os, resource, signal, sys, time
from snowplow_logging import SnowplowHandler
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
def track(endpoint, store, **settings):
    handler = SnowplowHandler(endpoint, store=store, **settings)
    logger.addHandler(handler)
    return handler
def log(name):
    logger.info("", extra={"snowplow": {"event": "struct_event", "category": "c", "action": name}})
"""
"""How each program in another process begins."""

LIMIT = 1_073_741_824


def start(program, *arguments):
    """Start a program in another process."""
    code = START + textwrap.dedent(program)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True, **pipes)


def run(program, *arguments, status=0):
    """Run a program in another process to its end, and return what it wrote."""
    process = start(program, *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    return out, err


def rows(path):
    """Return how many events are in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return 0  # its tables are not made yet
        return connection.execute("SELECT count(*) FROM events").fetchone()[0]


def event(name, **values):
    """Return an event with a name."""
    return {"event": "struct_event", "category": "c", "action": str(name), **values}


def record(name):
    """Return a record with an event of that name."""
    return logging.makeLogRecord({"snowplow": event(name), "relativeCreated": float(name)})


def names(collector):
    """Return the names of the events that a collector has taken, in the order they came."""
    return [event["se_ac"] for event in collector.events]


def balances(stats, logged):
    """Tell whether the account of so many events logged balances."""
    ends = stats.sent + stats.failed + stats.dropped + stats.invalid + stats.filtered
    losses = stats.failed + stats.dropped + stats.invalid
    assert sum(stats.losses.values()) == losses
    return logged + stats.recovered == ends + stats.queued


def wait_until(condition, seconds=20):
    """Wait until a condition holds that no event tells of."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.005)


@pytest.fixture
def path(tmp_path):
    """Return a path for a store."""
    return tmp_path / "events.db"


@pytest.fixture
def collector():
    """Start a collector that takes everything, until told otherwise."""
    with FaultyCollector() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch):
    """Have what takes many seconds take less than one."""
    monkeypatch.setattr(store_module, "_PATIENCE", 0.1)
    monkeypatch.setattr(stored, "_RETRY_DELAY", 0.5)
    monkeypatch.setattr(store_queue, "_RECOVER_INTERVAL", 0.1)


# What has reached the file.


def test_the_log_call_of_store_sync_returns_once_its_event_is_in_the_file(path):
    """A process that is killed right after a log call has left its event in the file."""
    program = """
        track("http://127.0.0.1:9", sys.argv[1], store_sync=True)
        for number in range(20):
            log(str(number))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run(program, path, status=-signal.SIGKILL)
    assert rows(path) == 20


def test_an_event_is_in_the_file_within_50_ms(path):
    """The emitter writes soon, not when its batch is full."""
    seconds = []
    with tracking(store=path) as tracked:
        tracked.log(event("first"))  # makes the file
        wait_until(lambda: path.exists() and rows(path) == 1)
        for number in range(10):
            before = time.monotonic()
            tracked.log(event(number))
            wait_until(lambda number=number: rows(path) == number + 2)
            seconds.append(time.monotonic() - before)
    assert sorted(seconds)[2] < 0.05


def test_threads_that_log_at_once_write_in_groups(path):
    """With `store_sync` each thread finds its event in the file, though others write it for it."""
    missing = []

    def log(tracked, number):
        for index in range(50):
            name = f"{number}-{index}"
            tracked.log(event(name))
            with contextlib.closing(sqlite3.connect(path)) as connection:
                query = "SELECT count(*) FROM events WHERE instr(payload, ?)"
                if not connection.execute(query, (f'"se_ac":"{name}"'.encode(),)).fetchone()[0]:
                    missing.append(name)

    with tracking(store=path, store_sync=True) as tracked:
        threads = [threading.Thread(target=log, args=(tracked, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert missing == []
        assert rows(path) == tracked.handler.stats.queued == 400


def test_an_event_leaves_the_file_after_its_answer_and_not_before(path, collector):
    """A row is there while its request is under way, and gone once that is answered."""
    gate = threading.Event()
    collector.default = Answer(gate=gate)
    with tracking(collector, store=path) as tracked:
        tracked.log(event("a"))
        collector.wait_for_requests(1)
        assert rows(path) == 1
        assert not tracked.handler.flush(0)
        gate.set()
        assert tracked.handler.flush(20)
        assert rows(path) == 0


def test_an_event_that_is_refused_is_removed_and_its_neighbours_are_sent(path, collector):
    """What the collector refuses is given up; a batch that is too large is halved by id."""
    collector.default = lambda events: (
        (413 if len(events) > 1 else 400)
        if any(event["se_ac"] == "bad" for event in events)
        else 200
    )
    with tracking(collector, store=path) as tracked:
        for name in ("a", "b", "bad", "c", "d"):
            tracked.log(event(name))
        assert tracked.handler.flush(20)
        assert names(collector) == ["a", "b", "c", "d"]
        assert tracked.handler.stats.losses == {"refused by the collector": 1}
        assert rows(path) == 0


@pytest.mark.parametrize("connections", [1, 4])
def test_every_event_is_sent_once_in_an_unsteady_network(path, collector, connections):
    """Failures in between neither lose an event nor send one again that was taken."""
    collector.default = lambda events: 503 if int(events[0]["se_ac"]) % 3 == 0 else 200
    settings = {"batch_size": 10, "connections": connections, "max_retry_delay": 0.05}
    with tracking(collector, store=path, **settings) as tracked:
        for number in range(1_000):
            tracked.log(event(number))
        collector.wait_for_requests(20)
        collector.default = 200
        assert tracked.handler.flush(20)
        assert sorted(names(collector), key=int) == [str(number) for number in range(1_000)]
        assert tracked.handler.stats.sent == 1_000
        assert balances(tracked.handler.stats, 1_000)
        assert collector.most_at_once <= connections


def test_order_is_kept(path, collector):
    """The events of one process arrive in the order in which they were logged."""
    collector.answers.extend([503, 200, 500, 503, 200, 413, 429])
    settings = {"batch_size": 50, "max_retry_delay": 0.05, "flush_interval": 0.01}
    with tracking(collector, store=path, **settings) as tracked:
        for number in range(2_000):
            tracked.log(event(number))
        assert tracked.handler.flush(20)
        assert names(collector) == [str(number) for number in range(2_000)]


def test_flush_covers_what_is_in_the_file(path, collector):
    """It waits for events that are stored, not only for those in memory."""
    with tracking(collector, store=path, flush_interval=100, store_sync=True) as tracked:
        for number in range(1_200):
            tracked.log(event(number))
        assert rows(path) > 0
        assert tracked.handler.flush(20)
        assert len(collector.events) == 1_200


def test_a_signal_handler_logs_in_the_middle_of_a_write(path, collector):
    """A log call inside a write neither fails nor disturbs it, and its event follows."""
    logged = 0

    def interrupt(*_):
        nonlocal logged
        tracked.log(event(f"signal {logged}"))
        logged += 1

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with tracking(collector, store=path, store_sync=True) as tracked:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
            for number in range(1_500):
                tracked.log(event(number))
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert tracked.handler.flush(30)
            assert tracked.handler.errors == []
            assert logged > 10
            assert len(set(collector.ids)) == len(collector.ids) == 1_500 + logged
            assert tracked.handler.stats.sent == 1_500 + logged
            assert balances(tracked.handler.stats, 1_500 + logged)
    finally:
        signal.signal(signal.SIGALRM, before)


# What another process left.


def test_a_new_process_goes_on_at_once_where_an_old_one_was_closed(path, collector):
    """What is closed leaves its events; the order is that in which they were logged."""
    collector.stop()
    with tracking(collector, store=path, shutdown_timeout=0.2) as tracked:
        for number in range(1_700):
            tracked.log(event(number))
    assert tracked.handler.stats.queued == rows(path) == 1_700
    collector.start()
    with tracking(collector, store=path) as tracked:
        collector.wait_for_events(1_700)
        assert tracked.handler.flush(20)
        assert names(collector) == [str(number) for number in range(1_700)]
        assert tracked.handler.stats.recovered == tracked.handler.stats.sent == 1_700
        assert balances(tracked.handler.stats, 0)


def test_a_new_process_takes_over_at_once_from_one_that_was_killed(path, collector):
    """The events arrive with nothing logged by anyone, and by a job that ends at once."""
    program = """
        track(sys.argv[1], sys.argv[2], store_sync=True)
        for number in range(700):
            log(str(number))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    collector.stop()
    run(program, collector.endpoint, path, status=-signal.SIGKILL)
    collector.start()
    run("track(sys.argv[1], sys.argv[2], shutdown_timeout=30)", collector.endpoint, path)
    assert names(collector) == [str(number) for number in range(700)]


# Several at once.


def test_several_processes_share_a_store(path, collector):
    """They make the file at the same moment, and each event is sent by one of them."""
    program = """
        sys.stdin.readline()
        handler = track(sys.argv[1], sys.argv[2], batch_size=20, shutdown_timeout=30)
        for number in range(200):
            log(f"{os.getpid()} {number}")
            time.sleep(0.0005)
        handler.close()
        stats = handler.stats
        assert stats.sent == 200 and not stats.queued and not stats.recovered, stats
    """
    processes = [start(program, collector.endpoint, path) for _ in range(6)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert err == ""
    assert len(names(collector)) == len(set(names(collector))) == 1_200
    for process in processes:
        own = [name for name in names(collector) if name.startswith(f"{process.pid} ")]
        assert own == [f"{process.pid} {number}" for number in range(200)]


def test_two_handlers_of_a_process_share_a_store(path, collector):
    """Each sends its own, and what one leaves the other takes over."""
    settings = {"store": path, "flush_interval": 0.1}
    with (
        tracking(collector, store=path, flush_interval=100, shutdown_timeout=0) as dead,
        tracking(collector, **settings) as alive,
    ):
        for number in range(100):
            dead.log(event(f"dead {number}"))
            alive.log(event(f"alive {number}"))
        wait_until(lambda: len(names(collector)) == 100 == rows(path))
        assert names(collector) == [f"alive {number}" for number in range(100)]
        dead.handler.close()
        collector.wait_for_events(200)
        assert alive.handler.flush(20)
        assert alive.handler.stats.recovered == 100
        assert balances(alive.handler.stats, 100)
        assert balances(dead.handler.stats, 100)


def test_two_collectors_with_one_path(path, collector):
    """Each event goes where it was meant to, also after both processes were killed."""
    program = """
        track(sys.argv[1], sys.argv[3], store_sync=True)
        track(sys.argv[2], sys.argv[3], store_sync=True)
        first, second = logger.handlers
        for number in range(20):
            logger.handlers = [first]
            log(f"first {number}")
            logger.handlers = [second]
            log(f"second {number}")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with FaultyCollector() as other:
        for one in (collector, other):
            one.stop()
        run(program, collector.endpoint, other.endpoint, path, status=-signal.SIGKILL)
        for one in (collector, other):
            one.start()
        with tracking(collector, store=path, flush_interval=0.1):
            collector.wait_for_events(20)
        assert rows(path) == 20
        with tracking(other, store=path, flush_interval=0.1):
            other.wait_for_events(20)
        assert names(collector) == [f"first {number}" for number in range(20)]
        assert names(other) == [f"second {number}" for number in range(20)]
    assert rows(path) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_have_a_connection_of_their_own(path, collector):
    """Four children and their parent log around a fork, and each event arrives once."""
    program = """
        handler = track(sys.argv[1], sys.argv[2], shutdown_timeout=30, batch_size=7)
        for number in range(50):
            log(f"parent {number}")
        children = []
        for child in range(4):
            pid = os.fork()
            if not pid:
                for number in range(10):
                    log(f"child {child} {number}")
                assert handler.stats.queued + handler.stats.sent == 10
                sys.exit()
            children.append(pid)
            log(f"between {child}")
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
    """
    _, err = run(program, collector.endpoint, path)
    assert "snowplow_logging" not in err
    assert len(names(collector)) == len(set(names(collector))) == 94
    assert rows(path) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_forked_child_writes_outlives_the_parents_close(path):
    """SQLite's locks do not pass to a child, so a parent could remove the WAL under it."""
    program = """
        handler = track("http://127.0.0.1:9", sys.argv[1], store_sync=True, shutdown_timeout=0.1)
        log("parent")
        (closed, close), (ready, say) = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            log("child 1")
            os.write(say, b"x")
            os.read(closed, 1)
            log("child 2")
            os.kill(os.getpid(), signal.SIGKILL)
        os.read(ready, 1)
        handler.close()
        os.write(close, b"x")
        os.waitpid(pid, 0)
    """
    run(program, path)
    assert rows(path) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_a_write(path, collector):
    """Children that are forked while threads write can use the store as well."""
    program = """
        import threading, warnings
        warnings.simplefilter("ignore")
        handler = track(sys.argv[1], sys.argv[2], store_sync=True, shutdown_timeout=30)
        going = True
        def write():
            while going:
                log("parent")
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        children = []
        for child in range(15):
            pid = os.fork()
            if not pid:
                log(f"child {child}")
                assert handler.stats.last_error is None, handler.stats
                handler.close()
                os._exit(0 if handler.stats.sent == 1 else 1)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        going = False
        for thread in threads:
            thread.join()
    """
    run(program, collector.endpoint, path)
    children = [name for name in names(collector) if name.startswith("child")]
    assert sorted(children) == sorted(f"child {child}" for child in range(15))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_of_multiprocessing_share_their_parents_store(path, collector, method, tmp_path):
    """Configured at import, the store works by fork, spawn and forkserver."""
    program = tmp_path / "program.py"
    main = """
        import multiprocessing
        handler = track(sys.argv[1], sys.argv[2], shutdown_timeout=30)
        def work(number):
            for index in range(10):
                log(f"child {number} {index}")
        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[3])
            log("parent")
            children = [context.Process(target=work, args=(n,)) for n in range(4)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0
    """
    program.write_text(START + textwrap.dedent(main))
    arguments = [sys.executable, program, collector.endpoint, path, method]
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(set(collector.ids)) == len(collector.ids) == 41


# Closing and opening.


def test_closing_with_a_dead_collector_is_quick(path, reports):
    """One attempt is made; then the events wait in the file, and none is given up."""
    with nowhere() as endpoint:
        handler = SnowplowHandler(endpoint, store=path, shutdown_timeout=20, flush_interval=100)
        for number in range(1_000):
            handler.handle(record(number))
        before = time.monotonic()
        handler.close()
        assert not handler.flush()  # nor is flushing a closed one slow
        handler.close()
        assert time.monotonic() - before < 5
    assert rows(path) == handler.stats.queued == 1_000
    assert handler.stats.failed == 0
    assert len(reports) == 1


def test_at_exit_one_line_says_how_many_wait_where(path):
    """What waits in the store when the process ends is told on standard error."""
    program = """
        track("http://127.0.0.1:9", sys.argv[1])
        logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
        for number in range(1_234):
            log(str(number))
    """
    _, err = run(program, path)
    (line,) = err.strip().split("\n")
    assert line.startswith("snowplow_logging: 1,234 events for http://127.0.0.1:9/")
    assert f"wait in {path}" in line
    assert "refused" in line


def test_an_event_at_exit_is_stored_and_sent(path, collector):
    """The first event ever logged inside an `atexit` callback arrives."""
    program = """
        import atexit
        atexit.register(log, "late")
        track(sys.argv[1], sys.argv[2], store_sync=sys.argv[3] == "True")
    """
    for sync in (False, True):
        run(program, collector.endpoint, path, sync)
    assert names(collector) == ["late", "late"]
    assert rows(path) == 0


def test_a_closed_handler_opens_again(path, collector):
    """It goes on with what it left in the file, and then with the new events."""
    collector.stop()
    with tracking(collector, store=path) as tracked:
        for number in range(300):
            tracked.log(event(number))
        tracked.handler.close()
        assert tracked.handler.stats.queued == 300
        collector.start()
        tracked.log(event(300))
        assert tracked.handler.flush(20)
        assert names(collector) == [str(number) for number in range(301)]
        assert tracked.handler.stats.recovered == 0
        assert balances(tracked.handler.stats, 301)


def test_a_second_dictconfig_goes_on_with_the_same_file(path, collector):
    """The new handler takes over what the old one left, and each event arrives once."""
    settings = {"class": "snowplow_logging.SnowplowHandler", "store": str(path)}

    def configure(endpoint):
        handler = {**settings, "endpoint": endpoint, "shutdown_timeout": 0.5}
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"snowplow": handler},
                "loggers": {"shop.twice": {"level": "INFO", "handlers": ["snowplow"]}},
            }
        )

    logger = logging.getLogger("shop.twice")
    collector.stop()
    configure(collector.endpoint)
    for number in range(10):
        logger.info("", extra={"snowplow": event(number)})
    configure(collector.endpoint)
    collector.start()
    for number in range(10, 20):
        logger.info("", extra={"snowplow": event(number)})
    collector.wait_for_events(20, 8)
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    assert sorted(names(collector), key=int) == [str(number) for number in range(20)]
    assert rows(path) == 0


def test_a_stuck_request_does_not_hold_up_closing(path, collector):
    """Its events stay in the file, and the next process sends them."""
    collector.answers.append(SILENCE)
    with tracking(collector, store=path, shutdown_timeout=0.5) as tracked:
        for number in range(100):
            tracked.log(event(number))
        tracked.handler.flush(0)
        collector.wait_for_requests(1)
        before = time.monotonic()
        tracked.handler.close()
        assert time.monotonic() - before < 1
        assert rows(path) == tracked.handler.stats.queued == 100
    with tracking(collector, store=path):
        collector.wait_for_events(100, 8)
    assert rows(path) == 0


def test_a_request_that_is_answered_after_the_close_changes_nothing(path, collector):
    """The events wait in the file; they come again, as duplicates with the same ids."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    others = set(threading.enumerate())
    with tracking(collector, store=path, shutdown_timeout=0.3, timeout=30) as tracked:
        for number in range(10):
            tracked.log(event(number))
        tracked.handler.flush(0)
        collector.wait_for_requests(1)
        old = set(threading.enumerate()) - others
        tracked.handler.close()
        assert tracked.handler.stats.queued == 10
        gate.set()
        for thread in old:
            if thread.name.startswith("snowplow-logging"):
                thread.join(20)
                assert not thread.is_alive()
        assert tracked.handler.stats.queued == rows(path) == 10
        assert balances(tracked.handler.stats, 10)
        tracked.log(event(10))
        assert tracked.handler.flush(20)
        assert tracked.handler.stats.sent == 11
        assert balances(tracked.handler.stats, 11)
    assert rows(path) == 0
    assert names(collector) == [str(number) for number in (*range(10), *range(11))]
    assert len(set(collector.ids)) == 11


def test_closing_in_a_callback_leaves_nothing_behind(path, collector):
    """What is under way in the callback's own batch is neither lost nor sent twice."""

    def close(events):
        if not closed:
            closed.append(True)
            tracked.handler.close()

    closed = []
    collector.answers.append(413)
    settings = {"batch_size": 10, "flush_interval": 100}
    with tracking(collector, store=path, on_success=close, **settings) as tracked:
        for number in range(10):
            tracked.log(event(number))
        collector.wait_for_events(10)
        tracked.log(event(10))
        assert tracked.handler.flush(20)
        assert names(collector) == [str(number) for number in range(11)]
        assert tracked.handler.stats.sent == 11
        assert balances(tracked.handler.stats, 11)
    assert rows(path) == 0


def test_a_handler_that_is_dropped_sends_what_it_has_and_closes_the_file(path, collector):
    """Nobody closes it, and still nothing is left open or unsent."""
    handler = SnowplowHandler(collector.endpoint, store=path)
    for number in range(10):
        handler.handle(record(number))
    del handler
    gc.collect()
    collector.wait_for_events(10)
    wait_until(lambda: not path.with_name("events.db-wal").exists())  # it is closed
    assert rows(path) == 0


def test_a_relative_path_stays_where_it_was_configured(tmp_path, monkeypatch):
    """A program that changes its directory before it logs has one store all the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with tracking(store="events.db", store_sync=True) as tracked:
        monkeypatch.chdir(tmp_path / "elsewhere")
        tracked.log(event("a"))
    assert rows(tmp_path / "events.db") == 1


def test_a_store_that_nobody_uses_is_not_made(path):
    """Neither configuring nor closing a handler makes the file."""
    with tracking(store=path) as tracked:
        tracked.handler.flush()
    assert not path.exists()


# A file that is full.


def test_a_full_store_drops_new_events(path, collector, reports):
    """The file keeps to its limit, and what it has no room for is counted."""
    collector.stop()
    with tracking(
        collector, store=path, store_limit=1_000_000, store_sync=True, shutdown_timeout=2
    ) as tracked:
        for number in range(4_000):
            tracked.log(event(number, label="x" * 200))
        stats = tracked.handler.stats
        assert stats.losses == {"queue full": stats.dropped}
        assert stats.dropped > 500
        assert balances(stats, 4_000)
        assert path.stat().st_size < 1_100_000
        wait_until(lambda: any("store" in report and "1,000,000" in report for report in reports))
        collector.start()
        collector.wait_for_events(stats.queued)
        assert tracked.handler.flush(20)
        tracked.log(event("after"))
        assert tracked.handler.flush(20)
        *kept, after = names(collector)
        assert after == "after"
        assert len(kept) == len(set(kept)) == 4_000 - stats.dropped
        # One that the file had no room for at first waits in memory, and may come later.


def test_a_full_store_can_drop_its_oldest_events(path, collector):
    """With `drop_oldest` the newest events are kept."""
    collector.stop()
    settings = {"store_limit": 1_000_000, "on_full": "drop_oldest", "shutdown_timeout": 2}
    with tracking(collector, store=path, max_retry_delay=0.1, **settings) as tracked:
        for number in range(4_000):
            tracked.log(event(number, label="x" * 200))
            if number % 100 == 0:
                time.sleep(0.001)
        wait_until(lambda: tracked.handler.stats.dropped)
        collector.start()
        assert tracked.handler.flush(20)
        stats = tracked.handler.stats
        assert stats.losses == {"queue full": stats.dropped}
        assert balances(stats, 4_000)
        assert stats.sent == len(collector.events) > 1_000
        assert names(collector)[-1_000:] == [str(number) for number in range(3_000, 4_000)]


def test_a_full_store_can_have_the_log_call_wait(path, collector):
    """With `block` a log call waits for room, at most `block_timeout`."""
    collector.default = 503
    settings = {"store_limit": 1_000_000, "on_full": "block", "block_timeout": 0.3}
    with tracking(collector, store=path, max_retry_delay=0.1, **settings) as tracked:
        while not tracked.handler.stats.dropped:
            tracked.log(event("filler", label="x" * 500))
        dropped = tracked.handler.stats.dropped
        before = time.monotonic()
        tracked.log(event("no room"))
        assert 0.2 < time.monotonic() - before < 0.6
        assert tracked.handler.stats.dropped == dropped + 1
        tracked.handler._emitter._block_timeout = 30
        collector.default = 200
        tracked.log(event("room"))
        assert tracked.handler.stats.dropped == dropped + 1
        assert tracked.handler.flush(20)
        assert names(collector)[-1] == "room"


def test_a_day_of_outage_takes_no_memory_and_leaves_in_ordinary_batches(path):
    """100,000 events wait in the file, and then go in batches of the usual size."""
    program = """
        import gc
        def memory():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        handler = track(sys.argv[1], sys.argv[2], max_retry_delay=0.2, queue_size=5000,
                        on_full="block", block_timeout=60)
        for number in range(2_000):
            log(str(number))
        before = memory()
        for number in range(2_000, 100_000):
            log(str(number))
        assert memory() - before < 10_000_000, memory() - before
        assert handler.stats.queued == 100_000, handler.stats
        print("logged", flush=True)
        sys.stdin.readline()
        assert handler.flush(60), handler.stats
        assert memory() - before < 20_000_000, memory() - before
        handler.close()
    """
    with FaultyCollector(default=503) as collector:
        process = start(program, collector.endpoint, path)
        assert process.stdout.readline() == "logged\n", process.stderr.read()
        outage = len(collector.requests)
        collector.default = 200
        process.stdin.write("\n")
        _, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        sizes = [len(request.events) for request in collector.requests[outage + 1 :]]
        assert max(sizes) <= 500
        assert (
            sum(size == 500 for size in sizes) > len(sizes) - 20
        )  # the first were halved in the outage
        assert sorted(names(collector), key=int) == [str(number) for number in range(100_000)]
    assert rows(path) == 0


# A file that cannot be used.


def filled(path):
    """Fill a store, and close it with its WAL moved into it."""
    store = Store(path, LIMIT)  # for whatever destination
    store.open()
    for number in range(500):
        store.add([b'{"eid":"%d","se_ac":"old"' % number + b" " * 300])
    store.close()


def cut_off(path):
    """Cut a store off in the middle."""
    filled(path)
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path):
    """Overwrite pages in the middle of a store."""
    filled(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(20_000))


def flipped(path):
    """Change one byte of one event, which SQLite does not notice."""
    filled(path)
    data = path.read_bytes()
    place = data.index(b'"se_ac":"old"', len(data) // 2)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\0")


def without_tables(path):
    """Make a store that lacks a table."""
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE owners")


@pytest.mark.parametrize("spoil", [cut_off, overwritten, without_tables])
def test_a_bad_file_is_set_aside(path, collector, reports, spoil):
    """It is kept under a dated name, told of once, and what can be read of it is delivered."""
    spoil(path)
    size = path.stat().st_size
    with tracking(collector, store=path, flush_interval=0.1) as tracked:
        tracked.log(event("first"))
        wait_until(lambda: reports)
        assert tracked.handler.flush(20)
        wait_until(lambda: names(collector).count("old") > 200)
        for number in range(10):
            tracked.log(event(number))
        assert tracked.handler.flush(20)
        found = [name for name in names(collector) if name != "old"]
        assert found == ["first", *map(str, range(10))]
        assert rows(path) == 0  # a new file, and used
        assert tracked.handler.errors == []
        assert balances(tracked.handler.stats, 11)
    (aside,) = path.parent.glob("events.db.*Z")
    (report,) = reports
    assert str(aside) in report
    assert aside.stat().st_size >= size


def test_replay_reads_what_was_set_aside(path, collector, reports, capsys):
    """All rows of it that can be read are sent, and the file stays as it is."""
    collector.default = 503
    with tracking(collector, store=path) as tracked:
        for number in range(500):
            tracked.log(event(number, label="x" * 300))
        wait_until(lambda: path.exists() and rows(path) == 500)
        tracked.handler._emitter.shutdown_timeout = 0.1
    ids = set()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (payload,) in connection.execute("SELECT payload FROM events"):
            ids.add(json.loads(payload + b"}")["eid"])
    os.truncate(path, path.stat().st_size // 2)
    aside = path.with_name("events.db.aside")
    path.rename(aside)
    before = aside.read_bytes()
    collector.default = 200
    assert main(["replay", str(aside), "--endpoint", collector.endpoint]) == 0
    assert len(collector.ids) == len(set(collector.ids)) > 200
    assert set(collector.ids) < ids
    assert f"{len(collector.ids)} sent" in capsys.readouterr().out
    assert aside.read_bytes() == before


def test_replay_names_a_row_that_has_changed(path, collector, capsys):
    """It costs itself alone, and the file may be one that a handler has closed."""
    flipped(path)
    collector.default = 200
    assert main(["replay", str(path), "--endpoint", collector.endpoint]) == 1
    assert "1 broken" in capsys.readouterr().out


def test_one_event_that_has_changed_costs_itself(path, collector, reports):
    """It is counted, told of and kept aside, and its neighbours are delivered."""
    flipped(path)
    with tracking(collector, store=path, flush_interval=0.1) as tracked:
        collector.wait_for_events(499)
        wait_until(lambda: reports)
        assert tracked.handler.flush(20)
        assert tracked.handler.stats.losses == {"store row broken": 1}
        assert balances(tracked.handler.stats, 0)
        assert rows(path) == 0
    assert len(names(collector)) == 499
    assert "1 events given up" in reports[0]


@pytest.mark.parametrize(
    ("application", "version", "words"),
    [(0, 0, "not a store"), (0x12345678, 7, "not a store"), (0x53504C47, 4, "of version 4")],
)
def test_the_live_database_of_an_application_is_left_alone(  # noqa: PLR0917
    tmp_path, collector, reports, application, version, words
):
    """That is said when the handler is made; events are delivered from memory."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "events.db"
    write_database(path, application=application, version=version)
    before = snapshot(path.parent)
    with tracking(collector, store=path) as tracked:
        wait_until(lambda: reports)
        for number in range(1_000):
            tracked.log(event(number))
        assert tracked.handler.flush(20)
        assert names(collector) == [str(number) for number in range(1_000)]
        assert balances(tracked.handler.stats, 1_000)
    (report,) = reports
    assert str(path) in report
    assert words in report
    assert "in memory" in report
    assert snapshot(path.parent) == before


def test_a_file_that_is_removed_is_told_of_and_begun_anew(path, collector, reports):
    """Nothing that waited in it gets lost, for it was open."""
    collector.default = 503
    with tracking(collector, store=path, max_retry_delay=0.1, batch_size=50) as tracked:
        for number in range(500):
            tracked.log(event(number))
        wait_until(lambda: path.exists() and rows(path) == 500)
        for found in list(path.parent.iterdir()):
            found.unlink()
        for number in range(500, 600):
            tracked.log(event(number))
        wait_until(lambda: path.exists() and rows(path) == 600)
        collector.default = 200
        assert tracked.handler.flush(20)
        assert sorted(set(names(collector)), key=int) == [str(number) for number in range(600)]
        assert balances(tracked.handler.stats, 600)
        assert tracked.handler.stats.sent == 600
    assert any("removed or replaced" in report for report in reports)


@pytest.mark.parametrize("size", ["3m", "8m"])
def test_a_disk_that_the_store_has_filled_becomes_empty_again(tmp_path, collector, reports, size):
    """What is in the file is sent once the collector is back, and the file shrinks."""
    collector.default = 503
    with small_disk(tmp_path / "disk", size) as disk:
        path = disk / "events.db"
        settings = {"max_retry_delay": 0.1, "queue_size": 1_000}
        with tracking(collector, store=path, **settings) as tracked:
            logged = 0
            while not any("cannot be written" in report for report in reports):
                tracked.log(event(logged, label="x" * 200))
                logged += 1
                if logged % 100 == 0:
                    time.sleep(0.005)  # no faster than it is written
            fill_up(disk)
            largest = path.stat().st_size
            collector.default = 200
            assert tracked.handler.flush(20)
            stats = tracked.handler.stats
            assert stats.queued == stats.failed == 0
            assert balances(stats, logged)
            assert stats.sent == len(collector.events) == len(set(collector.ids)) > 1_000
            wait_until(lambda: path.stat().st_size < largest / 2)
            tracked.log(event("after"))
            wait_until(lambda: names(collector)[-1] == "after")
        assert rows(path) == 0


def test_garbage_in_the_wal_is_not_taken_for_events(path, collector, reports):
    """What a write left half-done is ignored, and the store works on."""
    program = """
        track("http://127.0.0.1:9", sys.argv[1], store_sync=True)
        log("before")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run(program, path, status=-signal.SIGKILL)
    wal = path.with_name("events.db-wal")
    with wal.open("r+b") as file:
        file.seek(wal.stat().st_size // 2)
        file.write(os.urandom(wal.stat().st_size))
    with tracking(collector, store=path) as tracked:
        for number in range(10):
            tracked.log(event(number))
        assert tracked.handler.flush(20)
        assert names(collector)[:10] == [str(number) for number in range(10)]
        assert tracked.handler.stats.queued == 0
        assert rows(path) <= 1  # the event before, if it was not in the half that is gone


@pytest.mark.parametrize("place", ["directory", "no such directory", "under a file", "no right"])
def test_a_path_where_no_file_can_be_is_told_of_once(tmp_path, collector, reports, place):
    """The events are kept in memory and delivered."""
    (tmp_path / "file").touch()
    path = {
        "directory": tmp_path,
        "no such directory": tmp_path / "none" / "events.db",
        "under a file": tmp_path / "file" / "events.db",
        "no right": "/proc/events.db",
    }[place]
    with tracking(collector, store=path) as tracked:
        for number in range(1_000):
            tracked.log(event(number))
        assert tracked.handler.flush(20)
        assert names(collector) == [str(number) for number in range(1_000)]
        assert tracked.handler.errors == []
        assert balances(tracked.handler.stats, 1_000)
    (report,) = reports
    assert str(path) in report
    assert "in memory" in report
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_disk_is_put_up_with(path, collector):
    """Events that do not fit on the disk are sent from memory, those on it as well."""
    program = """
        import snowplow_logging.delivery.stored
        snowplow_logging.delivery.stored._RETRY_DELAY = 0.5
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        reports = []
        class Keeping(logging.Handler):
            def emit(self, record):
                reports.append(record.getMessage())
        logging.getLogger("snowplow_logging").addHandler(Keeping())
        handler = track(sys.argv[1], sys.argv[2], store_sync=True, shutdown_timeout=30)
        for number in range(3_000):
            log(str(number))
        handler.flush(20)
        stats = handler.stats
        ends = stats.sent + stats.failed + stats.dropped + stats.queued
        print(json.dumps([stats.failed, stats.dropped, 3_000 + stats.recovered == ends, reports]))
    """
    collector.default = Answer(after=0.1)
    out, _ = run(program, collector.endpoint, path)
    failed, dropped, balanced, reports = json.loads(out)
    assert (failed, dropped, balanced) == (0, 0, True)
    assert all("events are kept in memory" in report for report in reports)
    with tracking(collector, store=path, flush_interval=0.1):
        collector.wait(lambda: len(set(names(collector))) == 3_000)


def test_a_file_that_breaks_while_it_is_used_is_set_aside(path, collector, reports):
    """What cannot be read of it is counted as failed with its reason, and all else arrives."""
    collector.default = 503
    settings = {"max_retry_delay": 0.1, "batch_size": 10, "shutdown_timeout": 3}
    with tracking(collector, store=path, **settings) as tracked:
        for number in range(2_000):
            tracked.log(event(number, label="x" * 300))
        wait_until(lambda: rows(path) == 2_000)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        wal = path.with_name("events.db-wal").stat().st_size
        assert wal == 0
        descriptor = os.open(path, os.O_RDWR)  # never closed, for that would give up locks
        os.pwrite(descriptor, os.urandom(400_000), 200_000)
        collector.default = 200
        wait_until(lambda: tracked.handler.stats.losses.get("store set aside"))
        for number in range(10):
            tracked.log(event(f"after {number}"))
        assert tracked.handler.flush(20)
        assert names(collector)[-10:] == [f"after {number}" for number in range(10)]
        stats = tracked.handler.stats
        assert 0 < stats.failed == stats.losses["store set aside"] < 1_500
        assert stats.failed + stats.sent == 2_010
        assert balances(stats, 2_010)
        (aside,) = path.parent.glob("events.db.*Z")
        (mention,) = [report for report in reports if str(aside) in report]
        assert f"{stats.failed:,} that waited" in mention
    os.close(descriptor)


def test_a_file_that_is_locked_for_long_is_used_again_later(path, collector, reports, impatient):
    """Events go from memory meanwhile, and those in the file neither get lost nor come twice."""
    collector.default = 503
    settings = {"max_retry_delay": 0.1, "batch_size": 10}
    with tracking(collector, store=path, **settings) as tracked:
        for number in range(100):
            tracked.log(event(number))
        wait_until(lambda: rows(path) == 100)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for number in range(100, 200):
            tracked.log(event(number))
        wait_until(lambda: reports and any("locked" in report for report in reports))
        assert tracked.handler.stats.queued == 200
        collector.default = 200
        wait_until(lambda: len(collector.events) >= 100)  # those in memory
        assert balances(tracked.handler.stats, 200)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert tracked.handler.flush(30)
        assert sorted(names(collector), key=int) == [str(number) for number in range(200)]
        assert balances(tracked.handler.stats, 200)
        assert rows(path) == 0


def test_a_file_that_is_locked_does_not_hold_up_closing(path):
    """Closing takes the `shutdown_timeout` at most, though another process blocks the file."""
    with tracking(store=path, shutdown_timeout=0.5) as tracked:
        tracked.log(event("a"))
        wait_until(lambda: path.exists() and rows(path) == 1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            tracked.log(event("b"))
            time.sleep(0.1)  # the write waits by now
            before = time.monotonic()
            tracked.handler.close()
            assert time.monotonic() - before < 0.8
        stats = tracked.handler.stats
        assert rows(path) == 1 == stats.queued
        assert stats.losses == {"shutdown_timeout": 1}


# The file itself.


def test_a_file_gives_back_the_room_that_its_events_have_left(path):
    """Once a backlog has gone, the file shrinks."""
    store = Store(path, LIMIT)
    store.open()
    store.add([b"x" * 1_000] * 20_000)
    store.remove(store.take(20_000, 10**9, len).ids)
    before = path.stat().st_size
    while store.shrink():
        pass
    store.close()
    assert before > 10_000_000
    assert path.stat().st_size < before - 15_000_000
