"""The subject of an event: what is more specific wins, and nobody gets another's."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import ANYTHING, entity, tracking
from snowplow_logging import (
    PageView,
    SelfDescribingJson,
    SnowplowAdapter,
    Subject,
    subject_context,
)
from snowplow_logging.subject import SUBJECT_KEYS

pytestmark = pytest.mark.every_python

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}


def levels(tracked):
    """Return the levels of entities that arrived with the one event."""
    (arrived,) = tracked.arrived()
    return [entity["data"]["level"] for entity in arrived["event"]["contexts"]["data"]]


class TestMerging:
    """Event before adapter before request before handler, field by field."""

    FIELDS = ("user_id", "domain_user_id", "network_user_id", "language", "timezone")
    NAMES = ("uid", "duid", "tnuid", "lang", "tz")

    def test_the_more_specific_field_wins(self, collector):
        """Each level overrides the fields that it has, and the others shine through."""
        handler, request, adapter, event = (
            dict.fromkeys(self.FIELDS[:count], level)
            for count, level in ((5, "handler"), (3, "request"), (2, "adapter"), (1, "event"))
        )
        with tracking(collector, subject={**handler, "platform": "app"}) as tracked:
            shop = SnowplowAdapter(tracked.logger, subject=adapter)
            with subject_context(**request):
                shop.page_view(page_url=PAGE["page_url"], subject=event)
            (sent,) = tracked.payloads()
        won = [sent[name] for name in self.NAMES]
        assert won == ["event", "adapter", "request", "handler", "handler"]
        assert sent["p"] == "app"

    def test_before_send_sees_the_same(self, collector):
        """The same order holds where `before_send` is shown the whole subject."""
        seen = []
        settings = {"subject": {"user_id": "handler", "language": "de", "timezone": "UTC"}}
        with tracking(
            collector, before_send=lambda event: seen.append(event) or event, **settings
        ) as tracked:
            shop = SnowplowAdapter(tracked.logger, subject={"user_id": "adapter"})
            with subject_context(user_id="request", language="en", context=[entity(level=2)]):
                shop.info("x", extra={"snowplow": {**PAGE, "context": [entity(level=1)]}})
            (sent,) = tracked.payloads()
        assert (sent["uid"], sent["lang"], sent["tz"]) == ("adapter", "en", "UTC")
        (event,) = seen
        assert event["subject"] == {"user_id": "adapter", "language": "en", "timezone": "UTC"}
        assert event["context"] == [entity(level=1), entity(level=2)]

    def test_none_overrides_nothing(self, collector):
        """A field of None is one that is not given, at every level."""
        nothing = dict.fromkeys(SUBJECT_KEYS)
        with tracking(collector, subject={**nothing, "user_id": "u"}) as tracked:
            shop = SnowplowAdapter(tracked.logger, subject=nothing)
            with subject_context(**nothing):
                shop.page_view(page_url=PAGE["page_url"], subject=nothing)
            assert tracked.payloads()[0]["uid"] == "u"

    def test_entities_add_up(self, collector):
        """Entities come in the same order, from the event's own to the handler's."""
        handler = [entity(level="handler"), lambda record: entity(level=record.levelname)]
        with tracking(collector, context=handler) as tracked:
            shop = SnowplowAdapter(tracked.logger, context=[entity(level="adapter")])
            inner = shop.bind(context=[entity(level="bound")])
            with (
                subject_context(context=[entity(level="outer")]),
                subject_context(context=[entity(level="inner")]),
            ):
                inner.page_view(page_url=PAGE["page_url"], context=[entity(level="event")])
            assert levels(tracked) == [
                *("event", "bound", "adapter", "inner", "outer", "handler", "INFO")
            ]

    def test_of_every_event_of_a_record(self, tracked):
        """All events of a record get the subject, whatever their form."""
        shop = SnowplowAdapter(tracked.logger, subject={"user_id": "u"})
        shop.info(
            PageView(page_url="https://a.example/"),
            extra={"snowplow": [PAGE, PageView(page_url="https://b.example/")]},
        )
        assert [sent["uid"] for sent in tracked.payloads()] == ["u"] * 3


class TestSubjectContext:
    """`subject_context` binds a subject to what is logged inside it."""

    def test_begins_and_ends(self, tracked):
        """It holds inside, nested ones add up, and an exception ends it as well."""

        def fail():
            with subject_context(user_id="inner", ip_address="198.51.100.7"):
                tracked.log(PAGE)
                raise KeyError

        with subject_context(user_id="outer", language="de"):
            with pytest.raises(KeyError):
                fail()
            tracked.log(PAGE)
        tracked.log(PAGE)
        sent = [
            tuple(payload.get(name) for name in ("uid", "ip", "lang"))
            for payload in tracked.payloads()
        ]
        assert sent == [("inner", "198.51.100.7", "de"), ("outer", None, "de"), (None, None, None)]

    def test_a_function_is_decorated(self, tracked):
        """Each of its calls is inside, whether it is called once or within itself."""

        @subject_context(user_id="u-42")
        def work(times):
            """Work."""
            tracked.log(PAGE)
            return times and work(times - 1)

        assert work(1) == 0
        assert work.__doc__ == "Work."
        tracked.log(PAGE)
        assert [event.get("uid") for event in tracked.payloads()] == ["u-42", "u-42", None]

    def test_a_coroutine_function_is_decorated(self, tracked):
        """What it does once it is awaited is inside, and not what others do meanwhile."""

        @subject_context(user_id="u-42")
        async def work(first, second):
            tracked.log(PAGE)
            first.set()
            await second.wait()
            tracked.log(PAGE)

        async def main():
            first, second = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(work(first, second))
            await first.wait()
            tracked.log(PAGE)
            second.set()
            await task

        asyncio.run(main())
        assert [event.get("uid") for event in tracked.payloads()] == ["u-42", None, "u-42"]

    def test_is_read_at_the_log_call(self, collector):
        """An event that is sent later, from another thread, has the subject of its log call."""
        with tracking(collector, flush_interval=600) as tracked:
            with subject_context(user_id="u-1"):
                tracked.log(PAGE)
            with subject_context(user_id="u-2"):
                assert [sent["uid"] for sent in tracked.payloads()] == ["u-1"]

    def test_a_new_thread_starts_without(self, tracked):
        """A thread has what is bound in itself, and none of what its starter had bound."""
        with subject_context(user_id="u"):
            thread = threading.Thread(target=tracked.log, args=(PAGE,))
            thread.start()
            thread.join()
            copied = threading.Thread(
                target=contextvars.copy_context().run, args=(tracked.log, PAGE)
            )
            copied.start()
            copied.join()
        assert [sent.get("uid") for sent in tracked.payloads()] == [None, "u"]

    def test_a_bad_field_shows_at_the_log_call(self, refusing):
        """A value that Snowplow would refuse costs each event its sending, never the block."""
        with subject_context(user_id=1.5):
            refusing.log(PAGE)
        with subject_context(context=[{"schema": "nonsense", "data": {}}]):
            refusing.log(PAGE)
        keys = [error.key for error in refusing.handler.errors]
        assert keys == ["subject.user_id", "context[0].schema"]

    def test_an_unknown_field(self, refusing):
        """A field that there is not is named at the log call, with the nearest that there is."""
        with subject_context(userid="u"):
            refusing.log(PAGE)
        (error,) = refusing.handler.errors
        assert (error.key, error.expected) == ("subject.userid", "'user_id'")

    def test_entities_of_anything_that_gives_them(self, tracked):
        """A generator is asked once, where they are bound, and not by each event."""
        with subject_context(context=(entity(level=level) for level in (1, 2))):
            tracked.log([PAGE, PAGE])
        for event in tracked.arrived():
            assert event["event"]["contexts"]["data"] == [entity(level=1), entity(level=2)]

    @pytest.mark.parametrize(
        ("context", "what"),
        [
            (entity(plan="gold"), "a dict"),
            (SelfDescribingJson(ANYTHING, {}), "a SelfDescribingJson"),
            ("gold", "'gold'"),
            (5, "5"),
        ],
        ids=["dict", "object", "text", "number"],
    )
    def test_entities_that_are_no_list(self, tracked, context, what):
        """They are refused where they are bound, in the words that an event's own get."""
        message = re.escape(f"context is {what}; give a list of entities")
        with pytest.raises(TypeError, match=f"^{message}$"):
            subject_context(context=context).__enter__()
        tracked.log(PAGE)
        (arrived,) = tracked.arrived()
        assert not arrived["event"].get("contexts")

    @pytest.mark.parametrize(
        "context", [None, (), [], (entity(level=1),)], ids=["none", "no-tuple", "no-list", "tuple"]
    )
    def test_entities_of_any_number(self, tracked, context):
        """A tuple will do, and so will none."""
        with subject_context(user_id="u", context=context):
            tracked.log(PAGE)
        (arrived,) = tracked.arrived()
        contexts = arrived["event"].get("contexts") or {"data": []}
        assert contexts["data"] == [*(context or ())]


class TestEachHasItsOwn:
    """However many log at once, every event has the subject of those who logged it."""

    COUNT = 6

    def test_threads(self, tracked):
        """Twenty threads on one adapter and one handler, each with its own subject."""
        barrier = threading.Barrier(20)
        shop = SnowplowAdapter(tracked.logger, subject={"language": "de"})

        def serve(number):
            barrier.wait(30)
            for index in range(self.COUNT):
                with subject_context(
                    user_id=f"u-{number}",
                    ip_address=f"198.51.100.{number}",
                    context=[entity(user=number)],
                ):
                    bound = shop.bind(subject={"domain_user_id": f"d-{number}"})
                    bound.page_view(page_url=f"https://a.example/{number}/{index}")

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(serve, range(20)))
        self.check(tracked, 20)

    def test_tasks(self, tracked):
        """A hundred tasks of one event loop, each with its own subject, and their subtasks."""
        shop = SnowplowAdapter(tracked.logger, subject={"language": "de"})

        async def log(number, index):
            await asyncio.sleep(0)
            bound = shop.bind(subject={"domain_user_id": f"d-{number}"})
            bound.page_view(page_url=f"https://a.example/{number}/{index}")

        async def serve(number):
            with subject_context(
                user_id=f"u-{number}",
                ip_address=f"198.51.100.{number}",
                context=[entity(user=number)],
            ):
                for index in range(self.COUNT // 2):
                    await log(number, index)
                await asyncio.gather(
                    *(
                        asyncio.create_task(log(number, i))
                        for i in range(self.COUNT // 2, self.COUNT)
                    )
                )

        async def main():
            await asyncio.gather(*map(serve, range(100)))

        asyncio.run(main())
        self.check(tracked, 100)

    def check(self, tracked, users):
        """See that each event has the subject that its URL names, and that none is missing."""
        arrived = tracked.arrived()
        assert len({event["event"]["page_url"] for event in arrived}) == users * self.COUNT
        assert len(arrived) == users * self.COUNT
        for event in arrived:
            sent = event["rawEvent"]["parameters"]
            number = sent["url"].split("/")[3]
            assert (sent["uid"], sent["duid"]) == (f"u-{number}", f"d-{number}")
            assert (sent["ip"], sent["lang"]) == (f"198.51.100.{number}", "de")
            assert event["event"]["contexts"]["data"] == [entity(user=int(number))]


def test_a_subject_is_a_dict():
    """A `Subject` is a plain dict with the fields of the documentation."""
    assert Subject(user_id="u", viewport=(1, 2)) == {"user_id": "u", "viewport": (1, 2)}
    assert list(SUBJECT_KEYS) == [
        *("platform", "user_id", "domain_user_id", "domain_session_id", "domain_session_index"),
        *("network_user_id", "ip_address", "useragent", "language", "timezone", "color_depth"),
        *("screen_resolution", "viewport"),
    ]


def test_records_of_other_factories(collector):
    """A record factory of the program's own goes on making its records, and subjects arrive."""
    calls = []

    def factory(*args, **kwargs):
        record = logging.LogRecord(*args, **kwargs)
        record.request_id = len(calls)
        calls.append(record)
        return record

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        with tracking(collector) as tracked, subject_context(user_id="u"):
            seen = []
            tracked.handler.addFilter(lambda record: seen.append(record) or True)
            tracked.log(PAGE)
            tracked.logger.info(PageView(page_url="https://a.example/"))
            assert [sent["uid"] for sent in tracked.payloads()] == ["u", "u"]
    finally:
        logging.setLogRecordFactory(before)
    assert [record.request_id for record in seen] == [0, 1]
