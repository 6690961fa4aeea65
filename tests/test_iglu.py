"""Tests of Iglu registries: folders, static registries and Iglu Servers over HTTP, good and bad."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("jsonschema_rs", reason="checking schemas needs it")

from helpers import NOWHERE, tracking
from snowplow_logging import iglu as module
from snowplow_logging.check import check
from snowplow_logging.iglu import Iglu
from snowplow_logging.schemas import Absent, Schema
from snowplow_logging.testing import capture_events

PLAN = "iglu:com.acme/plan/jsonschema/1-0-0"
OTHER = "iglu:com.acme/other/jsonschema/1-0-0"
RULES = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
GOOD, BAD = {"id": "x"}, {"id": 5}
KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Server(ThreadingHTTPServer):
    """A registry over HTTP that does as it is told, and remembers what it was asked for.

    Attributes:
        schemas: What it holds, by paths; a callable gets the request and answers it.
        key: The key without which it says 403.
        status: What it answers to everything; None for what it holds.
    """

    daemon_threads = True

    def __init__(self, schemas=(), key=None):
        self.schemas = dict(schemas)
        self.key, self.status = key, None
        self.asked, self.keys = [], []
        self.arrived = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server = self.server
                server.asked.append(self.path)
                server.keys.append(self.headers.get("apikey"))
                server.arrived.set()
                held = server.schemas.get(self.path)
                if server.status is not None:
                    self.answer(server.status)
                elif server.key is not None and self.headers.get("apikey") != server.key:
                    self.answer(403)
                elif callable(held):
                    held(self)
                elif held is None:
                    self.answer(404)
                else:
                    self.answer(200, held if isinstance(held, bytes) else json.dumps(held).encode())

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return super().__enter__()

    def __exit__(self, *args):
        self.shutdown()
        super().__exit__(*args)

    def handle_error(self, request, client_address):
        """Say nothing of clients that go away."""


def static(uri=PLAN):
    """Return the path of a schema in a static registry."""
    return "/schemas/" + uri.removeprefix("iglu:")


def on_server(uri=PLAN):
    """Return the path of a schema on an Iglu Server."""
    return f"/api{static(uri)}"


def put(folder, uri=PLAN, rules=RULES):
    """Put a schema into a folder, and return the folder."""
    file = folder / "schemas" / uri.removeprefix("iglu:")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rules), encoding="utf-8")
    return folder


def event(data, schema=PLAN):
    """Return a self-describing event."""
    return {"event": "self_describing_event", "schema": schema, "data": data}


def held_back(schema, until):
    """Return how a registry answers that gives a schema only from an event on."""

    def answer(request):
        until.wait(20)
        request.answer(200, json.dumps(schema).encode())

    return answer


def waits_for(condition):
    """Wait until something holds that a thread brings about."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def soon(monkeypatch):
    """Have what was not found asked for again at once."""
    monkeypatch.setattr(module, "_AGAIN_AFTER", 0.0)


class TestFind:
    """What is found where."""

    @pytest.mark.parametrize("place", ["", "schemas"])
    def test_in_a_folder(self, tmp_path, place):
        """A folder is named as it is, or by its `schemas`."""
        found = Iglu(put(tmp_path) / place).find(PLAN)

        assert isinstance(found, Schema)
        assert found.document == RULES

    @pytest.mark.parametrize("path", [static(), on_server()], ids=["static", "server"])
    @pytest.mark.parametrize("suffix", ["", "/", "/schemas", "/api", "/api/"])
    def test_behind_a_url(self, path, suffix):
        """A static registry and an Iglu Server are told apart by what they answer."""
        with Server({path: RULES}) as server:
            found = Iglu(server.url + suffix).find(PLAN)

        is_api = "api" in suffix
        assert isinstance(found, Schema) is (path == on_server() or not is_api)

    def test_a_layout_that_has_answered_is_kept(self):
        """A server is not asked for the other layout once it is known for one."""
        with Server({on_server(): RULES}) as server:
            registries = Iglu(server.url)
            registries.find(PLAN)
            registries.find(OTHER)

        assert server.asked == [static(), on_server(), on_server(OTHER)]

    def test_registries_are_asked_in_their_order(self, tmp_path):
        """The first that has a schema gives it, and the next are not asked."""
        first, second = {"title": "first"}, {"title": "second"}
        with Server({static(): second, static(OTHER): second}) as server:
            registries = Iglu([put(tmp_path, PLAN, first), server.url])
            assert registries.find(PLAN).document == first
            assert server.asked == []
            assert registries.find(OTHER).document == second

    def test_the_next_is_asked_where_one_is_down(self, tmp_path):
        """A registry that is down does not hide what another one has."""
        assert isinstance(Iglu([NOWHERE, put(tmp_path)]).find(PLAN), Schema)

    def test_what_nobody_has_is_known_not_to_be_there(self, tmp_path):
        """Where all have answered, it is certain; where one has not, it is not."""
        with Server() as server:
            for places, certain in (
                ([tmp_path, server.url], True),
                ([server.url, NOWHERE], False),
                ([NOWHERE], False),
            ):
                found = Iglu(places).find(PLAN)
                assert isinstance(found, Absent)
                assert found.certain is certain
                assert server.url in found.problem or NOWHERE in found.problem

    def test_a_schema_is_fetched_once(self):
        """What was found is kept, and what was not is not asked for each time."""
        with Server({static(): RULES}) as server:
            registries = Iglu(f"{server.url}/schemas")
            for _ in range(3):
                registries.find(PLAN)
                registries.find(OTHER)

        assert server.asked == [static(), static(OTHER)]

    @pytest.mark.usefixtures("soon")
    def test_a_failure_is_not_for_ever(self):
        """After a while a registry that failed is asked again."""
        with Server({static(): RULES}) as server:
            server.status = 500
            registries = Iglu(server.url)
            found = registries.find(PLAN)
            assert isinstance(found, Absent)
            assert f"({server.url} answered 500)" in found.problem
            assert not found.certain
            server.status = None
            assert isinstance(registries.find(PLAN), Schema)

    @pytest.mark.parametrize(
        "uri",
        [
            "iglu:../schemas/jsonschema/1-0-0",
            "iglu:./plan/jsonschema/1-0-0",
            "iglu:com.acme/../jsonschema/1-0-0",
            "iglu:com.acme/plan/jsonschema/../1-0-0",
            "iglu:com.acme/plan/jsonschema/1-0-0\n",
            "iglu:com.acme/plan/jsonschema/1-0-0?x",
            "iglu:com.acme%2fplan/plan/jsonschema/1-0-0",
            "/etc/passwd",
            "",
        ],
    )
    def test_no_name_leads_out_of_a_registry(self, tmp_path, uri):
        """What is no URI of a schema is looked up nowhere."""
        put(tmp_path)
        (tmp_path / "schemas" / "schemas").symlink_to(tmp_path)
        with Server() as server:
            found = Iglu([tmp_path, server.url]).find(uri)

        assert isinstance(found, Absent)
        assert server.asked == []

    @pytest.mark.parametrize("kind", ["folder", "pipe", "unreadable"])
    def test_a_file_that_is_none_is_not_waited_for(self, tmp_path, kind):
        """A folder or pipe in the place of a schema is no schema, one without rights a failure."""
        file = put(tmp_path) / "schemas" / PLAN.removeprefix("iglu:")
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind == "pipe":
            os.mkfifo(file)
        elif os.getuid() == 0:
            pytest.skip("root may read everything")
        else:
            file.touch(0o000)

        assert Iglu(tmp_path).find(PLAN).certain is (kind != "unreadable")

    def test_a_changed_file_counts_where_it_is_watched(self, tmp_path):
        """A schema that is edited is read again, and a new one is found, where that is wanted."""
        registries = Iglu(put(tmp_path), watches=True)
        kept = Iglu(tmp_path)
        assert registries.find(PLAN).document == kept.find(PLAN).document == RULES
        assert isinstance(registries.find(OTHER), Absent)
        file = put(tmp_path, PLAN, {}) / "schemas" / PLAN.removeprefix("iglu:")
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
        put(tmp_path, OTHER)

        assert registries.find(PLAN).document == {}
        assert kept.find(PLAN).document == RULES
        assert isinstance(registries.find(OTHER), Schema)


class TestBadAnswers:
    """What a registry may answer."""

    @pytest.mark.parametrize(
        ("body", "certain", "words"),
        [
            (b"<html>", False, "it is no JSON"),
            (b"{", False, "it is no JSON"),
            (b"\xff", False, "it is no JSON"),
            (b"[" * 100_000, False, "it is no JSON"),
            (b" " * 1_000_001, False, "it has more than 1,000,000 bytes"),
            (b"[]", True, "is no JSON object"),
            (b'{"type": "thing"}', True, "is broken at .type"),
        ],
    )
    def test_a_broken_schema(self, body, certain, words):
        """What cannot be read refuses nothing; what Enrich could not use either does."""
        with Server({static(): body}) as server:
            found = Iglu(server.url).find(PLAN)

        assert isinstance(found, Absent)
        assert found.certain is certain
        assert words in found.problem

    @pytest.mark.parametrize("status", [301, 400, 401, 403, 429, 500, 503])
    def test_a_failure(self, status):
        """Any answer but a schema and 'not found' tells nothing of the schema."""
        with Server() as server:
            server.status = status
            found = Iglu(server.url).find(PLAN)

        assert not found.certain
        assert server.url in found.problem

    def test_an_endless_answer_is_given_up(self):
        """A body that does not end is read up to the limit alone."""

        def pour(request):
            request.send_response(200)
            request.end_headers()
            with contextlib.suppress(OSError):  # when the client hangs up
                while True:
                    request.wfile.write(b" " * 65_536)

        with Server({static(): pour}) as server:
            assert "more than 1,000,000 bytes" in Iglu(server.url).find(PLAN).problem

    def test_a_slow_answer_is_given_up(self, monkeypatch):
        """A body that drips has an end in total time."""
        monkeypatch.setattr(module, "_LONGEST_FETCH", 0.2)
        over = threading.Event()

        def drip(request):
            request.send_response(200)
            request.end_headers()
            while not over.wait(0.01):
                request.wfile.write(b" " * 8)

        with Server({static(): drip}) as server:
            found = Iglu(server.url).find(PLAN)
            over.set()

        assert "did not answer in full within 0.2 s" in found.problem


class TestKey:
    """The key of an Iglu Server."""

    def test_it_is_sent_to_servers_alone(self):
        """It goes with requests to `/api/schemas/…`, and never with those of the other layout."""
        with Server({on_server(): RULES}, KEY) as server:
            server.schemas[static()] = {}
            registries = Iglu(f"{server.url}/api", KEY)
            assert isinstance(registries.find(PLAN), Schema)
            assert isinstance(Iglu(f"{server.url}/api").find(PLAN), Absent)
            assert server.keys == [KEY, None]
            server.key = None
            Iglu(server.url, KEY).find(OTHER)

        assert server.asked[2:] == [static(OTHER), on_server(OTHER)]
        assert server.keys[2:] == [None, KEY]

    def test_it_is_not_sent_where_an_answer_redirects_to(self):
        """A redirect is followed, with the key on the same host alone."""
        with Server({on_server(): RULES, "/moved": RULES}) as other, Server() as server:

            def redirect(to):
                return lambda request: request.answer(302, Location=to)

            server.schemas = {
                on_server(): redirect(f"{other.url}{on_server()}"),
                on_server(OTHER): redirect("/moved"),
                "/moved": RULES,
            }
            registries = Iglu(f"{server.url}/api", KEY)
            assert isinstance(registries.find(PLAN), Schema)
            assert isinstance(registries.find(OTHER), Schema)

        assert other.keys == [None]
        assert server.keys == [KEY, KEY, KEY]

    @pytest.mark.parametrize("to", ["file:///etc/passwd", "/schemas/", "ftp://127.0.0.1/x"])
    def test_a_redirect_to_nowhere_ends(self, to):
        """A redirect to another scheme is not followed, and one in a circle has an end."""
        with Server() as server:
            there = static() if to == "/schemas/" else to
            server.schemas = {static(): lambda request: request.answer(302, Location=there)}
            found = Iglu(server.url).find(PLAN)

        assert not found.certain
        assert "redirects" in found.problem
        assert len(server.asked) < 10

    def test_iglu_central_does_not_get_it(self, monkeypatch):
        """Iglu Central, which often stands beside a server of one's own, never sees its key."""
        with Server() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            Iglu(["http://iglucentral.com", "http://h.example/api"], KEY).find(PLAN)

        assert list(zip(proxy.asked, proxy.keys, strict=True)) == [
            (f"http://iglucentral.com{static()}", None),
            (f"http://iglucentral.com{on_server()}", None),
            (f"http://h.example{on_server()}", KEY),
        ]

    def test_it_is_shown_nowhere(self, caplog):
        """Neither key nor password is in what is printed, reported or raised."""
        with Server(key="another") as server:
            host = server.url.removeprefix("http://")
            registries = Iglu(f"http://me:secret@{host}/api", KEY, report=logging.warning)
            found = registries.find(PLAN)
        said = f"{registries!r} {registries} {found} {caplog.text}"

        assert "answered 403" in caplog.text
        assert KEY not in said
        assert "secret" not in said


class TestLogCall:
    """The log call, and registries behind a network."""

    def test_events_are_checked_once_the_schema_is_there(self, collector):
        """Until then they are sent; from then on they are checked."""
        held = threading.Event()
        with (
            Server({static(): held_back(RULES, held)}) as server,
            tracking(collector, iglu=server.url) as track,
        ):
            track.log(event(BAD))
            assert track.handler.flush(30)
            assert collector.counts["total"] == 1
            held.set()
            waits_for(lambda: refused(track, event(BAD)))
            count = collector.counts["total"]
            track.log(event(GOOD))
            assert track.handler.flush(30)
            assert collector.counts["total"] >= count + 1
            assert server.asked == [static()]
            error = str(track.handler.errors[-1])

        assert error.startswith("self_describing_event: data.id is 5, which the schema")

    def test_the_log_call_never_waits(self, collector):
        """A registry that takes connections and never answers costs the log call nothing."""
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            tracking(collector, iglu=f"http://127.0.0.1:{silent.getsockname()[1]}") as track,
        ):
            track.log(event({"number": 0}))
            silent.settimeout(20)
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1000).startswith(f"GET {static()} ".encode())
                for number in range(1, 50):
                    track.log(event({"number": number}))
                assert track.handler.flush(30)
                assert collector.counts["total"] == 50
                assert track.handler.stats.invalid == 0

    @pytest.mark.usefixtures("soon")
    def test_a_registry_that_is_down_refuses_nothing_and_is_reported(self, collector, caplog):
        """Its events are sent unchecked, and that is said."""
        said = (
            f"{PLAN} cannot be looked up, and its events go unchecked: {NOWHERE} cannot be reached"
        )
        with tracking(collector, iglu=NOWHERE) as track:
            track.log(event(BAD))
            waits_for(lambda: said in caplog.messages)
            track.log(event(BAD))
            assert track.handler.flush(30)
            assert collector.counts["total"] == 2
            assert track.handler.stats.invalid == 0

        assert caplog.messages.count(said) == 1

    def test_a_schema_that_cannot_be_read_refuses_nothing_and_is_reported(
        self, collector, caplog, tmp_path
    ):
        """Its events are sent unchecked, and that is said, too."""
        path = tmp_path / "schemas" / PLAN.removeprefix("iglu:")
        path.parent.mkdir(parents=True)
        path.write_text('{"type": "objec', encoding="utf-8")
        problem = f"is broken in the registry {tmp_path}: it is no JSON"
        said = f"{PLAN} {problem}, and its events go unchecked"
        with tracking(collector, iglu=tmp_path) as track:
            track.log(event(BAD))
            track.log(event(BAD))
            assert track.handler.flush(30)
            waits_for(lambda: said in caplog.messages)
            assert collector.counts["total"] == 2
            assert track.handler.stats.invalid == 0

        assert caplog.messages.count(said) == 1

    @pytest.mark.usefixtures("soon")
    def test_a_registry_that_comes_back_is_asked_again(self, collector):
        """Events are checked again once it answers."""
        with Server({static(): RULES}) as server, tracking(collector, iglu=server.url) as track:
            server.status = 500
            track.log(event(BAD))
            assert server.arrived.wait(20)
            server.status = None
            waits_for(lambda: refused(track, event(BAD)))

    @pytest.mark.usefixtures("soon")
    def test_what_was_published_late_is_found(self, collector):
        """A schema that nobody has refuses its events until it is published."""
        with Server() as server, tracking(collector, iglu=server.url) as track:
            waits_for(lambda: refused(track, event(GOOD)))
            assert "is not found in the registry" in str(track.handler.errors[-1])
            server.schemas[static()] = RULES
            waits_for(lambda: not refused(track, event(GOOD)))

    def test_an_entity_of_the_handler_is_left_out_once_it_is_known_to_be_bad(self, collector):
        """It is reported, and the events go without it."""
        bad = {"schema": PLAN, "data": BAD}
        with (
            Server({static(): RULES}) as server,
            tracking(collector, iglu=server.url, context=[bad]) as track,
        ):

            def is_left_out():
                collector.reset()
                track.log({"event": "page_view", "page_url": "https://a/"})
                assert track.handler.flush(30)
                return [one["contexts"] for one in collector.good] == [[]]

            waits_for(is_left_out)
            assert track.handler.stats.invalid == 0

    def test_threads_share_what_is_fetched(self, collector):
        """Many threads that log at once have a schema fetched once, and all are checked."""
        with Server({static(): RULES}) as server, tracking(collector, iglu=server.url) as track:
            waits_for(lambda: refused(track, event(BAD)))
            before = track.handler.stats.invalid

            def log():
                for _ in range(50):
                    track.log(event(BAD))
                    track.log(event(GOOD))

            threads = [threading.Thread(target=log) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert track.handler.stats.invalid == before + 8 * 50
            assert server.asked == [static()]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_forked_child_fetches_on_its_own(self, collector):
        """What the parent's thread was to fetch, the child's fetches."""
        held = threading.Event()
        with (
            Server({static(): held_back(RULES, held)}) as server,
            tracking(collector, iglu=server.url) as track,
        ):
            track.log(event(BAD))
            assert server.arrived.wait(20)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    end = time.monotonic() + 20
                    while status and time.monotonic() < end:
                        status = int(not refused(track, event(BAD)))
                        time.sleep(0.005)
                finally:
                    os._exit(status)
            held.set()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            waits_for(lambda: refused(track, event(BAD)))

    def test_nothing_is_started_before_it_is_needed(self, tmp_path):
        """A handler starts no thread when it is made, nor while events are captured in a test."""
        before = set(threading.enumerate())
        with tracking(iglu=[put(tmp_path), NOWHERE]) as track:
            assert set(threading.enumerate()) <= before
            with capture_events() as events:
                track.log(event(BAD))
                track.log(event(BAD, OTHER))
            assert len(events.invalid) == 1
            assert set(threading.enumerate()) <= before

    def test_the_process_ends_while_a_schema_is_being_fetched(self):
        """A registry that never answers does not hold up the end."""
        program = (
            "import logging, socket, sys\n"
            "from snowplow_logging import SnowplowHandler\n"
            "silent = socket.create_server(('127.0.0.1', 0))\n"
            "url = f'http://127.0.0.1:{silent.getsockname()[1]}'\n"
            f"handler = SnowplowHandler({NOWHERE!r}, iglu=url, shutdown_timeout=0.1)\n"
            "logging.getLogger().addHandler(handler)\n"
            f"logging.error('x', extra={{'snowplow': {event(GOOD)!r}}})\n"
            "silent.accept()\n"
            "class Late:\n"
            "    def __del__(self):\n"
            f"        logging.error('x', extra={{'snowplow': {event(GOOD, OTHER)!r}}})\n"
            "sys.late = Late()\n"
        )
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", program], timeout=30, check=True, stderr=-3)

        assert time.monotonic() - start < 20


def refused(track, logged):
    """Log an event, and tell whether it was refused."""
    before = track.handler.stats.invalid
    track.log(logged)
    return track.handler.stats.invalid > before


class TestCheckCommand:
    """`check` looks up the schemas that a configuration names."""

    @staticmethod
    def run(tmp_path, handler):
        """Run it on a configuration with one handler."""
        configuration = {
            "version": 1,
            "handlers": {
                "snowplow": {
                    "class": "snowplow_logging.SnowplowHandler",
                    "endpoint": NOWHERE,
                    "enabled": False,
                    **handler,
                }
            },
            "root": {"level": "INFO", "handlers": ["snowplow"]},
        }
        file = tmp_path / "logging.json"
        file.write_text(json.dumps(configuration), encoding="utf-8")
        lines = []
        return check(str(file), lines.append), "\n".join(lines)

    def test_schemas_are_looked_up(self, tmp_path):
        """Each entity's schema is looked up, and the entity checked against it."""
        with Server({static(): RULES}) as server:
            context = [
                {"schema": PLAN, "data": GOOD},
                {"schema": PLAN, "data": BAD},
                {"schema": OTHER, "data": {}},
            ]
            status, said = self.run(tmp_path, {"iglu": server.url, "context": context})
            warned, _ = self.run(
                tmp_path, {"iglu": server.url, "context": context[2:], "schema_check": "warn"}
            )

        assert status == 1
        assert (
            f"checks self-describing data and entities against the schemas of {server.url}" in said
        )
        assert f"context[0]: the schema {PLAN} is found, and the entity fits it" in said
        assert f"error: context[1]: the schema {PLAN} takes no data.id that is 5: type is" in said
        assert f"error: context[2]: the schema {OTHER} is not found in the registry" in said
        assert warned == 0

    def test_a_registry_that_is_down_is_a_warning(self, tmp_path):
        """It is told apart from a fault of the configuration."""
        context = [{"schema": PLAN, "data": GOOD}]
        status, said = self.run(tmp_path, {"iglu": NOWHERE, "context": context})

        assert status == 2
        assert f"warning: context[0]: the schema {PLAN} is not found in the registry" in said
        assert "cannot be reached" in said

    def test_an_entity_that_a_folder_refuses_is_an_error_of_its_key(self, tmp_path):
        """A folder is read when the handler is made, and the error names the entity."""
        context = [{"schema": PLAN, "data": BAD}]
        status, said = self.run(tmp_path, {"iglu": str(put(tmp_path)), "context": context})

        assert status == 1
        assert "error: handlers.snowplow.context[0].data.id is 5, which the schema" in said
