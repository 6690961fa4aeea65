"""The collector's answers: those of Snowplow's collector, Micro's REST API, and the page's."""

from __future__ import annotations

import base64
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, Protocol

try:
    from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound
    from werkzeug.routing import Map, Rule
    from werkzeug.wrappers import Request, Response
except ModuleNotFoundError as error:
    _message = (
        "the local collector needs the package werkzeug: pip install 'snowplow-logging[collector]'"
    )
    raise ModuleNotFoundError(_message, name=error.name) from error

from . import events_api, page
from .adapter import client_address
from .enrich import CollectorPayload
from .urls import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .kept import Entry
    from .own_names import OwnNames

__all__ = ["Application", "Collector"]

_VENDOR: Final = "com.snowplowanalytics.snowplow"
_COOKIE_SECONDS: Final = 365 * 24 * 3600
_CORS_SECONDS: Final = 3600
_ANONYMOUS_ID: Final = "00000000-0000-0000-0000-000000000000"
_PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_MICRO_PATHS: Final = (
    "/micro/all, /micro/good, /micro/bad, /micro/reset, /micro/iglu, /micro/events, "
    "/micro/timeline, /micro/columns, /micro/columnStats, /micro/auth-config, /micro/ui"
)
_PAGES: Final = ("/", "/micro/ui", "/micro/ui/")


class Collector(Protocol):
    """What takes the requests with events and has the answers to all others: `LocalCollector`."""

    @property
    def good(self) -> list[dict[str, Any]]:
        """The good events in the shape of Micro's ``/micro/good``."""

    @property
    def bad(self) -> list[dict[str, Any]]:
        """The failed events in the shape of Micro's ``/micro/bad``."""

    @property
    def counts(self) -> dict[str, int]:
        """How many events arrived."""

    def entries(self) -> list[Entry]:
        """Return what is kept, ordered as it arrived."""

    def state(self) -> dict[str, int]:
        """Return what changes with each event, and with each `reset`."""

    def reset(self) -> None:
        """Forget all events."""

    def take(self, payload: CollectorPayload) -> None:
        """Judge a request and keep what became of its events."""

    def explain(self, number: int) -> dict[str, Any] | None:
        """Return all there is to say of an event that is kept; None where it is not."""

    def find_schema(self, uri: str) -> dict[str, Any]:
        """Return a schema; raise LookupError where it is not to be had."""


class Application:
    """The WSGI application: Snowplow's collector and Snowplow Micro in one.

    Args:
        collector: What takes the requests with events, and has the answers.
        paths: Paths to take events at besides the protocol's own.
        names: The names that it may be asked by.
    """

    def __init__(self, collector: Collector, paths: Iterable[str], names: OwnNames) -> None:
        self._collector = collector
        self._own_names = names
        routes: list[tuple[str, tuple[str, ...], Callable[..., Response]]] = [
            ("/health", ("GET",), self._health),
            ("/i", ("GET",), self._track),
            *((path, ("GET", "POST"), self._track) for path in {f"/{_VENDOR}/tp2", *paths}),
            ("/micro/all", ("GET", "POST"), self._all),
            ("/micro/reset", ("GET", "POST"), self._reset),
            ("/micro/good", ("GET", "POST"), self._good),
            ("/micro/bad", ("GET", "POST"), self._bad),
            ("/micro/iglu/<vendor>/<name>/jsonschema/<version>", ("GET",), self._iglu),
            ("/micro/events", ("POST",), self._events),
            ("/micro/timeline", ("POST",), self._timeline),
            ("/micro/columns", ("GET",), self._columns),
            ("/micro/columnStats", ("POST",), self._column_stats),
            ("/micro/auth-config", ("GET",), self._auth_config),
            ("/", ("GET",), self._page),
            ("/micro/ui", ("GET",), self._page),
            ("/micro/ui/", ("GET",), self._page),
            ("/micro/ui/state", ("GET",), self._page_state),
            ("/micro/ui/rows", ("GET",), self._page_rows),
            ("/micro/ui/suggestions", ("GET",), self._page_suggestions),
            ("/micro/ui/columns", ("GET",), self._page_columns),
            ("/micro/ui/event/<int:number>", ("GET",), self._page_event),
            ("/micro/ui/<name>", ("GET",), self._page_file),
        ]
        self._routes = Map(
            [Rule(path, methods=methods, endpoint=view) for path, methods, view in routes],
            merge_slashes=False,
            strict_slashes=True,
        )
        # So that a page that was left open knows of a collector that was started again.
        self._run = uuid.uuid4().hex
        self._table = page.Table()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        if request.path == "/" or request.path.startswith("/micro/"):
            response = self._refusal(request) or self._answer(request)
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Cache-Control"] = "no-store"
        else:
            response = self._answer(request)
            # As the collector does it, for trackers in browsers.
            response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
            response.headers["Access-Control-Allow-Credentials"] = "true"
        return response(environ, start_response)

    def _refusal(self, request: Request) -> Response | None:
        """Refuse to tell the pages of other sites what was tracked, and to forget it for them.

        A name that another site has pointed at this machine is refused as well: to a browser it
        would be that site.
        """
        host = request.headers.get("Host", "")
        if not self._own_names.has(host):
            text = f"Ask for this by the name localhost, or one that was given, not {host!r}"
            return Response(text, 403, mimetype="text/plain")
        own = f"http://{host}"
        origin, referer = request.headers.get("Origin"), request.headers.get("Referer")
        site = request.headers.get("Sec-Fetch-Site")
        # A browser says where a request comes from, by one of these at least, unless the page that
        # makes it forbids all: then it says so only of an address that it takes for a safe one.
        comes_from_elsewhere = (
            origin not in (None, own)
            or site not in (None, "same-origin", "none")
            or (site is None and referer is not None and not f"{referer}/".startswith(f"{own}/"))
        )
        # A link from elsewhere may lead to the page, which tells that other site nothing.
        mode = request.headers.get("Sec-Fetch-Mode", "navigate")
        is_page = request.method == "GET" and request.path in _PAGES and mode == "navigate"
        is_silent = (
            request.path == "/micro/reset"
            and not (site or origin or referer)
            and request.headers.get("User-Agent", "").startswith("Mozilla/")
        )
        if is_silent or (comes_from_elsewhere and not (is_page and origin in (None, own))):
            return Response("This is for no other site", 403, mimetype="text/plain")
        return None

    def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            response = Response()
            response.headers["Access-Control-Allow-Methods"] = "POST, GET, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = "Content-Type, SP-Anonymous"
            response.access_control_max_age = _CORS_SECONDS
            return response
        try:
            view, arguments = self._routes.bind_to_environ(request.environ).match()
            result: Response = view(request, **arguments)
        except (NotFound, MethodNotAllowed):
            micro = request.path.startswith("/micro/")
            text = f"Paths of Micro here: {_MICRO_PATHS}" if micro else "Not found"
            return Response(text, 404, mimetype="text/plain")
        except HTTPException as error:
            return Response(error.description, error.code, mimetype="text/plain")
        return result

    def _track(self, request: Request) -> Response:
        anonymous = "SP-Anonymous" in request.headers
        # As raw as it came: Enrich judges the characters that should have been encoded.
        raw: str = request.environ["REQUEST_URI"].partition("?")[2]
        query = raw.encode("latin-1").decode("utf-8", "replace")
        post = request.method == "POST"
        if anonymous:
            user_id = _ANONYMOUS_ID
        else:
            user_id = (
                dict(parse_query(query)).get("nuid")
                or request.cookies.get("sp")
                or str(uuid.uuid4())
            )
        hidden = {"cookie", "x-forwarded-for", "x-real-ip"} if anonymous else set()
        self._collector.take(
            CollectorPayload(
                vendor=_VENDOR,
                version="tp1" if request.path == "/i" else "tp2",
                querystring=query,
                content_type=request.headers.get("Content-Type") if post else None,
                body=request.get_data() if post else None,
                hostname=request.host.rpartition(":")[0] or request.host,
                timestamp=time.time_ns() // 1_000_000,
                ip_address=(
                    "unknown"
                    if anonymous
                    else client_address(
                        request.remote_addr or "unknown", request.headers.get("X-Forwarded-For")
                    )
                ),
                useragent=request.headers.get("User-Agent"),
                referer=request.headers.get("Referer"),
                headers=[
                    f"{name}: {value}"
                    for name, value in request.headers
                    if name.lower() not in hidden
                ],
                user_id=user_id,
            )
        )
        if post:
            response = Response("ok", mimetype="text/plain")
        else:
            response = Response(_PIXEL, mimetype="image/gif")
            response.headers["Cache-Control"] = "no-cache, no-store, must-revalidate"
        if not anonymous:
            # Without `Secure`, so that a client that sends cookies back does so here too.
            response.set_cookie(
                "sp",
                user_id,
                max_age=_COOKIE_SECONDS,
                expires=int(time.time()) + _COOKIE_SECONDS,
                httponly=True,
                samesite="Lax",
            )
        return response

    def _health(self, _request: Request) -> Response:
        return Response("ok", mimetype="text/plain")

    def _all(self, _request: Request) -> Response:
        return _json(self._collector.counts)

    def _reset(self, _request: Request) -> Response:
        self._collector.reset()
        return _json(self._collector.counts)

    def _good(self, request: Request) -> Response:
        filters = _filters(request, {"event_type": str, "schema": str, "contexts": list})
        kind, schema = filters.get("event_type"), filters.get("schema")
        contexts = {_bare(uri) for uri in filters.get("contexts", ())}
        found = [
            event
            for event in reversed(self._collector.good)
            # Micro compares the enriched event's type; its documentation has the wire's.
            if kind in {None, event["eventType"], event["rawEvent"]["parameters"]["e"]}
            and (schema is None or _bare(schema) == _bare(event["schema"] or ""))
            and contexts <= {_bare(uri) for uri in event["contexts"]}
        ]
        return _json(found[: filters.get("limit")])

    def _bad(self, request: Request) -> Response:
        filters = _filters(request, {"vendor": str, "version": str})
        found = [
            event
            for event in reversed(self._collector.bad)
            if all(
                filters.get(part) in {None, event["collectorPayload"]["api"][part]}
                for part in ("vendor", "version")
            )
        ]
        return _json(found[: filters.get("limit")])

    def _iglu(self, _request: Request, vendor: str, name: str, version: str) -> Response:
        try:
            return _json(self._collector.find_schema(f"iglu:{vendor}/{name}/jsonschema/{version}"))
        except LookupError as error:
            return _json({"error": "ResolutionError", "message": str(error)}, 404)

    def _events(self, request: Request) -> Response:
        return _asked(events_api.find_events, self._collector.entries(), request)

    def _timeline(self, request: Request) -> Response:
        return _asked(events_api.timeline, self._collector.entries(), request)

    def _columns(self, _request: Request) -> Response:
        return _json(events_api.column_names(self._collector.entries()))

    def _column_stats(self, request: Request) -> Response:
        return _asked(events_api.column_stats, self._collector.entries(), request)

    def _auth_config(self, _request: Request) -> Response:
        return _json({"enabled": False})

    def _page(self, request: Request) -> Response:
        return self._page_file(request, "page.html")

    def _page_file(self, _request: Request, name: str) -> Response:
        if name not in page.FILES:
            raise NotFound
        response = Response(page.read_file(name), mimetype=page.FILES[name])
        response.headers["Content-Security-Policy"] = page.CONTENT_SECURITY_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def _page_state(self, _request: Request) -> Response:
        return _json({"run": self._run, **self._collector.state()})

    def _page_rows(self, request: Request) -> Response:
        try:
            return _json(self._table.rows(self._collector.entries(), request.args))
        except ValueError as error:
            raise BadRequest(str(error)) from None

    def _page_suggestions(self, _request: Request) -> Response:
        return _json(page.suggestions(self._collector.entries()))

    def _page_columns(self, _request: Request) -> Response:
        return _json(page.columns(self._collector.entries()))

    def _page_event(self, _request: Request, number: int) -> Response:
        found = self._collector.explain(number)
        if found is None:
            return _json({"error": "This event is no longer kept"}, 404)
        return _json(found)


def _asked(
    answer: Callable[[list[Entry], Any], object], entries: list[Entry], request: Request
) -> Response:
    """Answer a question that is asked in JSON; one that makes no sense is answered 400."""
    try:
        return _json(answer(entries, json.loads(request.get_data() or b"{}")))
    except (ValueError, RecursionError) as error:
        raise BadRequest(str(error)) from None


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, default=str), status, mimetype="application/json")


def _bare(uri: str) -> str:
    # Micro's own examples name schemas with the scheme and without it.
    return uri.removeprefix("iglu:")


def _filters(request: Request, kinds: dict[str, type[object]]) -> dict[str, Any]:
    """Read the filters of a POST; null is no filter, and names that Micro lacks are left alone."""
    body = request.get_data() if request.method == "POST" else b""
    try:
        given = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The filters are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise BadRequest("The filters are not a JSON object")
    kinds = {**kinds, "limit": int}
    filters = {name: given[name] for name in kinds if given.get(name) is not None}
    for name, value in filters.items():
        kind = kinds[name]
        if (
            not isinstance(value, kind)
            or isinstance(value, bool)
            or (isinstance(value, list) and not all(isinstance(item, str) for item in value))
            or (isinstance(value, int) and value < 0)
        ):
            wanted = {str: "a string", list: "a list of strings", int: "a whole number"}[kind]
            raise BadRequest(f"The filter {name} is not {wanted}")
    return filters
