"""Replay of a CRM export: past orders, each with the time at which it truly happened.

    python examples/crm_replay.py [ENDPOINT] [ORDERS.CSV]

Snowplow's `derived_tstamp` is then the true time, not that of the replay. Each event id is made
of the order's, so that an export which is replayed again adds nothing. The status is 0 only if
the collector has taken every order.
"""

import csv
import logging
import os
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from snowplow_logging import SnowplowHandler


def not_sent(events: list[dict[str, Any]], reason: str) -> None:
    """Say which orders did not get through, and why."""
    for event in events:
        print(event.get("order_id", event.get("tr_id")), reason, file=sys.stderr)


def parsed(parse: Callable[[str], Any], text: str) -> Any:
    """Return the value of a field; the text itself where it has none, to be refused by name."""
    try:
        return parse(text)
    except (ArithmeticError, TypeError, ValueError):
        return text


def main(endpoint: str, path: str | Path) -> int:
    """Replay an export."""
    handler = SnowplowHandler(
        endpoint,
        app_id="crm",
        on_full="block",  # rather wait than lose an order
        block_timeout=3600,
        on_failure=not_sent,
    )
    logger = logging.getLogger("crm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logging.raiseExceptions = False  # `not_sent` says it

    orders = 0
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            orders += 1
            order_id = row["order_id"]
            order = {
                "event": "ecommerce_transaction",
                "event_id": uuid5(NAMESPACE_URL, f"https://shop.example.com/orders/{order_id}"),
                "order_id": order_id,
                "total_value": parsed(Decimal, row["total"]),
                "currency": row["currency"],
                "subject": {"user_id": row["customer_id"]},
                "true_timestamp": parsed(datetime.fromisoformat, row["ordered_at"]),
            }
            logger.info("order %s", order_id, extra={"snowplow": order})
    handler.flush(3600)
    print(f"{handler.stats.sent} of {orders} orders sent")
    return 0 if handler.stats.sent == orders else 1


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv))
    default = os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090")
    orders = arguments.get(2, Path(__file__).with_name("orders.csv"))
    sys.exit(main(arguments.get(1, default), orders))
