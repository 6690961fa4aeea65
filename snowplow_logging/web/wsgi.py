"""Serving a request of WSGI with its subject, the sending of its answer included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context, copy_context
from typing import Any
from urllib.parse import quote

from snowplow_logging.surroundings import enter, surroundings
from snowplow_logging.web.request import SAFE_IN_PATH, Facts, Request, Settings

__all__ = ["Body", "facts_of_environ", "serve_wsgi"]


def serve_wsgi(
    app: Callable[..., Iterable[bytes]],
    settings: Settings,
    environ: dict[str, Any],
    start_response: Callable[..., Any],
) -> Iterable[bytes]:
    """Serve a request, all of it in a context of its own.

    An answer that is made while it is sent is asked for its parts from outside of the call, so that
    what is bound there can be neither in the server's context nor taken away between two parts.
    """
    context = copy_context()
    return context.run(_serve, context, app, settings, environ, start_response)


def _serve(
    context: Context,
    app: Callable[..., Iterable[bytes]],
    settings: Settings,
    environ: dict[str, Any],
    start_response: Callable[..., Any],
) -> Iterable[bytes]:
    request = Request(settings, environ, facts_of_environ)
    enter(request, surroundings())  # and never left: the context goes with the request
    try:
        body = app(environ, start_response)
    finally:
        if settings.page_view is not False:
            request.log_page_view()
    file_wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(body, (list, tuple)) or (
        isinstance(file_wrapper, type) and isinstance(body, file_wrapper)
    ):
        return body  # servers know these, and no code of the application runs any more
    return Body(body, context)


class Body:
    """An answer whose parts are made, and which is closed, in a context.

    Args:
        body: The answer.
        context: The context.
    """

    def __init__(self, body: Iterable[Any], context: Context) -> None:
        self._body = body
        self._context = context
        self._parts: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._parts is None:
            self._parts = self._context.run(iter, self._body)
        return self._context.run(next, self._parts)

    def close(self) -> None:
        """Close the answer, which may run code of the application."""
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)


def facts_of_environ(environ: Mapping[str, Any]) -> Facts:
    """Read the environment of a request, or Django's `META`."""

    def header(name: str) -> str:
        return str(environ.get(f"HTTP_{name.upper().replace('-', '_')}") or "")

    scheme = environ.get("wsgi.url_scheme") or "http"
    server = f"{environ.get('SERVER_NAME') or ''}"
    if ":" in server and not server.startswith("["):
        server = f"[{server}]"
    port = str(environ.get("SERVER_PORT") or "")
    if server and port and port != {"http": "80", "https": "443"}.get(scheme):
        server = f"{server}:{port}"
    # Bytes that came as Latin-1, by the rules of WSGI.
    path = f"{environ.get('SCRIPT_NAME') or ''}{environ.get('PATH_INFO') or ''}"
    return Facts(
        header,
        str(environ.get("REMOTE_ADDR") or ""),
        scheme,
        server,
        quote(path, SAFE_IN_PATH, "latin-1", "replace"),
        str(environ.get("QUERY_STRING") or ""),
    )
