"""The HTTP side: the collector's answers, Micro's REST API, and a server for them."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import time
import uuid
from contextlib import suppress
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

try:
    from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound
    from werkzeug.routing import Map, Rule
    from werkzeug.serving import DechunkedInput, ThreadedWSGIServer, WSGIRequestHandler
    from werkzeug.test import run_wsgi_app
    from werkzeug.wrappers import Request, Response
except ModuleNotFoundError as error:
    _message = (
        "the local collector needs the package werkzeug: pip install 'snowplow-logging[collector]'"
    )
    raise ModuleNotFoundError(_message, name=error.name) from error

from . import events_api, page
from .adapter import client_address
from .enrich import CollectorPayload
from .protocol import BODY_LIMIT, HEADERS_LIMIT, REQUEST_LINE_LIMIT
from .urls import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .kept import Entry
    from .server import LocalCollector

__all__ = ["Application", "Server"]

_VENDOR: Final = "com.snowplowanalytics.snowplow"
_COOKIE_SECONDS: Final = 365 * 24 * 3600
_CORS_SECONDS: Final = 3600
_ANONYMOUS_ID: Final = "00000000-0000-0000-0000-000000000000"
_PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_MICRO_PATHS: Final = (
    "/micro/all, /micro/good, /micro/bad, /micro/reset, /micro/iglu, /micro/events, "
    "/micro/timeline, /micro/columns, /micro/columnStats, /micro/auth-config, /micro/ui"
)
_LOOPBACK_NAME: Final = re.compile(
    r"(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])\.?", re.IGNORECASE
)
_BLOCK: Final = 65_536
_PAGES: Final = ("/", "/micro/ui", "/micro/ui/")
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.05
_SPLIT_BY_PYTHON: Final = re.compile(rb"[\s\x1c-\x1f\x85\xa0]")


class Application:
    """The WSGI application: Snowplow's collector and Snowplow Micro in one.

    Args:
        collector: What takes the requests with events, and has the answers.
        paths: Paths to take events at besides the protocol's own.
    """

    def __init__(self, collector: LocalCollector, paths: Iterable[str]) -> None:
        self._collector = collector
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
        name = re.sub(r":[0-9]*$", "", host)
        if name and not _LOOPBACK_NAME.fullmatch(name):
            text = f"Ask for this by the name localhost, not {name!r}"
            return Response(text, 403, mimetype="text/plain")
        origin = request.headers.get("Origin")
        foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        # A link from elsewhere may lead to the page, which tells that other site nothing.
        opened = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.path in _PAGES
        if origin not in (None, f"http://{host}") or (foreign and not opened):
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
            return _json(page.find_rows(self._collector.entries(), request.args))
        except ValueError as error:
            raise BadRequest(str(error)) from None

    def _page_suggestions(self, _request: Request) -> Response:
        return _json(page.suggestions(self._collector.entries()))

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
    except ValueError as error:
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


class _Handler(WSGIRequestHandler):
    """One connection. Unlike werkzeug's own, it keeps the connection open between requests."""

    server: Server
    raw_requestline: bytes
    protocol_version = "HTTP/1.1"
    # An answer is one write: with the headers sent first, the body would wait for the client's
    # delayed acknowledgement, some 40 ms a request.
    disable_nagle_algorithm = True
    _refused = False

    def parse_request(self) -> bool:
        """Read the request line and the headers, within the collector's limits."""
        method, _, rest = self.raw_requestline.rstrip(b"\r\n").partition(b" ")
        target, _, version = rest.rpartition(b" ")
        line = self.raw_requestline
        raw = _SPLIT_BY_PYTHON.search(target) is not None
        if raw:
            # `http.server` takes every kind of space for the end of the target, and the second
            # byte of a raw 'à' for one. What stands there raw is for Enrich to judge.
            self.raw_requestline = b"%b / %b\r\n" % (method, version)
        # The headers are read before the line is refused, so that the client sees the answer
        # and no reset of a connection with unread data.
        if not super().parse_request():
            return False
        if raw:
            self.raw_requestline = line
            self.path = target.decode("latin-1")
        if len(self.raw_requestline.rstrip(b"\r\n")) > REQUEST_LINE_LIMIT:
            self.send_error(414)
        elif sum(len(k) + len(v) + 4 for k, v in self.headers.items()) > HEADERS_LIMIT:
            self.send_error(431)
        return not self._refused

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request and end the connection."""
        self._refused = True
        self.close_connection = True
        super().send_error(code, message, explain)

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        # The bytes of the request line as WSGI has them; werkzeug encodes them once more.
        environ["REQUEST_URI"] = self.path
        try:
            body = self._read_body(environ["wsgi.input"])
        except ValueError:
            self.send_error(400)
            return
        if body is None:
            status, body_out = "413 Content Too Large", [b"Request body too large"]
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            headers.append(("Content-Length", str(len(body_out[0]))))
        else:
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            try:
                chunks, status, fields = run_wsgi_app(self.server.app, environ, buffered=True)
            except Exception:
                self.send_error(500)
                raise
            body_out, headers = list(chunks), list(fields.items())
        if self.server.closing:
            self.close_connection = True
        headers.append(("Date", self.date_time_string()))
        headers.append(("Connection", "close" if self.close_connection else "keep-alive"))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.wfile.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + b"".join(body_out))

    def _read_body(self, stream: io.RawIOBase) -> bytes | None:
        """Read the whole body, so that the next request begins where this one ends.

        Returns:
            The body, or None where it is larger than the collector takes.
        """
        left: float
        if isinstance(stream, DechunkedInput):
            left = float("inf")
        else:
            left = int(self.headers.get("Content-Length", "0"))
            if left < 0:
                raise ValueError
        blocks: list[bytes] = []
        size = 0
        while left > 0:
            block = stream.read(int(min(left, _BLOCK)))
            if not block:
                break
            size += len(block)
            left -= len(block)
            if size <= BODY_LIMIT:
                blocks.append(block)
        if 0 < left < float("inf"):
            message = "the client went away in the middle of a body"
            raise ConnectionAbortedError(message)
        return None if size > BODY_LIMIT else b"".join(blocks)

    def finish(self) -> None:
        """End the connection; where it was refused, only once the client has had its answer."""
        if self._refused:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(_CLOSE_SECONDS)
                while self.connection.recv(_BLOCK):
                    pass
        super().finish()

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing: the program under test has its own handlers on the root logger."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


class Server(ThreadedWSGIServer):
    """The listening socket, with a daemon thread for each connection.

    Args:
        host: The address that the socket is bound to.
        port: The port that it is bound to.
        app: What answers.
        fd: The file descriptor of a listening socket, which is duplicated.
    """

    def __init__(self, host: str, port: int, app: Application, *, fd: int) -> None:
        self.closing = False
        self._open: set[socket.socket] = set()
        self._ended = Condition()
        super().__init__(host, port, app, _Handler, fd=fd)
        self._thread = Thread(
            target=self.serve_forever,
            args=(_POLL_SECONDS,),
            name=f"LocalCollector:{port}",
            daemon=True,
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection, and serve it."""
        with self._ended:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection, and forget it."""
        super().shutdown_request(request)
        with self._ended:
            self._open.discard(request)
            self._ended.notify_all()

    def server_close(self) -> None:
        """Free the port, even where a forked child holds a copy of the socket."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def start(self) -> None:
        """Accept connections on a daemon thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and free the port, then end all connections, idle ones at once."""
        self.closing = True
        self.shutdown()
        # The port is free only once the thread has ended: `shutdown` returns before that.
        self._thread.join()
        for how in socket.SHUT_RD, socket.SHUT_RDWR:
            with self._ended:
                for connection in self._open:
                    with suppress(OSError):
                        connection.shutdown(how)
                if self._ended.wait_for(lambda: not self._open, _CLOSE_SECONDS):
                    return
