"""The local collector among strangers: pages of other sites, and clients that behave badly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections import deque
from pathlib import Path

import pytest
import requests

from snowplow_logging.collector import LocalCollector

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

TP2 = "/com.snowplowanalytics.snowplow/tp2"
PIXEL = "/i?tv=t&p=srv&e=pv&url=https%3A%2F%2Fshop.example.com%2F"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SOON = 30  # seconds that anything may take


@pytest.fixture(scope="module")
def impatient():
    """Start a collector that waits for nobody for long."""
    with LocalCollector(idle_seconds=0.5) as running:
        yield running


@pytest.fixture
def collector(impatient):
    """Give the collector with one event."""
    impatient.reset()
    requests.get(impatient.endpoint + PIXEL, timeout=SOON)
    return impatient


def ask(collector, path, method="GET", **headers):
    """Ask with headers, the names in Python's spelling."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, collector.endpoint + path, headers=named, timeout=SOON)


@pytest.fixture
def launch():
    """Start the command as a process of its own, and end it."""
    with contextlib.ExitStack() as started:

        def start(*arguments, code=None):
            program = ["-c", textwrap.dedent(code)] if code else ["-m", "snowplow_logging"]
            process = started.enter_context(
                subprocess.Popen(
                    [sys.executable, *program, "collector", "--port", "0", *arguments],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    # So that on Linux who reads beyond a block of memory comes upon nothing.
                    env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4096"},
                )
            )
            started.callback(process.kill)
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                found = re.search(r"http://[^ \"/]+:([0-9]+)", line)
            return process, int(found[1])

        yield start


class TestPagesOfOtherSites:
    """What a browser sends for a page that is not the collector's."""

    @pytest.mark.parametrize("path", ["/micro/good", "/micro/reset", "/micro/ui/state", "/"])
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
            {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors", "Origin": "null"},
            {"Host": "evil.example"},
            {"Host": "evil.example:9090"},
            {"Sec_Fetch_Site": "Cross-Site", "Sec_Fetch_Mode": "no-cors"},
            {"Sec_Fetch_Site": "of a later browser", "Sec_Fetch_Mode": "no-cors"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "localhost.evil.example"},
            {"Host": "collector"},
            {"Host": "192.0.2.1"},
            {"Host": "2130706433"},
        ],
        ids=str,
    )
    def test_are_told_nothing_and_change_nothing(self, collector, path, method, headers):
        """DNS rebinding, a frame, a form, a script, an image: all of them are refused."""
        if path == "/" and headers == {"Sec_Fetch_Site": "cross-site"} and method == "GET":
            pytest.skip("a link to the page is followed")
        answer = ask(collector, path, method, **headers)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert "shop.example.com" not in answer.text
        assert collector.counts["total"] == 1

    @pytest.mark.parametrize(
        "headers",
        [
            {"Referer": "https://evil.example/page", "User_Agent": BROWSER},
            {"Referer": "https://evil.example/", "User_Agent": "curl/8"},
            {"User_Agent": BROWSER},
        ],
        ids=["an image", "any", "no referrer"],
    )
    def test_change_nothing_by_a_get_of_an_old_browser(self, collector, headers):
        """One that sends no `Sec-Fetch-…` says by its Referer, or by nothing at all."""
        answer = ask(collector, "/micro/reset", **headers)
        assert answer.status_code == 403
        assert collector.counts["total"] == 1

    def test_may_be_a_link_to_the_page(self, collector):
        """It leads there, and tells the other site nothing."""
        elsewhere = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        answer = ask(collector, "/", Referer="https://a.example/", User_Agent=BROWSER, **elsewhere)
        assert answer.status_code == 200
        assert ask(collector, "/micro/ui", Referer="https://a.example/").status_code == 200
        assert ask(collector, "/micro/reset", **elsewhere).status_code == 403
        assert ask(collector, "/micro/good", **elsewhere).status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Sec_Fetch_Site": "same-origin", "User_Agent": BROWSER},
            {"Sec_Fetch_Site": "none", "User_Agent": BROWSER},
            {"Origin": "OWN", "User_Agent": BROWSER},
            {"Referer": "OWN/micro/ui", "User_Agent": BROWSER},
        ],
        ids=["curl", "the page", "typed", "old", "older"],
    )
    def test_are_told_from_the_collectors_own(self, collector, headers):
        """curl, the page itself and who types the address get what they ask for."""
        own = {name: value.replace("OWN", collector.endpoint) for name, value in headers.items()}
        assert ask(collector, "/micro/good", **own).status_code == 200
        assert ask(collector, "/micro/reset", **own).status_code == 200
        assert collector.counts["total"] == 0

    def test_may_send_events(self, collector):
        """That is what the real one takes from every site, with CORS."""
        headers = {"Origin": "https://shop.example.com", "Host": "collector.example.com"}
        answer = ask(collector, PIXEL, Sec_Fetch_Site="cross-site", **headers)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example.com"
        assert collector.counts["total"] == 2


class TestNetworks:
    """A collector that others are to reach, such as the containers of a compose file."""

    def test_are_named_when_it_is_open_to_them(self, launch):
        """It says what it opens, and where to look at it from here."""
        process, port = launch("--host", "0.0.0.0", "--name", "micro.test.svc")
        assert requests.get(f"http://127.0.0.1:{port}/micro/all", timeout=SOON).ok
        for name in ("micro.test.svc", "collector", "192.0.2.7", "[2001:db8::1]:9090", "localhost"):
            answer = requests.get(
                f"http://127.0.0.1:{port}/micro/all", headers={"Host": name}, timeout=SOON
            )
            assert answer.status_code == 200, name
        for name in ("evil.example", "evil.collector.example:9090", "a b", "collector."):
            answer = requests.get(
                f"http://127.0.0.1:{port}/micro/all", headers={"Host": name}, timeout=SOON
            )
            assert answer.status_code == 403, name
        process.terminate()
        assert process.wait(SOON) == 0
        assert f"whoever reaches port {port} of 0.0.0.0 sees the events" in process.stderr.read()

    def test_are_kept_out_where_nobody_asked_for_them(self, launch):
        """Loopback says nothing of a network, and listens on none."""
        process, port = launch()
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=SOON).ok
        process.terminate()
        assert process.wait(SOON) == 0
        assert "network" not in process.stderr.read()
        with pytest.raises(ValueError, match="allow_network"):
            LocalCollector("0.0.0.0")

    def test_a_host_that_is_none_is_said(self, launch, capsys):
        """In a sentence."""
        from snowplow_logging.cli import main

        assert main(["collector", "--host", "no.such.host.invalid", "--port", "0"]) == 1
        assert "cannot be used on no.such.host.invalid" in capsys.readouterr().err


def vanish(port, data):
    """Send a part of a request, and go away."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(data)


def raw(port, data):
    """Send raw bytes, and return all that comes back until the collector ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.sendall(data)
        blocks = []
        while block := connection.recv(65_536):
            blocks.append(block)
    return b"".join(blocks)


CHUNKED = f"POST {TP2} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


class TestBadClients:
    """Clients that go away, that say nothing, or that say it slowly."""

    @pytest.mark.parametrize(
        "body",
        [
            b"ffff\r\nabc",
            b"ffffff\r\n" + b"x" * 40_000,
            b"fff",
            b"",
            b"3\r\nabc",
            b"3\r\nabc\r\n0\r\n",
        ],
        ids=["in a chunk", "in a long one", "in a length", "at once", "after one", "in the end"],
    )
    def test_one_that_vanishes_inside_a_chunked_body_kills_nobody(self, launch, body):
        """The process read beyond its memory, in the dechunker of werkzeug."""
        process, port = launch("--quiet")
        for _ in range(40):
            vanish(port, CHUNKED.encode() + b"\r\n" + body)
        counts = requests.get(f"http://127.0.0.1:{port}/micro/all", timeout=SOON).json()
        assert process.poll() is None
        assert counts == {"total": 0, "good": 0, "bad": 0}

    @pytest.mark.parametrize(
        ("head", "body", "status"),
        [
            ("", b"zz\r\n", 400),
            ("", b"-5\r\nabc\r\n", 400),
            ("", b"+3\r\nabc\r\n0\r\n\r\n", 400),
            ("", b"0x3\r\nabc\r\n0\r\n\r\n", 400),
            ("", b"3\r\nabcd\r\n0\r\n\r\n", 400),
            ("", b"1" * 5_000, 400),
            ("", b"f" * 17 + b"\r\n", 400),
            ("Content-Length: 3\r\n", b"3\r\nabc\r\n0\r\n\r\n", 400),
            ("", b"0\r\n" + b"x: y\r\n" * 10_000 + b"\r\n", 431),
        ],
        ids=range(9),
    )
    def test_a_body_that_makes_no_sense_is_refused(self, collector, head, body, status):
        """And the connection ends, because nobody can say where the next request begins."""
        answer = raw(collector.port, CHUNKED.encode() + head.encode() + b"\r\n" + body)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert collector.counts["total"] == 1

    @pytest.mark.parametrize(
        "line",
        [b"Transfer-Encoding : chunked", b"nonsense", b": x", b"X-K\xe9y: x", b" X: y"],
        ids=["a space", "no colon", "no name", "a letter beyond ASCII", "a continuation"],
    )
    def test_a_line_that_is_no_header_is_refused(self, collector, line):
        """Python reads no header after it, and so nobody knows how long the body is."""
        head = b"POST %b HTTP/1.1\r\n%b\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
        answer = raw(collector.port, head % (TP2.encode(), line))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert collector.counts["total"] == 1

    def test_a_form_is_no_bad_header(self, collector):
        """Python complains of it as well; Enrich has the last word on such a body."""
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = requests.post(collector.endpoint + TP2, data=b"{}", headers=kind, timeout=SOON)
        assert answer.status_code == 200
        assert collector.counts["bad"] == 1

    @pytest.mark.parametrize("path", ["good", "bad", "events", "timeline", "columnStats"])
    def test_a_question_that_is_nested_too_deeply_is_refused(self, collector, path):
        """It is no error of the collector's."""
        answer = requests.post(f"{collector.endpoint}/micro/{path}", "[" * 200_000, timeout=SOON)
        assert answer.status_code == 400

    @pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "chunked, chunked"])
    def test_other_codings_are_refused(self, collector, coding):
        """What is in such a body is not known."""
        head = f"POST {TP2} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n"
        assert raw(collector.port, head.encode()).startswith(b"HTTP/1.1 501 ")

    @pytest.mark.parametrize("length", ["+2", "-2", "2, 3", "1_0", "٢", "0x2", "", "9" * 5_000])
    def test_lengths_that_are_none_are_refused(self, collector, length):
        """Python reads more as a number than HTTP does."""
        head = f"POST {TP2} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{{}}"
        assert raw(collector.port, head.encode()).startswith(b"HTTP/1.1 400 ")

    def test_chunks_are_read(self, collector):
        """With extensions, in either case, with trailers, and as many requests as come."""
        data = {"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"}
        event = {"tv": "t", "p": "srv", "e": "pv", "url": "https://shop.example.com/"}
        text = json.dumps({**data, "data": [event]}).encode()
        head = CHUNKED.encode() + b"Content-Type: application/json\r\n\r\n"
        one = head + b"A;a=b\r\n%b\r\n%x \r\n%b\r\n0\r\nX: y\r\n\r\n"
        one %= (text[:10], len(text) - 10, text[10:])
        last = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answer = raw(collector.port, one * 3 + last)
        assert answer.count(b"HTTP/1.1 200 OK") == 4
        assert collector.counts == {"total": 4, "good": 4, "bad": 0}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /hea",
            b"GET /health HTTP/1.1\r\nHost: ",
            b"POST /i HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
            CHUNKED.encode() + b"\r\nff\r\nabc",
        ],
        ids=["nothing", "idle", "a line", "a header", "a body", "a chunk"],
    )
    def test_a_connection_on_which_nothing_comes_is_ended(self, collector, data):
        """However far the request has come."""
        begin = time.monotonic()
        raw(collector.port, data)
        assert time.monotonic() - begin < SOON

    @pytest.mark.parametrize("where", ["headers", "body", "refused"])
    def test_a_client_that_is_slow_on_purpose_is_ended(self, collector, where):
        """A byte now and then does not keep a connection: a request has one time for all of it."""
        head = b"GET /health HTTP/1.1\r\nHost: a\r\n"
        if where == "body":
            head = b"POST /i HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
        elif where == "refused":
            head = b"GET /health\r\n" * 3
        begin = time.monotonic()
        with (
            socket.create_connection(("127.0.0.1", collector.port), timeout=SOON) as connection,
            contextlib.suppress(OSError),
        ):
            connection.sendall(head)
            while time.monotonic() - begin < 2 * SOON:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begin < SOON

    def test_a_busy_connection_stays(self, collector):
        """What ends is a connection that nobody uses, not one that is old."""
        with requests.Session() as session:
            begin = before = time.monotonic()
            ports = set()
            late = 0  # a machine that stood still for so long may have cost a connection
            while time.monotonic() - begin < 1.5:
                answer = session.get(f"{collector.endpoint}/health", timeout=SOON, stream=True)
                ports.add(answer.raw.connection.sock.getsockname())
                assert answer.text == "ok"
                time.sleep(0.05)
                before, last = time.monotonic(), before
                late += before - last > 0.4
            assert len(ports) <= 1 + late


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are asked for as on Linux")
def test_a_shortage_of_descriptors_costs_no_busy_loop(launch):
    """It looks for the next connection a moment later, and ends idle ones to have room."""
    code = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        from snowplow_logging.cli import main
        main(sys.argv[1:])
    """
    process, port = launch("--quiet", code=code)

    def busy_seconds():
        with Path(f"/proc/{process.pid}/stat").open() as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with contextlib.ExitStack() as opened:
        held = deque()
        for number in range(60):
            address = ("127.0.0.1", port)
            connection = opened.enter_context(socket.create_connection(address, timeout=SOON))
            # Half of them have begun a request, and are not idle.
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n" if number < 50 else b"")
            held.append(connection)
        before = busy_seconds()
        time.sleep(2)
        assert busy_seconds() - before < 1.0
        for connection in held:
            connection.close()
    answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=SOON)
    assert answer.text == "ok"
    assert process.poll() is None


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there is no terminal to print to")
@pytest.mark.parametrize("form", ["--output-tsv", "--output-json", "--log-json"])
def test_events_do_not_steer_the_terminal(form):
    """Whatever came over the wire is shown, and not obeyed."""
    leader, follower = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "snowplow_logging", "collector", "--port", "0", form],
            stdout=follower,
            stderr=subprocess.PIPE if form.startswith("--output") else follower,
            text=True,
        ) as process:
            try:
                shown = b""
                if form.startswith("--output"):
                    text = process.stderr.readline()
                else:
                    while not (shown := shown + os.read(leader, 65_536)).count(b"\n"):
                        pass
                    text = shown.decode()
                port = re.search(r"http://[^ \"/]+:([0-9]+)", text)[1]
                page = "%1B%5D0%3Btitle%07%C2%9B2J%E2%80%AE"
                url = f"http://127.0.0.1:{port}{PIXEL}&page=a{page}"
                requests.get(url, timeout=SOON)
                shown = b""
                while b"\n" not in shown:
                    shown += os.read(leader, 65_536)
            finally:
                process.terminate()
                process.wait(SOON)
    finally:
        os.close(leader)
        os.close(follower)
    text = shown.decode()
    assert "shop.example.com" in text
    assert not {*"\x1b\x07\x9b\u202e"} & {*text}
