"""An event id belongs to one event: each event has its own, and keeps it in all copies."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.handlers
import pickle
import queue
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from types import MappingProxyType
from uuid import RFC_4122, UUID

import pytest

from helpers import tracking
from snowplow_logging import (
    AddToCart,
    EcommerceTransaction,
    PageView,
    SnowplowAdapter,
    SnowplowJsonFormatter,
)
from ways import WAYS, by_pickle, by_queue, by_socket, collecting

pytestmark = pytest.mark.every_python

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
ITEM = {"sku": "s-1", "price": 1, "quantity": 1}
TRANSACTION = {
    "event": "ecommerce_transaction",
    "order_id": "o-1",
    "total_value": 2,
    "items": [ITEM, ITEM],
}
GIVEN = "0f8fad5b-d9cb-469f-a165-70867728950e"


def ids_of(record, event_key="snowplow"):
    """Return the ids of a record's events, as a formatter that sees it writes them."""
    events = json.loads(SnowplowJsonFormatter(event_key=event_key).format(record))[event_key]
    return [event["event_id"] for event in (events if isinstance(events, list) else [events])]


def logged(message="x", **keywords):
    """Log once, and return the record as it came to a handler of the program's own."""
    SnowplowJsonFormatter()  # as a program has one that knows of this library
    logger, records = collecting()
    logger.info(message, **keywords)
    return records[0]


def run(script, *arguments):
    """Run a script, which prints an event id a line, in a fresh Python; return the ids."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


LOG = """
import json, logging, os, sys, time
from snowplow_logging import SnowplowJsonFormatter
class Printing(logging.Handler):
    def emit(self, record):
        line = self.format(record)
        os.write(1, json.loads(line)["snowplow"]["event_id"].encode() + b"\\n")
logger = logging.Logger("shop")
logger.addHandler(Printing())
logger.handlers[0].setFormatter(SnowplowJsonFormatter())
def log(count):
    for _ in range(count):
        logger.info("x", extra={"snowplow": {"event": "page_view", "page_url": "app:x"}})
"""


class TestEachItsOwn:
    """Two events have two ids."""

    @pytest.mark.parametrize("tick", ["15_625_000", "10**30"], ids=["coarse", "frozen"])
    def test_whatever_the_clock_does(self, tick):
        """A clock that ticks every 15.625 ms, as on Windows, or that stands still is enough."""
        clock = f"""
        import time
        real, tick = time.time_ns, {tick}
        time.time_ns = lambda: real() // tick * tick
        time.time = lambda: time.time_ns() / 1e9
        time.monotonic = time.perf_counter = lambda: 0.0
        time.monotonic_ns = lambda: 0
        """
        ids = run(textwrap.dedent(clock) + LOG + "log(1_000)")
        assert len(set(ids)) == len(ids) == 1_000

    def test_records_made_with_a_given_time(self):
        """Records that were made with the same values in all attributes are still many."""
        made = {"created": 1.7e9, "relativeCreated": 5.0, "process": 1, "thread": 1}
        records = [logging.makeLogRecord({**made, "snowplow": PAGE}) for _ in range(2_000)]
        assert len({event_id for record in records for event_id in ids_of(record)}) == 2_000

    @pytest.mark.parametrize("hooks", [True, False], ids=["with hooks", "without hooks"])
    @pytest.mark.parametrize("frozen", [True, False], ids=["frozen clock", "clock"])
    def test_forks(self, hooks, frozen):
        """Forks have ids of their own, also where the server runs no hooks at a fork."""
        script = """
        clock = time.time_ns()
        if sys.argv[2] == "True":
            time.time_ns, time.time = lambda: clock, lambda: clock / 1e9
        log(2)
        if sys.argv[1] == "True":
            fork = os.fork
        else:
            import ctypes
            fork = ctypes.PyDLL(None).fork
        for _ in range(3):
            pid = fork()
            if not pid:
                log(100)
                os._exit(0)
            os.waitpid(pid, 0)
        log(100)
        """
        ids = run(LOG + textwrap.dedent(script), str(hooks), str(frozen))
        assert len(set(ids)) == len(ids) == 402

    @pytest.mark.parametrize("frozen", [True, False], ids=["frozen clock", "clock"])
    def test_forks_that_have_the_same_process_id(self, frozen):
        """Two forks that both have the process id 1, each in a container, have their own ids."""
        script = """
        import ctypes
        clock = time.time_ns()
        if sys.argv[1] == "True":
            time.time_ns, time.time = lambda: clock, lambda: clock / 1e9
        log(2)
        for _ in range(2):
            outer = os.fork()
            if not outer:
                if ctypes.CDLL(None, use_errno=True).unshare(0x20000000):  # CLONE_NEWPID
                    os._exit(77)
                inner = os.fork()
                if not inner:
                    assert os.getpid() == 1
                    log(2_000)
                    os._exit(0)
                os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
            status = os.waitstatus_to_exitcode(os.waitpid(outer, 0)[1])
            if status:
                sys.stderr.write("cannot make a namespace of process ids here")
                sys.exit(status)
        """
        if sys.platform != "linux":
            pytest.skip("only Linux has namespaces of process ids")
        ids = run(LOG + textwrap.dedent(script), str(frozen))
        assert len(set(ids)) == len(ids) == 4_002

    def test_threads(self):
        """Threads that log at once have ids of their own."""
        logger, records = collecting()
        SnowplowJsonFormatter()
        barrier = threading.Barrier(8)

        def log():
            barrier.wait(30)
            for _ in range(500):
                logger.info("x", extra={"snowplow": PAGE})

        threads = [threading.Thread(target=log) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({event_id for record in records for event_id in ids_of(record)}) == 4_000

    @pytest.mark.parametrize(
        "given",
        [
            PAGE,
            [PAGE, PAGE],
            (PAGE, PageView(page_url="app:x")),
            TRANSACTION,
            [TRANSACTION, TRANSACTION],
            EcommerceTransaction(order_id="o", total_value=1, items=[ITEM]),
            PageView(page_url="app:x"),
            MappingProxyType(PAGE),
            OrderedDict(PAGE),
        ],
        ids=str,
    )
    def test_what_is_logged_again(self, given):
        """The same dict, list or object logged twice is two events, and stays as it was."""
        before = copy.deepcopy(given) if not isinstance(given, MappingProxyType) else given
        ids = [ids_of(logged(extra={"snowplow": given})) for _ in range(3)]
        ids += [ids_of(logged(given)) for _ in range(3) if isinstance(given, PageView)]
        flat = [event_id for some in ids for event_id in some]
        assert len(set(flat)) == len(flat)
        assert all(UUID(one).variant == RFC_4122 and UUID(one).version == 8 for one in flat)
        assert given == before
        assert type(given) is type(before)

    def test_two_event_keys(self):
        """Two events of one record under two keys have two ids, and its message a third."""
        record = logged(PageView(page_url="app:x"), extra={"snowplow": PAGE, "tracking": PAGE})
        first, second = ids_of(record), ids_of(record, "tracking")
        assert len({*first, *second}) == 3
        assert first[1] == second[1]  # the message is one event, whatever the key

    def test_adapter(self):
        """The ids that the adapter returns are those of the events, each its own."""
        logger, records = collecting()
        shop = SnowplowAdapter(logger)
        returned = [shop.page_view(page_url="app:x") for _ in range(100)]
        shop.info("x", extra={"snowplow": PAGE})
        assert [ids_of(record) for record in records[:-1]] == [[one] for one in returned]
        assert len({*returned, *ids_of(records[-1])}) == 101

    def test_the_caller_s_own(self):
        """An id that the caller gives wins, in a dict, in an object and in a list."""
        record = logged(
            PageView(page_url="app:x", event_id=GIVEN),
            extra={"snowplow": [{**PAGE, "event_id": GIVEN}, {**PAGE, "event_id": UUID(GIVEN)}]},
        )
        assert ids_of(by_queue(record)) == ids_of(record) == [GIVEN] * 3


FORMS = {
    "dict": {"extra": {"snowplow": PAGE}},
    "list": {"extra": {"snowplow": [PAGE, AddToCart(sku="s", quantity=1), PAGE]}},
    "tuple": {"extra": {"snowplow": (PAGE, PAGE)}},
    "transaction": {"extra": {"snowplow": TRANSACTION}},
    "object": {"extra": {"snowplow": AddToCart(sku="s", quantity=1)}},
    "mapping": {"extra": {"snowplow": OrderedDict(PAGE)}},
    "message": {"message": PageView(page_url="app:x")},
    "transaction as message": {
        "message": EcommerceTransaction(order_id="o", total_value=1, items=[ITEM])
    },
    "both": {"message": PageView(page_url="app:x"), "extra": {"snowplow": [PAGE, PAGE]}},
}


class OwnRecord(logging.LogRecord):
    """A record class of a program's own."""


def own_factory(*args, **kwargs):
    """Make records as a program's own factory does that adds an attribute."""
    record = logging.LogRecord(*args, **kwargs)
    record.request = "r-1"
    return record


FACTORIES = {
    "ours": None,
    "standard": logging.LogRecord,
    "own class": OwnRecord,
    "own function": own_factory,
}


@pytest.fixture
def factory(request):
    """Have records made by another factory, which came after this library."""
    before = logging.getLogRecordFactory()
    if request.param is not None:
        logging.setLogRecordFactory(request.param)
    yield request.param
    logging.setLogRecordFactory(before)


forms = pytest.mark.parametrize("form", FORMS)
forms_of_factories = pytest.mark.parametrize(
    ("form", "factory"),
    [
        pytest.param(form, factory, id=f"{form}, {name}")
        for form in FORMS
        for name, factory in FACTORIES.items()
        # A record of another factory keeps no event that is its message.
        if factory is None or "message" not in FORMS[form]
    ],
    indirect=["factory"],
)


class TestCopies:
    """All copies of a record have the ids of its events, whoever saw it before."""

    @forms_of_factories
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
    def test_all_ways(self, form, way, seen, factory):
        """A copy has them, whether it is made before or after the record was looked at."""
        record = logged(**FORMS[form])
        before = ids_of(record) if seen else None
        copied = WAYS[way](record)
        assert ids_of(copied) == ids_of(record)
        assert before in (None, ids_of(record))

    @pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES, indirect=True)
    @pytest.mark.parametrize("form", [form for form in FORMS if "message" not in FORMS[form]])
    def test_attributes(self, form, factory):
        """A record that is made of the attributes of another has them."""
        record = logged(**FORMS[form])
        made = logging.makeLogRecord(record.__dict__)
        assert ids_of(made) == ids_of(record)

    @forms
    @pytest.mark.parametrize("copied_by", [copy.copy, by_queue, by_pickle])
    def test_a_record_of_no_logger(self, form, copied_by):
        """A record that was never logged keeps them through copies and pickles."""
        message = FORMS[form].get("message", "x")
        record = logging.makeLogRecord({"msg": message, **FORMS[form].get("extra", {})})
        copied = copied_by(record)
        assert ids_of(copied) == ids_of(record)

    @forms
    def test_two_copies(self, form):
        """Two copies that were made of a record have the same, without it."""
        record = logged(**FORMS[form])
        assert ids_of(by_queue(record)) == ids_of(by_socket(record)) == ids_of(by_pickle(record))

    @forms
    def test_handlers_and_formatter(self, collector, form):
        """A handler behind a queue sends the ids that a formatter before it writes."""
        waiting = queue.Queue()
        stream = io.StringIO()
        lines = logging.StreamHandler(stream)
        lines.setFormatter(SnowplowJsonFormatter())
        with tracking(collector) as tracked:
            logger = logging.Logger("shop")
            logger.addHandler(logging.handlers.QueueHandler(waiting))
            logger.addHandler(lines)
            logger.addHandler(tracked.handler)
            listener = logging.handlers.QueueListener(waiting, tracked.handler)
            listener.start()
            logger.info(FORMS[form].get("message", "x"), extra=FORMS[form].get("extra"))
            listener.stop()
            sent = [payload["eid"] for payload in tracked.payloads()]
        events = json.loads(stream.getvalue())["snowplow"]
        written = [e["event_id"] for e in (events if isinstance(events, list) else [events])]
        assert sorted(sent) == sorted(written * 2)


class TestCapturedExceptions:
    """An exception that becomes an event has one id, too."""

    def logged(self, tracked, *behind):
        """Log an exception and return the ids of what arrived."""
        logger = logging.Logger("shop")
        for handler in behind:
            logger.addHandler(handler)
        try:
            raise KeyError
        except KeyError:
            logger.exception("it broke")
        return [payload["eid"] for payload in tracked.payloads()]

    def test_behind_a_queue(self, collector):
        """The handler that sees the record and one that sees its copy send the same id."""
        with tracking(collector, capture_exceptions=True) as tracked:
            waiting = queue.Queue()
            order = [logging.handlers.QueueHandler(waiting), tracked.handler]
            for handlers in (order, order[::-1]):
                collector.reset()
                listener = logging.handlers.QueueListener(waiting, tracked.handler)
                listener.start()
                self.logged(tracked, *handlers)
                listener.stop()
                first, second = [payload["eid"] for payload in tracked.payloads()]
                assert first == second

    def test_each_its_own(self, collector):
        """Two exceptions have two ids."""
        with tracking(collector, capture_exceptions=True) as tracked:
            for _ in range(50):
                ids = self.logged(tracked, tracked.handler)
        assert len(set(ids)) == len(ids) == 50


class TestNothingElse:
    """What gives events their ids leaves all else alone."""

    def test_a_receiver_without_this_library(self):
        """A pickled record is read by who does not have this library, the event as a dict."""
        record = logged(extra={"snowplow": PAGE})
        program = """
        import json, logging, pickle, sys
        sys.modules["snowplow_logging"] = None
        record = pickle.load(sys.stdin.buffer)
        assert isinstance(record.snowplow, dict)
        print(json.dumps([type(record).__name__, record.snowplow]))
        """
        plain = logging.LogRecord("shop", logging.INFO, "x.py", 1, "x", None, None)
        vars(plain).update(vars(record))
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            input=pickle.dumps(plain),
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
        assert json.loads(done.stdout) == ["LogRecord", PAGE]

    def test_the_stack_that_a_failing_handler_prints(self, capsys):
        """It ends with the log call, and has no line of this library."""

        class Failing(logging.Handler):
            def emit(self, record):
                try:
                    raise LookupError
                except LookupError:
                    self.handleError(record)

        SnowplowJsonFormatter()
        logger = logging.Logger("shop")
        logger.addHandler(Failing())
        logger.info("x")
        error = capsys.readouterr().err
        assert "Call stack:" in error
        assert "kept.py" not in error

    def test_a_filter_that_leaves_a_record_out_or_replaces_it(self):
        """Filters of loggers go on doing what they do, and a record in another's place has ids."""
        SnowplowJsonFormatter()
        logger, records = collecting()
        logger.addFilter(lambda record: record.levelno > logging.INFO)
        if sys.version_info >= (3, 12):
            logger.addFilter(lambda record: logging.makeLogRecord({**vars(record), "new": True}))
        logger.info("x", extra={"snowplow": PAGE})
        logger.error("x", extra={"snowplow": PAGE})
        (record,) = records
        assert hasattr(record, "new") == (sys.version_info >= (3, 12))
        assert ids_of(by_socket(record)) == ids_of(record)

    @pytest.mark.parametrize("value", [5, "text", [5], [[PAGE]], {"event": 5}, [None], object()])
    def test_what_is_no_event(self, value):
        """Anything at all may stand there, and no log call raises."""
        record = logged(extra={"snowplow": value})
        by_queue(record)
        SnowplowJsonFormatter().format(record)
