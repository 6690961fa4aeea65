"""Prints what the middleware costs a request, in microseconds, with no event and with one.

    python tests/benchmarks/middleware.py

Each application does nothing else. The rounds take turns; the median of them is printed.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from snowplow_logging import PageView, SnowplowHandler
from snowplow_logging.web import SnowplowMiddleware

NOBODY: Final = "http://127.0.0.1:9"  # to whom nothing is sent
REQUESTS: Final = 2_000
ROUNDS: Final = 15
ENVIRON: Final[dict[str, Any]] = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/basket",
    "QUERY_STRING": "page=1",
    "SERVER_NAME": "shop.example.com",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "198.51.100.7",
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "shop.example.com",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "HTTP_ACCEPT_LANGUAGE": "de-DE,de;q=0.8,en;q=0.5",
    "HTTP_COOKIE": "_sp_id.1fff=abcdefab-0000-4000-8000-000000000000.1.7.2.1; session=x",
}
SCOPE: Final[dict[str, Any]] = {
    "type": "http",
    "method": "GET",
    "scheme": "http",
    "path": "/basket",
    "raw_path": b"/basket",
    "query_string": b"page=1",
    "client": ("198.51.100.7", 5000),
    "server": ("shop.example.com", 80),
    "headers": [
        (name[5:].replace("_", "-").lower().encode(), value.encode())
        for name, value in ENVIRON.items()
        if name.startswith("HTTP_")
    ],
}

logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
# As many events as there is room for are queued, and the others dropped: both cost the log call.
logger.addHandler(SnowplowHandler(NOBODY, shutdown_timeout=0, enabled=True))
logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
EVENT: Final = PageView(page_url="https://shop.example.com/basket")


def wsgi(_environ: Any, _start_response: Any) -> list[bytes]:
    """Answer nothing."""
    return []


def wsgi_with_event(_environ: Any, _start_response: Any) -> list[bytes]:
    """Log an event."""
    logger.info(EVENT)
    return []


async def asgi(_scope: Any, _receive: Any, _send: Any) -> None:
    """Answer nothing."""


async def asgi_with_event(_scope: Any, _receive: Any, _send: Any) -> None:
    """Log an event."""
    logger.info(EVENT)


def seconds_of_wsgi(application: Callable[..., Any]) -> float:
    """Return how long the requests take."""
    start = time.perf_counter()
    for _ in range(REQUESTS):
        application(ENVIRON, None)
    return time.perf_counter() - start


def seconds_of_asgi(application: Callable[..., Any]) -> float:
    """Return how long the requests take."""

    async def main() -> float:
        start = time.perf_counter()
        for _ in range(REQUESTS):
            await application(SCOPE, None, None)
        return time.perf_counter() - start

    return asyncio.run(main())


def user(_request: Any) -> str:
    """Return who makes the request."""
    return "u-42"


CASES: Final = {
    f"{kind}, {words}": (measure, application, SnowplowMiddleware(application, user=user))
    for kind, measure, applications in (
        ("WSGI", seconds_of_wsgi, (wsgi, wsgi_with_event)),
        ("ASGI", seconds_of_asgi, (asgi, asgi_with_event)),
    )
    for words, application in zip(("no event", "one event"), applications, strict=True)
}


def main() -> None:
    """Measure and print."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in CASES}
    for _ in range(ROUNDS):
        for name, (measure, bare, wrapped) in CASES.items():
            for seconds, application in zip(taken[name], (bare, wrapped), strict=True):
                seconds.append(measure(application))
    print("microseconds a request   bare   within the middleware")
    for name, both in taken.items():
        bare, within = (statistics.median(seconds) / REQUESTS * 1e6 for seconds in both)
        print(f"{name:<20} {bare:>8.2f} {within:>10.2f}")


if __name__ == "__main__":
    main()
