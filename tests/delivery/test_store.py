"""With a store nothing is lost that had reached its file, whoever opens and closes it."""

from __future__ import annotations

import contextlib
import gc
import logging
import logging.config
import signal
import sqlite3
import threading
import time

import pytest

from faulty_collector import SILENCE, Answer, nowhere
from helpers import tracking
from snowplow_logging import SnowplowHandler
from stored_events import balances, event, names, record, rows, run, wait_until

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
        # Once is enough: a busy machine holds up most of them, and a wait for others each.
        while min(seconds, default=1) >= 0.05 and len(seconds) < 50:
            before = time.monotonic()
            tracked.log(event(len(seconds)))
            wait_until(lambda: rows(path) == len(seconds) + 2)
            seconds.append(time.monotonic() - before)
    assert min(seconds) < 0.05


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
            for number in range(1_500):
                if number % 10 == 0:  # not by an interval, which a busy machine may spend in it
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + number % 7 * 0.0001)
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
        assert time.monotonic() - before < 5  # and not the ten that an answer may take
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
