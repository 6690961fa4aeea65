"""loguru: what a plain `logger.add(handler)` cannot know of an event's log call.

loguru hands an event to the handler as it is, in `record.extra`, and the handler finds it there:

    logger.add(SnowplowHandler("https://collector.example.com"), format="{message}")
    logger.info("basket opened", snowplow={"event": "page_view", "page_url": "…"})
    logger.bind(snowplow=PageView(page_url="…")).info("basket opened")

With `enqueue=True` another thread does that, later, and there is nothing of the log call but the
event. The patcher of this module has the event keep the rest.
"""

from __future__ import annotations

from typing import Any

from snowplow_logging.event_ids import MessageText, keep_log_call

__all__ = ["keep_event"]


def keep_event(record: Any) -> None:
    """Have a record's event keep its time, its id, and what `subject_context` has bound.

    It is a patcher, for all loggers or for one:

        logger.configure(patcher=keep_event)
        logger = logger.patch(keep_event)

    An event object that is the message, `logger.info(PageView(page_url="…"))`, is sent with it,
    too.

    Args:
        record: loguru's record, a dict. The key of the event is `snowplow`.
    """
    extra = record["extra"]
    event = extra.get("snowplow")
    if event is None and type(record["message"]) is MessageText:
        event = record["message"].event
    if event is not None:
        extra["snowplow"] = keep_log_call(event)
