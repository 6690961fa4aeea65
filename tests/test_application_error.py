"""With `capture_exceptions` a logged exception becomes an event that its schema takes."""

from __future__ import annotations

import copy
import functools
import io
import logging
import logging.handlers
import pickle
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import entity, tracking
from snowplow_logging import ApplicationError, subject_context

pytestmark = pytest.mark.every_python

LIMITS = {
    "message": 2_048,
    "threadName": 1_024,
    "stackTrace": 8_192,
    "causeStackTrace": 8_192,
    "className": 1_024,
    "exceptionName": 1_024,
    "fileName": 1_024,
}


@pytest.fixture
def capturing(collector):
    """Give a logger whose handler makes events of exceptions."""
    with tracking(collector, capture_exceptions=True) as running:
        yield running


def errors(tracked):
    """Return the data of the errors that have arrived, all of them good."""
    arrived = [event["event"]["unstruct_event"]["data"] for event in tracked.arrived()]
    for event in arrived:
        name = "iglu:com.snowplowanalytics.snowplow/application_error/jsonschema/1-0-2"
        assert event["schema"] == name
        for key, limit in LIMITS.items():
            assert len(event["data"].get(key) or "") <= limit
    return [event["data"] for event in arrived]


def captured(tracked, raises, message="it went wrong", **keywords):
    """Call what raises, log its exception, and return the data of the event that arrived."""
    try:
        raises()
    except BaseException:
        tracked.logger.exception(message, **keywords)
    (data,) = errors(tracked)
    return data


def fails(text="no such basket"):
    """Raise an error."""
    raise LookupError(text)


class Bad(Exception):
    """An exception none of whose texts can be had."""

    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


class Empty(Exception):
    """An exception that is false and has no text."""

    def __bool__(self):
        return False


class Notes(Exception):
    """An exception whose notes cannot be had."""

    @property
    def __notes__(self):
        raise ZeroDivisionError


class Shop:
    """Methods that raise, of each kind."""

    def method(self):
        """Raise as a method."""
        fails_here()

    def direct(self):
        """Raise in the method's own code."""
        raise LookupError

    @classmethod
    def of_class(cls):
        """Raise as a class method."""
        raise LookupError

    @staticmethod
    def static():
        """Raise as a static method."""
        raise LookupError

    @property
    def attribute(self):
        """Raise as a property."""
        raise LookupError

    def __private(self):
        raise LookupError

    def private(self):
        """Raise in a method whose name Python changes."""
        self.__private()

    def nested(self):
        """Raise in a function inside a method."""

        def inner():
            raise LookupError(self)

        inner()

    def comprehension(self):
        """Raise in a comprehension."""
        return [1 // zero for zero in [0]]

    class Till:
        """A class inside another."""

        def open(self):
            """Raise as its method."""
            raise LookupError


class Branch(Shop):
    """A class that inherits what raises."""


def fails_here():
    """Raise as a function, whoever calls it."""
    raise LookupError


divide = lambda: 1 // 0  # noqa: E731 - it is the name that matters


def nested():
    """Raise in a function inside a function."""

    def inner():
        raise LookupError

    inner()


class TestWhatIsCaptured:
    """A record with an exception and no event becomes an event."""

    def test_an_exception(self, capturing):
        """It tells what was raised, where, and in which thread."""
        data = captured(capturing, Shop().method, "order %s failed", extra={"other": 1})
        code = fails_here.__code__
        trace = data.pop("stackTrace")
        assert trace.startswith("Traceback (most recent call last):\n")
        assert trace.endswith("    raise LookupError\nLookupError\n")
        assert data == {
            "programmingLanguage": "PYTHON",
            "message": "order %s failed",
            "threadName": threading.current_thread().name,
            "threadId": threading.get_native_id(),
            "exceptionName": "LookupError",
            "fileName": code.co_filename,
            "lineNumber": code.co_firstlineno + 2,
            "isFatal": False,
        }

    @pytest.mark.parametrize("how", ["exception", "true", "instance", "tuple", "adapter"])
    def test_every_way_to_log_one(self, capturing, how):
        """It may be logged in each way that `logging` knows, with the same outcome."""
        logger = capturing.logger
        try:
            fails()
        except LookupError as error:
            if how == "exception":
                logger.exception("failed: %s", error)  # noqa: TRY401 - the message is the test's
            elif how == "true":
                logger.warning("failed: %s", error, exc_info=True)
            elif how == "instance":
                logger.info("failed: %s", error, exc_info=error)
            elif how == "tuple":
                logger.info("failed: %s", error, exc_info=sys.exc_info())
            else:
                logging.LoggerAdapter(logger, {"a": 1}).exception("failed: %s", error)
        (data,) = errors(capturing)
        assert data["message"] == "failed: no such basket"
        assert data["exceptionName"] == "LookupError"
        assert data["stackTrace"].count('File "') == 2

    def test_the_level_and_the_time_of_the_call(self, capturing):
        """CRITICAL is fatal and nothing else is; the time is that of the log call."""
        before = logging.makeLogRecord({}).created
        for level in (logging.DEBUG, logging.ERROR, logging.CRITICAL, 60):
            capturing.logger.log(level, "x", exc_info=LookupError())
        assert [data["isFatal"] for data in errors(capturing)] == [False, False, True, True]
        after = logging.makeLogRecord({}).created
        for payload in capturing.payloads():
            assert int(before * 1000) <= int(payload["dtm"]) <= after * 1000

    def test_what_is_bound(self, capturing):
        """It has the subject and the entities that are bound where it is logged."""
        with subject_context(user_id="u-42", context=[entity(plan="free")]):
            capturing.logger.error("x", exc_info=LookupError())
        (event,) = capturing.arrived()
        assert event["event"]["user_id"] == "u-42"
        assert event["event"]["contexts"]["data"] == [entity(plan="free")]

    def test_an_event_of_its_own(self, capturing):
        """A record that has an event is that event and nothing else, however it has it."""
        event = {"event": "page_view", "page_url": "https://shop.example.com/"}
        try:
            fails()
        except LookupError:
            capturing.logger.exception("x", extra={"snowplow": event})
            capturing.logger.exception(ApplicationError(message="mine"))
        first, second = capturing.arrived()
        assert first["eventType"] == "page_view"
        assert second["event"]["unstruct_event"]["data"]["data"] == {
            "programmingLanguage": "PYTHON",
            "message": "mine",
        }

    def test_no_exception(self, capturing):
        """A record without an exception is none, whoever formats it first."""
        capturing.logger.handlers.insert(0, logging.StreamHandler(io.StringIO()))
        capturing.logger.exception("outside of any except")  # noqa: LOG004 - people do
        capturing.logger.error("x", exc_info=True)  # noqa: LOG014
        capturing.logger.error("x", exc_info=(None, None, None))
        capturing.logger.error("x", stack_info=True)
        assert capturing.arrived() == []

    def test_only_if_asked(self, tracked):
        """It is not the default."""
        tracked.logger.error("x", exc_info=LookupError())
        assert tracked.arrived() == []

    @pytest.mark.parametrize("limit", ["ERROR", logging.ERROR, logging.WARNING + 1])
    def test_from_a_level_on(self, collector, limit):
        """A level limits it to records of that level and above."""
        with tracking(collector, capture_exceptions=limit) as tracked:
            for level in (logging.DEBUG, logging.WARNING, logging.ERROR, logging.CRITICAL):
                tracked.logger.log(level, "%s", level, exc_info=LookupError())
            assert [data["message"] for data in errors(tracked)] == ["40", "50"]

    def test_before_send(self, collector):
        """`before_send` sees it like any event, and may leave it out."""
        seen = []

        def keep(event):
            seen.append(event)
            return None if "secret" in event["message"] else {**event, "thread_name": None}

        with tracking(collector, capture_exceptions=True, before_send=keep) as tracked:
            tracked.logger.error("a secret", exc_info=LookupError())
            tracked.logger.error("plain", exc_info=LookupError())
            (data,) = errors(tracked)
        assert [event["event"] for event in seen] == ["application_error"] * 2
        assert data["message"] == "plain"
        assert "threadName" not in data


class TestWhere:
    """The innermost frame gives the file, the line and the class."""

    @pytest.mark.parametrize(
        ("raises", "name"),
        [
            (Shop().method, None),
            (Shop().direct, "Shop"),
            (Branch().direct, "Shop"),
            (Shop.of_class, "Shop"),
            (Branch.of_class, "Shop"),
            (Shop.static, "Shop"),
            (lambda: Shop().attribute, "Shop"),
            (Shop().private, "Shop"),
            (Shop().nested, "Shop"),
            (Shop().comprehension, "Shop"),
            (Shop.Till().open, "Shop.Till"),
            (fails_here, None),
            (nested, None),
            (divide, None),
            (functools.partial(Shop().direct), "Shop"),
        ],
        ids=lambda value: getattr(value, "__qualname__", "-"),
    )
    def test_the_class(self, capturing, raises, name):
        """A method of any kind has its class, a function none."""
        assert captured(capturing, raises).get("className") == name

    def test_a_class_of_a_function(self, capturing):
        """A class inside a function is one, too."""

        class Local:
            def method(self):
                raise LookupError

        name = captured(capturing, Local().method)["className"]
        assert name == Local.__qualname__

    def test_never_raised(self, capturing):
        """An exception that was never raised has the place of the log call."""
        capturing.logger.error("x", exc_info=LookupError("never raised"))
        (data,) = errors(capturing)
        assert data["fileName"] == __file__
        assert data["stackTrace"] == "LookupError: never raised\n"
        assert "className" not in data

    def test_in_a_thread(self, capturing):
        """The thread is the one that logs."""

        def work():
            try:
                Shop().direct()
            except LookupError:
                capturing.logger.exception("x")
            return threading.get_native_id()

        with ThreadPoolExecutor(1, "packer") as pool:
            thread_id = pool.submit(work).result()
        (data,) = errors(capturing)
        assert (data["threadName"], data["threadId"]) == ("packer_0", thread_id)
        assert data["className"] == "Shop"

    def test_code_without_a_file(self, capturing):
        """Code that was made at run time has whatever name it was given, cut to the limit."""
        for name in ("<string>", "a\udc80b.py", "", "x" * 3_000):
            try:
                exec(compile("1 / 0", name, "exec"))  # noqa: S102
            except ZeroDivisionError:
                capturing.logger.exception("x")
        names = [data.get("fileName") for data in errors(capturing)]
        assert names == ["<string>", "a\\udc80b.py", "", "x" * 1_023 + "…"]


class TestChains:
    """What caused an exception is told apart from the exception itself."""

    def test_a_cause(self, capturing):
        """The cause has its own stack trace, with causes of its own in it."""

        def raises():
            try:
                try:
                    fails("first")
                except LookupError as error:
                    raise ValueError("second") from error
            except ValueError as error:
                raise KeyError("third") from error

        data = captured(capturing, raises)
        assert data["exceptionName"] == "KeyError"
        assert data["stackTrace"].endswith("KeyError: 'third'\n")
        assert "second" not in data["stackTrace"].splitlines()[-1]
        assert data["stackTrace"].count("Traceback") == 1
        assert data["causeStackTrace"].endswith("ValueError: second\n")
        assert "LookupError: first\n\nThe above exception" in data["causeStackTrace"]

    def test_a_context(self, capturing):
        """An exception while another is handled has that one as its cause."""

        def raises():
            try:
                raise Empty
            except Empty:
                fails("second")

        data = captured(capturing, raises)
        assert data["causeStackTrace"].splitlines()[-1].endswith("Empty")
        assert data["stackTrace"].endswith("LookupError: second\n")

    def test_a_suppressed_context(self, capturing):
        """`raise … from None` hides what came before."""

        def raises():
            try:
                fails("password")
            except LookupError:
                raise ValueError from None

        data = captured(capturing, raises)
        assert "causeStackTrace" not in data
        assert "password" not in data["stackTrace"]

    def test_a_cause_that_is_false(self, capturing):
        """A cause is one although it is false."""

        def raises():
            raise LookupError from Empty()

        assert captured(capturing, raises)["causeStackTrace"].endswith("Empty\n")

    def test_a_loop(self, capturing):
        """Exceptions that cause each other end somewhere."""
        first, second = LookupError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        capturing.logger.error("x", exc_info=first)
        (data,) = errors(capturing)
        assert "second" in data["causeStackTrace"]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no groups before 3.11")
    def test_a_group(self, capturing):
        """The stack trace of a group tells each of its exceptions."""

        def raises():
            exceptions = []
            for raiser in (fails, Shop().direct):
                try:
                    raiser()
                except LookupError as error:
                    exceptions.append(error)
            inner = ExceptionGroup("inner", [exceptions[1]])  # noqa: F821
            raise ExceptionGroup("several orders failed", [exceptions[0], inner])  # noqa: F821

        data = captured(capturing, raises)
        assert data["exceptionName"] == "ExceptionGroup"
        assert data["message"] == "it went wrong"
        for text in (
            "several orders failed (2 sub",
            "LookupError: no such basket",
            "direct",
        ):
            assert text in data["stackTrace"]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no groups before 3.11")
    def test_a_large_group(self, capturing):
        """A group that is too large keeps its end, which begins with a whole frame."""

        def raises():
            exceptions = []
            for number in range(15):
                try:
                    fails(f"{number} " * 200)
                except LookupError as error:
                    exceptions.append(error)
            raise ExceptionGroup("several", exceptions)  # noqa: F821

        trace = captured(capturing, raises)["stackTrace"]
        assert len(trace) > 5_000
        lines = trace.splitlines()
        assert lines[0] == "  + Exception Group Traceback (most recent call last):"
        assert lines[1].endswith(" lines cut]")
        assert lines[2].startswith('    |   File "'), trace
        assert lines[-1].lstrip(" +").startswith("-----")


class TestTooLong:
    """What is too long is cut where it says least, and the event goes out."""

    @pytest.mark.parametrize("unit", ["x", "é", "😀", "\t", "\n", "\udc80"])
    def test_a_message(self, capturing, unit):
        """A message keeps its beginning, counted in characters as the schema does."""
        data = captured(capturing, fails, "it went wrong: " + unit * 5_000)
        assert data["message"].startswith("it went wrong: ")
        assert data["message"].endswith("…")
        assert len(data["message"]) == 2_048

    @pytest.mark.parametrize("length", [2_047, 2_048, 2_049])
    def test_at_the_limit(self, capturing, length):
        """A message is cut only beyond the limit."""
        message = captured(capturing, fails, "x" * length)["message"]
        assert message == ("x" * length if length <= 2_048 else "x" * 2_047 + "…")

    def test_a_deep_stack(self, capturing):
        """A stack trace keeps its first line and its innermost frames, and says what it lost."""
        calls = "\n".join(f"def f{i}(): f{i - 1}()" for i in range(1, 400))
        program = {"f0": Shop().direct}
        exec(compile(calls, "calls.py", "exec"), program)  # noqa: S102
        trace = captured(capturing, program["f399"])["stackTrace"]
        lines = trace.splitlines()
        assert len(trace) > 7_000
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[1].endswith(" lines cut]")
        assert all(line.startswith("  ") for line in lines[2:-1])
        assert lines[2].startswith('  File "calls.py", line ')
        assert '  File "calls.py", line 1, in f1' in lines
        assert lines[-2:] == ["    raise LookupError", "LookupError"]
        whole = 1 + 1 + 399 + 2 + 1  # header, `captured`, the calls, `direct`, the exception
        cut = int(lines[1].strip(" []").split()[0].replace(",", ""))
        assert whole + 1 <= cut + len(lines) - 1 <= whole + 3  # two lines each, carets besides

    @pytest.mark.parametrize("text", ["x" * 50_000, "x\n" * 50_000, "\n" * 50_000], ids=len)
    def test_a_huge_exception(self, capturing, text):
        """The text of the exception itself does not push out where it was raised."""
        data = captured(capturing, lambda: fails(text))
        assert "in fails\n" in data["stackTrace"]
        assert "LookupError: " in data["stackTrace"]
        assert data["stackTrace"].endswith("…\n")

    def test_recursion(self, capturing):
        """Too deep a recursion is an exception like any other."""

        def again():
            again()

        data = captured(capturing, again)
        assert data["exceptionName"] == "RecursionError"
        assert "more times]" in data["stackTrace"]

    def test_a_long_chain(self, capturing):
        """A thousand causes are cut, and the first of them stays last."""

        def raises():
            error = LookupError("first")
            for number in range(1_000):
                wrapped = ValueError(f"number {number}")
                wrapped.__cause__ = error
                error = wrapped
            raise KeyError from error

        trace = captured(capturing, raises)["causeStackTrace"]
        assert " lines cut]" in trace
        assert trace.endswith("ValueError: number 999\n")

    def test_names(self, capturing):
        """The names of classes and threads are cut as well."""
        kind = type("E" * 3_000, (LookupError,), {})
        thread = threading.Thread(
            target=lambda: capturing.logger.error("x", exc_info=kind()), name="t" * 3_000
        )
        thread.start()
        thread.join()
        (data,) = errors(capturing)
        assert data["threadName"] == "t" * 1_023 + "…"
        assert data["exceptionName"].endswith("E…")


class TestHostile:
    """Whatever an exception is, it becomes an event."""

    @pytest.mark.parametrize("kind", [Bad, Empty, Notes, KeyboardInterrupt, SystemExit])
    def test_odd_exceptions(self, capturing, kind):
        """An exception none of whose methods work is told by its name."""

        def raises():
            raise kind

        data = captured(capturing, raises, "")
        assert data["exceptionName"].endswith(kind.__name__)
        assert data["message"] == data["exceptionName"]
        assert "in raises" in data["stackTrace"]

    def test_as_the_message(self, capturing):
        """An exception that is the message as well, and has no text, does no harm."""
        error = Bad()
        capturing.logger.error(error, exc_info=error)
        assert errors(capturing)[0]["message"].endswith("Bad")

    def test_arguments_that_do_not_fit(self, capturing):
        """A message whose arguments do not fit it stands for itself."""
        capturing.logger.error("%d of %d", "x", exc_info=LookupError())
        assert errors(capturing)[0]["message"] == "%d of %d"

    def test_a_syntax_error(self, capturing):
        """A syntax error shows the line at fault."""

        def raises():
            compile("basket = [1, 2", "orders.py", "exec")

        data = captured(capturing, raises, "")
        assert 'File "orders.py", line 1' in data["stackTrace"]
        assert data["message"].startswith("SyntaxError: '[' was never closed")

    def test_names_that_are_none(self, capturing):
        """Attributes of the record that somebody has changed do no harm."""

        class Odd(logging.Filter):
            def filter(self, record):
                record.threadName, record.pathname, record.thread = None, 3, None
                return True

        capturing.logger.addFilter(Odd())
        capturing.logger.error("x", exc_info=LookupError())
        (data,) = errors(capturing)
        assert "threadName" not in data
        assert "fileName" not in data

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.text(st.characters(), max_size=9), st.integers(0, 3_000), st.booleans())
    def test_any_text(self, collector, text, times, raised):
        """Any text of any length, as message and as the exception's own, is taken."""
        with tracking(collector, capture_exceptions=True) as tracked:
            collector.reset()
            error = LookupError(text * times)
            try:
                if raised:
                    raise error
            except LookupError:
                pass
            tracked.logger.error("%s", text * times, exc_info=error)
            assert len(errors(tracked)) == 1


class TestQueued:
    """An exception is captured behind queues whose records hold none."""

    def test_behind_a_queue(self, capturing):
        """Behind `QueueHandler` the event is the one that it would have been in front of it."""
        logger = logging.Logger("queued")
        waiting = queue.SimpleQueue()
        logger.addHandler(logging.handlers.QueueHandler(waiting))
        logger.addHandler(capturing.handler)

        def work():
            with subject_context(user_id="u-42"):
                try:
                    Shop().direct()
                except LookupError:
                    logger.critical("order %s failed", 7, exc_info=True)

        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
        record = waiting.get()
        assert (record.exc_info, record.exc_text) == (None, None)
        assert record.getMessage().startswith("order 7 failed\nTraceback")
        capturing.handler.handle(record)
        before, behind = capturing.payloads()
        assert {**before, "stm": ""} == {**behind, "stm": ""}
        data = errors(capturing)[1]
        assert data["message"] == "order 7 failed"
        assert (data["isFatal"], data["className"]) == (True, "Shop")

    def test_through_a_pickle(self, capturing):
        """It is captured behind the queue of another process, too, and one that follows that."""
        logger = logging.Logger("queued")
        waiting = queue.SimpleQueue()
        handler = logging.handlers.QueueHandler(waiting)
        logger.addHandler(handler)
        logger.addHandler(capturing.handler)
        try:
            Shop().direct()
        except LookupError:
            logger.exception("x")
        handler.handle(pickle.loads(pickle.dumps(waiting.get())))  # noqa: S301
        capturing.handler.handle(pickle.loads(pickle.dumps(waiting.get())))  # noqa: S301
        before, behind = capturing.payloads()
        assert {**before, "stm": ""} == {**behind, "stm": ""}

    def test_whoever_drops_it(self, capturing):
        """A filter that hides an exception in a copy hides it from this handler, too."""

        class Hiding(logging.Handler):
            def emit(self, record):
                hidden = copy.copy(record)
                hidden.exc_info = hidden.exc_text = None
                capturing.handler.handle(hidden)

        logger = logging.Logger("hiding")
        logger.addHandler(Hiding())
        logger.error("x", exc_info=LookupError("password"))
        assert capturing.arrived() == []

    def test_behind_a_memory_handler(self, capturing):
        """What a `MemoryHandler` kept is told as it was when it was logged."""
        memory = logging.handlers.MemoryHandler(10, target=capturing.handler)
        logger = logging.Logger("buffered")
        logger.addHandler(memory)

        def work():
            try:
                Shop().direct()
            except LookupError:
                logger.info("x", exc_info=True)
                raise

        with pytest.raises(LookupError):
            work()
        memory.close()
        (data,) = errors(capturing)
        assert data["className"] == "Shop"
        assert "in work" in data["stackTrace"]
        assert "test_behind_a_memory_handler" not in data["stackTrace"]

    def test_behind_a_socket(self, capturing):
        """`SocketHandler` leaves the message and the stack trace, and so does the event."""
        handler = logging.handlers.SocketHandler("127.0.0.1", 9)
        logger = logging.Logger("remote")
        received = []
        handler.send = lambda data: received.append(pickle.loads(data[4:]))  # noqa: S301
        logger.addHandler(handler)
        try:
            Shop().direct()
        except LookupError:
            logger.exception("order %s failed", 7)
        logger.exception("outside of any except")  # noqa: LOG004 - people do
        for attributes in received:
            capturing.handler.handle(logging.makeLogRecord(attributes))
        (data,) = errors(capturing)
        assert data["message"] == "order 7 failed"
        assert data["stackTrace"].endswith("    raise LookupError\nLookupError")
        assert (data["fileName"], data["isFatal"]) == (__file__, False)
