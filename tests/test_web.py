"""The middleware: what a request says of whoever makes it, and for how long that holds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import tracking
from snowplow_logging import PageView, SnowplowAdapter, carry, subject_context
from snowplow_logging.protocol import Refused
from snowplow_logging.testing import capture_events
from snowplow_logging.urls import page_uri, referrer_uri
from snowplow_logging.web import SnowplowMiddleware
from snowplow_logging.web.cookies import ids_in_cookies
from snowplow_logging.web.proxies import TrustedProxies, client_address, hops_of

pytestmark = pytest.mark.every_python

USER, SESSION, NETWORK = (
    "b5ab1bd0-1b0c-4c1e-9f0a-1f2e3d4c5b6a",
    "0fde5a33-b8a5-4e21-8a67-3d9f5b3d9a11",
    "5f8a0a3e-2c7d-4b1f-b3a5-6e2f1c9d8e70",
)
ID_COOKIE = f"{USER}.1616161616.3.1616161777.1616161700.{SESSION}"
LATIN_1 = st.text(st.characters(max_codepoint=255))


class TestClientAddress:
    """Whose address a request has."""

    TRUSTED = ("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48", "::ffff:192.0.2.0/120")

    @pytest.mark.parametrize(
        ("peer", "header", "client"),
        [
            ("127.0.0.1", "", "127.0.0.1"),
            ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("127.0.0.1", "203.0.113.1, 198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
            ("10.0.0.1", "203.0.113.1,198.51.100.7,10.9.9.9,127.0.0.1", "198.51.100.7"),
            ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
            ("2001:db8:1::7", "198.51.100.7", "198.51.100.7"),
            ("2001:db8:2::7", "198.51.100.7", "2001:db8:2::7"),
            ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.9", "203.0.113.1", "198.51.100.9"),
            ("fe80::1%eth0", "203.0.113.1", "fe80::1"),
            ("127.0.0.1", "198.51.100.7, unknown", "127.0.0.1"),
            ("127.0.0.1", "198.51.100.7, ", "127.0.0.1"),
            ("127.0.0.1", "10.0.0.2", "10.0.0.2"),
            ("198.51.100.9", "203.0.113.1", "198.51.100.9"),
            ("", "203.0.113.1", None),
            ("testclient", "203.0.113.1", None),
        ],
    )
    def test_read_from_the_right(self, peer, header, client):
        """It is read from its end, as far as the addresses are those of trusted proxies."""
        proxies = TrustedProxies(self.TRUSTED)
        assert client_address(peer, hops_of("x-forwarded-for", header), proxies) == client

    def test_a_unix_socket(self):
        """Who connects through a Unix socket is believed where that was said."""
        hops = ["198.51.100.7"]
        assert client_address("", hops, TrustedProxies(["unix"])) == "198.51.100.7"
        assert client_address("", hops, TrustedProxies(["10.0.0.0/8"])) is None

    @pytest.mark.parametrize(
        ("header", "client"),
        [
            ("for=198.51.100.7;proto=http;by=203.0.113.43", "198.51.100.7"),
            ('for=203.0.113.1, FOR="[2001:db8::1]:4711"', "2001:db8::1"),
            ("for=203.0.113.1, for=198.51.100.7;by=10.0.0.1, for=10.0.0.9", "198.51.100.7"),
            ('for="_secret", for=198.51.100.7', "198.51.100.7"),
            ("for=203.0.113.1, for=unknown", "127.0.0.1"),
            ("for=203.0.113.1, proto=http", "127.0.0.1"),
            ('for="203.0.113.1, for=198.51.100.7', "198.51.100.7"),
            ('for="203.0.113.1, for=198.51.100.7;by="x"', "127.0.0.1"),
            ('by="a, for=203.0.113.1", for=198.51.100.7', "198.51.100.7"),
            ("", "127.0.0.1"),
        ],
    )
    def test_forwarded(self, header, client):
        """So is the header of RFC 7239, quotes and all."""
        proxies = TrustedProxies(self.TRUSTED)
        assert client_address("127.0.0.1", hops_of("forwarded", header), proxies) == client

    @given(st.sampled_from(["forwarded", "x-forwarded-for"]), LATIN_1, LATIN_1)
    def test_anything(self, name, header, peer):
        """Whatever stands in a header, no stranger's word counts, and nothing raises."""
        proxies = TrustedProxies(["10.0.0.0/8"])
        assert client_address("198.51.100.9", hops_of(name, header), proxies) == "198.51.100.9"
        client_address(peer, hops_of(name, header), proxies)

    @pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for"])
    @pytest.mark.parametrize(
        "unit", [" ", "a", "for=", "for=a,", 'for="', "\\", "[", "1.", ":", "for=[", '="\\"', " ;"]
    )
    def test_long(self, name, unit):
        """A header that is made for it takes no longer than it is: hours otherwise, of this one."""
        assert len(hops_of(name, unit * 200_000)) > 0

    @pytest.mark.parametrize("proxies", ["10.0.0.0/8", 5, None])
    def test_no_list(self, proxies):
        """A text is no list of them."""
        with pytest.raises(TypeError, match="trusted_proxies"):
            SnowplowMiddleware(print, trusted_proxies=proxies)

    @pytest.mark.parametrize("proxy", ["*", "localhost", "10.0.0.0/64", ""])
    def test_no_address(self, proxy):
        """What is no address is named where it is given."""
        with pytest.raises(ValueError, match=r"trusted_proxies\[1\]"):
            SnowplowMiddleware(print, trusted_proxies=["10.0.0.1", proxy])


class TestCookies:
    """The cookies of Snowplow's JavaScript tracker and collector."""

    @pytest.mark.parametrize(
        ("cookies", "user", "visits", "session"),
        [
            (f"_sp_id.1fff={ID_COOKIE}", USER, 3, SESSION),
            (f"a=b; _sp_id.1fff={ID_COOKIE}; _sp_ses.1fff=*", USER, 3, SESSION),
            (f"_sp_id.1fff={ID_COOKIE}.{NETWORK}.{USER}.1616161777123.4", USER, 3, SESSION),
            (f"_sp_id.1fff={ID_COOKIE}....0", USER, 3, SESSION),
            (f"_sp_id.1fff={USER}.1616161616.1.1616161777..{SESSION}....", USER, 1, SESSION),
            ("_sp_id.1fff=0123456789abcdef.1616161616.1.1616161777.1", "0123456789abcdef", 1, None),
            (f"_sp_id.1fff={USER}.1616161616.1.1616161777.1.ses", USER, 1, None),
            (
                f"_sp_id.1={SESSION}.1.1.16.1.; _sp_id.2={ID_COOKIE}; _sp_id.3={SESSION}.1.1.17.1.",
                USER,
                3,
                SESSION,
            ),
        ],
    )
    def test_as_the_tracker_writes_them(self, cookies, user, visits, session):
        """Each form that its versions write gives user, index and session; the latest counts."""
        ids = {
            "domain_user_id": user,
            "domain_session_index": visits,
            "domain_session_id": session,
        }
        assert ids_in_cookies(cookies) == {k: v for k, v in ids.items() if v is not None}

    def test_of_the_collector(self):
        """The collector's own names the network user, under the name that it has there."""
        assert ids_in_cookies(f"sp={NETWORK}") == {"network_user_id": NETWORK}
        own = ids_in_cookies(f"shop={NETWORK}; x_id.1={ID_COOKIE}", "x_", "shop")
        assert (own["network_user_id"], own["domain_user_id"]) == (NETWORK, USER)

    @pytest.mark.parametrize(
        "cookie",
        [
            "sp=<script>",
            f"sp={NETWORK}x",
            "sp=",
            "_sp_id.1fff=",
            "_sp_id.1fff",
            f"_sp_id.1fff=<b>.1.1.1.1.{SESSION}",
            f"_sp_id.1fff={'9' * 400}.1.1.1.1.{SESSION}",
            f"_sp_id.1fff={USER}.1.{'9' * 4000}.1.1.{SESSION}",
            f"_sp_id.1fff={USER}.1.-1.1.1.{SESSION}",
            f"_sp_id.1fff={USER}.1.\u0663.1.1.{SESSION}",
            f"_sp_id.1fff={USER}.1.1.{'9' * 4000}.1.{SESSION}",
            f"_sp_id.1fff={USER}.1.1.1.1.{SESSION}\x00",
            "; ".join(f"_sp_id.{n}=x" for n in range(5_000)) + f"; _sp_id.z={ID_COOKIE}",
        ],
        ids=range(13),
    )
    def test_hostile(self, cookie):
        """One that no tracker has written gives nothing."""
        assert ids_in_cookies(cookie) == {}

    @settings(deadline=None, max_examples=50)  # for each makes a handler
    @given(st.text(alphabet="_spid.=; -0123456789abcdef\"'\\%é", max_size=300))
    def test_anything(self, tail):
        """Whatever is sent, what comes out is what Snowplow takes."""
        with capture_events() as captured:
            with subject_context(**ids_in_cookies(f"_sp_id.1f={tail}; sp={tail}")):
                logging.getLogger("shop").info(PageView(page_url="app:x"))
            assert len(captured) == 1


def scope(**more):
    """Return a scope of ASGI, as uvicorn gives it."""
    headers = more.pop("headers", {})
    return {
        "type": "http",
        "scheme": "https",
        "path": "/basket",
        "raw_path": b"/basket",
        "query_string": b"page=2",
        "root_path": "",
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8000),
        "headers": [
            (name.replace("_", "-").lower().encode(), value.encode("latin-1"))
            for name, value in {"host": "shop.example.com", **headers}.items()
        ],
        **more,
    }


async def nothing(*_):
    """Receive or send nothing."""


def serve(logs, asked=None, **settings):
    """Serve one request, whose application calls a function."""

    async def app(scope, receive, send):
        logs()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    middleware = SnowplowMiddleware(app, **settings)
    asyncio.run(middleware(asked or scope(), nothing, nothing))


class TestRequest:
    """What the events of a request say of it."""

    def test_everything(self, tracked):
        """User, address, browser, language, ids, URL and referrer, each where it belongs."""
        asked = scope(
            headers={
                "user_agent": "Browser",
                "accept_language": "en;q=0.8, de-DE, *;q=0.1",
                "referer": "https://www.example.com/search?q=a#top",
                "cookie": f"_sp_id.1fff={ID_COOKIE}; sp={NETWORK}",
                "x_forwarded_for": "198.51.100.7",
            }
        )
        shop = SnowplowAdapter(tracked.logger)
        serve(
            lambda: shop.page_view(page_title="Basket"),
            asked,
            user=lambda scope: f"u-{scope['path'][1:]}",
            trusted_proxies=["127.0.0.0/8"],
        )
        (sent,) = tracked.payloads()
        assert {
            name: sent[name] for name in "url page refr uid ip ua lang duid sid vid tnuid".split()
        } == {
            "url": "https://shop.example.com/basket?page=2",
            "page": "Basket",
            "refr": "https://www.example.com/search?q=a",
            "uid": "u-basket",
            "ip": "198.51.100.7",
            "ua": "Browser",
            "lang": "de-DE",
            "duid": USER,
            "sid": SESSION,
            "vid": "3",
            "tnuid": NETWORK,
        }

    def test_a_page_view_keeps_its_own(self, tracked):
        """URL and referrer are given where there are none, and to no other type of event."""
        asked = scope(headers={"referer": "https://www.example.com/"})
        struct = {"event": "struct_event", "category": "c", "action": "a"}

        def log():
            tracked.log(PageView(page_url="https://other.example.com/"))
            tracked.log([{"event": "page_view", "referrer": "https://r.example.com/"}, struct])
            tracked.log({"event": "page_ping"})

        serve(log, asked)
        assert [(sent.get("url"), sent.get("refr")) for sent in tracked.payloads()] == [
            ("https://other.example.com/", "https://www.example.com/"),
            ("https://shop.example.com/basket?page=2", "https://r.example.com/"),
            (None, None),
            ("https://shop.example.com/basket?page=2", "https://www.example.com/"),
        ]

    def test_before_send_and_letters_see_the_page(self, collector, tmp_path):
        """An event is whole before anybody is shown it."""
        seen = []
        with tracking(collector, before_send=lambda event: seen.append(event) or event) as tracked:
            serve(lambda: tracked.log(PageView(page_title="x")))
        assert [event["page_url"] for event in seen] == ["https://shop.example.com/basket?page=2"]

    def test_without_events_nothing_is_asked(self, tracked):
        """A request without events, whatever else it logs, asks nobody who the user is."""
        asked = []
        serve(lambda: tracked.logger.info("no event"), user=asked.append)
        assert asked == []

    def test_the_user_may_sign_in_meanwhile(self, tracked):
        """It is asked at each event until it names somebody, and then no more."""
        users, asked = iter([None, "", "u-1"]), []

        def user(scope):
            asked.append(scope)
            return next(users)

        serve(lambda: [tracked.log(PageView()) for _ in range(5)], user=user)
        assert [sent.get("uid") for sent in tracked.payloads()] == [None, None, *["u-1"] * 3]
        assert len(asked) == 3

    def test_a_user_that_raises(self, tracked, reports):
        """It costs the user alone, is reported, and may log events itself."""

        def user(scope):
            tracked.log(PageView(page_title="asked"))
            raise LookupError("no session")

        serve(lambda: tracked.log(PageView(page_title="view")), user=user)
        assert [(sent["page"], sent.get("uid")) for sent in tracked.payloads()] == [
            ("asked", None),
            ("view", None),
        ]
        assert any("LookupError('no session')" in line for line in reports)

    def test_within_and_around(self, tracked):
        """It adds up with a `subject_context`, inside and outside of it."""

        def log():
            tracked.log(PageView())
            with subject_context(user_id="inner"):
                tracked.log(PageView())

        with subject_context(user_id="outer", timezone="UTC"):
            serve(log, user=lambda _: "request")
            tracked.log(PageView(page_url="app:x"))
        sent = [(sent["uid"], sent["tz"], sent.get("ip")) for sent in tracked.payloads()]
        assert sent == [
            ("request", "UTC", "127.0.0.1"),
            ("inner", "UTC", "127.0.0.1"),
            ("outer", "UTC", None),
        ]

    @pytest.mark.parametrize(
        ("asked", "url"),
        [
            (
                {"path": "/k\u00f6rbe", "raw_path": b"/k%C3%B6rbe"},
                "https://shop.example.com/k%C3%B6rbe?page=2",
            ),
            ({"path": "/a b", "raw_path": None}, "https://shop.example.com/a%20b?page=2"),
            ({"path": "/a/b", "raw_path": b"/a%2Fb"}, "https://shop.example.com/a%2Fb?page=2"),
            ({"path": "/sub/x", "root_path": "/sub"}, "https://shop.example.com/sub/x?page=2"),
            ({"path": "/x", "root_path": "/sub"}, "https://shop.example.com/sub/x?page=2"),
            ({"query_string": b""}, "https://shop.example.com/basket"),
            ({"headers": {"host": "a b<"}}, "https://127.0.0.1:8000/basket?page=2"),
            ({"headers": {"host": ""}, "server": ("/run/x.sock", None)}, "/basket?page=2"),
            ({"headers": {"host": ""}, "server": ("::1", 80)}, "https://[::1]:80/basket?page=2"),
            ({"headers": {"x-forwarded-proto": "http"}}, "http://shop.example.com/basket?page=2"),
            ({"headers": {"x-forwarded-proto": "x"}}, "https://shop.example.com/basket?page=2"),
            ({"headers": {"x-forwarded-host": "b.example"}}, "https://b.example/basket?page=2"),
            (
                {"headers": {"x-forwarded-host": "b.example"}, "client": ("198.51.100.1", 1)},
                "https://shop.example.com/basket?page=2",
            ),
        ],
        ids=range(13),
    )
    def test_url(self, tracked, asked, url):
        """The URL is the one that the client sees, as far as a trusted proxy says so."""
        serve(lambda: tracked.log(PageView()), scope(**asked), trusted_proxies=["127.0.0.1"])
        assert [sent["url"] for sent in tracked.payloads()] == [url]

    @settings(deadline=None, max_examples=50)  # for each makes a handler
    @given(LATIN_1, LATIN_1, LATIN_1, LATIN_1)
    def test_anything_in_a_header(self, host, referrer, language, query):
        """Whatever a client sends, its events are good ones."""
        with capture_events() as captured:
            headers = {"host": host, "referer": referrer, "accept-language": language}
            asked = scope(headers={**headers, "user-agent": query, "cookie": query})
            asked["query_string"] = query.encode("latin-1")
            serve(lambda: logging.getLogger("shop").info(PageView()), asked)
            assert captured.invalid == []
            assert len(captured) == 1

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("user", "u-1"),
            ("page_view", "yes"),
            ("user", asyncio.sleep),
            ("page_view", asyncio.sleep),
        ],
    )
    def test_settings_that_make_no_sense(self, keyword, value):
        """They are named where they are given, coroutine functions among them."""
        with pytest.raises(TypeError, match=keyword):
            SnowplowMiddleware(print, **{keyword: value})


class TestPageViews:
    """`page_view` logs one for each request."""

    @pytest.fixture(autouse=True)
    def on_its_logger(self, tracked):
        """Have the middleware's logger come to the tracked handler."""
        logger = logging.getLogger("snowplow_logging.web")
        logger.addHandler(tracked.handler)
        logger.setLevel(logging.INFO)
        yield
        logger.removeHandler(tracked.handler)
        logger.setLevel(logging.NOTSET)

    def test_each_request(self, tracked):
        """True logs one when the answer begins, with the user who has signed in by then."""
        signed_in = []
        serve(
            lambda: signed_in.append("u-1"),
            page_view=True,
            user=lambda _: signed_in[0] if signed_in else None,
        )
        (sent,) = tracked.payloads()
        assert (sent["e"], sent["uid"]) == ("pv", "u-1")
        assert sent["url"] == "https://shop.example.com/basket?page=2"

    def test_which(self, tracked):
        """A callable says which, and gives keys of the event."""
        answers = {"/a": False, "/b": None, "/c": True, "/d": {"page_title": "D"}}
        for path in answers:
            asked = scope(path=path, raw_path=path.encode())
            serve(lambda: None, asked, page_view=lambda scope: answers[scope["path"]])
        assert [(sent["url"][24:], sent.get("page")) for sent in tracked.payloads()] == [
            ("/c?page=2", None),
            ("/d?page=2", "D"),
        ]

    def test_a_request_that_fails(self, tracked):
        """It is logged once, too, and the error is the application's."""
        with pytest.raises(ZeroDivisionError):
            serve(lambda: 1 / 0, page_view=True)
        assert len(tracked.payloads()) == 1

    def test_one_that_raises(self, tracked, reports):
        """It costs the page view alone, and is reported."""
        serve(lambda: tracked.log(PageView()), page_view=lambda scope: scope["nothing"])
        assert len(tracked.payloads()) == 1
        assert any("page_view raised KeyError" in line for line in reports)

    @pytest.mark.parametrize("keys", [{1: 2}, {"extra": "x"}, {"stacklevel": None}])
    def test_one_that_gives_no_page_view(self, tracked, keys):
        """It costs the page view alone, too."""
        serve(lambda: tracked.log(PageView()), page_view=lambda scope: keys)
        assert len(tracked.payloads()) == 1

    def test_a_websocket_has_none(self, tracked):
        """A websocket is no page."""
        serve(lambda: None, scope(type="websocket"), page_view=True)
        assert tracked.payloads() == []


class TestWsgi:
    """An answer of WSGI is within its request until it is closed."""

    ENVIRON: ClassVar = {
        "HTTP_HOST": "shop.example.com",
        "PATH_INFO": "/k\xc3\xb6rbe",
        "QUERY_STRING": "a=1",
        "REMOTE_ADDR": "198.51.100.7",
        "wsgi.url_scheme": "https",
    }

    def test_a_stream(self, tracked):
        """What is logged while its parts are made, and at its end, is the request's."""

        class Parts:
            def __iter__(self):
                tracked.log(PageView())
                with subject_context(timezone="UTC"):
                    for part in (b"a", b"b"):
                        yield part
                        tracked.log(PageView())

            def close(self):
                tracked.log(PageView())

        def app(environ, start_response):
            tracked.log(PageView())
            return Parts()

        middleware = SnowplowMiddleware(app, user=lambda environ: environ["PATH_INFO"][:2])
        body = middleware({**self.ENVIRON}, None)
        parts = []
        for part in body:
            parts.append(part)
            tracked.log(PageView(page_url="app:outside"))  # what a server logs between two parts
        body.close()
        assert parts == [b"a", b"b"]
        url = "https://shop.example.com/k%C3%B6rbe?a=1"
        sent = [(sent["url"], sent.get("uid"), sent.get("tz")) for sent in tracked.payloads()]
        outside = ("app:outside", None, None)
        inside = (url, "/k", "UTC")
        assert sent == [(url, "/k", None)] * 2 + [
            outside,
            inside,
            outside,
            inside,
            (url, "/k", None),
        ]

    def test_what_servers_know_stays_what_it_is(self):
        """A list, whose length tells the length of the answer, and a file are handed on."""
        files = type("FileWrapper", (), {"__iter__": lambda self: iter(())})
        for body in ([b"a"], (b"a",), files()):
            middleware = SnowplowMiddleware(lambda *_, body=body: body)
            assert middleware({"wsgi.file_wrapper": files}, None) is body

    def test_two_requests_at_once_on_one_thread(self, tracked):
        """Streams that take turns each have their own user."""

        def app(environ, start_response):
            for _ in range(3):
                yield b""
                tracked.log(PageView())

        middleware = SnowplowMiddleware(app, user=lambda environ: environ["user"])
        bodies = [middleware({**self.ENVIRON, "user": user}, None) for user in ("a", "b")]
        for _ in zip(*bodies, strict=True):
            pass
        assert [sent["uid"] for sent in tracked.payloads()] == ["a", "b"] * 3


class TestLifespan:
    """The server's end, as ASGI tells of it."""

    @staticmethod
    def live(app):
        """Run a lifespan; return what was sent."""
        sent = []

        async def main():
            messages = asyncio.Queue()
            for kind in ("startup", "shutdown"):
                messages.put_nowait({"type": f"lifespan.{kind}"})

            async def send(message):
                sent.append(message["type"].removeprefix("lifespan."))

            await SnowplowMiddleware(app)({"type": "lifespan"}, messages.get, send)

        asyncio.run(main())
        return sent

    def test_all_is_sent_before_the_server_ends(self, collector):
        """What was logged before the end is delivered when the server is told that it is."""
        with tracking(collector, flush_interval=600) as tracked:

            async def app(scope, receive, send):
                await receive()
                await send({"type": "lifespan.startup.complete"})
                tracked.log(PageView(page_url="app:x"))
                await receive()
                tracked.log(PageView(page_url="app:x"))
                assert tracked.handler.stats.sent == 0
                await send({"type": "lifespan.shutdown.complete"})
                assert tracked.handler.stats.sent == 2

            assert self.live(app) == ["startup.complete", "shutdown.complete"]

    @pytest.mark.parametrize(
        ("receives", "error"), [(False, None), (True, None), (False, ValueError("no lifespan"))]
    )
    def test_an_application_that_knows_nothing_of_it(self, collector, receives, error):
        """The middleware speaks in the stead of one that returns, or raises as Django's does."""

        async def app(scope, receive, send):
            if receives:
                await receive()
            if error is not None:
                raise error

        with tracking(collector, flush_interval=600) as tracked:
            tracked.log(PageView(page_url="app:x"))
            assert self.live(app) == ["startup.complete", "shutdown.complete"]
            assert tracked.handler.stats.sent == 1

    def test_a_startup_that_fails(self):
        """It is the application's to tell."""

        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed"})
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            self.live(app)

    def test_a_startup_that_fails_without_an_answer(self):
        """The server hears of it, and does not take the application for one that has started."""

        async def app(scope, receive, send):
            await receive()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            self.live(app)


class TestLeftElsewhere:
    """A subject that is left in another context than it was entered in, or never."""

    @staticmethod
    def held(user):
        """Return a generator that holds a subject."""

        def generator():
            with subject_context(user_id=user):
                yield

        return generator()

    def test_in_a_copy_of_its_context(self, tracked):
        """It ends there and here, and raises nothing."""
        import contextvars

        held = self.held("u")
        next(held)
        copy = contextvars.copy_context()
        copy.run(held.close)
        copy.run(tracked.log, PageView(page_url="app:x"))
        tracked.log(PageView(page_url="app:x"))
        assert [sent.get("uid") for sent in tracked.payloads()] == [None, None]

    def test_in_another_thread(self, tracked):
        """Closed by a thread that never had it, it ends in the one that had."""
        held = self.held("u")
        next(held)
        tracked.log(PageView(page_url="app:x"))
        thread = threading.Thread(target=held.close)
        thread.start()
        thread.join()
        tracked.log(PageView(page_url="app:x"))
        assert [sent.get("uid") for sent in tracked.payloads()] == ["u", None]

    def test_collected_under_another(self, tracked):
        """A generator that is collected takes no subject away from who has entered one since."""
        held = self.held("a")
        next(held)
        with subject_context(user_id="b"):
            del held
            gc.collect()
            tracked.log(PageView(page_url="app:x"))
        tracked.log(PageView(page_url="app:x"))
        assert [sent.get("uid") for sent in tracked.payloads()] == ["b", None]

    def test_abandoned_async_generators(self, tracked, caplog):
        """The loop closes them in tasks of its own; nobody hears of it, and others keep theirs."""

        async def agen(user):
            with subject_context(user_id=user):
                yield
                yield

        async def serve(user):
            async for _ in agen(user):
                tracked.log(PageView(page_url=f"app:{user}"))
                break
            gc.collect()
            for _ in range(10):  # the loop makes a task of it, which is to run
                await asyncio.sleep(0)
            tracked.log(PageView(page_url="app:none"))

        async def main():
            errors = []
            asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
            await asyncio.gather(*(serve(f"u{n}") for n in range(4)))
            await asyncio.get_running_loop().shutdown_asyncgens()
            return errors

        assert asyncio.run(main()) == []
        pairs = {(sent["url"], sent.get("uid")) for sent in tracked.payloads()}
        assert pairs == {("app:none", None), *((f"app:u{n}", f"u{n}") for n in range(4))}

    def test_an_exit_stack_of_another_task(self, tracked):
        """As a FastAPI dependency with `yield` may be: entered in one task, left by another."""

        async def main():
            stack = contextlib.AsyncExitStack()

            async def enter():
                stack.enter_context(subject_context(user_id="u"))
                tracked.log(PageView(page_url="app:x"))

            await asyncio.create_task(enter())
            await asyncio.create_task(stack.aclose())
            tracked.log(PageView(page_url="app:x"))

        asyncio.run(main())
        assert [sent.get("uid") for sent in tracked.payloads()] == ["u", None]

    def test_tasks_that_go_on_keep_theirs(self, tracked):
        """A task that was started within has the subject after the block has ended."""

        async def main():
            ended = asyncio.Event()

            async def later():
                await ended.wait()
                tracked.log(PageView(page_url="app:x"))

            with subject_context(user_id="u"):
                task = asyncio.create_task(later())
            ended.set()
            await task

        asyncio.run(main())
        assert [sent.get("uid") for sent in tracked.payloads()] == ["u"]


class TestCarry:
    """`carry` takes the subject along, where asyncio does not."""

    def test_threads_and_executors(self, tracked):
        """Each call has the subject that was bound where it was given out, many at once too."""
        from concurrent.futures import ThreadPoolExecutor

        barrier = threading.Barrier(3)

        def work(name):
            barrier.wait(30)
            tracked.log(PageView(page_url=f"app:{name}"))
            return name

        with ThreadPoolExecutor(3) as pool:
            with subject_context(user_id="u"):
                assert list(pool.map(carry(work), "abc")) == ["a", "b", "c"]
            assert list(pool.map(carry(work), "def")) == ["d", "e", "f"]
        sent = {sent["url"][4:]: sent.get("uid") for sent in tracked.payloads()}
        assert sent == {**dict.fromkeys("abc", "u"), **dict.fromkeys("def", None)}

    def test_in_asyncio(self, tracked):
        """`to_thread` needs no help, `run_in_executor` and another loop's tasks do."""

        async def logs(name):
            tracked.log(PageView(page_url=f"app:{name}"))

        async def main():
            loop = asyncio.get_running_loop()
            with subject_context(user_id="u"):
                await asyncio.to_thread(tracked.log, PageView(page_url="app:to_thread"))
                bare = tracked.log
                await loop.run_in_executor(None, bare, PageView(page_url="app:bare"))
                await loop.run_in_executor(None, carry(bare), PageView(page_url="app:carried"))
                carried = carry(logs)
            await carried("coroutine")

        asyncio.run(main())
        assert {sent["url"][4:]: sent.get("uid") for sent in tracked.payloads()} == {
            "to_thread": "u",
            "bare": None,
            "carried": "u",
            "coroutine": "u",
        }

    def test_it_replaces_what_is_there(self, tracked):
        """What the thread itself has bound is there again afterwards."""
        with subject_context(user_id="a"):
            carried = carry(tracked.log)
        with subject_context(user_id="b", timezone="UTC"):
            carried(PageView(page_url="app:x"))
            tracked.log(PageView(page_url="app:x"))
        sent = [(sent["uid"], sent.get("tz")) for sent in tracked.payloads()]
        assert sent == [("a", None), ("b", "UTC")]

    def test_out_of_a_request(self, tracked):
        """The user of a request is asked where it is carried from, not when it has ended."""
        asked = []
        carried = []

        def log():
            carried.append(carry(tracked.log))
            asked.append("ended")

        serve(log, user=lambda _: "u" if not asked else pytest.fail("asked too late"))
        carried[0](PageView())
        (sent,) = tracked.payloads()
        assert (sent["uid"], sent["url"]) == ("u", "https://shop.example.com/basket?page=2")


def test_urls_are_what_snowplow_takes():
    """The two checks that URLs of requests go through refuse what cannot be mended."""
    for check in (page_uri, referrer_uri):
        with pytest.raises(Refused):
            check("https://a.example/" + "\xff" * 200_000)
