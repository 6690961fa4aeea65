"""FastAPI: an ASGI middleware binds each request, so that its events have its user and page.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 uvicorn --app-dir examples fastapi_app:app

The middleware serves any ASGI framework.
"""

import logging.config
import os
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.requests import HTTPConnection
from web_request import page_view, serving

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "snowplow": {
                "class": "snowplow_logging.SnowplowHandler",
                "endpoint": os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
                "app_id": "fastapi-shop",
            },
        },
        "root": {"level": "INFO", "handlers": ["snowplow"]},
    }
)


class SnowplowMiddleware:
    """Binds a request while it is served, in the tasks and threads that serve it, too."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        page = f"{scope['scheme']}://{headers.get('host', '')}{quote(scope['path'])}"
        with serving(
            user_id=HTTPConnection(scope).cookies.get("user"),  # the example's idea of signing in
            peer=scope["client"][0],
            forwarded_for=headers.get("x-forwarded-for", ""),
            useragent=headers.get("user-agent", ""),
            url=f"{page}?{scope['query_string'].decode('latin-1')}",
            referrer=headers.get("referer", ""),
        ):
            await self.app(scope, receive, send)


app = FastAPI()
app.add_middleware(SnowplowMiddleware)


@app.get("/basket")
async def basket() -> str:
    """Show the basket, on the event loop."""
    page_view("Basket")
    return "Your basket"


@app.get("/checkout")
def checkout() -> str:
    """Show the checkout, on a thread of FastAPI's."""
    page_view("Checkout")
    return "Your order"
