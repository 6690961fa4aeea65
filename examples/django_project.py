"""Django: a project in one file, whose middleware binds each request.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 python examples/django_project.py runserver

In a project of your own, LOGGING goes into settings.py and the middleware into a module that
MIDDLEWARE names.
"""

import os
import sys
from collections.abc import Callable

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.urls import path
from web_request import page_view, serving

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "snowplow": {
            "class": "snowplow_logging.SnowplowHandler",
            "endpoint": os.environ.get("SNOWPLOW_ENDPOINT", "http://127.0.0.1:9090"),
            "app_id": "django-shop",
        },
    },
    "root": {"level": "INFO", "handlers": ["snowplow"]},
}

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEBUG=True,
    LOGGING=LOGGING,
    MIDDLEWARE=[f"{__name__}.snowplow_middleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",  # noqa: S106
)


def snowplow_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Bind a request while its view runs."""

    def serve(request: HttpRequest) -> HttpResponse:
        with serving(
            user_id=request.COOKIES.get("user"),  # in a real project, request.user.pk
            peer=request.META["REMOTE_ADDR"],
            forwarded_for=request.headers.get("X-Forwarded-For", ""),
            useragent=request.headers.get("User-Agent", ""),
            url=request.build_absolute_uri(),
            referrer=request.headers.get("Referer", ""),
        ):
            return get_response(request)

    return serve


def basket(_request: HttpRequest) -> HttpResponse:
    """Show the basket."""
    page_view("Basket")
    return HttpResponse("Your basket\n")


urlpatterns = [path("basket", basket)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
