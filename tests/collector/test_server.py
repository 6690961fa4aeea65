"""The local collector as an HTTP server: the collector's answers, Micro's API, its life."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest
import requests

from snowplow_logging.collector import LocalCollector

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

TP2 = "/com.snowplowanalytics.snowplow/tp2"
PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
EVENT = {"tv": "test-1.0", "p": "srv", "e": "pv", "url": "https://shop.example.com/"}
BROKEN = {**EVENT, "vid": "x"}
GAME = "iglu:com.games_company/save_game/jsonschema/1-0-2"
UNSTRUCT = {
    "tv": "test-1.0",
    "p": "srv",
    "e": "ue",
    "ue_pr": json.dumps(
        {
            "schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
            "data": {"schema": GAME, "data": {"level": 1}},
        }
    ),
    "co": json.dumps(
        {
            "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
            "data": [
                {"schema": "iglu:com.acme/plan/jsonschema/1-0-0", "data": {}},
                {"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {}},
            ],
        }
    ),
}


@pytest.fixture
def collector():
    """Start a collector."""
    with LocalCollector() as running:
        yield running


def post(collector, *events, path=TP2, **headers):
    """POST events in one request."""
    body = json.dumps({"schema": PAYLOAD_DATA, "data": events})
    headers.setdefault("Content-Type", "application/json")
    return requests.post(collector.endpoint + path, data=body, headers=headers, timeout=10)


def get(collector, path, **keywords):
    """GET a path."""
    return requests.get(collector.endpoint + path, timeout=10, **keywords)


def exchange(collector, data):
    """Send raw bytes, and return all that comes back until the collector ends the connection."""
    with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        blocks = []
        while block := connection.recv(65536):
            blocks.append(block)
    return b"".join(blocks)


class TestTracking:
    """Requests with events, and what the collector answers."""

    def test_a_post_is_answered_ok(self, collector):
        """A POST with events is answered 200 and 'ok', and its events are there at once."""
        answer = post(collector, EVENT, BROKEN)

        assert (answer.status_code, answer.text) == (200, "ok")
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert collector.counts == {"total": 2, "good": 1, "bad": 1}

    def test_a_get_is_answered_with_a_pixel(self, collector):
        """A GET of one event is answered with a transparent GIF."""
        answer = get(collector, "/i", params={**EVENT, "page": "Täbs & more"})

        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "image/gif"
        assert answer.content[:6] == b"GIF89a"
        [good] = collector.good
        assert good["event"]["page_title"] == "Täbs & more"
        assert good["rawEvent"]["api"] == {
            "vendor": "com.snowplowanalytics.snowplow",
            "version": "tp1",
        }

    def test_a_head_is_answered_without_a_body(self, collector):
        """HEAD is answered like GET, without the pixel, and its connection goes on."""
        head = exchange(
            collector,
            b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        )

        assert head.count(b"HTTP/1.1 200 OK") == 2
        assert head.endswith(b"\r\n\r\nok")
        assert head.count(b"\r\n\r\n") == 2

    def test_a_get_without_an_event_is_bad(self, collector):
        """A GET with no query string is a failed event, and so is one that lacks `e`."""
        get(collector, "/i")
        get(collector, "/i", params={"tv": "t", "p": "web"})

        assert [bad["errors"][0].split(":")[0] for bad in collector.bad] == ["querystring", "e"]

    def test_a_get_may_have_names_that_no_event_knows(self, collector):
        """Only a body is checked for unknown names, a query string is not."""
        get(collector, "/i", params={**EVENT, "utm": "x"})

        assert collector.counts == {"total": 1, "good": 1, "bad": 0}

    @pytest.mark.parametrize(
        ("query", "title"),
        [
            ("page=[a]", "[a]"),
            ("page=a/?:@=b", "a/?:@=b"),
            ("page=a#b", "a"),
            ("page=a+b", "a b"),
            ("page=%C3%A9", "é"),
            ("page=%E9", "\ufffd"),
            ("page=é", "\ufffd"),
            ("page=à", "\ufffd"),
            ("page=ł", "B"),
            ("page=a;b=c", "a"),
            ("page=a&page=b", "b"),
            ("page=a&page", None),
            ("page", None),
            ("page=", None),
            ("=a&eid&page=b", "b"),
        ],
    )
    def test_raw_characters_in_a_query_string_are_read_as_enrich_does(
        self, collector, query, title
    ):
        """What is legal in a URI is taken as it is; letters beyond ASCII are lost."""
        line = f"GET /i?tv=t&p=srv&e=pv&{query} HTTP/1.1\r\nHost: a\r\n\r\n"

        exchange(collector, line.encode())

        [good] = collector.good
        assert good["event"]["page_title"] == title

    @pytest.mark.parametrize(
        "query",
        ["100%", "%zz", "%4", "a b", "a|b", 'a"b', "a\tb", "a\xa0b", "a\x85b", "{a}", "a\\b"],
    )
    def test_illegal_characters_in_a_query_string_fail_the_request(self, collector, query):
        """A bare %, a space or what else is illegal in a URI makes a failed event of a GET."""
        line = f"GET /i?tv=t&p=srv&e=pv&page={query} HTTP/1.1\r\nHost: a\r\n\r\n"

        assert exchange(collector, line.encode()).startswith(b"HTTP/1.1 200 ")

        [bad] = collector.bad
        [error] = bad["errors"]
        assert error.startswith("querystring: has ")

    @pytest.mark.parametrize(
        ("header", "address"),
        [
            ("198.51.100.7", "198.51.100.7"),
            ("198.51.100.7, 10.0.0.1", "198.51.100.7"),
            ("198.51.100.7:8080", "198.51.100.7"),
            ('"[2001:DB8::1]:80", 10.0.0.1', "2001:db8::1"),
            ("unknown, 198.51.100.7", "127.0.0.1"),
            ("", "127.0.0.1"),
        ],
    )
    def test_the_first_forwarded_address_is_the_client(self, collector, header, address):
        """`X-Forwarded-For` gives the address where it begins with one."""
        post(collector, EVENT, **{"X-Forwarded-For": header})

        assert collector.good[0]["event"]["user_ipaddress"] == address

    def test_a_query_string_goes_for_all_events_of_a_post(self, collector):
        """What the query string of a POST says wins over its events."""
        post(collector, EVENT, EVENT, path=f"{TP2}?aid=shop")

        assert [good["event"]["app_id"] for good in collector.good] == ["shop", "shop"]

    @pytest.mark.parametrize("path", ["/", "/tp2", "/com.acme/track", f"{TP2}/", "//i", "/j"])
    def test_a_wrong_path_is_not_found(self, collector, path):
        """Events to a path that is not mapped are answered 404 and not kept."""
        assert post(collector, EVENT, path=path).status_code == 404
        assert collector.counts["total"] == 0

    def test_a_mapped_path_is_taken_as_tp2(self):
        """A path that the owner mapped takes events, beside the usual one."""
        with LocalCollector(paths=["/com.acme/track"]) as collector:
            assert post(collector, EVENT, path="/com.acme/track").status_code == 200
            assert post(collector, EVENT).status_code == 200
            assert post(collector, EVENT, path="/com.acme/other").status_code == 404
            assert [good["rawEvent"]["api"]["version"] for good in collector.good] == ["tp2"] * 2

    def test_a_browser_may_ask_first(self, collector):
        """OPTIONS is answered with what a tracker in a browser needs to know."""
        origin = "https://shop.example.com"

        answer = requests.options(collector.endpoint + TP2, headers={"Origin": origin}, timeout=10)

        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "SP-Anonymous" in answer.headers["Access-Control-Allow-Headers"]
        assert (
            post(collector, EVENT, Origin=origin).headers["Access-Control-Allow-Origin"] == origin
        )

    def test_health_is_ok(self, collector):
        """The health check says ok."""
        assert get(collector, "/health").text == "ok"


class TestCookie:
    """The network user id."""

    def test_a_new_client_is_given_a_network_user_id(self, collector):
        """The cookie `sp` is a UUID for a year, and the event's network user id."""
        answer = post(collector, EVENT)

        [cookie] = answer.cookies
        assert (cookie.name, str(uuid.UUID(cookie.value))) == ("sp", cookie.value)
        assert 364 * 86_400 < cookie.expires - time.time() < 366 * 86_400
        assert collector.good[0]["event"]["network_userid"] == cookie.value

    def test_a_client_that_sends_its_cookie_back_keeps_its_id(self, collector):
        """All events of a client that keeps cookies have one network user id."""
        with requests.Session() as session:
            for _ in range(2):
                session.get(f"{collector.endpoint}/i", params=EVENT, timeout=10)
        get(collector, "/i", params=EVENT)

        first, second, other = (good["event"]["network_userid"] for good in collector.good)
        assert first == second != other

    def test_tnuid_and_nuid_win_over_the_cookie(self, collector):
        """An id that the tracker sends is the event's network user id."""
        post(collector, {**EVENT, "nuid": "a"}, {**EVENT, "tnuid": "b", "nuid": "a"}, Cookie="sp=c")

        assert [good["event"]["network_userid"] for good in collector.good] == ["a", "b"]

    def test_an_anonymous_request_leaves_no_trace(self, collector):
        """With SP-Anonymous neither address nor cookie is kept, and none is set."""
        answer = post(
            collector,
            EVENT,
            **{"SP-Anonymous": "*", "Cookie": "sp=x", "X-Forwarded-For": "192.0.2.1"},
        )

        assert "Set-Cookie" not in answer.headers
        [good] = collector.good
        assert good["event"]["user_ipaddress"] == "unknown"
        assert good["event"]["network_userid"] == str(uuid.UUID(int=0))
        text = json.dumps(good)
        assert "127.0.0.1" not in "".join(good["rawEvent"]["context"]["headers"]).replace(
            "Host: 127.0.0.1", ""
        )
        assert "192.0.2.1" not in text
        assert "sp=x" not in text


class TestLimits:
    """What the collector refuses for its size."""

    @pytest.mark.parametrize(
        ("size", "status"), [(2_097_152, 200), (2_097_153, 413), (9_000_000, 413)]
    )
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_over_two_mebibytes_is_refused(self, collector, size, status, chunked):
        """A body of 2,097,152 bytes is taken, a larger one answered 413, and the client goes on."""
        body = b"x" * size
        headers = {"Content-Type": "application/json"}
        with requests.Session() as session:
            data = iter([body]) if chunked else body
            answer = session.post(collector.endpoint + TP2, data=data, headers=headers, timeout=20)
            after = session.get(f"{collector.endpoint}/health", timeout=10)

        assert (answer.status_code, after.text) == (status, "ok")
        assert collector.counts == {"total": status == 200, "good": 0, "bad": status == 200}

    @pytest.mark.parametrize(
        ("size", "status"), [(20_480, b"200"), (20_481, b"414"), (200_000, b"414")]
    )
    def test_a_long_request_line_is_refused(self, collector, size, status):
        """A request line of 20,480 bytes is taken, a longer one answered 414."""
        start, end = b"GET /i?tv=t&p=web&e=pv&url=a&page=", b" HTTP/1.1"
        line = start + b"x" * (size - len(start) - len(end)) + end

        answer = exchange(collector, line + b"\r\nHost: a\r\n\r\n")

        assert answer.split()[1] == status
        assert collector.counts["total"] == (status == b"200")

    @pytest.mark.parametrize(
        ("size", "status"), [(40_960, b"200"), (40_961, b"431"), (400_000, b"431")]
    )
    def test_large_headers_are_refused(self, collector, size, status):
        """Headers of 40,960 bytes together are taken, larger ones answered 431."""
        lines = [b"Host: a\r\n"]
        while (left := size - sum(map(len, lines))) > 0:
            lines.append(b"X-A: " + b"x" * (min(left, 20_000) - 7) + b"\r\n")
            if size - sum(map(len, lines)) < 8:
                lines[-1] = lines[-1][:-2] + b"x" * (size - sum(map(len, lines))) + b"\r\n"

        answer = exchange(collector, b"GET /health HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")

        assert answer.split()[1] == status

    @pytest.mark.parametrize("length", [b"-1", b"x"])
    def test_a_length_that_is_none_is_refused(self, collector, length):
        """A Content-Length that is no number is answered 400."""
        request = b"POST " + TP2.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: " + length

        assert exchange(collector, request + b"\r\n\r\n").split()[1] == b"400"

    def test_half_a_body_is_no_event(self, collector):
        """A client that goes away in the middle of a body leaves nothing behind."""
        request = b"POST " + TP2.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"

        assert exchange(collector, request) == b""
        assert collector.counts["total"] == 0

    def test_a_client_that_asks_before_its_body_is_told_to_go_on(self, collector):
        """Expect: 100-continue is answered before the body is sent, once."""
        request = b"GET /health HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"

        answer = exchange(collector, request)

        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


class TestConnections:
    """What goes on below the requests."""

    def test_requests_share_a_connection_and_are_quick(self, collector):
        """Requests on one connection take no delayed acknowledgement each."""
        started = time.perf_counter()
        with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as connection:
            for _ in range(400):
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = b""
                while not answer.endswith(b"\r\n\r\nok"):
                    block = connection.recv(4096)
                    assert block, "the connection was ended"
                    answer += block

        # 40 ms a request, which is what a delayed acknowledgement costs, would be 16 seconds.
        assert time.perf_counter() - started < 14

    def test_an_old_client_is_answered_and_left(self, collector):
        """HTTP/1.0 without keep-alive ends the connection after the answer."""
        with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            blocks = []
            while block := connection.recv(4096):
                blocks.append(block)

        assert b"".join(blocks).endswith(b"\r\n\r\nok")

    def test_nothing_is_logged(self, collector, caplog):
        """No request leaves a record with the program under test, good, bad or refused."""
        caplog.set_level(logging.DEBUG)
        for line in (b"GET /health HTTP/1.1", b"GET /nothing HTTP/1.1", b"nonsense"):
            exchange(collector, line + b"\r\nHost: a\r\n\r\n")

        assert [record.name for record in caplog.records] == []

    def test_many_clients_at_once_lose_nothing(self, collector):
        """Eight threads posting at once find all their events, each exactly once."""
        ids = [[str(uuid.uuid4()) for _ in range(25)] for _ in range(8)]

        def client(mine):
            for event_id in mine:
                post(collector, {**EVENT, "eid": event_id})

        threads = [threading.Thread(target=client, args=(mine,)) for mine in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert collector.wait_for(200)
        arrived = [good["event"]["event_id"] for good in collector.good]
        assert sorted(arrived) == sorted(event_id for mine in ids for event_id in mine)


class TestMicro:
    """The REST API of Snowplow Micro."""

    def test_all_counts(self, collector):
        """The summary counts good and bad events, for GET and POST."""
        post(collector, EVENT, EVENT, BROKEN)

        expected = {"total": 3, "good": 2, "bad": 1}
        assert get(collector, "/micro/all").json() == expected
        assert requests.post(f"{collector.endpoint}/micro/all", timeout=10).json() == expected

    def test_good_has_the_shape_of_micro(self, collector):
        """A good event has its raw event, its type, its schema and the enriched event."""
        post(
            collector,
            {**EVENT, "aid": "shop", "refr": "http://a.example:81/b?c#d"},
            Referer="http://r/",
        )

        [good] = get(collector, "/micro/good").json()

        assert good.keys() == {"rawEvent", "eventType", "schema", "contexts", "event"}
        assert good["rawEvent"].keys() == {"api", "parameters", "contentType", "source", "context"}
        assert good["rawEvent"]["parameters"]["aid"] == "shop"
        assert good["rawEvent"]["contentType"] == "application/json"
        context = good["rawEvent"]["context"]
        assert (context["refererUri"], context["ipAddress"]) == ("http://r/", "127.0.0.1")
        assert "Content-Type: application/json" in context["headers"]
        assert good["eventType"] == "page_view"
        assert good["schema"] == "iglu:com.snowplowanalytics.snowplow/page_view/jsonschema/1-0-0"
        assert good["contexts"] == []
        event = good["event"]
        assert len(event) == 131
        assert event["app_id"] == "shop"
        assert event["page_title"] is None
        parts = ("scheme", "host", "port", "path", "query", "fragment")
        assert [event[f"refr_url{part}"] for part in parts] == [
            "http", "a.example", 81, "/b", "c", "d",
        ]  # fmt: skip

    def test_good_comes_newest_first(self, collector):
        """Micro lists the newest event first, the Python property the oldest."""
        post(collector, {**EVENT, "page": "1"}, {**EVENT, "page": "2"})
        post(collector, {**EVENT, "page": "3"})

        pages = [event["event"]["page_title"] for event in get(collector, "/micro/good").json()]

        assert pages == ["3", "2", "1"]
        assert [event["event"]["page_title"] for event in collector.good] == ["1", "2", "3"]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, ["ue", "se", "pv"]),
            ({"event_type": "page_view"}, ["pv"]),
            ({"event_type": "ue"}, ["ue"]),
            ({"event_type": "unstruct"}, ["ue"]),
            ({"event_type": "page_ping"}, []),
            ({"schema": GAME}, ["ue"]),
            ({"schema": "iglu:com.google.analytics/event/jsonschema/1-0-0"}, ["se"]),
            ({"contexts": ["iglu:com.acme/plan/jsonschema/1-0-0"]}, ["ue"]),
            (
                {"contexts": ["com.acme/plan/jsonschema/1-0-0", "com.acme/user/jsonschema/1-0-0"]},
                ["ue"],
            ),
            ({"contexts": ["com.acme/plan/jsonschema/1-0-0", "com.acme/x/jsonschema/1-0-0"]}, []),
            ({"contexts": []}, ["ue", "se", "pv"]),
            ({"limit": 2}, ["ue", "se"]),
            ({"limit": 0}, []),
            ({"schema": None, "limit": None}, ["ue", "se", "pv"]),
            ({"event_type": "ue", "schema": "iglu:com.acme/x/jsonschema/1-0-0"}, []),
        ],
        ids=str,
    )
    def test_good_is_filtered(self, collector, filters, expected):
        """A POST with filters returns the events that fit all of them."""
        post(collector, EVENT, {**EVENT, "e": "se", "se_ca": "a", "se_ac": "b"}, UNSTRUCT)

        answer = requests.post(f"{collector.endpoint}/micro/good", json=filters, timeout=10)

        assert [event["rawEvent"]["parameters"]["e"] for event in answer.json()] == expected

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b'{"limit": "1"}',
            b'{"limit": -1}',
            b'{"limit": true}',
            b'{"contexts": "a"}',
            b'{"contexts": [1]}',
            b'{"schema": 1}',
        ],
    )
    def test_a_filter_of_another_form_is_refused(self, collector, body):
        """Filters that make no sense are answered 400."""
        answer = requests.post(f"{collector.endpoint}/micro/good", data=body, timeout=10)

        assert answer.status_code == 400

    def test_bad_has_the_shape_of_micro(self, collector):
        """A failed event has its request, its raw event and its errors."""
        post(collector, EVENT, BROKEN)

        [bad] = get(collector, "/micro/bad").json()

        assert bad.keys() == {"collectorPayload", "rawEvent", "errors"}
        assert bad["rawEvent"]["parameters"] == BROKEN
        assert json.loads(bad["collectorPayload"]["body"])["data"] == [EVENT, BROKEN]
        assert bad["collectorPayload"]["querystring"] == []
        assert [type(error) for error in bad["errors"]] == [str]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, ["tp1", "tp2"]),
            ({"version": "tp2"}, ["tp2"]),
            ({"vendor": "com.snowplowanalytics.snowplow", "limit": 1}, ["tp1"]),
            ({"vendor": "com.acme"}, []),
        ],
        ids=str,
    )
    def test_bad_is_filtered(self, collector, filters, expected):
        """A POST with filters returns the failed events that fit all of them, newest first."""
        post(collector, BROKEN)
        get(collector, "/i", params=BROKEN)

        answer = requests.post(f"{collector.endpoint}/micro/bad", json=filters, timeout=10)

        found = [bad["collectorPayload"]["api"]["version"] for bad in answer.json()]
        assert found == expected

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_reset_empties_it(self, collector, method):
        """A reset forgets all events and says so."""
        post(collector, EVENT, BROKEN)

        answer = requests.request(method, f"{collector.endpoint}/micro/reset", timeout=10)

        assert answer.json() == {"total": 0, "good": 0, "bad": 0}
        assert (collector.good, collector.bad) == ([], [])

    def test_an_unknown_path_names_the_known_ones(self, collector):
        """A path that Micro does not have is answered 404 with those it has."""
        answer = get(collector, "/micro/ugly")

        assert answer.status_code == 404
        assert "/micro/good" in answer.text

    def test_a_schema_without_a_registry_is_not_found(self, collector):
        """Without a registry no schema is found."""
        answer = get(collector, "/micro/iglu/com.acme/plan/jsonschema/1-0-0")

        assert answer.status_code == 404
        assert "was given no Iglu registry" in answer.json()["message"]

    def test_numbers_beyond_a_double_stay_json(self, collector):
        """A number that is too large for a double does not make the answer invalid JSON."""
        post(
            collector,
            {**UNSTRUCT, "ue_pr": UNSTRUCT["ue_pr"].replace('"level": 1', '"level": 1e999')},
        )

        [good] = get(collector, "/micro/good").json()

        assert good["event"]["unstruct_event"]["data"]["data"] == {"level": "1E+999"}


class TestLife:
    """How a collector is made, started, asked and closed."""

    @pytest.mark.parametrize("host", ["0.0.0.0", "", "example.com", "192.0.2.1"])
    def test_another_address_than_loopback_is_refused(self, host):
        """The collector listens on loopback and nowhere else."""
        with pytest.raises(ValueError, match=r"^host: .* is not loopback"):
            LocalCollector(host=host)

    @pytest.mark.parametrize("port", [-1, 65_536])
    def test_a_port_that_is_none_is_refused(self, port):
        """A port outside TCP's range is an error at construction."""
        with pytest.raises(ValueError, match=r"^port: "):
            LocalCollector(port=port)

    @pytest.mark.parametrize(
        "path", ["com.acme/track", "/track", "/a/b/c", "/micro/good", "/a/<b>"]
    )
    def test_a_path_that_cannot_be_mapped_is_refused(self, path):
        """A path is a vendor and a version."""
        with pytest.raises(ValueError, match=r"^paths: "):
            LocalCollector(paths=[path])

    def test_localhost_is_loopback(self):
        """The collector can be asked for by the name localhost."""
        with LocalCollector(host="localhost") as collector:
            assert collector.endpoint == f"http://localhost:{collector.port}"
            assert exchange(collector, b"GET /health HTTP/1.0\r\n\r\n").endswith(b"ok")

    def test_a_closed_collector_keeps_its_events_and_can_start_again(self):
        """Events outlive the server, and come before those of the next start."""
        collector = LocalCollector()
        for page in "12":
            with collector:
                post(collector, {**EVENT, "page": page})
            assert "closed" in repr(collector)
            with pytest.raises(RuntimeError, match="not started"):
                _ = collector.endpoint

        assert [good["event"]["page_title"] for good in collector.good] == ["1", "2"]

    def test_starting_and_closing_twice_changes_nothing(self):
        """A second start keeps the port, a second close is silent."""
        collector = LocalCollector()
        collector.close()
        collector.start()
        port = collector.port
        collector.start()
        assert collector.port == port
        collector.close()
        collector.close()

    def test_a_taken_port_is_an_os_error(self, collector):
        """Two collectors cannot have one port, and the second says so."""
        second = LocalCollector(port=collector.port)

        with pytest.raises(OSError, match="in use"):
            second.start()
        second.close()

    def test_closing_is_quick_and_frees_the_port(self):
        """Idle connections do not hold the collector up, and its port is free at once."""
        collector = LocalCollector()
        collector.start()
        port = collector.port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            started = time.perf_counter()
            collector.close()
            assert time.perf_counter() - started < 10
            while connection.recv(4096):
                pass
            names = [thread.name for thread in threading.enumerate()]
            assert f"LocalCollector:{port}" not in names
            with LocalCollector(port=port) as again:
                assert get(again, "/health").text == "ok"

    def test_waiting_ends_with_the_last_event(self, collector):
        """Waiting is over as soon as the events are there, good and bad ones alike."""
        arrived = []
        waiting = threading.Thread(target=lambda: arrived.append(collector.wait_for(3)))
        waiting.start()
        post(collector, EVENT)
        post(collector, EVENT, BROKEN)
        waiting.join(10)

        assert arrived == [True]

    def test_waiting_ends_with_the_time(self, collector):
        """Waiting for what does not come is False when the time is up."""
        post(collector, EVENT)

        assert collector.wait_for(1, timeout=0) is True
        assert collector.wait_for(2, timeout=0.01) is False

    def test_what_is_returned_is_a_snapshot(self, collector):
        """Changing what was returned changes nothing in the collector."""
        post(collector, EVENT, BROKEN)

        collector.good[0]["event"].clear()
        collector.bad[0]["errors"].clear()
        collector.good.clear()

        assert collector.good[0]["event"]["platform"] == "srv"
        assert len(collector.bad[0]["errors"]) == 1

    def test_each_event_is_announced(self):
        """The callback gets each entry in Micro's shape, in the order of arrival."""
        entries = []
        with LocalCollector(on_event=entries.append) as collector:
            post(collector, BROKEN, EVENT)

            assert entries == [*collector.bad, *collector.good]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_forked_children_can_send_to_it(self, collector):
        """Events of forked children arrive, and a child cannot close its parent's collector."""

        def child():
            post(collector, EVENT)
            collector.close()
            os._exit(0)

        context = multiprocessing.get_context("fork")
        children = [context.Process(target=child) for _ in range(3)]
        for process in children:
            process.start()
        for process in children:
            process.join(10)

        assert collector.wait_for(3)
        assert post(collector, EVENT).status_code == 200
        assert collector.counts["good"] == 4

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_a_living_child_does_not_keep_the_port(self, collector):
        """The port is free after closing, though a forked child has a copy of the socket."""
        port = collector.port
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(ready, 1)  # until the parent closes its end
            os._exit(0)
        try:
            collector.close()
            with LocalCollector(port=port) as again:
                assert get(again, "/health").text == "ok"
        finally:
            os.close(go)
            os.close(ready)
            os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("package", "arguments"), [("werkzeug", ""), ("jsonschema_rs", "iglu='.'")]
)
def test_a_missing_extra_is_named(package, arguments):
    """Without the extra, the error says how to install it, and importing the module is fine."""
    program = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "from snowplow_logging.collector import LocalCollector\n"
        "try:\n"
        f"    LocalCollector({arguments})\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name, error)\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )

    assert run.stdout.startswith(package)
    assert "pip install 'snowplow-logging[collector]'" in run.stdout
