"""Several processes and handlers with one store, and what those that are gone have left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from seldom import seldom
from stored_events import START, balances, event, names, rows, run, start, wait_until

pytestmark = pytest.mark.every_python

# What another process left.


def test_a_new_process_goes_on_at_once_where_an_old_one_was_closed(path, collector):
    """What is closed leaves its events; the order is that in which they were logged."""
    collector.stop()
    with tracking(collector, store=path, shutdown_timeout=20) as tracked:
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


@pytest.mark.parametrize("method", ["fork", *seldom("spawn", "forkserver")])
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
