"""Events as dicts that hold no more than they must, to be spoilt in one place."""

from __future__ import annotations

from typing import Any

from helpers import ANYTHING

__all__ = ["PAGE", "cart", "deep", "error", "form", "own", "page", "struct", "submit", "without"]

PAGE = "https://shop.example.com/"


def page(**keys: Any) -> dict[str, Any]:
    """Return a page view."""
    return {"event": "page_view", "page_url": PAGE, **keys}


def struct(**keys: Any) -> dict[str, Any]:
    """Return a structured event."""
    return {"event": "struct_event", "category": "c", "action": "a", **keys}


def own(data: Any, schema: Any = ANYTHING) -> dict[str, Any]:
    """Return a self-describing event."""
    return {"event": "self_describing_event", "schema": schema, "data": data}


def form(**keys: Any) -> dict[str, Any]:
    """Return the change of a form's field."""
    event = {"event": "form_change", "form_id": "f", "element_id": "e", "node_name": "INPUT"}
    return {**event, "value": "v", **keys}


def submit(**element: Any) -> dict[str, Any]:
    """Return the submission of a form with one element."""
    element = {"name": "n", "value": "v", "node_name": "INPUT", **element}
    return {"event": "form_submit", "form_id": "f", "elements": [element]}


def cart(**keys: Any) -> dict[str, Any]:
    """Return something put into a cart."""
    return {"event": "add_to_cart", "sku": "s", "quantity": 1, **keys}


def error(**keys: Any) -> dict[str, Any]:
    """Return an error of an application."""
    return {"event": "application_error", "message": "m", **keys}


def without(event: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an event without one of its keys."""
    return {name: value for name, value in event.items() if name != key}


def deep(levels: int, kind: type) -> Any:
    """Return a structure of so many levels, its leaf being one."""
    value: Any = "leaf"
    for _ in range(levels - 1):
        value = [value] if kind is list else {"a": value}
    return value
