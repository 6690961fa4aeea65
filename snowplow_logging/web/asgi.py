"""Serving a request of ASGI with its subject, and flushing when the server shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from snowplow_logging.flushes import aflush
from snowplow_logging.reporting import report_seldom
from snowplow_logging.surroundings import enter, leave, surroundings
from snowplow_logging.web.request import SAFE_IN_PATH, Facts, Request, Settings

__all__ = ["facts_of_scope", "serve_asgi"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]


async def serve_asgi(
    app: App, settings: Settings, scope: Any, receive: Receive, send: Send
) -> None:
    """Serve what the server asks for, by its type."""
    kind = scope["type"]
    if kind == "lifespan":
        await _live(app, scope, receive, send)
        return
    if kind not in ("http", "websocket"):
        await app(scope, receive, send)
        return
    request = Request(settings, scope, facts_of_scope)
    layer, token = enter(request, surroundings())
    try:
        if settings.page_view is False or kind != "http":
            await app(scope, receive, send)
        else:
            await _view(app, request, scope, receive, send)
    finally:
        leave(layer, token)


async def _view(app: App, request: Request, scope: Any, receive: Receive, send: Send) -> None:
    """Serve a request and log its page view, when its answer begins or fails to."""
    is_logged = False

    async def begin(message: Message) -> None:
        nonlocal is_logged
        if not is_logged and message["type"] == "http.response.start":
            is_logged = True
            request.log_page_view()
        await send(message)

    try:
        await app(scope, receive, begin)
    finally:
        if not is_logged:
            request.log_page_view()


async def _live(app: App, scope: Any, receive: Receive, send: Send) -> None:
    """Live as long as the server: what is queued is sent before it is told that all has ended.

    Servers end their process by a signal then, which runs no handler at exit. An application that
    knows nothing of this, as Django's, raises or returns; then this speaks in its stead. One that
    raises once it has been asked to start could not do so, which is for the server to hear.
    """
    has_received = has_answered = False

    async def receiving() -> Message:
        nonlocal has_received
        message = await receive()
        has_received = True
        return message

    async def sending(message: Message) -> None:
        nonlocal has_answered
        has_answered = True
        if message["type"].startswith("lifespan.shutdown."):
            await _flush()
        await send(message)

    try:
        await app(scope, receiving, sending)
    except Exception:
        if has_received or has_answered:
            raise
    if not has_answered:
        if not has_received:
            await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await _flush()
        await send({"type": "lifespan.shutdown.complete"})


async def _flush() -> None:
    try:
        await aflush()
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - the server goes on ending
        report_seldom("web flush", f"events could not be flushed at the server's end: {error!r}")


def facts_of_scope(scope: Any) -> Facts:
    """Read the scope of a connection."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in headers:
            # HTTP/2 may split a cookie at its semicolons.
            text = f"{headers[key]}{'; ' if key == 'cookie' else ', '}{text}"
        headers[key] = text
    client, server = scope.get("client"), scope.get("server")
    path, root = scope["path"], scope.get("root_path") or ""
    if root and not path.startswith(root):
        path = root + path
    raw = scope.get("raw_path")
    if isinstance(raw, bytes) and unquote_to_bytes(raw) == path.encode(errors="replace"):
        path = raw.decode("latin-1")  # as the client has encoded it
    else:
        path = quote(path, SAFE_IN_PATH, errors="replace")
    host = ""
    if server and server[1] is not None:  # it is a socket's path otherwise
        name = f"[{server[0]}]" if ":" in server[0] else server[0]
        host = f"{name}:{server[1]}"
    return Facts(
        lambda name: headers.get(name, ""),
        client[0] or "" if client else "",
        scope.get("scheme") or "http",
        host,
        path,
        (scope.get("query_string") or b"").decode("latin-1"),
    )
