"""Schemas: the local collector with an Iglu registry, in a folder and behind a URL."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from snowplow_logging.collector import LocalCollector

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
LINK_CLICK = "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1"
PLAN = "iglu:com.acme/plan/jsonschema/1-0-0"
PLAN_SCHEMA = {
    "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
    "self": {"vendor": "com.acme", "name": "plan", "format": "jsonschema", "version": "1-0-0"},
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "seats": {"type": "integer", "minimum": 1},
        "address": {"type": "string", "format": "ipv4"},
    },
    "required": ["id"],
    "additionalProperties": False,
}
GOOD_PLAN = {"id": "5e11d0cf-3a3f-4c5c-9a8b-4d4f8f5ad0f2", "seats": 1, "address": "192.0.2.1"}


def add(folder, uri, schema):
    """Put a schema into a registry."""
    file = folder / "schemas" / uri.removeprefix("iglu:")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(schema if isinstance(schema, str) else json.dumps(schema), encoding="utf-8")
    return file


def errors(collector, data, *entities, schema=PLAN):
    """Send a self-describing event with entities, and return its errors, none where it is good."""
    event = {
        "tv": "test-1.0",
        "p": "srv",
        "e": "ue",
        "ue_pr": json.dumps(
            {
                "schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
                "data": {"schema": schema, "data": data},
            }
        ),
        "co": json.dumps(
            {
                "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
                "data": [{"schema": PLAN, "data": entity} for entity in entities],
            }
        ),
    }
    collector.reset()
    answer = requests.post(
        f"{collector.endpoint}/com.snowplowanalytics.snowplow/tp2",
        data=json.dumps({"schema": PAYLOAD_DATA, "data": [event]}),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert answer.status_code == 200
    assert collector.wait_for(1)
    return [error for bad in collector.bad for error in bad["errors"]]


class Registry(ThreadingHTTPServer):
    """A static registry over HTTP that remembers what it was asked for."""

    daemon_threads = True

    def __init__(self, folder):
        self.asked = []
        registry = self

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, code="-", size="-"):
                registry.asked.append((self.path, int(code)))

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), partial(Handler, directory=folder))


@pytest.fixture
def registry(tmp_path):
    """Make a registry of one schema in a folder."""
    add(tmp_path, PLAN, PLAN_SCHEMA)
    return tmp_path


@pytest.fixture
def served(registry):
    """Serve that registry over HTTP."""
    with Registry(registry) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(params=["folder", "schemas folder", "text", "URL", "schemas URL"])
def collector(request, registry):
    """Start a collector for each way to name one registry."""
    served = request.getfixturevalue("served") if "URL" in request.param else None
    where = {
        "folder": registry,
        "schemas folder": registry / "schemas",
        "text": str(registry),
        "URL": served and f"http://127.0.0.1:{served.server_port}/",
        "schemas URL": served and f"http://127.0.0.1:{served.server_port}/schemas",
    }[request.param]
    with LocalCollector(iglu=where) as running:
        yield running


def test_data_that_fits_its_schema_is_good(collector):
    """An event and entities that fit their schemas are good."""
    assert errors(collector, GOOD_PLAN, GOOD_PLAN, {"id": GOOD_PLAN["id"]}) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "$ does not fit the schema"),
        ({**GOOD_PLAN, "seats": 0}, "$.seats does not fit the schema"),
        ({**GOOD_PLAN, "seats": "1"}, "$.seats does not fit the schema"),
        ({**GOOD_PLAN, "seats": 1.5}, "$.seats does not fit the schema"),
        ({**GOOD_PLAN, "colour": "red"}, "$ does not fit the schema"),
        ({**GOOD_PLAN, "id": "1"}, "$.id does not fit the schema"),
        ({**GOOD_PLAN, "address": "x"}, "$.address does not fit the schema"),
        ([], "$ does not fit the schema"),
    ],
    ids=["missing", "minimum", "string", "fraction", "unknown", "uuid", "ipv4", "list"],
)
def test_data_that_does_not_fit_its_schema_is_bad(registry, data, expected):
    """An event whose data breaks its schema fails, and so does one with such an entity."""
    with LocalCollector(iglu=registry) as collector:
        [of_event] = errors(collector, data)
        [of_entity] = errors(collector, GOOD_PLAN, GOOD_PLAN, data)

    assert of_event.startswith(f"ue_pr: {expected} {PLAN}")
    assert of_entity.startswith(f"co: entity 2: {expected} {PLAN}")


def test_all_that_does_not_fit_is_said(collector):
    """Each fault of an event and its entities has its own sentence."""
    found = errors(collector, {"seats": 0, "x": 1}, {"id": 1})

    assert len(found) == 4


def test_a_schema_that_is_not_found_is_bad(collector):
    """An event whose schema the registry does not have fails."""
    [error] = errors(collector, {}, schema="iglu:com.acme/other/jsonschema/1-0-0")

    assert "schema iglu:com.acme/other/jsonschema/1-0-0 is not found in the registry" in error


def test_micro_returns_schemas(collector):
    """The REST API returns a schema, or 404 where there is none."""
    base = f"{collector.endpoint}/micro/iglu/com.acme"

    assert requests.get(f"{base}/plan/jsonschema/1-0-0", timeout=10).json() == PLAN_SCHEMA
    for path in ("plan/jsonschema/1-0-1", "plan/jsonschema/latest", "%2E%2E/jsonschema/1-0-0"):
        assert requests.get(f"{base}/{path}", timeout=10).status_code == 404


@pytest.mark.parametrize("schema", ["{", "[]", json.dumps({**PLAN_SCHEMA, "type": "thing"})])
def test_a_broken_schema_is_bad(registry, schema):
    """An event whose schema is broken fails, and says so."""
    add(registry, PLAN, schema)
    with LocalCollector(iglu=registry) as collector:
        [error] = errors(collector, GOOD_PLAN)

    assert f"schema {PLAN} is broken" in error


@pytest.mark.parametrize(
    "rules",
    [{"$ref": "http://schemas.invalid/a"}, {"pattern": "(?<a"}],
    ids=["reference", "pattern"],
)
def test_a_schema_that_cannot_be_used_is_bad(registry, rules):
    """A reference off the registry is not followed, and a broken pattern stops nothing else."""
    add(registry, PLAN, {**PLAN_SCHEMA, "properties": {"id": rules}})
    with LocalCollector(iglu=registry) as collector:
        [error] = errors(collector, {"id": "x"})

    assert PLAN in error


def test_a_changed_schema_counts_at_once(registry):
    """A schema that is edited in the folder is read again, and a new one found."""
    with LocalCollector(iglu=registry) as collector:
        assert len(errors(collector, {**GOOD_PLAN, "seats": 0})) == 1
        changed = {**PLAN_SCHEMA, "properties": {"id": {}, "seats": {}, "address": {}}}
        file = add(registry, PLAN, changed)
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
        assert errors(collector, {**GOOD_PLAN, "seats": 0}) == []

        other = "iglu:com.acme/other/jsonschema/1-0-0"
        assert len(errors(collector, {}, schema=other)) == 1
        add(registry, other, {"type": "object"})
        assert errors(collector, {}, schema=other) == []


def test_a_schema_is_fetched_once(served):
    """From a URL, a schema is fetched once, and one that is missing is not asked for each time."""
    missing = "iglu:com.acme/other/jsonschema/1-0-0"
    with LocalCollector(iglu=f"http://127.0.0.1:{served.server_port}") as collector:
        for _ in range(3):
            assert errors(collector, GOOD_PLAN, GOOD_PLAN) == []
            assert len(errors(collector, {}, schema=missing)) == 1

    assert sorted(served.asked) == [
        ("/schemas/com.acme/other/jsonschema/1-0-0", 404),
        ("/schemas/com.acme/plan/jsonschema/1-0-0", 200),
    ]


def test_a_registry_that_cannot_be_reached_is_an_error_of_the_event(served):
    """A registry that is down fails the event, and not the request."""
    url = f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    with LocalCollector(iglu=url) as collector:
        [error] = errors(collector, GOOD_PLAN)

    assert f"schema {PLAN} is not found in the registry {url}" in error


def test_a_folder_that_is_none_is_refused(tmp_path):
    """A registry that does not exist is an error at construction."""
    with pytest.raises(ValueError, match=r"^iglu: .* is no folder"):
        LocalCollector(iglu=tmp_path / "nothing")


def test_several_registries_are_asked_in_their_order(registry, tmp_path_factory):
    """What the first does not have is looked up in the next."""
    other = "iglu:com.acme/other/jsonschema/1-0-0"
    second = tmp_path_factory.mktemp("second")
    add(second, PLAN, {"type": "string"})
    add(second, other, {"type": "string"})
    with LocalCollector(iglu=[registry, second]) as collector:
        assert errors(collector, GOOD_PLAN) == []
        assert errors(collector, "text", schema=other) == []
        assert len(errors(collector, {}, schema=other)) == 1


def test_an_iglu_server_gets_the_key(registry):
    """With a key, schemas come from an Iglu Server as well."""
    keys = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            keys.append(self.headers.get("apikey"))
            self.path = self.path.removeprefix("/api")
            super().do_GET()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=registry)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with LocalCollector(iglu=url, iglu_api_key="a-key") as collector:
            assert errors(collector, GOOD_PLAN) == []
        server.shutdown()

    assert keys == ["a-key"]


def test_multiples_are_decimal(registry):
    """19.99 is a multiple of 0.01, as it is for Snowplow."""
    add(registry, PLAN, {"properties": {"price": {"multipleOf": 0.01}}})
    with LocalCollector(iglu=registry) as collector:
        assert errors(collector, {"price": 19.99}) == []
        assert len(errors(collector, {"price": 19.999})) == 1


@pytest.mark.parametrize("registries", [None, []], ids=["none", "empty"])
def test_the_schemas_of_known_events_come_with_it(registries):
    """A link click is checked without a registry, and of other schemas any data is good."""
    with LocalCollector(iglu=registries) as collector:
        assert errors(collector, {"targetUrl": "https://a/"}, schema=LINK_CLICK) == []
        assert len(errors(collector, {"targetUrl": ""}, schema=LINK_CLICK)) == 1
        assert len(errors(collector, {"targetUrl": "a", "x": 1}, schema=LINK_CLICK)) == 1
        assert errors(collector, {"any": "thing"}) == []
        assert collector.find_schema(LINK_CLICK)["self"]["name"] == "link_click"
