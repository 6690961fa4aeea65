"""Delivery by real processes: how they end, fork, freeze, and reconfigure their logging."""

from __future__ import annotations

import os
import signal
import sys
import textwrap

import pytest

from faulty_collector import RESET, SILENCE, Answer, FaultyCollector, nowhere
from programs import PREAMBLE
from seldom import seldom

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="what ends and forks is POSIX"),
]

SOON = 10  # seconds: half the `shutdown_timeout` of those that have nothing to wait for
OUR_END = 9  # seconds: a process that waits for a second ends in these, however busy the machine


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


def labels(collector):
    """Return the labels of the events that were taken, in order, and see that none is double."""
    assert len(set(collector.ids)) == len(collector.ids)
    return sorted(event["se_la"] for event in collector.events)


def numbered(*names, count=10):
    """Return the labels of so many events of each."""
    return sorted(f"{name}-{number}" for name in names for number in range(count))


# How a process ends.

ENDS = {
    "ordinary end": "log(0); log(1)",
    "sys.exit": "log(0); log(1); sys.exit(0)",
    "uncaught exception": "log(0); log(1); raise ValueError('what it died of')",
    "SIGTERM with a handler": """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        log(0)
        log(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        """,
    "a thread that outlives the main one": """
        def later():
            threading.main_thread().join()
            log(1)
        threading.Thread(target=later).start()
        log(0)
        """,
    "inside asyncio": """
        import asyncio
        async def main():
            log(0)
            log(1)
            sys.exit(0)
        asyncio.run(main())
        """,
    "a callback at exit": """
        import atexit
        log(0)
        atexit.register(log, 1)
        """,
    "the first events in a callback at exit": """
        import atexit
        atexit.register(lambda: (log(0), log(1)))
        """,
    "a finaliser at exit": """
        import weakref
        weakref.finalize(threading, log, 1)
        log(0)
        """,
    "a second dictConfig": """
        log(0)
        configure()
        log(1)
        """,
    "a handler of the first dictConfig after the second": """
        import atexit
        old = logging.getLogger().handlers[0]
        configure()
        logging.getLogger().addHandler(old)
        logging.getLogger().removeHandler(logging.getLogger().handlers[0])
        log(0)
        atexit.register(log, 1)
        """,
    "logging.shutdown called early": """
        log(0)
        logging.shutdown()
        log(1)
        """,
    "a handler closed early": """
        log(0)
        handler.close()
        handler.close()
        log(1)
        """,
}


LIKE_OTHERS = (
    "SIGTERM with a handler",
    "a second dictConfig",
    "a finaliser at exit",
    "ordinary end",
    "the first events in a callback at exit",
)
"""What happens at these ends happens at others, too, and more."""


@pytest.mark.parametrize(
    "how", [*(how for how in ENDS if how not in LIKE_OTHERS), *seldom(*LIKE_OTHERS)]
)
def test_what_was_logged_before_the_end_is_delivered(collector, run, how):
    """However a process ends, its events arrive and it ends soon."""
    program = "handler = configure(shutdown_timeout=20)\nsay(time.monotonic())\n" + textwrap.dedent(
        ENDS[how]
    )
    died = how == "uncaught exception"
    ran = run(program, collector, error="what it died of" if died else "")
    assert labels(collector) == ["0", "1"]
    assert ran.status == (1 if died else 0)
    assert ran.ended_after() < SOON
    assert ran.err.count("Traceback") == (1 if died else 0)


@pytest.mark.parametrize("order", ["before logging", "before the library", "after the library"])
@pytest.mark.parametrize("first", [True, *seldom(False)])
def test_callbacks_at_exit_may_log_wherever_they_were_registered(collector, run, order, first):
    """Before or after the library's own callback, with a thread at work or never one started."""
    register = "import atexit; atexit.register(lambda: [log(n) for n in range(3)])\n"
    configured = "handler = configure(shutdown_timeout=20)\n" + ("" if first else "log('early')\n")
    preamble = register + PREAMBLE if order == "before logging" else PREAMBLE
    program = {
        "before logging": configured,
        "before the library": register + configured,
        "after the library": "import snowplow_logging.delivery.emitter\n" + configured + register,
    }[order]
    ran = run(program + "say(time.monotonic())", collector, preamble=preamble)
    assert labels(collector) == ["0", "1", "2"] + ([] if first else ["early"])
    assert ran.ended_after() < SOON


def test_a_handler_attached_in_code_outlives_dictconfig(collector, run):
    """Its events after a `dictConfig`, which closes it, are delivered: now and at the end."""
    run(
        """
        import snowplow_logging
        logger = logging.getLogger("kept")
        logger.addHandler(snowplow_logging.SnowplowHandler(ENDPOINTS[0]))
        logger.setLevel("INFO")
        logger.propagate = False
        log(0, logger)
        for n in range(1, 4):
            configure()
            log(n, logger)
        """,
        collector,
    )
    assert labels(collector) == ["0", "1", "2", "3"]


def test_a_bad_setting_is_one_clear_error(collector, run):
    """A constructor that raised leaves nothing behind that `logging.shutdown` stumbles upon."""
    ran = run(
        """
        import snowplow_logging
        for settings in {"batch_size": 0}, {"endpoint": "ftp://x"}, {"batchsize": 1}:
            try:
                snowplow_logging.SnowplowHandler(**{"endpoint": ENDPOINTS[0], **settings})
            except (TypeError, ValueError) as error:
                say(type(error).__name__)
        try:
            configure(batch_size=0)
        except ValueError as error:
            say(str(error.__cause__ or error).split()[0])
        logging.shutdown()
        """,
        collector,
    )
    assert ran.words == ["ValueError", "ValueError", "TypeError", "batch_size"]
    assert ran.status == 0


def test_importing_changes_nothing(run):
    """No handler, level, thread, socket or warning comes of an import."""
    ran = run(
        """
        import requests  # which makes handlers for its own loggers
        before = os.listdir("/proc/self/fd")
        import snowplow_logging.delivery.emitter
        from snowplow_logging import *
        after = os.listdir("/proc/self/fd")
        own = logging.getLogger("snowplow_logging")
        say(before == after, threading.active_count(), logging.getLogger().handlers)
        say(logging.getLogger().level, own.handlers, own.level)
        """
    )
    assert ran.words == ["True", "1", "[]", "30", "[]", "0"]


# A collector that is not there, or does not answer.


@pytest.mark.parametrize("where", ["on root", "on a logger of its own"])
def test_a_dead_collector_costs_the_shutdown_timeout_and_one_line(run, where):
    """What could not be delivered is said on standard error, with the count and the place."""
    with nowhere() as endpoint:
        ran = run(
            f"""
            handler = configure(shutdown_timeout=1)
            if {where != "on root"}:
                logging.getLogger().removeHandler(handler)
                logging.getLogger("shop").addHandler(handler)
            for number in range(3):
                log(number)
            say(time.monotonic())
            """,
            endpoint,
            error="snowplow_logging: 3 events",
        )
    lines = [line for line in ran.err.splitlines() if "not delivered" in line]
    assert len(lines) == 1
    assert lines[0].startswith("snowplow_logging: 3 events for " + endpoint)
    assert "shutdown_timeout of 1 s" in lines[0]
    assert "refused" in lines[0]
    if where == "on root":
        assert len(ran.err.splitlines()) == 1
    assert ran.status == 0
    assert 0.5 < ran.ended_after() < OUR_END


def test_two_dead_collectors_cost_the_time_of_one(run):
    """All handlers of a process close at once."""
    with nowhere() as endpoint, FaultyCollector(default=SILENCE) as silent:
        ran = run(
            "configure(shutdown_timeout=3)\nlog(0)\nsay(time.monotonic())",
            endpoint,
            silent,
            error="snowplow_logging: 1 event ",
        )
    lines = [line for line in ran.err.splitlines() if "not delivered" in line]
    assert len(lines) == 2
    assert 1.0 < ran.ended_after() < 5.5


def test_a_collector_that_never_answers_costs_no_more_than_was_said(collector, run):
    """`flush` keeps its timeout, and the end of the process its own."""
    collector.default = SILENCE
    ran = run(
        """
        handler = configure(shutdown_timeout=1)
        log(0)
        start = time.monotonic()
        answered = handler.flush(0.5)
        end = time.monotonic()
        say(answered, end - start)
        threading.Event().wait(0.2)
        say(time.monotonic())
        """,
        collector,
        error="snowplow_logging: 1 event ",
    )
    answered, seconds, _ = ran.words
    assert answered == "False"
    assert 0.5 <= float(seconds) < OUR_END
    assert 0.5 < ran.ended_after() < OUR_END


@pytest.mark.parametrize("fault", ["dead", SILENCE, RESET])
def test_events_logged_at_exit_share_the_time_that_is_left(run, fault):
    """Many callbacks at exit, each with events, take one `shutdown_timeout` together."""
    with FaultyCollector(default=RESET if fault == "dead" else fault) as collector:
        if fault == "dead":
            collector.stop()
        ran = run(
            """
            import atexit
            for number in range(20):
                atexit.register(log, number)
            configure(shutdown_timeout=1)
            say(time.monotonic())
            """,
            collector,
            error="snowplow_logging: 1 event ",
        )
        assert ran.ended_after() < OUR_END  # and not the 20 seconds of 20 of them
        assert sum(line.startswith("snowplow_logging: ") for line in ran.err.splitlines()) == 20


def test_the_end_cuts_a_back_off_short(collector, run):
    """A process does not sit out a wait, nor give up events that a last attempt delivers."""
    collector.answers.append(Answer(503, headers={"Retry-After": "50"}))
    ran = run(
        """
        handler = configure(shutdown_timeout=20)
        log(0)
        say(handler.flush(0.5))
        say(time.monotonic())
        """,
        collector,
    )
    assert ran.words[0] == "False"
    assert labels(collector) == ["0"]
    assert ran.ended_after() < SOON


@pytest.mark.parametrize("count", [50_000, pytest.param(200_000, marks=pytest.mark.exhaustive)])
def test_a_queue_with_nobody_listening_takes_no_more_memory(run, count):
    """Many events into a queue of 1,000: it stays there, and every dropped one is counted."""
    with nowhere() as endpoint:
        ran = run(
            f"""
            import resource
            handler = configure(queue_size=1000, shutdown_timeout=0)
            log("warm")
            for number in range(3000):
                log(number)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for number in range(3001, {count}):
                log(number)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            stats = handler.stats
            say(stats.queued, stats.dropped, stats.losses["queue full"], after - before)
            """,
            endpoint,
            error="snowplow_logging: 1,000 events",
        )
    queued, dropped, lost, grown = map(int, ran.words)
    assert (queued, dropped, lost) == (1_000, count - 1_000, count - 1_000)
    assert grown < 8_000 if sys.platform == "linux" else grown < 8_000_000


# Beside other handlers.


@pytest.mark.parametrize("level", ["DEBUG", *seldom("NOTSET")])
@pytest.mark.parametrize("fault", [200, 500, RESET])
def test_what_the_http_library_logs_does_not_come_back(collector, run, tmp_path, level, fault):
    """On root at DEBUG: exactly the events that were logged, one report, and a quick end."""
    collector.answers += [fault] * 4  # with one more the batch would be halved
    ran = run(
        f"""
        configure(
            level="{level}", max_retry_delay=0.05, capture_exceptions=True, shutdown_timeout=20
        )
        for name in ("urllib3", "requests", "snowplow_logging"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger().addHandler(logging.FileHandler("all.log"))
        for number in range(5):
            log(number)
        say(time.monotonic())
        """,
        collector,
    )
    assert labels(collector) == ["0", "1", "2", "3", "4"]
    assert {len(request.events) for request in collector.requests} == {5}
    assert ran.ended_after() < SOON
    written = (tmp_path / "all.log").read_text()
    assert "Starting new HTTP connection" in written
    assert written.count("next attempt in") == (0 if fault == 200 else 1)


def test_two_handlers_have_nothing_in_common(collector, run):
    """With two endpoints, each gets everything once, also where the other is closed or silent."""
    with FaultyCollector() as other:
        run(
            """
            first = configure()
            second = logging.getLogger().handlers[1]
            log(0)
            first.close()
            logging.getLogger().removeHandler(first)
            log(1)
            """,
            collector,
            other,
        )
        assert labels(collector) == ["0"]
        assert labels(other) == ["0", "1"]


def test_dictconfig_does_not_wait_for_threads_that_wait_for_it(collector, run):
    """A `dictConfig` at the moment of sending, with nothing cached, is quick and loses nothing."""
    ran = run(
        """
        configure()
        longest = 0
        for number in range(40):
            log(number)
            if number % 2:
                logging.getLogger().handlers[0].flush(0)  # has its thread begin
            start = time.monotonic()
            configure()
            longest = max(longest, time.monotonic() - start)
        say(longest)
        """,
        collector,
    )
    assert float(ran.words[0]) < 1.5
    assert labels(collector) == sorted(map(str, range(40)))


@pytest.mark.parametrize("act", ["flush", "close"])
@pytest.mark.parametrize("attempt", [1, *seldom(2, 3)])
def test_who_holds_the_lock_of_logging_sends_itself(collector, run, act, attempt):
    """Inside `dictConfig` a handler is flushed and closed though its threads are stuck.

    And the process ends, though the thread that was stuck may still be about to go on.
    """
    ran = run(
        f"""
        import snowplow_logging
        kept = snowplow_logging.SnowplowHandler(ENDPOINTS[0], flush_interval=0)
        logger = logging.getLogger("kept")
        logger.addHandler(kept)
        logger.setLevel("INFO")
        def factory():
            # `dictConfig` holds the lock while it makes the handlers.
            logging.getLogger("urllib3").setLevel("INFO")  # empties what the loggers had cached
            log(0, logger)
            start = time.monotonic()
            kept.{act}()
            say(time.monotonic() - start)
            return logging.NullHandler()
        logging.config.dictConfig({{
            "version": 1, "disable_existing_loggers": False, "handlers": {{"h": {{"()": factory}}}},
        }})
        say(kept.stats.sent)
        """,
        collector,
    )
    seconds, sent = ran.words
    assert float(seconds) < 5
    assert sent == "1"
    assert labels(collector) == ["0"]


# Interruptions.


def test_a_signal_handler_may_log_at_any_moment(collector, run):
    """Signals that arrive inside a log call, inside anything, neither deadlock nor lose events."""
    ran = run(
        """
        handler = configure(queue_size=10**6, batch_size=50)
        signals = 0
        def interrupt(*_):
            global signals
            signals += 1
            log(f"signal-{signals - 1}")
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        number = 0
        while number < 2000 or signals < 50:
            log(f"main-{number}")
            number += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(signals, number)
        stats = (handler.flush(30), handler.stats)[1]
        say(stats.sent, stats.queued)
        """,
        collector,
    )
    signals, number, sent, queued = map(int, ran.words)
    assert (sent, queued) == (signals + number, 0)
    assert labels(collector) == sorted(
        numbered("signal", count=signals) + numbered("main", count=number)
    )


def test_a_signal_handler_may_raise_at_any_moment(collector, run):
    """A log call that is cut off by an exception leaves the account right and the queue usable."""
    ran = run(
        """
        handler = configure(queue_size=10**6, batch_size=50)
        class Interrupt(Exception):
            pass
        armed = False
        def interrupt(*_):
            global armed
            if armed:
                armed = False  # or the next one comes while this one is being handled
                raise Interrupt
        signal.signal(signal.SIGALRM, interrupt)
        log("first")  # for `Thread.start` says on standard error that it was interrupted
        handler.flush()
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        interrupts = number = 0
        logging.raiseExceptions = False
        while number < 3000:
            try:
                armed = True
                for number in range(number, number + 10):
                    log(number)
                armed = False
            except Interrupt:
                armed = False
                interrupts += 1
            number += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(interrupts > 0, handler.flush(30))
        stats = handler.stats
        say(stats.queued, stats.sent, stats.invalid)
        log("last")
        say(handler.flush(30))
        """,
        collector,
    )
    some, flushed, queued, sent, _, again = ran.words
    assert (some, flushed, queued, again) == ("True", "True", "0", "True")
    assert len(labels(collector)) == int(sent) + 1
    assert "last" in labels(collector)


def test_a_close_may_be_interrupted(collector, run):
    """After an interrupt in the middle of a close, what waited and what comes is delivered."""
    collector.answers.append(SILENCE)
    ran = run(
        """
        handler = configure(timeout=(3, 1), max_retry_delay=0.05, shutdown_timeout=20)
        def interrupt(*_):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        log(0)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            handler.close()
        except KeyboardInterrupt:
            say("interrupted")
        log(1)
        say(handler.flush(), handler.stats.sent)
        """,
        collector,
    )
    assert ran.words == ["interrupted", "True", "2"]
    assert labels(collector) == ["0", "1"]


def test_a_finaliser_may_log_at_any_moment(collector, run):
    """Garbage that logs when it is collected, on any thread, neither deadlocks nor is lost."""
    ran = run(
        """
        import gc
        handler = configure(queue_size=10**6, batch_size=20)
        collected = 0
        class Garbage:
            def __init__(self, number):
                self.number = number
                self.itself = self
            def __del__(self):
                log(f"garbage-{self.number}")
        gc.set_threshold(20)
        for number in range(1500):
            Garbage(number)
            log(f"main-{number}")
        gc.collect()
        say(handler.flush(30))
        """,
        collector,
    )
    assert ran.words == ["True"]
    assert labels(collector) == numbered("garbage", "main", count=1500)


# Forks.

WORK = """
def work(name, end=None):
    for number in range(10):
        log(f"{name}-{number}")
    if end is not None:
        end(0)
"""


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
    assert labels(collector) == sorted(["parent", *numbered("a", "b", "c", "d")])


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
    assert labels(collector) == sorted(["parent", *numbered("a", "b", "c", "d")])


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
    assert labels(collector) == sorted(["parent", *numbered("a", "b", "c", "d")])


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
    assert labels(collector) == ["a", "b", "c", "d", "parent"]


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
    assert labels(collector) == ["child-0", "child-1"]
    collector.hang_up()
    _, err = process.communicate("\n", timeout=30)
    assert (process.returncode, err) == (0, "")
    assert labels(collector) == sorted(
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
    assert [label for label in labels(collector) if label != "parent"] == sorted(
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
    assert labels(collector) == ["child-0", "child-1", "parent"]


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
    assert sorted(labels(collector)) == ["child", "parent"]


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
    assert labels(collector) == ["kept", "parent"]


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
    assert labels(collector) == sorted(["0", "1", "2", "3", "0 again", "1 again", "2 again"])


# A process that stands still.


def test_a_process_that_is_frozen_between_invocations(collector, start):
    """As on Lambda: a flush at the end of each delivers, and a stale connection costs nothing."""
    process = start(
        """
        handler = configure()
        for number, _ in enumerate(sys.stdin):
            log(number)
            say(handler.flush(), handler.stats.retried)
        """,
        collector,
    )
    for number in range(4):
        if number == 2:
            collector.answers.append(RESET)  # to the first request on the connection from before
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().split() == ["True", "0"]
        assert labels(collector) == [str(n) for n in range(number + 1)]
        os.kill(process.pid, signal.SIGSTOP)
        if number == 0:
            collector.hang_up()
        os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
