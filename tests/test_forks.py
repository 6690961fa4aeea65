"""Delivery by forked processes, with Python's fork hooks and without them."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest

from faulty_collector import SILENCE, FaultyCollector
from seldom import seldom

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks"),
]


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


WORK = """
def work(name, end=None):
    for number in range(10):
        log(f"{name}-{number}")
    if end is not None:
        end(0)
"""


OF_ALL = sorted(["parent", *(f"{name}-{number}" for name in "abcd" for number in range(10))])
"""The labels of what a parent and four children log, each of whom does that work."""


def test_a_forked_child_sends_its_own_events(collector, run):
    """Four children of `os.fork` that log and end: everything arrives once, with ids of its own."""
    run(
        WORK
        + textwrap.dedent("""
        handler = configure()
        log("parent")  # so that there is a thread
        children = []
        for name in "abcd":
            pid = os.fork()
            if pid == 0:
                work(name, sys.exit)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        """),
        collector,
    )
    assert collector.labels == OF_ALL


@pytest.mark.parametrize("method", ["fork", "spawn", *seldom("forkserver")])
def test_a_child_of_multiprocessing_sends_its_own_events(collector, run, method):
    """Four children that log right before their function returns: everything arrives once."""
    run(
        WORK
        + textwrap.dedent(f"""
        import multiprocessing
        configure()
        if __name__ == "__main__":
            log("parent")
            context = multiprocessing.get_context("{method}")
            children = [context.Process(target=work, args=(name,)) for name in "abcd"]
            for child in children:
                child.start()
            for child in children:
                child.join()
            say(*[child.exitcode for child in children])
        """),
        collector,
    )
    assert collector.labels == OF_ALL


@pytest.mark.parametrize("method", ["fork", *seldom("spawn")])
@pytest.mark.parametrize("pool", ["Pool", "ProcessPoolExecutor"])
def test_workers_of_a_pool_send_their_own_events(collector, run, method, pool):
    """Workers that end with their pool deliver what their last task logged."""
    run(
        WORK
        + textwrap.dedent(f"""
        import multiprocessing, concurrent.futures
        configure()
        if __name__ == "__main__":
            log("parent")
            context = multiprocessing.get_context("{method}")
            if "{pool}" == "Pool":
                pool = context.Pool(2)
                pool.map(work, "abcd")
                pool.close()
                pool.join()
            else:
                with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                    list(pool.map(work, "abcd"))
        """),
        collector,
    )
    assert collector.labels == OF_ALL


def test_a_worker_that_is_killed_with_its_pool_has_sent_what_it_flushed(collector, run):
    """`with Pool()` ends its workers by a signal; a flush at the end of the task is what helps."""
    run(
        """
        import multiprocessing
        handler = configure()
        def work(name):
            log(name)
            return handler.flush()
        if __name__ == "__main__":
            log("parent")
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert all(pool.map(work, "abcd"))
        """,
        collector,
    )
    assert collector.labels == ["a", "b", "c", "d", "parent"]


def test_a_fork_in_mid_request_leaves_the_parents_events_to_the_parent(collector, start):
    """Neither the queue nor the request under way has a part in the child, which ends first."""
    collector.answers.append(SILENCE)
    process = start(
        """
        handler = configure(batch_size=2, timeout=(3, 60), max_retry_delay=0.05)
        for number in range(5):
            log(f"parent-{number}")
        sys.stdin.readline()
        pid = os.fork()
        if pid == 0:
            assert handler.stats.queued == 0
            assert handler.flush(5)  # there is nothing of the child's to wait for
            log("child-0")
            assert handler.flush(5)
            log("child-1")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        say("waited", handler.stats.queued)
        sys.stdin.readline()
        """,
        collector,
    )
    collector.wait_for_requests(1)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline().split() == ["waited", "5"]
    assert collector.labels == ["child-0", "child-1"]
    collector.hang_up()
    _, err = process.communicate("\n", timeout=30)
    assert (process.returncode, err) == (0, "")
    assert collector.labels == sorted(
        ["child-0", "child-1", *(f"parent-{number}" for number in range(5))]
    )


def test_a_fork_at_any_moment_leaves_no_lock_behind(collector, run):
    """Children of a parent whose threads log all the time log, flush and end."""
    run(
        """
        handler = configure(queue_size=10**6, flush_interval=0.001, batch_size=5)
        stop = threading.Event()
        def produce():
            while not stop.wait(0.0005):
                log("parent")
        threads = [threading.Thread(target=produce) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(25):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                log(f"child-{number}")
                os._exit(0 if handler.flush(15) else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert handler.flush(40)  # the slower the machine, the more has come
        """,
        collector,
    )
    assert [label for label in collector.labels if label != "parent"] == sorted(
        f"child-{number}" for number in range(25)
    )


def test_a_server_that_runs_no_fork_hooks_is_seen_through(collector, run):
    """A child by a bare `fork(2)`, as of uWSGI, is known by its process id."""
    run(
        """
        import ctypes
        handler = configure(flush_interval=60)
        log("parent")
        time.sleep(0.2)  # for a bare fork no thread may be waiting for the interpreter itself
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            signal.alarm(20)
            log("child-0")
            assert handler.flush(10)
            log("child-1")
            handler.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        collector,
    )
    assert collector.labels == ["child-0", "child-1", "parent"]


@pytest.mark.skipif(sys.platform != "linux", reason="the process is told by a page of memory")
def test_a_fork_by_a_signal_handler_amid_the_making_of_a_handler(collector, run):
    """The child goes on with what its parent had begun, and sends what it logs."""
    run(
        """
        import mmap
        from snowplow_logging import SnowplowHandler
        forked = []
        signal.signal(signal.SIGUSR1, lambda *_: forked.append(os.fork()))

        class Page(mmap.mmap):
            def __new__(cls, *args, **kwargs):
                if not forked:
                    os.kill(os.getpid(), signal.SIGUSR1)
                return super().__new__(cls, *args, **kwargs)

        mmap.mmap = Page
        handler = SnowplowHandler(ENDPOINTS[0])  # `dictConfig` holds a lock, which no child has
        mmap.mmap = Page.__base__
        logging.basicConfig(level="INFO", handlers=[handler])
        (pid,) = forked
        log("parent" if pid else "child")
        assert handler.flush(10)
        assert handler.stats.sent == 1
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        collector,
    )
    assert sorted(collector.labels) == ["child", "parent"]


def test_a_record_of_before_such_a_fork_is_sent_by_who_handles_it(collector, run):
    """What the record says of its process is not where it is now."""
    run(
        """
        import ctypes, logging.handlers
        handler = configure(flush_interval=60)
        log("parent")
        kept = logging.handlers.MemoryHandler(100, target=handler)
        shop = logging.Logger("kept")
        shop.addHandler(kept)
        log("kept", shop)
        time.sleep(0.2)  # for a bare fork no thread may be waiting for the interpreter itself
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            signal.alarm(20)
            kept.flush()
            os._exit(0 if handler.flush(10) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        kept.buffer.clear()
        """,
        collector,
    )
    assert collector.labels == ["kept", "parent"]


@pytest.mark.parametrize("settings", ["", *seldom("store='s.db'", "before_send=dict")])
def test_threads_that_log_first_at_once_after_such_a_fork(collector, run, settings):
    """Each goes over to what is the child's own, and none loses an event on the way."""
    run(
        f"""
        import ctypes
        handler = configure({settings})
        log("parent")
        assert handler.flush(10)
        sys.setswitchinterval(1e-6)

        def child(number):
            start = threading.Barrier(8)
            def work(thread):
                start.wait()
                log(f"{{number}}-{{thread}}")
            threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert handler.flush(20)
            assert handler.stats.sent == 8

        for number in range(20):
            time.sleep(0.05)  # for a bare fork no thread may be waiting for the interpreter itself
            pid = ctypes.PyDLL(None).fork()
            if pid == 0:
                signal.alarm(30)
                child(number)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        """,
        collector,
    )
    assert collector.labels == sorted(
        ["parent", *(f"{number}-{thread}" for number in range(20) for thread in range(8))]
    )


def test_grandchildren_send_as_well(collector, run):
    """A child of a child is a process like any other."""
    run(
        """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        def work(depth):
            log(depth)
            if depth < 3:
                child = context.Process(target=work, args=(depth + 1,))
                child.start()
                child.join()
                log(f"{depth} again")
        configure()
        work(0)
        """,
        collector,
    )
    assert collector.labels == sorted(["0", "1", "2", "3", "0 again", "1 again", "2 again"])
