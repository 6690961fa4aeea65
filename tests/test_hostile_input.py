"""Nothing that a caller can put into an event makes the log call raise."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from event_dicts import deep, form, own, page, struct, submit, without
from helpers import ANYTHING, entity, tracking
from snowplow_logging import InvalidEvent, SnowplowAdapter
from snowplow_logging.events import EVENTS


class Grumpy:
    """An object whose every method raises."""

    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __len__ = __iter__ = __bool__ = __int__ = __float__ = __repr__
    __hash__ = __repr__

    def __eq__(self, other):
        raise RuntimeError("no comparison")


class GrumpyDict(dict):
    """A dict that cannot be read."""

    def items(self):
        """Raise."""
        raise RuntimeError("no items")

    keys = values = __iter__ = __len__ = __bool__ = items

    def get(self, *args):
        """Raise."""
        raise RuntimeError("no get")

    __getitem__ = get


class GrumpyMapping(Mapping):
    """A mapping that cannot be read."""

    def __getitem__(self, key):
        raise RuntimeError("no items")

    def __iter__(self):
        raise RuntimeError("no iteration")

    def __len__(self):
        raise RuntimeError("no length")


class GrumpyList(list):
    """A list that cannot be iterated."""

    def __iter__(self):
        raise RuntimeError("no iteration")

    __len__ = __iter__


class GrumpyText(str):
    """A string with methods of its own."""

    __slots__ = ()

    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __format__ = encode = isascii = lower = __str__


class GrumpyInt(int):
    """An int with methods of its own."""

    def __int__(self):
        raise RuntimeError("no int")

    __repr__ = __str__ = __index__ = __int__


class GrumpyClass:
    """An object that lies about its class, or fails to."""

    @property
    def __class__(self):
        raise RuntimeError("no class")


class GrumpyError(Exception):
    """An error that cannot be shown."""

    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


class ErrorDict(dict):
    """A dict that raises an error which cannot be shown."""

    def items(self):
        """Raise."""
        raise GrumpyError

    get = items


def circular() -> dict[str, Any]:
    """Return a dict that holds itself."""
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


def endless_list() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


HOSTILE = {
    "circular dict": circular,
    "circular list": endless_list,
    "very deep": lambda: deep(10_000, list),
    "lone surrogate": lambda: "\udc80",
    "generator": lambda: (n for n in range(3)),
    "raising object": Grumpy,
    "raising dict": lambda: GrumpyDict(event="page_view", a=1),
    "raising mapping": GrumpyMapping,
    "raising list": lambda: GrumpyList([1]),
    "raising text": lambda: GrumpyText("text"),
    "raising int": lambda: GrumpyInt(5),
    "raising class": GrumpyClass,
    "raising error": lambda: ErrorDict(event="page_view"),
    "not a number": lambda: math.nan,
    "huge int": lambda: 10**10_000,
    "bytes": lambda: b"\xff" * 1_000,
    "a class": lambda: dict,
    "a function": lambda: len,
    "a module": lambda: math,
    "a lock": threading.Lock,
    "an exception": lambda: GrumpyError(1),
    "many characters": lambda: "ä" * 200_000,
    "five megabytes": lambda: "ä" * 5_000_000,
    "a thousand items": lambda: list(range(1_000)),
    "dict of odd keys": lambda: {(): 1, None: 2, 1.5: 3, b"": 4},
    "keys of megabytes": lambda: {"\ud83d" * 1_000_000: 1, "page_url": 2},
}
PLACES = {
    "event": lambda value: value,
    "list": lambda value: [value, page()],
    "name": lambda value: {"event": value},
    "text": lambda value: struct(label=value),
    "url": lambda value: page(page_url=value),
    "number": lambda value: struct(value=value),
    "whole number": lambda value: {**page(min_x=value), "event": "page_ping"},
    "choice": lambda value: form(node_name=value),
    "texts": lambda value: {"event": "site_search", "terms": value},
    "a text": lambda value: {"event": "site_search", "terms": ["t", value]},
    "filters": lambda value: {"event": "site_search", "terms": ["t"], "filters": value},
    "a filter": lambda value: {"event": "site_search", "terms": ["t"], "filters": {"a": value}},
    "elements": lambda value: {"event": "form_submit", "form_id": "f", "elements": value},
    "an element": lambda value: submit(value=value),
    "items": lambda value: {
        "event": "ecommerce_transaction",
        "order_id": "o",
        "total_value": 1,
        "items": value,
    },
    "an item": lambda value: {
        "event": "ecommerce_transaction",
        "order_id": "o",
        "total_value": 1,
        "items": [value],
    },
    "schema": lambda value: own({}, value),
    "data": own,
    "deep in data": lambda value: own({"a": [{"b": value}]}),
    "context": lambda value: page(context=value),
    "an entity": lambda value: page(context=[value]),
    "an entity's data": lambda value: page(context=[{"schema": ANYTHING, "data": value}]),
    "subject": lambda value: page(subject=value),
    "a subject's field": lambda value: page(subject={"user_id": value}),
    "a subject's size": lambda value: page(subject={"viewport": (1, value)}),
    "time": lambda value: page(true_timestamp=value),
    "event id": lambda value: page(event_id=value),
    "unknown key": lambda value: page(xyzzy=value),
}


each = pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[pytest.mark.exhaustive] if what == "five megabytes" else [])
        for what in HOSTILE
    ],
)


class TestHostileInput:
    """Nothing that a caller can put into an event makes the log call raise."""

    @each
    def test_the_log_call_goes_on(self, collector, tmp_path, what):
        """Everywhere in an event anything is refused or sent well, and all of it is counted."""
        letters = tmp_path / "letters"
        ways = ({}, {"before_send": lambda event: event, "dead_letter": letters})
        for way in ways:
            collector.reset()
            with tracking(collector, **way) as tracked:
                for place in PLACES.values():
                    tracked.log(place(HOSTILE[what]()))
                good = len(tracked.arrived())
                stats = tracked.handler.stats
            assert stats.sent == good > 0  # at least the page view in the list
            errors = tracked.handler.errors
            assert stats.invalid == len(errors)
            assert stats.invalid + stats.sent >= len(PLACES)
            for problem in errors:
                assert isinstance(problem, InvalidEvent)
                assert problem.event
                assert problem.key
                assert len(str(problem)) < 2_000
                str(problem).encode()

    @each
    def test_through_an_adapter(self, collector, what):
        """The same is true of an adapter that has something to add to the event."""
        with tracking(collector) as tracked:
            shop = SnowplowAdapter(tracked.logger, subject={"user_id": "u"}, context=[entity()])
            for place in PLACES.values():
                event = place(HOSTILE[what]())
                shop.info("x", extra={"snowplow": event})
                shop.info("x", extra={"snowplow": [event]})
                name = event.get("event") if type(event) is dict else None
                if type(name) is str and name in EVENTS:
                    getattr(shop, name)(**without(event, "event"))
            tracked.arrived()
            stats = tracked.handler.stats
        assert stats.invalid == len(tracked.handler.errors)
        assert stats.invalid + stats.sent >= len(PLACES)

    def test_reported_whatever_it_is(self, collector):
        """`on_failure` gets as much of a bad event as JSON can hold, whatever it is made of."""
        failures = []
        with tracking(collector, on_failure=lambda *failure: failures.append(failure)) as tracked:
            for make in HOSTILE.values():
                tracked.log({"event": "page_view", "value": make()})
            assert tracked.handler.flush(30)
        assert len(failures) == len(HOSTILE)
        for (event,), reason in failures:
            assert event["event"] == "page_view"
            assert "value" in reason
            json.dumps(event, allow_nan=False).encode()

    def test_takes_no_time(self, refusing):
        """Megabytes in the wrong place are refused in no time."""
        text = "ä" * 5_000_000
        start = time.perf_counter()
        for event in (
            {"event": text},
            page(**{text: 1}),
            form(node_name=text),
            page(event_id=text),
        ):
            refusing.log(event)
        assert time.perf_counter() - start < 20
        assert len(refusing.handler.errors) == 4


class Schema(str, Enum):
    """Schemas as a program may name them: text that is not its own value."""

    ANY = ANYTHING, "any"

    def __new__(cls, text, value):
        """Keep both."""
        member = str.__new__(cls, text)
        member._value_ = value
        return member


@pytest.mark.parametrize(
    ("entity", "key"),
    [
        ({"schema": ANYTHING, "data": {1: "a", "1": "b"}}, "context[0].data"),
        ({"schema": Schema.ANY, "data": {"a": 1}}, "context[0].schema"),
    ],
)
def test_an_entity_that_two_writers_would_write_in_two_ways(entity, key):
    """It is refused, with and without orjson, and the first time as the second."""
    with tracking() as tracked:
        tracked.log(page(context=[entity]))
        tracked.log(page(context=[entity]))
        assert [error.key for error in tracked.handler.errors] == [key] * 2


LONG_TEXTS = r"""
import sys

sys.path.insert(0, sys.argv[1])
from event_examples import BY_NAME, as_dict
from helpers import tracking

UNITS = ("1", "a", ".", "/", "%", "1.", "a-", ": ", '\\".".', "[", "é", " ")
with tracking() as tracked:
    for name in BY_NAME:
        event = as_dict(BY_NAME[name])
        for key in event.keys() - {"event"}:
            for unit in UNITS:
                for start in ("", "https://"):
                    tracked.log({**event, key: start + unit * (100_000 // len(unit)) + "\0"})
"""


def test_no_text_takes_longer_than_its_length():
    """A log call with a text of any form ends in moments; to try all its parts takes hours."""
    tests = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", LONG_TEXTS, tests], check=True, timeout=110, capture_output=True
    )
