"""structlog: an event is the key `snowplow` of a structlog call, and stays out of the log line.

    python examples/structlog_events.py [ENDPOINT]

The endpoint may also be in the variable SNOWPLOW_ENDPOINT.
"""

import logging.config
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter

from snowplow_logging import PageView

DEFAULT = os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090")


def hand_over(
    logger: logging.Logger, name: str, event_dict: MutableMapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make a standard record of it, with `snowplow` as an attribute of the record's own."""
    event = event_dict.pop("snowplow", None)
    args, kwargs = ProcessorFormatter.wrap_for_formatter(logger, name, event_dict)
    kwargs["extra"]["snowplow"] = event
    return args, kwargs


logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": "structlog.stdlib.ProcessorFormatter",
                "processors": [
                    ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(),
                ],
            },
        },
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "json",
            },
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": sys.argv[1] if len(sys.argv) > 1 else DEFAULT,
                "app_id": "structlog-shop",
            },
        },
        "root": {"level": "INFO", "handlers": ["console", "snowplow"]},
    }
)
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        hand_over,  # in place of ProcessorFormatter.wrap_for_formatter
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)

logger = structlog.get_logger("shop")
logger.info("warming up", cache="cold")  # no event: the console alone shows it
logger.info(
    "basket opened",
    items=2,
    snowplow={"event": "page_view", "page_url": "https://shop.example.com/basket"},
)
logger.info("order seen", snowplow=PageView(page_url="https://shop.example.com/order"))
