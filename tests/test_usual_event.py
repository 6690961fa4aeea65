"""A usual event goes a short way, on which the handler is what it is for any other."""

from __future__ import annotations

import signal
import socket
import sys
from types import SimpleNamespace

import pytest

from event_examples import BY_NAME, as_dict
from helpers import RecordingHandler, record, tracking
from seldom import seldom

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


@pytest.mark.parametrize("place", ["data", "entity"])
def test_data_of_any_depth_are_refused_and_end_no_process(run, tmp_path, place):
    """A schema that refers to itself would have its check go as deep as they are."""
    pytest.importorskip("jsonschema_rs")
    schema = tmp_path / "schemas" / "com.acme" / "node" / "jsonschema" / "1-0-0"
    schema.parent.mkdir(parents=True)
    schema.write_text('{"type": "object", "properties": {"child": {"$ref": "#"}}}')
    ran = run(
        f"""
        handler = configure(iglu={str(tmp_path)!r}, shutdown_timeout=0.1)
        logging.raiseExceptions = False

        def log_data(data):
            whole = {{"schema": "iglu:com.acme/node/jsonschema/1-0-0", "data": data}}
            events = {{
                "data": {{"event": "self_describing_event", **whole}},
                "entity": {{"event": "page_view", "page_url": "app:x", "context": [whole]}},
            }}
            logging.getLogger().info("x", extra={{"snowplow": events[{place!r}]}})

        def log_deep(levels):
            node = {{"leaf": 1}}
            for _ in range(levels):
                node = {{"child": node}}
            log_data(node)

        log_data({{"leaf": 1}})  # so that the schema is known
        log_deep(30)
        log_deep(20_000)
        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=log_deep, args=(900,))
        thread.start()
        thread.join()
        say(handler.stats.queued, handler.stats.invalid)
        """,
        "http://127.0.0.1:9",
        error=None,
    )
    assert (ran.status, ran.words) == (0, ["2", "2"])


@pytest.mark.skipif(sys.platform != "linux", reason="it says there how much memory is in use")
@pytest.mark.parametrize("checks", ["iglu='registry'", *seldom("schema_check='off'", "")])
def test_names_that_a_program_makes_up_are_not_kept_if_they_are_long(run, tmp_path, checks):
    """Keys and schemas that are never the same again must not fill the memory."""
    if checks.startswith("iglu"):
        pytest.importorskip("jsonschema_rs")
    (tmp_path / "registry" / "schemas").mkdir(parents=True)
    ran = run(
        f"""
        handler = configure(queue_size=5, queue_bytes=1_000_000, shutdown_timeout=0, {checks})
        logging.raiseExceptions = False
        logger = logging.getLogger()

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def log_all(number):
            name = "n" * 300_000 + str(number)
            whole = {{"schema": f"iglu:com.acme/{{name}}/jsonschema/1-0-0", "data": {{"a": 1}}}}
            page = {{"event": "page_view", "page_url": "app:x"}}
            for event in (
                {{**page, name: 1}},
                {{"event": "self_describing_event", **whole}},
                {{**page, "context": [whole]}},
                {{**page, "context": [{{**whole, "data": {{"a": {{}}}}}}]}},
            ):
                logger.info("x", extra={{"snowplow": event}})

        for number in range(10):
            log_all(number)
        before = resident()
        for number in range(10, 110):
            log_all(number)
        say(resident() - before)
        """,
        "http://127.0.0.1:9",
        error=None,
    )
    assert int(ran.words[0]) < 20_000_000  # 100 times 300,000 for each of the four
