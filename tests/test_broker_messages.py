"""What a relay makes of a message, however it is laid out and whichever reader of JSON there is."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest

from snowplow_logging.brokers.message import BadMessage, pack, unpack

EVENT = {"e": "se", "p": "srv", "tv": "other-1", "eid": "0", "dtm": "1", "se_ca": "c"}
DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5_000

UNPACK_ALL = """
import base64, json, sys
if "without orjson" in sys.argv:
    sys.modules["orjson"] = None
from snowplow_logging import json_data
from snowplow_logging.brokers.message import BadMessage, unpack
assert (json_data.orjson is None) == ("without orjson" in sys.argv)
for line in sys.stdin:
    try:
        found = unpack(base64.b64decode(line))
    except BadMessage as error:
        print(json.dumps([[], [], str(error)]))
        continue
    labels = [json.loads(payload + b"}").get("se_la") for payload in found.payloads]
    broken = [[message.decode(), why] for message, why in found.broken]
    print(json.dumps([labels, broken, None]))
"""


def event(label: str, **more: object) -> str:
    """Return an event as another program might write it."""
    return json.dumps({**EVENT, "se_la": label, **more})


def batch(*events: str, more: str = "", version: object = 1) -> bytes:
    """Return a message with events that are written already."""
    return f'{{{more}"version":{version},"events":[{",".join(events)}]}}'.encode()


# The message, the labels of what can be sent, and what is said of each of the others.
READ = {
    "whole": (batch(event("a"), event("b")), ["a", "b"], []),
    "empty": (batch(), [], []),
    "indented": (json.dumps(json.loads(batch(event("a"))), indent=1).encode(), ["a"], []),
    "a byte order mark": (b"\xef\xbb\xbf" + batch(event("a")), ["a"], []),
    "stm": (batch(event("a", stm="1")), ["a"], []),
    "marks in a text": (batch(event('],}"\\'), "1"), ['],}"\\'], ["it is no object"]),
    "a lone surrogate": (batch(event("\ud83d"), event("b")), ["?", "b"], []),
    "one in another event": (batch(event("a"), event("b", se_pr="\udc00")), ["a", "b"], []),
    "a lone surrogate that is ignored": (batch(event("a"), more='"x":"\\ud83d",'), ["a"], []),
    "digits that are ignored": (batch(event("a"), more=f'"x":{DIGITS},'), ["a"], []),
    "a large number that is ignored": (batch(event("a"), more='"x":1e999,'), ["a"], []),
    "depth that is ignored": (batch(event("a"), more=f'"x":{DEEP},'), ["a"], []),
    "an object that is ignored": (batch(event("a"), more='"x":{"events":[2],"y":","},'), ["a"], []),
    "digits": (batch(event("a"), DIGITS, event("b")), ["a", "b"], ["it cannot be read"]),
    "depth": (batch(DEEP, event("b")), ["b"], ["it cannot be read"]),
    "no JSON in one": (batch("nothing", event("b")), ["b"], ["it cannot be read"]),
    "a bare line feed in one": (batch('{"e":"\n"}', event("b")), ["b"], ["it cannot be read"]),
    "an unknown name": (batch(event("a", foo="x")), [], ["the protocol has no 'foo'"]),
    "a number": (batch(event("a", se_va=1.50)), [], ["se_va is no text"]),
    "too large": (batch(event("a"), event("x" * 1_048_576)), ["a"], ["takes 1,0"]),
    "many that are together too large": (
        batch(*[event("x" * 9_000)] * 120),
        ["x" * 9_000] * 120,
        [],
    ),
}

REFUSED = {
    "nothing": (b"", "it is no JSON"),
    "half": (batch(event("a"))[:-2], "it is no JSON"),
    "half a text": (b'{"version":1,"events":["', "it is no JSON"),
    "more behind it": (batch(event("a")) + b"{}", "it is no JSON"),
    "no key": (b'{"version":1,"events":[],7}', "it is no JSON"),
    "no UTF-8": (batch(event("a")).replace(b"other", b"\xff"), "it is no UTF-8"),
    "UTF-16": (batch(event("a")).decode().encode("utf-16"), "it is no UTF-8"),
    "a surrogate in UTF-8": (batch(event("a")).replace(b"other", b"\xed\xa0\xbd"), "no UTF-8"),
    "a list": (b"[]", "it is no JSON object"),
    "no version": (b'{"events":[]}', "it is of version null"),
    "another version": (batch(event("a"), version=2), "it is of version 2"),
    "one in another form": (b'{"version":"2","batch":[]}', 'it is of version "2"'),
    "a truth value": (batch(event("a"), version="true"), "it is of version true"),
    "a long version": (batch(event("a"), version=DIGITS), "it is of version 9999999999"),
    "no events": (b'{"version":1}', "it is no object with a list of events"),
    "an object": (b'{"version":1,"events":{}}', "it is no object with a list of events"),
}


def unpacked(*way: str) -> list:
    """Return what a process has made of all messages."""
    messages = [message for message, *_ in (*READ.values(), *REFUSED.values())]
    lines = b"\n".join(map(base64.b64encode, messages))
    command = [sys.executable, "-c", UNPACK_ALL, *way]
    ended = subprocess.run(command, input=lines, capture_output=True, check=True, timeout=60)
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("name", READ)
def test_a_bad_part_spoils_no_other(name):
    """What can be sent is, and the rest is kept as it was written."""
    message, labels, reasons = READ[name]
    found = unpack(message)
    assert [json.loads(payload + b"}")["se_la"] for payload in found.payloads] == labels
    assert all(b'"stm"' not in payload for payload in found.payloads)
    assert len(found.broken) == len(reasons)
    for (broken, why), words in zip(found.broken, reasons, strict=True):
        assert words in why
        assert broken.split(b"\n", 1)[1].rsplit(b"\n", 1)[0] in message
        again = unpack(broken)
        assert (again.payloads, again.broken) == ([], [(broken, why)])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_batch(name):
    """Why is said."""
    message, words = REFUSED[name]
    with pytest.raises(BadMessage, match=words):
        unpack(message)


def test_orjson_changes_nothing():
    """What is read, and what is said of the rest, is the same without it."""
    pytest.importorskip("orjson")
    with_it, without = unpacked(), unpacked("without orjson")
    assert len(with_it) == len(READ) + len(REFUSED)
    assert with_it == without


def test_a_message_is_one_line_a_payload():
    """Other programs may count on JSON alone."""
    message = pack([b'{"e":"pv"', b'{"e":"se"'])
    assert message.decode().splitlines() == [
        '{"version":1,"events":[',
        '{"e":"pv"},',
        '{"e":"se"}',
        "]}",
    ]
