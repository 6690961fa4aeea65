"""Handlers that give their events to SQS, and the relays that send them from there."""

from __future__ import annotations

import json
import logging
import threading
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("boto3", reason="the client of SQS is an extra")

from faulty_collector import SILENCE, Answer, FaultyCollector
from relays import (
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
from sqs_servers import SQSServer

pytestmark = pytest.mark.timeout(300)  # the start of the server, beside much else

CLAIM = ("--claim-after", 2)


@pytest.fixture(scope="module")
def running_sqs(tmp_path_factory):
    """Share one server."""
    with shared(tmp_path_factory, "sqs", SQSServer) as server:
        yield server


@pytest.fixture
def server(running_sqs, request):
    """Give the server, with a queue of the test's own."""
    running_sqs.stream = stream_of(request)[:60]
    return running_sqs


def message(label):
    """Return a message as another program might write it."""
    event = {"e": "se", "p": "srv", "tv": "other-1", "eid": label, "dtm": "1", "se_ca": "c"}
    payload = json.dumps({**event, "se_ac": "a", "se_la": label}, separators=(",", ":"))
    return pack([payload.encode()[:-1]]).decode()


def test_what_is_logged_comes_through_the_broker(server):
    """In messages that fit, removed once the collector has taken them."""
    odd = "\ufffe\uffffé😀"
    with giving(server) as (log, handler):
        assert log(odd, *("x" * 3_000 for _ in range(300)))
        assert handler.stats.sent == 301
    assert server.count() >= 4  # of 900 kB in all
    with FaultyCollector() as collector, relay(server, collector, "--connections", 2) as one:
        collector.wait_for_events(301)
        assert "events: 301 sent, 0 given up, 0 retried" in one.end()
        assert odd in labels(collector)
    assert server.count() == 0


def test_what_is_no_message_stops_nothing(server):
    """It is kept with the reason in a queue beside it, from which a relay can send it again."""
    with giving(server) as (log, _):
        server.publish("{")
        log("refused")
    with FaultyCollector(400) as collector, relay(server, collector) as one:
        eventually(lambda: server.count(server.letters) == 2)
        eventually(lambda: server.count() == 0)
        assert "events: 0 sent, 2 given up" in one.end()
    letters = server.take(server.letters)
    reasons = " ".join(reason for reason, _ in letters)
    assert "it is no JSON" in reasons
    assert "answered 400" in reasons
    (again,) = (body for _, body in letters if body.startswith('{"version"'))
    server.publish(again, server.letters)
    with (
        FaultyCollector() as collector,
        relay(server, collector, "--stream", server.letters) as one,
    ):
        assert collector.wait_for_events(1)[0]["se_la"] == "refused"
        one.end()


@pytest.mark.exhaustive
def test_what_cannot_be_kept_is_not_acknowledged(server, tmp_path):
    """It is tried again, by the next relay as well, and holds up no other event."""
    check_letters_wait(server, tmp_path, server.count)


@pytest.mark.exhaustive
def test_what_cannot_be_read_is_kept_whole(server):
    """Where it leaves no room for the reason as well."""

    def bodies(queue):
        return [body.encode() for _, body in server.take(queue)]

    check_kept_whole(server, bodies, unknown(262_144), unknown(1_000), "{\n\t")


def test_dead_letters_fit_into_messages(server):
    """What one request of a relay has held may take several."""
    with giving(server) as (log, _):
        log(*("x" * 3_000 for _ in range(300)))
    with FaultyCollector(default=400) as collector, relay(server, collector) as one:
        eventually(lambda: server.count() == 0)
        assert "events: 0 sent, 300 given up" in one.end()
    letters = server.take(server.letters)
    assert sum(len(json.loads(body)["events"]) for _, body in letters) == 300


def test_an_event_that_no_message_can_hold_is_given_up(server):
    """It holds up nothing."""
    large = {"schema": "iglu:com.example/large/jsonschema/1-0-0", "data": {"text": "y" * 300_000}}
    with giving(server) as (log, handler):
        log("first")
        event = {"event": "self_describing_event", **large}
        handler.handle(logging.makeLogRecord({"snowplow": event}))
        log("last")
        assert (handler.stats.sent, handler.stats.failed) == (2, 1)


def test_what_a_relay_that_died_had_is_taken_over(server):
    """After the time for which nobody else sees it."""
    with FaultyCollector(SILENCE) as collector, giving(server) as (log, _):
        log(*range(700))
        with spawned(server, collector, *CLAIM) as first:
            collector.wait_for_requests(1)
            first.kill()
        with relay(server, collector, *CLAIM) as second:
            collector.wait(lambda: len(labels(collector)) == 700)
            eventually(lambda: server.count() == 0)
            second.end()


@pytest.mark.exhaustive  # for a machine so busy that no word is said in time sends twice
def test_a_relay_that_waits_keeps_what_it_has(server):
    """A collector that is away for longer than `--claim-after` has nobody send an event twice."""
    gate = threading.Event()
    with (
        FaultyCollector(default=Answer(gate=gate)) as collector,
        giving(server) as (log, _),
        relay(server, collector, "--claim-after", 4) as first,
    ):
        log(1)
        collector.wait_for_requests(1)
        with relay(server, collector, "--claim-after", 4) as second:
            time.sleep(9)  # for longer than a relay that says nothing would keep it
            gate.set()
            eventually(lambda: server.count() == 0)
            second.end()
        first.end()
        assert len(collector.events) == 1


# A machine that is too busy may leave it to the time after which it is anybody's.
@pytest.mark.parametrize("claim_after", [4, pytest.param(600, marks=pytest.mark.exhaustive)])
def test_sigterm_leaves_the_rest_to_others(server, claim_after):
    """What is under way is ended or left, and no time is waited for what was left."""
    gate = threading.Event()
    with (
        FaultyCollector(200, default=Answer(gate=gate)) as collector,
        giving(server, batch_size=100, flush_interval=60) as (log, _),
    ):
        log(*range(600))
        arguments = ("--shutdown-timeout", 0.3, "--batch-size", 100, "--claim-after", claim_after)
        with spawned(server, collector, *arguments) as first:
            collector.wait_for_requests(2)
            first.end()
        gate.set()
        with relay(server, collector, "--claim-after", claim_after) as second:
            collector.wait(lambda: len(labels(collector)) == 600)
            eventually(lambda: server.count() == 0)
            second.end()


def deliver(server, times):
    """Have each message of a queue delivered so often, and answered for by nobody."""
    client = server.client()
    queue = {"QueueUrl": client.get_queue_url(QueueName=server.stream)["QueueUrl"]}
    for _ in range(times):
        for one in client.receive_message(**queue, MaxNumberOfMessages=10)["Messages"]:
            receipt = one["ReceiptHandle"]
            client.change_message_visibility(**queue, ReceiptHandle=receipt, VisibilityTimeout=0)


def test_a_message_that_was_delivered_too_often_is_set_aside(server):
    """Those beside it arrive, also those that were delivered often."""
    server.publish(message("deadly"))
    deliver(server, MOST_DELIVERIES - 5)
    server.publish(message("beside"))
    deliver(server, 5)
    server.publish(message("new"))
    with FaultyCollector() as collector, relay(server, collector) as one:
        eventually(lambda: server.count() == 0)
        assert "events: 2 sent, 1 given up" in one.end()
        assert labels(collector) == ["beside", "new"]
    ((reason, body),) = server.take(server.letters)
    assert "delivered 20 times" in reason
    assert "deadly" in body


def test_an_end_that_is_told_counts_for_nothing(server):
    """However often the message was delivered before."""
    server.publish(message("patient"))
    deliver(server, MOST_DELIVERIES - 1)
    for _ in range(2):
        with (
            FaultyCollector(SILENCE) as collector,
            relay(server, collector, "--shutdown-timeout", 0.01),
        ):
            collector.wait_for_requests(1)
    with FaultyCollector() as collector, relay(server, collector) as last:
        assert collector.wait_for_events(1)[0]["se_la"] == "patient"
        last.end()
    assert server.count(server.letters) == 0


def test_a_broker_that_is_away(server, reports):
    """The handler keeps, and reports at which place."""
    url = f"sqs://127.0.0.1:{free_port()}"
    with giving(url, shutdown_timeout=0.1) as (_, handler):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("first")}))
        assert not handler.flush(0.5)
        assert handler.stats.queued == 1
    assert f"{url}#snowplow did not take them" in reports[0]


def test_what_the_client_of_a_broker_that_is_away_logs_is_no_event(reports):
    """It logs its exceptions, which would go to the broker in their turn, and so for ever."""
    url = f"sqs://127.0.0.1:{free_port()}"
    root, level = logging.getLogger(), logging.getLogger().level
    settings = {"capture_exceptions": True, "flush_interval": 0.01, "max_retry_delay": 0.05}
    with giving(url, shutdown_timeout=0.1, **settings) as (_, handler):
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            handler.handle(logging.makeLogRecord({"snowplow": event_of("first")}))
            eventually(lambda: handler.stats.retried >= 5)
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
        assert handler.stats.queued == 1


@pytest.mark.exhaustive
def test_a_broker_that_hangs_holds_no_end(tmp_path):
    """Neither the relay's nor the handler's."""
    with (
        SQSServer(tmp_path / "sqs") as server,
        FaultyCollector(200, SILENCE) as collector,
        giving(server, shutdown_timeout=0.5) as (log, handler),
        spawned(server, collector, "--shutdown-timeout", 1) as one,
    ):
        one.started()
        log("first")
        collector.wait_for_requests(1)
        log("second")
        collector.wait_for_requests(2)
        server.freeze()
        start = time.monotonic()
        assert "1 sent" in one.end()
        assert time.monotonic() - start < 20
        handler.handle(logging.makeLogRecord({"snowplow": event_of("x")}))
        start = time.monotonic()
        handler.close()
        assert time.monotonic() - start < 20


def test_a_password_is_shown_nowhere(server, tmp_path, capfd):
    """Neither by the handler nor by `check`, which reaches the broker."""
    url = server.url.replace("key:secret", "AKIAEXAMPLE:s3cret-word")
    with giving(url, stream=server.stream) as (log, handler):
        assert log("in")
        place = f"sqs://127.0.0.1:{server.port}#{server.stream}"
        assert repr(handler) == f"<SnowplowHandler {place} (NOTSET)>"

    status, words = checked(tmp_path, capfd, broker=url, stream=server.stream)
    assert status == 0, words
    assert "took the test event" in words
    assert "s3cret" not in words
    status, words = checked(
        tmp_path,
        capfd,
        broker=f"sqs://AKIAEXAMPLE:s3cret-word@127.0.0.1:{free_port()}",
        stream=server.stream,
    )
    assert status == 2
    assert "error: sqs://127.0.0.1" in words
    assert "s3cret" not in words
    assert "AKIA" not in words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqs://h:x", "a host or a port that is none"),
        ("sqs://key:sec/ret@h", "@ behind its host"),
        ("sqs://h/queue", "a path"),
        ("sqs://h,i", "several hosts"),
        ("sqs://h?nothing=sec-ret", "known are profile, region"),
        ("sqs://key:sec-ret@", "names no region"),
        ("sqs://key@?region=eu-west-1", "half a key"),
        ("sqs://?profile=sec-ret", "makes no sense"),
    ],
)
def test_a_url_that_makes_no_sense(url, words, monkeypatch, tmp_path):
    """The message says what is wrong, and not what may be a password."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"broker ") as raised:
        SnowplowHandler(broker=url)
    assert words in str(raised.value)
    assert "ret" not in str(raised.value)


def test_aws_itself_needs_no_host():
    """The region says which of its servers it is."""
    handler = SnowplowHandler(broker="sqs://?region=eu-west-1")
    assert repr(handler) == "<SnowplowHandler sqs://#snowplow (NOTSET)>"
    handler.close()


def test_health_tells_of_the_lag(server):
    """The messages that were not removed, and how many of them were received."""
    server.publish(message("one"))
    with (
        FaultyCollector(default=SILENCE) as collector,
        spawned(server, collector, "--health", 0, "--shutdown-timeout", 0.1) as one,
    ):
        health = one.line().split()[-1]
        collector.wait_for_requests(1)
        waiting = {"messages": 1, "messages_taken": 1}
        assert json.load(urlopen(health, timeout=60))["waiting"] == waiting
        one.end()


def test_a_fork_has_connections_of_its_own(server, run):
    """Parent and child give what each has logged, and the child nothing of its parent's."""
    check_forks(run, server)


def test_close_keeps_its_time_where_the_broker_does_not_answer():
    """A server that takes connections and says nothing is waited for no longer."""
    check_silence("sqs://a:b@")
