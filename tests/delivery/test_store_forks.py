"""A fork, whenever it comes: what the parent has written stays, and the child has its own store."""

from __future__ import annotations

import os
import sys

import pytest

from store_files import spawn

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks"),
]

hooks_in_c = pytest.mark.parametrize(
    "hook",
    [
        "none",
        pytest.param(
            "the child's",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 13), reason="Python itself wants those of before, too"
            ),
        ),
    ],
)


def test_a_child_that_has_closed_all_descriptors_keeps_its_own_files(path, tmp_path):
    """What it has opened meanwhile is not closed, and it has a store all the same."""
    program = """
        file = open_file(sys.argv[1])
        file.add([payload("parent")])
        pid = os.fork()
        if not pid:
            os.closerange(3, 200)
            mine = [os.open(f"{sys.argv[2]}/{n}", os.O_RDWR | os.O_CREAT) for n in range(20)]
            child = SQLiteFile(sys.argv[1], 1 << 30, file.share.destination)
            child.open()
            child.add([payload("child")])
            assert take(child) == [payload("child")]
            child.close()
            del file, child
            import gc; gc.collect()
            for descriptor in mine:
                os.write(descriptor, b"mine")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert file.waiting() == 1
        assert file.share.recover() == 1
        say(len(take(file)))
    """
    out, err = spawn(program, path, tmp_path).communicate(timeout=30)
    assert (out, err) == ("2\n", "")
    assert [(tmp_path / str(number)).read_bytes() for number in range(20)] == [b"mine"] * 20


@hooks_in_c
@pytest.mark.parametrize("closes", [False, True])
def test_a_child_of_a_fork_in_c_closes_nothing_of_others(path, tmp_path, closes, hook):
    """Such a server runs no hook, or uWSGI the child's; that has a store, or is told of none."""
    program = """
        import ctypes
        file = open_file(sys.argv[1])
        file.add([payload("parent")])
        pid = ctypes.PyDLL(None).fork()
        if not pid:
            if sys.argv[4] != "none":
                ctypes.pythonapi.PyOS_AfterFork_Child()
            if sys.argv[3] == "True":
                os.closerange(3, 200)
            mine = [os.open(f"{sys.argv[2]}/{n}", os.O_RDWR | os.O_CREAT) for n in range(20)]
            child = SQLiteFile(sys.argv[1], 1 << 30, file.share.destination)
            try:
                child.open()
                child.add([payload("child")])
                child.close()
                say("stored")
            except StoreError as error:
                say(str(error).partition(": ")[2])
            for descriptor in mine:
                os.write(descriptor, b"mine")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        file.add([payload("parent")])
        say(file.waiting(), file.share.recover())
    """
    out, err = spawn(program, path, tmp_path, closes, hook).communicate(timeout=30)
    child = "the process was forked without Python's hooks for that" if closes else "stored"
    assert (out, err) == (f"{child}\n2 {int(not closes)}\n", "")
    assert [(tmp_path / str(number)).read_bytes() for number in range(20)] == [b"mine"] * 20


@hooks_in_c
@pytest.mark.parametrize("end", ["opens a store", "ends"])
def test_a_child_of_a_fork_in_c_leaves_what_a_killed_parent_has_written(path, end, hook):
    """What it closes of its parent's is of before: the WAL beside the file is another one."""
    program = """
        import ctypes
        file = open_file(sys.argv[1])
        file.add([payload("before")])
        ended, end = os.pipe()
        if not ctypes.PyDLL(None).fork():
            if sys.argv[3] != "none":
                ctypes.pythonapi.PyOS_AfterFork_Child()
            os.close(end)
            os.read(ended, 1)
            if sys.argv[2] == "opens a store":
                open_file(sys.argv[1])
            sys.exit()
        file.close()
        file = open_file(sys.argv[1])
        file.add([payload("after")] * 50)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert spawn(program, path, end, hook).communicate(timeout=60) == ("", "")
    program = """
        file = open_file(sys.argv[1])
        say(file.share.recover(), file.waiting())
    """
    assert spawn(program, path).communicate(timeout=60) == ("51 51\n", "")


def test_a_fork_does_not_wait_for_a_write_that_waits_for_another_process(path):
    """The child has its store at once, and the write goes on in the parent."""
    program = """
        import sqlite3, threading
        file = open_file(sys.argv[1])
        file.add([payload("a")])
        blocker = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=file.add, args=([payload("b")],))
        thread.start()
        time.sleep(0.1)
        before = time.monotonic()
        pid = os.fork()
        if not pid:
            child = SQLiteFile(sys.argv[1], 1 << 30, file.share.destination)
            child.open()
            os._exit(0)
        seconds = time.monotonic() - before
        assert os.waitpid(pid, 0)[1] == 0
        blocker.execute("ROLLBACK")
        thread.join()
        say(seconds < 2, file.waiting())  # the write waits for five
    """
    out, err = spawn(program, path).communicate(timeout=30)
    assert (out, err) == ("True 2\n", "")


def test_forks_amid_writes_leave_every_child_its_store(path):
    """Nothing of the parent's gets lost or comes twice, and no fork takes long."""
    program = """
        import threading
        file = open_file(sys.argv[1])
        going, added = True, 0
        def write():
            global added
            while going:
                file.add([payload("p" * 500)] * 200)
                added += 200
        thread = threading.Thread(target=write)
        thread.start()
        took = []
        for child in range(30):
            before = time.monotonic()
            pid = os.fork()
            if not pid:
                mine = SQLiteFile(sys.argv[1], 1 << 30, file.share.destination)
                mine.open()
                mine.add([payload(child)])
                os._exit(0)
            took.append(time.monotonic() - before)
            assert os.waitpid(pid, 0)[1] == 0
        going = False
        thread.join()
        assert file.waiting() == added, (file.waiting(), added)
        assert file.share.recover() == 30
        say(sorted(took)[15] < 0.5)  # most of them, for a busy machine may hold up one
    """
    out, err = spawn(program, path).communicate(timeout=60)
    assert (out, err) == ("True\n", "")


@pytest.mark.parametrize("end", ["opens a store", "ends", "drops all and ends"])
def test_what_a_child_does_after_a_fork_amid_a_write_is_nothing_to_the_parent(path, end):
    """Not even at its end it undoes what the parent has under way, on pages already in the WAL."""
    program = """
        import sqlite3
        file = open_file(sys.argv[1])
        file.add([payload("first")] * 100)
        children, parent = [], os.getpid()
        def fork(*_):
            if os.stat(f"{sys.argv[1]}-wal").st_size < 1_000_000:
                signal.setitimer(signal.ITIMER_REAL, 0.001)
            elif child := os.fork():
                children.append(os.waitpid(child, 0)[1])
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            file.add([payload(f"{number} " + "p" * 2_000) for number in range(3_000)])
        except StoreError:
            if parent == os.getpid():
                raise
        if parent != os.getpid():
            if sys.argv[2] == "drops all and ends":
                del file
            elif sys.argv[2] == "opens a store":
                try:
                    open_file(sys.argv[1])
                except StoreError:
                    pass
            sys.exit()
        file.add([payload("last")] * 100)
        say(children, file.waiting(), len(take(file)))
        [verdict] = sqlite3.connect(sys.argv[1]).execute("PRAGMA integrity_check").fetchone()
        say(verdict)
    """
    out, err = spawn(program, path, end).communicate(timeout=60)
    assert (out, err) == ("[0] 3200 3200\nok\n", "")


def test_a_fork_amid_a_write_that_takes_long(path):
    """It is not waited for, and the child, which cannot use SQLite any more, hears so at once."""
    program = """
        import threading
        file = open_file(sys.argv[1])
        thread = threading.Thread(target=file.add, args=([payload("p")] * 500_000,))
        thread.start()
        wal = f"{sys.argv[1]}-wal"
        while not (os.path.exists(wal) and os.stat(wal).st_size > 1_000_000):
            time.sleep(0.01)
        ended = []
        while thread.is_alive():
            pid = os.fork()
            if not pid:
                signal.alarm(30)
                try:
                    open_file(sys.argv[1])
                except StoreError as error:
                    assert "the process was forked amid a use of a store" in str(error)
                    sys.exit(3)
                sys.exit()
            ended.append(os.waitpid(pid, 0)[1] // 256)
        say(ended[0], {*ended} <= {0, 3}, file.waiting())
    """
    out, err = spawn(program, path).communicate(timeout=60)
    assert (out, err) == ("3 True 500000\n", "")


def test_a_signal_handler_forks_amid_a_write(path):
    """The write is the parent's alone; the child has its store, or is told that it has none."""
    program = """
        file = open_file(sys.argv[1])
        children, me = [], os.getpid()
        def fork(*_):
            pid = os.fork()
            if pid:
                children.append(pid)
        signal.signal(signal.SIGALRM, fork)
        for number in range(1000):
            if number % 25 == 0:  # not by who forks, who might then do nothing else
                signal.setitimer(signal.ITIMER_REAL, 0.0003 + number % 8 * 0.0001)
            try:
                file.add([payload(number)] * 5)
            except StoreError:
                assert me != os.getpid()
            if me != os.getpid():
                child = SQLiteFile(sys.argv[1], 1 << 30, file.share.destination)
                stored = 0
                try:
                    child.open()
                    child.add([payload("child")])
                    stored = 1
                except StoreError as error:
                    assert "forked amid a use" in str(error), error
                os._exit(stored)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(children) > 3
        stored = sum(os.waitpid(pid, 0)[1] // 256 for pid in children)
        assert file.waiting() == 5000, file.waiting()
        assert file.share.recover() == stored
        say("done")
    """
    out, err = spawn(program, path).communicate(timeout=60)
    assert (out, err) == ("done\n", "")
