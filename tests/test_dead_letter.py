"""What cannot be delivered is kept in full, a line each, with the reason; no line is ever torn."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime

import pytest

from faulty_collector import SILENCE, FaultyCollector
from helpers import entity, tracking
from snowplow_logging import SnowplowHandler
from snowplow_logging.dead_letter import DeadLetterFile


def event(name, **values):
    """Return an event with a name."""
    return {"event": "struct_event", "category": "c", "action": str(name), **values}


def lines(path):
    """Return the lines of a file, each of which has to be a JSON object."""
    return [json.loads(line) for line in path.read_bytes().decode("utf-8").splitlines()]


@pytest.fixture
def path(tmp_path):
    """Return a path for dead letters."""
    return tmp_path / "dead.jsonl"


def test_what_snowplow_would_refuse_is_kept_as_it_was_logged(path):
    """The line has the event with its id, the time of the log call, and what was wrong."""
    bad = event("a", value="nine", subject={"user_id": "u-1"}, label="é😀\n")
    with tracking(dead_letter=path) as tracked:
        before = time.time() * 1_000
        tracked.log(bad)
        after = time.time() * 1_000
        assert tracked.handler.flush(20)
        (line,) = lines(path)
        assert "struct_event" in line["message"]
        assert "value" in line["message"]
        assert line["levelname"] == "ERROR"
        assert datetime.fromisoformat(line["timestamp"]).timestamp() * 1_000 >= before - 1
        kept = line["snowplow"]
        assert {key: kept[key] for key in bad} == bad
        assert len(kept["event_id"]) == 36
        assert before - 1 <= kept["dtm"] <= after + 1
        assert tracked.handler.stats.invalid == 1


@pytest.mark.parametrize("store", [False, True])
def test_what_the_collector_refuses_is_kept_as_it_was_sent(path, tmp_path, store):
    """The line has the protocol's names and values, and the answer."""
    settings = {"store": tmp_path / "events.db"} if store else {}
    with (
        FaultyCollector(default=400) as collector,
        tracking(collector, dead_letter=path, app_id="shop", **settings) as tracked,
    ):
        for number in range(3):
            tracked.log(event(number, context=[entity(plan="gold")]))
        assert tracked.handler.flush(20)
        kept = lines(path)
        assert [line["snowplow"]["se_ac"] for line in kept] == ["0", "1", "2"]
        assert all("400" in line["message"] for line in kept)
        sent = collector.requests[0].events
        for line, one in zip(kept, sent, strict=True):
            del one["stm"]
            assert line["snowplow"] == one
        assert tracked.handler.stats.losses == {"refused by the collector": 3}


def test_what_is_given_up_is_kept_with_the_reason(path):
    """After `max_attempts`, and after the `shutdown_timeout`, the events are in the file."""
    settings = {"max_attempts": 2, "max_retry_delay": 0.01, "dead_letter": path}
    with (
        FaultyCollector(default=503) as collector,
        tracking(collector, **settings) as tracked,
    ):
        tracked.log(event("tried"))
        assert tracked.handler.flush(20)
    with tracking(dead_letter=path, flush_interval=100) as tracked:
        for number in range(5):
            tracked.log(event(number))
    tried, *late = lines(path)
    assert tried["snowplow"]["se_ac"] == "tried"
    assert "after 2 attempts" in tried["message"]
    assert [line["snowplow"]["se_ac"] for line in late] == [str(number) for number in range(5)]
    assert all("shutdown_timeout" in line["message"] for line in late)


def test_what_was_refused_is_kept_though_a_request_is_stuck_at_the_end(path):
    """A bad event does not depend on a collector that answers."""
    with FaultyCollector(default=SILENCE) as collector:
        settings = {"dead_letter": path, "shutdown_timeout": 0.3, "flush_interval": 0}
        with tracking(collector, **settings) as tracked:
            tracked.log(event("good"))
            collector.wait_for_requests(1)
            tracked.log(event("bad", value="nine"))
    assert sorted(line["snowplow"].get("action", "good") for line in lines(path)) == ["bad", "good"]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no such signal")
def test_what_is_given_up_is_kept_though_the_process_stood_still(path):
    """A close that a signal handler held up beyond its time keeps and tells of its events."""
    before = signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.6))
    told = []
    settings = {"dead_letter": path, "on_failure": lambda events, reason: told.extend(events)}
    try:
        with tracking(flush_interval=100, shutdown_timeout=0.1, **settings) as tracked:
            tracked.log(event("late"))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            tracked.handler.close()
            assert [event["se_ac"] for event in told] == ["late"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (line,) = lines(path)
    assert line["snowplow"]["se_ac"] == "late"


def test_an_event_is_in_one_of_the_files_at_any_moment(path, tmp_path):
    """A process that is killed while it gives up an event has it in the store or as a letter."""
    program = """
        import logging, os, signal, sys
        from snowplow_logging import SnowplowHandler
        def die(events, reason):
            os.kill(os.getpid(), signal.SIGKILL)
        endpoint, store, path = sys.argv[1:]
        handler = SnowplowHandler(endpoint, store=store, dead_letter=path, on_failure=die)
        logger = logging.getLogger("shop")
        logger.addHandler(handler)
        event = {"event": "struct_event", "category": "c", "action": "a"}
        logger.warning("", extra={"snowplow": event})
        handler.flush(20)
    """
    with FaultyCollector(default=400) as collector:
        arguments = [collector.endpoint, tmp_path / "events.db", path]
        code = textwrap.dedent(program)
        ended = subprocess.run([sys.executable, "-c", code, *arguments], check=False, timeout=60)
    assert ended.returncode == -9
    assert [line["snowplow"]["se_ac"] for line in lines(path)] == ["a"]


def write_many(path, name):
    """Write a hundred letters, one or several at once."""
    file = DeadLetterFile(path, max_bytes=200_000, files=100)
    for number in range(50):
        file.write(
            [{"e": "se", "eid": f"{name}-{number}", "page": "x" * (number * 97 % 3_000)}], "1"
        )
        pair = [{"e": "se", "eid": f"{name}-{number}-{half}"} for half in "ab"]
        file.write(pair, "2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_threads_and_processes_never_tear_a_line(path):
    """Four processes of three threads each write at once, and rotate, and each line is whole."""

    def work(child):
        threads = [
            threading.Thread(target=write_many, args=(path, f"{child}-{n}")) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    files = [file for file in path.parent.iterdir() if not file.name.endswith(".lock")]
    ids = [line["snowplow"]["eid"] for file in files for line in lines(file)]
    assert len(ids) == len(set(ids)) == 4 * 3 * 150
    assert len(files) > 3
    # Who has waited too long for the lock, as on a busy machine, writes without rotating.
    assert all(file.stat().st_size <= 400_000 for file in files)


def test_the_files_are_bounded(path):
    """The oldest letters go once there are as many files as there may be."""
    file = DeadLetterFile(path, max_bytes=2_000, files=3)
    for number in range(200):
        file.write([{"e": "se", "eid": str(number)}], "no")
    names = sorted(found.name for found in path.parent.iterdir())
    assert names == ["dead.jsonl", "dead.jsonl.1", "dead.jsonl.2", "dead.jsonl.lock"]
    kept = []
    for name in ("dead.jsonl.2", "dead.jsonl.1", "dead.jsonl"):
        assert 1_000 < path.with_name(name).stat().st_size <= 2_000 or name == "dead.jsonl"
        kept += [int(line["snowplow"]["eid"]) for line in lines(path.with_name(name))]
    assert kept == list(range(kept[0], 200))


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_nothing_is_removed_while_there_is_a_number_that_no_file_has(path, missing):
    """One of the older files was taken away: the next rotation fills its place and removes none."""
    file = DeadLetterFile(path, max_bytes=500, files=4)
    removed = number = 0
    while not path.with_name(f"{path.name}.3").exists():
        removed += file.write([event(number)], "no")
        number += 1
    assert removed == 0
    gone = path.with_name(f"{path.name}.{missing}")
    count = len(lines(gone))
    gone.unlink()
    while not gone.exists():
        assert file.write([event(number)], "no") == 0
        number += 1
    files = [path, *path.parent.glob(f"{path.name}.[0-9]")]
    kept = [line for one in files for line in lines(one)]
    assert len(kept) == number - count
    # With all numbers taken the last file goes, and is counted.
    last = len(lines(path.with_name(f"{path.name}.3")))
    while not (removed := file.write([event(number)], "no")):
        number += 1
    assert removed == last


def test_one_file_alone_begins_anew(path):
    """With a single file the letters in it go when it is full."""
    file = DeadLetterFile(path, max_bytes=500, files=1)
    for number in range(20):
        file.write([{"e": "se", "eid": str(number)}], "no")
    assert path.stat().st_size <= 500
    assert lines(path)[-1]["snowplow"]["eid"] == "19"


def test_a_half_line_of_a_killed_process_spoils_no_other(path):
    """The next letter begins on a line of its own."""
    path.write_text('{"snowplow": {"e": "s')
    DeadLetterFile(path).write([{"e": "se", "eid": "1"}], "no")
    _, whole = path.read_text().splitlines()
    assert json.loads(whole)["snowplow"] == {"e": "se", "eid": "1"}


def test_a_full_disk_leaves_no_half_line(path):
    """What does not fit is not written in part, and the program goes on."""
    program = """
        import logging, resource, sys
        from snowplow_logging import SnowplowHandler
        reports = []
        class Keeping(logging.Handler):
            def emit(self, record):
                reports.append(record.getMessage())
        logging.getLogger("snowplow_logging").addHandler(Keeping())
        sys.dont_write_bytecode = True  # or some of the library's would be cut, and stay so
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        handler = SnowplowHandler("http://127.0.0.1:9", dead_letter=sys.argv[1])
        logging.raiseExceptions = False
        logger = logging.getLogger("shop")
        logger.addHandler(handler)
        for number in range(100):
            event = {"event": "struct_event", "category": "c", "action": str(number), "value": "x"}
            logger.warning("", extra={"snowplow": {**event, "label": "x" * 500}})
        assert handler.flush(20)
        assert handler.stats.invalid == 100
        kept = [report for report in reports if sys.argv[1] in report]
        assert len(kept) == 1 and "could not be kept" in kept[0], reports
    """
    code = textwrap.dedent(program)
    arguments = [sys.executable, "-c", code, path]
    ended = subprocess.run(arguments, check=False, timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.stat().st_size <= 20_000
    kept = [line["snowplow"]["action"] for line in lines(path)]
    assert kept == [str(number) for number in range(len(kept))]
    assert 20 < len(kept) < 40


@pytest.mark.parametrize("content", [b"not ours\n", b"\x89PNG\r\n", b"SQLite format 3\0"])
def test_the_file_of_another_program_is_left_alone(path, reports, content):
    """Nothing is written into it, nor is it renamed; the events count as missing in the file."""
    path.write_bytes(content)
    with tracking(dead_letter=path) as tracked:
        tracked.log(event(0, value="nine"))
        assert tracked.handler.flush(20)
        assert tracked.handler.stats.dead_letters_lost == 1
    assert path.read_bytes() == content
    assert any("another program's file" in report for report in reports)


def test_the_store_is_no_file_of_dead_letters(tmp_path):
    """However the two paths are written."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="dead_letter is the file of the store, too"):
        SnowplowHandler(
            "http://127.0.0.1:9", store=tmp_path / "x", dead_letter=tmp_path / "link" / "x"
        )


@pytest.mark.parametrize("place", ["directory", "no such directory", "under a file"])
def test_a_path_where_no_file_can_be_is_told_of_once(tmp_path, reports, place):
    """The events are counted, callbacks are called, and nothing else is disturbed."""
    (tmp_path / "file").touch()
    path = {
        "directory": tmp_path,
        "no such directory": tmp_path / "none" / "dead.jsonl",
        "under a file": tmp_path / "file" / "dead.jsonl",
    }[place]
    told = []
    callback = {"on_failure": lambda events, reason: told.extend(events)}
    with (
        FaultyCollector(default=400) as collector,
        tracking(collector, dead_letter=path, **callback) as tracked,
    ):
        for number in range(10):
            tracked.log(event(number))
            tracked.log(event(number, value="nine"))
        assert tracked.handler.flush(20)
        assert (tracked.handler.stats.failed, tracked.handler.stats.invalid) == (10, 10)
        assert len(told) == 20
        assert tracked.handler.stats.dead_letters_lost == 20
    mentions = [report for report in reports if str(path) in report]
    assert len(mentions) == 1
    assert "could not be kept" in mentions[0]


def test_a_lock_that_is_never_given_up_holds_nobody_for_long(path):
    """A process that is stopped in the middle of a write does not stop the others."""
    pytest.importorskip("fcntl", reason="the lock is one of POSIX here")
    program = """
        import fcntl, sys
        with open(sys.argv[1] + ".lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            print("locked", flush=True)
            sys.stdin.readline()
    """
    code = textwrap.dedent(program)
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        before = time.monotonic()
        letters = DeadLetterFile(path)
        for _ in range(50):
            letters.write([{"e": "se"}], "no")
        assert time.monotonic() - before < 10  # and not 50 times the wait
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait()
    letters.write([{"e": "se"}], "no")
    assert len(lines(path)) == 51


def test_a_relative_path_stays_where_it_was_configured(tmp_path, monkeypatch):
    """A program that changes its directory has one file all the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with tracking(dead_letter="dead.jsonl") as tracked:
        monkeypatch.chdir(tmp_path / "elsewhere")
        tracked.log(event("bad", value="nine"))
        assert tracked.handler.flush(20)
    assert len(lines(tmp_path / "dead.jsonl")) == 1


def test_letters_are_read_back_by_replay(path, tmp_path):
    """What was refused by a collector once is sent again, the same but for `stm`."""
    with FaultyCollector(default=403) as collector:
        with tracking(collector, dead_letter=path) as tracked:
            for number in range(20):
                tracked.log(event(number, value=9.5, true_timestamp=1_700_000_000_000))
            tracked.log({"event": "page_view", "page_url": "https://é.example.com/ä?ö=😀"})
            assert tracked.handler.flush(20)
        refused = [one for request in collector.requests for one in request.events]
        collector.default = 200
        command = [sys.executable, "-m", "snowplow_logging", "replay", path]
        command += ["--endpoint", collector.endpoint]
        ended = subprocess.run(command, check=False, capture_output=True, timeout=60, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        again = collector.events
    for one in (*refused, *again):
        del one["stm"]
    assert sorted(again, key=lambda one: one["eid"]) == sorted(refused, key=lambda one: one["eid"])
    assert len(again) == 21


def test_no_file_is_made_where_nothing_is_given_up(path):
    """Neither configuring nor closing a handler makes one."""
    with tracking(dead_letter=path):
        pass
    assert list(path.parent.iterdir()) == []
