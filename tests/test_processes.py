"""Delivery by real processes: how they end, freeze, and reconfigure their logging."""

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
    assert collector.labels == ["0", "1"]
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
    assert collector.labels == ["0", "1", "2"] + ([] if first else ["early"])
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
    assert collector.labels == ["0", "1", "2", "3"]


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
    assert collector.labels == ["0"]
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
    assert collector.labels == ["0", "1", "2", "3", "4"]
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
        assert collector.labels == ["0"]
        assert other.labels == ["0", "1"]


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
    assert collector.labels == sorted(map(str, range(40)))


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
    assert collector.labels == ["0"]


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
    assert collector.labels == sorted(
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
    assert len(collector.labels) == int(sent) + 1
    assert "last" in collector.labels


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
    assert collector.labels == ["0", "1"]


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
    assert collector.labels == numbered("garbage", "main", count=1500)


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
        assert collector.labels == [str(n) for n in range(number + 1)]
        os.kill(process.pid, signal.SIGSTOP)
        if number == 0:
            collector.hang_up()
        os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
