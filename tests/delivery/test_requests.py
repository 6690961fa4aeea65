"""Requests: what one is, what each answer to it means, and when it is made again."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from email.utils import formatdate

import pytest
import requests
from requests.auth import HTTPDigestAuth

from faulty_collector import DROP, RESET, SILENCE, Answer, FaultyCollector
from helpers import tracking
from numbered_events import accounted, event, labels, log, sizes
from snowplow_logging import __version__, subject_context

PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
OUR_ANSWER = 10.0  # seconds within which this machine answers, however busy it is


# Requests.


def test_a_post_is_what_the_protocol_asks_for(collector):
    """Path, content type, user agent, schema and times of a POST are the protocol's."""
    before = int(time.time() * 1000)
    with tracking(collector) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush()
    (request,) = collector.requests
    assert (request.method, request.target) == ("POST", "/com.snowplowanalytics.snowplow/tp2")
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["user-agent"].startswith(f"snowplow-logging/{__version__} ")
    assert "content-encoding" not in request.headers
    assert "sp-anonymous" not in request.headers
    assert json.loads(request.body)["schema"] == PAYLOAD_DATA
    (sent,) = request.events
    assert before <= int(sent["dtm"]) <= int(sent["stm"]) <= time.time() * 1000


def test_a_get_carries_one_event(collector):
    """By GET each event is a request of its own, in its query, with no content."""
    with tracking(collector, method="get") as tracked:
        for number in range(3):
            tracked.log(event(number, property="a&b=ü?"))
        assert tracked.handler.flush()
    assert [request.path for request in collector.requests] == ["/i"] * 3
    assert {request.method for request in collector.requests} == {"GET"}
    assert labels(collector.events) == [0, 1, 2]
    for request in collector.requests:
        assert request.events[0]["se_pr"] == "a&b=ü?"
        assert abs(int(request.events[0]["stm"]) - time.time() * 1000) < 60_000
        assert "content-type" not in request.headers
        assert request.body == b""


def test_path_headers_and_anonymous_are_the_users(collector):
    """A mapped path, headers of the user's and the wish for anonymity reach the collector."""
    settings = {"path": "com.acme/track", "headers": {"X-Key": "k"}, "anonymous": True}
    with tracking(collector, **settings) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush()
    (request,) = collector.requests
    assert request.target == "/com.acme/track"
    assert request.headers["x-key"] == "k"
    assert request.headers["sp-anonymous"] == "*"


def digest_session():
    """Return a session that authenticates itself, which takes a second request."""
    session = requests.Session()
    session.auth = HTTPDigestAuth("user", "secret")
    return session


@pytest.mark.parametrize("session", [None, requests.Session, digest_session])
def test_no_cookie_is_sent_back(collector, session):
    """What the collector knows its users by is never kept, in a session of the user's either."""
    cookie = {"Set-Cookie": "sp=5c0ffee; Max-Age=31536000; Path=/"}
    collector.default = Answer(headers=cookie)
    if session is digest_session:
        challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"', **cookie}
        collector.answers.append(Answer(401, headers=challenge))
    given = None if session is None else session()
    with tracking(collector, batch_size=1, session=given) as tracked:
        log(tracked, 3)
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1, 2]
    # The answer to a challenge is part of the same exchange, and the proxy's affair.
    exchange = 2 if session is digest_session else 0
    assert not any("cookie" in request.headers for request in collector.requests[exchange:])
    assert given is None or list(given.cookies) == []


def test_a_users_session_keeps_what_is_its_own(collector):
    """A session's cookies, headers and hooks are used, and it is left open."""
    session = requests.Session()
    session.cookies["gate"] = "open"
    session.headers["X-Team"] = "shop"
    seen = []
    session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    with tracking(collector, session=session) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush()
    (request,) = collector.requests
    assert request.headers["cookie"] == "gate=open"
    assert request.headers["x-team"] == "shop"
    assert seen == [200]
    assert session.get(collector.endpoint + "/i", timeout=10).status_code == 200


def test_what_a_users_session_logs_is_sent(collector):
    """An event that is logged amid a request is an event, for its handler and for others."""
    logged = []

    def authenticate(request):
        if not logged:
            logged.append(1)
            tracked.log(event("token"))
        return request

    session = requests.Session()
    session.auth = authenticate
    with FaultyCollector() as another, tracking(another) as other:
        with tracking(collector, session=session) as tracked:
            tracked.logger.addHandler(other.handler)
            log(tracked, 1)
            for handler in (tracked.handler, other.handler):
                assert handler.flush()  # and with it what the request logs
                assert handler.flush()
                assert (handler.stats.sent, accounted(handler.stats)) == (2, 2)
        assert collector.labels == another.labels == ["0", "token"]


def test_what_a_request_says_of_itself_is_not_sent(collector):
    """Otherwise another one would follow it, and so for ever; a filter may make events of all."""

    def make_event(record):
        record.snowplow = getattr(record, "snowplow", None) or event(record.name)
        return True

    with tracking(collector) as tracked:
        tracked.handler.addFilter(make_event)
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(tracked.handler)
        root.setLevel(logging.DEBUG)
        try:
            log(tracked, 1)
            assert tracked.handler.flush()
            logging.getLogger("urllib3.util").warning("of a request of the program's")
            assert tracked.handler.flush()
        finally:
            root.setLevel(level)
            root.removeHandler(tracked.handler)
        assert (tracked.handler.stats.sent, accounted(tracked.handler.stats)) == (2, 2)
    assert collector.labels == ["0", "urllib3.util"]


def test_connections_are_used_again(collector):
    """Requests one after the other take one connection."""
    with tracking(collector, batch_size=1) as tracked:
        log(tracked, 20)
        assert tracked.handler.flush()
    assert len(collector.requests) == 20
    assert collector.connections == 1


def test_a_connection_that_is_forgotten_loses_nothing(collector):
    """One that the collector has dropped costs an event no more than a second request."""
    collector.answers.append(DROP)
    with tracking(collector) as tracked:
        for number in range(3):
            log(tracked, 1, number)
            assert tracked.handler.flush()
            collector.hang_up()
        assert tracked.handler.stats.retried == 0
        assert tracked.handler.stats.sent == 3
    assert sorted(set(labels(collector.events))) == [0, 1, 2]


@pytest.mark.parametrize("connections", [1, 3, 20])
def test_so_many_requests_are_under_way_at_once(collector, caplog, connections):
    """As many as `connections` says and no more, each on a connection that is used again."""
    gate = threading.Event()
    collector.default = Answer(gate=gate)
    with tracking(collector, batch_size=1, connections=connections) as tracked:
        log(tracked, connections * 3)
        collector.wait_for_requests(connections)
        assert len(collector.requests) == connections
        gate.set()
        assert tracked.handler.flush()
    assert collector.most_at_once == connections
    assert collector.connections == connections
    assert sorted(labels(collector.events)) == list(range(connections * 3))
    assert [record for record in caplog.records if record.name.startswith("urllib3")] == []


# Answers.


FAULTS = {
    "408": 408,
    "418": 418,
    "429": 429,
    "500": 500,
    "502": 502,
    "503": 503,
    "504": 504,
    "reset": RESET,
    "silence": SILENCE,
    "web page": Answer(headers={"Content-Type": "text/html"}, body=b"\n<html>Sign in"),
    "half an answer": Answer(raw=b"HTTP/1.1 20", close=True),
    "no HTTP": Answer(raw=b"220 mail.example.com ESMTP\r\n", close=True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_pass_is_tried_again(collector, fault):
    """A failure that is not final costs time and nothing else."""
    collector.answers += [FAULTS[fault]] * 2
    with tracking(collector, timeout=(5, 0.3), max_retry_delay=0.05) as tracked:
        log(tracked, 3)
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    assert labels(collector.events[-3:]) == [0, 1, 2]
    assert sizes(collector) == [3, 3, 3]
    assert (stats.sent, stats.retried, stats.failed, stats.queued) == (3, 6, 0, 0)
    assert stats.last_error


def test_a_refused_connection_is_tried_again(collector):
    """A collector that is down is waited for."""
    collector.stop()
    with tracking(collector, max_retry_delay=0.05) as tracked:
        log(tracked, 3)
        assert not tracked.handler.flush(0.2)
        assert "refused" in tracked.handler.stats.last_error
        collector.start()
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1, 2]


def test_a_slow_answer_is_an_answer(collector):
    """An answer that trickles in is taken, and its events are sent once."""
    collector.answers.append(Answer(drip=0.005))
    with tracking(collector) as tracked:
        log(tracked, 2)
        assert tracked.handler.flush()
        assert tracked.handler.stats.retried == 0
    assert labels(collector.events) == [0, 1]


def test_an_event_sent_again_differs_in_its_time_of_sending_alone(collector):
    """Each attempt has its own `stm` and is the same event in all else."""
    collector.answers += [503, RESET]
    with tracking(collector, max_retry_delay=0.05) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush()
    attempts = [request.events[0] for request in collector.requests]
    times = [int(attempt.pop("stm")) for attempt in attempts]
    assert times == sorted(times)
    assert attempts[0] == attempts[1] == attempts[2]


FINAL = {
    400: "could not read the request",
    401: "wants authentication",
    403: "forbids the request",
    410: "gone from this address",
    422: "could not process",
}


@pytest.mark.parametrize("status", FINAL)
def test_what_will_not_pass_fails_with_what_to_mend(collector, caplog, status):
    """A final answer is believed at once, and said in words that help."""
    failures = []
    collector.answers.append(status)
    with tracking(
        collector, on_failure=lambda events, reason: failures.append((len(events), reason))
    ) as tracked:
        log(tracked, 3)
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    ((count, reason),) = failures
    assert count == 3
    assert f"answered {status} " in reason
    assert FINAL[status] in reason
    assert (stats.failed, stats.sent, stats.losses) == (3, 0, {"refused by the collector": 3})
    assert reason in stats.last_error
    assert reason in caplog.text  # where it is once the handler is closed
    assert len(collector.requests) == 1


@pytest.mark.parametrize("codes", [{403: True, 503: False}, {"403": True, "503": False}])
def test_retry_codes_change_the_rule(collector, codes):
    """A status of the user's choice is tried again, and another is final."""
    collector.answers += [403, 200, 503]
    with tracking(collector, batch_size=1, max_retry_delay=0.05, retry_codes=codes) as tracked:
        log(tracked, 2)
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    assert (stats.sent, stats.retried, stats.failed) == (1, 1, 1)
    assert [labels(request.events) for request in collector.requests] == [[0], [0], [1]]


def test_max_attempts_ends_it(collector):
    """After so many attempts the events are given up, and the next ones have as many."""
    failures = []
    collector.answers += [503, 500, 503]
    with tracking(
        collector,
        batch_size=2,
        max_attempts=2,
        max_retry_delay=0.05,
        on_failure=lambda events, reason: failures.append((labels(events), reason)),
    ) as tracked:
        log(tracked, 4)
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    ((given_up, reason),) = failures
    assert given_up == [0, 1]
    assert "answered 500" in reason
    assert "after 2 attempts" in reason
    assert labels(collector.events) == [2, 3]
    assert (stats.sent, stats.failed, stats.retried) == (2, 2, 4)
    assert stats.losses == {"max_attempts": 2}


def test_too_large_a_request_is_halved(collector):
    """A 413 halves the batch until it fits, in the order of the log calls."""
    collector.default = lambda events: 413 if len(events) > 3 else 200
    with tracking(collector) as tracked:
        log(tracked, 17)
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == 17
    assert labels(collector.events) == list(range(17))


def test_one_event_that_is_too_large_costs_only_itself(collector):
    """An event for which even a request of its own is too large is given up, and no other."""
    failures = []
    collector.default = lambda events: 413 if "5" in [e["se_la"] for e in events] else 200
    with tracking(
        collector, on_failure=lambda events, reason: failures.append((labels(events), reason))
    ) as tracked:
        log(tracked, 9)
        assert tracked.handler.flush()
        assert tracked.handler.stats.losses == {"refused by the collector": 1}
    assert labels(collector.events) == [0, 1, 2, 3, 4, 6, 7, 8]
    ((given_up, reason),) = failures
    assert given_up == [5]
    assert "no request as large as this one event" in reason


def test_a_half_that_is_tried_again_counts_alone(collector):
    """What `retried` counts are the events of each request but their first."""
    collector.answers += [413, 503]
    with tracking(collector, max_retry_delay=0.05) as tracked:
        log(tracked, 4)
        assert tracked.handler.flush()
        assert tracked.handler.stats.retried == 6  # the four in halves, and the first two again
    assert sizes(collector) == [4, 2, 2, 2]


# Events.


def test_what_an_event_is_is_fixed_at_the_log_call(collector):
    """A dict that its owner changes afterwards changes nothing, however often it is sent."""
    mutable = {"schema": "iglu:com.acme/plan/jsonschema/1-0-0", "data": {"tags": ["a"]}}
    logged = event(1, context=[mutable])
    collector.answers.append(503)
    with tracking(collector, max_retry_delay=0.05, encode_base64=False) as tracked:
        tracked.log(logged)
        logged["label"] = "2"
        mutable["data"]["tags"].append("b")
        logged["context"].clear()
        assert tracked.handler.flush()
    for request in collector.requests:
        (sent,) = request.events
        assert sent["se_la"] == "1"
        assert json.loads(sent["co"])["data"][0]["data"] == {"tags": ["a"]}


def test_every_event_has_its_own_subject(collector):
    """Twenty threads and a hundred tasks at once, each with its own subject, mix nothing up."""

    def in_thread(number):
        for step in range(5):
            with subject_context(user_id=f"thread {number}"):
                tracked.log(event(number, property=str(step), action="thread"))

    async def in_task(number):
        with subject_context(user_id=f"task {number}"):
            for step in range(5):
                await asyncio.sleep(0)
                tracked.log(event(number, property=str(step), action="task"))

    async def main():
        await asyncio.gather(*(in_task(number) for number in range(100)))

    with tracking(collector, batch_size=50) as tracked:
        threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        asyncio.run(main())
        for thread in threads:
            thread.join()
        assert tracked.handler.flush()
    assert len(collector.events) == 600
    for sent in collector.events:
        assert sent["uid"] == f"{sent['se_ac']} {sent['se_la']}"


# Back-off.


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_the_least_wait(collector, form):
    """Seconds or a date: nothing is sent before, whatever the caller does."""
    start, begun = time.time(), time.monotonic()
    date = math.floor(start) + 3
    value = "1" if form == "seconds" else formatdate(date, usegmt=True)
    collector.answers.append(Answer(503, headers={"Retry-After": value}))
    with tracking(collector) as tracked:
        log(tracked, 1)
        while not tracked.handler.flush(0.01):
            assert time.time() - start < OUR_ANSWER
    first, second = collector.requests
    since, wait = (first.at, 1) if form == "seconds" else (begun, date - start)
    assert wait - 0.05 < second.at - since < wait + OUR_ANSWER


@pytest.mark.parametrize("value", ["3600", "9" * 400, formatdate(2**33, usegmt=True), "soon", "-1"])
def test_retry_after_is_capped_and_may_be_nonsense(collector, value):
    """No answer can make it wait for longer than `max_retry_delay`."""
    collector.answers.append(Answer(429, headers={"Retry-After": value}))
    with tracking(collector, max_retry_delay=0.1) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(OUR_ANSWER)


def hammer_flush(tracked, until):
    """Flush again and again."""
    log(tracked, 10)
    while time.monotonic() < until:
        assert not tracked.handler.flush(0.005)


def hammer_log(tracked, until):
    """Log again and again, a full batch each time."""
    while time.monotonic() < until:
        log(tracked, 10)
        tracked.handler.flush(0)


def hammer_close(tracked, until):
    """Log and close again and again."""
    while time.monotonic() < until:
        log(tracked, 1)
        tracked.handler.close()


@pytest.mark.parametrize("hammer", [hammer_flush, hammer_log, hammer_close])
@pytest.mark.parametrize("fault", [Answer(503, headers={"Retry-After": "30"}), RESET, SILENCE])
def test_a_caller_in_a_loop_makes_no_more_requests(collector, hammer, fault):
    """There is one request a back-off step, and one at a time, whatever the caller does."""
    collector.default = fault
    settings = {"batch_size": 10, "timeout": (3, 0.5 if fault is SILENCE else OUR_ANSWER)}
    with tracking(collector, shutdown_timeout=0.02, **settings) as tracked:
        while not collector.requests:  # none is in time while the machine stands still
            hammer(tracked, time.monotonic() + 0.9)
        stats = tracked.handler.stats
        assert accounted(stats) == stats.failed + stats.queued + stats.dropped
        made = len(collector.requests)
        assert collector.most_at_once <= 1  # none where each was given up before it was read
    if fault.headers and hammer is not hammer_close:
        assert made == 1
    else:
        # With full jitter a step may be short, but not step after step. A close cuts a wait that
        # the answer asks for short, but not below half a second, and a request that it cuts short
        # has no such answer.
        assert 1 <= made <= 10


def test_closing_cuts_a_wait_short(collector):
    """A close does not sit out a back-off of a minute where the collector is back."""
    collector.answers.append(Answer(503, headers={"Retry-After": "50"}))
    with tracking(collector) as tracked:
        log(tracked, 2)
        assert not tracked.handler.flush(0.2)
        while tracked.handler.stats.last_error is None:
            time.sleep(0.01)  # until the answer is there, and the close finds it waiting
        start = time.monotonic()
        tracked.handler.close()
        assert time.monotonic() - start < OUR_ANSWER
        assert tracked.handler.stats.sent == 2
