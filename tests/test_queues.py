"""Through queues, sockets and processes an event stays what it was at the log call."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import logging.handlers
import os
import pickle
import queue
import socketserver
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import permutations
from unittest.mock import Mock

import pytest

from helpers import ANYTHING, entity, tracking
from seldom import seldom
from snowplow_logging import (
    EcommerceTransaction,
    PageView,
    SnowplowAdapter,
    SnowplowJsonFormatter,
    subject_context,
)
from ways import WAYS, by_pickle, by_queue, by_socket, collecting

pytestmark = pytest.mark.every_python

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
ORDER = {"order_id": "o-1", "total_value": 9, "items": [{"sku": "s", "price": 9, "quantity": 1}]}


@pytest.fixture(autouse=True)
def factory():
    """Begin with the standard library's record factory, and put back what there was."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(before)


def what_is_kept(payload):
    """Return a payload without the time of sending."""
    return {name: value for name, value in payload.items() if name != "stm"}


def users(tracked):
    """Return the user of each event that arrived, by the title of its page."""
    return {payload["page"]: payload.get("uid") for payload in tracked.payloads()}


class TestEveryWay:
    """The same event comes out of whatever way its record has gone."""

    LOGGED = (
        ("an event", {"extra": {"snowplow": PAGE}}),
        ("two events", {"extra": {"snowplow": [PAGE, {**PAGE, "page_title": "two"}]}}),
        ("an object", {"extra": {"snowplow": PageView(page_url="https://shop.example.com/")}}),
        ("a transaction", {"extra": {"snowplow": {"event": "ecommerce_transaction", **ORDER}}}),
        (PageView(page_url="https://shop.example.com/", subject={"language": "de"}), {}),
        (EcommerceTransaction(**ORDER), {}),
        (PageView(page_url="https://shop.example.com/both"), {"extra": {"snowplow": PAGE}}),
    )

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("logged", LOGGED, ids=[str(message)[:24] for message, _ in LOGGED])
    def test_the_event_survives(self, tracked, way, logged):
        """The event, its id and its time are those of the record itself."""
        message, keywords = logged
        logger, records = collecting()
        PageView(page_url="https://shop.example.com/")  # has records keep it, as any event has
        logger.info(message, **keywords)
        (record,) = records
        tracked.handler.handle(record)
        direct = [what_is_kept(payload) for payload in tracked.payloads()]
        assert direct
        assert {payload["dtm"] for payload in direct} == {str(int(record.created * 1000))}
        tracked.handler.handle(WAYS[way](record))
        payloads = [what_is_kept(payload) for payload in tracked.payloads()]
        assert payloads == direct * 2

    @pytest.mark.parametrize("way", [way for way in WAYS if "socket" not in way])
    def test_what_is_bound_survives(self, tracked, way):
        """The subject and the entities are those around the log call, wherever it is handled."""
        logger, records = collecting()
        with subject_context(user_id="logged", context=[entity(n=1)]):
            logger.info("x", extra={"snowplow": PAGE})
        with subject_context(user_id="handled", language="de", context=[entity(n=2)]):
            tracked.handler.handle(WAYS[way](records[0]))
        (arrived,) = tracked.arrived()
        assert arrived["event"]["user_id"] == "logged"
        assert arrived["event"]["br_lang"] is None
        assert arrived["event"]["contexts"]["data"] == [entity(n=1)]

    @pytest.mark.parametrize("way", WAYS)
    def test_nothing_is_bound_on_the_way(self, tracked, way):
        """A record that was logged with nothing bound stays so, whoever handles it."""
        logger, records = collecting()
        with subject_context(user_id="before"):
            pass
        logger.info("x", extra={"snowplow": PAGE})
        with subject_context(user_id="handled"):
            tracked.handler.handle(WAYS[way](records[0]))
        (payload,) = tracked.payloads()
        assert "uid" not in payload

    @pytest.mark.parametrize("way", WAYS)
    def test_what_an_adapter_binds_survives(self, tracked, way):
        """What an adapter binds is in the event, and so it passes a socket as well."""
        logger, records = collecting()
        shop = SnowplowAdapter(logger).bind(subject={"user_id": "u-42"}, context=[entity(n=1)])
        event_id = shop.page_view(page_url="https://shop.example.com/")
        tracked.handler.handle(WAYS[way](records[0]))
        (arrived,) = tracked.arrived()
        assert arrived["event"]["event_id"] == event_id
        assert arrived["event"]["user_id"] == "u-42"
        assert arrived["event"]["contexts"]["data"] == [entity(n=1)]

    @pytest.mark.parametrize("way", [way for way in WAYS if way != "as it is"])
    @pytest.mark.parametrize("is_message", [False, True], ids=["extra", "message"])
    def test_a_later_change_of_what_it_holds(self, tracked, way, is_message):
        """Lists and dicts within an event stay what they were, though the caller goes on."""
        item, data = {"sku": "s", "price": 9, "quantity": 1}, {"n": [1]}
        items = [item, item]
        context = [{"schema": ANYTHING, "data": data}]
        data["itself"] = context[0]["data"]["again"] = data["n"]
        event = EcommerceTransaction(order_id="o", total_value=18, items=items, context=context)
        logger, records = collecting()
        if is_message:
            logger.info(event)
        else:
            logger.info("x", extra={"snowplow": event.as_event_dict()})
        later = WAYS[way](records[0])
        item["sku"] = "another"
        items.clear()
        data["n"].append(2)
        context.clear()
        tracked.handler.handle(later)
        arrived = tracked.arrived()
        assert [event["event"].get("ti_sku") for event in arrived] == [None, "s", "s"]
        (held,) = arrived[0]["event"]["contexts"]["data"]
        assert held["data"] == {"n": [1], "itself": [1], "again": [1]}

    def test_a_later_change(self, tracked):
        """The record that is queued is a copy, which leaves the first one as it was."""
        logger, records = collecting()
        event = PageView(page_url="https://shop.example.com/")
        logger.info(event)
        queued = by_queue(records[0])
        assert records[0].msg is event
        assert queued.msg == str(event)
        assert type(queued) is type(records[0])

    @pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
    def test_copies(self, tracked, copier):
        """A copy has all that the record has."""
        logger, records = collecting()
        with subject_context(user_id="u-42"):
            logger.info(PageView(page_url="https://shop.example.com/", context=[entity(n=1)]))
        tracked.handler.handle(records[0])
        tracked.handler.handle(copier(records[0]))
        first, second = map(what_is_kept, tracked.payloads())
        assert first == second
        assert first["uid"] == "u-42"

    def test_a_receiver_without_this_library(self):
        """What need not be ours in a pickle is the standard library's, so that anybody reads it."""
        logger, records = collecting()
        with subject_context(user_id="before"):
            pass
        logger.info("no event")
        logger.info("one", extra={"snowplow": PAGE})
        for record in records:
            record.pathname = "shop.py"  # where these tests are may have the name in it
            assert b"snowplow_logging" not in pickle.dumps(record)
            assert vars(by_pickle(record)) == vars(by_queue(record))
        logger.info(PageView(page_url="https://shop.example.com/"))
        records[-1].pathname = "shop.py"
        sent = logging.handlers.SocketHandler("127.0.0.1", None).makePickle(records[-1])
        assert b"snowplow_logging" not in sent
        assert by_socket(records[-1]).getMessage() == records[-1].getMessage()

    def test_other_messages(self):
        """A message that has an answer to everything is no event, and passes untouched."""
        logger, records = collecting()
        PageView(page_url="https://shop.example.com/")
        message = Mock()
        logger.info(message)
        with tracking() as tracked:
            tracked.handler.handle(by_queue(records[0]))
            assert by_queue(records[0]).msg == str(message)
            assert (tracked.handler.stats.queued, tracked.handler.errors) == (0, [])


class Own(logging.LogRecord):
    """A record of a program's own."""


class TestRecordFactories:
    """A program's own record factory goes on being asked."""

    @staticmethod
    def marking(factory):
        """Return a factory that adds an attribute, as the logging cookbook shows it."""

        def mark(*args, **kwargs):
            record = factory(*args, **kwargs)
            record.request = "r-1"
            return record

        return mark

    @pytest.mark.parametrize("when", ["before", "after", "in place of ours"])
    def test_one_that_adds_to_records(self, tracked, when):
        """What it adds is there, and so is what is bound, behind a queue, too."""
        logger, records = collecting()
        if when == "before":
            logging.setLogRecordFactory(self.marking(logging.getLogRecordFactory()))
        with subject_context(user_id="u-1"):
            event = PageView(page_url="https://shop.example.com/")
            if when == "after":
                logging.setLogRecordFactory(self.marking(logging.getLogRecordFactory()))
            elif when == "in place of ours":
                logging.setLogRecordFactory(self.marking(logging.LogRecord))
                event = PageView(page_url="https://shop.example.com/")
            logger.info(event)
        (record,) = records
        for way in ("as it is", "queue", "pickle"):
            assert WAYS[way](record).request == "r-1"
            tracked.handler.handle(WAYS[way](record))
        assert [payload["uid"] for payload in tracked.payloads()] == ["u-1"] * 3

    def test_it_is_wrapped_once(self):
        """However often something is bound, the program's factory is wrapped once."""
        calls = []

        def counted(*args, **kwargs):
            calls.append(args)
            return logging.LogRecord(*args, **kwargs)

        logging.setLogRecordFactory(counted)
        with subject_context(user_id="u-1"):
            wrapped = logging.getLogRecordFactory()
        with subject_context(user_id="u-2"):
            assert logging.getLogRecordFactory() is wrapped
        collecting()[0].info("x")
        assert len(calls) == 1

    def test_a_class_of_its_own(self, tracked):
        """A record of its own class stays so, and its event keeps what was bound to it."""

        class Braces(logging.LogRecord):
            def getMessage(self):  # noqa: N802
                return self.msg.format(*self.args)

        logging.setLogRecordFactory(Braces)
        logger, records = collecting()
        with subject_context(user_id="u-1"):
            logger.info("{} of {}", 1, 2, extra={"snowplow": PAGE})  # noqa: PLE1205
            (record,) = records
            assert type(record) is Braces
            assert record.getMessage() == "1 of 2"
            tracked.handler.handle(record)
            record.process = os.getpid() + 1
            tracked.handler.handle(record)
        first, second = tracked.payloads()
        assert first["uid"] == second["uid"] == "u-1"

    @pytest.mark.parametrize("beside", [False, True])
    @pytest.mark.parametrize("way", WAYS)
    def test_an_event_that_is_the_message_of_one(self, tracked, way, beside):
        """It arrives by every way, with one id, beside another event too; others see its text."""
        logging.setLogRecordFactory(Own)
        logger, records = collecting()
        event = PageView(page_url="https://shop.example.com/", page_title="100%")
        logger.info(event, extra={"snowplow": PAGE} if beside else None)
        (record,) = records
        assert record.getMessage() == str(event)
        tracked.handler.handle(record)
        tracked.handler.handle(WAYS[way](record))
        payloads = tracked.payloads()
        assert len(payloads) == (4 if beside else 2)
        titled = [payload for payload in payloads if payload.get("page") == "100%"]
        assert len(titled) == 2
        assert len({payload["eid"] for payload in titled}) == 1
        assert len({payload["eid"] for payload in payloads}) == len(payloads) / 2


class TestEventIds:
    """An event has one id wherever its record is seen, and no other event has it."""

    @pytest.mark.parametrize("order", [*permutations(range(4))], ids=str)
    def test_every_handler_comes_to_the_same(self, order):
        """Handlers and formatters give a record's events the same ids, in any order."""
        ids = {name: [] for name in ("first", "second", "line", "queued")}
        logger = logging.Logger("shop")

        def noting(name):
            return lambda event: ids[name].append(event["event_id"])

        class Lines(logging.Handler):
            def emit(self, record):
                line = json.loads(self.format(record))
                ids["line"] += [event["event_id"] for event in line["snowplow"]]

        with (
            tracking(before_send=noting("first")) as first,
            tracking(before_send=noting("second")) as second,
            tracking(before_send=noting("queued")) as behind,
        ):
            waiting = queue.SimpleQueue()
            lines = Lines()
            lines.setFormatter(SnowplowJsonFormatter())
            queued = logging.handlers.QueueHandler(waiting)
            handlers = [first.handler, second.handler, lines, queued]
            logger.handlers = [handlers[index] for index in order]
            logger.info("x", extra={"snowplow": [PAGE, PAGE]})
            logger.info(EcommerceTransaction(**ORDER))
            while not waiting.empty():
                behind.handler.handle(waiting.get())
        assert len(set(ids["first"])) == 4
        assert ids["second"] == ids["line"] == ids["queued"] == ids["first"]

    def test_many_records(self):
        """Records that follow each other as fast as they can all differ, in several threads."""
        ids = []
        with tracking(before_send=lambda event: ids.append(event["event_id"])) as tracked:
            logger = tracked.logger
            begin = threading.Barrier(4)

            def log():
                begin.wait(60)
                for _ in range(5_000):
                    logger.info("x", extra={"snowplow": PAGE})

            with ThreadPoolExecutor(4) as pool:
                for future in [pool.submit(log) for _ in range(4)]:
                    future.result()
        assert len(set(ids)) == len(ids) == 20_000

    def test_within_one_tick(self):
        """Records of one moment differ by their thread, their process, and by their place in it."""
        ids = []
        with tracking(before_send=lambda event: ids.append(event["event_id"])) as tracked:
            for thread, process in ((1, 1), (2, 1), (1, 2), (-1, 1), (2**64 - 2, 1), (None, 1)):
                record = logging.makeLogRecord({"snowplow": [PAGE, PAGE], "created": 1.5})
                record.relativeCreated, record.thread, record.process = 0.5, thread, process
                tracked.handler.handle(record)
        assert len(set(ids)) == len(ids) == 12

    def test_its_own_id(self, tracked):
        """An event that names its id keeps it."""
        own = "0f8fad5b-d9cb-469f-a165-70867728950e"
        tracked.log([{**PAGE, "event_id": own}, PAGE])
        ids = [payload["eid"] for payload in tracked.payloads()]
        assert ids[0] == own != ids[1]


@contextmanager
def listening(*handlers):
    """Give a logger in front of a standard queue, whose listener has the handlers."""
    waiting = queue.SimpleQueue()
    logger = logging.Logger("shop", logging.DEBUG)
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    listener = logging.handlers.QueueListener(waiting, *handlers)
    listener.start()
    try:
        yield logger
    finally:
        listener.stop()


class TestInOneProcess:
    """Standard queues between threads and tasks of one process."""

    def test_a_listener_by_hand(self, tracked):
        """A handler is the target of a standard listener, and each thread has its own subject."""

        def log(logger, number):
            with subject_context(user_id=f"u-{number}"):
                logger.info(PageView(page_url=PAGE["page_url"], page_title=f"{number}"))

        with listening(tracked.handler) as logger, ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(log, logger, number) for number in range(40)]:
                future.result()
        assert users(tracked) == {f"{number}": f"u-{number}" for number in range(40)}

    def test_tasks(self, tracked):
        """Each asyncio task has its own subject behind the queue, and passes it on to its own."""

        async def log(logger, number):
            logger.info("x", extra={"snowplow": {**PAGE, "page_title": f"inner {number}"}})

        async def request(logger, number):
            with subject_context(user_id=f"u-{number}"):
                await asyncio.sleep(0)
                logger.info("x", extra={"snowplow": {**PAGE, "page_title": f"outer {number}"}})
                await asyncio.gather(log(logger, number), asyncio.to_thread(threaded, number))

        def threaded(number):
            logger.info("x", extra={"snowplow": {**PAGE, "page_title": f"thread {number}"}})

        async def main():
            await asyncio.gather(*(request(logger, number) for number in range(50)))

        with listening(tracked.handler) as logger:
            asyncio.run(main())
        assert users(tracked) == {
            f"{where} {number}": f"u-{number}"
            for where in ("inner", "outer", "thread")
            for number in range(50)
        }

    def test_a_memory_handler(self, tracked):
        """A `MemoryHandler` keeps the subject of the log call until it is flushed, and the time."""
        memory = logging.handlers.MemoryHandler(10, target=tracked.handler)
        logger = logging.Logger("shop")
        logger.addHandler(memory)
        with subject_context(user_id="logged"):
            logger.info("x", extra={"snowplow": {**PAGE, "page_title": "a dict"}})
            logger.info(PageView(page_url=PAGE["page_url"], page_title="an object"))
        assert tracked.handler.stats.queued == 0
        created = [str(int(record.created * 1000)) for record in memory.buffer]
        with subject_context(user_id="flushed"):
            memory.close()
        assert users(tracked) == {"a dict": "logged", "an object": "logged"}
        assert [payload["dtm"] for payload in tracked.payloads()] == created

    def test_other_handlers_of_the_listener(self, tracked):
        """Other handlers behind the queue show the record as they would without this one."""
        seen, records = collecting()
        with listening(tracked.handler, seen.handlers[0]) as logger:
            logger.info(PageView(page_url=PAGE["page_url"]))
            logger.warning("%s of %s", 1, 2)
        lines = [logging.Formatter("%(levelname)s %(message)s").format(r) for r in records]
        assert lines == [f"INFO page_view page_url={PAGE['page_url']}", "WARNING 1 of 2"]
        assert len(tracked.arrived()) == 1


class Receiver(socketserver.StreamRequestHandler):
    """The receiver of the logging cookbook."""

    def handle(self):
        """Handle the records of one connection."""
        while len(head := self.connection.recv(4)) == 4:
            length = struct.unpack(">L", head)[0]
            data = self.connection.recv(length)
            while len(data) < length:
                data += self.connection.recv(length - len(data))
            record = logging.makeLogRecord(pickle.loads(data))  # noqa: S301
            self.server.target.handle(record)


class TestSockets:
    """The receiver of the logging cookbook."""

    def test_events_arrive(self, collector):
        """Events arrive as they were logged; what was bound does only as an adapter binds it."""
        with (
            tracking(collector) as tracked,
            socketserver.ThreadingTCPServer(("127.0.0.1", 0), Receiver) as server,
        ):
            server.target = tracked.handler
            serving = threading.Thread(target=server.serve_forever, args=(0.01,))
            serving.start()
            sending = logging.handlers.SocketHandler(*server.server_address)
            logger = logging.Logger("shop")
            logger.addHandler(sending)
            shop = SnowplowAdapter(logger, subject={"user_id": "u-1"})
            with subject_context(user_id="bound"):
                logger.info("x", extra={"snowplow": {**PAGE, "page_title": "a dict"}})
                logger.info(PageView(page_url=PAGE["page_url"], page_title="an object"))
                shop.page_view(page_url=PAGE["page_url"], page_title="an adapter")
                shop.info(PageView(page_url=PAGE["page_url"], page_title="its message"))
            sending.close()
            assert collector.wait_for(4, 60)
            server.shutdown()
            serving.join()
            assert users(tracked) == {
                "a dict": None,
                "an object": None,
                "an adapter": "u-1",
                "its message": "u-1",
            }


PROCESSES = '''\
"""Child processes log through a queue to a listener in this one."""

import logging
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from logging.handlers import QueueHandler, QueueListener

from snowplow_logging import PageView, SnowplowHandler, subject_context


def attach(queue):
    root = logging.getLogger()
    root.handlers[:] = [QueueHandler(queue)]
    root.setLevel(logging.DEBUG)


def log(number):
    def page(title):
        url = f"https://shop.example.com/{time.time() * 1000}"
        return {"page_url": url, "page_title": f"{number} {title}"}

    logger = logging.getLogger("shop")
    logger.info("alone", extra={"snowplow": {"event": "page_view", **page("alone")}})
    with subject_context(user_id=f"child {number}"):
        logger.info("x", extra={"snowplow": {"event": "page_view", **page("dict")}})
        logger.info(PageView(**page("object")))
    try:
        1 / (number - number)
    except ZeroDivisionError:
        logger.exception("%s failed", number)


def work(queue, number):
    attach(queue)
    log(number)


def main(endpoint, method, pool):
    context = multiprocessing.get_context(method)
    queue = context.Manager().Queue() if pool else context.Queue()
    handler = SnowplowHandler(endpoint, capture_exceptions=True)
    with subject_context(user_id="parent"):
        listener = QueueListener(queue, handler)
        listener.start()
        if pool:
            with ProcessPoolExecutor(2, context, attach, (queue,)) as executor:
                list(executor.map(log, range(4)))
        else:
            processes = [context.Process(target=work, args=(queue, n)) for n in range(3)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
                assert process.exitcode == 0
        listener.stop()
    handler.close()
    assert handler.stats.invalid == 0


if __name__ == "__main__":
    main(*sys.argv[1:3], len(sys.argv) > 3)
'''


class TestProcesses:
    """Child processes behind a queue of `multiprocessing`."""

    @pytest.mark.parametrize("pool", [False, True], ids=["processes", "pool"])
    @pytest.mark.parametrize("method", ["fork", *seldom("spawn")])
    def test_children(self, collector, tmp_path, method, pool):
        """Each child's events arrive with the time and the subject that they had in the child."""
        program = tmp_path / "program.py"
        program.write_text(PROCESSES, encoding="utf-8")
        run(program, collector.endpoint, method, *(["pool"] if pool else []))
        assert collector.bad == []
        payloads = [event["rawEvent"]["parameters"] for event in collector.good]
        assert len({payload["eid"] for payload in payloads}) == len(payloads)
        errors = [payload for payload in payloads if payload["e"] == "ue"]
        pages = {payload["page"]: payload for payload in payloads if payload["e"] == "pv"}
        numbers = range(4 if pool else 3)
        # A fork begins with what was bound around it; a process that is spawned, with nothing.
        outer = "parent" if method == "fork" else None
        assert {page: payload.get("uid") for page, payload in pages.items()} == {
            f"{number} {what}": outer if what == "alone" else f"child {number}"
            for number in numbers
            for what in ("alone", "dict", "object")
        }
        for number in numbers:
            times = []
            for what in ("alone", "dict", "object"):
                page = pages[f"{number} {what}"]
                times += [int(float(page["url"].rpartition("/")[2])), int(page["dtm"])]
            assert times == sorted(times)
        # What a child captures, its parent's handler has to have told it.
        assert len(errors) == (len(numbers) if method == "fork" else 0)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="dictConfig knows queues from 3.12 on")
    def test_a_listener_by_dict_config(self, collector, tmp_path):
        """A queue and its listener that `dictConfig` makes have the handler as their target."""
        program = tmp_path / "program.py"
        program.write_text(CONFIGURED, encoding="utf-8")
        run(program, collector.endpoint)
        assert collector.bad == []
        payloads = [event["rawEvent"]["parameters"] for event in collector.good]
        assert [(payload["e"], payload["uid"]) for payload in payloads] == [
            ("pv", "u-1"),
            ("pv", "u-2"),
            ("ue", "u-2"),
        ]


CONFIGURED = '''\
"""A queue and its listener, made by dictConfig."""

import logging.config
import sys

from snowplow_logging import PageView, subject_context

logging.config.dictConfig(
    {
        "version": 1,
        "handlers": {
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": sys.argv[1],
                "capture_exceptions": "ERROR",
            },
            "queue": {
                "class": "logging.handlers.QueueHandler",
                "handlers": ["snowplow"],
                "respect_handler_level": True,
            },
        },
        "root": {"level": "DEBUG", "handlers": ["queue"]},
    }
)
listener = logging.getHandlerByName("queue").listener
listener.start()
logger = logging.getLogger("shop")
page = {"event": "page_view", "page_url": "https://shop.example.com/"}
with subject_context(user_id="u-1"):
    logger.info("x", extra={"snowplow": page})
with subject_context(user_id="u-2"):
    logger.info(PageView(page_url="https://shop.example.com/"))
    logger.debug("x", exc_info=LookupError())
    logger.error("x", exc_info=LookupError())
listener.stop()
'''


def run(*arguments):
    """Run a program to its end, which has to be a good one."""
    command = [sys.executable, "-X", "dev", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
