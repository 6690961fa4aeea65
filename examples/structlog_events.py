"""structlog: an event is the key `snowplow` of a structlog call, and stays out of the log line.

    python examples/structlog_events.py [ENDPOINT]

The endpoint may also be in the variable SNOWPLOW_ENDPOINT.
"""

import logging.config
import os
import sys

import structlog

from snowplow_logging import PageView
from snowplow_logging.structlog import SnowplowProcessor

DEFAULT = os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090")

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
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
        SnowplowProcessor(structlog.processors.JSONRenderer()),
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
