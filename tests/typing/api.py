"""The documented examples as a type checker sees them; `mypy --strict` reads this, nobody runs it.

A comment `type: ignore` marks what has to be an error, and mypy reports one that is not needed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from uuid import UUID

import requests

from snowplow_logging import (
    AddToCart,
    ApplicationError,
    EcommerceTransaction,
    EcommerceTransactionItem,
    Event,
    FormChange,
    FormSubmit,
    InvalidEvent,
    LinkClick,
    LocalCollector,
    PagePing,
    PageView,
    RemoveFromCart,
    ScreenView,
    SelfDescribing,
    SelfDescribingJson,
    SiteSearch,
    SnowplowAdapter,
    SnowplowHandler,
    SnowplowJsonFormatter,
    StructuredEvent,
    Subject,
    carry,
    flushing,
    subject_context,
)

logger = logging.getLogger("shop")
plan = SelfDescribingJson("iglu:com.acme/plan/jsonschema/1-0-0", {"name": "gold"})
subject = Subject(user_id="u-42", viewport=(1024, 768))
an_id = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


def events() -> list[Event]:
    """Make an event of each class."""
    PageView(page_url="https://a.example/", context=[plan, {"schema": "iglu:…", "data": {}}])
    PageView(page_url="https://a.example/", subject={"user_id": "u-42"}, true_timestamp=1.5)
    PageView(page_url="https://a.example/", true_timestamp=datetime.now(timezone.utc))
    return [
        PageView(page_url="https://a.example/", subject=subject, event_id=an_id),
        PagePing(page_url="https://a.example/", min_x=0, max_x=100),
        EcommerceTransaction(
            order_id=5,
            total_value=Decimal("9.90"),
            items=[
                {"sku": "s", "price": 9.9, "quantity": 1},
                EcommerceTransactionItem(order_id="o", sku="s", price=9.9, quantity=1),
            ],
        ),
        LinkClick(target_url="https://a.example/", element_classes=["a", "b"]),
        AddToCart(sku="s", quantity=1.5, unit_price=2),
        RemoveFromCart(sku="s", quantity=1),
        FormChange(form_id="f", element_id="e", node_name="INPUT", value=None),
        FormSubmit(form_id="f", elements=[{"name": "n", "value": None, "node_name": "INPUT"}]),
        SiteSearch(terms=("blue", "tee"), filters={"sale": True, "size": "M"}),
        ScreenView(name="Home", id=an_id),
        StructuredEvent(category="shop", action="pay", value=9.9),
        SelfDescribing(schema="iglu:com.acme/plan/jsonschema/1-0-0", data={"name": "gold"}),
        ApplicationError(message="it broke", is_fatal=False, line_number=3),
    ]


def mistakes_with_classes(event: PageView) -> None:
    """Do what a type checker is to find."""
    PageView("https://a.example/")  # type: ignore[arg-type, call-arg]
    PageView(page_url="https://a.example/", page_titel="t")  # type: ignore[call-arg]
    PageView(page_url=1.5)  # type: ignore[arg-type]
    PageView(page_url="https://a.example/", context=plan)  # type: ignore[arg-type]
    PageView(page_url="https://a.example/", true_timestamp="2026")  # type: ignore[arg-type]
    PagePing(page_url="https://a.example/", min_x=1.5)  # type: ignore[arg-type]
    StructuredEvent(category="c", action="a", value="9.9")  # type: ignore[arg-type]
    AddToCart(sku="s")  # type: ignore[call-arg]
    ScreenView(name="n", id=5)  # type: ignore[arg-type]
    SelfDescribing(schema="iglu:…", data="text")  # type: ignore[arg-type]
    Subject(userid="u")  # type: ignore[typeddict-unknown-key]
    Subject(viewport=(1, 2, 3))  # type: ignore[typeddict-item]
    event.page_url = "https://b.example/"  # type: ignore[misc]


def adapter(handler: SnowplowHandler) -> str | None:
    """Log by the methods of an adapter."""
    shop = SnowplowAdapter(logger, subject={"user_id": "u-42"}, context=[plan])
    SnowplowAdapter(shop, {"tenant": 5}, subject=subject)
    event_id: str | None = shop.page_view(page_url="https://a.example/", page_title="t")
    shop.page_view(page_url="https://a.example/", level=logging.DEBUG)
    shop.page_view(page_url="https://a.example/", level="DEBUG")
    shop.struct_event(category="shop", action="checkout", value=9.9, level=logging.DEBUG)
    shop.page_view(page_url="https://a.example/", extra={"tenant": 5})
    shop.page_view(page_url="https://a.example/", exc_info=True)
    shop.page_view(page_url="https://a.example/", stack_info=True, stacklevel=2)
    shop.ecommerce_transaction(order_id="o", total_value=1, items=[{"sku": "s"}])
    shop.ecommerce_transaction_item(order_id="o", sku="s", price=1, quantity=1)
    shop.link_click(target_url="https://a.example/")
    shop.form_change(form_id="f", element_id="e", node_name="INPUT", value=None)
    shop.form_submit(form_id="f")
    shop.site_search(terms=["t"])
    shop.screen_view(name="n")
    shop.unstruct_event(schema="iglu:…", data={})
    shop.self_describing_event(schema="iglu:…", data={}, context=[plan], subject=subject)
    shop.application_error(message="m")
    bound: SnowplowAdapter = shop.bind(subject={"ip_address": "198.51.100.7"}, context=[plan])
    bound.add_to_cart(sku="s1", quantity=1)
    bound.remove_from_cart(sku="s1", quantity=1, event_id=an_id)
    shop.info("opened", extra={"snowplow": {"event": "page_view", "page_url": "https://…"}})
    shop.info(PageView(page_url="https://a.example/"))
    return event_id


def mistakes_with_the_adapter(shop: SnowplowAdapter) -> None:
    """Do what a type checker is to find."""
    shop.page_view("https://a.example/")  # type: ignore[call-overload]
    shop.page_view(page_url="https://a.example/", page_titel="t")  # type: ignore[call-overload]
    shop.page_view(page_url=1.5)  # type: ignore[call-overload]
    shop.add_to_cart(sku="s", quantity="1")  # type: ignore[call-overload]
    shop.page_vieww(page_url="https://a.example/")  # type: ignore[attr-defined]
    shop.page_view(page_url="https://a.example/", level=1.5)  # type: ignore[call-overload]
    shop.bind(subject=5)  # type: ignore[arg-type]


class ShopAdapter(SnowplowAdapter):
    """An adapter of a program's own."""

    tenant = "t"


def bound_subclass(shop: ShopAdapter) -> str:
    """Keep the class when binding."""
    return shop.bind(subject=subject).tenant


def handler(record: logging.LogRecord) -> None:
    """Make a handler with all that it takes."""

    def plan_of(record: logging.LogRecord) -> SelfDescribingJson | None:
        return plan if record.levelno else None

    made = SnowplowHandler(
        "https://collector.example.com",
        method="post",
        subject=subject,
        context=[plan, {"schema": "iglu:…", "data": {}}, plan_of],
        timeout=(3.05, 10),
        headers={"X-Team": "shop"},
        session=requests.Session(),
        retry_codes={500: False},
        max_attempts=None,
        before_send=lambda event: event if event["event"] == "page_view" else None,
        on_success=lambda events: print(len(events)),
        on_failure=lambda events, reason: print(len(events), reason),
    )
    as_handler: logging.Handler = made
    as_handler.handle(record)
    done: bool = made.flush(math.inf)
    stats = made.stats
    counts: int = stats.queued + stats.sent + stats.retried + stats.failed + stats.dropped
    reason: str | None = stats.last_error
    made.setFormatter(SnowplowJsonFormatter())
    print(done, counts, reason, stats.losses["queue full"])
    made.close()


def mistakes_with_the_handler() -> None:
    """Do what a type checker is to find."""
    SnowplowHandler("https://a.example", batch_size="5")  # type: ignore[arg-type]
    SnowplowHandler("https://a.example", on_failure=lambda events: None)  # type: ignore[arg-type, misc]


def request() -> None:
    """Bind the subject of a request."""
    with subject_context(user_id="u-42", ip_address="198.51.100.7", context=[plan]):
        logger.info(PageView(page_url="https://a.example/"))
    with subject_context(userid="u-42"):  # type: ignore[call-arg]
        pass
    with subject_context(domain_session_index="5"):  # type: ignore[arg-type]
        pass


def calls() -> None:
    """Have functions of all kinds keep their types."""

    @subject_context(user_id="u-42")
    @flushing
    def work(order: str, *, times: int = 1) -> bytes:
        return order.encode() * times

    @flushing(timeout=5)
    async def later(order: str) -> bytes:
        return carry(work)(order, times=2)

    @subject_context(user_id="u-42")
    def steps(order: str) -> Iterator[bytes]:
        yield work(order)

    done: bytes = carry(work)("o-1")
    awaited: Awaitable[bytes] = carry(later)("o-1")
    returned: Awaitable[bytes] = carry(partial(later, "o-1"))()
    gone_through: Iterator[bytes] = carry(steps)("o-1")
    print(done, awaited, returned, gone_through)
    work("o-1", times="2")  # type: ignore[arg-type]
    carry(work)(5)  # type: ignore[arg-type]


def errors(error: InvalidEvent) -> tuple[str, str, str, str]:
    """Read an error."""
    as_value_error: ValueError = error
    print(as_value_error)
    return error.event, error.key, error.problem, error.expected


def collector() -> int:
    """Ask a local collector."""
    with LocalCollector(port=0, iglu=None) as running:
        running.wait_for(1, timeout=5)
        return len(running.good) + len(running.bad) + running.counts["total"]
