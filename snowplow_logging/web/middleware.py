"""`SnowplowMiddleware`: one class, which serves as whoever calls it does."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snowplow_logging.kept import keep_in_records
from snowplow_logging.web.asgi import serve_asgi
from snowplow_logging.web.request import Settings
from snowplow_logging.web.wsgi import serve_wsgi

__all__ = ["SnowplowMiddleware"]


class SnowplowMiddleware:
    """Binds each web request to all that is logged while it is served.

    Every event has the request's user, address, user agent and language, and the ids in the cookies
    of Snowplow's JavaScript tracker; a page view has the request's URL and referrer where it has
    none. All of it is read when the first event is logged, so that a request without events costs
    next to nothing. Streaming answers, background tasks and websockets are within their request.

        app.add_middleware(SnowplowMiddleware, user=user)            # FastAPI, Starlette
        app.wsgi_app = SnowplowMiddleware(app.wsgi_app, user=user)   # Flask
        MIDDLEWARE = ["snowplow_logging.web.SnowplowMiddleware", …]  # Django
        application = SnowplowMiddleware(application)                # any ASGI or WSGI application

    Django takes the keywords from the setting SNOWPLOW_MIDDLEWARE, a dict, where callables may also
    be given as dotted paths. Around an ASGI application it also flushes all handlers when the
    server shuts down, for servers end their process by a signal then.

    Args:
        app: The application, or what Django hands to a middleware.
        user: Takes the request and returns who makes it, or None. It is asked at the first event,
            and again at later ones until it names somebody. The request is ASGI's `scope`, WSGI's
            `environ`, or Django's `HttpRequest`.
        page_view: True logs a page view for each request, when its answer begins. A callable takes
            the request and returns whether, or the event's keys, such as `page_title`.
        trusted_proxies: The addresses and networks of proxies that are believed when they say for
            whom they ask; `unix` stands for a proxy on a Unix socket. Without, and from any other
            address, what is sent in their name counts for nothing.
        address_header: Where they say it: `X-Forwarded-For`, which is read from its end as far as
            the proxies are trusted; `Forwarded` (RFC 7239); or a header with one address. The
            proxy nearest to the application has to set it, for clients may send it as well.
        id_cookie: What the names of the JavaScript tracker's cookies begin with, its `cookieName`.
        network_cookie: The name of the collector's cookie.
        anonymous_tracking: True binds neither user nor address nor the ids in cookies;
            `"with_session"` binds the ids of the session alone. A callable takes the request and
            returns one of these, for a user who has not agreed to be known.
        logger: The name of the logger of `page_view`.

    Raises:
        TypeError: A keyword is of the wrong type; a callable may be no coroutine function.
        ValueError: A keyword makes no sense.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        user: Callable[[Any], Any] | None = None,
        page_view: bool | Callable[[Any], bool | Mapping[str, Any] | None] = False,
        trusted_proxies: Iterable[Any] = (),
        address_header: str = "X-Forwarded-For",
        id_cookie: str = "_sp_",
        network_cookie: str = "sp",
        anonymous_tracking: bool | str | Callable[[Any], bool | str] = False,
        logger: str = "snowplow_logging.web",
    ) -> None:
        project = _settings_of_project() if _is_of_django(app) else {}
        self._app = app
        self._settings = Settings(
            **{
                "user": user,
                "page_view": page_view,
                "trusted_proxies": trusted_proxies,
                "address_header": address_header,
                "id_cookie": id_cookie,
                "network_cookie": network_cookie,
                "anonymous_tracking": anonymous_tracking,
                "logger": logger,
                **project,
            }
        )
        self._is_async = _is_async(app)
        if self._is_async:
            # Servers look at an application's `__call__` to see whether it is one of ASGI.
            vars(self)["__call__"] = self._call_async
            _mark_for_django(self)
        keep_in_records()

    def __call__(self, *request: Any) -> Any:
        """Serve a request: `scope, receive, send`, `environ, start_response`, or Django's."""
        if len(request) == 3:
            return serve_asgi(self._app, self._settings, *request)
        if len(request) == 2:
            return serve_wsgi(self._app, self._settings, *request)
        from snowplow_logging.web import django

        serve = django.serve_django_async if self._is_async else django.serve_django
        return serve(self._app, self._settings, *request)

    async def _call_async(self, *request: Any) -> Any:
        return await self(*request)


def _settings_of_project() -> dict[str, Any]:
    """Return the keywords that the setting SNOWPLOW_MIDDLEWARE of a Django project gives."""
    from snowplow_logging.web.django import settings_of_project

    return settings_of_project()


def _is_async(app: Any) -> bool:
    """Tell whether an application is called with await."""
    asgiref = sys.modules.get("asgiref.sync")
    tests = [inspect.iscoroutinefunction]
    if asgiref is not None:  # Django marks what only acts as a coroutine function
        tests.append(asgiref.iscoroutinefunction)
    called = getattr(app, "__call__", None)  # noqa: B004 - whether it is async
    return any(test(app) or test(called) for test in tests)


def _is_of_django(app: Any) -> bool:
    """Tell whether Django hands this to a middleware: a callable that takes a request alone."""
    conf: Any = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return False
    if type(app).__module__ == "asgiref.sync":  # between middlewares of which one is async
        return True
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    return [parameter.kind for parameter in parameters] == [inspect.Parameter.POSITIONAL_OR_KEYWORD]


def _mark_for_django(middleware: Any) -> None:
    asgiref: Any = sys.modules.get("asgiref.sync")
    if asgiref is not None:
        asgiref.markcoroutinefunction(middleware)
