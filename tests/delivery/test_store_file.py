"""The file of the store touches nobody else's, and each event in it has one who may send it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import threading
import time
import zlib

import pytest

from snowplow_logging.delivery import waiting
from snowplow_logging.delivery.sqlite_file import SQLiteFile, StoreError
from store_files import DESTINATION, fill_up, small_disk, snapshot, spawn, write_database

LIMIT = 1 << 30
STORE = 0x53504C47


@contextlib.contextmanager
def opened(path, destination=DESTINATION, limit=LIMIT):
    """Open a store."""
    file = SQLiteFile(path, limit, destination)
    file.open()
    try:
        yield file
    finally:
        file.close()


def payload(name, size=0):
    """Return a payload with a name."""
    return b'{"se_ac":"%s"' % (str(name).encode() + b"x" * size)


def take_rows(file, count=10_000, room=10**9):
    """Take what there is, and return all that is known of it."""
    taken = file.take(count, room, len)
    file.share.cursors = taken.cursors
    return taken


def take(file, count=10_000):
    """Take what there is, and return the payloads."""
    return take_rows(file, count).payloads


def empty(file):
    """Take and remove all, and return the payloads."""
    payloads = []
    while (taken := take_rows(file, 100)).ids:
        payloads += taken.payloads
        file.remove(taken.ids)
    return payloads


def payloads(*names):
    """Return payloads with names."""
    return [payload(name) for name in names]


# A file of somebody else's.


def a_database(path):
    """Write another program's database."""
    write_database(path)


def a_database_in_wal_mode(path):
    """Write another program's database with a WAL."""
    write_database(path, wal=True)


def a_database_with_an_id(path):
    """Write the database of another program that has an id of its own."""
    write_database(path, application=0x12345678, version=1)


def a_newer_store(path):
    """Write a store of a newer version."""
    write_database(path, application=STORE, version=4)


def random_bytes(path):
    """Write what is no database."""
    path.write_bytes(os.urandom(20_000))


def a_short_text(path):
    """Write a text."""
    path.write_text("precious\n")


def a_directory(path):
    """Make a directory with a file in it."""
    path.mkdir()
    (path / "file").touch()


OTHERS = [
    a_database,
    a_database_in_wal_mode,
    a_database_with_an_id,
    a_newer_store,
    random_bytes,
    a_short_text,
    a_directory,
]


@pytest.mark.parametrize("write", OTHERS)
def test_a_file_of_somebody_else_stays_as_it_is(path, write):
    """It is not written to, moved or removed, and nothing is made beside it."""
    write(path)
    before = snapshot(path.parent)
    file = SQLiteFile(path, LIMIT, DESTINATION)
    for _ in range(2):
        with pytest.raises(StoreError) as raised:
            file.open()
        assert str(path) in str(raised.value)
        assert str(raised.value) == file.problem()
        assert not raised.value.set_aside
        assert not file.is_open
        assert snapshot(path.parent) == before


def test_a_live_database_of_the_same_process_keeps_its_locks(path):
    """Looking at a database closes no descriptor of it, which would give up the program's locks."""
    write_database(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("DELETE FROM events")
        with pytest.raises(StoreError, match="is not a store"):
            SQLiteFile(path, LIMIT, DESTINATION).open()
        program = """
            import sqlite3
            try:
                sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                say(error)
        """
        out, _ = spawn(program, path).communicate(timeout=30)
        assert out == "database is locked\n"
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("suffix", ["-owners", "-reserve"])
def test_a_file_of_somebody_else_beside_the_store_stays_as_it_is(path, suffix):
    """What has the name of a file that the store needs may be anything."""
    other = path.with_name(f"events.db{suffix}")
    other.write_text("precious\n")
    file = SQLiteFile(path, LIMIT, DESTINATION)
    with pytest.raises(StoreError, match="not a"):  # noqa: PT012 - either may tell
        file.open()
        file.add([payload("a")])
    file.close()
    assert other.read_text() == "precious\n"


def test_an_empty_file_becomes_a_store(path):
    """There is nothing in it that could get lost."""
    path.touch()
    with opened(path) as file:
        file.add([payload("a")])
        assert take(file) == [payload("a")]


def test_only_their_owner_may_read_the_files(path):
    """Events hold personal data."""
    with opened(path) as file:
        file.add([payload("a")])
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == dict.fromkeys(
        [f"events.db{suffix}" for suffix in ("", "-wal", "-shm", "-owners", "-reserve")], 0o600
    )


@pytest.mark.parametrize("place", ["no such directory", "a file for a directory"])
def test_a_path_where_no_file_can_be_is_a_problem(tmp_path, place):
    """It is known before anything is written."""
    (tmp_path / "file").touch()
    path = tmp_path / ("none" if place == "no such directory" else "file") / "events.db"
    file = SQLiteFile(path, LIMIT, DESTINATION)
    assert str(path) in file.problem()
    with pytest.raises(StoreError):
        file.open()
    assert SQLiteFile(tmp_path / "events.db", LIMIT, DESTINATION).problem() is None
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_the_events_of_a_file_of_version_1_are_sent(path):
    """The leases are gone, and whoever comes first sends what is there."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {STORE}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("CREATE TABLE owners (id INTEGER PRIMARY KEY, expires REAL NOT NULL)")
        connection.execute(
            "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER NOT NULL,"
            " checksum INTEGER NOT NULL, payload BLOB NOT NULL)"
        )
        connection.execute("CREATE INDEX events_by_owner ON events (owner)")
        connection.execute("PRAGMA journal_mode = WAL")
        for number in range(5):
            one = payload(number)
            connection.execute(
                "INSERT INTO events (owner, checksum, payload) VALUES (?, ?, ?)",
                (number % 2 + 7_000_000_000_000, zlib.crc32(one), one),
            )
    with opened(path) as file:
        assert file.share.recover() == 5
        assert empty(file) == payloads(*range(5))


# A file that is broken.


def test_what_can_be_read_of_a_corrupt_file_is_brought_into_a_new_one(path):
    """The rest is set aside with it."""
    with opened(path) as file:
        for number in range(1_000):
            file.add([payload(number, 500)])
    with path.open("r+b") as broken:
        broken.seek(path.stat().st_size // 2 // 4_096 * 4_096)
        broken.write(os.urandom(5 * 4_096))
    file = SQLiteFile(path, LIMIT, DESTINATION)
    file.open()
    file.share.recover()
    read = []
    with pytest.raises(StoreError, match="was set aside as") as raised:  # noqa: PT012
        for _ in range(20):
            read += take(file, 100)
    assert raised.value.set_aside
    assert file.is_open
    read += take(file)
    file.close()
    expected = {payload(number, 500) for number in range(1_000)}
    assert 950 < len(read) == len(set(read)) < 1_000
    assert set(read) < expected
    (aside,) = path.parent.glob("events.db.*Z")
    assert aside.stat().st_size > 500_000


@pytest.mark.parametrize("size", [0.1, 0.5, 0.9])
def test_what_can_be_read_of_a_file_that_was_cut_off_is_sent(path, size):
    """Opening it says so, and then there is a new one."""
    with opened(path) as file:
        for number in range(1_000):
            file.add([payload(number, 500)])
    os.truncate(path, int(path.stat().st_size * size) // 4_096 * 4_096)
    file = SQLiteFile(path, LIMIT, DESTINATION)
    with pytest.raises(StoreError, match="was set aside as") as raised:
        file.open()
    assert raised.value.set_aside
    file.share.recover()
    read = take(file)
    file.close()
    assert len(read) > 1_000 * (size - 0.1)
    assert read == [payload(number, 500) for number in range(len(read))]


def test_one_broken_row_costs_one_event(path):
    """It is told of once, and kept in a table of its own."""
    with opened(path) as file:
        file.add(payloads(*range(6)))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            change = "UPDATE events SET payload = ? WHERE payload = ?"
            connection.execute(change, (b"\0garbage", payload(1)))
            connection.execute(change, ("a text", payload(3)))
            connection.execute("UPDATE events SET checksum = 'x' WHERE payload = ?", (payload(5),))
        taken = take_rows(file)
        assert taken.payloads == payloads(0, 2, 4)
        assert len(taken.broken) == 3
        file.set_aside(taken.broken)
        assert take_rows(file)[:3] == ([], [], [])
    with opened(path) as file, contextlib.closing(sqlite3.connect(path)) as connection:
        assert file.share.recover() == 3
        assert take(file) == payloads(0, 2, 4)
        aside = connection.execute("SELECT payload FROM broken ORDER BY id").fetchall()
        assert aside == [(b"\0garbage",), ("a text",), (payload(5),)]


def test_what_another_process_left_has_to_be_json(path):
    """A row that is as it was written, but no event, is broken as well."""
    with opened(path) as file:
        file.add([payload(0), b"garbage", payload(1)])
    with opened(path) as file:
        assert file.share.recover() == 3
        taken = take_rows(file)
    assert taken.payloads == payloads(0, 1)
    assert len(taken.broken) == 1


# A file that is removed or replaced while it is open.


def remove(path):
    """Remove the file."""
    path.unlink()


def remove_all(path):
    """Remove the file, and all that is beside it."""
    for found in list(path.parent.iterdir()):
        found.unlink()


def move(path):
    """Move the file."""
    path.rename(path.with_name("moved.db"))


@pytest.mark.parametrize("away", [remove, remove_all, move])
def test_a_file_that_is_removed_is_begun_anew(path, away):
    """What was in it is still there for as long as it is open, and is brought into the new one."""
    with opened(path) as left:
        left.add(payloads("left"))
    with opened(path) as file:
        file.add(payloads(*range(500)))
        assert file.share.recover() == 1
        taken = take_rows(file, 101)
        assert file.is_there()
        away(path)
        assert not file.is_there()
        with pytest.raises(StoreError, match=r"removed or replaced; 501 events were") as raised:
            file.add(payloads("no"))
        assert raised.value.set_aside
        assert file.is_there()
        assert file.waiting() == 400
        file.remove(taken.ids)
        file.add(payloads("new"))
        assert empty(file) == payloads(*range(100, 500), "new")
    with opened(path) as file:
        assert file.share.recover() == 0


def test_two_stores_go_over_to_the_new_file_with_what_is_theirs(path):
    """Each brings its own, whoever notices first."""
    with opened(path) as one, opened(path) as other:
        one.add(payloads("one"))
        other.add(payloads("other"))
        path.unlink()
        for file in (one, other):
            with pytest.raises(StoreError, match="1 event was brought"):
                file.waiting()
        one.add(payloads("one more"))
        assert empty(one) == payloads("one", "one more")
        assert empty(other) == payloads("other")


def test_a_file_that_is_replaced_by_somebody_elses_is_read_to_its_end(path):
    """Nothing is added to it, and the other file stays as it is."""
    with opened(path) as file:
        file.add(payloads(*range(10)))
        path.unlink()
        for suffix in ("-wal", "-shm"):
            path.with_name(f"events.db{suffix}").unlink()
        write_database(path)
        before = path.read_bytes()
        with pytest.raises(StoreError, match="is not a store"):
            file.add(payloads("no"))
        assert empty(file) == payloads(*range(10))
        assert not file.is_there()
    assert path.read_bytes() == before


# Who may send an event.


def test_events_are_for_one_destination(path):
    """What is left for one is not taken over by a store for another."""
    with opened(path, "https://one.example/") as one, opened(path, "https://two.example/") as two:
        one.add(payloads(1))
        two.add(payloads(2))
        assert (take(one), take(two)) == (payloads(1), payloads(2))
    with opened(path, "https://two.example/") as two:
        assert two.share.recover() == 1
        assert empty(two) == payloads(2)
        assert two.share.recover() == 0
    with opened(path, "https://one.example/") as one:
        assert one.share.recover() == 1
        assert empty(one) == payloads(1)


def test_two_stores_of_a_process_take_nothing_from_each_other(path):
    """What one leaves when it is closed is the other's at once."""
    with opened(path) as one, opened(path) as other:
        one.add(payloads(1))
        other.add(payloads(2))
        assert one.share.recover() == other.share.recover() == 0
        one.close()
        assert other.share.recover() == 1
        assert sorted(take(other)) == payloads(1, 2)
        assert one.open()
        assert take(one) == []


def test_a_store_that_is_opened_again_goes_on_with_its_own(path):
    """What it had taken and not removed comes again where that is said, and else does not."""
    with opened(path) as file:
        file.add(payloads(1, 2, 3))
        take(file, 2)
        file.close()
        assert file.open()
        assert file.waiting() == 1
        file.share.cursors = dict.fromkeys(file.share.cursors, 0)
        assert take(file) == payloads(1, 2, 3)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals")
def test_a_process_that_stands_still_keeps_its_events_until_it_is_killed(path):
    """A killed one leaves them at once."""
    program = """
        file = open_file(sys.argv[1])
        file.add([payload(number) for number in range(10)])
        take(file, 5)
        say("ready")
        sys.stdin.readline()
    """
    process = spawn(program, path)
    try:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with opened(path) as file:
            assert file.share.recover() == 0
            process.kill()
            process.wait()
            assert file.share.recover() == 10
            assert empty(file) == payloads(*range(10))
    finally:
        process.kill()
        process.communicate()


def test_dead_owners_are_shared_and_forgotten(path):
    """Not all that was left is taken over at once, and those who left nothing are removed."""
    for _ in range(5):
        with opened(path) as file:
            file.add([b"{"] * 600)
    with opened(path) as one, opened(path) as other:
        assert one.share.recover() == 1_200
        assert other.share.recover() == 1_200
        assert one.share.recover() == 600
        assert len(empty(one)) == 1_800
        assert len(empty(other)) == 1_200
    with opened(path), contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM owners").fetchall() == []


def test_a_lock_file_that_is_removed_is_made_again(path):
    """Nobody takes the living for dead because of it."""
    with opened(path) as alive:
        alive.add(payloads(1))
        path.with_name("events.db-owners").unlink()
        assert alive.waiting() == 1
        program = "say(open_file(sys.argv[1]).share.recover())"
        out, err = spawn(program, path).communicate(timeout=30)
        assert (out, err) == ("0\n", "")


def test_a_wal_that_is_removed_takes_nothing_with_it(path):
    """What is in it is moved into the file before more is written."""
    with opened(path) as file:
        file.add(payloads(1))
        path.with_name("events.db-wal").unlink()
        file.add(payloads(2))
        program = "open_file(sys.argv[1])\nos.kill(os.getpid(), signal.SIGKILL)"
        spawn(program, path).communicate(timeout=30)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)


# Waiting for another process.


@contextlib.contextmanager
def locked(path):
    """Hold the file's write lock, as another process does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        yield blocker
        blocker.execute("ROLLBACK")


def test_each_wait_has_the_end_that_it_is_given(path):
    """What has to wait ends at the time given; reading and closing do not wait at all."""
    with opened(path) as file:
        file.add(payloads(1, 2))
        with locked(path):
            before = time.monotonic()
            with pytest.raises(StoreError, match="locked"):
                file.add(payloads(3), before + 0.2)
            assert 0.1 < time.monotonic() - before < 3  # and not five, as without
            before = time.monotonic()
            first = take_rows(file).ids[0]
            with pytest.raises(StoreError, match="locked"):
                file.remove([first], 0.0)
            file.close()
            assert time.monotonic() - before < 3
        file.open()
        file.share.cursors = dict.fromkeys(file.share.cursors, 0)
        assert take(file) == payloads(2)


def test_a_wait_that_has_begun_can_be_cut_short(path):
    """As by a close, which has less time."""
    with opened(path) as file:
        file.add(payloads(1))
        with locked(path):
            before = time.monotonic()
            timer = threading.Timer(0.1, lambda: file.wait_until(time.monotonic()))
            timer.start()
            with pytest.raises(StoreError, match="locked"):
                file.add(payloads(2))
            assert time.monotonic() - before < 3
            timer.join()


def test_a_clock_that_stands_still_holds_up_nothing(path, monkeypatch):
    """Tests replace the clocks of the module `time`."""
    for clock in ("time", "monotonic", "time_ns", "perf_counter"):
        frozen = getattr(time, clock)()
        monkeypatch.setattr(time, clock, lambda frozen=frozen: frozen)
    with opened(path) as file:
        file.add(payloads(1))
        with locked(path), pytest.raises(StoreError, match="locked"):
            file.add(payloads(2), waiting.clock.now() + 0.1)


# A disk that is full.


@pytest.mark.parametrize("size", ["1m", "4m"])
def test_a_disk_that_the_store_has_filled_becomes_empty_again(tmp_path, size):
    """What is in the file is read, sent and removed, by the next process too, and it shrinks."""
    program = """
        file = open_file(sys.argv[1])
        added = 0
        try:
            while True:
                file.add([payload("x" * 500)] * 50)
                added += 50
        except StoreError as error:
            assert error.full, error
        say(added)
        sys.stdin.readline()
    """
    with small_disk(tmp_path / "disk", size) as disk:
        path = disk / "events.db"
        process = spawn(program, path)
        added = int(process.stdout.readline())
        fill_up(disk)
        process.kill()
        process.communicate()
        fill_up(disk)
        largest = path.stat().st_size
        with opened(path) as file:
            assert file.share.recover() == added > 200
            assert len(empty(file)) == added
            while file.shrink():
                pass
            assert path.stat().st_size < largest / 2
            file.add(payloads("again"))
            assert empty(file) == payloads("again")


def test_events_that_need_more_room_in_reserve_do_not_cost_what_there_is(tmp_path):
    """Were it given up for them, another program could take it, and nothing could be removed."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        path = disk / "events.db"
        with opened(path) as file:
            file.add([payload(number, 500) for number in range(300)])
            reserve = path.with_name("events.db-reserve")
            before = reserve.stat()
            fill_up(disk)
            with pytest.raises(StoreError, match="cannot be written"):
                file.add([payload("x" * 500)] * 2_000)
            after = reserve.stat()
            assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
            fill_up(disk)
            assert len(empty(file)) == 300


def test_a_disk_without_any_room_is_read_all_the_same(tmp_path):
    """Even the room in reserve is gone; what cannot be removed does not come twice."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        path = disk / "events.db"
        with opened(path) as file:
            file.add([payload(number, 500) for number in range(300)])
            path.with_name("events.db-reserve").unlink()
            fill_up(disk)
            file.close()
            fill_up(disk)
            file.open()
            assert len(empty(file)) == 300
            assert take(file) == []
            assert file.waiting() == 0
            (disk / "filler").unlink()
            file.add(payloads("again"))
            assert empty(file) == payloads("again")
        with opened(path) as file:
            assert file.share.recover() == 0
