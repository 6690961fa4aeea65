"""Answers: what each means for the events, however it comes, and when waiting for it ends."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from requests.adapters import HTTPAdapter

from faulty_collector import RESET, Answer, FaultyCollector, nowhere
from helpers import tracking
from secure_collector import SecureCollector
from snowplow_logging import SnowplowHandler

SOON = 10.0  # seconds within which this machine does anything, however busy it is
NO_ANSWER = Answer(raw=b"", close=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=["own session", "user's session"])
def session(request):
    """Give the setting: the handler's own session, and one of the user's."""
    return None if request.param == "own session" else requests.Session()


def log(tracked, count, first=0, **more):
    """Log so many events, numbered."""
    for number in range(first, first + count):
        event = {"event": "struct_event", "category": "c", "action": "a", "label": str(number)}
        tracked.log({**event, **more})


def labels(requests):
    """Return the numbers of the events of each request."""
    return [[int(event["se_la"]) for event in request.events] for request in requests]


# What comes after the status.

HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
GARBAGE = {
    "a body that drips": Answer(raw=HEAD + b"Content-Length: 9999\r\n\r\n", endless=b"x"),
    "a body that never ends": Answer(raw=HEAD + b"\r\n", endless=b"x"),
    "a body that never comes": Answer(raw=HEAD + b"Content-Length: 9\r\n\r\n"),
    "chunks that drip": Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1\r\nx"),
    "chunks that are none": Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n"),
    "a body that is cut": Answer(raw=HEAD + b"Content-Length: 9\r\n\r\nok", close=True),
    "a length that is none": Answer(raw=HEAD + b"Content-Length: many\r\n\r\nok", close=True),
    "a length below zero": Answer(raw=HEAD + b"Content-Length: -9\r\n\r\nok", close=True),
    "two lengths": Answer(raw=HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    "gzip that is none": Answer(
        raw=HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok"
    ),
    "gzip that is cut": Answer(
        raw=HEAD + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n" + gzip.compress(b"ok")[:9]
    ),
    "encodings without end": Answer(
        raw=HEAD + b"Content-Encoding: " + b"gzip, " * 99 + b"br\r\nContent-Length: 2\r\n\r\nok"
    ),
    "no headers": Answer(raw=b"HTTP/1.1 %s\r\n\r\n", close=True),
    "headers that drip": Answer(raw=HEAD + b"X-Header: ", endless=b"x"),
    "headers without end": Answer(raw=HEAD, endless=b"X: y\r\n"),
    "headers that never end": Answer(raw=HEAD + b"X-Header: "),
    "headers that are cut": Answer(raw=HEAD + b"X-Hea", close=True),
    "headers that are none": Answer(raw=b"HTTP/1.1 %s\r\n\xff\x00\r\n : \r\n\r\nok", close=True),
    "a header too long": Answer(raw=HEAD + b"X-Header: " + b"x" * 70_000 + b"\r\n\r\n"),
    "too many headers": Answer(raw=HEAD + b"X-Header: x\r\n" * 300 + b"\r\n"),
    "another version": Answer(raw=b"HTTP/3.0 %s\r\nContent-Length: 2\r\n\r\nok"),
    "a cookie that is none": Answer(
        raw=HEAD + b"Set-Cookie: \xff;=;;\r\nContent-Length: 0\r\n\r\n"
    ),
}


def garbage(name, status):
    """Return such an answer with a status of its own."""
    answer = GARBAGE[name]
    return Answer(raw=answer.raw.replace(b"%s", status), endless=answer.endless, close=answer.close)


@pytest.mark.parametrize("name", GARBAGE)
def test_events_are_taken_once_the_status_says_so(collector, session, reports, name):
    """Whatever comes after a complete 200, and however slowly, they are not sent again."""
    collector.answers.append(garbage(name, b"200 OK"))
    with tracking(collector, session=session, timeout=(1, 1.5), max_retry_delay=0.05) as tracked:
        log(tracked, 2)
        assert tracked.handler.flush(SOON)
        log(tracked, 1, 2)
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert (stats.sent, stats.retried, stats.last_error) == (3, 0, None)
    assert labels(collector.requests) == [[0, 1], [2]]
    assert reports == []


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize(
    ("status", "sizes", "sent"),
    [(b"400 Bad", [2], 0), (b"413 Large", [2, 1, 1], 2), (b"503 Busy", [2, 2], 2)],
)
def test_any_status_counts_whatever_follows_it(collector, name, status, sizes, sent):
    """What a complete status says does not depend on what can be read of the rest."""
    collector.answers.append(garbage(name, status))
    with tracking(collector, timeout=(1, 1.5), max_retry_delay=0.05) as tracked:
        log(tracked, 2)
        assert tracked.handler.flush(SOON)
        assert (tracked.handler.stats.sent, tracked.handler.stats.failed) == (sent, 2 - sent)
    assert [len(request.events) for request in collector.requests] == sizes


@pytest.mark.parametrize("drip", [0.0, 0.01])
def test_a_web_page_is_no_collectors_however_it_comes(collector, session, drip):
    """The page of a captive portal is recognised by its beginning, which is waited for."""
    headers = {"Content-Type": "text/html"}
    collector.answers.append(Answer(headers=headers, body=b"\n <html>Sign in", drip=drip))
    page = HEAD.replace(b"plain", b"html") % b"200 OK" + b"\r\n<html>"
    collector.answers.append(Answer(raw=page, endless=b"x"))
    with tracking(collector, session=session, max_retry_delay=0.05) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(SOON)
        assert (tracked.handler.stats.sent, tracked.handler.stats.retried) == (1, 2)
        assert "web page" in tracked.handler.stats.last_error


# Interim answers.

INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n",
    b"HTTP/1.1 199 Whatever\r\nX: y\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 \r\n\r\n",
]


@pytest.mark.parametrize("interim", INTERIM)
def test_an_interim_answer_is_none(collector, session, interim):
    """It is read over, and the final one counts, on a connection that goes on."""
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    collector.answers += [Answer(raw=interim + busy), Answer(raw=interim + OK)]
    with tracking(collector, session=session, max_retry_delay=0.05) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(SOON)
        log(tracked, 1, 1)
        assert tracked.handler.flush(SOON)
        assert (tracked.handler.stats.sent, tracked.handler.stats.retried) == (2, 1)
    assert labels(collector.requests) == [[0], [0], [1]]
    assert collector.connections == 1


# Time.

DRIPS = {
    "a status line": Answer(raw=b"HTTP/1.1 2", endless=b"0"),
    "a line before it": Answer(raw=b"", endless=b"x"),
    "interim answers": Answer(raw=b"", endless=b"HTTP/1.1 102 Processing\r\n\r\n"),
    "the headers of one": Answer(raw=b"HTTP/1.1 103 Early Hints\r\nLink: ", endless=b"x"),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_a_request_has_an_end(collector, session, reports, drip):
    """A server that sends a byte now and then holds nothing up: the time counts for the whole."""
    collector.answers.append(DRIPS[drip])
    with tracking(collector, session=session, timeout=(0.2, 0.4), max_retry_delay=0.05) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(SOON)
        assert tracked.handler.stats.sent == 1
        assert tracked.handler.stats.retried >= 1  # a late machine may not answer in time either
    first, second, *_ = collector.requests
    assert second.at - first.at < SOON
    assert any("did not answer within 0.6 s" in report for report in reports)


def test_close_ends_while_a_server_drips(collector, session):
    """`shutdown_timeout` holds against a byte now and then, with the usual timeouts."""
    collector.default = DRIPS["a status line"]
    with tracking(collector, session=session, shutdown_timeout=0.5) as tracked:
        log(tracked, 1)
        collector.wait_for_requests(1)
        start = time.monotonic()
        tracked.handler.close()
        assert time.monotonic() - start < 2
        assert tracked.handler.stats.failed == 1


@contextlib.contextmanager
def hard_of_hearing(read):
    """Give the endpoint of a server that reads so many bytes every 0.05 s and never answers.

    Yields:
        The endpoint, and the monotonic times at which connections were made.
    """
    times = []
    stopping = threading.Event()

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            while not stopping.wait(0.05):
                if read:
                    connection.recv(read)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                times.append(time.monotonic())
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", times
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def little_buffer():
    """Return a session whose sockets hold little of what the other end has not read yet."""

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments, **keywords):
            keywords["socket_options"] = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)]
            super().init_poolmanager(*arguments, **keywords)

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session


@pytest.mark.parametrize("read", [0, 1_000])
def test_a_body_that_nobody_reads_is_given_up(read):
    """An upload that stalls, or trickles, ends when the time of the request is over."""
    with hard_of_hearing(read) as (endpoint, times):
        handler = SnowplowHandler(
            endpoint,
            session=little_buffer(),
            timeout=(0.2, 0.4),
            max_retry_delay=0.01,
            shutdown_timeout=0,
        )
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        try:
            for _ in range(60):
                event = {
                    "event": "page_view",
                    "page_url": "https://shop.example.com/?" + "x" * 5_000,
                }
                logger.info("", extra={"snowplow": event})
            start = time.monotonic()
            while len(times) < 4:
                assert not handler.flush(0.1)
                assert time.monotonic() - start < SOON
            assert handler.stats.last_error.endswith("did not answer within 0.6 s")
        finally:
            handler.close()
    # Of each of them but where the machine stands still.
    assert min(after - before for before, after in itertools.pairwise(times)) < 1.5


# Attempts.


def test_attempts_are_kept_through_a_413(collector):
    """No event is in more requests than `max_attempts`, however its batch was halved."""
    collector.default = 413
    collector.answers.append(503)
    with tracking(collector, max_attempts=4, max_retry_delay=0.01) as tracked:
        log(tracked, 100)
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    seen = [label for request in labels(collector.requests) for label in request]
    assert {seen.count(number) for number in range(100)} == {4}
    assert [len(request.events) for request in collector.requests[:3]] == [100, 100, 50]
    assert stats.losses == {"max_attempts": 100}


def test_what_a_413_has_sent_again_is_retried(collector):
    """`retried` counts each event of each request but its first."""
    collector.answers += [413, 413]
    with tracking(collector) as tracked:
        log(tracked, 4)
        assert tracked.handler.flush(SOON)
        assert tracked.handler.stats.retried == 6
    assert labels(collector.requests) == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]


# What the user has to mend.


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308, 404])
@pytest.mark.parametrize("location", ["https://a.example.com/", "http://[", None])
def test_a_wrong_address_is_tried_again_and_said_at_once(
    collector, session, reports, status, location
):
    """A load balancer answers so in passing, so that nothing is lost, but likely it stays."""
    headers = {} if location is None else {"Location": location}
    collector.answers += [Answer(status, headers=headers), 503, Answer(status, headers=headers)]
    with tracking(collector, session=session, max_retry_delay=0.05) as tracked:
        log(tracked, 2)
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert (stats.sent, stats.retried, stats.failed) == (2, 6, 0)
    (said,) = (report for report in reports if f"answered {status} " in report)
    assert ("check endpoint and path" if status == 404 else "collector's own address") in said
    if status != 404:
        assert f"redirects to {location or 'nowhere'}:" in said


def test_a_wrong_address_is_said_beside_an_outage(collector, reports):
    """A report of one kind of trouble does not hold back one of what to mend."""
    collector.answers += [503, 404]
    with tracking(collector, max_retry_delay=0.05) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(SOON)
    assert ["answered 503" in report for report in reports] == [True, False]
    assert "answered 404" in reports[1]


@pytest.mark.parametrize("codes", [{404: False}, {"302": False}])
def test_retry_codes_may_make_it_final(collector, codes):
    """Who knows that it does not pass can have the events given up."""
    collector.default = int(next(iter(codes)))
    with tracking(collector, retry_codes=codes) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(SOON)
        assert tracked.handler.stats.failed == 1


# One event that stands in the way of others.


@pytest.mark.parametrize(
    ("method", "status"), [("post", 413), ("post", 414), ("get", 413), ("get", 414), ("get", 431)]
)
def test_an_event_too_large_costs_only_itself(collector, method, status):
    """What the server takes no request for is given up alone."""
    failed = []
    collector.default = lambda events: status if "3" in [e["se_la"] for e in events] else 200
    with tracking(
        collector, method=method, on_failure=lambda events, reason: failed.append((events, reason))
    ) as tracked:
        log(tracked, 8)
        assert tracked.handler.flush(SOON)
        assert (tracked.handler.stats.sent, tracked.handler.stats.failed) == (7, 1)
    (((event,), reason),) = failed
    assert event["se_la"] == "3"
    assert f"answered {status}" in reason


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("poison", [{0}, {7}, {3, 4, 5}, {0, 1}])
def test_an_event_that_gets_5xx_does_not_hold_up_others(collector, method, status, poison):
    """Those behind it, in its batch and in others, are delivered, and it is kept."""
    bad = {str(number) for number in poison}
    collector.default = lambda events: status if bad & {e["se_la"] for e in events} else 200
    settings = {"max_retry_delay": 0.01, "batch_size": 8, "shutdown_timeout": 0.2}
    taken = threading.Semaphore(0)
    settings["on_success"] = lambda events: taken.release(len(events))
    with tracking(collector, method=method, **settings) as tracked:
        log(tracked, 20)
        tracked.handler.flush(0)
        for _ in range(20 - len(poison)):
            assert taken.acquire(timeout=SOON)
        stats = tracked.handler.stats
        assert (stats.queued, stats.failed, stats.dropped) == (len(poison), 0, 0)
        collector.default = 200
        assert tracked.handler.flush(SOON)
    assert sorted(int(event["se_la"]) for event in collector.events) == list(range(20))


def test_an_event_that_alone_gets_5xx_is_given_up_in_the_end(collector):
    """Once the collector has taken others time and again, it is the event's own fault."""
    failed = []
    collector.default = lambda events: 500 if "0" in [e["se_la"] for e in events] else 200
    with tracking(
        collector,
        max_retry_delay=0.01,
        flush_interval=0.01,
        on_failure=lambda events, reason: failed.append((events, reason)),
    ) as tracked:
        log(tracked, 1)
        count = 1
        while not failed:
            log(tracked, 1, count)
            count += 1
            collector.wait_for_events(count - 1)
            assert count < 1_000
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    (((event,), reason),) = failed
    assert event["se_la"] == "0"
    assert "while it took others" in reason
    assert (stats.failed, stats.sent) == (1, count - 1)
    assert count > 20


def test_an_outage_loses_nothing_however_long(collector):
    """Where no event is taken, no event is at fault."""
    collector.default = 500
    with tracking(collector, max_retry_delay=0.002, batch_size=10) as tracked:
        log(tracked, 25)
        tracked.handler.flush(0)
        collector.wait_for_requests(400)
        collector.default = 200
        assert tracked.handler.flush(SOON)
        assert (tracked.handler.stats.sent, tracked.handler.stats.failed) == (25, 0)
    assert sorted(int(event["se_la"]) for event in collector.events) == list(range(25))


# Sessions of the user's.


def raising_session():
    """Return a session with a hook that raises for the status, as its users like it."""
    session = requests.Session()
    session.hooks["response"].append(lambda response, **_: response.raise_for_status())
    return session


def raising_class():
    """Return a session of a class that raises for the status."""

    class Raising(requests.Session):
        def request(self, *arguments, **keywords):
            response = super().request(*arguments, **keywords)
            response.raise_for_status()
            return response

    return Raising()


@pytest.mark.parametrize("make", [raising_session, raising_class])
def test_a_session_that_raises_for_the_status_is_read_by_the_answer(collector, reports, make):
    """400 fails, 413 halves, 429 waits as long as it says, and 404 says what to mend."""
    collector.answers += [400, 413, 200, Answer(429, headers={"Retry-After": "1"}), 404]
    with tracking(collector, session=make(), max_retry_delay=1) as tracked:
        log(tracked, 2)
        assert tracked.handler.flush(SOON)
        log(tracked, 2, 2)
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert labels(collector.requests) == [[0, 1], [2, 3], [2], [3], [3], [3]]
    assert (stats.sent, stats.failed, stats.losses) == (2, 2, {"refused by the collector": 2})
    assert collector.requests[4].at - collector.requests[3].at > 0.95
    assert any("check endpoint and path" in report for report in reports)


def test_a_hook_that_raises_does_not_have_taken_events_sent_again(collector):
    """What a session does after the answer changes nothing of what it says."""

    def broken(response, **_):
        raise KeyError

    session = requests.Session()
    session.hooks["response"].append(broken)
    with tracking(collector, session=session) as tracked:
        log(tracked, 1)
        assert tracked.handler.flush(SOON)
    assert len(collector.requests) == 1


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_to_another_request_says_nothing(status):
    """A session that gets itself a token first: its answer is not the collector's."""
    with FaultyCollector(default=status) as tokens, nowhere() as endpoint:

        class Authenticating(requests.Session):
            def request(self, method, url, **arguments):
                if url.startswith(endpoint):
                    token = super().request("GET", f"{tokens.endpoint}/i", timeout=5)
                    token.raise_for_status()
                return super().request(method, url, **arguments)

        session = Authenticating()
        handler = SnowplowHandler(
            endpoint, session=session, max_retry_delay=0.01, shutdown_timeout=0.1
        )
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        event = {"event": "struct_event", "category": "c", "action": "a"}
        logger.info("", extra={"snowplow": event})
        assert not handler.flush(0.5)
        assert (handler.stats.sent, handler.stats.failed, handler.stats.queued) == (0, 0, 1)
        handler.close()


class FuturesSession(requests.Session):
    """What requests-futures has."""

    executor = ThreadPoolExecutor(1)

    def request(self, *arguments, **keywords):
        """Return a future."""
        return self.executor.submit(super().request, *arguments, **keywords)


class Later(FuturesSession):
    """One of the user's own."""


class AsyncSession(requests.Session):
    """What requests-async had."""

    async def request(self, *arguments, **keywords):
        """Return a coroutine."""


class Client:
    """What httpx has."""

    def request(self, method, url, **arguments):
        """Never called."""


@pytest.mark.parametrize(
    "session",
    [Client(), requests, requests.Session, FuturesSession(), Later(), AsyncSession(), requests.get],
)
def test_what_is_no_session_is_refused_where_it_is_given(session):
    """It would fail at each request, or look like an answer."""
    with pytest.raises(TypeError, match=r"^session is .*; give a requests.Session"):
        SnowplowHandler("http://127.0.0.1:9", session=session)


def test_a_session_of_a_class_of_its_own_is_one(collector):
    """What builds upon `requests` is fine, its adapters included."""

    class Adapter(HTTPAdapter):
        def send(self, request, *arguments, **keywords):
            request.headers["X-Adapter"] = "here"
            return super().send(request, *arguments, **keywords)

    class Session(requests.Session):
        pass

    session = Session()
    session.mount("http://", Adapter())
    with tracking(collector, session=session, batch_size=1) as tracked:
        log(tracked, 3)
        assert tracked.handler.flush(SOON)
    assert [request.headers["x-adapter"] for request in collector.requests] == ["here"] * 3
    assert collector.connections == 1


# Stale connections.


@pytest.mark.parametrize("gone", [NO_ANSWER, RESET])
def test_a_stale_connection_costs_nothing(collector, session, reports, gone):
    """A request that was lost with a connection left open before is made again at once."""
    collector.answers += [200, gone, 200, gone, 200]
    with tracking(collector, session=session) as tracked:
        for number in range(3):
            log(tracked, 1, number)
            assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert labels(collector.requests) == [[0], [1], [1], [2], [2]]
    assert (stats.sent, stats.retried, stats.last_error) == (3, 0, None)
    assert reports == []


@pytest.mark.parametrize("gone", [NO_ANSWER, RESET, Answer(raw=b"HTTP/1.1 2", close=True)])
def test_a_fresh_connection_that_is_closed_is_a_failure(collector, session, gone):
    """A server that closes each one is not asked without a pause."""
    collector.default = gone
    with tracking(collector, session=session, shutdown_timeout=0.1) as tracked:
        log(tracked, 1)
        assert not tracked.handler.flush(0.5)
        assert len(collector.requests) < 8
        # One request may be under way while the two are looked at.
        assert abs(len(collector.requests) - 1 - tracked.handler.stats.retried) <= 1


def test_part_of_an_answer_on_an_old_connection_is_a_failure(collector, session):
    """Where a byte of an answer has come the server has had the request."""
    collector.answers += [200, Answer(raw=b"HTTP/1.1 2", close=True)]
    with tracking(collector, session=session, max_retry_delay=0.05) as tracked:
        for number in range(2):
            log(tracked, 1, number)
            assert tracked.handler.flush(SOON)
        assert tracked.handler.stats.retried == 1


# Proxies and TLS.


@contextlib.contextmanager
def tunnel(*pieces):
    """Give the URL of a proxy that answers CONNECT so, piece by piece, and then says no more."""
    stopping = threading.Event()

    def serve(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            for piece in pieces:
                connection.sendall(piece)
                stopping.wait(0.05)
            connection.recv(65_536)  # the beginning of a handshake

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "pieces", [[b"HTTP/1.1 200 OK\r\n\r\n"], [b"HTTP/1.1 200 O", *[b"K"] * 999]]
)
def test_what_a_proxy_says_is_not_the_collectors_word(pieces):
    """The 200 with which a proxy opens a tunnel has taken no event, and it has no more time."""
    session = requests.Session()
    session.trust_env = False
    with tunnel(*pieces) as proxy:
        session.proxies = {"https": proxy}
        handler = SnowplowHandler(
            "https://collector.example.com",
            session=session,
            timeout=(0.2, 0.3),
            max_retry_delay=0.01,
            shutdown_timeout=0.1,
        )
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        event = {"event": "struct_event", "category": "c", "action": "a"}
        logger.info("", extra={"snowplow": event})
        start = time.monotonic()
        while not handler.stats.retried:
            assert not handler.flush(0.05)
            assert time.monotonic() - start < SOON
        assert (handler.stats.sent, handler.stats.failed, handler.stats.queued) == (0, 0, 1)
        handler.close()


@pytest.fixture(params=["own session", "user's session"])
def trusting(request, certificate, monkeypatch):
    """Give the setting `session` for one that trusts the certificate, in either way."""
    for name in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "own session":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        return None
    session = requests.Session()
    session.verify = str(certificate)
    return session


def test_all_of_that_holds_over_tls(certificate, trusting, reports):
    """Interim answers, drips before and after the status, and a stale connection."""
    with SecureCollector(certificate) as collector:
        collector.answers += [
            Answer(raw=INTERIM[1] + OK),
            NO_ANSWER,
            garbage("headers that drip", b"200 OK"),
            DRIPS["a status line"],
        ]
        settings = {"timeout": (2, 1), "max_retry_delay": 0.05, "batch_size": 1}
        with tracking(collector, session=trusting, **settings) as tracked:
            log(tracked, 3)
            assert tracked.handler.flush(SOON)
            assert (tracked.handler.stats.sent, tracked.handler.stats.retried) == (3, 1)
    assert labels(collector.requests) == [[0], [1], [1], [2], [2]]
    assert any("did not answer within 3 s" in report for report in reports)


def test_a_body_that_trickles_into_tls_is_given_up(certificate, monkeypatch):
    """There each record has a time of its own, which the request as a whole has not."""
    for name in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with SecureCollector(certificate, hears=0.1) as collector:
        settings = {"timeout": (0.6, 0.6), "max_retry_delay": 0.01, "shutdown_timeout": 0.1}
        session = little_buffer()
        session.verify = str(certificate)
        with tracking(collector, session=session, **settings) as tracked:
            url = f"https://shop.example.com/?{'x' * 5_000}"
            for _ in range(60):
                tracked.log({"event": "page_view", "page_url": url})
            start, last_error = time.monotonic(), ""
            # A machine that stands still may not be in time for a handshake either.
            while collector.connections < 4 or not last_error.endswith("not answer within 1.2 s"):
                assert not tracked.handler.flush(0.1)
                assert time.monotonic() - start < 2 * SOON
                last_error = tracked.handler.stats.last_error or ""
        assert time.monotonic() - start > 1.5  # and not one connection after the other
