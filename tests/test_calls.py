"""`subject_context`, `carry` and `flushing` around callables whose work comes after their call."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle

import pytest

from faulty_collector import FaultyCollector
from helpers import tracking
from snowplow_logging import SnowplowAdapter, carry, flushing, subject_context

pytestmark = pytest.mark.every_python

LATE = {"flush_interval": 600, "shutdown_timeout": 30}
"""Settings with which nothing leaves in the time of a test unless it is flushed."""


@pytest.fixture
def collector():
    """Start a collector that takes everything."""
    with FaultyCollector() as running:
        yield running


@pytest.fixture
def shop(collector):
    """Return an adapter that logs, and has nothing sent before it is flushed."""
    gc.collect()  # `flushing` waits for the handlers that other tests have dropped with events, too
    with tracking(collector, **LATE) as tracked:
        yield SnowplowAdapter(tracked.logger)


class Works:
    """Callables of all kinds, each of which logs "first" and then "last"."""

    def __init__(self, log):
        self.log = log

    def at_once(self):
        """Work."""
        self.log("first")
        self.log("last")

    async def coroutine(self):
        """Work."""
        self.log("first")
        await asyncio.sleep(0)
        self.log("last")

    def generator(self):
        """Work."""
        self.log("first")
        yield "item"
        self.log("last")

    async def async_generator(self):
        """Work."""
        self.log("first")
        yield "item"
        self.log("last")


def called(function):
    """Return an object that is called as a function is, and is of the same kind."""
    if inspect.iscoroutinefunction(function):

        class Called:
            async def __call__(self):
                return await function()

    elif inspect.isasyncgenfunction(function):

        class Called:
            async def __call__(self):
                async for item in function():
                    yield item

    elif inspect.isgeneratorfunction(function):

        class Called:
            def __call__(self):
                yield from function()

    else:

        class Called:
            def __call__(self):
                return function()

    return Called()


def returning(function):
    """Return a function that works at once, as far as anybody sees, and returns the work."""

    def returns():
        return function()

    return returns


FORMS = {
    "method": lambda function: function,
    "partial": functools.partial,
    "object": called,
    "partial of an object": lambda function: functools.partial(called(function)),
    "function that returns it": returning,
}
KINDS = ("at_once", "coroutine", "generator", "async_generator")

every_kind = pytest.mark.parametrize("kind", KINDS)
every_form = pytest.mark.parametrize("form", FORMS)


def run(function, between=lambda: None):
    """Call a function, and await or go through what it returns; do something between its steps."""

    async def main():
        result = function()
        if inspect.isawaitable(result):
            await result
        elif inspect.isasyncgen(result):
            async for item in result:
                assert item == "item"
                between()
        elif inspect.isgenerator(result):
            for item in result:
                assert item == "item"
                between()
        else:
            assert result is None

    asyncio.run(main())


def users(collector):
    """Return the users by the labels of the events that have arrived."""
    return {event["se_la"]: event.get("uid") for event in collector.events}


@every_form
@every_kind
def test_a_subject_is_bound_to_the_work(shop, collector, kind, form):
    """Whenever that comes, and to nothing that others do meanwhile."""
    log = functools.partial(logs, shop)
    work = FORMS[form](getattr(Works(log), kind))
    decorated = subject_context(user_id="u")(work)
    with flushing(), subject_context(language="de"):
        run(decorated, between=lambda: log("between"))
        log("after")
    found = users(collector)
    assert found.pop("between", None) is None
    assert found == {"first": "u", "last": "u", "after": None}
    assert {event["lang"] for event in collector.events} == {"de"}


@every_form
@every_kind
def test_a_subject_is_carried_to_the_work(shop, collector, kind, form):
    """Whenever that comes, in the place of what is bound there, which is there again afterwards."""
    log = functools.partial(logs, shop)
    with subject_context(user_id="u"):
        carried = carry(FORMS[form](getattr(Works(log), kind)))
    with flushing(), subject_context(user_id="other", language="de"):
        run(carried, between=lambda: log("between"))
        log("after")
    found = users(collector)
    assert found.pop("between", "other") == "other"
    assert found == {"first": "u", "last": "u", "after": "other"}
    languages = {event["se_la"]: event.get("lang") for event in collector.events}
    assert (languages["first"], languages["last"], languages["after"]) == (None, None, "de")


@every_form
@every_kind
def test_the_work_is_flushed_at_its_end(shop, collector, kind, form):
    """And neither before it, nor while it is only begun."""
    log = functools.partial(logs, shop)
    early = []

    def log_and_look(label):
        early.extend(users(collector))
        log(label)

    job = flushing(FORMS[form](getattr(Works(log_and_look), kind)))
    run(job, between=lambda: early.extend(users(collector)))
    assert early == []
    assert list(users(collector)) == ["first", "last"]


def logs(shop, label):
    """Log an event that can be told from others."""
    shop.struct_event(category="c", action="a", label=label)


DECORATORS = {
    "subject_context": subject_context(user_id="u"),
    "carry": carry,
    "flushing": flushing,
}


@pytest.fixture(params=DECORATORS)
def decorator(request):
    """Give each of the three, with a subject bound."""
    with subject_context(user_id="u"):
        yield DECORATORS[request.param]


@pytest.mark.parametrize("form", ["method", "partial", "object", "partial of an object"])
@pytest.mark.parametrize("kind", ["coroutine", "generator", "async_generator"])
def test_the_kind_stays(decorator, kind, form):
    """Frameworks ask for it, and pass on what a function says of itself."""
    wrapped = decorator(FORMS[form](getattr(Works(None), kind)))
    asks = {
        "coroutine": inspect.iscoroutinefunction,
        "generator": inspect.isgeneratorfunction,
        "async_generator": inspect.isasyncgenfunction,
    }
    assert [name for name, ask in asks.items() if ask(wrapped)] == [kind]
    if form == "method":
        assert (wrapped.__name__, wrapped.__doc__) == (kind, "Work.")


def test_a_generator_is_gone_through_in_both_directions(decorator):
    """What is sent and thrown into it arrives, and so do its result and its end."""
    said = []

    @decorator
    def talk():
        try:
            said.append((yield 1))
            with pytest.raises(LookupError):
                yield 2
            yield 3
        finally:
            said.append("end")
        return "result"

    talking = talk()
    assert (next(talking), talking.send("sent"), talking.throw(LookupError())) == (1, 2, 3)
    with pytest.raises(StopIteration) as stopped:
        next(talking)
    assert stopped.value.value == "result"
    assert said == ["sent", "end"]
    talking = talk()
    next(talking)
    talking.close()
    assert said == ["sent", "end", "end"]


def test_an_async_generator_is_gone_through_in_both_directions(decorator):
    """What is sent and thrown into it arrives, and so does its end."""
    said = []

    @decorator
    async def talk():
        try:
            said.append((yield 1))
            with pytest.raises(LookupError):
                yield 2
            yield 3
        finally:
            await asyncio.sleep(0)
            said.append("end")

    async def main():
        talking = talk()
        assert await talking.__anext__() == 1
        assert await talking.asend("sent") == 2
        assert await talking.athrow(LookupError()) == 3
        with pytest.raises(StopAsyncIteration):
            await talking.__anext__()
        assert said == ["sent", "end"]
        talking = talk()
        await talking.__anext__()
        await talking.aclose()
        assert said == ["sent", "end", "end"]

    asyncio.run(main())


def test_what_a_generator_binds_is_its_own(shop, collector):
    """In a `with` block over several steps, inside what it is decorated with."""
    log = functools.partial(logs, shop)

    @subject_context(user_id="outer", language="de")
    def steps():
        with subject_context(user_id="inner"):
            log("1")
            yield
            log("2")
        log("3")
        yield

    with flushing():
        for number, _ in enumerate(steps()):
            log(f"between {number}")
    assert users(collector) == {
        **dict.fromkeys(("1", "2"), "inner"),
        **dict.fromkeys(("between 0", "between 1")),
        "3": "outer",
    }


@pytest.mark.parametrize("kind", ["at_once", "coroutine", "generator", "async_generator"])
def test_work_that_fails_is_flushed(shop, collector, kind):
    """And the error is that of the work."""

    def fail(label):
        logs(shop, label)
        raise LookupError

    with pytest.raises(LookupError):
        run(flushing(getattr(Works(fail), kind)))
    assert list(users(collector)) == ["first"]


def test_a_generator_that_nobody_goes_through(shop, collector):
    """What was logged where it was made has arrived."""

    @flushing
    def job():
        logs(shop, "made")
        return (number for number in range(3))

    job()
    assert list(users(collector)) == ["made"]


class Lazy:
    """What is another object once it is asked anything, even for its class."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __await__(self):
        raise RuntimeError("awaited")


WRAPPERS = {
    "carry": carry,
    "subject_context": subject_context(user_id="u"),
    "flushing": flushing,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_other_results_stay_what_they_are(wrapper):
    """A future, and whatever else can be awaited, can do more than that."""

    async def main():
        future = asyncio.get_running_loop().create_future()
        for result in (future, Lazy(), asyncio.sleep):
            with subject_context(user_id="u"):
                wrapped = WRAPPERS[wrapper](lambda result=result: result)
            assert wrapped() is result
        future.set_result(3)
        assert await future == 3

    asyncio.run(main())


def hello(name):
    """Greet."""
    return f"hello {name}"


def test_what_works_at_once_can_be_pickled():
    """As an executor of processes does with what it is given."""
    with subject_context(user_id="u"):
        carried = pickle.loads(pickle.dumps(carry(functools.partial(hello, "world"))))  # noqa: S301
    assert carried() == "hello world"
