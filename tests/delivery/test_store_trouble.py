"""A store that is full, broken, locked, removed or impossible: what becomes of its events."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import time

import pytest

from faulty_collector import Answer, FaultyCollector
from helpers import tracking
from snowplow_logging.cli import main
from snowplow_logging.delivery import store as store_queue
from snowplow_logging.delivery import store_connection as store_module
from snowplow_logging.delivery import stored
from snowplow_logging.delivery.sqlite_file import SQLiteFile as Store
from store_files import fill_up, small_disk, snapshot, write_database
from stored_events import balances, event, names, rows, run, start, wait_until

LIMIT = 1_073_741_824


@pytest.fixture
def impatient(monkeypatch):
    """Have what takes many seconds take less than one."""
    monkeypatch.setattr(store_module, "_PATIENCE", 0.1)
    monkeypatch.setattr(stored, "_RETRY_DELAY", 0.5)
    monkeypatch.setattr(store_queue, "_RECOVER_INTERVAL", 0.1)


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
    settings |= {"store": path, "max_retry_delay": 0.1, "shutdown_timeout": 0.1}
    with tracking(collector, **settings) as tracked:
        while not tracked.handler.stats.dropped:
            tracked.log(event("filler", label="x" * 500))
        dropped = tracked.handler.stats.dropped
        before = time.monotonic()
        tracked.log(event("no room"))
        assert 0.2 < time.monotonic() - before < 5
        assert tracked.handler.stats.dropped == dropped + 1
    collector.default = 200
    with tracking(collector, **{**settings, "block_timeout": 30}) as tracked:
        tracked.log(event("room"))
        assert tracked.handler.stats.dropped == 0
        assert tracked.handler.flush(20)
        assert names(collector)[-1] == "room"


@pytest.mark.parametrize("count", [40_000, pytest.param(100_000, marks=pytest.mark.exhaustive)])
def test_a_day_of_outage_takes_no_memory_and_leaves_in_ordinary_batches(path, count):
    """Very many events wait in the file, and then go in batches of the usual size."""
    program = f"""
        count = {count}
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
        for number in range(2_000, count):
            log(str(number))
        assert memory() - before < 10_000_000, memory() - before
        assert handler.stats.queued == count, handler.stats
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
        assert sorted(names(collector), key=int) == [str(number) for number in range(count)]
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
    with tracking(collector, store=path, shutdown_timeout=0.1) as tracked:
        for number in range(500):
            tracked.log(event(number, label="x" * 300))
        wait_until(lambda: path.exists() and rows(path) == 500)
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
    assert "1 event given up" in reports[0]


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


def test_a_file_whose_making_was_cut_short_becomes_a_store(path, collector, reports):
    """Its process was killed, or another one read it just then, when it had but its first page."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    assert path.stat().st_size
    collector.default = 503
    with tracking(collector, store=path, max_retry_delay=0.1) as tracked:
        tracked.log(event("a"))
        wait_until(lambda: rows(path) == 1)
        collector.default = 200
        assert tracked.handler.flush(20)
    assert names(collector) == ["a"]
    assert not any("not a store" in report for report in reports)


@pytest.mark.parametrize(
    "also",
    [
        ["PRAGMA journal_mode = WAL", "CREATE TABLE others (name)"],
        ["PRAGMA journal_mode = WAL", "PRAGMA application_id = 1234", "CREATE TABLE owners (name)"],
        ["PRAGMA journal_mode = WAL", "PRAGMA user_version = 1", "CREATE TABLE events (owner)"],
        ["CREATE TABLE others (name)", "DROP TABLE others"],
        ["PRAGMA user_version = 7"],
        ["PRAGMA application_id = 1234"],
    ],
)
def test_another_database_that_is_begun_in_the_same_way_is_left_alone(
    path, collector, reports, also
):
    """What is in it may be in its WAL alone, or be about to come."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ["PRAGMA auto_vacuum = INCREMENTAL", *also]:
            connection.execute(statement)
        before = snapshot(path.parent)
        with tracking(collector, store=path) as tracked:
            tracked.log(event("a"))
            assert tracked.handler.flush(20)
        assert snapshot(path.parent) == before
    assert names(collector) == ["a"]
    assert any("not a store" in report for report in reports)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/events.db", "a file/events.db"])
def test_a_path_at_which_nothing_can_be(tmp_path, collector, reports, name):
    """It is told of when the handler is made, which raises nothing; events go from memory."""
    (tmp_path / "a file").touch()
    with tracking(collector, store=tmp_path / name) as tracked:
        tracked.log(event("a"))
        assert tracked.handler.flush(20)
        tracked.handler.close()
        assert balances(tracked.handler.stats, 1)
    assert names(collector) == ["a"]
    assert re.search(
        r"the store .* cannot be (used|made): .*; events are kept in memory", reports[0]
    )


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


def test_a_folder_that_is_removed_is_told_of(tmp_path, collector, reports):
    """Where no new file can be made, what waited in the old one is counted as lost at the end."""
    collector.default = 503
    path = tmp_path / "run" / "events.db"
    path.parent.mkdir()
    with tracking(collector, store=path, max_retry_delay=0.1, shutdown_timeout=0.5) as tracked:
        for number in range(10):
            tracked.log(event(number))
        wait_until(lambda: path.exists() and rows(path) == 10)
        shutil.rmtree(path.parent)
        tracked.handler.close()
        stats = tracked.handler.stats
    assert (stats.queued, stats.failed, stats.losses) == (0, 10, {"store set aside": 10})
    removed = f"the store {path} was removed, and 10 events that waited in it are lost"
    assert removed in reports


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
        assert f"{stats.failed:,} events that waited" in mention
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
            assert time.monotonic() - before < 3  # and not the five that a write may wait
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


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals")
def test_a_process_that_stands_still_while_it_closes_loses_nothing(path):
    """What a frozen container has not yet written when the time of its close is over is written."""
    rounds = 6
    program = """
        handler = track("http://127.0.0.1:9", sys.argv[1], shutdown_timeout=0.1)
        stops = []
        def stop(*_):
            stops.append(1)
            os.kill(os.getpid(), signal.SIGSTOP)
        signal.signal(signal.SIGALRM, stop)
        for number in range(int(sys.argv[2])):
            for name in range(50):
                log(f"{number} {name}")
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            handler.close()
            while len(stops) == number:
                pass
        print(handler.stats.queued, dict(handler.stats.losses))
    """
    process = start(program, path, rounds)
    try:
        for _ in range(rounds):
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            time.sleep(0.3)  # longer than the close may take, with what it has for writing
            process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (out, "kept in memory" in err) == (f"{50 * rounds} {{}}\n", False), err
    assert rows(path) == 50 * rounds
