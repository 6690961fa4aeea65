"""Passwords, keys and the values of headers reach whom they are for, and are shown nowhere."""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import json
import logging
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import requests

from faulty_collector import Answer, FaultyCollector, nowhere
from helpers import NOWHERE, tracking
from secure_collector import SecureCollector
from snowplow_logging import SnowplowHandler
from snowplow_logging.settings import Settings

PAGE = {"event": "page_view", "page_url": "https://shop.example.com/"}
SECRET = "hush-hush"
TP2 = "/com.snowplowanalytics.snowplow/tp2"


def basic(pair):
    """Return the header that a user and a password make."""
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def with_credentials(endpoint, credentials):
    """Put credentials into a URL."""
    return endpoint.replace("://", f"://{credentials}@")


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    """Have a netrc file with an entry for this machine."""
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login somebody password else\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


class TestPasswords:
    """The user and the password of an endpoint."""

    @pytest.mark.parametrize(
        ("credentials", "pair"),
        [
            ("user:hush-hush", "user:hush-hush"),
            ("user", "user:"),
            (":hush-hush", ":hush-hush"),
            ("user:p%40ss%2Fw%3Ard", "user:p@ss/w:rd"),
            ("user:p@ss", "user:p@ss"),
            ("user:[hush", "user:[hush"),
            ("us%C3%A9r:h%C3%BCsh", "usér:hüsh"),
            ("user:a:b", "user:a:b"),
        ],
    )
    @pytest.mark.parametrize("method", ["post", "get"])
    def test_become_basic_authentication(self, credentials, pair, method):
        """They are decoded, and are no part of the URL that is asked for."""
        with FaultyCollector() as collector:
            endpoint = with_credentials(collector.endpoint, credentials)
            handler = SnowplowHandler(endpoint, method=method)
            handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
            assert handler.flush(20)
            handler.close()
            [request] = collector.requests
            assert request.headers["authorization"] == basic(pair)
            assert request.headers["host"] == collector.endpoint.removeprefix("http://")
            assert request.path == (TP2 if method == "post" else "/i")

    def test_a_header_that_is_given_wins(self):
        """Whoever gives an Authorization as well means that."""
        with FaultyCollector() as collector:
            endpoint = with_credentials(collector.endpoint, "user:hush")
            handler = SnowplowHandler(endpoint, headers={"authorization": "Bearer t"})
            handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
            assert handler.flush(20)
            handler.close()
            assert collector.requests[0].headers["authorization"] == "Bearer t"

    @pytest.mark.parametrize("answer", ["refused", "failing", "redirect", "nobody"])
    def test_are_shown_nowhere(self, answer, tmp_path, reports):
        """Neither in what is told of a failure, nor in a file, nor in what the handler is."""
        store, letters = tmp_path / "store.db", tmp_path / "dead.jsonl"
        told = []
        answers = {
            "refused": Answer(403),
            "failing": Answer(500),
            "redirect": Answer(302, {"Location": f"http://a:{SECRET}@h.example/x?token={SECRET}"}),
            "nobody": 200,
        }
        with FaultyCollector(default=answers[answer]) as collector:
            if answer == "nobody":
                collector.stop()
            handler = SnowplowHandler(
                with_credentials(collector.endpoint, f"user:{SECRET}"),
                headers={"X-Key": SECRET, "Cookie": SECRET},
                store=store,
                dead_letter=letters,
                max_attempts=2,
                max_retry_delay=0.05,
                on_failure=lambda events, reason: told.append(reason),
            )
            handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
            handler.emit(logging.makeLogRecord({"snowplow": {"event": "page_view"}}))
            assert handler.flush(20)
            shown = [repr(handler), str(handler.stats), repr(handler.settings), *told, *reports]
            shown.append(handler.settings.endpoint)
            shown.append(handler.settings.url)
            handler.close()
        files = []
        for file in tmp_path.iterdir():
            with contextlib.suppress(FileNotFoundError):  # SQLite removes its own when it closes
                files.append(file.read_bytes())
        assert told
        assert not any(SECRET in text for text in shown)
        assert not any(SECRET.encode() in text for text in files)
        secret = base64.b64encode(f"user:{SECRET}".encode())
        assert not any(secret in text for text in files)
        assert not any(secret.decode() in text for text in shown)

    def test_are_not_on_standard_error(self, tmp_path):
        """What a process says that ends with events which it could not send."""
        program = f"""
            import logging, sys
            from snowplow_logging import SnowplowHandler
            headers = {{"X": {SECRET!r}}}
            handler = SnowplowHandler(sys.argv[1], shutdown_timeout=0.3, headers=headers)
            logger = logging.getLogger("shop")
            logger.addHandler(handler)
            logger.error("x", extra={{"snowplow": {PAGE!r}}})
        """
        with nowhere() as endpoint:
            done = subprocess.run(
                [
                    *(sys.executable, "-c", textwrap.dedent(program)),
                    with_credentials(endpoint, f"user:{SECRET}"),
                ],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
        assert "127.0.0.1" in done.stderr
        assert SECRET not in done.stderr + done.stdout

    @pytest.mark.parametrize(
        "endpoint",
        [
            f"ftp://user:{SECRET}@h.example",
            f"http:/user:{SECRET}@h.example",
            f"http:user:{SECRET}@h.example",
            f"http://user:{SECRET}@h.example:port",
            f"http://user:{SECRET}@h.example:99999",
            f"http://user:{SECRET}@h.example:0",
            f"http://user:{SECRET}@",
            f"http://user:{SECRET}@h.example/?a=1",
            f"http://user:{SECRET}@h.example/#a",
            f"http://user:{SECRET}@[h.example",
            f"http://user:{SECRET}@h.example\n",
            f"http://user:{SECRET}\n@h.example",
            f"http://user:{SECRET}@h\x1b.example",
            f"http://user:{SECRET}@h\\.example",
            f"http://user:{SECRET}\ud800@h.example",
            f"http://user:1/{SECRET}@h.example",
            f"http://user:a/{SECRET}@h.example",
            f"http://user:a#{SECRET}@h.example",
            f"http://user:a?{SECRET}@h.example",
            f"http://user:{SECRET}@h..example",
            f"http://user:{SECRET}@{'h' * 80}.example",
            f"//user:{SECRET}@h.example",
            f"user:a://{SECRET}@h.example",
            f"http://user:{SECRET}@h.example".encode(),
            [f"http://user:{SECRET}@h.example"],
        ],
        ids=range(25),
    )
    def test_a_broken_endpoint_is_not_shown(self, endpoint):
        """The error names the setting; where the password begins nobody can say."""
        with pytest.raises((TypeError, ValueError), match=r"^endpoint ") as raised:
            SnowplowHandler(endpoint)
        assert SECRET not in "".join(_chain(raised.value))

    def test_settings_are_not_pickled(self):
        """A pickle would show them; a copy is the settings themselves."""
        settings = Settings(f"http://user:{SECRET}@h.example", headers={"X": SECRET})
        with pytest.raises(TypeError, match="passwords"):
            pickle.dumps(settings)
        assert copy.copy(settings) is settings
        assert copy.deepcopy(settings) is settings
        assert SECRET not in repr(settings)


def _chain(error):
    while error is not None:
        yield repr(error)
        error = error.__cause__ or error.__context__


class TestNetrc:
    """A netrc file, which `requests` reads unless it is kept from it."""

    @staticmethod
    def sent(**settings):
        """Return the Authorization that an event arrives with."""
        with FaultyCollector() as collector:
            user = settings.pop("user", None)
            endpoint = with_credentials(collector.endpoint, user) if user else collector.endpoint
            handler = SnowplowHandler(endpoint, **settings)
            handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
            assert handler.flush(20)
            handler.close()
            return collector.requests[0].headers.get("authorization")

    @pytest.mark.parametrize("method", ["post", "get"])
    def test_is_not_read(self, netrc, method):
        """Nobody asked for it, and over http it would be told to everyone."""
        assert self.sent(method=method) is None
        assert self.sent(method=method, headers={"Authorization": "Bearer t"}) == "Bearer t"
        assert self.sent(method=method, user="me:mine") == basic("me:mine")

    def test_a_session_may_read_it(self, netrc):
        """That is what a session of the user's does, but not against what the user gave."""
        assert self.sent(session=requests.Session()) == basic("somebody:else")
        given = {"Authorization": "Bearer t"}
        assert self.sent(session=requests.Session(), headers=given) == "Bearer t"
        assert self.sent(session=requests.Session(), user="me:mine") == basic("me:mine")
        session = requests.Session()
        session.headers.update(given)
        assert self.sent(session=session) == "Bearer t"

    def test_a_session_that_authenticates_does(self, netrc):
        """Its `auth` is the user's as well."""
        session = requests.Session()
        session.auth = ("me", "mine")
        assert self.sent(session=session) == basic("me:mine")

    def test_is_not_read_for_a_registry(self, netrc):
        """Nor is it for the schemas of an Iglu registry, whose URL may have credentials."""
        iglu = pytest.importorskip("snowplow_logging.iglu")
        with FaultyCollector(default=404) as registry:
            iglu.Iglu(registry.endpoint).find("iglu:a.b/c/jsonschema/1-0-0")
            url = with_credentials(registry.endpoint, f"me:{SECRET}")
            found = iglu.Iglu(url)
            found.find("iglu:a.b/c/jsonschema/1-0-0")
            assert SECRET not in repr(found)
        given = [request.headers.get("authorization") for request in registry.requests]
        assert given == [None, None, basic(f"me:{SECRET}"), basic(f"me:{SECRET}")]


class Text(str):
    """Text of a class of its own."""

    __slots__ = ()


BAD_HEADERS = {
    "a line break at the end": {"X-Key": f"{SECRET}\n"},
    "a line break": {"X-Key": f"a\r\nX-Other: {SECRET}"},
    "a carriage return": {"X-Key": f"{SECRET}\r"},
    "a leading space": {"X-Key": f" {SECRET}"},
    "a leading tab": {"X-Key": f"\t{SECRET}"},
    "NUL": {"X-Key": f"{SECRET}\0"},
    "an escape": {"X-Key": f"{SECRET}\x1b[31m"},
    "DEL": {"X-Key": f"{SECRET}\x7f"},
    "beyond Latin-1": {"X-Key": f"{SECRET}€"},
    "half a character": {"X-Key": f"{SECRET}\ud800"},
    "a subclass": {"X-Key": Text(f"{SECRET}\n")},
    "bytes": {"X-Key": SECRET.encode()},
    "None": {"X-Key": None},
    "a number": {"X-Key": 5},
    "a name of bytes": {b"X-Key": SECRET},
    "an empty name": {"": SECRET},
    "a name with a space": {f"X Key {SECRET}": "x"},
    "a name with a colon": {f"Authorization: {SECRET}": ""},
    "a name with a line break": {f"X\n{SECRET}": "x"},
    "a name beyond ASCII": {f"X-Kéy-{SECRET}": "x"},
    "Transfer-Encoding": {"transfer-encoding": SECRET},
    "Content-Length": {"Content-Length": SECRET},
    "Content-Type": {"CONTENT-TYPE": SECRET},
    "Content-Encoding": {"Content-Encoding": SECRET},
    "Connection": {"Connection": SECRET},
    "twice": {"X-Key": SECRET, "x-key": "other"},
    "no dict": [("X-Key", SECRET)],
    "text": SECRET,
    "too much": {"X-Key": SECRET * 10_000},
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_headers_that_cannot_be_sent_are_errors(name):
    """They are refused where they are given, and the error does not show what they are."""
    with pytest.raises((TypeError, ValueError), match=r"^headers ") as raised:
        SnowplowHandler(NOWHERE, headers=BAD_HEADERS[name])
    assert SECRET not in "".join(_chain(raised.value))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Key": ""},
        {"X-Key": "a b\tc"},
        {"X-Key": "h\xfcsh"},
        {Text("X-Key"): Text("a")},
        {"Host": "collector.example.com"},
        {"Connection": "close"},
        {"!#$%&'*+-.^_`|~": "a"},
    ],
    ids=["empty", "spaces", "Latin-1", "subclass", "Host", "Connection", "signs"],
)
@pytest.mark.parametrize("method", ["post", "get"])
def test_headers_that_can_be_sent_are(headers, method):
    """Nothing is refused that HTTP carries."""
    with FaultyCollector() as collector:
        handler = SnowplowHandler(collector.endpoint, headers=headers, method=method)
        handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
        assert handler.flush(20)
        handler.close()
        [request] = collector.requests
        assert {name: request.headers[name.lower()] for name in headers} == headers


async def coroutine(*_):
    """Do nothing, once somebody awaits it."""


def generator(*_):
    """Do nothing, once somebody iterates over it."""
    yield


async def asynchronous_generator(*_):
    """Do nothing, once somebody iterates over it."""
    yield


class Asynchronous:
    """An object that is called like a coroutine function."""

    async def __call__(self, *_):
        """Do nothing."""

    async def method(self, *_):
        """Do nothing."""


LATER = {
    "coroutine": coroutine,
    "partial": functools.partial(functools.partial(coroutine, 1), 2),
    "object": Asynchronous(),
    "partial of an object": functools.partial(Asynchronous(), 1),
    "method": Asynchronous().method,
    "generator": generator,
    "asynchronous generator": asynchronous_generator,
}


@pytest.mark.parametrize("setting", ["on_success", "on_failure", "before_send", "json_default"])
@pytest.mark.parametrize("kind", LATER)
def test_callbacks_that_nobody_awaits_are_errors(setting, kind):
    """A coroutine function would only ever return what is thrown away."""
    with pytest.raises(TypeError, match=rf"^{setting} "):
        SnowplowHandler(NOWHERE, **{setting: LATER[kind]})
    with pytest.raises(TypeError, match=r"^context "):
        SnowplowHandler(NOWHERE, context=[LATER[kind]])


@pytest.mark.parametrize(
    "timeout",
    [float("inf"), float("nan"), 0, -1, True, "3", 1e300, 10**400, (3, float("inf")), (False, 1)],
    ids=str,
)
def test_timeouts_that_cannot_be_waited_are_errors(timeout):
    """They are refused where they are given, and not by the socket at each request."""
    with pytest.raises((TypeError, ValueError), match=r"^timeout "):
        SnowplowHandler(NOWHERE, timeout=timeout)


@pytest.mark.parametrize("setting", ["flush_interval", "max_retry_delay", "block_timeout"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 10**400, -1], ids=str)
def test_other_times_that_cannot_be_waited_are_errors(setting, value):
    """Each number that no clock counts to."""
    with pytest.raises(ValueError, match=rf"^{setting} "):
        SnowplowHandler(NOWHERE, **{setting: value})


@pytest.mark.parametrize(
    ("endpoint", "settings", "url"),
    [
        (f"http://a.example{TP2}", {}, f"http://a.example{TP2}"),
        (f"http://a.example{TP2}/", {}, f"http://a.example{TP2}"),
        (f"a.example/proxy{TP2}", {}, f"https://a.example/proxy{TP2}"),
        ("http://a.example/i", {"method": "get"}, "http://a.example/i"),
        ("http://a.example/i/", {"method": "get"}, "http://a.example/i"),
        (f"http://a.example{TP2}", {"method": "get"}, "http://a.example/i"),
        ("http://a.example/b/c", {"path": "/b/c"}, "http://a.example/b/c"),
        ("http://a.example/b/c", {"path": "c"}, "http://a.example/b/c"),
        (f"http://a.example{TP2}", {"path": "/b/c"}, "http://a.example/b/c"),
        ("http://a.example/base", {}, f"http://a.example/base{TP2}"),
        ("http://a.example/pi", {"method": "get"}, "http://a.example/pi/i"),
        ("http://i", {"method": "get"}, "http://i/i"),
    ],
)
def test_a_path_is_not_given_twice(endpoint, settings, url):
    """The URL that a collector was seen to answer at can be given as it is."""
    assert Settings(endpoint, **settings).url == url


class TestErrors:
    """What `requests` and urllib3 raise, whose words may quote what they were given."""

    @staticmethod
    def last_error(**settings):
        """Return what is said of an event that cannot be sent."""
        with FaultyCollector(default=200) as collector:
            handler = SnowplowHandler(
                collector.endpoint, max_attempts=1, shutdown_timeout=1, **settings
            )
            handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
            handler.flush(20)
            error = handler.stats.last_error
            handler.close()
            return error

    def test_do_not_quote_a_header_of_a_session(self):
        """A session's own headers are looked at by `requests`, when it sends."""
        session = requests.Session()
        session.headers["X-Key"] = f"{SECRET}\n"
        error = self.last_error(session=session)
        assert "InvalidHeader" in error or "ValueError" in error  # by the version of requests
        assert SECRET not in error

    @pytest.mark.parametrize(
        "proxy",
        [
            f"http://me:{SECRET}@[h.example",
            f"http://me:{SECRET}@h.example:port",
            f"http://me:{SECRET}@h.example:99999",
            f"http://me:a/{SECRET}@h.example",
            f"http://me:{SECRET}/b@h.example",
            f"what://me:{SECRET}@127.0.0.1:9",
            f"http://me:{SECRET}@127.0.0.1:9",
        ],
        ids=["brackets", "port", "large port", "slash before", "slash", "scheme", "closed"],
    )
    @pytest.mark.parametrize("whose", ["session", "environment"])
    def test_do_not_quote_a_proxy(self, proxy, whose, monkeypatch):
        """The URL of a proxy may have a password, and is quoted where it is broken."""
        for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        session = None
        if whose == "session":
            session = requests.Session()
            session.proxies = {"http": proxy}
        else:
            monkeypatch.setenv("http_proxy", proxy)
        error = self.last_error(session=session)
        assert error
        assert SECRET not in error

    def test_do_not_quote_what_a_session_knows(self):
        """An error of anybody's is shown, less the secrets that the session has."""

        class Session(requests.Session):
            def request(self, *args, **kwargs):
                raise RuntimeError(f"no access for me with {SECRET}, {self.headers['X-Key']}")

        session = Session()
        session.auth = requests.auth.HTTPBasicAuth("me", SECRET)
        session.headers["X-Key"] = "another-key"
        error = self.last_error(session=session)
        assert "no access for me" in error
        assert SECRET not in error
        assert "another-key" not in error


CONTROLS = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202egnirts\u2028\x85"


class TestWhatTheCollectorSays:
    """The words of an answer are a stranger's."""

    @pytest.mark.parametrize(
        "raw",
        [
            f"HTTP/1.1 403 {CONTROLS}\r\nContent-Length: 0\r\n\r\n",
            f"HTTP/1.1 302 Found\r\nLocation: http://h/{CONTROLS}\r\nContent-Length: 0\r\n\r\n",
            f"{CONTROLS} what is this\r\n\r\n",
            f"HTTP/1.1 {CONTROLS}\r\n\r\n",
        ],
        ids=["reason", "location", "status line", "status"],
    )
    def test_has_no_control_characters(self, raw, reports):
        """Neither in what is reported, nor in `last_error` and what callbacks get."""
        told = []
        answer = Answer(raw=raw.encode("utf-8"), close=True)
        with FaultyCollector(default=answer) as collector:
            handler = SnowplowHandler(
                collector.endpoint,
                max_attempts=1,
                on_failure=lambda events, reason: told.append(reason),
            )
            handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
            assert handler.flush(20)
            told.append(handler.stats.last_error)
            handler.close()
        assert reports
        for text in [*told, *reports]:
            assert text.isprintable()

    def test_is_short(self, reports):
        """A reason of 60,000 characters fills no log."""
        raw = b"HTTP/1.1 403 " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"
        with FaultyCollector(default=Answer(raw=raw)) as collector, tracking(collector) as tracked:
            tracked.log(PAGE)
            assert tracked.handler.flush(20)
            assert len(tracked.handler.stats.last_error) < 1_000


class TestTLS:
    """Certificates are verified, by what the environment names."""

    @pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", ""])
    def test_is_verified(self, name, certificate, monkeypatch):
        """A certificate of nobody's is refused, and taken where a variable names it."""
        for other in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(other, raising=False)
        if name:
            monkeypatch.setenv(name, str(certificate))
        settings = {"max_attempts": 1}
        with SecureCollector(certificate) as collector, tracking(collector, **settings) as tracked:
            tracked.log(PAGE)
            assert tracked.handler.flush(20)
            stats = tracked.handler.stats
        assert (stats.sent, stats.failed) == ((1, 0) if name else (0, 1))
        if not name:
            assert "certificate verify failed" in stats.last_error

    def test_a_collector_without_it(self, collector):
        """What answers in plain text is known as that, and not by an error of OpenSSL alone."""
        handler = SnowplowHandler(collector.endpoint.replace("http", "https"), max_attempts=1)
        handler.emit(logging.makeLogRecord({"snowplow": PAGE}))
        assert handler.flush(20)
        said = handler.stats.last_error
        handler.close()
        assert "where it speaks no TLS, give its URL with http://" in said

    def test_what_requests_documents_comes_first(self, certificate, monkeypatch, tmp_path):
        """A file of OpenSSL's variable does not replace that of REQUESTS_CA_BUNDLE."""
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with SecureCollector(certificate) as collector, tracking(collector) as tracked:
            tracked.log(PAGE)
            assert tracked.handler.flush(20)
            assert tracked.handler.stats.sent == 1


def test_replay_shows_no_password(tmp_path, capsys):
    """Neither on the terminal, nor in the resume point."""
    from snowplow_logging.cli import main

    file, resume = tmp_path / "dead.jsonl", tmp_path / "resume"
    event = {"e": "pv", "eid": "0f8fad5b-d9cb-469f-a165-70867728950e", "p": "srv", "tv": "x"}
    file.write_text(f"{json.dumps({'snowplow': event})}\n")
    with FaultyCollector(default=403) as collector:
        endpoint = with_credentials(collector.endpoint, f"user:{SECRET}")
        status = main(["replay", str(file), "--endpoint", endpoint, "--resume", str(resume)])
        assert collector.requests[0].headers["authorization"] == basic(f"user:{SECRET}")
    said = capsys.readouterr()
    assert status == 1
    assert "refused" in said.err
    assert SECRET not in said.out + said.err + resume.read_text()
    assert SECRET not in os.fsdecode(b"".join(f.read_bytes() for f in tmp_path.iterdir()))
