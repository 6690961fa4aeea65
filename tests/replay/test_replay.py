"""`replay`: log files and dead letters sent again, exactly as they were meant to be sent."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import subprocess
import time
from decimal import Decimal

import pytest

from faulty_collector import SILENCE, Answer, FaultyCollector, nowhere
from helpers import RecordingHandler, entity
from replaying import EVENT_ID, SECONDS, ids_in, page, replay, without_stm, write


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

    # An interrupt that falls into a finaliser is shown there, and comes again.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
        process = launch("-", "--endpoint", sink.endpoint, "--give-up", 3, stdin=subprocess.PIPE)
        process.stdin.write(log.read_text())
        process.stdin.flush()
        sink.wait_for_events(1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(4)
        output, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (0, "")
        assert output.startswith("events: 1 sent")

    def test_it_does_not_give_up_on_its_own_rate(self, sink, tmp_path, capsys):
        """An event that waits for its turn is not the collector's fault either."""
        log = write(tmp_path / "log", map(page, range(2)))
        status, output, _ = replay(
            capsys, log, "--endpoint", sink.endpoint, "--give-up", 3, "--rate", 0.2
        )
        assert status == 0
        assert output.startswith("events: 2 sent")
