"""Flask: a WSGI middleware binds each request, so that its events have its user and page.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 flask --app examples/flask_app.py run

The middleware serves any WSGI framework; `gunicorn_config.py` runs this app with gunicorn.
"""

import logging.config
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import request_uri

from flask import Flask, Request, Response
from web_request import page_view, serving

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "console": {"class": "logging.StreamHandler"},
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
                "app_id": "flask-shop",
            },
        },
        "root": {"level": "INFO", "handlers": ["console", "snowplow"]},
    }
)
logger = logging.getLogger("shop")


class SnowplowMiddleware:
    """Binds a request while its answer is made and sent, a streamed one included."""

    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]]) -> None:
        self.wsgi_app = wsgi_app

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterator[bytes]:
        """Serve a request."""
        with serving(
            user_id=Request(environ).cookies.get("user"),  # the example's idea of signing in
            peer=environ["REMOTE_ADDR"],
            forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", ""),
            useragent=environ.get("HTTP_USER_AGENT", ""),
            url=request_uri(environ),
            referrer=environ.get("HTTP_REFERER", ""),
        ):
            body = self.wsgi_app(environ, start_response)
            try:
                yield from body
            finally:
                getattr(body, "close", lambda: None)()


app = Flask(__name__)
app.wsgi_app = SnowplowMiddleware(app.wsgi_app)  # type: ignore[method-assign]


@app.get("/basket")
def basket() -> str:
    """Show the basket."""
    page_view("Basket")
    return "Your basket\n"


@app.get("/export")
def export() -> Response:
    """Stream something; what is logged meanwhile is the user's as well."""

    def lines() -> Iterator[str]:
        for line in range(2):
            item = {"event": "struct_event", "category": "export", "action": "line", "value": line}
            logger.info("exported a line", extra={"snowplow": item})
            yield f"{line}\n"

    return Response(lines(), mimetype="text/plain")
