"""Celery: tasks log events from the processes of the worker's pool, each for its own user.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 celery --workdir examples -A celery_app worker
    python examples/celery_app.py      # has the worker do two tasks

The broker is a folder, so that nothing else has to run; CELERY_BROKER_URL names a real one.
"""

import logging.config
import os
import tempfile
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_shutdown

from snowplow_logging import SnowplowAdapter, subject_context

folder = Path(os.environ.get("CELERY_FOLDER", tempfile.gettempdir())) / "snowplow-celery"
app = Celery("celery_app", broker=os.environ.get("CELERY_BROKER_URL", "filesystem://"))
if app.conf.broker_url == "filesystem://":
    folder.mkdir(exist_ok=True)
    queue = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    app.conf.broker_transport_options = {**queue, "control_folder": str(folder / "control")}

shop = SnowplowAdapter(logging.getLogger("shop"))


@setup_logging.connect  # or else Celery sets up logging in its own way
def configure(**_: Any) -> None:
    """Set up logging in the worker; the processes that it forks take it over."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "console": {"class": "logging.StreamHandler"},
                "snowplow": {
                    "class": "snowplow_logging.SnowplowHandler",
                    "endpoint": os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
                    "app_id": "shop-tasks",
                    "flush_interval": 10.0,
                },
            },
            "root": {"level": "INFO", "handlers": ["console", "snowplow"]},
        }
    )


@worker_process_shutdown.connect
def deliver(**_: Any) -> None:
    """Deliver what is queued: a process of the pool ends by `os._exit`, which asks nobody."""
    logging.shutdown()


@app.task
def ship(order_id: str, user_id: str) -> None:
    """Ship an order."""
    with subject_context(user_id=user_id):
        shop.struct_event(category="order", action="shipped", label=order_id)


if __name__ == "__main__":
    ship.delay("o-1", user_id="u-42")
    ship.delay("o-2", user_id="u-43")
