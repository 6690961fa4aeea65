"""Events that carry a number, and what collectors and accounts say of them."""

from __future__ import annotations

__all__ = ["accounted", "event", "labels", "log", "sizes"]


def event(number, **more):
    """Return an event that can be told from others."""
    return {"event": "struct_event", "category": "c", "action": "a", "label": str(number), **more}


def log(tracked, count, first=0):
    """Log so many events, numbered."""
    for number in range(first, first + count):
        tracked.log(event(number))


def labels(events):
    """Return the numbers of events."""
    return [int(event["se_la"]) for event in events]


def sizes(collector):
    """Return how many events each request carried."""
    return [len(request.events) for request in collector.requests]


def accounted(stats):
    """Return how many events the account knows."""
    gone = stats.sent + stats.failed + stats.dropped + stats.invalid + stats.filtered
    assert stats.failed + stats.dropped + stats.invalid == sum(stats.losses.values())
    return gone + stats.queued
