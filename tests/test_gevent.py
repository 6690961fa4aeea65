"""Delivery under gevent's monkey patch, where threads are greenlets and locks are gevent's."""

from __future__ import annotations

import threading

import pytest

from faulty_collector import Answer, FaultyCollector, nowhere
from programs import PREAMBLE, Programs

pytestmark = pytest.mark.every_python

pytest.importorskip("gevent")

PATCHED = "from gevent import monkey; monkey.patch_all()\nimport gevent, gevent.select\n" + PREAMBLE
PATIENT = 60  # seconds, of which an end that has nothing to wait for takes few
SOON = PATIENT / 2


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program which gevent has patched first."""
    with Programs(tmp_path) as programs:
        yield lambda *arguments, **more: programs.run(*arguments, preamble=PATCHED, **more)


def test_what_greenlets_log_arrives(collector, run):
    """Events of many greenlets are delivered while they run and at the end, and `stats` says so."""
    ran = run(
        """
        handler = configure(batch_size=30, shutdown_timeout=60)
        def work(name):
            for number in range(10):
                log(f"{name}-{number}")
                gevent.sleep(0)
        gevent.joinall([gevent.spawn(work, name) for name in range(20)])
        say(handler.flush())
        say(handler.stats.sent)
        log("last")
        say(time.monotonic())
        """,
        collector,
    )
    assert ran.words[:2] == ["True", "200"]
    assert collector.labels == sorted(
        ["last", *(f"{name}-{number}" for name in range(20) for number in range(10))]
    )
    assert ran.ended_after() < SOON


def test_one_event_leaves_after_the_flush_interval(collector, run):
    """The emitter's greenlet wakes by itself, whatever the others do."""
    run(
        """
        handler = configure(flush_interval=0.1)
        log(0)
        deadline = time.monotonic() + 20
        while not handler.stats.sent:
            assert time.monotonic() < deadline
            gevent.sleep(0.01)
        """,
        collector,
    )
    assert collector.labels == ["0"]


def test_a_flush_lets_other_greenlets_run(collector, tmp_path):
    """Who waits for the collector holds up nobody else."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with Programs(tmp_path) as programs:
        process = programs.start(
            """
            handler = configure()
            def tick():
                for _ in range(5):
                    gevent.sleep(0)
                say("ticked")
            log(0)
            gevent.spawn(tick)
            say(handler.flush(60))
            """,
            collector,
            preamble=PATCHED,
        )
        assert process.stdout.readline() == "ticked\n"
        gate.set()
        out, err = process.communicate(timeout=60)
    assert (out, err) == ("True\n", "")


def test_forked_workers_send_their_own_events(collector, run):
    """As by a server that preloads the program: the children's events arrive, and the parent's."""
    run(
        """
        handler = configure()
        log("parent")
        handler.flush()
        log("parent again")
        children = []
        for name in "abcd":
            pid = os.fork()
            if pid == 0:
                for number in range(10):
                    log(f"{name}-{number}")
                assert handler.flush(10)
                log(f"{name}-last")
                sys.exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        """,
        collector,
    )
    children = [f"{name}-{number}" for name in "abcd" for number in [*range(10), "last"]]
    assert collector.labels == sorted(["parent", "parent again", *children])


def test_a_fork_in_mid_request_leaves_the_answer_to_the_parent(collector, tmp_path):
    """The emitter's greenlet, which lives on in the child, does nothing there."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with Programs(tmp_path) as programs:
        process = programs.start(
            """
            handler = configure(batch_size=1)
            log("parent")
            log("parent again")
            gevent.select.select([sys.stdin], [], [])  # the request goes on meanwhile
            pid = os.fork()
            if pid == 0:
                log("child")
                handler.flush(10)
                gevent.sleep(1)  # during which the parent is answered
                os._exit(0)
            say(handler.flush(20), handler.stats.retried, os.waitpid(pid, 0)[1])
            """,
            collector,
            preamble=PATCHED,
        )
        collector.wait_for_requests(1)
        process.stdin.write("\n")
        process.stdin.flush()
        collector.wait_for_requests(2)
        assert collector.requests[1].events[0]["se_la"] == "child"
        gate.set()
        out, err = process.communicate(timeout=30)
    assert err == ""
    assert out.split() == ["True", "0", "0"]
    assert collector.labels == ["child", "parent", "parent again"]


@pytest.mark.parametrize(
    "how",
    ["configure(shutdown_timeout={})", "logging.shutdown()", "handler.close()"],
    ids=["configure", "shutdown", "close"],
)
def test_what_is_logged_after_a_close_is_delivered(collector, run, how):
    """A second `dictConfig`, an early shutdown and a close end nothing for good."""
    how = how.format(PATIENT)
    ran = run(
        f"handler = configure(shutdown_timeout={PATIENT})\nlog(0)\n{how}\nlog(1)\n"
        "say(time.monotonic())",
        collector,
    )
    assert collector.labels == ["0", "1"]
    assert ran.ended_after() < SOON


def test_an_event_logged_at_exit_is_delivered(collector, run):
    """The first event ever, inside a callback at exit, arrives."""
    run("import atexit\nconfigure()\natexit.register(log, 0)", collector)
    assert collector.labels == ["0"]


def test_a_dead_collector_costs_the_shutdown_timeout_and_one_line(run):
    """What was not delivered is said, and the process ends in time."""
    with nowhere() as endpoint:
        ran = run(
            "configure(shutdown_timeout=1)\nlog(0)\nlog(1)\nsay(time.monotonic())",
            endpoint,
            error="snowplow_logging: 2 events",
        )
    assert len(ran.err.splitlines()) == 1
    assert 0.5 < ran.ended_after() < 30


def test_a_full_queue_can_block_a_greenlet(collector, run):
    """With `block` a greenlet waits for room while the emitter's makes it."""
    ran = run(
        """
        handler = configure(queue_size=5, on_full="block", block_timeout=30)
        def work(name):
            for number in range(20):
                log(f"{name}-{number}")
        gevent.joinall([gevent.spawn(work, name) for name in "ab"])
        say(handler.flush(), handler.stats.dropped)
        """,
        collector,
    )
    assert ran.words == ["True", "0"]
    assert len(collector.labels) == 40


@pytest.mark.parametrize("forked", [False, True])
def test_one_event_right_before_the_end_is_delivered(collector, run, forked):
    """A process that has sent nothing before, forked or not, delivers at its end."""
    run(
        f"configure()\nif not {forked} or os.fork() == 0:\n    log(0)\nelse:\n    os.wait()",
        collector,
    )
    assert collector.labels == ["0"]


@pytest.mark.parametrize("patch", ["", "gevent.monkey.patch_thread(threading=False)"])
def test_real_threads_beside_gevent_leave_nothing_to_greenlet(collector, tmp_path, patch):
    """The collector of garbage does not crash on what a sending thread was.

    greenlet, asked in a thread for its current one, clears that up later, in the main thread, and
    frees what is still in use if another thread is collecting frames that hold it just then.
    """
    with Programs(tmp_path) as programs:
        ran = programs.run(
            f"""
            import gc, gevent.monkey
            {patch}
            gc.disable()
            collecting, cleared = threading.Event(), threading.Event()

            class Slow:
                def __del__(self):
                    collecting.set()
                    cleared.wait(10)

            def on_success(events):
                cycle = [sys._getframe(), Slow()]  # the frame has that of the thread, and its names
                cycle.append(cycle)

            def end():
                handler.flush()
                sending, = (each for each in threading.enumerate() if "snowplow" in each.name)
                handler.close()
                sending.join()
                time.sleep(0.2)  # nothing tells when the system has ended it
                gc.collect()
                gc.collect()

            handler = configure(on_success=on_success)
            other = threading.Thread(target=end)
            log(0)
            other.start()
            collecting.wait()  # and not a line of Python, which would have greenlet clear up
            for _ in range(100_000):
                time.monotonic()
            cleared.set()
            other.join()
            say("alive")
            """,
            collector,
        )
    assert ran.words == ["alive"]
    assert collector.labels == ["0"]
