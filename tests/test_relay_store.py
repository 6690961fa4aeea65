"""Handlers that leave their events in a store, and the relay that sends them from there."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import signal
import sqlite3
import threading
import time
from urllib.request import urlopen

import pytest

from faulty_collector import SILENCE, Answer, FaultyCollector
from relays import LocalRelay, Relay, eventually
from snowplow_logging import SnowplowHandler, StructuredEvent

ELSEWHERE = "http://collector.invalid"


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.fixture
def path(tmp_path):
    """Return where the store is to be."""
    return tmp_path / "events.db"


def rows(path):
    """Return how many events are in the file."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute("SELECT count(*) FROM events").fetchone()[0]


@contextlib.contextmanager
def leaving(path, **settings):
    """Give a function that logs into a store, and the handler."""
    handler = SnowplowHandler(store=path, send=False, **settings)
    logger = logging.Logger("shop")
    logger.addHandler(handler)

    def log(*labels):
        for label in labels:
            logger.info(StructuredEvent(category="c", action="a", label=str(label)))

    try:
        yield log, handler
    finally:
        handler.close()


def labels(collector):
    """Return the labels that have arrived, once for each event id."""
    return sorted({event["eid"]: event["se_la"] for event in collector.events}.values())


LEAVE = """
def leave(*labels, **settings):
    handler = configure(store="events.db", send=False, **settings)
    for label in labels:
        log(label)
    return handler
ENDPOINTS = [None]
"""


def test_what_a_process_logs_before_it_ends_at_once_is_sent(run, path):
    """Not even `os._exit` right after the log call loses an event, and there is no thread."""
    program = """
        for child in range(4):
            if os.fork() == 0:
                leave(*range(child * 10, child * 10 + 10))
                assert threading.active_count() == 1
                os._exit(0)
        for _ in range(4):
            os.wait()
        leave("last")
        say("logged")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = run(LEAVE + program.replace("\n        ", "\n"), error=None)
    assert ended.words == ["logged"], ended.err
    assert rows(path) == 41
    with FaultyCollector() as collector, LocalRelay("--store", path, endpoint=collector) as relay:
        collector.wait_for_events(41)
        assert labels(collector) == sorted([*map(str, range(40)), "last"])
        assert "events: 41 sent, 0 given up, 0 retried" in relay.end()
    assert rows(path) == 0


def test_a_fork_of_a_process_that_has_logged_goes_on_by_itself(run, path):
    """The child has a connection of its own to the file, whether it was forked by a hook or not."""
    program = """
        leave("before")
        if os.fork() == 0:
            log("child")
            os._exit(0)
        log("parent")
        os.wait()
        say("done")
    """
    run(LEAVE + program.replace("\n        ", "\n"))
    assert rows(path) == 3


def test_what_comes_while_a_relay_runs_is_sent_soon(path):
    """The events are counted as sent once they are in the file, and flush returns."""
    with FaultyCollector() as collector, LocalRelay("--store", path, endpoint=collector) as relay:
        with leaving(path) as (log, handler):
            for number in range(5):
                log(number)
                assert handler.stats.sent == number + 1
                assert handler.flush(0)
                collector.wait_for_events(number + 1)
        assert "events: 5 sent" in relay.end()


def test_a_relay_that_dies_is_replaced_by_the_next_at_once(path):
    """What it had taken is sent by the next one, no clock being waited for."""
    with FaultyCollector(SILENCE) as collector, leaving(path) as (log, _):
        log(*range(1_200))
        with Relay("--store", path, endpoint=collector) as first:
            collector.wait_for_requests(1)
            first.kill()
        with LocalRelay("--store", path, endpoint=collector) as second:
            collector.wait(lambda: len(labels(collector)) == 1_200)
            assert "events: 1,200 sent" in second.end()
        assert rows(path) == 0


def test_what_cannot_be_kept_stays_in_the_store(path, tmp_path):
    """Until it can be, while others are sent; an end of the relay does not wait for it."""
    place = tmp_path / "missing"
    with leaving(path) as (log, _):
        log("refused", "taken")
    keeps = ("--dead-letter", place / "dead.jsonl", "--batch-size", 1, "--shutdown-timeout", 60)
    with FaultyCollector(400) as collector:
        with LocalRelay("--store", path, *keeps, endpoint=collector) as one:
            collector.wait_for_events(1)
            eventually(lambda: rows(path) == 1)
            start = time.monotonic()
            summary = one.end()
            assert time.monotonic() - start < 30
            assert "events: 1 sent, 0 given up" in summary
            assert "could not be kept" in summary
        assert rows(path) == 1
        collector.answers.append(400)
        with LocalRelay("--store", path, *keeps, endpoint=collector) as one:
            collector.wait_for_requests(3)
            place.mkdir()
            eventually(lambda: rows(path) == 0)
            assert "1 given up" in one.end()
        assert labels(collector) == ["taken"]
    assert json.loads((place / "dead.jsonl").read_text())["snowplow"]["se_la"] == "refused"


def test_sigterm_loses_nothing(path):
    """What is under way and what waits stay in the file where the time is over."""
    gate = threading.Event()
    with (
        FaultyCollector(200, default=Answer(gate=gate)) as collector,
        leaving(path) as (log, _),
    ):
        log(*range(1_200))
        with Relay("--store", path, "--shutdown-timeout", 0.3, endpoint=collector) as first:
            collector.wait_for_requests(2)
            assert "events: 500 sent" in first.end()
        assert rows(path) == 700
        gate.set()
        with LocalRelay("--store", path, endpoint=collector) as second:
            collector.wait(lambda: len(labels(collector)) == 1_200)
            second.end()
        assert rows(path) == 0


def test_two_relays_share_the_work(path):
    """Each event is sent by one of them."""
    with (
        FaultyCollector() as collector,
        leaving(path) as (log, _),
        LocalRelay("--store", path, endpoint=collector) as one,
        LocalRelay("--store", path, endpoint=collector) as other,
    ):
        log(*range(500))
        collector.wait_for_events(500)
        one.end(), other.end()
        assert len(collector.events) == 500


def test_events_for_another_collector_stay_and_are_told_of(path, reports):
    """The destination belongs to the event; what has none is anybody's."""
    with FaultyCollector() as collector:
        with leaving(path, endpoint=ELSEWHERE) as (log, _):
            log("theirs")
        with leaving(path, endpoint=collector.endpoint) as (log, _):
            log("ours")
        with leaving(path) as (log, _):
            log("anybody's")
        with LocalRelay("--store", path, endpoint=collector) as relay:
            collector.wait_for_events(2)
            eventually(lambda: reports)
            assert f"1 event waits in {path} for {ELSEWHERE}/" in reports[0]
            relay.end()
        assert labels(collector) == ["anybody's", "ours"]
        assert rows(path) == 1


def test_one_collector_has_one_name(path):
    """However it is spelt, its events are its own."""
    with FaultyCollector() as collector:
        authority = collector.endpoint.replace("http://127.0.0.1", "LocalHost")
        with leaving(path, endpoint=f"HTTP://{authority}") as (log, _):
            log("ours")
        endpoint = f"http://{authority.lower()}/"
        with LocalRelay("--store", path, endpoint=endpoint) as relay:
            collector.wait_for_events(1)
            relay.end()
    assert rows(path) == 0


def test_the_headers_of_a_relay_are_of_every_request(path):
    """A collector may want a token; and a user no address of his with the event."""
    with FaultyCollector() as collector:
        with leaving(path) as (log, _):
            log(1)
        headers = ("--header", "SP-Anonymous:*", "--header", "X-Token: of the gate")
        with LocalRelay("--store", path, *headers, endpoint=collector) as relay:
            (request,) = collector.wait_for_requests(1)
            relay.end()
    assert request.headers["sp-anonymous"] == "*"
    assert request.headers["x-token"] == "of the gate"


def test_a_handler_that_sends_takes_over_what_was_left(path):
    """Who goes back to sending by himself has nothing to clear."""
    with FaultyCollector() as collector:
        with leaving(path) as (log, _):
            log(1, 2)
        handler = SnowplowHandler(collector.endpoint, store=path)
        collector.wait_for_events(2)
        assert handler.flush(30)
        assert handler.stats.recovered == 2
        handler.close()


def test_events_wait_in_memory_while_the_file_cannot_be_written(tmp_path, reports):
    """A thread writes them once it can be; the log call does not wait."""
    path = tmp_path / "later" / "events.db"
    with leaving(path, max_retry_delay=0.1) as (log, handler):
        log(1, 2, 3)
        assert handler.stats.queued == 3
        assert not handler.flush(0)
        path.parent.mkdir()
        assert handler.flush(30)
        log(4)
        assert handler.stats.sent == 4
    assert rows(path) == 4
    assert str(path) in reports[0]


def test_a_file_that_has_reached_its_limit_fills_the_memory(path, reports):
    """And then `on_full` says what is done."""
    with leaving(path, store_limit=1_000_000, queue_size=10, shutdown_timeout=0.1) as (
        log,
        handler,
    ):
        big = "x" * 900
        while not handler.stats.dropped:
            log(*[big] * 10)
        stats = handler.stats
        assert stats.queued == 10
        assert stats.sent == rows(path)
    assert f"the store {path} has reached its 1,000,000 bytes" in reports[0]
    assert path.stat().st_size < 1_100_000


def test_a_thread_writes_where_the_log_call_must_not_wait(path):
    """`store_sync=False` is for event loops."""
    with leaving(path, store_sync=False) as (log, handler):
        log(*range(100))
        assert handler.flush(30)
        assert rows(path) == 100


def test_many_threads_log_at_once(path):
    """None waits for ever, and none is lost."""
    with leaving(path) as (log, handler):
        threads = [
            threading.Thread(target=log, args=[f"{n}-{i}" for i in range(50)]) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert handler.stats.sent == 400
        assert rows(path) == 400


# A connection that an interrupt has kept from being known is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_handler_that_logs_or_raises_stops_nothing(path):
    """It costs its own event at most, and what was logged before is in the file."""
    done, armed = [], []

    with leaving(path) as (log, handler):

        def interrupt(_number, _frame):
            log("from the signal handler")
            if armed:
                raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                with contextlib.suppress(Interrupted):
                    armed.append(1)
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + len(done) % 50 * 0.00002)
                    log("before")
                    done.append(1)
                    time.sleep(0.0005)
                    armed.clear()
                armed.clear()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert handler.flush(30)
        log("last")
        assert handler.flush(30)
        stats = handler.stats
        # What was interrupted when it had just been written is written again, as the same event.
        with contextlib.closing(sqlite3.connect(path)) as connection:
            query = "SELECT count(DISTINCT payload) FROM events"
            assert connection.execute(query).fetchone() == (stats.sent,)
        assert stats.queued == 0
        assert stats.sent > len(done)
    gc.collect()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"send": False}, "send is False"),
        ({"send": 0, "store": "x", "endpoint": "https://h"}, "send is 0"),
        ({"send": False, "store": "x", "broker": "redis://h"}, "send is False"),
        ({"broker": "redis://h", "endpoint": "https://h"}, "broker is given as well as endpoint"),
        ({"send": True, "store": "x"}, "endpoint is missing"),
        ({"store_sync": 1, "endpoint": "https://h"}, "store_sync is 1"),
        ({"broker": "redis://h", "stream": "a b"}, "stream is 'a b'"),
    ],
)
def test_settings_that_make_no_sense_together(settings, message):
    """The message names the setting."""
    with pytest.raises((TypeError, ValueError), match=message):
        SnowplowHandler(**settings)


def test_a_store_of_the_version_before_is_brought_up(path):
    """Its events are sent."""
    with leaving(path) as (log, _):
        log(1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE outboxes")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    with leaving(path) as (log, _):
        log(2)
    with FaultyCollector() as collector, LocalRelay("--store", path, endpoint=collector):
        collector.wait_for_events(2)


def test_health_and_metrics(path):
    """The page and the metrics have the counts and the lag; the file has the same."""
    file = path.with_name("health.json")
    gate = threading.Event()
    with leaving(path) as (log, _):
        log(*range(30))
    arguments = ("--store", path, "--health", 0, "--health-file", file, "--batch-size", 10)
    with (
        FaultyCollector(200, default=Answer(gate=gate)) as collector,
        Relay(*arguments, endpoint=collector) as relay,
    ):
        url = relay.line().split()[-1]
        collector.wait_for_requests(2)
        collector.wait(lambda: json.load(urlopen(url))["waiting"] == {"events": 20})
        state = json.load(urlopen(url))
        assert (state["status"], state["sent"], state["taken"]) == ("ok", 10, 20)
        assert state["oldest_taken_seconds"] >= 0
        metrics = urlopen(url.replace("health", "metrics")).read().decode()
        assert "\nsnowplow_relay_sent_total 10\n" in metrics
        assert "\nsnowplow_relay_waiting_events 20.0\n" in metrics
        gate.set()
        collector.wait_for_events(30)
        relay.end()
    assert json.loads(file.read_text())["sent"] == 30
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--store", "{path}/none/events.db"), "there is no such directory"),
        (("--store", "{path}"), "is not a file"),
        (("--store", "{path}/events.db", "--health", "x"), "--health is 'x'"),
        (("--store", "{path}/events.db", "--connections", "0"), "connections is 0"),
    ],
)
def test_a_relay_that_cannot_begin_says_why(tmp_path, capfd, arguments, words):
    """Status 2 and one line."""
    from snowplow_logging.cli import main

    arguments = [argument.format(path=tmp_path) for argument in arguments]
    assert main(["relay", *arguments, "--endpoint", "https://collector.invalid"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("snowplow-logging relay: ")
    assert words in error
    assert error.count("\n") == 1
