"""A usual event goes a short way, on which the handler is what it is for any other."""

from __future__ import annotations

import signal
import socket
from types import SimpleNamespace

import pytest

from event_examples import BY_NAME, as_dict
from helpers import RecordingHandler, record, tracking

PAGE = as_dict(BY_NAME["page_view"])


@pytest.mark.parametrize("method", ["emit", "filter"])
@pytest.mark.parametrize("owner", ["instance", "class", "subclass"])
def test_a_method_that_was_replaced_is_called(monkeypatch, method, owner):
    """Somebody may replace it in a test, or inherit from the handler."""
    seen = []
    with tracking() as tracked:
        handler = tracked.handler
        if owner == "subclass":
            handler.__class__ = type("Handler", (RecordingHandler,), {})
        target = handler if owner == "instance" else type(handler)
        monkeypatch.setattr(target, method, lambda *args: seen.append(args[-1]), raising=False)
        tracked.log(PAGE)
        assert len(seen) == 1
        assert handler.stats.queued == 0


def test_an_event_on_the_logger_of_reports_is_none():
    """What is logged there is shown, and never sent."""
    with tracking() as tracked:
        for _ in range(2):
            tracked.logger.handle(record(PAGE, name="snowplow_logging"))
        assert tracked.handler.stats.queued == 0


@pytest.mark.parametrize("created", [1_000_000, 10**12])
def test_a_time_that_makes_no_sense_is_refused(created):
    """A record of the program's own may have any."""
    with tracking() as tracked:
        tracked.logger.handle(record(PAGE, created=created))
        assert [error.key for error in tracked.handler.errors] == ["created"]
        assert tracked.handler.stats.queued == 0


def test_what_a_signal_handler_raises_does_not_leave_the_log_call():
    """It is handled as any error of a handler is."""

    def interrupt(*_):
        raise ValueError("of a signal handler")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            tracking(
                SimpleNamespace(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"),
                queue_size=1,
                on_full="block",
                block_timeout=20.0,
                shutdown_timeout=0.2,
            ) as tracked,
        ):
            tracked.log(PAGE)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            tracked.log(PAGE)
            assert [str(error) for error in tracked.handler.errors] == ["of a signal handler"]
    finally:
        signal.signal(signal.SIGALRM, before)
