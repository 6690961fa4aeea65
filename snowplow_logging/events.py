"""The events: one definition per type serves dicts, classes, adapter, checks and documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Protocol, TypeAlias
from uuid import UUID

from snowplow_logging.event_ids import MessageText, identified
from snowplow_logging.kept import keep_in_records
from snowplow_logging.nested_values import (
    ELEMENT_TYPE,
    NODE_NAME,
    boolean,
    filters,
    form_element,
    list_of,
)
from snowplow_logging.number_types import (
    Number,
    decimal,
    integer,
    integer_text,
    milliseconds,
    number,
)
from snowplow_logging.protocol import (
    Key,
    Refused,
    Text,
    annotated_keys,
    atomic_text,
    derived_uuid,
    describe,
    one_of,
    schema_uri,
    text,
    uuid,
)
from snowplow_logging.python_types import is_single
from snowplow_logging.subject import Subject
from snowplow_logging.urls import page_uri, referrer_uri

__all__ = [
    "COMMON_KEYS",
    "EVENTS",
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
    "summary",
]

_LONGEST_VALUE: Final = 200  # characters of a value in the line that shows an event
_SNOWPLOW: Final = "iglu:com.snowplowanalytics.snowplow"


class InvalidEvent(ValueError):
    """An event that Snowplow would refuse and that was therefore not sent.

    Attributes:
        event: The name of the event, such as `page_view`.
        key: The key at fault.
        problem: What was wrong with its value.
        expected: What would be right.
        loss: The reason under which it is counted.
    """

    def __init__(
        self, event: str, key: str, problem: str, expected: str, loss: str = "invalid event"
    ) -> None:
        super().__init__(event, key, problem, expected, loss)
        self.event, self.key, self.problem, self.expected = event, key, problem, expected
        self.loss = loss

    def __str__(self) -> str:
        """Name the event, the key, what was wrong and what would be right."""
        return f"{self.event}: {self.key} {self.problem}; give {self.expected}"


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Attrs(Protocol):
    __attrs_attrs__: ClassVar[Any]


class _Pydantic(Protocol):
    def model_dump(self) -> Any: ...


class _Struct(Protocol):
    __struct_fields__: ClassVar[tuple[str, ...]]


Data: TypeAlias = Mapping[str, Any] | _Dataclass | _Attrs | _Pydantic | _Struct
"""What is taken as data: a dict, or an object of a dataclass, attrs, pydantic or msgspec."""


@dataclass(frozen=True)
class SelfDescribingJson:
    """Data with the schema that describes it: an entity, or a self-describing event's body.

    Args:
        schema: The Iglu URI of the schema.
        data: The data, as the schema wants it: a dict, or an object of a dataclass, attrs,
            pydantic or msgspec.
    """

    schema: str
    data: Data


def summary(name: object, keys: Mapping[str, Any]) -> str:
    """Return an event as one readable line: its name and its plain values."""
    values = []
    for key, value in keys.items():
        if key not in COMMON_KEYS and isinstance(value, (str, int, float, Decimal, UUID)):
            try:
                text = f"{value!s}"
            except Exception:  # noqa: BLE001 - such as an int of too many digits for Python
                text = "…"
            if len(text) > _LONGEST_VALUE:
                text = f"{text[:_LONGEST_VALUE]}…"
            # Line breaks are escaped, and whatever else no terminal shows.
            values.append(f"{key}={text if text.isprintable() else repr(text)[1:-1]}")
    return " ".join([str(name), *values])


COMMON_KEYS: Final = ("event", "context", "subject", "true_timestamp", "event_id")
"""What every event takes besides its own keys; `event` is its name where it is a dict."""

EVENTS: Final[dict[str, type[Event]]] = {}
"""The class of each event by the name that a dict gives as `event`."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events share. Use one of its subclasses.

    An event is checked when it is logged, not when it is made, so that a bad one never raises
    in the program that logs.

    Args:
        context: The entities that belong to the event.
        subject: Whom or what it is about.
        true_timestamp: When it truly happened, if that is not when it is logged: milliseconds
            since 1970 UTC, or an aware datetime.
        event_id: Its UUID; made where absent.
    """

    event_name: ClassVar[str]
    event_type: ClassVar[str]  # the protocol's `e`
    event_schema: ClassVar[str | None]

    context: Sequence[SelfDescribingJson | Mapping[str, Any]] | None = None
    subject: Subject | Mapping[str, Any] | None = None
    true_timestamp: Annotated[float | datetime | None, Key("ttm", milliseconds)] = None
    event_id: UUID | str | None = None

    def __init_subclass__(
        cls, *, names: Sequence[str], e: str = "ue", schema: str | None = None
    ) -> None:
        """Register an event type.

        Args:
            names: Its names in dicts, the first being the usual one.
            e: The protocol's name for it.
            schema: Its schema, where `e` is `ue`.
        """
        cls.event_name, cls.event_type, cls.event_schema = names[0], e, schema
        EVENTS.update(dict.fromkeys(names, cls))

    def __str__(self) -> str:
        """Return a readable line for handlers that write text."""
        event = self.as_event_dict()
        text = MessageText(summary(self.event_name, event))
        text.event = event
        return text

    def __post_init__(self) -> None:
        """Have records keep an event that is their message."""
        keep_in_records()

    def as_event_dict(self) -> dict[str, Any]:
        """Return the event as a dict of what is set; what it holds is not copied."""
        nullable = _nullable_keys(self.event_name)
        given = {k: v for k, v in vars(self).items() if v is not None or k in nullable}
        if self.context is not None:
            given["context"] = _entities_as_dicts(self.context)
        return identified({"event": self.event_name, **given})

    @classmethod
    def keys(cls) -> dict[str, Key]:
        """Return the event's own keys with what Snowplow wants to know of each."""
        required = {f.name for f in fields(cls) if f.default is MISSING}
        return {
            name: replace(key, required=key.required or name in required)
            for name, key in annotated_keys(cls).items()
            if name not in COMMON_KEYS
        }


def _entities_as_dicts(context: Any) -> Any:
    """Return entities as dicts, which any formatter can write; what is no list as it is."""
    if not isinstance(context, (list, tuple)):
        return context
    return [{**vars(one)} if type(one) is SelfDescribingJson else one for one in context]


@cache
def _nullable_keys(name: str) -> frozenset[str]:
    """Return the keys where None is a value; elsewhere it is the same as absent."""
    return frozenset(key for key, known in EVENTS[name].keys().items() if known.nullable)


@dataclass(frozen=True, kw_only=True)
class PageView(Event, names=["page_view"], e="pv"):
    """Somebody saw a page. Within a request that a middleware serves, its URL is that page's."""

    page_url: Annotated[Text | None, Key("url", page_uri, required=True)] = None
    page_title: Annotated[Text | None, Key("page", atomic_text(2_000, cut=True))] = None
    referrer: Annotated[Text | None, Key("refr", referrer_uri)] = None


@dataclass(frozen=True, kw_only=True)
class PagePing(Event, names=["page_ping"], e="pp"):
    """Somebody is still on a page; the offsets are how far it was scrolled since, in pixels."""

    page_url: Annotated[Text | None, Key("url", page_uri, required=True)] = None
    page_title: Annotated[Text | None, Key("page", atomic_text(2_000, cut=True))] = None
    referrer: Annotated[Text | None, Key("refr", referrer_uri)] = None
    min_x: Annotated[int | None, Key("pp_mix", integer_text)] = None
    max_x: Annotated[int | None, Key("pp_max", integer_text)] = None
    min_y: Annotated[int | None, Key("pp_miy", integer_text)] = None
    max_y: Annotated[int | None, Key("pp_may", integer_text)] = None


@dataclass(frozen=True, kw_only=True)
class EcommerceTransactionItem(Event, names=["ecommerce_transaction_item"], e="ti"):
    """One item of a transaction."""

    order_id: Annotated[Text, Key("ti_id", atomic_text(255))]
    sku: Annotated[Text, Key("ti_sk", atomic_text(255))]
    price: Annotated[Number, Key("ti_pr", decimal)]
    quantity: Annotated[int, Key("ti_qu", integer_text)]
    name: Annotated[Text | None, Key("ti_nm", atomic_text(255))] = None
    category: Annotated[Text | None, Key("ti_ca", atomic_text(255))] = None
    currency: Annotated[Text | None, Key("ti_cu", atomic_text(3))] = None


def _items(value: Any) -> None:
    # A list has become events of its own before a transaction is checked.
    raise Refused(describe(value), "a list of dicts with the keys of an item")


@dataclass(frozen=True, kw_only=True)
class EcommerceTransaction(Event, names=["ecommerce_transaction"], e="tr"):
    """Somebody bought something.

    Each of the `items`, a dict with the keys of `EcommerceTransactionItem`, is sent as an event
    of its own. It takes the order id from the transaction and, where it has none of its own, the
    currency, the true timestamp, the subject and the context.
    """

    order_id: Annotated[Text, Key("tr_id", atomic_text(255))]
    total_value: Annotated[Number, Key("tr_tt", decimal)]
    affiliation: Annotated[Text | None, Key("tr_af", atomic_text(255))] = None
    tax_value: Annotated[Number | None, Key("tr_tx", decimal)] = None
    shipping: Annotated[Number | None, Key("tr_sh", decimal)] = None
    city: Annotated[Text | None, Key("tr_ci", atomic_text(255))] = None
    state: Annotated[Text | None, Key("tr_st", atomic_text(255))] = None
    country: Annotated[Text | None, Key("tr_co", atomic_text(255))] = None
    currency: Annotated[Text | None, Key("tr_cu", atomic_text(3))] = None
    items: Annotated[
        Sequence[Mapping[str, Any] | EcommerceTransactionItem] | None, Key("items", _items)
    ] = None


@dataclass(frozen=True, kw_only=True)
class LinkClick(Event, names=["link_click"], schema=f"{_SNOWPLOW}/link_click/jsonschema/1-0-1"):
    """Somebody followed a link."""

    target_url: Annotated[Text, Key("targetUrl", text(least=1))]
    element_id: Annotated[Text | None, Key("elementId", text())] = None
    element_classes: Annotated[Sequence[Text] | None, Key("elementClasses", list_of(text()))] = None
    element_target: Annotated[Text | None, Key("elementTarget", text())] = None
    element_content: Annotated[Text | None, Key("elementContent", text())] = None


@dataclass(frozen=True, kw_only=True)
class AddToCart(Event, names=["add_to_cart"], schema=f"{_SNOWPLOW}/add_to_cart/jsonschema/1-0-0"):
    """Somebody put something into a cart."""

    sku: Annotated[Text, Key("sku", text())]
    quantity: Annotated[Number, Key("quantity", number)]
    name: Annotated[Text | None, Key("name", text())] = None
    category: Annotated[Text | None, Key("category", text())] = None
    unit_price: Annotated[Number | None, Key("unitPrice", number)] = None
    currency: Annotated[Text | None, Key("currency", text())] = None


@dataclass(frozen=True, kw_only=True)
class RemoveFromCart(
    AddToCart,
    names=["remove_from_cart"],
    schema=f"{_SNOWPLOW}/remove_from_cart/jsonschema/1-0-0",
):
    """Somebody took something out of a cart; the keys are those of `AddToCart`."""


@dataclass(frozen=True, kw_only=True)
class FormChange(Event, names=["form_change"], schema=f"{_SNOWPLOW}/change_form/jsonschema/1-0-0"):
    """Somebody changed a field of a form; a `value` of None is sent as null."""

    form_id: Annotated[Text, Key("formId", text(4_096))]
    element_id: Annotated[Text, Key("elementId", text(4_096))]
    node_name: Annotated[str, Key("nodeName", NODE_NAME)]
    value: Annotated[Text | None, Key("value", text(65_535), nullable=True)]
    type: Annotated[str | None, Key("type", ELEMENT_TYPE)] = None
    element_classes: Annotated[
        Sequence[Text] | None, Key("elementClasses", list_of(text(4_096)))
    ] = None


@dataclass(frozen=True, kw_only=True)
class FormSubmit(Event, names=["form_submit"], schema=f"{_SNOWPLOW}/submit_form/jsonschema/1-0-0"):
    """Somebody submitted a form.

    Each of the `elements` is a dict with `name`, `value` (None is sent as null), `node_name` and,
    if wanted, `type`.
    """

    form_id: Annotated[Text, Key("formId", text(4_096))]
    form_classes: Annotated[Sequence[Text] | None, Key("formClasses", list_of(text(4_096)))] = None
    elements: Annotated[
        Sequence[Mapping[str, Any]] | None, Key("elements", list_of(form_element))
    ] = None


@dataclass(frozen=True, kw_only=True)
class SiteSearch(Event, names=["site_search"], schema=f"{_SNOWPLOW}/site_search/jsonschema/1-0-0"):
    """Somebody searched the site."""

    terms: Annotated[Sequence[Text], Key("terms", list_of(text(), least=1))]
    filters: Annotated[Mapping[str, Text | bool] | None, Key("filters", filters)] = None
    total_results: Annotated[int | None, Key("totalResults", integer(least=0))] = None
    page_results: Annotated[int | None, Key("pageResults", integer(least=0))] = None


def _screen_id(event_id: str) -> str:
    return derived_uuid(f"screen {event_id}".encode())


@dataclass(frozen=True, kw_only=True)
class ScreenView(
    Event,
    names=["screen_view"],
    schema="iglu:com.snowplowanalytics.mobile/screen_view/jsonschema/1-0-0",
):
    """Somebody saw a screen of an app; `id` is a fresh UUID where absent."""

    name: Annotated[Text, Key("name", text())]
    id: Annotated[
        UUID | str | None,
        # Made of the event's id, so that every handler that sees the record comes to the same.
        Key("id", uuid, default=_screen_id),
    ] = None
    type: Annotated[Text | None, Key("type", text())] = None
    previous_name: Annotated[Text | None, Key("previousName", text())] = None
    previous_id: Annotated[UUID | str | None, Key("previousId", uuid)] = None
    previous_type: Annotated[Text | None, Key("previousType", text())] = None
    transition_type: Annotated[Text | None, Key("transitionType", text())] = None


@dataclass(frozen=True, kw_only=True)
class StructuredEvent(Event, names=["struct_event"], e="se"):
    """Somebody did something that is told in Snowplow's five classic fields."""

    category: Annotated[Text, Key("se_ca", atomic_text(1_000))]
    action: Annotated[Text, Key("se_ac", atomic_text(1_000))]
    label: Annotated[Text | None, Key("se_la", atomic_text(4_096))] = None
    property: Annotated[Text | None, Key("se_pr", atomic_text(1_000))] = None
    value: Annotated[Number | None, Key("se_va", decimal)] = None


_LANGUAGE: Final = one_of(
    *"JAVA SCALA KOTLIN GROOVY RUBY GOLANG JAVASCRIPT PHP PYTHON OBJECTIVEC SWIFT C CPLUSPLUS "
    "CSHARP ACTIONSCRIPT LUA RUST HASKELL CLOJURE ERLANG ELIXIR CRYSTAL PONY NIM".split()
)


def _data(value: Any) -> Any:
    if type(value) is not dict and is_single(value):
        raise Refused(describe(value), "a dict, as the schema wants it")
    return value


@dataclass(frozen=True, kw_only=True)
class SelfDescribing(Event, names=["self_describing_event", "unstruct_event"]):
    """Anything else: data with a schema of your own."""

    schema: Annotated[Text, Key("schema", schema_uri)]
    data: Annotated[Data, Key("data", _data)]


def _python(_: str) -> str:
    return "PYTHON"


@dataclass(frozen=True, kw_only=True)
class ApplicationError(
    Event, names=["application_error"], schema=f"{_SNOWPLOW}/application_error/jsonschema/1-0-2"
):
    """Something went wrong in the program; texts that are too long are cut."""

    message: Annotated[Text, Key("message", text(2_048, cut=True))]
    programming_language: Annotated[
        str | None, Key("programmingLanguage", _LANGUAGE, default=_python)
    ] = None
    thread_name: Annotated[Text | None, Key("threadName", text(1_024, cut=True))] = None
    thread_id: Annotated[int | None, Key("threadId", integer(least=0))] = None
    stack_trace: Annotated[Text | None, Key("stackTrace", text(8_192, cut=True))] = None
    cause_stack_trace: Annotated[Text | None, Key("causeStackTrace", text(8_192, cut=True))] = None
    line_number: Annotated[int | None, Key("lineNumber", integer(least=0))] = None
    class_name: Annotated[Text | None, Key("className", text(1_024, cut=True))] = None
    exception_name: Annotated[Text | None, Key("exceptionName", text(1_024, cut=True))] = None
    is_fatal: Annotated[bool | None, Key("isFatal", boolean)] = None
    line_column: Annotated[int | None, Key("lineColumn", integer(least=0))] = None
    file_name: Annotated[Text | None, Key("fileName", text(1_024, cut=True))] = None
