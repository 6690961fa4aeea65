"""The middleware in real servers: what is logged in a request arrives, at their end, too."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import sys
import textwrap

import pytest

from servers import SECONDS, get, names, started

CONFIGURED = """
import asyncio, logging, logging.config, os
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"snowplow": {
        "class": "snowplow_logging.SnowplowHandler",
        "endpoint": os.environ["SNOWPLOW_ENDPOINT"],
        "flush_interval": 600.0,
    }},
    "root": {"level": "INFO", "handlers": ["snowplow"]},
})
from snowplow_logging import SnowplowAdapter
from snowplow_logging.web import SnowplowMiddleware

shop = SnowplowAdapter(logging.getLogger("shop"))

def log(label):
    shop.struct_event(category="c", action="a", label=label)

def user(scope):
    for name, value in scope["headers"]:
        if name == b"cookie":
            return value.decode().partition("user=")[2]
"""

STARLETTE = """
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

async def background(request):
    async def later():
        await asyncio.sleep(0)
        log("background task")
    def on_thread():
        log("on a thread")
    async def both():
        await later()
        await asyncio.to_thread(on_thread)
    return PlainTextResponse("", background=BackgroundTask(both))

async def stream(request):
    async def parts():
        for part in "ab":
            log(f"part {part}")
            yield part
            await asyncio.sleep(0)
    return StreamingResponse(parts())

def sync_stream(request):
    def parts():
        for part in "cd":
            log(f"part {part}")
            yield part
    return StreamingResponse(parts())

async def socket(websocket):
    await websocket.accept()
    while (text := await websocket.receive_text()) != "end":
        log(text)
    await websocket.close()

async def view(request):
    shop.page_view(page_title="mounted")
    return PlainTextResponse("")

app = Starlette(routes=[
    Route("/background", background),
    Route("/stream", stream),
    Route("/sync", sync_stream),
    WebSocketRoute("/socket", socket),
    Mount("/sub", routes=[Route("/view", view)]),
])
app.add_middleware(SnowplowMiddleware, user=user)
"""

DJANGO = """
from django.conf import settings
settings.configure(
    ALLOWED_HOSTS=["*"], DEBUG=False, LOGGING_CONFIG=None, ROOT_URLCONF=__name__, SECRET_KEY="x",
    MIDDLEWARE=["snowplow_logging.web.SnowplowMiddleware", *os.environ["MIDDLEWARE"].split()],
    SNOWPLOW_MIDDLEWARE={"user": f"{__name__}.user", "page_view": f"{__name__}.has_view",
                         "anonymous_tracking": f"{__name__}.is_secret"},
)

def is_secret(request):
    return request.path == "/secret"

def user(request):
    return request.COOKIES.get("user")

def has_view(request):
    return {"page_title": "view"} if request.path == "/view" else None

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import sync_only_middleware

@sync_only_middleware
def synchronous(get_response):
    def middleware(request):
        return get_response(request)
    return middleware

def view(request):
    log("view")
    return HttpResponse("")

async def async_view(request):
    await asyncio.sleep(0)
    log("async view")
    return HttpResponse("")

def stream(request):
    def parts():
        for part in "ab":
            log(f"part {part}")
            yield part
    return StreamingHttpResponse(parts())

async def async_stream(request):
    async def parts():
        for part in "cd":
            await asyncio.sleep(0)
            log(f"part {part}")
            yield part
    return StreamingHttpResponse(parts())

urlpatterns = [path("view", view), path("secret", view), path("async", async_view),
               path("stream", stream), path("async-stream", async_stream)]
"""

CHANNELS = """
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter

class Consumer(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        if text_data == "end":
            await self.close()
        log(text_data)

class SyncConsumer(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        if text_data == "end":
            self.close()
        log(text_data)

app = SnowplowMiddleware(ProtocolTypeRouter({
    "http": get_asgi_application(),
    "websocket": URLRouter([
        path("socket", Consumer.as_asgi()), path("sync", SyncConsumer.as_asgi()),
    ]),
}), user=lambda scope: globals()["cookie_user"](scope))

def cookie_user(scope):
    for name, value in scope["headers"]:
        if name == b"cookie":
            return value.decode().partition("user=")[2]
"""

ADDRESS = r"http://127\.0\.0\.1:(\d+)"


@pytest.fixture
def environment(collector, tmp_path):
    """Return the environment of a server whose events go to the collector."""
    return {
        **os.environ,
        "SNOWPLOW_ENDPOINT": collector.endpoint,
        "PYTHONUNBUFFERED": "1",
        "MIDDLEWARE": "",
    }


def needs(*modules):
    """Skip a test where a module is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def write(folder, *parts):
    """Write a module of these parts and return the folder."""
    (folder / "served.py").write_text("".join(map(textwrap.dedent, parts)), encoding="utf-8")
    return folder


UVICORN = ("-m", "uvicorn", "served:app", "--port=0", "--lifespan=auto")


def gunicorn(app, *options):
    """Return how gunicorn is started."""
    return ("-m", "gunicorn", app, "--bind=127.0.0.1:0", "--no-control-socket", *options)


def say(port, path, *texts):
    """Say something on a websocket, and wait until it is closed."""
    from websockets.sync.client import connect

    with connect(
        f"ws://127.0.0.1:{port}/{path}", additional_headers={"Cookie": "user=u-42"}, proxy=None
    ) as websocket:
        for text in texts:
            websocket.send(text)
        with pytest.raises(Exception, match="1000"):
            websocket.recv(timeout=SECONDS)


@pytest.mark.parametrize("signalled", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_starlette(environment, collector, tmp_path, signalled):
    """Streams, background tasks and websockets are within their request; all arrive at the end."""
    needs("starlette", "uvicorn", "websockets")
    write(tmp_path, CONFIGURED, STARLETTE)
    with started(environment, tmp_path, *UVICORN) as (said, process):
        port = said(ADDRESS)
        for path in ("background", "stream", "sync", "sub/view"):
            assert get(port, f"/{path}", Cookie="user=u-42") == 200
        say(port, "socket", "said", "end")
        assert collector.counts["total"] == 0
        process.send_signal(signalled)
        process.wait(SECONDS)
    labels = ["background task", "on a thread", "part a", "part b", "part c", "part d", "said"]
    assert names(collector, "uid", "se_la", "url") == sorted(
        [
            *(("u-42", label, None) for label in labels),
            ("u-42", None, f"http://127.0.0.1:{port}/sub/view"),
        ],
        key=str,
    )


def test_gunicorn_with_uvicorn_workers(environment, collector, tmp_path):
    """The workers of gunicorn that are uvicorn's deliver at their end, too."""
    needs("starlette", "uvicorn", "gunicorn")
    worker = "uvicorn_worker" if importlib.util.find_spec("uvicorn_worker") else "uvicorn.workers"
    write(tmp_path, CONFIGURED, STARLETTE)
    command = gunicorn("served:app", f"--worker-class={worker}.UvicornWorker", "--workers=2")
    with started(environment, tmp_path, *command) as (said, process):
        port = said(ADDRESS)
        for _ in range(4):
            assert get(port, "/stream", Cookie="user=u-42") == 200
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert names(collector, "uid", "se_la") == [("u-42", f"part {part}") for part in "aaaabbbb"]


@pytest.mark.parametrize(
    "middleware", ["", "served.synchronous"], ids=["alone", "beside a sync one"]
)
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_django(environment, collector, tmp_path, server, middleware):
    """Views and streams of both kinds, in ASGI and WSGI, beside middleware of either kind."""
    needs("django", server)
    environment["MIDDLEWARE"] = middleware
    write(
        tmp_path,
        CONFIGURED,
        DJANGO,
        "app = SnowplowMiddleware(get_asgi_application())\n" if server == "uvicorn" else "",
        "wsgi = get_wsgi_application()\n",
    )
    command = UVICORN if server == "uvicorn" else gunicorn("served:wsgi")
    with started(environment, tmp_path, *command) as (said, process):
        port = said(ADDRESS)
        for path in ("view", "secret", "async", "stream", "async-stream"):
            assert get(port, f"/{path}", Cookie="user=u-42") == 200
        process.terminate()
        process.wait(SECONDS)
    labels = ["view", "async view", "part a", "part b", "part c", "part d"]
    assert names(collector, "uid", "se_la", "page", "url") == sorted(
        [
            *(("u-42", label, None, None) for label in labels),
            ("u-42", None, "view", f"http://127.0.0.1:{port}/view"),
            (None, "view", None, None),  # of the page whose visitors are nobody's business
        ],
        key=str,
    )


def test_channels(environment, collector, tmp_path):
    """Consumers of Channels, of both kinds, have the user of their websocket."""
    needs("channels", "uvicorn", "websockets")
    write(tmp_path, CONFIGURED, DJANGO, CHANNELS)
    with started(environment, tmp_path, *UVICORN) as (said, process):
        port = said(ADDRESS)
        say(port, "socket", "async", "end")
        say(port, "sync", "sync", "end")
        assert get(port, "/view", Cookie="user=u-42") == 200
        process.terminate()
        process.wait(SECONDS)
    said_of = {(user, label) for user, label in names(collector, "uid", "se_la")}
    assert said_of == {
        *(("u-42", label) for label in ("async", "sync", "view", "end")),
        ("u-42", None),
    }


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_behind_a_proxy_on_a_unix_socket(environment, collector, tmp_path):
    """A proxy that connects through a Unix socket is believed where that was said."""
    needs("gunicorn")
    app = """
    def served(environ, start_response):
        shop.page_view(page_title=environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "0")])
        return []
    trusting = SnowplowMiddleware(served, trusted_proxies=["unix"])
    wary = SnowplowMiddleware(served)
    def wsgi(environ, start_response):
        return (wary if "wary" in environ["PATH_INFO"] else trusting)(environ, start_response)
    """
    write(tmp_path, CONFIGURED, app)
    path = tmp_path / "s"
    command = ("-m", "gunicorn", "served:wsgi", f"--bind=unix:{path}", "--no-control-socket")
    with started(environment, tmp_path, *command) as (said, process):
        said("Booting worker")
        for page in ("trusting", "wary"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SECONDS)
                client.connect(str(path))
                client.sendall(
                    f"GET /{page} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n"
                    "X-Forwarded-For: 198.51.100.7\r\n\r\n".encode()
                )
                while client.recv(1_000):
                    pass
        process.terminate()
        process.wait(SECONDS)
    assert names(collector, "page", "ip", "url") == [
        ("/trusting", "198.51.100.7", "http://shop.example.com/trusting"),
        ("/wary", None, "http://shop.example.com/wary"),
    ]


def test_fastapi_dependencies_with_yield(collector):
    """A subject that a dependency binds holds in its endpoint, and ends with it."""
    needs("fastapi", "httpx")
    import httpx
    from fastapi import Depends, FastAPI

    from helpers import tracking
    from snowplow_logging import PageView, subject_context

    with tracking(collector) as tracked:

        async def user(name: str):
            with subject_context(user_id=name):
                yield name

        def on_a_thread(name: str):
            with subject_context(user_id=name):
                yield name

        app = FastAPI()

        @app.get("/a")
        async def view(name: str = Depends(user)):  # noqa: FAST002 - it is local here
            tracked.log(PageView(page_url=f"app:{name}"))

        @app.get("/b")
        async def other(name: str = Depends(on_a_thread)):  # noqa: FAST002
            pass

        async def main():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://a.example"
            ) as client:
                answers = await asyncio.gather(
                    *(
                        client.get(path, params={"name": f"u{n}"})
                        for n in range(5)
                        for path in ("/a", "/b")
                    )
                )
            tracked.log(PageView(page_url="app:none"))
            return {answer.status_code for answer in answers}

        assert asyncio.run(main()) == {200}
        sent = {(payload["url"], payload.get("uid")) for payload in tracked.payloads()}
    assert sent == {("app:none", None), *((f"app:u{n}", f"u{n}") for n in range(5))}
    assert sys.exc_info() == (None, None, None)
