"""What `replay` reads: files of any kind, whole or not, and what it says of bad lines."""

from __future__ import annotations

import gzip
import json
import re
import subprocess

import pytest

from replaying import EVENT_ID, PAGE, SECONDS, ids_in, page, replay, without_stm, write
from snowplow_logging.cli import main


class TestInput:
    """Files, gzipped files and standard input, with whatever else is in them."""

    def test_gzip_is_told_by_its_first_bytes(self, sink, tmp_path, capsys):
        """Gzipped files of any name are read, of several members, too."""
        first = write(tmp_path / "first", map(page, range(3)))
        second = write(tmp_path / "second", map(page, range(3)))
        expected = ids_in(first, second)
        packed = tmp_path / "packed"
        packed.write_bytes(gzip.compress(first.read_bytes()) + gzip.compress(second.read_bytes()))

        assert replay(capsys, packed, "--endpoint", sink.endpoint)[0] == 0

        assert sink.ids == expected

    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_standard_input_is_read(self, sink, launch, tmp_path, pack):
        """`-` is standard input, gzipped or not, between other files."""
        logs = [write(tmp_path / str(n), [page(n)]) for n in range(3)]
        arguments = [logs[0], "-", logs[2], "--endpoint", sink.endpoint]
        process = launch(*arguments, stdin=subprocess.PIPE)
        process.stdin.buffer.write(pack(logs[1].read_bytes()))

        output, errors = process.communicate(timeout=SECONDS)

        assert (process.returncode, errors) == (0, "")
        assert output.startswith("events: 3 sent")
        assert sink.ids == ids_in(*logs)

    @pytest.mark.parametrize(
        ("options", "arguments"),
        [
            ({"prefix": "@cee: "}, []),
            ({"rename_fields": {"snowplow": "ev", "message": "m"}}, ["--event-key", "ev"]),
            ({"timestamp": True, "static_fields": {"app": "shop"}, "json_ensure_ascii": False}, []),
            ({"fmt": "%(snowplow)s %(message)s", "json_serializer": json.dumps}, []),
        ],
        ids=["prefix", "renamed", "added", "required"],
    )
    def test_lines_are_read_whatever_options_wrote_them(
        self, sink, tmp_path, capsys, options, arguments
    ):
        """A prefix, renamed and added fields stand in nobody's way."""
        log = write(tmp_path / "log", [page(1, page_title="Körbe"), page(2)], **options)

        assert replay(capsys, log, "--endpoint", sink.endpoint, *arguments)[0] == 0

        assert sink.ids == ids_in(log)
        assert sink.events[0]["page"] == "Körbe"

    def test_lines_without_an_event_are_skipped(self, sink, tmp_path, capsys):
        """Records without an event, empty lines and JSON that is no record are counted alone."""
        log = write(tmp_path / "log", [None, page(1), None, [], [None]])
        with log.open("a") as file:
            file.write('\n  \n5\n"text"\n[1, {"snowplow": 5}]\nnull\n{"snowplow": null}\n')

        status, output, errors = replay(capsys, log, "--endpoint", sink.endpoint)

        assert (status, errors) == (0, "")
        assert output.startswith("events: 1 sent, 0 refused; lines: 11 without an event, 0 ")

    def test_broken_lines_are_named(self, sink, tmp_path, capsys):
        """A line that is no JSON is named by file and line, and the others are sent."""
        log = write(tmp_path / "log", map(page, range(3)))
        first, second, third = log.read_bytes().splitlines()
        broken = [second[:100], b"Traceback {most", b'{"a": "\xff"}', b"[" * 100_000, b"\x1b[2J"]
        log.write_bytes(b"\n".join([first, *broken, third]))  # and the last without an end

        status, output, errors = replay(capsys, log, "--endpoint", sink.endpoint)

        assert status == 1
        assert output.startswith("events: 2 sent, 0 refused; lines: 0 without an event, 5 ")
        named = re.findall(r"log:(\d): broken: ", errors)
        assert named == ["2", "3", "4", "5", "6"]
        assert "\x1b" not in errors
        assert sink.ids == [json.loads(line)["snowplow"]["event_id"] for line in (first, third)]

    def test_a_file_that_breaks_off_is_named(self, sink, tmp_path, capsys):
        """What can be read of a damaged gzip file is sent, and the next file, too."""
        log = write(tmp_path / "log", map(page, range(200)))
        packed = tmp_path / "packed"
        packed.write_bytes(gzip.compress(log.read_bytes())[:-200])
        other = write(tmp_path / "other", [page(1)])

        status, _, errors = replay(capsys, packed, other, "--endpoint", sink.endpoint)

        assert status == 1
        assert re.fullmatch(r".*packed:\d+: broken: cannot be read on: .*\n", errors)
        sent = sink.ids
        assert 1 < len(sent) < 201
        assert sent == ids_in(log)[: len(sent) - 1] + ids_in(other)

    @pytest.mark.parametrize(
        ("event", "problem"),
        [
            (PAGE, "event_id or dtm is missing"),
            ({**PAGE, "event_id": "x", "dtm": 5}, "event_id is 'x'"),
            ({**PAGE, "event_id": EVENT_ID, "dtm": 10**17}, "created is "),
            ({**PAGE, "event_id": "x", "dtm": "5"}, "event_id or dtm is missing or changed"),
            ({**PAGE, "event_id": "x", "dtm": 5, "tv": ""}, "tv is empty"),
            ({"event": "page_vew", "event_id": "x", "dtm": 5}, "give 'page_view'"),
            ({"event": ["page_view"], "event_id": "x", "dtm": 5}, "event is a list"),
            ({"page": "view"}, "event_id or dtm is missing"),
            ("page_view", "event is 'page_view'"),
            (5, "event is 5"),
        ],
    )
    def test_what_is_no_event_is_refused(self, sink, tmp_path, capsys, event, problem):
        """What another formatter wrote, or nobody, is named with what is wrong, and not sent."""
        log = tmp_path / "log"
        log.write_text(json.dumps({"snowplow": event}))

        status, output, errors = replay(capsys, log, "--endpoint", sink.endpoint)

        assert status == 1
        assert output.startswith("events: 0 sent, 1 refused")
        assert "log:1: refused: " in errors
        assert problem in errors
        assert sink.requests == []

    def test_a_bad_event_of_a_list_costs_only_itself(self, sink, tmp_path, capsys):
        """In a line of several events the good ones are sent."""
        log = write(tmp_path / "log", [[page(1), {"event": "page_view"}, page(2)]])
        ids = ids_in(log)

        status, output, _ = replay(capsys, log, "--endpoint", sink.endpoint)

        assert status == 1
        assert output.startswith("events: 2 sent, 1 refused; lines: 0")
        assert sink.ids == [ids[0], ids[2]]

    def test_a_message_that_a_relay_has_set_aside_is_read(self, sink, tmp_path, capsys):
        """Its events are sent where they can be, and the others are named."""
        sent = {"e": "pv", "p": "srv", "tv": "x", "eid": EVENT_ID, "dtm": "1", "url": "http://a/"}
        message = json.dumps({"version": 1, "events": [{**sent, "stm": "1"}, {**sent, "foo": ""}]})
        unread = [{"message": message}, {"message_base64": "/w=="}, {"message_base64": "é"}]
        log = tmp_path / "log"
        log.write_text("".join(json.dumps({"snowplow": one}) + "\n" for one in unread))

        status, output, errors = replay(capsys, log, "--endpoint", sink.endpoint)

        assert (status, output.splitlines()[0][:30]) == (1, "events: 1 sent, 3 refused; lin")
        assert without_stm(sink.events) == [sent]
        assert (
            "log:1: refused: message: event could not be read by a relay: the protocol has no"
            in errors
        )
        assert (
            "log:2: refused: message: event could not be read by a relay: it is no JSON" in errors
        )

    def test_a_dry_run_checks_and_sends_nothing(self, sink, tmp_path, capsys):
        """With --dry-run everything is checked, nothing sent and no resume point kept."""
        log = write(tmp_path / "log", [page(1), {"event": "page_view"}, None])
        point = tmp_path / "point"
        options = ["--endpoint", sink.endpoint, "--dry-run", "--resume", point]

        status, output, errors = replay(capsys, log, *options)

        assert status == 1
        assert output.startswith("events: 1 would be sent, 1 refused; lines: 1 without an event")
        assert "log:2: refused: page_view: page_url is missing" in errors
        assert sink.requests == []
        assert not point.exists()

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--endpoint", "ftp://x"], "endpoint has neither http nor https"),
            (["--endpoint", "x", "--namespace", "n" * 200], "namespace has 200 characters"),
            (["--endpoint", "x", "--platform", "moon"], "platform is 'moon'"),
            (["--endpoint", "x", "--header", "Content-Type: text/plain"], "Content-Type"),
            (["/nowhere/log", "--endpoint", "x"], "/nowhere/log is no file"),
            (["/", "--endpoint", "x"], "/ is no file"),
            ([], "endpoint is missing"),
            (["--endpoint", "x", "--resume", "/nowhere/point"], "resume point cannot be written"),
        ],
    )
    def test_what_makes_no_sense_is_status_2(self, tmp_path, capsys, arguments, problem):
        """A setting that makes no sense is one line on standard error and status 2."""
        log = write(tmp_path / "log", [page(1)])

        status, output, errors = replay(capsys, log, *arguments)

        assert (status, output) == (2, "")
        assert re.fullmatch(r"snowplow-logging replay: [^\n]*\n", errors)
        assert problem in errors

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--endpoint", "x"],
            ["log", "--endpoint", "x", "--rate", "0"],
            ["log", "--endpoint", "x", "--rate", "nan"],
            ["log", "--endpoint", "x", "--batch-size", "1.5"],
            ["log", "--endpoint", "x", "--header", "none"],
            ["log", "--endpoint", "x", "--method", "put"],
        ],
    )
    def test_a_command_line_that_cannot_be_read_is_status_2(self, capsys, arguments):
        """A command line that makes no sense is explained with the usage."""
        with pytest.raises(SystemExit) as ended:
            main(["replay", *arguments])

        assert ended.value.code == 2
        assert "usage:" in capsys.readouterr().err
