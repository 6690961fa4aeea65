"""Puts something around the work of a callable, also where that work comes after its call.

The call of a coroutine or generator function does nothing yet. Whoever only looks at the call there
would bind, or flush, around nothing, and nobody would be told.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, Protocol, TypeVar, cast

__all__ = ["Around", "Kind", "kind_of"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Block = Callable[[], AbstractContextManager[Any]]


class Kind(Enum):
    """When a callable does its work."""

    AT_ONCE = auto()
    AWAITED = auto()
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()


def kind_of(function: Callable[..., Any]) -> Kind:
    """Return when a callable does its work, as far as that can be told before it is called.

    It may be a function or a method, a partial of anything, or an object with a `__call__`.
    """
    while isinstance(function, functools.partial):
        function = function.func
    for called in (function, type(function).__call__):
        if inspect.iscoroutinefunction(called):
            return Kind.AWAITED
        if inspect.isgeneratorfunction(called):
            return Kind.GENERATOR
        if inspect.isasyncgenfunction(called):
            return Kind.ASYNC_GENERATOR
    return Kind.AT_ONCE


_LATER: Final = {
    CoroutineType: Kind.AWAITED,
    GeneratorType: Kind.GENERATOR,
    AsyncGeneratorType: Kind.ASYNC_GENERATOR,
}
"""What is returned of work that is still to come. Other objects that can be awaited may be more."""


class _Whole(Protocol):
    """A block that is entered with `with` or `async with`, any number of times."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *_: object) -> Any: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *_: object) -> Any: ...


class Around:
    """What is put around the work of callables.

    Args:
        each: Gives a block for a call that does its work at once, or for all of an awaited one.
        steps: Gives, for one generator, what gives a block for each of its steps, so that it is
            not around what others do between two of them.
        whole: A block at whose end the work is over, whenever that is.
    """

    def __init__(
        self,
        each: _Block = nullcontext,
        steps: Callable[[], _Block] = lambda: nullcontext,
        whole: _Whole | None = None,
    ) -> None:
        self._each = each
        self._steps = steps
        self._whole: _Whole = nullcontext() if whole is None else whole
        self._wrappers: dict[Kind, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
            Kind.AT_ONCE: self._at_once,
            Kind.AWAITED: self._awaited,
            Kind.GENERATOR: self._generator,
            Kind.ASYNC_GENERATOR: self._async_generator,
        }

    def wrap(self, function: _F) -> _F:
        """Return a callable of the same kind, with this around the work of each of its calls.

        A coroutine or generator that a function returns comes back with this around it as well.
        What else it returns is left alone: a future works on by itself, with what was bound where
        it was made, and other objects that can be awaited may be more than that.
        """
        return cast("_F", functools.wraps(function)(self._wrappers[kind_of(function)](function)))

    def _at_once(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def of_function(*args: Any, **keywords: Any) -> Any:
            try:
                with self._each():
                    result = function(*args, **keywords)
            except BaseException:
                with self._whole:
                    raise
            later = _LATER.get(type(result), Kind.AT_ONCE)  # not asked for, as it may be lazy
            if later in (Kind.AT_ONCE, Kind.GENERATOR):
                with self._whole:  # at once for a generator, too, through which nobody may go
                    pass
            return result if later is Kind.AT_ONCE else self._wrappers[later](lambda: result)()

        return of_function

    def _awaited(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def of_coroutine(*args: Any, **keywords: Any) -> Any:
            async with self._whole:
                with self._each():
                    return await function(*args, **keywords)

        return of_coroutine

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def of_generator(*args: Any, **keywords: Any) -> Generator[Any, Any, Any]:
            with self._whole:
                return (yield from _Steps(function(*args, **keywords), self._steps()))

        return of_generator

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def of_async_generator(*args: Any, **keywords: Any) -> AsyncGenerator[Any, Any]:
            # What `yield from` does, which is not to be had for async generators.
            async with self._whole:
                items, step = function(*args, **keywords), self._steps()
                go_on = items.__anext__()
                while True:
                    try:
                        with step():
                            item = await go_on
                    except StopAsyncIteration:
                        return
                    try:
                        go_on = items.asend((yield item))
                    except GeneratorExit:
                        with step():
                            await items.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - that is for it to handle
                        go_on = items.athrow(error)

        return of_async_generator


class _Steps(Generator[Any, Any, Any]):
    """A generator with a block around each of its steps."""

    def __init__(self, items: Generator[Any, Any, Any], step: _Block) -> None:
        self._items = items
        self._step = step

    def send(self, value: Any) -> Any:
        with self._step():
            return self._items.send(value)

    def throw(self, *error: Any) -> Any:
        with self._step():
            return self._items.throw(*error)

    def close(self) -> None:
        with self._step():
            self._items.close()
