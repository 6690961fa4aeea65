"""A broker for Celery that needs no server: what programs of tests begin with."""

from __future__ import annotations

__all__ = ["BROKER"]

BROKER = """
import json, os, time, uuid
from celery import Celery
from kombu.transport import filesystem

folder = os.path.dirname(os.path.abspath(__file__))
for name in ("queue", "control", "begun"):
    os.makedirs(os.path.join(folder, name), exist_ok=True)

def put(channel, queue, payload, **_):
    # Kombu's own makes the file and then writes it; a worker that takes it in between ends.
    name = f"{time.monotonic_ns()}_{uuid.uuid4()}.{queue}.msg"
    begun = os.path.join(folder, "begun", name)
    with open(begun, "w") as file:
        json.dump(payload, file)
    os.rename(begun, os.path.join(folder, "queue", name))

filesystem.Channel._put = put
app = Celery("main", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": folder + "/queue", "data_folder_out": folder + "/queue",
    "control_folder": folder + "/control", "polling_interval": 0.05,
}
app.conf.worker_redirect_stdouts = False
"""
"""Makes an `app` whose messages are files in the folder of the program, `main.py`."""
