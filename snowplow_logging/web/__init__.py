"""The subject of a web request: `SnowplowMiddleware` for ASGI, WSGI and Django."""

from snowplow_logging.web.middleware import SnowplowMiddleware

__all__ = ["SnowplowMiddleware"]
