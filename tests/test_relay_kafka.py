"""Handlers that give their events to Kafka, and the relays that send them from there."""

from __future__ import annotations

import json
import logging
import threading
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("confluent_kafka", reason="the client of Kafka is an extra")

from faulty_collector import SILENCE, Answer, FaultyCollector
from kafka_servers import KafkaServer
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
from snowplow_logging.brokers.message import pack

pytestmark = pytest.mark.timeout(300)  # the start of the server, beside much else


@pytest.fixture(scope="module")
def running_kafka(tmp_path_factory, certificate):
    """Share one server, which wants a password, and takes TLS at another port."""
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    lines = (
        "sasl.enabled.mechanisms=PLAIN",
        f'listener.name.clients.plain.sasl.jaas.config={login} required user_shop="p4ss/word";',
    )

    def make(folder):
        server = KafkaServer(folder, *lines, listener="SASL_PLAINTEXT", certificate=certificate)
        server.url = server.url.replace("//", "//shop:p4ss%2Fword@")
        server.url += "?security.protocol=SASL_PLAINTEXT"
        return server

    with shared(tmp_path_factory, "kafka", make) as server:
        yield server


@pytest.fixture
def server(running_kafka, request):
    """Give the server, with a topic of the test's own."""
    running_kafka.stream = stream_of(request)
    return running_kafka


def message(label):
    """Return a message as another program might write it."""
    event = {"e": "se", "p": "srv", "tv": "other-1", "eid": label, "dtm": "1", "se_ca": "c"}
    payload = json.dumps({**event, "se_ac": "a", "se_la": label}, separators=(",", ":"))
    return pack([payload.encode()[:-1]])


def test_what_is_logged_comes_through_the_broker(server):
    """A batch is a message, without more around it, committed once the collector has taken it."""
    with giving(server) as (log, handler):
        assert log(*range(1_200))
        assert (handler.stats.sent, handler.stats.queued) == (1_200, 0)
    documents = [json.loads(body) for _, body in server.messages()]
    assert sum(len(document["events"]) for document in documents) == 1_200
    assert {document["version"] for document in documents} == {1}
    with FaultyCollector() as collector, relay(server, collector) as one:
        collector.wait_for_events(1_200)
        assert "events: 1,200 sent, 0 given up, 0 retried" in one.end()
    assert server.count() == 0


def test_what_is_no_message_stops_nothing(server):
    """It is kept with the reason in a topic beside it."""
    for body in (b"{", b"", message("refused"), message("last")):
        server.publish(body, partition=0)
    with (
        FaultyCollector(400) as collector,
        relay(server, collector, "--batch-size", 1) as one,
    ):
        collector.wait(lambda: "last" in labels(collector))
        eventually(lambda: server.count() == 0)
        assert "events: 1 sent, 3 given up" in one.end()
    letters = server.messages(server.letters)
    reasons = b" ".join(headers["reason"] for headers, _ in letters)
    assert len(letters) == 3
    assert b"it is no JSON" in reasons
    assert b"answered 400" in reasons


@pytest.mark.exhaustive
def test_what_cannot_be_kept_is_not_acknowledged(server, tmp_path):
    """It is tried again, by the next relay as well, and holds up no other event."""
    check_letters_wait(server, tmp_path, server.count)


@pytest.mark.exhaustive
def test_what_cannot_be_read_is_kept_whole(server):
    """Whatever its bytes are, and where it leaves no room for the reason."""
    largest = unknown(1_048_588 - 68 - 20)

    def bodies(topic):
        return [body for _, body in server.messages(topic)]

    check_kept_whole(server, bodies, largest.encode(), bytes(range(256)), b"{")
    reasons = [headers.get("reason", b"") for headers, _ in server.messages(server.letters)]
    assert sum(b"could not be read" in reason for reason in reasons) == 2


def test_an_answer_that_comes_before_an_earlier_one_skips_nothing(server):
    """The offset is committed up to the first message without an answer, and no further."""
    for label in ("first", "second", "third"):
        server.publish(message(label), partition=0)
    gate = threading.Event()
    arguments = ("--connections", 2, "--batch-size", 1, "--claim-after", 6)
    with FaultyCollector(Answer(gate=gate)) as collector:
        with spawned(server, collector, *arguments) as one:
            # While the first request is held, the other connection sends what comes after it.
            collector.wait_for_requests(3)
            eventually(lambda: len(collector.events) >= 2)
            held = collector.requests[0].events[0]["se_la"]
            left = {"first": 3, "second": 2, "third": 1}[held]
            eventually(lambda: server.count() == left)
            one.kill()
        assert server.count() == left
        gate.set()
        with relay(server, collector) as last:
            eventually(lambda: server.count() == 0)
            last.end()
        assert labels(collector) == ["first", "second", "third"]


def test_what_a_relay_that_died_had_is_taken_over(server):
    """After the time that is given for that."""
    with FaultyCollector(SILENCE) as collector, giving(server) as (log, _):
        log(*range(700))
        with spawned(server, collector, "--claim-after", 6) as first:
            collector.wait_for_requests(1)
            first.kill()
        with relay(server, collector) as second:
            collector.wait(lambda: len(labels(collector)) == 700)
            eventually(lambda: server.count() == 0)
            second.end()


def test_two_relays_share_a_topic(server):
    """Each reads partitions of its own."""
    server.publish(message("made"))
    with (
        FaultyCollector() as collector,
        relay(server, collector) as one,
        relay(server, collector) as other,
    ):
        number = 0
        until = time.monotonic() + SECONDS
        while not (one.sent and other.sent):
            assert time.monotonic() < until
            for partition in range(3):
                server.publish(message(f"{number}-{partition}"), partition=partition)
            number += 1
        eventually(lambda: server.count() == 0)
        one.end()
        other.end()
        assert len(labels(collector)) == 3 * number + 1


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
            eventually(lambda: server.count() == 0)
            second.end()


@pytest.mark.exhaustive
def test_a_broker_that_is_away_or_is_killed(tmp_path, reports):
    """The handler keeps, reports, and gives once it is back; so does the relay."""
    server = KafkaServer(tmp_path / "kafka")
    with giving(server, timeout=3) as (log, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("first")}))
        assert not handler.flush(4)
        assert handler.stats.queued == 1
        with server:
            assert handler.flush(30)
            with FaultyCollector() as collector, relay(server, collector) as one:
                collector.wait_for_events(1)
                server.kill()
                eventually(lambda: any("it is asked again" in words for words in reports))
                server.start()
                assert log("second")
                collector.wait(lambda: labels(collector) == ["first", "second"])
                one.end()
    assert server.url in reports[0]
    assert "did not take them" in reports[0]


@pytest.mark.exhaustive
def test_a_broker_that_hangs_holds_no_end(tmp_path):
    """Neither the relay's nor the handler's."""
    with (
        KafkaServer(tmp_path / "kafka") as server,
        FaultyCollector(200, SILENCE) as collector,
        giving(server, shutdown_timeout=0.5) as (log, handler),
        spawned(server, collector, "--shutdown-timeout", 1) as one,
    ):
        one.started()
        assert log("first")
        collector.wait_for_requests(1)
        assert log("second")
        collector.wait_for_requests(2)
        server.freeze()
        start = time.monotonic()
        assert "1 sent" in one.end()
        assert time.monotonic() - start < 20
        handler.handle(logging.makeLogRecord({"snowplow": event_of("x")}))
        start = time.monotonic()
        handler.close()
        assert time.monotonic() - start < 20


def test_a_password_is_shown_nowhere(server, reports, capfd):
    """Neither where it is right nor where it is wrong."""
    place = f"127.0.0.1:{server.port}"
    with giving(server) as (log, handler):
        assert log("in")
        assert repr(handler) == f"<SnowplowHandler kafka://{place}#{server.stream} (NOTSET)>"
    wrong = server.url.replace("p4ss%2Fword", "wr0ng-w0rd")
    with giving(wrong, shutdown_timeout=0.1, timeout=1) as (_, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("out")}))
        assert not handler.flush(3)
        said = str(handler.stats)
    with FaultyCollector() as collector, spawned(wrong, collector, "--health", 0) as one:
        url = one.line().split()[-1]
        one.started()
        one.wait_for_error("it is asked again")
        with pytest.raises(OSError, match="503") as raised:
            urlopen(url, timeout=60)
        said += one.end() + "".join(one.error) + raised.value.read().decode()
    output = capfd.readouterr()
    said += str(reports) + output.out + output.err
    assert "uthentication failed" in said
    assert "wr0ng" not in said
    assert "p4ss" not in said


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka://h:x",
        "kafka://u:sec/ret@h",
        "kafka://h/topic",
        "kafka://h/?nothing=sec-ret",
        "kafka://h/?acks=0",
        "kafka://h/?security.protocol=sec-ret",
    ],
)
def test_a_url_that_makes_no_sense(url):
    """The message says what is wrong, and not what may be a password."""
    with pytest.raises(ValueError, match=r"broker has") as raised:
        SnowplowHandler(broker=url)
    assert "ret" not in str(raised.value)


@pytest.mark.exhaustive
def test_check_reaches_it(server, tmp_path, capfd):
    """It gives it a test event, says what could lose it, and where nobody answers."""
    status, words = checked(tmp_path, capfd, broker=server.url, stream=server.stream)
    assert status == 0, words
    assert "took the test event" in words
    assert "warning: one server alone has each message" in words
    ((_, body),) = server.messages()
    assert b'"se_ac":"check"' in body
    status, words = checked(
        tmp_path,
        capfd,
        broker=f"kafka://u:s3cret-word@127.0.0.1:{free_port()}",
        stream=server.stream,
    )
    assert status == 2
    assert "error: kafka://127.0.0.1" in words
    assert "s3cret" not in words


def test_health_tells_of_the_lag(server):
    """The messages that are not committed."""
    for label in "abc":
        server.publish(message(label))
    with (
        FaultyCollector(default=SILENCE) as collector,
        spawned(server, collector, "--health", 0, "--shutdown-timeout", 0.1) as one,
    ):
        health = one.line().split()[-1]
        collector.wait_for_requests(1)
        assert json.load(urlopen(health, timeout=60))["waiting"] == {"messages": 3}
        one.end()


def test_a_fork_has_a_producer_of_its_own(server, run):
    """Parent and child give what each has logged, the child nothing of its parent's, and end."""
    check_forks(run, server, "sys.exit(0)")


def test_by_tls(server, reports):
    """The certificate is verified, by the file that the URL's query names."""
    url = f"{server.tls_url}&ssl.ca.location={server.certificate}"
    with giving(url, stream=server.stream) as (log, _):
        assert log("secure")
    assert len(server.messages()) == 1
    with giving(server.tls_url, shutdown_timeout=0.1, timeout=2) as (_, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("refused")}))
        assert not handler.flush(6)
    assert "certificate verify failed" in reports[0]


def test_close_keeps_its_time_where_the_broker_does_not_answer():
    """A server that takes connections and says nothing is waited for no longer."""
    check_silence("kafka://")
