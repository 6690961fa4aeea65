"""Send events to Snowplow through the standard library's `logging`.

Each name is imported when it is first asked for, so that who needs one pays for no other: pytest
loads the plugin of this package in every run, and a command line has no use for the collector.
"""

from typing import TYPE_CHECKING

from snowplow_logging._version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers, which do not follow what is done below
    from snowplow_logging.adapter import SnowplowAdapter as SnowplowAdapter
    from snowplow_logging.collector import LocalCollector as LocalCollector
    from snowplow_logging.events import (
        AddToCart as AddToCart,
        ApplicationError as ApplicationError,
        EcommerceTransaction as EcommerceTransaction,
        EcommerceTransactionItem as EcommerceTransactionItem,
        Event as Event,
        FormChange as FormChange,
        FormSubmit as FormSubmit,
        InvalidEvent as InvalidEvent,
        LinkClick as LinkClick,
        PagePing as PagePing,
        PageView as PageView,
        RemoveFromCart as RemoveFromCart,
        ScreenView as ScreenView,
        SelfDescribing as SelfDescribing,
        SelfDescribingJson as SelfDescribingJson,
        SiteSearch as SiteSearch,
        StructuredEvent as StructuredEvent,
    )
    from snowplow_logging.flushes import aflush as aflush, flush as flush, flushing as flushing
    from snowplow_logging.formatter import SnowplowJsonFormatter as SnowplowJsonFormatter
    from snowplow_logging.handler import SnowplowHandler as SnowplowHandler
    from snowplow_logging.subject import Subject as Subject, subject_context as subject_context
    from snowplow_logging.surroundings import carry as carry
else:
    from importlib import import_module

    _MODULES = {
        "_version": ("__version__",),
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
        "flushes": ("aflush", "flush", "flushing"),
        "formatter": ("SnowplowJsonFormatter",),
        "handler": ("SnowplowHandler",),
        "subject": ("Subject", "subject_context"),
        "surroundings": ("carry",),
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
    __all__ = list(_MODULE_OF)

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value  # the next time it is found without this function
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
