"""Serving a request of Django's with its subject, a streaming answer included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import quote

from snowplow_logging.surroundings import enter, leave, surroundings
from snowplow_logging.web.request import SAFE_IN_PATH, Facts, Request, Settings
from snowplow_logging.web.wsgi import Body, facts_of_environ

__all__ = ["facts_of_request", "serve_django", "serve_django_async", "settings_of_project"]

_SETTING: str = "SNOWPLOW_MIDDLEWARE"


def settings_of_project() -> dict[str, Any]:
    """Return the arguments that the project's setting SNOWPLOW_MIDDLEWARE gives."""
    conf: Any = import_module("django.conf")  # Django has no types, nor need it be there for mypy
    import_string = import_module("django.utils.module_loading").import_string
    given = getattr(conf.settings, _SETTING, {})
    if not isinstance(given, dict):
        raise TypeError(f"{_SETTING} is {given!r}; give a dict of SnowplowMiddleware's keywords")
    return {
        name: import_string(value)
        if name in ("user", "page_view", "anonymous_tracking")
        and isinstance(value, str)
        and "." in value
        else value
        for name, value in given.items()
    }


def serve_django(get_response: Callable[[Any], Any], settings: Settings, native: Any) -> Any:
    """Serve a request."""
    request = Request(settings, native, facts_of_request)
    layer, token = enter(request, surroundings())
    try:
        try:
            response = get_response(native)
        finally:
            if settings.page_view is not False:
                request.log_page_view()
        return _streamed_within(response, request)
    finally:
        leave(layer, token)


async def serve_django_async(
    get_response: Callable[[Any], Awaitable[Any]], settings: Settings, native: Any
) -> Any:
    """Serve a request on the event loop."""
    request = Request(settings, native, facts_of_request)
    layer, token = enter(request, surroundings())
    try:
        try:
            response = await get_response(native)
        finally:
            if settings.page_view is not False:
                request.log_page_view()
        return _streamed_within(response, request)
    finally:
        leave(layer, token)


def _streamed_within(response: Any, request: Request) -> Any:
    """Have what makes a streaming answer run within the request, though that has been left."""
    if getattr(response, "streaming", False) and getattr(response, "file_to_stream", None) is None:
        content = response.streaming_content
        if getattr(response, "is_async", False):
            response.streaming_content = _parts(content, request)
        else:
            response.streaming_content = Body(content, copy_context())
    return response


async def _parts(content: AsyncIterator[Any], request: Request) -> AsyncIterator[Any]:
    layer, token = enter(request, surroundings())
    try:
        async for part in content:
            yield part
    finally:
        leave(layer, token)


def facts_of_request(request: Any) -> Facts:
    """Read a request of Django's."""
    facts = facts_of_environ(request.META)
    path = quote(request.path, SAFE_IN_PATH, errors="replace")
    # Django knows of a proxy that speaks TLS by its SECURE_PROXY_SSL_HEADER.
    return replace(facts, scheme=request.scheme or facts.scheme, path=path)
