"""Flushing all Snowplow handlers of the process at once, at the end of a job among others."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar, overload

from snowplow_logging.calls import Around
from snowplow_logging.lifecycle import lifecycle
from snowplow_logging.protocol import describe

__all__ = ["aflush", "flush", "flushing", "seconds"]

_F = TypeVar("_F", bound=Callable[..., Any])


def flush(timeout: float | None = None) -> bool:
    """Wait until all that was logged in this process has been answered for, by every handler.

    It covers all Snowplow handlers, whether they were configured by `dictConfig`, `fileConfig` or
    by hand. In a forked child it waits for what the child has logged.

    Args:
        timeout: The seconds to wait at most, for all handlers together; None for the
            `shutdown_timeout` of each, `math.inf` for ever.

    Returns:
        True once it has, False when the time is up.

    Raises:
        TypeError: The timeout is no number.
        ValueError: It is not a number (NaN).
    """
    return lifecycle.flush(seconds(timeout))


async def aflush(timeout: float | None = None) -> bool:
    """Do as `flush` does, and let the asyncio event loop go on meanwhile.

    Args:
        timeout: As with `flush`.

    Returns:
        As `flush` does.
    """
    seconds(timeout)
    if lifecycle.flush(0):
        return True
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def tell(answered: bool) -> None:  # noqa: FBT001 - it is the result
        if not done.done():
            done.set_result(answered)

    def wait() -> None:
        answered = lifecycle.flush(timeout)
        with contextlib.suppress(RuntimeError):  # the loop has been closed, and nobody waits
            loop.call_soon_threadsafe(tell, answered)

    # A thread of its own: those of the loop's executor may all be busy, or gone at its end.
    try:
        threading.Thread(target=wait, name="snowplow-logging-flush", daemon=True).start()
    except RuntimeError:  # no thread can be started, as at the end of the process
        return lifecycle.flush(timeout)
    return await done


def seconds(timeout: float | None) -> float | None:
    """Return a timeout that a caller has given, in seconds.

    Raises:
        TypeError: It is neither a number nor None.
        ValueError: It is not a number (NaN).
    """
    if timeout is not None and not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout {describe(timeout)}; give seconds, or None")
    if timeout is not None and math.isnan(timeout):
        raise ValueError(f"timeout {describe(timeout)}; give seconds, or None")
    return timeout


class _Flushing:
    """Flushes at the end of a block, or of each call of a function."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = seconds(timeout)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        _tell(answered=flush(self._timeout))

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        _tell(answered=await aflush(self._timeout))

    def __call__(self, function: _F) -> _F:
        """Return a callable of the same kind that does the same and then flushes."""
        return Around(whole=self).wrap(function)


@overload
def flushing(timeout: _F, /) -> _F: ...
@overload
def flushing(timeout: float | None = None) -> _Flushing: ...
def flushing(timeout: Any = None) -> Any:
    """Flush all Snowplow handlers of the process at the end of a job.

    That is for jobs whose process may end without Python's exit, or stand still afterwards: those
    of RQ, tasks in a `multiprocessing.Pool`, AWS Lambda.

        with flushing():
            work()


        @flushing
        def work(): ...

    It is a context manager, `with` or `async with`, and a decorator of functions, coroutine
    functions and generators; where a function returns a coroutine or a generator, it flushes at the
    end of that. The events are sent whether or not the job raises. Events that are not answered for
    when the time is up are told on standard error, once a minute.

    Args:
        timeout: The seconds to wait at most, as with `flush`; or the function to decorate.
    """
    return _Flushing(None)(timeout) if callable(timeout) else _Flushing(timeout)


def _tell(*, answered: bool) -> None:
    if not answered:
        lifecycle.tell_what_waits()
