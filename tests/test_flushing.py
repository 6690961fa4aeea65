"""Flushing every handler of a process: at once, in asyncio, at the end of a job, and at SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import math
import multiprocessing
import os
import signal
import threading

import pytest

from faulty_collector import SILENCE, FaultyCollector
from helpers import tracking
from seldom import seldom
from snowplow_logging import SnowplowHandler, aflush, flush, flushing

pytestmark = pytest.mark.every_python

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="these signals and forks are POSIX")

LATE = {"flush_interval": 600, "shutdown_timeout": 30}
"""Settings with which nothing leaves in the time of a test unless it is flushed."""

LOST = {**LATE, "shutdown_timeout": 0}
"""Settings with which what is not flushed is not waited for in the end."""


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


def event(label):
    """Return an event that can be told from others."""
    return {"event": "struct_event", "category": "c", "action": "a", "label": str(label)}


def labels(collector):
    """Return the labels of the events that were taken, sorted, and see that none is double."""
    assert len(set(collector.ids)) == len(collector.ids)
    return sorted(taken["se_la"] for taken in collector.events)


@pytest.fixture(autouse=True)
def none_is_left_of_others():
    """Have handlers gone that other tests have dropped with events: `flush` waits for all."""
    gc.collect()


def test_all_handlers_are_flushed_however_they_were_made(run, collector, tmp_path):
    """By dictConfig, by fileConfig, by hand, on a logger that nothing refers to any more."""
    ran = run(
        f"""
        from snowplow_logging import SnowplowHandler, flush
        settings = {LATE}
        def add(logger):
            logger.addHandler(SnowplowHandler(ENDPOINTS[0], **settings))
            return logger
        by_hand = add(logging.getLogger("by hand"))
        by_hand.setLevel("INFO")
        lonely = add(logging.Logger("lonely"))
        configure(**settings)
        log("root")
        with open("logging.ini", "w") as file:
            file.write('''
        [loggers]
        keys = root, ini
        [handlers]
        keys = ini
        [formatters]
        keys =
        [logger_root]
        handlers =
        [logger_ini]
        level = INFO
        handlers = ini
        qualname = ini
        [handler_ini]
        class = snowplow_logging.SnowplowHandler
        args = (%r,)
        kwargs = %r
        '''.replace("        ", "") % (ENDPOINTS[0], settings))
        first = logging.getLogger().handlers[0]
        logging.config.fileConfig("logging.ini", disable_existing_loggers=False)
        log("ini", logging.getLogger("ini"))
        log("by hand", by_hand)
        log("lonely", lonely)
        say(flush())
        os._exit(0)
        """,
        collector,
    )
    assert ran.words == ["True"]
    assert labels(collector) == ["by hand", "ini", "lonely", "root"]


def test_flush_has_one_time_for_all(collector):
    """Handlers wait side by side, and what is answered by then is all that is said."""
    with tracking(**LOST) as one, contextlib.ExitStack() as others:
        several = [one, *(others.enter_context(tracking(**LOST)) for _ in range(3))]
        for tracked in several:
            tracked.log(event("x"))
        before = set(threading.enumerate())
        assert flush(0.2) is False
        assert flush(timeout=0) is False
        assert len(set(threading.enumerate()) - before) <= 2 * len(several)
    assert flush() is True


@pytest.mark.parametrize(
    "call",
    [
        flush,
        flushing,
        lambda timeout: asyncio.run(aflush(timeout)),
        lambda timeout: SnowplowHandler("http://127.0.0.1:9").flush(timeout),
    ],
    ids=["flush", "flushing", "aflush", "of a handler"],
)
def test_a_timeout_that_is_no_number(call):
    """It is an error at the call, also of `flushing`, and not at the end of a job."""
    with pytest.raises(TypeError, match="timeout is '5'; give seconds, or None"):
        call("5")
    with pytest.raises(ValueError, match="timeout is nan; give seconds, or None"):
        call(math.nan)


def test_flush_without_any_handler_or_event_is_at_once(run):
    """Nothing is open, so that the answer is yes, for any timeout."""
    ran = run(
        """
        import math
        from snowplow_logging import flush
        say(flush(), flush(0), flush(math.inf))
        """
    )
    assert ran.words == ["True"] * 3


def test_aflush_lets_the_event_loop_go_on(collector):
    """Other tasks run while it waits, and what they see is that it is not done yet."""
    may_end = threading.Event()

    async def main(tracked):
        tracked.log(event("a"))
        waits = asyncio.ensure_future(aflush())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waits.done()
        may_end.set()
        assert await waits is True

    with tracking(collector, on_success=lambda _: may_end.wait(30), **LATE) as tracked:
        asyncio.run(main(tracked))
    assert labels(collector) == ["a"]


def test_aflush_says_when_the_time_is_up():
    """And the loop may be closed before its thread has come to an end."""

    async def main(tracked):
        tracked.log(event("a"))
        waits = asyncio.ensure_future(aflush(30))
        await asyncio.sleep(0)
        waits.cancel()
        return await aflush(0.05)

    with tracking(**LOST) as tracked:
        assert asyncio.run(main(tracked)) is False


def test_aflush_needs_no_thread_of_the_loops_executor(collector):
    """All of those may be busy, as with a server's requests."""
    free = threading.Event()

    async def main(tracked):
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, free.wait) for _ in range(64)]
        tracked.log(event("a"))
        assert await aflush() is True
        free.set()
        await asyncio.gather(*busy)

    with tracking(collector, **LATE) as tracked:
        asyncio.run(main(tracked))


# At the end of a job.


@pytest.fixture
def arriving(collector):
    """Give a function that logs, and one that says what has arrived."""
    with tracking(collector, **LATE) as tracked:
        yield lambda label: tracked.log(event(label)), lambda: labels(collector)


@pytest.mark.parametrize("raises", [False, True])
def test_flushing_a_block(arriving, raises):
    """What was logged in it has arrived behind it, whether or not it raised."""
    log, arrived = arriving
    with contextlib.suppress(LookupError), flushing():
        log("a")
        assert arrived() == []
        if raises:
            raise LookupError
    assert arrived() == ["a"]


@pytest.mark.parametrize(
    "decorator", [flushing, flushing(), flushing(30)], ids=["bare", "()", "(30)"]
)
def test_flushing_functions(arriving, decorator):
    """It keeps name, signature and result, and can be called again and from within itself."""
    log, arrived = arriving

    @decorator
    def job(number: int, *, deeper: bool = False) -> int:
        """Do it."""
        log(number)
        return number + (job(number + 1) if deeper else 0)

    assert (job.__name__, job.__doc__) == ("job", "Do it.")
    assert str(inspect.signature(job)) == "(number: 'int', *, deeper: 'bool' = False) -> 'int'"
    assert job(1, deeper=True) == 3
    assert arrived() == ["1", "2"]


def test_flushing_coroutine_functions_and_generators(arriving):
    """Each is what it was, and flushes once it has ended, not when it is made."""
    log, arrived = arriving

    @flushing
    async def coroutine():
        log("coroutine")
        return 1

    @flushing
    def generator():
        log("generator")
        got = yield 2
        log(got)
        return 3

    @flushing
    async def agenerator():
        log("agenerator")
        yield 4

    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(agenerator)
    assert asyncio.run(coroutine()) == 1
    assert arrived() == ["coroutine"]
    steps = generator()
    assert next(steps) == 2
    assert arrived() == ["coroutine"]
    with pytest.raises(StopIteration) as stopped:
        steps.send("sent")
    assert stopped.value.value == 3
    assert arrived() == ["coroutine", "generator", "sent"]

    async def consume():
        return [item async for item in agenerator()]

    assert asyncio.run(consume()) == [4]
    assert "agenerator" in arrived()


def test_flushing_with_async_with(arriving):
    """For an event loop, which then goes on meanwhile."""
    log, arrived = arriving

    async def main():
        async with flushing():
            log("a")

    asyncio.run(main())
    assert arrived() == ["a"]


def test_flushing_tells_what_is_left(reports):
    """A job whose process ends now would lose it without a word."""
    with tracking(**LOST) as tracked, flushing(0.05):
        tracked.log(event("a"))
    assert [report for report in reports if report.startswith("1 event for ")]


@posix
@pytest.mark.parametrize("how", ["flush()", "with flushing(): pass", "asyncio.run(aflush())"])
def test_a_fork_that_ends_by_exit_delivers_what_it_has_flushed(run, collector, how):
    """Its own events, while those of the parent stay the parent's."""
    run(
        f"""
        import asyncio
        from snowplow_logging import aflush, flush, flushing
        configure(**{LATE})
        log("parent")
        if os.fork() == 0:
            log("child")
            {how}
            os._exit(0)
        os.wait()
        """,
        collector,
    )
    assert labels(collector) == ["child", "parent"]


@posix
@pytest.mark.exhaustive  # test_ends.py has those that are forked
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("how", ["flushing", "flush_on_sigterm"])
def test_a_pool_in_a_with_statement(run, collector, method, how):
    """Its worker processes are ended by SIGTERM, and each task has flushed by then or does then."""
    run(
        f"""
        import multiprocessing
        from snowplow_logging import flushing
        configure(**{LATE}, flush_on_sigterm={how == "flush_on_sigterm"})
        def work(number):
            log(number)
        task = work
        if {how == "flushing"}:
            @flushing
            def task(number):
                log(number)
            task.__qualname__ = "task"
        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            with context.Pool(2) as pool:
                pool.map(task, range(10))
        """,
        collector,
        error=None,
    )
    assert labels(collector) == [str(number) for number in range(10)]


# SIGTERM.

WAITS = """
    {before}
    handler = configure(flush_on_sigterm=True, **{late})
    log("a")
    {after}
    say("logged")
    while True:  # not in one piece: a signal that comes right before a wait is heard of after it
        time.sleep(0.05)
    """


@posix
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("", "a"),
        ("handler.close(); log('b')", "ab"),
        ("configure(flush_on_sigterm=True); log('b')", "ab"),
        ("threading.Thread(target=handler.close).start()", "a"),
    ],
    ids=["plain", "reopened", "configured again", "closed on a thread"],
)
def test_sigterm_delivers_and_then_ends_the_process(start, collector, after, expected):
    """By the signal, as it would have without."""
    process = start(WAITS.format(before="", after=after, late=LATE), collector)
    assert process.stdout.readline() == "logged\n"
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    assert labels(collector) == [*expected]
    assert process.stderr.read() == ""


@posix
def test_sigterm_in_a_fork_delivers_the_events_of_the_fork(run, collector):
    """And ends it by the signal; what the parent has waits for the parent."""
    ran = run(
        f"""
        configure(flush_on_sigterm=True, **{LATE})
        log("parent")
        ready, go = os.pipe()
        child = os.fork()
        if not child:
            log("child")
            os.write(go, b"x")
            while True:
                time.sleep(0.05)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        say(os.WTERMSIG(status), sys.stdin and len(logging.root.handlers))
        """,
        collector,
    )
    assert ran.words == ["15", "1"]
    assert labels(collector) == ["child", "parent"]


@posix
@pytest.mark.parametrize("where", ["here", "in a fork"])
@pytest.mark.parametrize(
    ("wait", "ends"),
    [
        ("threading.Lock().acquire", (-signal.SIGTERM,)),
        # Usually by its status, unless the signal comes before it waits.
        ("lambda: lock(mutex)", (143, -signal.SIGTERM)),
    ],
    ids=["a wait that can be interrupted", "one that cannot"],
)
def test_sigterm_that_the_main_thread_has_not_heard(start, collector, wait, ends, where):
    """As one that comes right before it begins to wait, or to a runtime that waits in C."""
    process = start(
        f"""
        import ctypes
        handler = configure(flush_on_sigterm=True, **{LATE})
        mutex, lock = ctypes.create_string_buffer(100), ctypes.CDLL(None).pthread_mutex_lock
        def kill():
            time.sleep(0.3)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            while True:
                time.sleep(0.05)
        def work():
            log("a")
            threading.Thread(target=kill, daemon=True).start()
            wait = {wait}
            wait()
            wait()
        if {where == "here"}:
            work()
        pid = os.fork()
        if not pid:
            work()
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        collector,
    )
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert (process.returncode if where == "here" else int(out)) in ends
    assert labels(collector) == ["a"]


@posix
def test_a_descriptor_that_is_told_of_signals_stays_the_programs_own(run, collector):
    """As that of an event loop: it is told as before, and SIGTERM delivers all the same."""
    ran = run(
        f"""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end)
        handler = configure(flush_on_sigterm=True, **{LATE})
        say(signal.set_wakeup_fd(-1) == write_end)
        """,
        collector,
    )
    assert ran.words == ["True"]


# As in a program that runs an event loop for a while.
TAKEN_FOR_A_WHILE = (
    "import asyncio; loop = asyncio.new_event_loop();"
    "loop.add_signal_handler(signal.SIGTERM, print); loop.close()"
)


@posix
def test_who_puts_the_default_action_back_loses_nothing(start):
    """As asyncio does once it has had the signal: what waits is sent soon, and a report says so."""
    with FaultyCollector() as collector:
        after = f"logging.getLogger('snowplow_logging').handlers.clear(); {TAKEN_FOR_A_WHILE}"
        process = start(WAITS.format(before="", after=after, late=LATE), collector)
        assert process.stdout.readline() == "logged\n"
        assert "flush_on_sigterm has no effect for now" in process.stderr.readline()
        collector.wait_for_requests(1)
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        assert [taken["se_la"] for taken in collector.events] == ["a"]
        assert process.stderr.read() == ""


@posix
@pytest.mark.parametrize(
    "flush", ["handler.flush()", *seldom("import snowplow_logging as s; s.flush()")]
)
@pytest.mark.parametrize("hears", ["", "threading.Thread(target=terminate).start(); lock(mutex)"])
def test_a_flush_stands_in_again_for_the_default_action(start, collector, flush, hears):
    """And sees again to a main thread that hears nothing."""
    before = """
    import ctypes
    mutex, lock = ctypes.create_string_buffer(100), ctypes.CDLL(None).pthread_mutex_lock
    def terminate():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)
    """
    after = f"{TAKEN_FOR_A_WHILE}; {flush}; log('b'); lock(mutex); say('logged'); {hears}"
    process = start(WAITS.format(before=before.strip(), after=after, late=LATE), collector)
    assert process.stdout.readline() == "logged\n"
    if not hears:
        process.terminate()
    assert process.wait(60) in ((-signal.SIGTERM,) if not hears else (-signal.SIGTERM, 143))
    assert labels(collector) == ["a", "b"]


@posix
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_sigterm_and_a_collector_that_does_not_answer(start, again):
    """It takes the `shutdown_timeout`, and says what is lost; a second signal ends it at once."""
    with FaultyCollector(default=SILENCE) as collector:
        seconds = 600 if again else 0.2
        late = {**LATE, "shutdown_timeout": seconds}
        process = start(WAITS.format(before="", after="", late=late), collector)
        assert process.stdout.readline() == "logged\n"
        process.terminate()
        if again:
            collector.wait_for_requests(1)
            process.terminate()
        assert process.wait(60) == -signal.SIGTERM
        said = process.stderr.read()
        assert ("1 event for" in said) is not again


@posix
@pytest.mark.parametrize(
    "own",
    ["signal.SIG_IGN", "lambda *_: say('mine')"],
    ids=["ignored", "handled"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_the_program_does_at_sigterm_is_left_alone(run, collector, own, when):
    """Whether it said so before the handler was made or later, and when that is closed."""
    own = f"own = {own}; signal.signal(signal.SIGTERM, own)"
    ran = run(
        f"""
        {own if when == "before" else ""}
        handler = configure(flush_on_sigterm=True, **{LATE})
        {own if when == "after" else ""}
        say(signal.getsignal(signal.SIGTERM) == own)
        os.kill(os.getpid(), signal.SIGTERM)
        handler.close()
        say(signal.getsignal(signal.SIGTERM) == own)
        """,
        collector,
    )
    assert [word for word in ran.words if word != "mine"] == ["True", "True"]
    assert ran.words.count("mine") == ("mine" in own)


@posix
def test_the_default_action_comes_back_with_the_last_close(run, collector):
    """And is never touched by a handler that is not enabled, or does not ask for it."""
    ran = run(
        """
        from snowplow_logging import SnowplowHandler
        def stands():
            say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        SnowplowHandler(ENDPOINTS[0], flush_on_sigterm=True, enabled=False)
        SnowplowHandler(ENDPOINTS[0])
        stands()
        one, two = (SnowplowHandler(ENDPOINTS[0], flush_on_sigterm=True) for _ in range(2))
        stands()
        one.close()
        stands()
        two.close()
        two.close()
        stands()
        """,
        collector,
    )
    assert ran.words == ["True", "False", "False", "True"]


@posix
def test_a_handler_made_on_another_thread_says_that_it_cannot(run, collector):
    """Python takes signals on the main thread alone."""
    run(
        """
        from snowplow_logging import SnowplowHandler
        def make():
            SnowplowHandler(ENDPOINTS[0], flush_on_sigterm=True).flush()
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        """,
        collector,
        error="flush_on_sigterm has no effect",
    )


@posix
def test_sigterm_during_the_exit_lets_that_go_on(start):
    """What the exit is about to deliver is delivered, and the signal ends the process then."""
    with FaultyCollector() as collector:
        program = f"""
            handler = configure(flush_on_sigterm=True, **{LATE})
            import requests, atexit
            def before_send(event):
                return event
            log("a")
            from snowplow_logging.lifecycle import lifecycle
            class Session(requests.Session):
                def request(self, *args, **keywords):
                    if lifecycle.is_ending:
                        os.kill(os.getpid(), signal.SIGTERM)
                    return super().request(*args, **keywords)
            from snowplow_logging import SnowplowHandler
            other = SnowplowHandler(ENDPOINTS[0], session=Session(), **{LATE})
            logging.getLogger("shop").addHandler(other)
            log("b")
            """
        process = start(program, collector)
        assert process.wait(60) == -signal.SIGTERM
        assert sorted(taken["se_la"] for taken in collector.events) == ["a", "b", "b"]
