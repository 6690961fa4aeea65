"""`replay`: log files and dead letters sent again, exactly as they were meant to be sent."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from faulty_collector import SILENCE, Answer, FaultyCollector, nowhere
from helpers import RecordingHandler, entity
from snowplow_logging import SnowplowJsonFormatter
from snowplow_logging.cli import main

EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PAGE = {"event": "page_view", "page_url": "https://shop.example.com/basket"}
SECONDS = 30  # that any process may take


def page(number, **keys):
    """Return one of many page views."""
    return {**PAGE, "page_url": f"https://shop.example.com/{number}", **keys}


def write(path, events, **options):
    """Write a line for each event as a file handler does, None being a record without one."""
    handler = logging.FileHandler(path)
    handler.setFormatter(SnowplowJsonFormatter(**options))
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    for event in events:
        logger.info("basket opened", extra=None if event is None else {"snowplow": event})
    handler.close()
    return path


def ids_in(*paths):
    """Return the ids of the events in files, in their order."""
    found = []
    for path in paths:
        found += re.findall(r'"event_id": "([^"]+)"', path.read_text())
    return found


def without_stm(events):
    """Return payloads without the time of sending."""
    return [{name: event[name] for name in event if name != "stm"} for event in events]


def replay(capsys, *arguments):
    """Run the command here; return its status, its output and its error output."""
    status = main(["replay", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture
def sink():
    """Start a collector that takes everything."""
    with FaultyCollector() as collector:
        yield collector


@pytest.fixture
def launch():
    """Start the command as a process of its own."""
    with contextlib.ExitStack() as started:

        def start(*arguments, **options):
            process = subprocess.Popen(
                [sys.executable, "-m", "snowplow_logging", "replay", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                **options,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


class TestWhatIsSent:
    """Each event goes out as it was first meant to be sent."""

    def test_events_are_good_at_the_collector(self, collector, tmp_path, capsys):
        """Lines of the formatter become good events, each with its id and its time."""
        log = write(tmp_path / "log", [page(1), None, [page(2), page(3, context=[entity(a=1)])]])
        lines = [json.loads(line).get("snowplow") for line in log.read_text().splitlines()]

        status, output, errors = replay(capsys, log, "--endpoint", collector.endpoint)

        assert (status, errors) == (0, "")
        assert output == ("events: 3 sent, 0 refused; lines: 1 without an event, 0 broken\n")
        assert collector.bad == []
        sent = [event["rawEvent"]["parameters"] for event in collector.good]
        written = [lines[0], *lines[2]]
        assert [event["eid"] for event in sent] == [event["event_id"] for event in written]
        assert [event["dtm"] for event in sent] == [str(event["dtm"]) for event in written]
        assert all(int(event["stm"]) >= int(event["dtm"]) for event in sent)

    def test_options_stand_for_the_handler(self, sink, tmp_path, capsys):
        """Namespace, application, platform and encoding are what the handler's would have been."""
        log = write(tmp_path / "log", [page(1, context=[entity(a=1)])])
        options = ["--namespace", "web-1", "--app-id", "shop", "--platform", "web", "--no-base64"]
        options += ["--header", "X-Key: a:b", "--path", "/com.acme/track"]
        options += ["--endpoint", sink.endpoint]

        assert replay(capsys, log, *options)[0] == 0
        assert replay(capsys, log, "--endpoint", sink.endpoint)[0] == 0

        first, second = sink.events
        assert (first["tna"], first["aid"], first["p"]) == ("web-1", "shop", "web")
        assert json.loads(first["co"])["data"] == [entity(a=1)]
        assert sink.requests[0].headers["x-key"] == "a:b"
        assert sink.requests[0].path == "/com.acme/track"
        assert (second["tna"], second["p"]) == ("snowplow_logging", "srv")
        assert "aid" not in second
        assert "cx" in second

    def test_the_tracker_of_the_line_is_kept(self, sink, tmp_path, capsys):
        """A line that an older version wrote goes out with that version's name."""
        log = write(tmp_path / "log", [page(1)])
        text = re.sub(r'"tv": "[^"]*"', '"tv": "snowplow-logging-0.0.1"', log.read_text())
        log.write_text(text)

        assert replay(capsys, log, "--endpoint", sink.endpoint)[0] == 0

        assert sink.events[0]["tv"] == "snowplow-logging-0.0.1"

    def test_the_time_of_the_log_call_becomes_the_true_one_if_asked(self, sink, tmp_path, capsys):
        """With --true-timestamp an event without a true timestamp gets that of its log call."""
        log = write(tmp_path / "log", [page(1), page(2, true_timestamp=5)])

        assert replay(capsys, log, "--endpoint", sink.endpoint, "--true-timestamp")[0] == 0

        first, second = sink.events
        assert (first["ttm"], second["ttm"]) == (first["dtm"], "5")

    def test_get_sends_one_event_a_request(self, sink, tmp_path, capsys):
        """With --method get each event is a request of its own."""
        log = write(tmp_path / "log", [page(1), page(2)])

        assert replay(capsys, log, "--endpoint", sink.endpoint, "--method", "get")[0] == 0

        assert [request.method for request in sink.requests] == ["GET", "GET"]
        assert sink.ids == ids_in(log)

    def test_batches_have_the_size_that_is_asked_for(self, sink, tmp_path, capsys):
        """With --batch-size a request has no more events, and they keep their order."""
        log = write(tmp_path / "log", map(page, range(25)))

        assert replay(capsys, log, "--endpoint", sink.endpoint, "--batch-size", 10)[0] == 0

        assert max(len(request.events) for request in sink.requests) == 10
        assert sink.ids == ids_in(log)

    def test_the_rate_is_kept(self, sink, tmp_path, capsys):
        """With --rate there are no more events a second."""
        log = write(tmp_path / "log", map(page, range(40)))
        start = time.monotonic()

        assert replay(capsys, log, "--endpoint", sink.endpoint, "--rate", 40)[0] == 0

        assert time.monotonic() - start >= 39 / 40
        assert sink.ids == ids_in(log)


class TestDeadLetters:
    """What a handler could not deliver goes out as it was."""

    def letters(self, path, events, answer=400):
        """Have a handler give up events; return the path and what it had sent."""
        with FaultyCollector(default=answer) as collector:
            handler = RecordingHandler(
                collector.endpoint,
                dead_letter=path,
                app_id="own",
                subject={"language": "en"},
                context=[entity(handler=1)],
            )
            logger = logging.Logger("shop")
            logger.addHandler(handler)
            for event in events:
                logger.info("basket opened", extra={"snowplow": event})
            handler.close()
            return [event for request in collector.requests for event in request.events]

    def test_a_payload_keeps_its_values(self, sink, tmp_path, capsys):
        """Events that the collector refused go out with the handler's own values."""
        lost = self.letters(tmp_path / "dead", [page(1), page(2, true_timestamp=5)])
        options = ["--endpoint", sink.endpoint, "--app-id", "other", "--no-base64"]

        status, output, errors = replay(capsys, tmp_path / "dead", *options)

        assert (status, errors) == (0, "")
        assert output.startswith("events: 2 sent, 0 refused; lines: 0")
        assert without_stm(sink.events) == without_stm(lost)
        assert lost[0]["aid"] == "own"

    def test_a_payload_gets_a_true_timestamp_if_asked(self, sink, tmp_path, capsys):
        """With --true-timestamp a payload without one has the time of its log call."""
        self.letters(tmp_path / "dead", [page(1), page(2, true_timestamp=5)])

        replay(capsys, tmp_path / "dead", "--endpoint", sink.endpoint, "--true-timestamp")

        first, second = sink.events
        assert (first["ttm"], second["ttm"]) == (first["dtm"], "5")

    def test_an_invalid_event_is_refused_until_it_is_mended(self, sink, tmp_path, capsys):
        """An event that was refused is refused again, and once its line is right it is sent."""
        dead = tmp_path / "dead"
        event = {"event": "struct_event", "category": "c", "value": Decimal("9.90")}
        self.letters(dead, [event])
        written = json.loads(dead.read_text())["snowplow"]

        status, output, errors = replay(capsys, dead, "--endpoint", sink.endpoint)

        assert status == 1
        assert output.startswith("events: 0 sent, 1 refused")
        assert re.fullmatch(r".*dead:1: refused: struct_event: action is missing .*\n", errors)
        assert sink.requests == []

        dead.write_text(dead.read_text().replace('"category"', '"action": "a", "category"'))
        assert replay(capsys, dead, "--endpoint", sink.endpoint)[0] == 0
        [sent] = sink.events
        assert (sent["se_ac"], sent["se_va"]) == ("a", "9.90")
        assert (sent["eid"], sent["dtm"]) == (written["event_id"], str(written["dtm"]))

    def test_what_does_not_fit_its_schema_is_refused(self, sink, tmp_path, capsys):
        """With --iglu, events of logs and of dead letters are checked against their schemas."""
        pytest.importorskip("jsonschema_rs", reason="checking schemas needs it")
        schema = "iglu:com.acme/buy/jsonschema/1-0-0"
        for uri, rules in (
            (schema, '{"properties": {"price": {"type": "number"}}}'),
            (entity()["schema"], "{}"),
        ):
            file = tmp_path / "iglu" / "schemas" / uri.removeprefix("iglu:")
            file.parent.mkdir(parents=True)
            file.write_text(rules)
        events = [
            {"event": "self_describing_event", "schema": schema, "data": {"price": price}}
            for price in (1, "x")
        ]
        write(tmp_path / "log", events)
        self.letters(tmp_path / "dead", events)
        options = ("--endpoint", sink.endpoint, "--iglu", tmp_path / "iglu")

        status, output, errors = replay(capsys, tmp_path / "log", tmp_path / "dead", *options)

        assert status == 1
        assert "events: 2 sent, 2 refused" in output
        for file in ("log", "dead"):
            assert f"{tmp_path / file}:2: refused: " in errors
        assert errors.count(f"data.price is 'x', which the schema {schema} does not take") == 2

    def test_an_event_that_json_could_not_hold_is_refused(self, sink, tmp_path, capsys):
        """What stands in a line in the place of an object is never sent as if it were data."""
        self.letters(tmp_path / "dead", [page(1, context=[entity(a=object())])])

        status, _, errors = replay(capsys, tmp_path / "dead", "--endpoint", sink.endpoint)

        assert status == 1
        assert "JSON could not hold it: context[0].data.a is an object" in errors
        assert sink.requests == []

    @pytest.mark.parametrize(
        "change",
        [
            {"url": 5},
            {"nonsense": "x"},
            {"eid": "x"},
            {"e": ""},
            {"tv": None},
            {"p": ""},
            {"url": "\ud800"},
            {"page": "x" * 1_100_000},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_payload_that_was_spoilt_costs_only_itself(self, sink, tmp_path, capsys, change):
        """A payload that would have the whole request refused does not go out."""
        payload = {"e": "pv", "eid": EVENT_ID, "p": "srv", "tv": "t"}
        payload |= {"dtm": "5", "url": "https://a.example/", "stm": "7"}
        lines = [{"snowplow": payload}, {"snowplow": {**payload, **change}}, {"snowplow": payload}]
        dead = tmp_path / "dead"
        dead.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

        status, output, errors = replay(capsys, dead, "--endpoint", sink.endpoint)

        assert status == 1
        assert output.startswith("events: 2 sent, 1 refused")
        assert "dead:2: refused: " in errors
        del payload["stm"]
        assert without_stm(sink.events) == [payload, payload]


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
            ["log"],
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


class TestFaults:
    """What a collector may answer, and what becomes of the events then."""

    def test_an_outage_is_waited_out(self, sink, tmp_path, capsys):
        """A collector that is busy for a while gets everything in the end."""
        log = write(tmp_path / "log", map(page, range(30)))
        sink.answers.extend([503, 200, Answer(429, {"Retry-After": "1"}), 200])

        status, output, errors = replay(
            capsys, log, "--endpoint", sink.endpoint, "--batch-size", 10
        )

        assert status == 0
        assert output.startswith("events: 30 sent")
        assert "answered 503" in errors
        assert sink.ids == ids_in(log)

    def test_what_the_collector_refuses_is_named(self, sink, tmp_path, capsys):
        """Events that the collector refuses are named one by one, and the rest is sent."""
        log = write(tmp_path / "log", map(page, range(6)))
        sink.answers.extend([200, 400, 200])

        status, output, errors = replay(capsys, log, "--endpoint", sink.endpoint, "--batch-size", 2)

        assert status == 1
        assert output.startswith("events: 4 sent, 2 refused")
        ids = ids_in(log)
        for number in (3, 4):
            assert re.search(rf"log:{number}: refused: {ids[number - 1]}: .* answered 400", errors)
        assert sink.ids == ids[:2] + ids[4:]

    def test_a_wrong_endpoint_stops_it(self, sink, tmp_path, capsys):
        """Where nothing but refusals comes back it stops, and goes on once that is mended."""
        log = write(tmp_path / "log", map(page, range(50)))
        options = ["--endpoint", sink.endpoint, "--batch-size", 1, "--resume", tmp_path / "point"]
        sink.default = 404

        status, output, _ = replay(capsys, log, *options)

        assert status == 1
        assert output.startswith("events: 0 sent, ")
        assert "not finished, nothing but refusals came back: " in output
        assert "check endpoint and path" in output
        assert len(sink.requests) < 20

        sink.default = 200
        status, output, errors = replay(capsys, log, *options)
        assert (status, errors) == (0, "")
        assert sink.ids == ids_in(log)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_wait_for_a_collector(self, launch, tmp_path, number):
        """Ctrl-C or SIGTERM while nobody answers ends it with a summary, and their status."""
        log = write(tmp_path / "log", map(page, range(5_000)))
        with nowhere() as endpoint:
            process = launch(log, "--endpoint", endpoint, "--batch-size", 10)
            assert "did not answer" in process.stderr.readline()
            process.send_signal(number)

            output, _ = process.communicate(timeout=SECONDS)

        assert process.returncode == 128 + number
        assert output.startswith("events: 0 sent, 0 refused")
        # No more than a few batches wait in memory.
        waiting = re.search(
            r"not finished, interrupted; events read and not answered for: (\d+)", output
        )
        assert 0 < int(waiting[1]) <= 41

    @pytest.mark.parametrize("silent", [True, False], ids=["silent", "absent"])
    @pytest.mark.parametrize("events", [1, 3_000], ids=["at the end", "in the middle"])
    def test_it_gives_up_if_asked(self, sink, tmp_path, capsys, silent, events):
        """Once nothing has been answered for so long; the summary says what is left."""
        log = write(tmp_path / "log", map(page, range(events)))
        sink.default = SILENCE
        with nowhere() as endpoint:
            place = sink.endpoint if silent else endpoint
            status, output, _ = replay(capsys, log, "--endpoint", place, "--give-up", 0.3)
        assert status == 1
        assert (
            "not finished, the collector has answered for nothing in 0.3 s; events read " in output
        )

    def test_it_does_not_give_up_on_a_slow_reader(self, sink, launch, tmp_path):
        """What has not come to the input yet is not the collector's fault."""
        log = write(tmp_path / "log", [page(1)])
        process = launch("-", "--endpoint", sink.endpoint, "--give-up", 0.1, stdin=subprocess.PIPE)
        process.stdin.write(log.read_text())
        process.stdin.flush()
        sink.wait_for_events(1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        output, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (0, "")
        assert output.startswith("events: 1 sent")

    def test_it_does_not_give_up_on_its_own_rate(self, sink, tmp_path, capsys):
        """An event that waits for its turn is not the collector's fault either."""
        log = write(tmp_path / "log", map(page, range(3)))
        status, output, _ = replay(
            capsys, log, "--endpoint", sink.endpoint, "--give-up", 0.1, "--rate", 1
        )
        assert status == 0
        assert output.startswith("events: 3 sent")


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
    def test_the_memory_is_level(self, sink, tmp_path):
        """Twenty times as many lines take no more memory."""
        peaks = []
        for lines in (2_000, 40_000):
            log = write(tmp_path / str(lines), map(page, range(lines)))
            command = [sys.executable, "-m", "snowplow_logging", "replay", log]
            options = ["--endpoint", sink.endpoint, "--resume", tmp_path / f"{lines}.point"]
            process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE)
            assert process.stdout.read().startswith(f"events: {lines:,} sent,".encode())
            process.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            peaks.append(usage.ru_maxrss)

        # In kilobytes, but on macOS in bytes.
        assert peaks[1] - peaks[0] < 5_000 * (1_024 if sys.platform == "darwin" else 1)


def as_list(event):
    """Return the events of a line."""
    return event if isinstance(event, list) else [] if event is None else [event]
