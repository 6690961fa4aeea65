"""Log one event of each type, and a bad one, and show what a collector makes of them.

    python examples/quickstart.py                        # starts a local collector
    python examples/quickstart.py --serve                # and keeps it up, with its page
    python examples/quickstart.py --iglu FOLDER          # which knows more schemas
    python examples/quickstart.py http://127.0.0.1:9090  # talks to that collector instead

What arrived is read from Snowplow Micro's REST API, which the local collector has as well; for a
collector without it the table shows what the handler has sent.
"""

import argparse
import json
import logging
import logging.config
import sys
import textwrap
import time
from contextlib import ExitStack, suppress
from threading import Event
from typing import Any

import requests

from snowplow_logging import (
    ApplicationError,
    FormSubmit,
    LocalCollector,
    ScreenView,
    SelfDescribing,
    SnowplowAdapter,
    subject_context,
)
from snowplow_logging.events import EVENTS

SHOP = "https://shop.example.com"
ECOMMERCE = "iglu:com.snowplowanalytics.snowplow.ecommerce"
NAMES = {event.event_schema or event.event_type: event.event_name for event in EVENTS.values()}

ID = slice(-14, None)  # of an event's id: enough to tell it, and to search for it on the page

sent: list[dict[str, Any]] = []
not_sent: list[tuple[dict[str, Any], str]] = []


def on_failure(events: list[dict[str, Any]], reason: str) -> None:
    """Keep what did not reach the collector, and why."""
    not_sent.extend((event, reason) for event in events)


def configure(endpoint: str) -> None:
    """Set up logging as any program does, with one more handler."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "snowplow": {
                    "class": "snowplow_logging.SnowplowHandler",
                    "endpoint": endpoint,
                    "namespace": "quickstart",
                    "app_id": "shop",
                    "encode_base64": False,  # so that the table can tell the schemas
                    "on_success": sent.extend,
                    "on_failure": on_failure,
                },
            },
            "root": {"level": "INFO", "handlers": ["snowplow"]},
        }
    )
    # For an event that it refuses, logging prints a traceback that leads to the log call. That
    # helps in development; in production, and here, it is off, and `on_failure` is told anyway.
    logging.raiseExceptions = False
    logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())


def log_events() -> None:
    """Log an event of each type, in all the ways there are."""
    logger = logging.getLogger("shop")

    # A dict beside a message.
    page = {"schema": f"{ECOMMERCE}/page/jsonschema/1-0-0", "data": {"type": "basket"}}
    view = {"event": "page_view", "page_url": f"{SHOP}/basket", "page_title": "Basket"}
    logger.info("basket opened", extra={"snowplow": {**view, "context": [page]}})
    # Several at once.
    search = {"event": "site_search", "terms": ["red", "shoes"], "total_results": 7}
    click = {"event": "link_click", "target_url": f"{SHOP}/shoes/7", "element_id": "hit-1"}
    logger.info("found red shoes", extra={"snowplow": [search, click]})
    # An object, which editors complete and type checkers check.
    email = {"name": "email", "value": "", "node_name": "INPUT", "type": "email"}
    newsletter = FormSubmit(form_id="newsletter", elements=[email])
    logger.info("signed up", extra={"snowplow": newsletter})
    # An object as the message.
    logger.info(ScreenView(name="basket", type="modal"))
    logger.error(ApplicationError(message="The card was declined.", is_fatal=False))
    # Your own schema, in place of this one of Snowplow's.
    action = f"{ECOMMERCE}/snowplow_ecommerce_action/jsonschema/1-0-2"
    logger.info(SelfDescribing(schema=action, data={"type": "product_view"}))

    # An adapter, with a method for each type.
    shop = SnowplowAdapter(logger, subject={"user_id": "u-42"})
    shop.page_ping(page_url=f"{SHOP}/basket", min_y=0, max_y=480)
    shop.add_to_cart(sku="s-1", quantity=2, unit_price=9.95, currency="EUR")
    shop.remove_from_cart(sku="s-1", quantity=1)
    shop.form_change(form_id="checkout", element_id="city", node_name="INPUT", value="Köln")
    # This one happened an hour ago, and its item is sent as an event of its own.
    shop.ecommerce_transaction(
        order_id="o-1",
        total_value=9.95,
        currency="EUR",
        items=[{"sku": "s-1", "price": 9.95, "quantity": 1}],
        true_timestamp=(time.time() - 3600) * 1000,
    )
    # All that is logged inside is about one user.
    with subject_context(user_id="u-43", ip_address="198.51.100.7"):
        shop.struct_event(category="shop", action="checkout", value=9.95)

    # A bad one: a collector would answer 200, and the event would be lost behind it.
    shop.add_to_cart(sku="s-2", quantity="two")


def arrived(endpoint: str) -> dict[str, list[str]] | None:
    """Return the rows of the events that arrived by event id; None where that cannot be asked."""
    wanted = {event["eid"] for event in sent}
    rows: dict[str, list[str]] = {}
    give_up = time.monotonic() + 5
    while time.monotonic() < give_up and not wanted <= rows.keys():
        for verdict in ("good", "bad"):
            answer = requests.get(f"{endpoint}/micro/{verdict}", timeout=10)
            if answer.status_code != requests.codes.ok:
                return None
            for entry in answer.json():
                event = (entry["rawEvent"] or {}).get("parameters", {})
                if event.get("eid") in wanted:
                    rows[event["eid"]] = row(event, verdict, "; ".join(entry.get("errors", [])))
    return rows


def row(event: dict[str, Any], verdict: str, why: str) -> list[str]:
    """Return the cells of one event, which has the protocol's names, and why it is not good."""
    kind = event["e"]
    if kind == "ue":
        kind = json.loads(event["ue_pr"])["data"]["schema"]
    times = [clock(event.get(name)) for name in ("dtm", "stm", "ttm")]
    return [NAMES.get(kind, NAMES["ue"]), event["eid"][ID], *times, verdict, why]


def clock(milliseconds: str | None) -> str:
    """Return the time of day of one of the protocol's times."""
    if milliseconds is None:
        return "-"
    seconds, thousandths = divmod(int(milliseconds), 1000)
    return f"{time.strftime('%H:%M:%S', time.gmtime(seconds))}.{thousandths:03}"


def show(rows: list[list[str]]) -> None:
    """Print a table, and below a row on a line of its own why its event is not good."""
    rows = [
        ["EVENT", "IN EVENT ID", "LOGGED (dtm)", "SENT (stm)", "TRUE (ttm)", "VERDICT", ""],
        *rows,
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *cells, why in rows:
        print("  ".join(map(str.ljust, cells, widths)).rstrip())
        if why:
            print(textwrap.fill(why, 100, initial_indent="    ", subsequent_indent="    "))


def main() -> int:
    """Run it; the status is 0 where all events arrived but the bad one, which was refused."""
    parser = argparse.ArgumentParser(description="Log one event of each type, and a bad one.")
    parser.add_argument("endpoint", nargs="?", help="a collector's URL (default: a local one)")
    parser.add_argument(
        "--iglu", metavar="FOLDER", help="an Iglu registry, a folder or a URL, for the local one"
    )
    parser.add_argument("--serve", action="store_true", help="keep the local collector up")
    parser.add_argument("--port", type=int, default=0, help="its port (default: a free one)")
    arguments = parser.parse_args()

    with ExitStack() as stack:
        endpoint = arguments.endpoint
        if endpoint is None:
            collector = LocalCollector(port=arguments.port, iglu=arguments.iglu)
            endpoint = stack.enter_context(collector).endpoint
        configure(endpoint)
        log_events()
        handler: Any = logging.getLogger().handlers[0]
        if not handler.flush():
            handler.close()  # nobody answers: give up now, and not at exit
        verdicts = arrived(endpoint) if sent else {}

        rows = []
        for event in sent:
            if verdicts is None:
                rows.append(row(event, "sent", "the collector cannot be asked what it made of it"))
            else:
                rows.append(verdicts.get(event["eid"], row(event, "missing", "sent, and not seen")))
        for event, why in not_sent:
            if "e" in event:
                rows.append(row(event, "failed", why))
            else:  # as it was logged
                rows.append([event["event"], event["event_id"][ID], "-", "-", "-", "refused", why])
        show(rows)
        stats = handler.stats
        print(f"\n{endpoint}: {stats.sent} sent, {stats.failed} failed, {stats.invalid} refused")
        if arguments.endpoint is None and arguments.serve:
            print(f"The same as a page: {endpoint} (Ctrl-C ends it)", flush=True)
            with suppress(KeyboardInterrupt):
                Event().wait()
        elif arguments.endpoint is None:
            print(f"The same was a page at {endpoint}; --serve keeps it up")

    results = [cells[5] for cells in rows]
    arrived_all = set(results[:-1]) in ({"good"}, {"sent"})
    return 0 if arrived_all and results[-1] == "refused" else 1


if __name__ == "__main__":
    sys.exit(main())
