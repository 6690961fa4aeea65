"""What says who the user is, left out: by the handler, the formatter and the middleware."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import gzip
import io
import json
import logging
import subprocess
import sys
from types import MappingProxyType

import pytest

from helpers import NOWHERE, entity, tracking
from snowplow_logging import (
    PageView,
    SelfDescribingJson,
    SnowplowAdapter,
    SnowplowHandler,
    SnowplowJsonFormatter,
    subject_context,
)
from snowplow_logging.web import SnowplowMiddleware

SESSION_ID = "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d"
NOBODY = "00000000-0000-0000-0000-000000000000"

SUBJECT = {
    "user_id": "u-42",
    "domain_user_id": "d-42",
    "network_user_id": "n-42",
    "ip_address": "198.51.100.7",
    "domain_session_id": SESSION_ID,
    "domain_session_index": 7,
    "useragent": "a browser",
    "language": "de",
}
USER, SESSION, OTHERS = {"uid", "duid", "tnuid", "ip"}, {"sid", "vid"}, {"ua", "lang"}
LEFT = {True: OTHERS, "with_session": OTHERS | SESSION, False: OTHERS | SESSION | USER}

choices = pytest.mark.parametrize("choice", LEFT, ids=["anonymous", "with session", "known"])

CLIENT_SESSION = {
    "schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
    "data": {
        "userId": "0b5ea4c0-4067-11e9-8bad-9b1deb4d3b7d",
        "sessionId": SESSION_ID,
        "sessionIndex": 3,
        "previousSessionId": "1b5ea4c0-4067-11e9-8bad-9b1deb4d3b7d",
        "storageMechanism": "SQLITE",
    },
}


def left(payload):
    """Return the fields of a subject that a payload has."""
    return (USER | SESSION | OTHERS) & set(payload)


def surrounded(log, logger):
    """Log an event for each place that a subject comes from."""
    log({"event": "page_view", "page_url": "app:event", "subject": SUBJECT})
    log(PageView(page_url="app:object", subject=SUBJECT))
    SnowplowAdapter(logger, subject=SUBJECT).page_view(page_url="app:adapter")
    with subject_context(**SUBJECT):
        log({"event": "page_view", "page_url": "app:around"})


PLACES = ["app:adapter", "app:around", "app:event", "app:object"]


@choices
def test_wherever_the_subject_comes_from(collector, choice):
    """Neither event, object, adapter nor surroundings tell more than is wanted."""
    with tracking(collector, anonymous_tracking=choice) as tracked:
        surrounded(tracked.log, tracked.logger)
        payloads = tracked.payloads()
    assert {payload["url"]: left(payload) for payload in payloads} == dict.fromkeys(
        PLACES, LEFT[choice]
    )


@choices
def test_the_handlers_own_subject(collector, choice):
    """It is no exception."""
    with tracking(collector, anonymous_tracking=choice, subject=SUBJECT) as tracked:
        tracked.log(PageView(page_url="app:x"))
        (payload,) = tracked.payloads()
    assert left(payload) == LEFT[choice]


def test_nobody_sees_what_is_left_out(collector, tmp_path):
    """Neither `before_send`, which cannot put it back, nor callbacks nor dead letters."""
    seen = []

    def before_send(event):
        seen.append(dict(event["subject"]))
        return {**event, "subject": {**event["subject"], **SUBJECT}}

    letters = tmp_path / "letters"
    with tracking(
        collector,
        anonymous_tracking=True,
        before_send=before_send,
        dead_letter=letters,
        on_failure=lambda events, _: seen.extend(event["subject"] for event in events),
    ) as tracked:
        with subject_context(**SUBJECT):
            tracked.log(PageView(page_url="app:x"))
            tracked.log({"event": "struct_event", "action": "a", "subject": SUBJECT})
        (payload,) = tracked.payloads()
        tracked.handler.close()
    assert left(payload) == OTHERS
    assert len(seen) == 3
    assert all(set(subject) == {"useragent", "language"} for subject in seen)
    assert "u-42" not in letters.read_text()


@dataclasses.dataclass
class Session:
    """A session as a program may hold it."""

    userId: str  # noqa: N815 - the schema's names
    sessionId: str  # noqa: N815
    sessionIndex: int  # noqa: N815
    previousSessionId: str  # noqa: N815
    storageMechanism: str  # noqa: N815


@dataclasses.dataclass
class Entity:
    """An entity as a program may make a class of it."""

    schema: str
    data: object


class Schema(enum.Enum):
    """The schemas that a program knows."""

    SESSION = CLIENT_SESSION["schema"]


class Opaque:
    """A session that only the program can make JSON of."""


HELD = Session(**CLIENT_SESSION["data"])
FORMS = {
    "dict": CLIENT_SESSION,
    "object": SelfDescribingJson(**CLIENT_SESSION),
    "data of a class": SelfDescribingJson(CLIENT_SESSION["schema"], HELD),
    "all of a class": Entity(CLIENT_SESSION["schema"], HELD),
    "schema of an enum": {**CLIENT_SESSION, "schema": Schema.SESSION},
    "mapping": MappingProxyType({**CLIENT_SESSION, "data": MappingProxyType(vars(HELD))}),
    "opaque data": {**CLIENT_SESSION, "data": Opaque()},
}
"""The forms in which an entity is taken."""


@pytest.mark.parametrize("form", FORMS)
@choices
def test_a_session_that_an_entity_names(collector, choice, form):
    """It is left out, or is nobody's, as the other trackers have it; other entities stay."""
    session = FORMS[form]
    expected = {
        True: [entity(a=1)],
        False: [entity(a=1), CLIENT_SESSION],
        "with_session": [
            entity(a=1),
            {
                **CLIENT_SESSION,
                "data": {**CLIENT_SESSION["data"], "userId": NOBODY, "previousSessionId": None},
            },
        ],
    }[choice]
    settings = {"anonymous_tracking": choice, "json_default": lambda value: CLIENT_SESSION["data"]}
    with tracking(collector, **settings) as tracked:
        tracked.log(PageView(page_url="app:x", context=[entity(a=1), session]))
        with subject_context(context=[entity(a=1), session]):
            tracked.log(PageView(page_url="app:x"))
        arrived = tracked.arrived()
    for context in ([entity(a=1), session], [lambda _: entity(a=1), lambda _: session]):
        collector.reset()
        with tracking(collector, context=context, **settings) as tracked:
            tracked.log(PageView(page_url="app:x"))
            arrived += tracked.arrived()
    assert [event["event"]["contexts"]["data"] for event in arrived] == [expected] * 4


@pytest.mark.parametrize("choice", [True, "with_session"])
@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (CLIENT_SESSION["schema"], {"firstEventTimestamp": dt.datetime(2026, 1, 1)}),  # noqa: DTZ001
        (CLIENT_SESSION["schema"], {"eventIndex": {1}}),
        (CLIENT_SESSION["schema"], {"eventIndex": float("nan")}),
        (CLIENT_SESSION["schema"].removesuffix("-2"), {}),
    ],
    ids=["naive time", "set", "NaN", "version"],
)
def test_a_session_of_an_event_that_is_refused(tmp_path, choice, schema, fault):
    """Whoever sees the event that could not be sent does not see whose it was, either."""
    letters, failed = tmp_path / "letters.jsonl", []
    session = {"schema": schema, "data": {**CLIENT_SESSION["data"], **fault}}
    event = {"event": "page_view", "page_url": "app:x", "platform": 5, "context": [session]}
    handler = SnowplowHandler(
        NOWHERE,
        anonymous_tracking=choice,
        dead_letter=letters,
        on_failure=lambda events, _: failed.extend(events),
        shutdown_timeout=0.1,
    )
    handler.handleError = lambda record: None
    formatter = SnowplowJsonFormatter(anonymous_tracking=choice)
    record = logging.makeLogRecord({"msg": "x", "snowplow": event})
    handler.handle(record)
    handler.close()
    seen = letters.read_text() + repr(failed) + formatter.format(record)
    assert len(failed) == 1
    assert CLIENT_SESSION["data"]["userId"] not in seen
    assert CLIENT_SESSION["data"]["previousSessionId"] not in seen


@pytest.mark.parametrize("form", FORMS)
def test_a_session_in_a_line(form):
    """The formatter leaves it out as the handler does."""
    formatter = SnowplowJsonFormatter(
        anonymous_tracking=True, json_default=lambda value: CLIENT_SESSION["data"]
    )
    event = {"event": "page_view", "page_url": "app:x", "context": [entity(a=1), FORMS[form]]}
    record = logging.makeLogRecord({"msg": "x", "snowplow": event})
    assert json.loads(formatter.format(record))["snowplow"]["context"] == [entity(a=1)]


def test_what_is_left_out_is_not_judged(collector):
    """An address that Snowplow would refuse costs no event of which it is not a part."""
    with tracking(collector, anonymous_tracking=True) as tracked:
        tracked.log(PageView(page_url="app:x", subject={"domain_session_id": "no UUID"}))
        tracked.log(PageView(page_url="app:x", subject={"nonsense": 1}))
        assert len(tracked.payloads()) == 1
    (error,) = tracked.handler.errors
    assert "nonsense" in str(error)


@choices
def test_lines_and_their_replay(collector, tmp_path, choice):
    """Lines tell no more, and so nothing more arrives from them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(SnowplowJsonFormatter(anonymous_tracking=choice))
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    surrounded(lambda event: logger.info("x", extra={"snowplow": event}), logger)
    lines = tmp_path / "lines.gz"
    lines.write_bytes(gzip.compress(stream.getvalue().encode()))
    command = [sys.executable, "-m", "snowplow_logging", "replay", lines]
    subprocess.run(
        [*command, "--endpoint", collector.endpoint, "--header", "SP-Anonymous:*"], check=True
    )
    payloads = [event["rawEvent"]["parameters"] for event in collector.good]
    assert {payload["url"]: left(payload) for payload in payloads} == dict.fromkeys(
        PLACES, LEFT[choice]
    )
    for line in stream.getvalue().splitlines():
        assert ("u-42" in line) == (choice is False)
        assert json.loads(line)["snowplow"]["subject"]["language"] == "de"


def wsgi_request(tracked, **headers):
    """Return a function that serves one request within a middleware, which logs an event."""

    def application(environ, start_response):
        tracked.log(PageView(page_url="app:x"))
        start_response("200 OK", [])
        return []

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": "shop.example.com",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "198.51.100.7",
        "wsgi.url_scheme": "http",
        "HTTP_USER_AGENT": "a browser",
        "HTTP_ACCEPT_LANGUAGE": "de",
        "HTTP_COOKIE": f"_sp_id.1fff=d-42.1.7.2.1.{SESSION_ID}; sp={SESSION_ID}",
        **headers,
    }

    def serve(**settings):
        middleware = SnowplowMiddleware(application, user=lambda _: "u-42", **settings)
        assert [*middleware(dict(environ), lambda *_: None)] == []

    return serve


@choices
def test_of_a_request(tracked, choice):
    """The middleware binds no more of a request, by a setting or by who asks."""
    serve = wsgi_request(tracked)
    serve(anonymous_tracking=choice)
    serve(anonymous_tracking=lambda environ: choice if environ["REMOTE_ADDR"] else None)
    assert [left(payload) for payload in tracked.payloads()] == [LEFT[choice]] * 2


def test_of_a_request_when_nobody_knows(tracked, reports):
    """What should say whether the user agreed, and fails, is no yes; nor is it asked twice."""
    asked = []

    def fails(environ):
        asked.append(environ)
        raise LookupError

    wsgi_request(tracked)(anonymous_tracking=fails)
    wsgi_request(tracked)(anonymous_tracking=lambda _: "maybe")
    assert [left(payload) for payload in tracked.payloads()] == [OTHERS] * 2
    assert len(asked) == 1
    assert any("anonymous_tracking raised LookupError()" in report for report in reports)


@pytest.mark.parametrize(
    "make",
    [
        lambda **settings: SnowplowHandler(NOWHERE, **settings),
        SnowplowJsonFormatter,
        lambda **settings: SnowplowMiddleware(lambda *_: [], **settings),
    ],
    ids=["handler", "formatter", "middleware"],
)
def test_what_is_no_choice(make):
    """Another text is an error where it is given."""
    with pytest.raises(ValueError, match="'with_session'"):
        make(anonymous_tracking="session")
