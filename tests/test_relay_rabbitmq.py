"""Handlers that give their events to RabbitMQ, and the relays that send them from there."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("kombu", reason="the client of RabbitMQ is an extra")

from faulty_collector import SILENCE, Answer, FaultyCollector
from rabbitmq_servers import RabbitMQServer
from relays import (
    SECONDS,
    check_forks,
    check_kept_whole,
    check_letters_wait,
    check_silence,
    checked,
    event_of,
    eventually,
    giving,
    labels,
    relay,
    spawned,
    stream_of,
    unknown,
)
from server_process import free_port, shared
from snowplow_logging import SnowplowHandler
from snowplow_logging.brokers.message import MOST_DELIVERIES, pack

pytestmark = pytest.mark.timeout(300)  # the start of the server, beside much else


@pytest.fixture(scope="module")
def running_rabbitmq(tmp_path_factory, certificate):
    """Share one server, which takes TLS at another port."""

    def make(folder):
        port = free_port()
        lines = (
            f"listeners.ssl.default = 127.0.0.1:{port}",
            f"ssl_options.certfile = {certificate}",
            f"ssl_options.keyfile = {certificate}",
        )
        server = RabbitMQServer(folder, *lines)
        server.tls_url, server.certificate = f"amqps://127.0.0.1:{port}", certificate
        return server

    with shared(tmp_path_factory, "rabbitmq", make) as server:
        yield server


@pytest.fixture
def server(running_rabbitmq, request):
    """Give the server, with a queue of the test's own."""
    running_rabbitmq.stream = stream_of(request)
    return running_rabbitmq


def test_what_is_logged_comes_through_the_broker(server):
    """A batch is a message, without more around it, removed once the collector has taken it."""
    with giving(server) as (log, handler):
        assert log(*range(1_200))
        assert (handler.stats.sent, handler.stats.queued) == (1_200, 0)
    taken = server.take()
    assert [json.loads(body)["version"] for _, body in taken] == [1] * len(taken)
    assert sum(len(json.loads(body)["events"]) for _, body in taken) == 1_200
    for _, body in taken:
        server.publish(body)
    with FaultyCollector() as collector, relay(server, collector, "--connections", 2) as one:
        collector.wait_for_events(1_200)
        assert "events: 1,200 sent, 0 given up, 0 retried" in one.end()
        assert all(len(event["stm"]) == 13 for event in collector.events)
    assert server.count() == 0


def test_what_is_no_message_stops_nothing(server):
    """It is kept with the reason in a queue beside it, from which a relay can send it again."""
    with giving(server) as (log, _):
        log("first")
        server.publish(b"{")
        server.publish(b"\xff")
        log("refused")
    with FaultyCollector(200, 400) as collector, relay(server, collector, "--batch-size", 1) as one:
        collector.wait_for_requests(2)
        eventually(lambda: server.count(server.letters) == 3)
        assert "events: 1 sent, 3 given up" in one.end()
    assert server.count() == 0
    letters = server.take(server.letters)
    reasons = " ".join(headers["reason"] for headers, _ in letters)
    assert "it is no JSON" in reasons
    assert "answered 400" in reasons
    (again,) = (body for _, body in letters if body.startswith(b'{"version"'))
    server.publish(again, server.letters)
    with (
        FaultyCollector() as collector,
        relay(server, collector, "--stream", server.letters) as one,
    ):
        assert collector.wait_for_events(1)[0]["se_la"] == "refused"
        one.end()


def test_what_cannot_be_kept_is_not_acknowledged(server, tmp_path):
    """It is tried again, by the next relay as well, and holds up no other event."""
    check_letters_wait(server, tmp_path, server.count)


def test_what_cannot_be_read_is_kept_whole(server):
    """Whatever its bytes are, and whatever encoding they are said to have."""

    def bodies(queue):
        return [body for _, body in server.take(queue)]

    with giving(server) as (log, _):
        log("which makes the queue")
    assert len(server.take()) == 1
    check_kept_whole(server, bodies, unknown(500_000).encode(), bytes(range(256)), b"")
    latin = "é".encode("latin-1")
    server.publish(latin, content_encoding="latin-1")
    with FaultyCollector() as collector, relay(server, collector) as one:
        eventually(lambda: server.count(server.letters) == 1)
        one.end()
    assert bodies(server.letters) == [latin]


def test_what_a_relay_that_died_had_is_delivered_to_another(server):
    """At once, for the broker sees its connection end."""
    with FaultyCollector(SILENCE) as collector, giving(server, batch_size=10) as (log, _):
        log(*range(700))
        with spawned(server, collector) as first:
            collector.wait_for_requests(1)
            assert server.count() == 0
            first.kill()
        with relay(server, collector) as second:
            collector.wait(lambda: len(labels(collector)) == 700)
            second.end()
    assert server.count() == 0


def test_two_relays_share_a_queue(server):
    """Both take part, and no event is sent twice."""
    with (
        giving(server, batch_size=2) as (log, _),
        FaultyCollector(default=Answer(after=0.02)) as collector,
        relay(server, collector) as one,
        relay(server, collector) as other,
    ):
        count, until = 0, time.monotonic() + SECONDS
        while not (one.sent and other.sent):
            assert time.monotonic() < until
            assert log(*range(20))
            count += 20
        collector.wait_for_events(count)
        one.end()
        other.end()
        assert len(collector.events) == count


def test_sigterm_leaves_the_rest_to_others_at_once(server):
    """What is under way is ended or left, and what is left is not lost."""
    gate = threading.Event()
    with (
        FaultyCollector(200, default=Answer(gate=gate)) as collector,
        giving(server, batch_size=100, flush_interval=60) as (log, _),
    ):
        log(*range(600))
        arguments = ("--shutdown-timeout", 0.3, "--batch-size", 100)
        with spawned(server, collector, *arguments) as first:
            collector.wait_for_requests(2)
            assert "events: 100 sent" in first.end()
        gate.set()
        with relay(server, collector) as second:
            collector.wait(lambda: len(labels(collector)) == 600)
            second.end()
    assert server.count() == 0


ENDS = """
import os, sys
import snowplow_logging.relay.stream_queue as stream_queue

real = stream_queue.unpack


def unpack(body):
    if b"deadly" in body:
        os._exit(9)
    return real(body)


stream_queue.unpack = unpack
from snowplow_logging.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.exhaustive
def test_a_message_that_ends_whoever_reads_it_is_set_aside(server):
    """After so many deliveries; those beside it arrive all."""
    with FaultyCollector() as collector, giving(server, batch_size=1) as (log, _):
        log(*range(5))
        server.publish(pack([b'{"deadly":""']))
        log(*range(5, 40))
        command = [sys.executable, "-c", ENDS, "relay", "--broker", server.url]
        command += ["--endpoint", collector.endpoint, "--stream", server.stream]
        ends = 0
        while server.count(server.letters) == 0:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as one:
                eventually(lambda one=one: one.poll() is not None or server.count(server.letters))
                if one.poll() is None:
                    one.terminate()
                    assert one.wait(60) == 0
                else:
                    ends += 1
            assert ends <= MOST_DELIVERIES + 1
        with relay(server, collector) as last:
            collector.wait(lambda: len(labels(collector)) == 40)
            last.end()
    ((_, body),) = server.take(server.letters)
    assert b"deadly" in body


def test_ends_that_are_told_count_for_nothing(server):
    """However often a relay is started anew while the collector is away."""
    with giving(server) as (log, _):
        log("patient")
    for _ in range(MOST_DELIVERIES + 5):
        with FaultyCollector(SILENCE) as collector:
            one = relay(server, collector, "--shutdown-timeout", 0.01)
            with one:
                collector.wait_for_requests(1)
    with FaultyCollector() as collector, relay(server, collector) as last:
        assert collector.wait_for_events(1)[0]["se_la"] == "patient"
        last.end()
    assert server.count(server.letters) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("store", [None, "events.db"])
def test_a_broker_that_is_away(tmp_path, reports, store):
    """The handler keeps, in memory or its store, reports, and gives once it is back."""
    settings = {} if store is None else {"store": tmp_path / store}
    server = RabbitMQServer(tmp_path / "rabbitmq")
    with giving(server, **settings) as (log, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("first")}))
        assert not handler.flush(0.5)
        assert handler.stats.queued == 1
        with server:
            assert handler.flush(30)
            with FaultyCollector() as collector, relay(server, collector) as one:
                collector.wait_for_events(1)
                # The server itself knows a new queue for good only after half a second.
                time.sleep(1.5)
                server.kill()
                eventually(lambda: any("it is asked again" in words for words in reports))
                server.start()
                assert log("second")
                collector.wait(lambda: labels(collector) == ["first", "second"])
                one.end()
    assert server.url in reports[0]
    assert "did not take them" in reports[0]


@pytest.mark.exhaustive
def test_what_was_confirmed_outlives_a_kill_of_the_broker(tmp_path):
    """Each message is written before it is confirmed."""
    with RabbitMQServer(tmp_path / "rabbitmq") as server, giving(server) as (log, _):
        assert log("before")
        time.sleep(1.5)  # the server itself knows a new queue for good only after half a second
        assert log(*range(500))
        server.kill()
        server.start()
        with FaultyCollector() as collector, relay(server, collector) as one:
            collector.wait(lambda: len(labels(collector)) == 501)
            one.end()


@pytest.mark.exhaustive
def test_a_broker_that_hangs_holds_no_end(tmp_path):
    """Neither the relay's nor the handler's; and the health says that it does not answer."""
    with (
        RabbitMQServer(tmp_path / "rabbitmq") as server,
        FaultyCollector(200, SILENCE) as collector,
        giving(server, shutdown_timeout=0.5, batch_size=1) as (log, handler),
        spawned(
            server, collector, "--shutdown-timeout", 1, "--health-file", tmp_path / "health"
        ) as one,
    ):
        one.started()
        log("first")
        collector.wait_for_requests(1)
        log("second")  # for itself, or both would go in one request
        collector.wait_for_requests(2)
        server.freeze()
        try:
            start = time.monotonic()
            assert "1 sent" in one.end()
            assert time.monotonic() - start < 20
            handler.handle(logging.makeLogRecord({"snowplow": event_of("x")}))
            start = time.monotonic()
            handler.close()
            assert time.monotonic() - start < 20
        finally:
            server.thaw()
    assert json.loads((tmp_path / "health").read_text())["sent"] == 1


def test_a_password_is_shown_nowhere(server, reports, capfd):
    """Neither where it is right nor where it is wrong."""
    place = f"127.0.0.1:{server.port}"
    with giving(f"amqp://guest:guest@{place}/%2F", stream=server.stream) as (log, handler):
        assert log("in")
        assert repr(handler) == f"<SnowplowHandler amqp://{place}/%2F#{server.stream} (NOTSET)>"
    wrong = f"amqp://somebody:wr0ng-w0rd@{place}"
    with giving(wrong, shutdown_timeout=0.1) as (_, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("out")}))
        assert not handler.flush(2)
        said = str(handler.stats)
    with FaultyCollector() as collector, spawned(wrong, collector, "--health", 0) as one:
        url = one.line().split()[-1]
        one.started()
        one.wait_for_error("it is asked again")
        with pytest.raises(OSError, match="503") as raised:
            urlopen(url)
        said += one.end() + "".join(one.error) + raised.value.read().decode()
    output = capfd.readouterr()
    said += str(reports) + output.out + output.err
    assert "ACCESS_REFUSED" in said
    assert "wr0ng" not in said


@pytest.mark.parametrize(
    "url",
    [
        "amqp://",
        "amqp://h:x",
        "amqp://u:sec/ret@h",
        "amqp://h/a/b",
        "amqp://h/?nothing=sec-ret",
        "amqp://h/?ca_certs=sec-ret",
        "amqp://h/?heartbeat=sec-ret",
    ],
)
def test_a_url_that_makes_no_sense(url):
    """The message says what is wrong, and not what may be a password."""
    with pytest.raises(ValueError, match=r"broker has") as raised:
        SnowplowHandler(broker=url)
    assert "ret" not in str(raised.value)


def test_check_reaches_it(server, tmp_path, capfd):
    """It gives it a test event, and says where nobody answers."""
    status, words = checked(tmp_path, capfd, broker=server.url, stream=server.stream)
    assert status == 0, words
    assert "took the test event" in words
    ((_, body),) = server.take()
    assert b'"se_ac":"check"' in body
    status, words = checked(
        tmp_path,
        capfd,
        broker=f"amqp://guest:s3cret-word@127.0.0.1:{free_port()}",
        stream=server.stream,
    )
    assert status == 2
    assert "error: amqp://127.0.0.1" in words
    assert "s3cret" not in words


def test_health_tells_of_the_lag(server):
    """The messages that nobody has taken."""
    hasty = ("--health", 0, "--shutdown-timeout", 0.1)
    with FaultyCollector(default=SILENCE) as collector:
        with giving(server) as (log, _):
            log("one")
        with spawned(server, collector, *hasty) as one:
            health = one.line().split()[-1]
            collector.wait_for_requests(1)
            eventually(lambda: json.load(urlopen(health))["waiting"] == {"messages": 0})
            one.end()
        eventually(lambda: server.count() == 1)


def test_a_fork_has_connections_of_its_own(server, run):
    """Parent and child give what each has logged, and the child nothing of its parent's."""
    check_forks(run, server)


def test_a_removed_queue_is_made_again(server):
    """By who gives, for whom the broker would confirm what no queue has got, and who reads."""
    with (
        FaultyCollector() as collector,
        giving(server) as (log, _),
        relay(server, collector) as one,
    ):
        assert log("first")
        collector.wait_for_events(1)
        server.delete(server.stream)
        while "second" not in labels(collector):
            # What the broker confirms in the moment in which it removes the queue may go with it.
            assert log("second")
            with contextlib.suppress(AssertionError):
                collector.wait(lambda: "second" in labels(collector), 5)
        one.end()


def test_by_tls(server, reports):
    """The certificate is verified, by the file that the URL's query or the environment names."""
    url = f"{server.tls_url}?ca_certs={server.certificate}"
    with giving(url, stream=server.stream) as (log, _):
        assert log("secure")
    assert server.count() == 1
    with giving(server.tls_url, shutdown_timeout=0.1) as (_, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("refused")}))
        assert not handler.flush(2)
    assert "certificate verify failed" in reports[0]


def test_close_keeps_its_time_where_the_broker_does_not_answer():
    """A server that takes connections and says nothing is waited for no longer."""
    check_silence("amqp://")
