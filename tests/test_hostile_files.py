"""Files that are replayed may hold anything: that costs lines, and neither memory nor the run."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import uuid

import pytest

from faulty_collector import FaultyCollector
from snowplow_logging.cli import main

LONGEST = 10_000_000


def event(number=None, **values):
    """Return an event as it was sent."""
    name = uuid.UUID(int=number) if number is not None else uuid.uuid4()
    return {"e": "pv", "eid": str(name), "p": "srv", "tv": "x", **values}


def line(number=None, **values):
    """Return a line of a dead-letter file with an event."""
    return json.dumps({"message": "m", "snowplow": event(number, **values)}).encode() + b"\n"


def numbers(collector):
    """Return the numbers of the events that have arrived."""
    return [uuid.UUID(name).int for name in collector.ids]


@pytest.fixture
def replay(capsys, tmp_path):
    """Give a function that replays bytes, and returns status, output, error output, collector."""
    with FaultyCollector() as collector:

        def run(content, *arguments, name="log.jsonl"):
            file = tmp_path / name
            if content is not None:
                file.write_bytes(content)
            collector.requests.clear()
            status = main(["replay", str(file), "--endpoint", collector.endpoint, *arguments])
            said = capsys.readouterr()
            return status, said.out, said.err, collector

        yield run


def measured(file, *arguments):
    """Replay in a process of its own; return what it says and the most memory that it took, MB."""
    # What Linux says of the process itself: `ru_maxrss` counts what that of the tests had, in which
    # it began, as well.
    program = """
        import pathlib, re, resource, sys
        from snowplow_logging.cli import main
        status = main(["replay", *sys.argv[1:]])
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        about = pathlib.Path("/proc/self/status")
        if about.exists():
            most = re.search(r"VmHWM:\\s+(\\d+) kB", about.read_text())[1]
        print(status, most)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    status, most = done.stdout.splitlines()[-1].split()
    unit = 1_048_576 if sys.platform == "darwin" else 1_024
    return int(status), done.stdout, done.stderr, int(most) / unit


@pytest.mark.skipif(sys.platform == "win32", reason="it does not say how much memory was taken")
class TestMemory:
    """What is larger than any line is passed over piece by piece."""

    def test_of_a_long_line(self, tmp_path):
        """A line of 300 MB is named with the limit, and the lines around it are sent."""
        file = tmp_path / "log.jsonl"
        with file.open("wb") as writing:
            writing.write(line(1))
            writing.write(b'{"snowplow": "')
            for _ in range(300):
                writing.write(b"x" * 1_000_000)
            writing.write(b'"}\n')
            writing.write(line(2))
        with FaultyCollector() as collector:
            status, out, said, most = measured(file, "--endpoint", collector.endpoint)
        assert numbers(collector) == [1, 2]
        assert status == 1
        assert f"{file}:2: broken: has more than 10,000,000 bytes" in said
        assert "1 broken" in out
        assert most < 200

    def test_of_a_gzip_bomb(self, tmp_path):
        """389 kB that become 400 MB of one line."""
        file = tmp_path / "log.jsonl.gz"
        with gzip.open(file, "wb", compresslevel=9) as writing:
            writing.write(line(1))
            for _ in range(400):
                writing.write(b"x" * 1_000_000)
            writing.write(b"\n")
            writing.write(line(2))
        assert file.stat().st_size < 500_000
        with FaultyCollector() as collector:
            _, _, said, most = measured(file, "--endpoint", collector.endpoint)
        assert numbers(collector) == [1, 2]
        assert "has more than 10,000,000 bytes" in said
        assert most < 200

    def test_of_lines_that_are_split_without_end(self, tmp_path):
        """Parts of a line that never ends are no more than a line."""
        file = tmp_path / "log.jsonl"
        with file.open("wb") as writing:
            for _ in range(3_000):
                writing.write(b"2026-01-01T00:00:00Z stdout P " + b"x" * 50_000 + b"\n")
            writing.write(b"2026-01-01T00:00:00Z stdout F \n")
            writing.write(line(1))
        with FaultyCollector() as collector:
            _, _, said, most = measured(file, "--endpoint", collector.endpoint)
        assert numbers(collector) == [1]
        assert "has more than 10,000,000 bytes" in said
        assert most < 200


def test_the_longest_line_is_read(replay):
    """The limit is that of the line without its line break."""
    short = line(1)[:-2]
    fits = short + b" " * (LONGEST - len(short) - 1) + b"}\n"
    assert len(fits) == LONGEST + 1
    status, _, said, collector = replay(fits + fits.replace(b" }", b"  }") + line(2))
    assert numbers(collector) == [1, 2]
    assert status == 1
    assert ":2: broken" in said


def test_a_resume_point_counts_long_lines(replay, tmp_path):
    """A line that is passed over has its length and its checksum all the same."""
    content = line(1) + b"x" * (LONGEST + 70_000) + b"\n" + line(2)
    resume = tmp_path / "resume"
    replay(content, "--resume", str(resume))
    assert json.loads(resume.read_text())["size"] == len(content)
    _, out, _, collector = replay(content + line(3), "--resume", str(resume))
    assert numbers(collector) == [3]
    assert "resumed after line 3" in out


BROKEN_RESUME = {
    "1e400": b'{"version": 1, "url": "u", "lines": 1e400, "size": 1, "crc32": 0, "counts": {}}',
    "-1e400": b'{"version": 1, "url": "u", "lines": -1e400, "size": 1, "crc32": 0, "counts": {}}',
    "NaN": b'{"version": 1, "url": "u", "lines": NaN, "size": 1, "crc32": 0, "counts": {}}',
    "deep": b"[" * 60_000,
    "deep object": b'{"a":' * 13_000,
    "many digits": b'{"version": 1, "lines": ' + b"9" * 5_000 + b"}",
    "negative": b'{"version":1,"url":"u","lines":-1,"size":1,"crc32":0,"counts":{}}',
    "text": b'{"version":1,"url":"u","lines":"1","size":1,"crc32":0,"counts":{}}',
    "true": b'{"version":1,"url":"u","lines":true,"size":1,"crc32":0,"counts":{}}',
    "null": b"null",
    "a list": b"[]",
    "a list of counts": b'{"version":1,"url":"u","lines":1,"size":1,"crc32":0,"counts":[]}',
    "empty": b"",
    "half": b'{"version": 1, "url"',
    "another version": b'{"version": 2}',
    "NUL": b"\0" * 100,
    "no UTF-8": b"\xff\xfe\xfa",
    "UTF-16": '{"version": 1}'.encode("utf-16"),
    "too large": b" " * 70_000 + b"{}",
    "another URL": json.dumps(
        {
            "version": 1,
            "url": "http://me:hush-hush@h.example/\x1b[31m",
            **dict.fromkeys(("lines", "size", "crc32"), 1),
            "counts": dict.fromkeys(("sent", "refused", "skipped", "broken"), 0),
        }
    ).encode(),
}


@pytest.mark.parametrize("kind", BROKEN_RESUME)
def test_a_broken_resume_point_ends_in_a_sentence(kind, replay, tmp_path):
    """It is named, left as it is, and nothing is sent."""
    resume = tmp_path / "resume"
    resume.write_bytes(BROKEN_RESUME[kind])
    status, _, said, collector = replay(line(1), "--resume", str(resume))
    assert status == 2
    assert re.fullmatch(r"snowplow-logging replay: [^\n]*resume[^\n]*\n", said)
    assert said.strip().isprintable()
    assert "hush-hush" not in said
    assert resume.read_bytes() == BROKEN_RESUME[kind]
    assert not collector.requests


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing folder"])
def test_a_resume_point_that_is_no_file_ends_in_a_sentence(kind, replay, tmp_path):
    """Nor does it wait for a pipe that nobody writes to."""
    resume = tmp_path / "resume"
    if kind == "folder":
        resume.mkdir()
    elif kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no pipes with a name")
        os.mkfifo(resume)
    else:
        resume = resume / "resume"
    status, _, said, _ = replay(line(1), "--resume", str(resume))
    assert status == 2
    assert re.fullmatch(
        r"snowplow-logging replay: error: the resume point cannot be [^\n]*\n", said
    )


def test_a_resume_point_with_a_byte_order_mark_is_read(replay, tmp_path):
    """An editor may have put it there."""
    resume = tmp_path / "resume"
    file = tmp_path / "log.jsonl"
    file.write_bytes(line(1))
    with FaultyCollector() as collector:
        arguments = [str(file), "--endpoint", collector.endpoint, "--resume", str(resume)]
        assert main(["replay", *arguments]) == 0
        resume.write_bytes(b"\xef\xbb\xbf" + resume.read_bytes())
        assert main(["replay", *arguments]) == 0
    assert numbers(collector) == [1]


class TestTheLastLine:
    """A line that somebody is still writing."""

    @pytest.mark.parametrize("length", [1, 20, -20, -2])
    def test_is_left_for_the_next_run(self, length, replay, tmp_path):
        """It is neither broken nor passed over, and is sent once it is there in full."""
        resume = ("--resume", str(tmp_path / "resume"))
        status, out, said, collector = replay(line(1) + line(2)[:length], *resume)
        assert (status, numbers(collector)) == (0, [1])
        assert "0 broken" in out
        assert ":2: not finished yet" in said
        status, out, _, collector = replay(line(1) + line(2) + line(3), *resume)
        assert (status, numbers(collector)) == (0, [2, 3])
        assert "3 sent" in out

    def test_is_sent_if_only_the_line_break_is_missing(self, replay, tmp_path):
        """An object that ends is finished; the break may come later, and changes nothing."""
        resume = ("--resume", str(tmp_path / "resume"))
        _, _, _, collector = replay(line(1) + line(2)[:-1], *resume)
        assert numbers(collector) == [1, 2]
        status, _, _, collector = replay(line(1) + line(2) + line(3), *resume)
        assert (status, numbers(collector)) == (0, [3])

    def test_of_a_file_before_others_holds_the_resume_point(self, tmp_path, capsys):
        """The others are sent, and again by the next run, which begins with that line."""
        first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
        first.write_bytes(line(1) + line(2)[:30])
        second.write_bytes(line(3) + line(4))
        resume = tmp_path / "resume"
        arguments = [str(first), str(second), "--resume", str(resume), "--endpoint"]
        with FaultyCollector() as collector:
            assert main(["replay", *arguments, collector.endpoint]) == 0
            assert numbers(collector) == [1, 3, 4]
            assert json.loads(resume.read_text())["lines"] == 1
            first.write_bytes(line(1) + line(2))
            assert main(["replay", *arguments, collector.endpoint]) == 0
            assert numbers(collector) == [1, 3, 4, 2, 3, 4]
        assert "4 sent" in capsys.readouterr().out

    @pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["sent", "dry"])
    @pytest.mark.parametrize(
        "last",
        [b"{", line(2)[:-2], line(2).decode().strip().encode("utf-16")],
        ids=["begun", "cut", "utf-16"],
    )
    def test_is_broken_where_no_run_goes_on(self, replay, last, options):
        """Without a resume point nothing comes back to it, so it is named, counted and status 1."""
        status, out, said, _ = replay(line(1) + last, *options)
        assert status == 1
        assert "1 sent" in out or "1 would be sent" in out
        assert "1 broken" in out
        assert ":2: broken: " in said
        assert "next run" not in said

    def test_is_sent_without_a_line_break_where_no_run_goes_on(self, replay):
        """An object that ends is finished."""
        status, out, said, collector = replay(line(1) + line(2)[:-1])
        assert (status, said, numbers(collector)) == (0, "", [1, 2])
        assert "0 broken" in out

    @pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "once"])
    def test_of_what_is_not_written_any_more_is_broken(self, tmp_path, replay, resumes):
        """Nobody goes on writing what is zipped."""
        resume = ("--resume", str(tmp_path / "resume")) if resumes else ()
        content = gzip.compress(line(1) + line(2)[:30])
        status, out, said, _ = replay(content, *resume, name="log.gz")
        assert status == 1
        assert "1 broken" in out
        assert ":2: broken: " in said

    @pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "once"])
    def test_of_a_pipe_is_broken(self, tmp_path, resumes):
        """It has ended, and nobody can read it again."""
        resume = ("--resume", str(tmp_path / "resume")) if resumes else ()
        with FaultyCollector() as collector:
            options = ["--endpoint", collector.endpoint, *resume]
            done = subprocess.run(
                [sys.executable, "-m", "snowplow_logging", "replay", "-", *options],
                input=line(1) + line(2)[:30],
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert numbers(collector) == [1]
        assert done.returncode == 1
        assert b"1 broken" in done.stdout
        assert b"-:2: broken: " in done.stderr


def docker(text, stream="stdout"):
    """Return a line as Docker's json-file writes it."""
    wrapped = {"log": text, "stream": stream, "time": "2026-01-01T00:00:00.123456789Z"}
    return json.dumps(wrapped).encode() + b"\n"


def cri(text, tag="F", stream="stdout"):
    """Return a line as a runtime of Kubernetes writes it."""
    return f"2026-01-01T00:00:00.123456789Z {stream} {tag} ".encode() + text.rstrip(b"\n") + b"\n"


class TestContainers:
    """Lines that Docker and Kubernetes wrap."""

    def test_are_unwrapped(self, replay):
        """Each with its event; those that are no JSON are broken, as they are unwrapped."""
        content = (
            docker(line(1).decode()) + docker("starting\n") + cri(line(2)) + cri(b"starting {")
        )
        content += cri(line(3), "F:tag") + cri(line(4)).replace(b"Z ", b"+02:00 ")
        status, out, _, collector = replay(content)
        assert numbers(collector) == [1, 2, 3, 4]
        assert status == 1
        assert "2 broken" in out

    def test_need_no_line_break(self, replay):
        """Who passes lines on leaves it out."""
        texts = [line(1).decode().strip(), "starting", line(2).decode().strip()]
        texts.append(line(3, aid="x" * 20_000).decode().strip())
        _, _, _, collector = replay(b"".join(map(docker, texts)))
        assert numbers(collector) == [1, 2, 3]

    def test_are_joined_where_they_were_split(self, replay):
        """A long line comes in several, and those of the other stream between them."""
        text = line(1, aid="é" * 30_000).decode()
        parts = [text[at : at + 16_384] for at in range(0, len(text), 16_384)]
        assert len(parts) > 3
        content = docker(parts[0]) + docker(line(2).decode(), "stderr")
        content += b"".join(map(docker, parts[1:]))
        content += cri(parts[0].encode(), "P") + cri(line(3), "F", "stderr")
        content += b"".join(cri(part.encode(), "P") for part in parts[1:-1])
        content += cri(parts[-1].encode()) + line(4)
        status, _, said, collector = replay(content)
        assert (status, said) == (0, "")
        assert numbers(collector) == [2, 1, 3, 1, 4]
        assert collector.events[1] == collector.events[3] | {"stm": collector.events[1]["stm"]}
        assert collector.events[1]["aid"] == "é" * 30_000

    def test_a_resume_point_is_never_within_one(self, replay, tmp_path):
        """The next run has all parts of a line, and what came between them once more."""
        text = line(1, aid="x" * 40_000)
        parts = [cri(text[:20_000], "P"), cri(line(2), "F", "stderr"), cri(text[20_000:])]
        resume = tmp_path / "resume"
        _, _, said, collector = replay(cri(line(3)) + b"".join(parts[:2]), "--resume", str(resume))
        assert numbers(collector) == [3, 2]
        assert "is not finished yet" in said
        assert json.loads(resume.read_text())["lines"] == 1
        _, out, _, collector = replay(cri(line(3)) + b"".join(parts), "--resume", str(resume))
        assert numbers(collector) == [2, 1]
        assert json.loads(resume.read_text())["lines"] == 4
        assert "3 sent" in out

    @pytest.mark.parametrize(
        ("options", "pack"),
        [((), bytes), (("--dry-run",), bytes), (("--resume",), gzip.compress)],
        ids=["once", "dry", "zipped"],
    )
    def test_one_without_its_last_part_is_broken(self, replay, tmp_path, options, pack):
        """Where no run goes on with it, it is named by its first part, counted, and status 1."""
        text = line(1, aid="x" * 40_000)
        content = line(2) + cri(text[:20_000], "P") + cri(line(3), "F", "stderr")
        options = [*options, str(tmp_path / "resume")] if "--resume" in options else options
        status, out, said, _ = replay(pack(content), *options)
        assert status == 1
        assert "2 sent" in out or "2 would be sent" in out
        assert "1 broken" in out
        assert ":2: broken: has no end" in said

    @pytest.mark.parametrize("resumes", [True, False], ids=["resumed", "once"])
    def test_a_last_one_without_a_line_break(self, replay, tmp_path, resumes):
        """What Docker wrapped is whole where its object ends."""
        resume = ("--resume", str(tmp_path / "resume")) if resumes else ()
        status, out, said, collector = replay(docker(line(1).decode())[:-1], *resume)
        assert (status, said, numbers(collector)) == (0, "", [1])
        assert "0 without an event" in out

    @pytest.mark.parametrize("length", [50, -2])
    def test_a_cut_one_is_left_for_the_next_run(self, replay, tmp_path, length):
        """As any other last line that somebody is still writing."""
        resume = ("--resume", str(tmp_path / "resume"))
        for wrap in (cri, lambda text: docker(text.decode())):
            status, _, said, collector = replay(wrap(line(1))[:length], *resume)
            assert (status, numbers(collector)) == (0, [])
            assert ":1: not finished yet" in said
        status, _, _, collector = replay(docker(line(1).decode()), *resume)
        assert (status, numbers(collector)) == (0, [1])

    def test_an_event_of_that_name_is_none(self, replay):
        """A line of one's own may have a key `log`."""
        own = json.dumps({"log": "x\n", "snowplow": event(1)}).encode() + b"\n"
        others = b'{"log": 5}\n{"log": null, "stream": []}\n{"log": "{\\"log\\": \\"x\\"}"}\n'
        status, out, _, collector = replay(own + others)
        assert (status, numbers(collector)) == (0, [1])
        assert "3 without an event" in out


def test_a_flood_is_summed_up(replay):
    """The first ones show what is wrong, the others are counted."""
    status, out, said, collector = replay(b"not JSON {\n" * 10_000 + line(1))
    assert (status, numbers(collector)) == (1, [1])
    assert "10,000 broken" in out
    assert len(said.splitlines()) == 21
    assert said.splitlines()[-1] == "9,980 more broken, after the 20 above"


def test_refused_events_are_named_up_to_a_thousand(replay):
    """Each of them is an event that somebody may want to mend."""
    bad = json.dumps({"snowplow": {"e": "pv", "eid": "no"}}).encode() + b"\n"
    _, out, said, _ = replay(bad * 1_100)
    assert "1,100 refused" in out
    assert len(said.splitlines()) == 1_001


ODD = {
    "NUL": (b"\0" * 5_000 + b"\n", "broken"),
    "NUL in text": (line(7, aid="a\0b"), "sent"),
    "no UTF-8": (b'{"snowplow": "\xff"}\n', "broken"),
    "a surrogate": (b'{"snowplow": {"e": "pv", "eid": "\\ud800"}}\n', "refused"),
    "1e400": (b'{"snowplow": {"e": "pv", "eid": 1e400}}\n', "refused"),
    "1e400 as a time": (
        b'{"snowplow": {"event": "page_view", "dtm": 1e400, "event_id": "x"}}\n',
        "refused",
    ),
    "a large time": (
        b'{"snowplow": {"event": "page_view", "page_url": "x", "dtm": 1%b, "event_id": "x"}}\n'
        % (b"0" * 400),
        "refused",
    ),
    "many digits": (b'{"snowplow": ' + b"9" * 50_000 + b"}\n", "broken"),
    "NaN": (b'{"snowplow": {"event": "page_view", "dtm": NaN}}\n', "refused"),
    "deep": (b'{"snowplow": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", "broken"),
    "deep and open": (b"[" * 1_000_000 + b"\n", "broken"),
    "deep and wrapped": (
        b'{"log": "x", "a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
        "broken",
    ),
    "a list": (b"[1, 2]\n", "skipped"),
    "a number": (b"5\n", "skipped"),
    "text": (b'"text"\n', "skipped"),
    "an event of text": (b'{"snowplow": "text"}\n', "refused"),
    "an event of lists": (b'{"snowplow": [[[]]]}\n', "refused"),
    "a name of a list": (b'{"snowplow": {"e": [], "eid": {}}}\n', "refused"),
    "a byte order mark": (b"\xef\xbb\xbf" + line(7), "sent"),
    "escapes": (b'{"snowplow": {"event": "\\u001b[31m\\u202e\\u009b2J\\n"}}\n', "refused"),
    "raw escapes": (b"\x1b]0;title\x07 {\n", "broken"),
    "carriage returns": (line(7)[:-1] + b"\r\n", "sent"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_line_costs_only_itself(kind, replay):
    """It is counted as what it is, and the terminal is not steered by it."""
    content, becomes = ODD[kind]
    _, out, said, collector = replay(line(1) + content + line(2))
    arrived = [number for number in numbers(collector) if number != 7]
    counts = dict.fromkeys(("refused", "broken", "skipped"), 0) | {becomes: 1}
    assert arrived == [1, 2]
    assert f"{2 + (becomes == 'sent')} sent, {counts['refused']} refused" in out
    assert f"{counts['skipped']} without an event, {counts['broken']} broken" in out
    assert all(text.isprintable() for text in said.splitlines())


def test_any_bytes_end_in_counts(replay):
    """Lines with some bytes changed are sent, refused, skipped or broken, and nothing raises."""
    chosen = random.Random(12)
    wrapped = [line(1), docker(line(2).decode()), cri(line(3)), cri(line(4)[:50], "P")]
    content = bytearray()
    for number in range(2_000):
        text = bytearray(wrapped[number % 4])
        for _ in range(chosen.randrange(4)):
            text[chosen.randrange(len(text))] = chosen.randrange(256)
        content += text
    status, out, said, _ = replay(bytes(content))
    assert status in (0, 1)
    assert re.search(r"events: [\d,]+ sent, [\d,]+ refused; lines: [\d,]+ without", out)
    assert all(text.isprintable() for text in said.splitlines())


def test_a_store_of_anybodys_is_read_within_the_limit(replay, tmp_path):
    """A database may have anything in its tables."""
    import sqlite3

    from snowplow_logging.delivery.store_file import connect

    path = tmp_path / "store.db"
    connect(str(path), 1_000_000).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        good = json.dumps(event(1))[:-1].encode()
        for payload in (good, b"\0" * 1_000, "text", None, b"[" * 100_000):
            connection.execute(
                "INSERT INTO events (owner, checksum, payload) VALUES (1, 0, ?)", (payload or b"",)
            )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    status, out, _, collector = replay(None, name="store.db")
    assert numbers(collector) == [1]
    assert status == 1
    assert "broken" in out
