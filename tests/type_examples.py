"""What Python programs hold beside JSON's own types, and what has to arrive of it."""

from __future__ import annotations

import collections
import dataclasses
import enum
import ipaddress
import json
import logging
import pickle
import sys
import types
from collections import OrderedDict, UserDict, UserList, UserString, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

from helpers import ANYTHING
from snowplow_logging.testing import capture_events

try:
    import attrs
    import msgspec
    import numpy as np
    import pydantic
except ImportError:
    attrs = msgspec = np = pydantic = None  # type: ignore[assignment]

__all__ = ["OBJECTS", "VALUES", "Basket", "Item", "Plan", "answer", "event_with", "written"]

AN_ID = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
WHEN = datetime(2026, 11, 25, 18, 0, 0, 123456, tzinfo=timezone.utc)
EAST = timezone(timedelta(hours=5, minutes=30))
ODD = timezone(timedelta(minutes=19, seconds=32))


class Plan(enum.Enum):
    """An enum whose members are no JSON by themselves."""

    GOLD = "gold"
    SINCE = WHEN
    PAIR = (1, "a")


class Size(str, enum.Enum):
    """An enum of strings."""

    LARGE = "large"


class Rank(enum.IntEnum):
    """An enum of numbers."""

    FIRST = 1


class Access(enum.Flag):
    """Flags."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float


class Word(str):
    """A string of a class of its own."""

    __slots__ = ()


class Whole(int):
    """A number of a class of its own."""


class First(dict):  # type: ignore[type-arg]
    """A dict that shows the first of its values, as those of HTTP libraries do."""

    def items(self) -> Any:
        """Return each key with its first value."""
        return [(key, value[0]) for key, value in super().items()]


@dataclasses.dataclass
class Item:
    """A dataclass."""

    sku: str
    price: Decimal
    when: datetime | None = None
    _note: str = "n"


@dataclasses.dataclass(frozen=True)
class Basket:
    """A dataclass with slots, which holds others."""

    __slots__ = ("items", "plan")

    items: tuple[Item, ...]
    plan: Plan


VALUES: dict[str, tuple[Any, Any]] = {
    "datetime": (WHEN, "2026-11-25T18:00:00.123456+00:00"),
    "datetime with an offset": (WHEN.astimezone(EAST), "2026-11-25T23:30:00.123456+05:30"),
    "datetime with seconds in its offset": (
        datetime(1930, 1, 1, tzinfo=ODD),
        "1929-12-31T23:40:28+00:00",
    ),
    "datetime of an early year": (
        datetime(99, 1, 1, tzinfo=timezone.utc),
        "0099-01-01T00:00:00+00:00",
    ),
    "date": (date(2026, 11, 25), "2026-11-25"),
    "time": (time(18, 0), "18:00:00"),
    "aware time": (time(18, 0, tzinfo=EAST), "18:00:00+05:30"),
    "UUID": (AN_ID, str(AN_ID)),
    "pure path": (PurePosixPath("/a/b"), "/a/b"),
    "path": (Path("a"), "a"),
    "address": (ipaddress.ip_address("198.51.100.7"), "198.51.100.7"),
    "network": (ipaddress.ip_network("2001:db8::/32"), "2001:db8::/32"),
    "user string": (UserString("text"), "text"),
    "string of its own class": (Word("text"), "text"),
    "int of its own class": (Whole(5), 5),
    "enum": (Plan.GOLD, "gold"),
    "enum of a time": (Plan.SINCE, "2026-11-25T18:00:00.123456+00:00"),
    "enum of a tuple": (Plan.PAIR, [1, "a"]),
    "enum of strings": (Size.LARGE, "large"),
    "enum of numbers": (Rank.FIRST, 1),
    "flags": (Access.READ | Access.WRITE, 3),
    "decimal": (Decimal("9.90"), Decimal("9.90")),
    "decimal of many digits": (
        Decimal("0.12345678901234567890123"),
        Decimal("0.12345678901234567890123"),
    ),
    "large decimal": (Decimal("1E+30"), Decimal("1E+30")),
    "int of more than 64 bits": (2**70, 2**70),
    "negative int of more than 64 bits": (-(2**70), -(2**70)),
    "tuple": ((1, (2,)), [1, [2]]),
    "named tuple": (Point(1, 2.5), [1, Decimal("2.5")]),
    "deque": (deque([1, 2]), [1, 2]),
    "range": (range(3), [0, 1, 2]),
    "user list": (UserList([1]), [1]),
    "user dict": (UserDict(a=WHEN), {"a": "2026-11-25T18:00:00.123456+00:00"}),
    "ordered dict": (OrderedDict(a=1), {"a": 1}),
    "default dict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "mapping": (types.MappingProxyType({"a": Rank.FIRST}), {"a": 1}),
    "dict with items of its own": (First(a=[1, 2]), {"a": 1}),
    "keys that are no strings": (
        {1: 1, 2.5: 2, False: 3, None: 4, AN_ID: 5, Plan.GOLD: 6, date(2026, 1, 1): 7},
        {"1": 1, "2.5": 2, "false": 3, "null": 4, str(AN_ID): 5, "gold": 6, "2026-01-01": 7},
    ),
}
"""Values by what they are, each with what its JSON is read as."""

OBJECTS: dict[str, tuple[Any, Any]] = {
    "dataclass": (
        Item("s1", Decimal("9.90"), WHEN),
        {
            "sku": "s1",
            "price": Decimal("9.90"),
            "when": "2026-11-25T18:00:00.123456+00:00",
            "_note": "n",
        },
    ),
    "nested dataclass": (
        Basket((Item("s1", Decimal(1)),), Plan.GOLD),
        {
            "items": [{"sku": "s1", "price": 1, "when": None, "_note": "n"}],
            "plan": "gold",
        },
    ),
}
"""Objects that are also taken as data whole, each with what its JSON is read as."""

if pydantic is not None:

    class Money(pydantic.BaseModel):
        """A model of pydantic, with an alias that its JSON does not use."""

        model_config = pydantic.ConfigDict(populate_by_name=True)

        amount: Decimal = pydantic.Field(alias="theAmount")
        currency: str = "EUR"
        at: datetime | None = None

    class Order(pydantic.BaseModel):
        """A model of pydantic that holds others."""

        order_id: UUID
        total: Money
        tags: frozenset[str] = frozenset()

    @attrs.define
    class Visit:
        """A class of attrs."""

        page: Path
        at: datetime
        rank: Rank = Rank.FIRST

    class Stay(msgspec.Struct, rename="camel", tag="stay"):  # type: ignore[call-arg]
        """A struct of msgspec, with other names in JSON."""

        first_seen: datetime
        price: Decimal

    class Odd(msgspec.Struct):
        """A struct of msgspec that holds what msgspec does not know."""

        item: Item
        number: Any

    money = Money(amount=Decimal("9.90"), at=WHEN)
    OBJECTS |= {
        "pydantic": (money, json.loads(money.model_dump_json())),
        "nested pydantic": (
            Order(order_id=AN_ID, total=money, tags=frozenset({"a"})),
            {
                "order_id": str(AN_ID),
                "total": json.loads(money.model_dump_json()),
                "tags": ["a"],
            },
        ),
        "attrs": (
            Visit(Path("a"), WHEN),
            {"page": "a", "at": "2026-11-25T18:00:00.123456+00:00", "rank": 1},
        ),
        "msgspec": (
            Stay(WHEN, Decimal("9.90")),
            json.loads(msgspec.json.encode(Stay(WHEN, Decimal("9.90")))),
        ),
        "msgspec with what it does not know": (
            Odd(Item("s", Decimal(1)), np.int64(5)),
            {"item": {"sku": "s", "price": "1", "when": None, "_note": "n"}, "number": 5},
        ),
    }
    VALUES |= {
        "numpy float": (np.float64(1.5), Decimal("1.5")),
        "short numpy float": (np.float32(0.5), Decimal("0.5")),
        "numpy int": (np.int64(-5), -5),
        "unsigned numpy int": (np.uint64(2**64 - 1), 2**64 - 1),
        "numpy bool": (np.bool_(True), True),
        "numpy str": (np.str_("a"), "a"),
        "numpy date": (np.datetime64("2026-11-25"), "2026-11-25"),
        "numpy array": (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        "numpy array without dimensions": (np.array(5), 5),
        "URL of pydantic": (pydantic.AnyUrl("https://a.example/x"), "https://a.example/x"),
    }


def event_with(place: str, value: Any) -> dict[str, Any]:
    """Return an event that holds a value at a place."""
    if place == "data":
        data = {"value": value}
    elif place == "nested":
        data = {"a": [{"b": None}, ({"value": value},)]}
    elif place == "whole":
        data = value
    else:
        entity = {"schema": ANYTHING, "data": {"value": value}}
        return {"event": "page_view", "page_url": "https://a.example/", "context": [entity]}
    return {"event": "self_describing_event", "schema": ANYTHING, "data": data}


def written(*events: Any, **settings: Any) -> list[str]:
    """Return the JSON that is sent of events, or why they are refused."""
    from snowplow_logging import SnowplowHandler

    logger = logging.Logger("shop")
    logger.manager = logging.Manager(logger)  # type: ignore[arg-type]
    handler = SnowplowHandler("http://localhost", encode_base64=False, **settings)
    logger.addHandler(handler)
    made = []
    with capture_events() as captured:
        for event in events:
            logger.info("", extra={"snowplow": event})
            sent = [one.payload.get("ue_pr") or one.payload["co"] for one in captured]
            made += sent or [str(refused.error) for refused in captured.invalid]
            captured.clear()
    handler.close()
    return made


def answer() -> None:
    """Answer pickled events on standard input with what is written of them."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            asked = pickle.load(source)  # noqa: S301 - from the test
        except EOFError:
            return
        pickle.dump(written(*asked), target)
        target.flush()
