"""Handlers that give their events to Redis, and the relays that send them from there."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import subprocess
import threading
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("redis", reason="the client of Redis is an extra")

from faulty_collector import SILENCE, Answer, FaultyCollector
from redis_servers import RedisServer
from relays import (
    WITHOUT_ENDPOINT,
    Relay,
    check_forks,
    check_letters_wait,
    check_silence,
    checked,
    event_of,
    eventually,
    giving,
    labels,
    relay,
    spawned,
)
from server_process import free_port
from snowplow_logging import SnowplowHandler
from snowplow_logging.brokers.message import MOST_DELIVERIES
from snowplow_logging.cli import main

PASSWORD = "p4ss/word"
CLAIM = ("--claim-after", 1)


@pytest.fixture(scope="module")
def running_redis(tmp_path_factory):
    """Start one server for all tests that need no other."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(running_redis):
    """Give the server, empty."""
    running_redis.client.flushall()
    return running_redis


def event(**names):
    """Return an event as another program might write it."""
    made = {"e": "se", "p": "srv", "tv": "other-1", "eid": "0" * 8, "dtm": "1", "se_ca": "c"}
    return {**made, "se_ac": "a", "se_la": "other", **names}


def entries(redis, name):
    """Return the entries of a stream."""
    return [fields for _, fields in redis.client.xrange(name)]


def test_what_is_logged_comes_through_the_broker(redis):
    """A batch is a message, which is removed once the collector has taken its events."""
    with giving(redis) as (log, handler):
        assert log(*range(1_200))
        assert (handler.stats.sent, handler.stats.queued) == (1_200, 0)
    messages = [json.loads(fields[b"batch"]) for fields in entries(redis, "snowplow")]
    assert [message["version"] for message in messages] == [1] * len(messages)
    written = [event for message in messages for event in message["events"]]
    assert len(written) == 1_200
    with FaultyCollector() as collector, relay(redis, collector, "--connections", 2) as one:
        collector.wait_for_events(1_200)
        assert "events: 1,200 sent, 0 given up, 0 retried" in one.end()
        stamped = {event["eid"]: {**event} for event in collector.events}
    assert all(len(event.pop("stm")) == 13 for event in stamped.values())
    assert stamped == {event["eid"]: event for event in written}
    assert redis.client.xlen("snowplow") == 0


def test_other_programs_may_write_messages_in_any_layout(redis):
    """Whatever makes JSON of it is right; `stm` is the relay's."""
    document = {"events": [event(se_la="é😀,\n"), event(stm="1")], "version": 1, "more": {}}
    redis.client.xadd("snowplow", {"batch": json.dumps(document, indent=2), "other": "x"})
    redis.client.xadd("snowplow", {"batch": json.dumps({"version": 1, "events": []})})
    with FaultyCollector() as collector, relay(redis, collector) as one:
        first, second = collector.wait_for_events(2)
        one.end()
    assert (first["se_la"], second["se_la"]) == ("é😀,\n", "other")
    assert second["stm"] != "1"
    assert redis.client.xlen("snowplow") == 0


def test_one_bad_event_keeps_no_other_from_being_sent(redis):
    """Whatever stands in its place, or beside the list."""
    written = [json.dumps(event(se_la=label)) for label in ("1", "\ud83d", "2")]
    deep = "[" * 100_000 + "]" * 100_000
    text = f'{{"more":{deep},"version":1,"events":[{",".join([*written, deep])}]}}'
    redis.client.xadd("snowplow", {"batch": text})
    with FaultyCollector() as collector, relay(redis, collector) as one:
        sent = collector.wait_for_events(3)
        assert [event["se_la"] for event in sent] == ["1", "?", "2"]
        eventually(lambda: redis.client.xlen("snowplow") == 0)
        assert "events: 3 sent, 1 given up" in one.end()


BROKEN = {
    "no JSON": b"{",
    "nothing": b"",
    "a number": b"1e400",
    "deep": b"[" * 100_000,
    "no UTF-8": b'{"version":1,"events":["\xff"]}',
    "another version": b'{"version":2,"events":[]}',
    "no version": b'{"events":[]}',
    "no list": b'{"version":1,"events":{}}',
    "no object": b'{"version":1,"events":[\n1\n]}',
    "a number in it": json.dumps({"version": 1, "events": [event(se_va=1)]}).encode(),
    "an unknown name": json.dumps({"version": 1, "events": [event(nothing="x")]}).encode(),
    "no event type": json.dumps({"version": 1, "events": [{"p": "srv", "tv": "x"}]}).encode(),
    "too large": json.dumps({"version": 1, "events": [event(se_la="x" * 1_048_576)]}).encode(),
}


def test_what_is_no_message_stops_nothing(redis):
    """It is kept with the reason in a stream beside it, and the others of its message are sent."""
    for body in BROKEN.values():
        redis.client.xadd("snowplow", {"batch": body})
    redis.client.xadd("snowplow", {"no": "batch"})
    mixed = {"version": 1, "events": [event(se_la="1"), 7, event(se_la="2")]}
    redis.client.xadd("snowplow", {"batch": json.dumps(mixed)})
    with giving(redis) as (log, _):
        log("last")
    count = len(BROKEN) + 2
    with FaultyCollector() as collector, relay(redis, collector) as one:
        collector.wait_for_events(3)
        eventually(lambda: redis.client.xlen("snowplow") == 0)
        assert f"events: 3 sent, {count} given up" in one.end()
        assert labels(collector)[-1] == "last"
    letters = entries(redis, "snowplow-dead-letter")
    assert len(letters) == count
    assert all(letter.keys() == {b"reason", b"message"} for letter in letters)
    assert b"it is of version 2, and this relay knows no other than 1" in letters[5][b"reason"]


def test_what_cannot_be_read_is_kept_whole(redis, tmp_path, capsys):
    """In a stream with its bytes, in a file such that `replay` says why it cannot send it."""
    large = json.dumps({"version": 2, "events": [event()] * 4_000}).encode()
    bad = json.dumps(event(foo="\ud83d"), indent=1)
    mixed = f'{{"version": 1, "events": [{bad}, {json.dumps(event())}]}}'.encode()
    alone = b'{"version":1,"events":[\n%b\n]}' % bad.encode()
    bodies, kept = [large, bytes(range(256)), mixed], [large, bytes(range(256)), alone]
    file = tmp_path / "dead.jsonl"
    for arguments in ([], ["--dead-letter", file]):
        for body in bodies:
            redis.client.xadd("snowplow", {"batch": body})
        with FaultyCollector() as collector, relay(redis, collector, *arguments) as one:
            eventually(lambda: redis.client.xlen("snowplow") == 0)
            assert "events: 1 sent, 3 given up" in one.end()
    assert [letter[b"message"] for letter in entries(redis, "snowplow-dead-letter")] == kept
    lines = [json.loads(line)["snowplow"] for line in file.read_text().splitlines()]
    assert lines[0] == {"message": large.decode()}
    assert base64.b64decode(lines[1]["message_base64"]) == bytes(range(256))
    assert lines[2] == {"message": alone.decode()}
    assert main(["replay", str(file), "--endpoint", "http://127.0.0.1:9"]) == 1
    said = capsys.readouterr()
    assert "0 sent, 3 refused" in said.out
    for why in ("is of version 2", "is no UTF-8", "the protocol has no 'foo'"):
        assert why in said.err


def test_dead_letters_can_be_sent_again_and_again(redis):
    """What cannot be sent still is kept as it was, and what can be by now is sent."""
    unread = json.dumps({"version": 2, "events": [event(se_la="later")]})
    redis.client.xadd("snowplow", {"batch": json.dumps({"version": 1, "events": [event(foo="x")]})})
    redis.client.xadd("snowplow", {"batch": unread})
    redis.client.xadd("snowplow", {"order": "the only copy", "é": b"\xff"})
    redis.client.xadd("snowplow", {"message": "another's", "more": "x"})
    kept, name = [], "snowplow"
    with FaultyCollector() as collector:
        for _ in range(3):
            with relay(redis, collector, "--stream", name) as one:
                eventually(lambda name=name: redis.client.xlen(name) == 0)
                assert "events: 0 sent, 4 given up" in one.end()
            name += "-dead-letter"
            kept.append(entries(redis, name))
        assert kept[0] == kept[1] == kept[2]
        bad, later, *others = (letter[b"message"] for letter in kept[0])
        assert json.loads(bad) == {"version": 1, "events": [event(foo="x")]}
        assert later == unread.encode()
        assert [*map(json.loads, others)] == [
            {"order": "the only copy", "é_base64": "/w=="},
            {"message": "another's", "more": "x"},
        ]
        for (key, _), body in zip(redis.client.xrange(name), (bad, later), strict=False):
            mended = body.replace(b'"version": 2', b'"version": 1').replace(b', "foo": "x"', b"")
            redis.client.xdel(name, key)
            redis.client.xadd(name, {"reason": "it was mended", "message": mended})
        with relay(redis, collector, "--stream", name) as one:
            collector.wait_for_events(2)
            eventually(lambda: redis.client.xlen(name) == 0)
            assert "events: 2 sent, 2 given up" in one.end()


def test_what_the_collector_refuses_is_kept(redis, tmp_path):
    """In a stream, from which a relay can send it again, or in a file that `replay` reads."""
    with giving(redis) as (log, _):
        log("refused")
    with FaultyCollector(400) as collector, relay(redis, collector) as one:
        eventually(lambda: redis.client.xlen("snowplow") == 0)
        assert "1 given up" in one.end()
    (letter,) = entries(redis, "snowplow-dead-letter")
    assert b"answered 400" in letter[b"reason"]
    with (
        FaultyCollector() as collector,
        relay(redis, collector, "--stream", "snowplow-dead-letter") as one,
    ):
        assert collector.wait_for_events(1)[0]["se_la"] == "refused"
        one.end()
    with giving(redis) as (log, _):
        log("again")
    file = tmp_path / "dead.jsonl"
    with FaultyCollector(400) as collector, relay(redis, collector, "--dead-letter", file) as one:
        eventually(lambda: redis.client.xlen("snowplow") == 0)
        one.end()
    assert json.loads(file.read_text())["snowplow"]["se_la"] == "again"


def test_what_cannot_be_kept_is_not_acknowledged(redis, tmp_path):
    """It is tried again, by the next relay as well, and holds up no other event."""
    check_letters_wait(redis, tmp_path, lambda: redis.client.xlen("snowplow"))


def test_what_cannot_be_kept_while_the_broker_is_away_is_kept_later(tmp_path):
    """The collector refuses an event at the moment when the dead letters are out of reach."""
    gate = threading.Event()
    with (
        RedisServer(tmp_path / "redis") as server,
        FaultyCollector(Answer(400, gate=gate)) as collector,
        giving(server) as (log, _),
    ):
        log("refused")
        with spawned(server, collector, "--claim-after", 600) as one:
            collector.wait_for_requests(1)
            server.kill()
            gate.set()
            assert "it is tried again" in one.wait_for_error("could not be kept")
            server.start()
            eventually(lambda: server.client.xlen("snowplow") == 0)
            assert "events: 0 sent, 1 given up" in one.end()
        (letter,) = entries(server, "snowplow-dead-letter")
        assert b'"se_la":"refused"' in letter[b"batch"]
        assert len(collector.requests) == 1


def test_413_halves(redis):
    """Until the collector takes them."""
    with giving(redis, batch_size=8) as (log, _):
        log(*range(8))
    with FaultyCollector(413, 413) as collector, relay(redis, collector) as one:
        collector.wait(lambda: len(labels(collector)) == 8)
        eventually(lambda: redis.client.xlen("snowplow") == 0)
        assert [len(request.events) for request in collector.requests[:3]] == [8, 4, 2]
        one.end()


def test_what_a_relay_that_died_had_is_taken_over(redis):
    """After the time that is given for that; before, it is its own."""
    with FaultyCollector(SILENCE) as collector, giving(redis) as (log, _):
        log(*range(700))
        with spawned(redis, collector, *CLAIM) as first:
            collector.wait_for_requests(1)
            first.kill()
        assert redis.client.xpending("snowplow", "snowplow-relay")["pending"] > 0
        with relay(redis, collector, *CLAIM) as second:
            collector.wait(lambda: len(labels(collector)) == 700)
            eventually(lambda: redis.client.xlen("snowplow") == 0)
            second.end()


def test_a_message_that_was_delivered_too_often_is_set_aside(redis):
    """The server moves it without a relay that reads it; those beside it arrive."""
    with giving(redis, batch_size=1) as (log, _):
        log("before", "deadly", "after")
    group = ("snowplow", "snowplow-relay")
    redis.client.xgroup_create(*group, id="0")
    (_, found), *_ = redis.client.xreadgroup(group[1], "dead", {"snowplow": ">"})
    keys = [key for key, _ in found]
    redis.client.xclaim(*group, "dead", 0, keys, idle=10**6, retrycount=2)
    redis.client.xclaim(*group, "dead", 0, keys[1:2], idle=10**6, retrycount=MOST_DELIVERIES)
    with FaultyCollector() as collector, relay(redis, collector, *CLAIM) as one:
        collector.wait_for_events(2)
        eventually(lambda: redis.client.xlen("snowplow") == 0)
        assert "events: 2 sent, 1 given up" in one.end()
        assert labels(collector) == ["after", "before"]
    (letter,) = entries(redis, "snowplow-dead-letter")
    assert b"deadly" in letter[b"batch"]
    assert b"too often" in letter[b"reason"]


def test_a_relay_that_waits_keeps_what_it_has(redis):
    """A collector that is away for longer than `--claim-after` has nobody send an event twice."""
    gate = threading.Event()
    with (
        FaultyCollector(default=Answer(gate=gate)) as collector,
        giving(redis) as (log, _),
        relay(redis, collector, "--claim-after", 2) as first,
    ):
        log(1)
        collector.wait_for_requests(1)
        with relay(redis, collector, "--claim-after", 2) as second:
            time.sleep(4)  # for longer than a relay that says nothing would keep it
            gate.set()
            eventually(lambda: redis.client.xlen("snowplow") == 0)
            second.end()
        first.end()
        assert len(collector.events) == 1


def test_sigterm_leaves_the_rest_to_others_at_once(redis):
    """What is under way is ended or left, and no time is waited for what was left."""
    gate = threading.Event()
    with (
        FaultyCollector(200, default=Answer(gate=gate)) as collector,
        giving(redis, batch_size=100, flush_interval=60) as (log, _),
    ):
        log(*range(600))
        arguments = ("--shutdown-timeout", 0.3, "--batch-size", 100, "--claim-after", 600)
        with spawned(redis, collector, *arguments) as first:
            collector.wait_for_requests(2)
            assert "events: 100 sent" in first.end()
        gate.set()
        with relay(redis, collector, "--claim-after", 600) as second:
            collector.wait(lambda: len(labels(collector)) == 600)
            eventually(lambda: redis.client.xlen("snowplow") == 0)
            second.end()


def test_two_relays_share_a_stream(redis):
    """Both take part, and no event is sent twice."""
    with (
        FaultyCollector(default=Answer(after=0.05)) as collector,
        relay(redis, collector) as one,
        relay(redis, collector) as other,
        giving(redis, batch_size=20) as (log, _),
    ):
        for start in range(0, 1_000, 100):
            log(*range(start, start + 100))
        collector.wait_for_events(1_000)
        said = [one.end(), other.end()]
        assert len(collector.events) == 1_000
    assert not any("events: 0 sent" in words for words in said)


@pytest.mark.parametrize("store", [None, "events.db"])
def test_a_broker_that_is_away(tmp_path, reports, store):
    """The handler keeps, in memory or its store, reports, and gives once it is back."""
    settings = {} if store is None else {"store": tmp_path / store}
    server = RedisServer(tmp_path / "redis")
    with giving(server, **settings) as (log, handler):
        start = time.monotonic()
        handler.handle(logging.makeLogRecord({"snowplow": event_of("first")}))
        assert time.monotonic() - start < 5
        assert not handler.flush(0.5)
        assert handler.stats.queued == 1
        with server:
            assert handler.flush(30)
            assert handler.stats.sent == 1
            server.kill()
            server.start()  # what it has acknowledged is there again
            assert log("second")
            with FaultyCollector() as collector, relay(server, collector) as one:
                collector.wait_for_events(2)
                server.kill()
                eventually(lambda: any("it is asked again" in words for words in reports))
                server.start()
                assert log("third")
                collector.wait(lambda: labels(collector) == ["first", "second", "third"])
                one.end()
    assert server.url in reports[0]
    assert "did not take them" in reports[0]


def test_a_server_that_would_forget_is_told_of(tmp_path):
    """The relay says so when it begins."""
    options = "--appendonly no --maxmemory 100mb --maxmemory-policy allkeys-lru".split()
    with (
        RedisServer(tmp_path / "redis", *options) as server,
        FaultyCollector() as collector,
        spawned(server, collector) as one,
    ):
        error = one.wait_for_error("maxmemory-policy is allkeys-lru")
        assert "appendonly is no" in error
        one.end()


def test_a_server_without_memory_is_told_of_at_once(tmp_path, reports):
    """Its answer is one that somebody has to mend, and the events wait."""
    with (
        RedisServer(tmp_path / "redis", "--maxmemory", "1") as server,
        giving(server, shutdown_timeout=0.1) as (_, handler),
    ):
        handler.handle(logging.makeLogRecord({"snowplow": event_of("first")}))
        assert not handler.flush(0.5)
        assert handler.stats.queued == 1
        server.client.config_set("maxmemory", 0)
        assert handler.flush(30)
    assert "maxmemory" in reports[0]


def test_a_password_is_shown_nowhere(tmp_path, reports, capfd):
    """Neither where it is right nor where it is wrong."""
    options = ("--requirepass", PASSWORD)
    with RedisServer(tmp_path / "redis", *options) as server, FaultyCollector() as collector:
        place = f"127.0.0.1:{server.port}/0"
        with giving(f"redis://default:{PASSWORD.replace('/', '%2F')}@{place}") as (log, handler):
            assert log("in")
            assert repr(handler) == f"<SnowplowHandler redis://{place}#snowplow (NOTSET)>"
        wrong = f"redis://somebody:wr0ng-w0rd@{place}"
        with giving(wrong, shutdown_timeout=0.1) as (log, handler):
            handler.handle(logging.makeLogRecord({"snowplow": event_of("out")}))
            assert not handler.flush(0.5)
            assert "wr0ng" not in str(handler.stats)
        with spawned(wrong, collector, "--health", 0) as one:
            url = one.line().split()[-1]
            one.started()
            one.wait_for_error("it is asked again")
            with pytest.raises(OSError, match="503") as raised:
                urlopen(url)
            said = one.end() + "".join(one.error) + raised.value.read().decode()
    output = capfd.readouterr()
    said += str(reports) + output.out + output.err
    assert "invalid username-password" in said
    assert "wr0ng" not in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis:/x",
        "http://h",
        "redis://",
        "redis://h:x",
        "redis://h/x",
        "redis://h1,h2",
        "redis://u:sec/ret@h",
        "redis+sentinel://h",
        "redis://h/0?nothing=sec-ret",
        "redis+cluster://h/1",
    ],
)
def test_a_url_that_makes_no_sense(url):
    """The message says what is wrong, and not what may be a password."""
    with pytest.raises(ValueError, match=r"broker (has|names)") as raised:
        SnowplowHandler(broker=url)
    assert "ret" not in str(raised.value)


def test_by_sentinels(tmp_path):
    """The master is the one that they know."""
    with RedisServer(tmp_path / "redis") as server:
        port = free_port()
        file = tmp_path / "sentinel.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor mine 127.0.0.1 {server.port} 1\n"
        )
        sentinel = subprocess.Popen(["redis-server", file, "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            url = f"redis+sentinel://127.0.0.1:{port}/mine/0"
            with giving(url) as (log, _):
                assert log("by sentinel")
            with FaultyCollector() as collector, relay(url, collector) as one:
                assert collector.wait_for_events(1)[0]["se_la"] == "by sentinel"
                one.end()
            assert server.client.xlen("snowplow") == 0
        finally:
            sentinel.kill()
            sentinel.wait()


def test_in_a_cluster(tmp_path):
    """A stream is on the server that has its slot."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with RedisServer(tmp_path / "redis", *options) as server:
        server.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        info = server.client.execute_command
        eventually(lambda: info("CLUSTER INFO")["cluster_state"] == "ok")
        url = f"redis+cluster://127.0.0.1:{server.port}"
        with giving(url) as (log, _):
            assert log("in a cluster")
        with FaultyCollector() as collector, spawned(url, collector, "--health", 0) as one:
            health = one.line().split()[-1]
            assert collector.wait_for_events(1)[0]["se_la"] == "in a cluster"
            eventually(lambda: server.client.xlen("snowplow") == 0)
            assert json.load(urlopen(health))["waiting"] == {"messages": 0, "messages_taken": 0}
            one.end()


def test_check_reaches_the_broker(redis, tmp_path, capfd):
    """It gives it a test event, and says where nobody answers."""
    status, words = checked(tmp_path, capfd, broker=f"{redis.url}/0", stream="shop")
    assert status == 0, words
    assert f"handlers.snowplow: {redis.url}/0#shop" in words
    assert "took the test event" in words
    assert redis.client.xlen("shop") == 1
    nowhere = f"redis://:sec-ret@127.0.0.1:{free_port()}"
    status, words = checked(tmp_path, capfd, broker=nowhere)
    assert status == 2
    assert "error: redis://127.0.0.1" in words
    assert "sec-ret" not in words


def test_check_warns_of_a_server_that_would_forget(tmp_path, capfd):
    """The test event arrives all the same."""
    with RedisServer(tmp_path / "redis", "--appendonly", "no") as server:
        status, words = checked(tmp_path, capfd, broker=server.url)
    assert status == 0
    assert "warning: appendonly is no" in words


def test_check_leaves_an_event_in_the_store(tmp_path, capfd):
    """And says which relay sends it."""
    path = tmp_path / "events.db"
    status, words = checked(tmp_path, capfd, store=str(path), send=False)
    assert status == 0, words
    assert f"`snowplow-logging relay --store {path} --endpoint URL` sends" in words
    with FaultyCollector() as collector, Relay("--store", path, endpoint=collector):
        assert collector.wait_for_events(1)[0]["se_ac"] == "check"


def test_a_fork_has_connections_of_its_own(redis, run):
    """Parent and child give what each has logged, and the child nothing of its parent's."""
    check_forks(run, redis)


def test_what_is_left_at_exit_is_given_to_the_broker(redis, run):
    """As it is to a collector."""
    program = "handler = configure(broker=sys.argv[1])\nlog('last')"
    run(program, redis.url, preamble=WITHOUT_ENDPOINT)
    with FaultyCollector() as collector, relay(redis, collector):
        assert collector.wait_for_events(1)[0]["se_la"] == "last"


def test_close_keeps_its_time_where_the_broker_does_not_answer():
    """A server that takes connections and says nothing is waited for no longer."""
    check_silence("redis://")


def test_a_broker_that_hangs_holds_no_end(tmp_path):
    """Neither the relay's nor the handler's."""
    with (
        RedisServer(tmp_path / "redis") as server,
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


def test_by_tls(tmp_path, reports):
    """The certificate is verified, by the file that the URL's query or the environment names."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += f" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {key}"
    subprocess.run([*command.split(), "-out", certificate], check=True, capture_output=True)
    port = free_port()
    options = f"--tls-port {port} --tls-auth-clients no --tls-cert-file {certificate}"
    options += f" --tls-key-file {key}"
    with RedisServer(tmp_path / "redis", *options.split()) as server:
        url = f"rediss://127.0.0.1:{port}"
        with giving(f"{url}?ssl_ca_certs={certificate}") as (log, _):
            assert log("secure")
        assert server.client.xlen("snowplow") == 1
        with giving(url, shutdown_timeout=0.1) as (_, handler):
            handler.handle(logging.makeLogRecord({"snowplow": event_of("refused")}))
            assert not handler.flush(1)
    assert "certificate verify failed" in reports[0]
