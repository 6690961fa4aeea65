"""What surrounds a log call: layers of subject and entities, each known when an event asks for it.

A layer may be entered in one context and left in another, or never: a generator that holds one may
be closed by another task, or collected on any thread. So a layer is not only taken out of the
context where it is left, but marked where that is not the one that it was entered in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Final, Generic, ParamSpec, TypeVar

from snowplow_logging.calls import Around, Kind, kind_of
from snowplow_logging.protocol import describe

__all__ = [
    "Bound",
    "Layer",
    "around_steps",
    "bound_entities",
    "bound_fields",
    "carry",
    "enter",
    "inside",
    "leave",
    "surroundings",
]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Bound:
    """The subject and the entities that surround a log call.

    Args:
        subject: The fields of the subject.
        context: The entities, those of the innermost `subject_context` first.
        page: The keys `page_url` and `referrer` of the page that is being served, which a page
            view takes where it has none.
    """

    subject: Mapping[str, Any]
    context: Sequence[Any]
    page: Mapping[str, Any] | None = None


def bound_entities(context: Any) -> list[Any]:
    """Return a list of the entities that a program binds; an empty one where it gives none.

    A dict would be taken apart into its keys, and each event inside be refused for one of these.

    Raises:
        TypeError: It is nothing that gives entities, such as one of them by itself.
    """
    if not context:
        return []
    if isinstance(context, (Mapping, str, bytes)) or not isinstance(context, Iterable):
        raise TypeError(f"context {describe(context)}; give a list of entities")
    return [*context]


def bound_fields(name: str, fields: Any) -> dict[str, Any]:
    """Return a copy of the dict that a program binds; an empty one where it gives none.

    Args:
        name: What it is given as.
        fields: The dict.

    Raises:
        TypeError: It is none.
    """
    if fields and not isinstance(fields, Mapping):
        raise TypeError(f"{name} {describe(fields)}; give a dict")
    return dict(fields or {})


class Layer:
    """What one `subject_context`, or one request, adds to what surrounds it.

    Args:
        own: What it adds, or what returns that; it is asked at the first event, and at later ones
            only if it says so by returning False beside it.
        outer: The layer around it.
    """

    __slots__ = ("_known", "_own", "is_abandoned", "outer")

    def __init__(self, own: Bound | Callable[[], tuple[Bound, bool]], outer: Layer | None) -> None:
        self._own = own
        self._known: Bound | None = None
        self.outer = outer
        self.is_abandoned = False

    def bound(self) -> Bound:
        """Return all that surrounds what is inside, the inner field over the outer."""
        if self._known is not None:
            return self._known
        own, is_final = (self._own, True) if isinstance(self._own, Bound) else self._own()
        around = own
        if self.outer is not None:
            outer = self.outer.bound()
            is_final = is_final and self.outer.is_known
            around = Bound(
                {**outer.subject, **own.subject},
                (*own.context, *outer.context),
                outer.page if own.page is None else own.page,
            )
        if is_final:
            self._known = around
        return around

    @property
    def is_known(self) -> bool:
        """Whether nothing of it can change any more."""
        return self._known is not None


_layer: Final[ContextVar[Layer | None]] = ContextVar("snowplow_logging.layer", default=None)


innermost_layer: Final = _layer.get
"""Returns the innermost layer here and now, or one that was left already; None where none is."""


def surroundings() -> Layer | None:
    """Return the innermost layer here and now."""
    layer = _layer.get()
    while layer is not None and layer.is_abandoned:
        layer = layer.outer
    return layer


def enter(
    own: Bound | Callable[[], tuple[Bound, bool]], outer: Layer | None
) -> tuple[Layer, Token[Layer | None]]:
    """Put a layer around everything from here on; `leave` takes what is returned."""
    layer = Layer(own, outer)
    return layer, _layer.set(layer)


def leave(layer: Layer, token: Token[Layer | None]) -> None:
    """Take a layer away again, wherever it was entered. Never raises."""
    if _layer.get() is layer:
        try:
            _layer.reset(token)
            return
        except ValueError:  # this context is a copy of the one that it was entered in
            _layer.set(layer.outer)
    # It still stands in the context that it was entered in, or under a layer that was entered
    # later: there it would go on giving its user to what others log.
    layer.is_abandoned = True


@contextmanager
def inside(own: Bound | Callable[[], tuple[Bound, bool]], outer: Layer | None) -> Iterator[None]:
    """Put a layer around a block."""
    layer, token = enter(own, outer)
    try:
        yield
    finally:
        leave(layer, token)


def around_steps(own: Bound, outer: Layer | None) -> Callable[[], AbstractContextManager[None]]:
    """Return what puts a layer around each step of one generator.

    That layer, and those that the generator enters, are there while it works itself. Who goes
    through what it yields has what surrounds them, and the generator has none of that.
    """
    innermost: Layer | None = Layer(own, outer)

    @contextmanager
    def step() -> Iterator[None]:
        nonlocal innermost
        around = _layer.get()
        _layer.set(innermost)
        try:
            yield
        finally:
            innermost = _layer.get()
            _layer.set(around)

    return step


class _Carried(Generic[P, R]):
    """A function with what surrounded `carry`. It can be pickled if the function can."""

    def __init__(self, function: Callable[P, R], around: Bound) -> None:
        update_wrapper(self, function)
        self._function = function
        self._around = around
        self._call = _around(around).wrap(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Carried, (self._function, self._around)


def _around(bound: Bound) -> Around:
    """Return what puts this around the work of callables, in the place of what is there."""
    return Around(lambda: inside(bound, None), lambda: around_steps(bound, None))


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that runs with the subject and the entities that are bound here and now.

    It is for threads and executors, which start without what is bound where they are given their
    work; `asyncio.to_thread` and tasks of asyncio need no such help.

        executor.submit(carry(work), order)
        threading.Thread(target=carry(work)).start()

    Args:
        function: What is to run elsewhere; what it is called with there is handed on. Of coroutine
            functions and generators, and of a coroutine or generator that a function returns, it is
            the work, whenever that comes. It may run any number of times, also at once. A
            function that works at once may run in another process, too, if it can be pickled.
    """
    layer = surroundings()
    if layer is None:
        return function
    around = layer.bound()
    if kind_of(function) is Kind.AT_ONCE:
        return _Carried(function, around)
    return _around(around).wrap(function)
