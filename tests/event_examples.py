"""One event of each type with all its keys, and what has to arrive of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from helpers import ANYTHING
from snowplow_logging import SelfDescribingJson
from snowplow_logging.events import EVENTS

__all__ = [
    "BY_NAME",
    "COMMON",
    "EVENT_ID",
    "EXAMPLES",
    "OTHER_ID",
    "PAGE",
    "Example",
    "as_dict",
    "as_object",
]

SNOWPLOW = "iglu:com.snowplowanalytics.snowplow"
EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER_ID = "5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f2"


class Example(NamedTuple):
    """An event with all its keys, and what has to arrive of it.

    Attributes:
        name: The event's name.
        keys: Its keys.
        e: The protocol's name for it.
        sent: The values that arrive: the protocol's, or the data's where there is a schema.
        schema: Its schema.
    """

    name: str
    keys: dict[str, Any]
    e: str
    sent: dict[str, Any]
    schema: str | None = None


PAGE = {
    "page_url": "https://shop.example.com/basket?a=b#c",
    "page_title": "Bäsket 🧺",
    "referrer": "https://www.example.com/",
}
PAGE_SENT = {
    "url": "https://shop.example.com/basket?a=b#c",
    "page": "Bäsket 🧺",
    "refr": "https://www.example.com/",
}
CART = {
    "sku": "s1",
    "quantity": 2,
    "name": "Tee",
    "category": "Tops",
    "unit_price": 9.9,
    "currency": "EUR",
}
CART_SENT = {
    "sku": "s1",
    "quantity": 2,
    "name": "Tee",
    "category": "Tops",
    "unitPrice": 9.9,
    "currency": "EUR",
}
EXAMPLES = [
    Example("page_view", PAGE, "pv", PAGE_SENT),
    Example(
        "page_ping",
        {**PAGE, "min_x": 0, "max_x": 100, "min_y": -5, "max_y": 2_147_483_647},
        "pp",
        {**PAGE_SENT, "pp_mix": "0", "pp_max": "100", "pp_miy": "-5", "pp_may": "2147483647"},
    ),
    Example(
        "ecommerce_transaction",
        {
            "order_id": "o1",
            "total_value": 119.9,
            "affiliation": "web",
            "tax_value": Decimal("19.90"),
            "shipping": 5,
            "city": "Köln",
            "state": "NRW",
            "country": "Germany",
            "currency": "EUR",
        },
        "tr",
        {
            "tr_id": "o1",
            "tr_tt": "119.9",
            "tr_af": "web",
            "tr_tx": "19.90",
            "tr_sh": "5",
            "tr_ci": "Köln",
            "tr_st": "NRW",
            "tr_co": "Germany",
            "tr_cu": "EUR",
        },
    ),
    Example(
        "ecommerce_transaction_item",
        {
            "order_id": "o1",
            "sku": "s1",
            "price": 9.9,
            "quantity": 2,
            "name": "Tee",
            "category": "Tops",
            "currency": "EUR",
        },
        "ti",
        {
            "ti_id": "o1",
            "ti_sk": "s1",
            "ti_pr": "9.9",
            "ti_qu": "2",
            "ti_nm": "Tee",
            "ti_ca": "Tops",
            "ti_cu": "EUR",
        },
    ),
    Example(
        "link_click",
        {
            "target_url": "https://example.com/",
            "element_id": "more",
            "element_classes": ["a", "b"],
            "element_target": "_blank",
            "element_content": "more",
        },
        "ue",
        {
            "targetUrl": "https://example.com/",
            "elementId": "more",
            "elementClasses": ["a", "b"],
            "elementTarget": "_blank",
            "elementContent": "more",
        },
        f"{SNOWPLOW}/link_click/jsonschema/1-0-1",
    ),
    Example("add_to_cart", CART, "ue", CART_SENT, f"{SNOWPLOW}/add_to_cart/jsonschema/1-0-0"),
    Example(
        "remove_from_cart", CART, "ue", CART_SENT, f"{SNOWPLOW}/remove_from_cart/jsonschema/1-0-0"
    ),
    Example(
        "form_change",
        {
            "form_id": "f",
            "element_id": "mail",
            "node_name": "INPUT",
            "value": "a@example.com",
            "type": "email",
            "element_classes": ["wide"],
        },
        "ue",
        {
            "formId": "f",
            "elementId": "mail",
            "nodeName": "INPUT",
            "value": "a@example.com",
            "type": "email",
            "elementClasses": ["wide"],
        },
        f"{SNOWPLOW}/change_form/jsonschema/1-0-0",
    ),
    Example(
        "form_submit",
        {
            "form_id": "f",
            "form_classes": ["wide"],
            "elements": [
                {"name": "mail", "value": "a@example.com", "node_name": "INPUT", "type": "email"},
                {"name": "note", "value": None, "nodeName": "TEXTAREA", "type": None},
            ],
        },
        "ue",
        {
            "formId": "f",
            "formClasses": ["wide"],
            "elements": [
                {"name": "mail", "value": "a@example.com", "nodeName": "INPUT", "type": "email"},
                {"name": "note", "value": None, "nodeName": "TEXTAREA"},
            ],
        },
        f"{SNOWPLOW}/submit_form/jsonschema/1-0-0",
    ),
    Example(
        "site_search",
        {
            "terms": ["blue", "tee"],
            "filters": {"size": "M", "sale": True},
            "total_results": 120,
            "page_results": 20,
        },
        "ue",
        {
            "terms": ["blue", "tee"],
            "filters": {"size": "M", "sale": True},
            "totalResults": 120,
            "pageResults": 20,
        },
        f"{SNOWPLOW}/site_search/jsonschema/1-0-0",
    ),
    Example(
        "screen_view",
        {
            "name": "Home",
            "id": OTHER_ID,
            "type": "feed",
            "previous_name": "Login",
            "previous_id": UUID(EVENT_ID),
            "previous_type": "form",
            "transition_type": "push",
        },
        "ue",
        {
            "name": "Home",
            "id": OTHER_ID,
            "type": "feed",
            "previousName": "Login",
            "previousId": EVENT_ID,
            "previousType": "form",
            "transitionType": "push",
        },
        "iglu:com.snowplowanalytics.mobile/screen_view/jsonschema/1-0-0",
    ),
    Example(
        "struct_event",
        {"category": "shop", "action": "pay", "label": "card", "property": "p", "value": 9.9},
        "se",
        {"se_ca": "shop", "se_ac": "pay", "se_la": "card", "se_pr": "p", "se_va": "9.9"},
    ),
    Example(
        "self_describing_event",
        {"schema": ANYTHING, "data": {"level": 3, "name": "Ünïcode", "nested": {"a": [1, None]}}},
        "ue",
        {"level": 3, "name": "Ünïcode", "nested": {"a": [1, None]}},
        ANYTHING,
    ),
    Example(
        "application_error",
        {
            "message": "it broke",
            "programming_language": "RUST",
            "thread_name": "main",
            "thread_id": 7,
            "stack_trace": "line 1\n\tline 2",
            "cause_stack_trace": "line 0",
            "line_number": 12,
            "class_name": "Shop",
            "exception_name": "KeyError",
            "is_fatal": False,
            "line_column": 3,
            "file_name": "shop.py",
        },
        "ue",
        {
            "message": "it broke",
            "programmingLanguage": "RUST",
            "threadName": "main",
            "threadId": 7,
            "stackTrace": "line 1\n\tline 2",
            "causeStackTrace": "line 0",
            "lineNumber": 12,
            "className": "Shop",
            "exceptionName": "KeyError",
            "isFatal": False,
            "lineColumn": 3,
            "fileName": "shop.py",
        },
        f"{SNOWPLOW}/application_error/jsonschema/1-0-2",
    ),
]
BY_NAME = {example.name: example for example in EXAMPLES}
COMMON = {
    "context": [
        SelfDescribingJson(ANYTHING, {"plan": "gold"}),
        {"schema": ANYTHING, "data": {"seat": 3}},
    ],
    "subject": {"user_id": "u-42", "ip_address": "198.51.100.7", "viewport": (1024, 768)},
    "true_timestamp": 1_700_000_000_123,
    "event_id": EVENT_ID,
}


def as_object(example: Example, **common: Any) -> Any:
    """Return the event as an object of its class."""
    return EVENTS[example.name](**example.keys, **common)


def as_dict(example: Example, **common: Any) -> dict[str, Any]:
    """Return the event as a dict."""
    return {"event": example.name, **example.keys, **common}
