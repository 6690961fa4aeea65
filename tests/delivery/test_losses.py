"""What is lost is bounded by what the user has set, counted as what it is, and reported."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import threading
from pathlib import Path

import pytest

from faulty_collector import Answer
from helpers import ANYTHING, tracking

SOON = 20.0  # seconds within which this machine does anything, however busy it is
KILOBYTES_100 = "x" * 100_000


def event(label="", **more):
    """Return an event."""
    return {"event": "struct_event", "category": "c", "action": "a", "label": label, **more}


def large(number):
    """Return an event of some 100,000 bytes, with a number."""
    data = {"number": number, "text": KILOBYTES_100}
    return {"event": "self_describing_event", "schema": ANYTHING, "data": data}


def numbers(events):
    """Return the numbers of large events."""
    return [json.loads(sent["ue_pr"])["data"]["data"]["number"] for sent in events]


# The bytes that wait.


@pytest.mark.parametrize("on_full", ["drop", "drop_oldest"])
@pytest.mark.parametrize("under_way", [False, True], ids=["all wait", "one is under way"])
def test_queue_bytes_bound_what_waits(collector, reports, on_full, under_way):
    """No more bytes wait than may, a request under way included, and what is dropped is counted."""
    gate = threading.Event()
    collector.answers.append(Answer(gate=gate))
    settings = {"queue_bytes": 1_000_000, "on_full": on_full, "encode_base64": False}
    interval = 0.0 if under_way else 60.0
    with tracking(collector, flush_interval=interval, batch_size=1_000, **settings) as tracked:
        tracked.log(large(0))
        if under_way:
            collector.wait_for_requests(1)
        for number in range(1, 40):
            tracked.log(large(number))
            # All can be full of what leaves in the first request.
            assert 0 < tracked.handler.stats.queued_bytes <= 1_000_000
        stats = tracked.handler.stats
        assert stats.queued + stats.dropped == 40
        assert stats.dropped == stats.losses["queue full"] > 25
        assert stats.queued > 5
        gate.set()
        assert tracked.handler.flush(SOON)
        assert tracked.handler.stats.queued_bytes == 0
    arrived = numbers(collector.events)
    assert len(arrived) == stats.queued
    assert (39 in arrived) == (on_full == "drop_oldest")
    assert any("the queue of 1,000,000 bytes is full" in report for report in reports)


def test_an_event_of_more_than_all_bytes_waits_alone(collector):
    """What is larger than the bound is taken where nothing else waits, for it may yet be sent."""
    collector.answers.append(503)
    with tracking(collector, queue_bytes=50_000, max_retry_delay=0.1) as tracked:
        tracked.log(large(1))
        assert tracked.handler.flush(SOON)
        assert (tracked.handler.stats.sent, tracked.handler.stats.dropped) == (1, 0)


def test_queue_bytes_bound_what_a_log_call_waits_for(collector):
    """With `block` each event waits for room in bytes, and none is lost."""
    settings = {"queue_bytes": 250_000, "on_full": "block", "block_timeout": SOON}
    with tracking(collector, flush_interval=0, **settings) as tracked:
        for number in range(30):
            tracked.log(large(number))
            assert tracked.handler.stats.queued_bytes <= 250_000
        assert tracked.handler.flush(SOON)
        assert tracked.handler.stats.dropped == 0
    assert len(collector.events) == 30


# Memory.


def out_of_memory(*_):
    """Do what any code does where there is no memory."""
    raise MemoryError


class Exhausted(dict):
    """A mapping that cannot be read for lack of memory."""

    items = keys = __iter__ = __getitem__ = get = out_of_memory


class Attribute:
    """An object that cannot be read for lack of memory."""

    __str__ = __repr__ = out_of_memory


OWN = {"event": "self_describing_event", "schema": ANYTHING}
MEMORY = {
    "the event": ({}, Exhausted(event())),
    "its data": ({}, {**OWN, "data": Exhausted()}),
    "a value": ({}, {**OWN, "data": {"value": Exhausted()}}),
    "a text": ({}, event(Attribute())),
    "an entity": ({}, event(context=[Exhausted()])),
    "a subject": ({}, event(subject=Exhausted())),
    "json_default": ({"json_default": out_of_memory}, {**OWN, "data": {"value": object()}}),
    "before_send": ({"before_send": out_of_memory}, event()),
}


@pytest.mark.parametrize("where", MEMORY)
def test_a_lack_of_memory_costs_its_event(collector, where, reports):
    """It is counted as what it is and never as a bad event, and the next one is sent."""
    settings, logged = MEMORY[where]
    failures = []
    settings = {**settings, "on_failure": lambda *failure: failures.append(failure)}
    with tracking(collector, **settings) as tracked:
        tracked.log(logged)
        stats = tracked.handler.stats
        assert (stats.failed, stats.invalid) == (1, 0)
        assert stats.losses == {"out of memory": 1}
        assert "no memory" in stats.last_error
        assert len(tracked.handler.errors) == 1
        if where != "before_send":
            tracked.log(event("next"))
        assert tracked.handler.flush(SOON)
    assert [sent["se_la"] for sent in collector.events] == ["next"] * (where != "before_send")
    assert failures == []
    assert any("no memory for an event" in report for report in reports)


# What waits to be told.


def bad(number):
    """Return a bad event of which some 100,000 bytes are shown."""
    return {"event": "none", "number": number, "some": [KILOBYTES_100[:20_000]] * 5}


@pytest.mark.parametrize("dead_letter", [False, True], ids=["callback", "file as well"])
def test_bad_events_that_wait_to_be_told_are_bounded_in_bytes(tmp_path, reports, dead_letter):
    """A callback that takes its time keeps no more of them than `queue_bytes`; all are counted."""
    begun, gate, told = threading.Event(), threading.Event(), []

    def on_failure(events, reason):
        begun.set()
        gate.wait(SOON)
        told.extend(events)

    settings = {"dead_letter": tmp_path / "letters"} if dead_letter else {}
    settings |= {"on_failure": on_failure, "queue_bytes": 1_000_000}
    with tracking(**settings) as tracked:
        tracked.log(bad(0))
        assert begun.wait(SOON)
        for number in range(1, 60):
            tracked.log(bad(number))
        assert tracked.handler.stats.invalid == 60
        gate.set()
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert 5 < len(told) < 13
    if dead_letter:
        assert stats.dead_letters_lost == 60 - len(told)
        lines = (tmp_path / "letters").read_text().splitlines()
        assert len(lines) == len(told)
    assert any("too many bad events wait" in report for report in reports)


# Dead letters that are lost.


def test_letters_that_cannot_be_written_are_counted_and_reported(collector, tmp_path, reports):
    """A path that turns into a folder costs the letters, not the account."""
    collector.default = 400
    path = tmp_path / "letters"
    with tracking(collector, dead_letter=path) as tracked:
        path.unlink(missing_ok=True)
        path.mkdir()
        for number in range(3):
            tracked.log(event(str(number)))
        tracked.log(event(category=""))
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert (stats.failed, stats.invalid, stats.dead_letters_lost) == (3, 1, 4)
    assert any(f"could not be kept in {path}" in report for report in reports)


def test_letters_that_a_rotation_removes_are_counted_and_reported(collector, tmp_path, reports):
    """The files take no more than they may, and what went for that is known."""
    collector.default = 400
    path = tmp_path / "letters"
    with path.open("wb") as file:  # full, and without taking the room
        file.truncate(49_999_990)
        file.seek(0, 2)
        file.write(b"\n")
    for number in range(1, 9):
        Path(f"{path}.{number}").write_text("{}\n")
    Path(f"{path}.9").write_text("{}\n" * 1_234)
    with tracking(collector, dead_letter=path) as tracked:
        tracked.log(event())
        assert tracked.handler.flush(SOON)
        stats = tracked.handler.stats
    assert (stats.failed, stats.dead_letters_lost) == (1, 1_234)
    assert len(path.read_text().splitlines()) == 1
    assert Path(f"{path}.9").read_text() == "{}\n"
    assert any("its oldest events were removed" in report for report in reports)


@pytest.mark.parametrize("page_url", ["https://a.example/", "https://a.example/a b", None])
def test_near_the_recursion_limit_no_event_goes_uncounted(collector, page_url):
    """One whose log call returns is sent or counted as lost, however few frames there are left."""
    gc.collect()  # what tests before have left, which cannot be finalised near the limit
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back

    with tracking(collector, before_send=dict) as tracked:

        def down(frames):
            if frames:
                down(frames - 1)
            else:
                tracked.log({"event": "page_view", "page_url": page_url})

        returned = logged = 0
        limit = sys.getrecursionlimit() - depth
        for frames in range(limit - 150, limit):
            logged += 1
            with contextlib.suppress(RecursionError):
                down(frames)
                returned += 1
        assert tracked.handler.flush(20)
        stats = tracked.handler.stats
    assert 0 < returned < logged
    assert returned <= stats.sent + stats.invalid + stats.failed <= logged
