"""What the real Enrich said of some 6,000 events, and what the local collector says of them.

`enrich-verdicts.jsonl.gz` holds a verdict a line: `event` are the parameters in which an event
differs from `BASE`, or `request` is a whole request; then `good`, with the columns that Enrich
3.9.0 filled, or `why` not.
"""

from __future__ import annotations

import gzip
import json
import math
import socket
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from snowplow_logging.collector import LocalCollector

pytest.importorskip("werkzeug", reason="the local collector needs it")

DATA = Path(__file__).parent.parent / "data"
TP2 = "/com.snowplowanalytics.snowplow/tp2"
PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/"
BASE = {
    "tv": "py-1.1.0",
    "p": "web",
    "eid": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "dtm": "1700000000000",
    "stm": "1700000000100",
}
# The depth from which on a verdict's JSON has over 50 levels. Enrich takes no more by default since
# 4.0, and the verdicts are those of 3.9.0, which knew no limit.
TOO_DEEP = {"co": 47, "cx": 47, "ue_px": 48, "ue_pr": 48}
# Columns that the collector fills where the verdicts' requests had nothing to fill them with, or
# that `BASE` fills.
FILLED = {"event_id", "network_userid", "user_ipaddress", "useragent", "platform", "v_tracker"}
FILLED |= {"dvce_created_tstamp", "dvce_sent_tstamp"}
PARTS = ("scheme", "host", "port", "path", "query", "fragment")
# What the verdicts of these areas show, null where a column is not in them.
SHOWN = {
    "url": {f"page_url{part}" for part in PARTS},
    "refr": {f"refr_url{part}" for part in PARTS},
    "urlchar": {"page_urlhost"},
    "refrchar": {"refr_urlhost"},
}


def load():
    """Return the verdicts by their area."""
    areas = defaultdict(list)
    with gzip.open(DATA / "enrich-verdicts.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            verdict = json.loads(line)
            areas[verdict["area"]].append(verdict)
    return areas


AREAS = load()
ALL_COLUMNS = {
    column
    for verdicts in AREAS.values()
    for verdict in verdicts
    if "event" in verdict.get("columns", ())
    for column in verdict["columns"]
}


@pytest.fixture(scope="module")
def judge():
    """Return a function that has the collector judge verdicts' events, a result for each."""
    arrived = []
    with (
        LocalCollector(iglu=DATA / "iglu", on_event=arrived.append) as collector,
        requests.Session() as client,
    ):

        def post(verdict, events):
            area, case = verdict["area"], verdict["case"]
            version = case if area == "payload_data" else "1-0-4"
            content_type = "application/json"
            if area == "content type":
                content_type = None if case == "None" else case
            body = {"schema": PAYLOAD_DATA + version, "data": events}
            if (area, case) == ("body", "extra key"):
                body["x"] = 1
            client.post(
                collector.endpoint + TP2,
                data=json.dumps(body).encode(),
                headers={"Content-Type": content_type},
                timeout=60,
            )

        def send(verdicts):
            arrived.clear()
            if "request" in verdicts[0]:
                exchange(collector.port, verdicts[0]["request"])
            else:
                post(verdicts[0], [parameters(verdict) for verdict in verdicts])
            return list(arrived)

        yield send


def parameters(verdict):
    """Return the parameters of a verdict's event."""
    event = {**BASE, **verdict["event"]}
    area, case = verdict["area"], verdict["case"]
    if area == "missing" and case.startswith("without "):
        event.pop(case.removeprefix("without "), None)
    if (area, case) == ("not a string", "None"):
        event["uid"] = None  # null is not written down in a verdict's event
    return event


def exchange(port, request):
    """Send a request byte by byte as a verdict has it, and wait for the answer."""
    body = request.get("body", "").encode()
    target = request["path"] + (f"?{request['qs']}" if "qs" in request else "")
    head = ["Host: localhost", f"User-Agent: {request['ua']}", "Connection: close"]
    if request["path"] != "/i":
        head.append(f"Content-Length: {len(body)}")
    if "ct" in request:
        head.append(f"Content-Type: {request['ct']}")
    if "referer" in request:
        head.append(f"Referer: {request['referer']}")
    method = "GET" if request["path"] == "/i" else "POST"
    lines = "".join(f"{line}\r\n" for line in [f"{method} {target} HTTP/1.1", *head, ""])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(lines.encode() + body)
        answer = b""
        while block := connection.recv(65_536):
            answer += block
    assert answer.startswith(b"HTTP/1.1 200 ")


def batches(verdicts):
    """Put events into requests, but for those that would take a whole request with them."""
    together = []
    for verdict in verdicts:
        alone = verdict["area"] in {"payload_data", "content type", "body"}
        if alone or "request" in verdict or verdict.get("why", "").startswith("TPV"):
            yield [verdict]
        else:
            together.append(verdict)
    for start in range(0, len(together), 200):
        yield together[start : start + 200]


def expected(verdict):
    """Return whether an event is good by the protocol, which is younger than its verdict."""
    depth = verdict["case"].removeprefix("depth ")
    if depth != verdict["case"] and int(depth) >= TOO_DEEP[verdict["area"]]:
        assert verdict["good"]
        return False
    return verdict["good"]


def wrong_columns(verdict, event):
    """Return the columns that differ: their names, what Enrich has, what the collector shows."""
    columns = verdict["columns"]
    names = set(columns)
    if "event" in columns:
        names |= ALL_COLUMNS - FILLED
    elif columns:
        names |= SHOWN[verdict["area"]]
    # Micro shows entities that are not there as an empty object.
    shown = {name: None if event[name] == {} else event[name] for name in names}
    return [
        (name, columns.get(name), shown[name])
        for name in names
        if in_json(name, columns.get(name)) != shown[name]
    ]


def in_json(name, text):
    """Return a column's text as Micro's JSON has it."""
    if text is None:
        return None
    if name.endswith("_tstamp"):
        return text.replace(" ", "T") + "Z"
    if name in {"unstruct_event", "contexts"}:
        return json.loads(text, parse_float=lambda number: beyond_a_float(number, Decimal))
    if name in {"se_value", "ti_price", "tr_total", "tr_tax", "tr_shipping"}:
        return beyond_a_float(text, str)
    if name.startswith(("br_features", "br_cookies")):
        return text == "1"
    whole = ("port", "width", "height", "txn_id", "sessionidx", "quantity", "_min", "_max")
    return int(text) if name.endswith(whole) else text


def beyond_a_float(text, kind):
    """Read a number, and as another kind what no float can hold."""
    number = float(text)
    return number if math.isfinite(number) else kind(text)


@pytest.mark.parametrize("area", AREAS)
def test_the_collector_says_what_enrich_said(area, judge):
    """Every event that Enrich took is good, with Enrich's columns, and every other one is bad."""
    differ = []
    for batch in batches(AREAS[area]):
        results = judge(batch)
        if len(batch) == 1 and "errors" in results[0]:
            results = results[:1]
        assert len(results) == len(batch)
        for verdict, result in zip(batch, results, strict=True):
            is_good = "errors" not in result
            if is_good != expected(verdict):
                differ.append((verdict["case"], verdict.get("why"), result.get("errors")))
            elif is_good and (wrong := wrong_columns(verdict, result["event"])):
                differ.append((verdict["case"], wrong))

    assert differ == []


def test_there_are_verdicts_of_both_kinds():
    """The file is read, and holds what the tests above think it holds."""
    verdicts = [verdict for area in AREAS.values() for verdict in area]

    assert len(verdicts) == 6018
    assert sum(verdict["good"] for verdict in verdicts) == 5142
    assert sum(verdict["good"] != expected(verdict) for verdict in verdicts) == 11
