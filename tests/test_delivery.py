"""Delivery: batches, requests, retries, callbacks, a full queue, and the account of it all."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import math
import queue
import random
import signal
import sys
import threading
import time
import weakref
from email.utils import formatdate

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.auth import HTTPDigestAuth

from faulty_collector import DROP, RESET, SILENCE, Answer, FaultyCollector
from helpers import tracking
from snowplow_logging import SnowplowHandler, __version__, subject_context

PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
OUR_ANSWER = 10.0  # seconds within which this machine answers, however busy it is


@pytest.fixture
def collector():
    """Start a collector that takes everything until it is told otherwise."""
    with FaultyCollector() as running:
        yield running


def event(number, **more):
    """Return an event that can be told from others."""
    return {"event": "struct_event", "category": "c", "action": "a", "label": str(number), **more}


def log(tracked, count, first=0):
    """Log so many events, numbered."""
    for number in range(first, first + count):
        tracked.log(event(number))


def labels(events):
    """Return the numbers of events."""
    return [int(event["se_la"]) for event in events]


def sizes(collector):
    """Return how many events each request carried."""
    return [len(request.events) for request in collector.requests]


def threads_of_emitters():
    """Return the threads that emitters have now, but for those that write a report."""
    names = {one: one.name for one in threading.enumerate()}
    return {one for one, name in names.items() if name.startswith("snowplow-logging-1")}


def accounted(stats):
    """Return how many events the account knows."""
    gone = stats.sent + stats.failed + stats.dropped + stats.invalid + stats.filtered
    assert stats.failed + stats.dropped + stats.invalid == sum(stats.losses.values())
    return gone + stats.queued


# Batches.


def test_a_batch_leaves_as_soon_as_it_is_full(collector):
    """Count makes a batch, and what is left waits."""
    with tracking(collector, batch_size=10, flush_interval=60) as tracked:
        log(tracked, 25)
        collector.wait_for_requests(2)
        assert sizes(collector) == [10, 10]
        assert tracked.handler.flush()
        assert sizes(collector) == [10, 10, 5]
    assert labels(collector.events) == list(range(25))


def test_a_batch_is_as_large_as_its_bytes_allow(collector):
    """Bytes of the body make a batch: no body is larger, and none could hold one event more."""
    with tracking(collector, batch_bytes=3_000, flush_interval=60) as tracked:
        for count in (1, 2, 40):
            log(tracked, count, 100)
            assert tracked.handler.flush()
    one, two, *bodies = (len(request.body) for request in collector.requests)
    assert labels(collector.events)[3:] == list(range(100, 140))
    assert len(bodies) > 2
    assert max(bodies) <= 3_000
    assert min(bodies[:-1]) + two - one > 3_000


def test_an_event_that_alone_is_over_the_bytes_leaves_alone(collector):
    """The limit of a batch is no limit of an event."""
    with tracking(collector, batch_bytes=100) as tracked:
        log(tracked, 3)
        assert tracked.handler.flush()
    assert sizes(collector) == [1, 1, 1]


@given(
    lengths=st.lists(st.sampled_from((1, 400, 3_000, 4_050)) | st.integers(1, 4_096), max_size=40)
)
@settings(max_examples=20, deadline=None)
def test_a_batch_leaves_as_soon_as_its_bytes_are_there(lengths):
    """Bytes make a batch at once, however the small and the large ones mix."""
    with FaultyCollector() as collector:
        with tracking(collector, batch_bytes=20_000, flush_interval=60) as tracked:
            for count in (1, 2):
                log(tracked, count)
                assert tracked.handler.flush()
            one, two = (len(request.body) for request in collector.requests)
            waiting, requests = [], 2
            for length in lengths:
                tracked.log(event("x" * length))
                waiting.append(two - one - 1 + length)
                if sum(waiting) >= 20_000:
                    requests += 1
                    collector.wait_for_requests(requests)
                    del waiting[: sizes(collector)[-1]]
            assert tracked.handler.flush()
        assert len(collector.events) == 3 + len(lengths)


@pytest.fixture
def hasty_threads():
    """Have threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(count, work):
    """Do the same in so many threads, each with its number, as nearly at once as can be."""
    barrier = threading.Barrier(count)

    def begin(number):
        barrier.wait()
        work(number)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("connections", [1, 3])
def test_threads_that_log_at_once_leave_no_batch_behind(collector, connections):
    """Whichever thread completes a batch, it leaves, with no other event to push it."""
    with tracking(collector, batch_size=24, flush_interval=60, connections=connections) as tracked:
        for turn in range(100):
            first = turn * 24
            in_threads(6, lambda number, first=first: log(tracked, 4, first + number * 4))
            collector.wait_for_requests(turn + 1)
        assert set(sizes(collector)) == {24}
        assert accounted(tracked.handler.stats) == 2_400
    assert sorted(labels(collector.events)) == list(range(2_400))


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_log_at_once_are_seen_by_a_flush(collector):
    """A flush and the account know of every event whose log call has returned."""
    with tracking(collector, flush_interval=60) as tracked:
        known = []

        def work(number):
            for turn in range(50):
                log(tracked, 1, number * 50 + turn)
                if number == 0 and turn % 2:
                    stats = tracked.handler.stats
                    known.append(stats.queued + stats.sent > turn)
                elif number == 0:
                    assert tracked.handler.flush()
                    known.append(turn in labels(collector.events))

        in_threads(6, work)
        assert known == [True] * 50
        assert tracked.handler.flush()
    assert sorted(labels(collector.events)) == list(range(300))


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("on_full", ["drop", "drop_oldest"])
def test_threads_that_log_at_once_do_not_overfill_the_queue(collector, on_full):
    """The queue holds what it may and no event more, and what it did not take is counted."""
    collector.stop()
    with tracking(collector, queue_size=300, on_full=on_full, shutdown_timeout=1) as tracked:
        in_threads(8, lambda number: log(tracked, 100, number * 100))
        stats = tracked.handler.stats
        assert stats.queued == 300
        assert stats.queued + stats.dropped == 800
        collector.start()
        assert tracked.handler.flush(30)
    assert len(collector.events) == stats.queued
    assert len(set(labels(collector.events))) == stats.queued


def test_one_event_leaves_after_the_flush_interval(collector):
    """Age makes a batch, with no further activity."""
    with tracking(collector, flush_interval=0.2) as tracked:
        start = time.monotonic()
        log(tracked, 1)
        (request,) = collector.wait_for_requests(1)
        assert 0.15 < request.at - start < OUR_ANSWER  # a late machine makes it only more
        log(tracked, 1)  # the next one waits for nothing else either
        collector.wait_for_requests(2)


def test_a_producer_that_never_pauses_does_not_put_off_the_first_request(collector):
    """The interval counts from the first event, not from the last."""
    sizes = {"batch_size": 10**6, "batch_bytes": 10**6, "queue_size": 10**6}
    with tracking(collector, flush_interval=0.5, **sizes) as tracked:
        start = time.monotonic()
        count = 0
        while not collector.requests:
            log(tracked, 1, count)
            count += 1
            assert not threading.Event().wait(0.001)  # fewer than a batch has bytes for
            assert time.monotonic() - start < OUR_ANSWER
        assert 0.4 < collector.requests[0].at - start < OUR_ANSWER
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == count


def test_what_a_long_request_held_up_waits_no_longer(collector):
    """An event's age counts from its log call, also where the batch before it took long."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, flush_interval=3.0) as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 3)
        assert not threading.Event().wait(3.1)  # by then all three are due
        gate.set()
        collector.wait_for_requests(3)
    assert collector.requests[2].at - collector.requests[1].at < 2.5
    assert sizes(collector) == [2, 2, 1]


def test_a_full_queue_leaves_at_once(collector):
    """A queue that has no room for a whole batch does not wait for one."""
    full = {"queue_size": 5, "on_full": "block", "block_timeout": 30}
    with tracking(collector, flush_interval=60, **full) as tracked:
        log(tracked, 23)
        assert tracked.handler.flush()
        assert tracked.handler.stats.dropped == 0
    assert labels(collector.events) == list(range(23))


def test_a_backlog_leaves_in_ordinary_batches(collector):
    """After an outage the limits hold, and the order is the one of the log calls."""
    collector.stop()
    with tracking(collector, batch_size=10, flush_interval=0.05, max_retry_delay=0.1) as tracked:
        log(tracked, 55)
        assert not tracked.handler.flush(0.3)
        collector.start()
        assert tracked.handler.flush()
        assert tracked.handler.stats.retried > 0
    assert labels(collector.events) == list(range(55))
    assert max(sizes(collector)) == 10
    assert len(collector.requests) == 6


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
@pytest.mark.parametrize("fault", [Answer(503, headers={"Retry-After": "1"}), RESET, SILENCE])
def test_a_caller_in_a_loop_makes_no_more_requests(collector, hammer, fault):
    """There is one request a back-off step, and one at a time, whatever the caller does."""
    collector.default = fault
    with tracking(collector, batch_size=10, shutdown_timeout=0.02, timeout=(3, 0.5)) as tracked:
        hammer(tracked, time.monotonic() + 0.9)
        stats = tracked.handler.stats
        assert accounted(stats) == stats.failed + stats.queued + stats.dropped
        made = len(collector.requests)
        assert collector.most_at_once == 1
    if not fault.headers:
        # With full jitter a step may be short, but not step after step.
        assert 1 <= made <= 10
    elif hammer is hammer_close:
        assert made <= 2
    else:
        assert made == 1


def test_closing_cuts_a_wait_short(collector):
    """A close does not sit out a back-off of a minute where the collector is back."""
    collector.answers.append(Answer(503, headers={"Retry-After": "50"}))
    with tracking(collector) as tracked:
        log(tracked, 2)
        assert not tracked.handler.flush(0.2)
        start = time.monotonic()
        tracked.handler.close()
        assert time.monotonic() - start < OUR_ANSWER
        assert tracked.handler.stats.sent == 2


# Callbacks.


def test_callbacks_are_told_of_every_event(collector):
    """`on_success` and `on_failure` get the events, and why, on a thread of the handler's."""
    told = []
    collector.answers += [200, 400]

    def succeeded(events):
        told.append(("sent", labels(events), None, threading.current_thread()))

    def failed(events, reason):
        what = [event.get("se_la") or event.get("label") for event in events]
        told.append(("failed", [int(label) for label in what], reason, threading.current_thread()))

    with tracking(collector, batch_size=2, on_success=succeeded, on_failure=failed) as tracked:
        log(tracked, 4)
        assert tracked.handler.flush()
        tracked.log(event(4, value="much"))
        assert tracked.handler.flush()
    assert [(what, which) for what, which, _, _ in told] == [
        ("sent", [0, 1]),
        ("failed", [2, 3]),
        ("failed", [4]),
    ]
    assert "answered 400" in told[1][2]
    assert "value" in told[2][2]
    assert all(thread is not threading.main_thread() for *_, thread in told)


class _Unprintable(Exception):
    def __str__(self):
        raise ValueError

    __repr__ = __str__


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), _Unprintable()])
def test_a_callback_that_raises_changes_nothing(collector, caplog, error):
    """It is reported once, and everything else goes on."""

    def raises(*_):
        raise error

    collector.answers += [413, 200, 200, 400]
    callbacks = {"on_success": raises, "on_failure": raises}
    with tracking(collector, batch_size=2, **callbacks) as tracked:
        for first in (0, 2, 4):
            log(tracked, 2, first)
            assert tracked.handler.flush()
        tracked.log({"event": "page_vew"})
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    assert (stats.sent, stats.failed, stats.invalid) == (4, 2, 1)
    reports = [r.getMessage() for r in caplog.records if "callback" in r.getMessage()]
    assert len(reports) == 1
    assert "raises" in reports[0]
    assert type(error).__name__ in reports[0]


@pytest.mark.parametrize("act", ["flush", "close"])
@pytest.mark.parametrize("connections", [1, 2])
def test_a_callback_may_flush_and_close(collector, act, connections):
    """A callback that waits for everything waits neither for itself nor for another callback."""
    calls = queue.SimpleQueue()

    def acts(*_):
        start = time.monotonic()
        answered = getattr(tracked.handler, act)()
        calls.put((answered, time.monotonic() - start))

    collector.answers += [413]
    settings = {"batch_size": 4, "on_success": acts, "on_failure": acts}
    with tracking(collector, connections=connections, **settings) as tracked:
        log(tracked, 4)
        tracked.log({"event": "page_vew"})
        log(tracked, 8, 4)
        assert tracked.handler.flush()
        log(tracked, 4, 12)
        assert tracked.handler.flush()
        stats = tracked.handler.stats
    assert sorted(labels(collector.events)) == list(range(16))
    assert (stats.sent, stats.invalid, stats.failed) == (16, 1, 0)
    for _ in range(6):  # one may still be on its way back when another has closed the handler
        answered, seconds = calls.get(timeout=OUR_ANSWER)
        assert answered is (True if act == "flush" else None)
        assert seconds < OUR_ANSWER


def test_callbacks_on_two_connections_do_not_wait_for_each_other(collector):
    """Two callbacks that flush at the same time both return."""
    meeting = threading.Barrier(2, timeout=OUR_ANSWER)
    answers = []

    def flushes(_):
        meeting.wait()
        answers.append(tracked.handler.flush(20))

    with tracking(collector, batch_size=1, connections=2, on_success=flushes) as tracked:
        start = time.monotonic()
        log(tracked, 2)
        assert tracked.handler.flush()
        assert time.monotonic() - start < OUR_ANSWER
    assert answers == [True, True]


def test_a_callback_may_log(collector):
    """An event that a callback logs is an event like any other."""

    def logs(events):
        if labels(events) == [0]:
            tracked.log(event(1))

    with tracking(collector, on_success=logs, flush_interval=0.1) as tracked:
        log(tracked, 1)
        collector.wait_for_events(2)
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == 2
    assert labels(collector.events) == [0, 1]


# A full queue.


def test_a_full_queue_drops_the_new_event(collector):
    """By default what does not fit any more is dropped, counted and reported."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, queue_size=5) as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 7, 2)
        stats = tracked.handler.stats
        assert (stats.queued, stats.dropped, stats.losses) == (5, 4, {"queue full": 4})
        gate.set()
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1, 2, 3, 4]


def test_a_full_queue_can_drop_the_oldest(collector):
    """With `drop_oldest` the last events are kept, and those of a request under way."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=2, queue_size=5, on_full="drop_oldest") as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        log(tracked, 7, 2)
        assert tracked.handler.stats.dropped == 4
        gate.set()
        assert tracked.handler.flush()
    assert labels(collector.events) == [0, 1, 6, 7, 8]


def test_a_full_queue_can_block(collector):
    """With `block` the log call waits for room and loses nothing."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(
        collector, batch_size=2, queue_size=2, on_full="block", block_timeout=60
    ) as tracked:
        log(tracked, 2)
        collector.wait_for_requests(1)
        waiting = threading.Thread(target=log, args=(tracked, 3, 2))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        gate.set()
        waiting.join(OUR_ANSWER)
        assert not waiting.is_alive()
        assert tracked.handler.flush()
        assert tracked.handler.stats.dropped == 0
    assert labels(collector.events) == [0, 1, 2, 3, 4]


def test_block_has_an_end(collector):
    """The log call waits no longer than `block_timeout`, and then drops the event."""
    collector.default = SILENCE
    settings = {"queue_size": 1, "on_full": "block", "block_timeout": 0.3}
    with tracking(collector, shutdown_timeout=0.1, **settings) as tracked:
        log(tracked, 1)
        start = time.monotonic()
        log(tracked, 1)
        assert 0.3 <= time.monotonic() - start < 2
        assert tracked.handler.stats.dropped == 1


def test_block_never_blocks_an_event_loop(collector):
    """On the thread of an asyncio loop a full queue drops instead."""
    collector.default = SILENCE
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.create_task(tick())
        for number in range(50):
            tracked.log(event(number))
            await asyncio.sleep(0)
        ticking.cancel()

    settings = {"queue_size": 1, "on_full": "block", "block_timeout": 30}
    with tracking(collector, shutdown_timeout=0.1, **settings) as tracked:
        start = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - start < OUR_ANSWER
        assert tracked.handler.stats.dropped == 49
    assert ticks


def test_block_never_blocks_the_threads_that_make_room(collector):
    """A callback that logs into a full queue does not wait for itself."""

    def logs(_):
        for number in range(20):
            tracked.log(event(number))

    settings = {"queue_size": 2, "on_full": "block", "block_timeout": 30, "batch_size": 1}
    calls = iter([logs])
    with tracking(collector, on_success=lambda _: next(calls, len)([]), **settings) as tracked:
        start = time.monotonic()
        log(tracked, 1)
        collector.wait_for_events(2)
        assert tracked.handler.flush()
        assert time.monotonic() - start < OUR_ANSWER
        stats = tracked.handler.stats
    assert stats.dropped > 0
    assert stats.sent + stats.dropped == 21


# Flushing and closing.


def test_flush_covers_the_batch_under_way(collector):
    """A flush returns only once the request under way is answered."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    with tracking(collector, batch_size=1) as tracked:
        log(tracked, 1)
        collector.wait_for_requests(1)
        assert not tracked.handler.flush(0)
        gate.set()
        assert tracked.handler.flush()
        assert tracked.handler.stats.sent == 1


def test_flush_does_not_wait_for_what_is_logged_after_it(collector):
    """A flush ends though others go on logging."""
    going = threading.Event()
    stop = threading.Event()

    def produce():
        while not stop.wait(0.001):
            log(tracked, 1)
            going.set()

    with tracking(collector, batch_size=50, queue_size=10**6) as tracked:
        producing = threading.Thread(target=produce)
        producing.start()
        try:
            assert going.wait(OUR_ANSWER)
            for _ in range(5):
                assert tracked.handler.flush(OUR_ANSWER)
        finally:
            stop.set()
            producing.join()
        assert tracked.handler.flush()


@pytest.mark.parametrize("timeout", [0, 0.5])
def test_flush_keeps_its_time(collector, timeout):
    """A collector that accepts and never answers costs a flush its timeout and no more."""
    collector.default = SILENCE
    with tracking(collector, shutdown_timeout=0.2) as tracked:
        log(tracked, 1)
        start = time.monotonic()
        assert tracked.handler.flush(timeout) is False
        assert timeout <= time.monotonic() - start < timeout + 1


@pytest.mark.parametrize("fault", [SILENCE, RESET, 503])
def test_close_keeps_its_time_and_gives_up_the_rest(collector, fault):
    """What is not delivered by then is failed, told and counted, and the next event has a go."""
    failures = []
    collector.default = fault
    with tracking(
        collector,
        batch_size=2,
        shutdown_timeout=0.5,
        timeout=(1, 1),
        on_failure=lambda events, reason: failures.append((labels(events), reason)),
    ) as tracked:
        log(tracked, 5)
        start = time.monotonic()
        tracked.handler.close()
        assert 0.4 < time.monotonic() - start < 2
        stats = tracked.handler.stats
        assert (stats.failed, stats.queued, stats.losses) == (5, 0, {"shutdown_timeout": 5})
        assert sorted(label for which, _ in failures for label in which) == [0, 1, 2, 3, 4]
        assert "shutdown_timeout of 0.5 s" in failures[0][1]
        start = time.monotonic()
        assert tracked.handler.flush(OUR_ANSWER)  # what was given up is not waited for
        assert time.monotonic() - start < 2
        collector.default = 200
        log(tracked, 1, 5)
        assert tracked.handler.flush(OUR_ANSWER)
        assert tracked.handler.stats.sent == 1


def test_flush_and_close_together_have_the_time_of_one(collector):
    """What `logging.shutdown` does takes no longer than `shutdown_timeout`."""
    collector.default = SILENCE
    with tracking(collector, shutdown_timeout=1.5) as tracked:
        log(tracked, 1)
        start = time.monotonic()
        logging.shutdown([weakref.ref(tracked.handler)])
        assert time.monotonic() - start < 2.7
        assert tracked.handler.stats.failed == 1


def test_close_before_any_event_and_twice_does_nothing(collector):
    """There is nothing to wait for, and no thread that was never started to join."""
    with tracking(collector) as tracked:
        tracked.handler.close()
        tracked.handler.close()
        assert tracked.handler.flush()
    assert collector.connections == 0


def test_a_closed_handler_opens_again(collector):
    """Events logged after a close are delivered, by threads that did not pile up."""
    before = threading.active_count()
    with tracking(collector) as tracked:
        for number in range(20):
            log(tracked, 1, number)
            tracked.handler.close()
        deadline = time.monotonic() + OUR_ANSWER
        while threading.active_count() > before + len(collector._sockets):
            assert time.monotonic() < deadline
        assert tracked.handler.stats.sent == 20
    assert labels(collector.events) == list(range(20))


def test_threads_that_close_and_log_at_once_lose_nothing(collector):
    """Any number of threads may flush and close while others log."""
    with tracking(collector, batch_size=7, flush_interval=0.01) as tracked:

        def work(first):
            for number in range(first, first + 50):
                log(tracked, 1, number)
                if number % 10 == 0:
                    tracked.handler.close()
                elif number % 10 == 5:
                    assert tracked.handler.flush()

        threads = [threading.Thread(target=work, args=(n * 50,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tracked.handler.flush()
        stats = tracked.handler.stats
        assert (stats.sent, accounted(stats)) == (200, 200)
    assert sorted(labels(collector.events)) == list(range(200))


class _Handling:
    """Handles a signal in each of the ways that Python calls."""

    def __init__(self, act):
        self.act = act

    def method(self, number, frame):
        self.act()

    def with_more(self, more, number, frame):
        self.act()

    __call__ = method


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
@pytest.mark.parametrize("kind", ["function", "method", "partial", "object"])
def test_a_signal_handler_may_log_amid_a_request_of_its_own_thread(collector, kind):
    """What it logs is no part of the request, and is sent as any event is."""

    class Session(requests.Session):
        def request(self, *arguments, **keywords):
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGUSR1)
                tracked.log(event(2))  # which is part of it, and must not go on for ever
            return super().request(*arguments, **keywords)

    handling = _Handling(lambda: log(tracked, 1, 1))
    handler = {
        "function": lambda *_: handling.act(),
        "method": handling.method,
        "partial": functools.partial(handling.with_more, "more"),
        "object": handling,
    }[kind]
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with tracking(collector, session=Session()) as tracked:
            emitter = tracked.handler._emitter
            assert emitter._transport.send([b'{"eid":"","se_la":"0"']).reason == ""
            assert tracked.handler.flush()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert labels(collector.events) == [0, 1]


def test_a_disabled_handler_does_nothing_and_flushes_at_once(collector):
    """With `enabled=False` there is neither thread nor request nor count."""
    before = threading.active_count()
    with tracking(collector, enabled=False) as tracked:
        log(tracked, 3)
        start = time.monotonic()
        assert tracked.handler.flush(30)
        tracked.handler.close()
        assert time.monotonic() - start < 1
        assert accounted(tracked.handler.stats) == 0
        assert threading.active_count() == before
    assert collector.connections == 0


def test_a_handler_that_is_dropped_sends_what_it_has(collector):
    """A handler that is collected as garbage delivers, and its threads end."""
    before = threads_of_emitters()
    handler = SnowplowHandler(collector.endpoint, flush_interval=600)
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    logger.info("an event", extra={"snowplow": event(0)})
    (thread,) = threads_of_emitters() - before
    gone = weakref.ref(handler)
    del handler, logger
    gc.collect()
    assert gone() is None
    collector.wait_for_events(1)
    thread.join(OUR_ANSWER)
    assert not thread.is_alive()


def test_two_handlers_have_nothing_in_common(collector):
    """Two endpoints: nothing crosses over, and closing one leaves the other at work."""
    with FaultyCollector() as other, tracking(collector) as one, tracking(other) as two:
        log(one, 3)
        log(two, 2, 3)
        one.handler.close()
        log(two, 1, 5)
        assert two.handler.flush()
        assert labels(collector.events) == [0, 1, 2]
        assert labels(other.events) == [3, 4, 5]
        collector.default = SILENCE
        log(one, 1, 6)
        collector.wait_for_requests(2)
        start = time.monotonic()
        log(two, 1, 7)
        assert two.handler.flush()
        assert time.monotonic() - start < OUR_ANSWER
        collector.default = 200
        collector.hang_up()
        assert one.handler.flush()
        assert (one.handler.stats.sent, two.handler.stats.sent) == (4, 4)


# Reports.


def test_a_failing_collector_is_reported_once(collector, caplog):
    """A report a minute for each kind of trouble, and none comes back as an event."""
    collector.default = 500
    root = logging.getLogger()
    with tracking(collector, max_retry_delay=0.01, shutdown_timeout=0.1) as tracked:
        root.addHandler(tracked.handler)
        try:
            with caplog.at_level(logging.NOTSET):
                log(tracked, 1)
                collector.wait_for_requests(20)
        finally:
            root.removeHandler(tracked.handler)
    reports = [r.getMessage() for r in caplog.records if r.name == "snowplow_logging"]
    retries = [report for report in reports if "next attempt" in report]
    assert len(retries) == 1
    assert "answered 500" in retries[0]
    assert {len(request.events) for request in collector.requests} == {1}


def test_a_handler_of_others_that_raises_at_a_report_loses_nothing(collector):
    """Whatever happens on the way of a report, the events stay in the account and are sent."""

    class Raises(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    raises = Raises()
    logger = logging.getLogger("snowplow_logging")
    logger.addHandler(raises)
    collector.answers += [413, 503]
    try:
        with tracking(collector, max_retry_delay=0.05) as tracked:
            log(tracked, 4)
            assert tracked.handler.flush(OUR_ANSWER)
            stats = tracked.handler.stats
            assert (stats.sent, stats.queued, accounted(stats)) == (4, 0, 4)
    finally:
        logger.removeHandler(raises)
    assert labels(collector.events) == [0, 1, 2, 3]


def test_times_may_be_as_long_as_a_lock_can_wait(collector):
    """Centuries are no error of a setting, nor is for ever one of a call."""
    longest = threading.TIMEOUT_MAX
    settings = dict.fromkeys(("flush_interval", "max_retry_delay", "block_timeout"), longest)
    collector.answers.append(503)
    with tracking(collector, timeout=None, on_full="block", queue_size=2, **settings) as tracked:
        log(tracked, 5)
        assert tracked.handler.flush(math.inf)
        log(tracked, 1, 5)
        tracked.handler.close()
        assert len(collector.events) == 6
        assert tracked.handler.stats.dropped == 0


# The account.


@pytest.mark.parametrize("on_full", ["drop", "drop_oldest", "block"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_account_balances(collector, caplog, seed, on_full):  # noqa: C901 - a mix is many
    """Every event ends in exactly one place, whatever threads, faults, flushes and closes mix."""
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(seed)
    faults = [200, 200, 200, 503, 500, RESET, DROP, 400, 413]
    collector.default = lambda _: chance.choice(faults)
    sent, given_up, invalid = [], [], []

    def failed(events, _):
        for each in events:
            (given_up if "eid" in each else invalid).append(each)

    def before_send(each):
        if each["label"] == "hidden":
            return None
        if each["label"] == "raises":
            raise ValueError
        return each

    connections = chance.choice([1, 3])
    with tracking(
        collector,
        batch_size=5,
        flush_interval=0.005,
        queue_size=20,
        on_full=on_full,
        block_timeout=0.002,
        connections=connections,
        max_retry_delay=0.004,
        max_attempts=3,
        shutdown_timeout=0.02,
        before_send=before_send,
        on_success=lambda events: sent.extend(event["eid"] for event in events),
        on_failure=failed,
    ) as tracked:

        def work(own):
            for _ in range(150):
                kind = own.choice(["good", "good", "good", "hidden", "raises", "bad"])
                tracked.log(event(kind, **({"value": "much"} if kind == "bad" else {})))
                act = own.random()
                if act < 0.02:
                    tracked.handler.close()
                elif act < 0.06:
                    tracked.handler.flush(own.random() / 100)

        for rounds in (1, 2):
            own = [random.Random(chance.random()) for _ in range(4)]
            threads = [threading.Thread(target=work, args=(each,)) for each in own]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert accounted(tracked.handler.stats) == rounds * 600
        assert tracked.handler.flush(30)
        stats = tracked.handler.stats
        assert stats.queued == 0
        assert accounted(stats) == 1200
        assert collector.most_at_once <= connections
    assert (len(sent), len(given_up)) == (stats.sent, stats.failed)
    assert len(invalid) <= stats.invalid
    assert len({*sent, *(each["eid"] for each in given_up)}) == stats.sent + stats.failed
    assert set(sent) <= set(collector.ids)
