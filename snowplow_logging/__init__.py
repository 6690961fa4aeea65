"""Send events to Snowplow through the standard library's `logging`.

Each name is imported when it is first asked for, so that who needs one pays for no other: pytest
loads the plugin of this package in every run, and a command line has no use for the collector.
"""

from typing import TYPE_CHECKING

from snowplow_logging import _compiled
from snowplow_logging._version import __version__

_compiled.serve_once(__path__)

if TYPE_CHECKING:
    from snowplow_logging.adapter import SnowplowAdapter
    from snowplow_logging.collector import LocalCollector
    from snowplow_logging.events import (
        AddToCart,
        ApplicationError,
        EcommerceTransaction,
        EcommerceTransactionItem,
        Event,
        FormChange,
        FormSubmit,
        InvalidEvent,
        LinkClick,
        PagePing,
        PageView,
        RemoveFromCart,
        ScreenView,
        SelfDescribing,
        SelfDescribingJson,
        SiteSearch,
        StructuredEvent,
    )
    from snowplow_logging.formatter import SnowplowJsonFormatter
    from snowplow_logging.handler import SnowplowHandler
    from snowplow_logging.subject import Subject, subject_context
else:
    from importlib import import_module

    _MODULES = {
        "adapter": ("SnowplowAdapter",),
        "collector": ("LocalCollector",),
        "events": (
            "AddToCart",
            "ApplicationError",
            "EcommerceTransaction",
            "EcommerceTransactionItem",
            "Event",
            "FormChange",
            "FormSubmit",
            "InvalidEvent",
            "LinkClick",
            "PagePing",
            "PageView",
            "RemoveFromCart",
            "ScreenView",
            "SelfDescribing",
            "SelfDescribingJson",
            "SiteSearch",
            "StructuredEvent",
        ),
        "formatter": ("SnowplowJsonFormatter",),
        "handler": ("SnowplowHandler",),
        "subject": ("Subject", "subject_context"),
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value  # the next time it is found without this function
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "AddToCart",
    "ApplicationError",
    "EcommerceTransaction",
    "EcommerceTransactionItem",
    "Event",
    "FormChange",
    "FormSubmit",
    "InvalidEvent",
    "LinkClick",
    "LocalCollector",
    "PagePing",
    "PageView",
    "RemoveFromCart",
    "ScreenView",
    "SelfDescribing",
    "SelfDescribingJson",
    "SiteSearch",
    "SnowplowAdapter",
    "SnowplowHandler",
    "SnowplowJsonFormatter",
    "StructuredEvent",
    "Subject",
    "__version__",
    "subject_context",
]
