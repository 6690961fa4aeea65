"""Celery: tasks log events from the processes of the worker's pool, for the user who sent them.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 celery --workdir examples -A celery_app worker -l INFO
    python examples/celery_app.py      # has the worker do two tasks

The broker is a folder, so that nothing else has to run; CELERY_BROKER_URL names a real one.
"""

import logging.config
import os
import tempfile
from pathlib import Path

from celery import Celery

import snowplow_logging.celery
from snowplow_logging import SnowplowAdapter, subject_context

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
                "app_id": "shop-tasks",
                "flush_interval": 10.0,
            },
        },
        "root": {"level": "INFO", "handlers": ["snowplow"]},
    }
)
shop = SnowplowAdapter(logging.getLogger("shop"))

folder = Path(os.environ.get("CELERY_FOLDER", tempfile.gettempdir())) / "snowplow-celery"
app = Celery("celery_app", broker=os.environ.get("CELERY_BROKER_URL", "filesystem://"))
if app.conf.broker_url == "filesystem://":
    folder.mkdir(exist_ok=True)
    queue = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    app.conf.broker_transport_options = {**queue, "control_folder": str(folder / "control")}
snowplow_logging.celery.install(app)


@app.task
def ship(order_id: str) -> None:
    """Ship an order."""
    shop.struct_event(category="order", action="shipped", label=order_id)


if __name__ == "__main__":
    for order_id, user_id in (("o-1", "u-42"), ("o-2", "u-43")):
        with subject_context(user_id=user_id):
            ship.delay(order_id)
