"""A local collector that judges what is sent to it as it stands, and what it is sent."""

from __future__ import annotations

import base64
import json

import pytest
import requests

from snowplow_logging.collector import LocalCollector

__all__ = [
    "CONTEXTS",
    "EVENT",
    "GAME",
    "ITEM",
    "ORDER",
    "PAYLOAD_DATA",
    "STRUCT",
    "UNSTRUCT",
    "UNSTRUCT_EVENT",
    "client",
    "contexts",
    "encode",
    "errors",
    "host",
    "judge",
    "nested",
    "running",
    "send",
    "unstruct",
]

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
UNSTRUCT = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
CONTEXTS = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1"
GAME = "iglu:com.games_company/save_game/jsonschema/1-0-2"
EVENT = {"tv": "test-1.0", "p": "srv", "e": "pv", "url": "https://shop.example.com/"}
STRUCT = {"tv": "test-1.0", "p": "srv", "e": "se", "se_ca": "shop", "se_ac": "pay"}
ORDER = {"tv": "test-1.0", "p": "srv", "e": "tr", "tr_id": "o1", "tr_tt": "9.90"}
ITEM = {
    "tv": "test-1.0", "p": "srv", "e": "ti",
    "ti_id": "o1", "ti_sk": "s1", "ti_pr": "9.90", "ti_qu": "1",
}  # fmt: skip
UNSTRUCT_EVENT = {"tv": "test-1.0", "p": "srv", "e": "ue"}

running = LocalCollector()
client = requests.Session()


def send(body, content_type="application/json"):
    """POST a body, and return what became of it: the good and the bad events."""
    running.reset()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if content_type is None else {"Content-Type": content_type}
    url = f"{running.endpoint}/com.snowplowanalytics.snowplow/tp2"
    answer = client.post(url, data=data, headers=headers, timeout=10)
    assert answer.status_code == 200
    return running.good, running.bad


def judge(*events):
    """Send events in one request, and return the good and the bad ones."""
    return send({"schema": PAYLOAD_DATA, "data": list(events)})


def errors(*events):
    """Send events of which one fails, and return its errors."""
    good, [bad] = judge(*events)
    assert not good
    return bad["errors"]


def encode(value):
    """Encode a value as `ue_px` and `cx` hold it."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).decode()


def unstruct(data=None, schema=GAME):
    """Wrap an event's data in the envelope of a self-describing event."""
    return {"schema": UNSTRUCT, "data": {"schema": schema, "data": data or {}}}


def contexts(*entities, schema=CONTEXTS):
    """Wrap entities in their envelope."""
    return {"schema": schema, "data": list(entities)}


def nested(levels):
    """Return lists nested so deep that a leaf lies on the given level."""
    value = 1
    for _ in range(levels - 1):
        value = [value]
    return value


def host(name):
    """Return an event of the type that a name belongs to."""
    return {"se": STRUCT, "tr": ORDER, "ti": ITEM}.get(name.split("_")[0], EVENT)
