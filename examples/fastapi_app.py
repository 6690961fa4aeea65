"""FastAPI: the middleware binds each request, so that its events have its user and page.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 uvicorn --app-dir examples fastapi_app:app

It serves any ASGI framework, and delivers what is queued when the server is stopped.
"""

import logging.config
import os

from fastapi import FastAPI
from fastapi.requests import HTTPConnection

from snowplow_logging import SnowplowAdapter
from snowplow_logging.web import SnowplowMiddleware

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
shop = SnowplowAdapter(logging.getLogger("shop"))

app = FastAPI()
app.add_middleware(
    SnowplowMiddleware,
    user=lambda scope: HTTPConnection(scope).cookies.get("user"),  # the example's way to sign in
    trusted_proxies=["127.0.0.1", "10.0.0.0/8"],
)


@app.get("/basket")
async def basket() -> str:
    """Show the basket, on the event loop."""
    shop.page_view(page_title="Basket")
    return "Your basket"


@app.get("/checkout")
def checkout() -> str:
    """Show the checkout, on a thread of FastAPI's."""
    shop.page_view(page_title="Checkout")
    return "Your order"
