"""`replay` goes on where it ended, and shows how far it is."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys

import pytest

from faulty_collector import SILENCE, Answer, FaultyCollector
from replaying import SECONDS, ids_in, page, replay, without_stm, write


class TestResume:
    """A replay that was stopped goes on where it stopped."""

    def check_arrived(self, collector, log):
        """See that all of a file has arrived, and twice only what is the same."""
        requested = [event for request in collector.requests for event in request.events]
        by_id = {}
        for event in without_stm(requested):
            assert by_id.setdefault(event["eid"], event) == event
        assert set(collector.ids) == set(ids_in(log))

    @pytest.mark.parametrize("answered", [0, 1, 4, 9])
    def test_it_survives_being_killed(self, sink, launch, tmp_path, answered):
        """After kill -9 everything arrives, and nothing from before the resume point again."""
        events = [page(1), [page(2), page(3), {"event": "page_view"}], None, page(4)] * 25
        log = write(tmp_path / "log", events)
        options = ["--endpoint", sink.endpoint, "--batch-size", 7, "--resume", tmp_path / "point"]
        # The last answer comes late enough for the resume point to be written after it.
        answers = [*[200] * (answered - 1), Answer(after=0.3)]
        sink.answers.extend(answers if answered else ())
        sink.default = SILENCE
        process = launch(log, *options)
        sink.wait_for_requests(answered + 1)
        process.kill()
        process.wait(SECONDS)
        before = sink.ids
        assert len(before) == answered * 7

        sink.default = 200
        again = launch(log, *options)
        output, errors = again.communicate(timeout=SECONDS)

        assert again.returncode == 1
        assert output.startswith("events: 100 sent, 25 refused; lines: 25 without an event")
        assert errors.count("refused: page_view") <= 25
        requested = [event["eid"] for request in sink.requests for event in request.events]
        # A line of several events goes again as a whole.
        twice = set(before) & set(sink.ids[len(before) :])
        assert len(twice) <= 1
        assert len(requested) - len(set(requested)) <= 7 + 1
        assert set(sink.ids) == {
            event["event_id"]
            for line in map(json.loads, log.read_text().splitlines())
            for event in as_list(line.get("snowplow"))
            if "page_url" in event
        }

    def test_it_survives_being_killed_again_and_again(self, sink, launch, tmp_path):
        """Whenever it is killed, and however often, nothing is lost or changed."""
        log = write(tmp_path / "log", map(page, range(600)))
        options = ["--endpoint", sink.endpoint, "--batch-size", 5, "--resume", tmp_path / "point"]
        sink.default = Answer(after=0.02)
        for requests in (1, 20, 3, 25):
            target = len(sink.requests) + requests
            process = launch(log, *options)
            sink.wait_for_requests(target)
            process.kill()
            process.wait(SECONDS)
        sink.default = 200

        process = launch(log, *options)
        output, errors = process.communicate(timeout=SECONDS)

        assert (process.returncode, errors) == (0, "")
        assert output.startswith("events: 600 sent, 0 refused")
        self.check_arrived(sink, log)
        assert len(sink.ids) < 900

    def test_it_goes_on_after_ctrl_c(self, sink, launch, tmp_path):
        """After Ctrl-C the summary says what is open, and the next run sends it."""
        log = write(tmp_path / "log", map(page, range(100)))
        options = ["--endpoint", sink.endpoint, "--batch-size", 10, "--resume", tmp_path / "point"]
        sink.answers.extend([200] * 3)
        sink.default = SILENCE
        process = launch(log, *options)
        sink.wait_for_requests(4)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + signal.SIGINT
        assert output.startswith("events: 30 sent, 0 refused")
        assert "not finished, interrupted; " in output

        sink.default = 200
        process = launch(log, *options)
        output, errors = process.communicate(timeout=SECONDS)

        assert (process.returncode, errors) == (0, "")
        assert output.startswith("events: 100 sent, 0 refused")
        assert "resumed after line 30;" in output
        assert sink.ids == ids_in(log)

    def test_a_finished_one_sends_nothing_again(self, sink, tmp_path, capsys):
        """After the end a file that has grown is replayed from there, gzipped or not."""
        log = write(tmp_path / "log", map(page, range(10)))
        options = ["--endpoint", sink.endpoint, "--resume", tmp_path / "point"]
        assert replay(capsys, log, *options)[0] == 0
        assert replay(capsys, log, *options)[0] == 0
        assert len(sink.ids) == 10

        write(log, map(page, range(5)))
        packed = tmp_path / "log.gz"
        packed.write_bytes(gzip.compress(log.read_bytes()))
        status, output, errors = replay(capsys, packed, *options)

        assert (status, errors) == (0, "")
        assert output.startswith("events: 15 sent")
        assert sink.ids == ids_in(log)

    def test_what_was_refused_before_still_counts(self, sink, tmp_path, capsys):
        """The counts and the status of a resumed replay are those of the whole input."""
        log = write(tmp_path / "log", [page(1), {"event": "page_view"}])
        options = ["--endpoint", sink.endpoint, "--resume", tmp_path / "point"]
        assert replay(capsys, log, *options)[0] == 1
        write(log, [page(2)])

        status, output, errors = replay(capsys, log, *options)

        assert (status, errors) == (1, "")
        assert output.startswith("events: 2 sent, 1 refused")

    @pytest.mark.parametrize(
        "change",
        [
            lambda log: log.write_bytes(log.read_bytes()[10:]),
            lambda log: log.write_bytes(log.read_bytes().replace(b"Basket", b"basket")),
            lambda log: log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2])),
            lambda log: log.write_bytes(b"\n" + log.read_bytes()),
        ],
        ids=["shifted", "changed", "shorter", "longer"],
    )
    def test_a_resume_point_is_for_its_own_input(self, sink, tmp_path, capsys, change):
        """On another input it is refused with status 2, and nothing is sent or forgotten."""
        log = write(tmp_path / "log", [page(n, page_title="Basket") for n in range(3)])
        point = tmp_path / "point"
        options = ["--endpoint", sink.endpoint, "--resume", point]
        assert replay(capsys, log, *options)[0] == 0
        kept = json.loads(point.read_text())
        if not change(log):
            pytest.fail("the input is empty")

        status, output, errors = replay(capsys, log, *options)

        assert (status, output) == (2, "")
        assert "another input" in errors
        assert len(sink.ids) == 3
        assert json.loads(point.read_text()) == kept

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 2}', "\xff", "5"])
    def test_what_is_no_resume_point_is_left_alone(self, sink, tmp_path, capsys, content):
        """A file that is something else is status 2, and is not written over."""
        log = write(tmp_path / "log", [page(1)])
        point = tmp_path / "point"
        point.write_text(content, encoding="latin-1")

        status, _, errors = replay(capsys, log, "--endpoint", sink.endpoint, "--resume", point)

        assert status == 2
        assert "resume point" in errors
        assert point.read_text(encoding="latin-1") == content
        assert sink.requests == []

    def test_a_resume_point_is_for_its_own_collector(self, sink, tmp_path, capsys):
        """What one collector has taken is not skipped for another."""
        log = write(tmp_path / "log", [page(1)])
        options = ["--resume", tmp_path / "point", "--endpoint"]
        assert replay(capsys, log, *options, sink.endpoint)[0] == 0

        with FaultyCollector() as other:
            status, _, errors = replay(capsys, log, *options, other.endpoint)

        assert status == 2
        assert f"of a replay to {sink.endpoint}" in errors
        assert other.requests == []


class TestScreen:
    """What is seen of it on a terminal, and what it takes."""

    @pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
    @pytest.mark.parametrize("bar", [True, False], ids=["tqdm", "plain"])
    def test_a_terminal_shows_progress(self, sink, tmp_path, bar):
        """On a terminal there is a bar, or counts where tqdm is missing, and messages above it."""
        import fcntl
        import pty
        import termios

        if bar:
            pytest.importorskip("tqdm")
        log = write(tmp_path / "log", [page(1), {"event": "page_view"}, *map(page, range(300))])
        program = "import sys; from snowplow_logging.cli import main\n"
        program += "" if bar else "sys.modules['tqdm'] = None\n"
        program += f"sys.exit(main({['replay', str(log), '--endpoint', sink.endpoint]}))"
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs
        )
        os.close(theirs)
        shown = io.BytesIO()
        with contextlib.suppress(OSError):  # how the end of a pseudo-terminal looks
            while piece := os.read(ours, 65_536):
                shown.write(piece)
        os.close(ours)
        output, _ = process.communicate(timeout=SECONDS)

        assert process.returncode == 1
        assert output.startswith(b"events: 301 sent, 1 refused")
        text = shown.getvalue().decode()
        assert "log:2: refused: page_view: page_url is missing" in text
        last = re.findall(r"[^\r\n]*301 sent, 1 refused", text)[-1]
        assert len(last.removeprefix("\x1b[K")) <= 80
        assert ("100%|" in last) is bar

    @pytest.mark.skipif(not hasattr(os, "wait4"), reason="there is no way to ask for the memory")
    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("most", [16_000, pytest.param(40_000, marks=pytest.mark.exhaustive)])
    def test_the_memory_is_level(self, sink, tmp_path, most):
        """Many times as many lines take no more memory."""
        peaks = []
        for lines in (2_000, most):
            log = write(tmp_path / str(lines), map(page, range(lines)))
            command = [sys.executable, "-m", "snowplow_logging", "replay", log]
            options = ["--endpoint", sink.endpoint, "--resume", tmp_path / f"{lines}.point"]
            process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE)
            try:
                assert process.stdout.read().startswith(f"events: {lines:,} sent,".encode())
                process.stdout.close()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            finally:
                process.kill()  # which does nothing where it has ended
            assert process.returncode == 0
            peaks.append(usage.ru_maxrss)

        # In kilobytes, but on macOS in bytes.
        assert peaks[1] - peaks[0] < 5_000 * (1_024 if sys.platform == "darwin" else 1)


def as_list(event):
    """Return the events of a line."""
    return event if isinstance(event, list) else [] if event is None else [event]
