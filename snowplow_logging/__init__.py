"""Send events to Snowplow through the standard library's `logging`."""

from snowplow_logging._version import __version__
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
from snowplow_logging.protocol import InvalidEvent
from snowplow_logging.subject import Subject, subject_context

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
