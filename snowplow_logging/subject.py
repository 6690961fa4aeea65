"""Whom or what events are about, and how a request binds that to everything logged inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict, TypeVar
from uuid import UUID

from snowplow_logging.calls import Around
from snowplow_logging.kept import keep_in_records
from snowplow_logging.number_types import dimensions, integer_text
from snowplow_logging.protocol import (
    PLATFORMS,
    Key,
    Text,
    annotated_keys,
    atomic_text,
    first_address,
    is_given,
    one_of,
    unless_empty,
    uuid,
)
from snowplow_logging.surroundings import (
    Bound,
    around_steps,
    bound_entities,
    inside,
    surroundings,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SUBJECT_KEYS", "Subject", "subject_context"]


class Subject(TypedDict, total=False):
    """Whom or what an event is about. All fields are optional.

    It is a plain dict at run time; `Subject(user_id="u-42")` and `{"user_id": "u-42"}` are alike.
    The sizes are pairs of width and height in pixels.
    """

    platform: Annotated[str, Key("p", unless_empty(one_of(*PLATFORMS)))]
    user_id: Annotated[Text, Key("uid", atomic_text(255))]
    domain_user_id: Annotated[Text, Key("duid", atomic_text(128))]
    domain_session_id: Annotated[UUID | str, Key("sid", unless_empty(uuid))]
    domain_session_index: Annotated[int, Key("vid", integer_text)]
    network_user_id: Annotated[Text, Key("tnuid", atomic_text(128))]
    ip_address: Annotated[Text, Key("ip", first_address)]
    useragent: Annotated[Text, Key("ua", atomic_text(1000, cut=True))]
    language: Annotated[Text, Key("lang", atomic_text(255))]
    timezone: Annotated[Text, Key("tz", atomic_text(255))]
    color_depth: Annotated[Text, Key("cd", atomic_text(12))]
    screen_resolution: Annotated[tuple[int, int], Key("res", dimensions)]
    viewport: Annotated[tuple[int, int], Key("vp", dimensions)]


SUBJECT_KEYS: Final[dict[str, Key]] = annotated_keys(Subject)
"""The fields of a subject with what Snowplow wants to know of each."""


_F = TypeVar("_F", bound=Callable[..., Any])


@contextmanager
def _inside(bound: Bound) -> Iterator[None]:
    keep_in_records()
    with inside(bound, surroundings()):
        yield


class _SubjectContext(AbstractContextManager[None]):
    """Binds a subject and entities in one block, or in each call of a function."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._block = _inside(bound)

    def __enter__(self) -> None:
        self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, traceback)

    def __call__(self, function: _F) -> _F:
        """Return a callable of the same kind with the same around the work of each of its calls."""
        return Around(lambda: _inside(self._bound), self._around_steps).wrap(function)

    def _around_steps(self) -> Callable[[], AbstractContextManager[None]]:
        keep_in_records()
        return around_steps(self._bound, surroundings())


def subject_context(
    *, context: Sequence[Any] | None = None, **subject: Unpack[Subject]
) -> _SubjectContext:
    """Bind a subject and entities to every event that is logged inside.

    It is a context manager, and a decorator of functions, coroutine functions and generators.
    Inside is what happens in this thread or asyncio task and in the tasks that it starts; a new
    thread starts without, unless `carry` takes it along. It may be left in another context than it
    was entered in, as a generator's is that another task closes. Nested ones add up: an inner field
    wins over an outer one, entities are joined.

    A decorated generator has it, and what surrounded its first step, while it works itself. What
    others do with what it yields is not inside, nor is a `with` block that `contextmanager` makes
    of it: for that, write `with subject_context(…):` in the generator.

    A value that Snowplow would refuse shows when an event is logged, never here. What raises here
    is a `context` that is no list.

    Records keep it through copies and pickles, and so through `QueueHandler` and the queues of
    `multiprocessing`; where a record is of a class of the program's own, its events do. Not
    through `SocketHandler`, which sends a record's attributes alone, where any formatter would show
    it: there use `SnowplowAdapter.bind`, which adds to the event itself.

    Args:
        context: Entities, each a dict with `schema` and `data` or a `SelfDescribingJson`.
        **subject: The fields of a `Subject`.

    Raises:
        TypeError: The context is no list.
    """
    entities = bound_entities(context)
    # Empty text must not hide a field of an outer subject.
    fields = {name: value for name, value in subject.items() if is_given(value)}
    return _SubjectContext(Bound(fields, tuple(entities)))
