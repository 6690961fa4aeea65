"""A script that tracks what it does; its events are delivered before it ends.

    python examples/script.py [ENDPOINT]

The endpoint may also be in the variable SNOWPLOW_ENDPOINT; without one it is that of a local
collector (`snowplow-logging collector`).
"""

import logging.config
import os
import sys

from snowplow_logging import SnowplowAdapter

DEFAULT = os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090")

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "plain"},
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": sys.argv[1] if len(sys.argv) > 1 else DEFAULT,
                "app_id": "nightly-import",
            },
        },
        "root": {"level": "INFO", "handlers": ["console", "snowplow"]},
    }
)
logger = logging.getLogger("importer")
job = SnowplowAdapter(logger, subject={"user_id": "importer"})

logger.info("This is an ordinary record: the console shows it, and nothing is sent.")
job.struct_event(category="import", action="started")
for name, rows in ("customers.csv", 1200), ("orders.csv", 4711):
    job.struct_event(category="import", action="file", label=name, value=rows)
job.struct_event(category="import", action="finished")
