"""Django: a project in one file, whose middleware binds each request.

    SNOWPLOW_ENDPOINT=http://127.0.0.1:9090 python examples/django_project.py runserver

In a project of your own, these settings go into settings.py.
"""

import logging
import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.urls import path

from snowplow_logging import SnowplowAdapter

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DEBUG=True,
    LOGGING={
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
    },
    MIDDLEWARE=["snowplow_logging.web.SnowplowMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",  # noqa: S106
    SNOWPLOW_MIDDLEWARE={
        "user": lambda request: request.COOKIES.get("user"),  # or request.user.pk
        "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"],
    },
)

shop = SnowplowAdapter(logging.getLogger("shop"))


def basket(_request: HttpRequest) -> HttpResponse:
    """Show the basket."""
    shop.page_view(page_title="Basket")
    return HttpResponse("Your basket\n")


urlpatterns = [path("basket", basket)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
