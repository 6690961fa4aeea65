"""Flask: the middleware binds each request, so that its events have its user and page.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 flask --app examples/flask_app.py run

It serves any WSGI framework; `gunicorn_config.py` runs this app with gunicorn.
"""

import logging.config
import os
from collections.abc import Iterator

from flask import Flask, Request, Response

from snowplow_logging import SnowplowAdapter
from snowplow_logging.web import SnowplowMiddleware

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
shop = SnowplowAdapter(logging.getLogger("shop"))

app = Flask(__name__)
app.wsgi_app = SnowplowMiddleware(  # type: ignore[method-assign]
    app.wsgi_app,
    user=lambda environ: Request(environ).cookies.get("user"),  # the example's way to sign in
    trusted_proxies=["127.0.0.1", "10.0.0.0/8"],
)


@app.get("/basket")
def basket() -> str:
    """Show the basket."""
    shop.page_view(page_title="Basket")
    return "Your basket\n"


@app.get("/export")
def export() -> Response:
    """Stream something; what is logged meanwhile is the user's as well."""

    def lines() -> Iterator[str]:
        for line in range(2):
            shop.struct_event(category="export", action="line", value=line)
            yield f"{line}\n"

    return Response(lines(), mimetype="text/plain")
