"""What every command has in common, and `send`: as processes, at a terminal and in pipes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

import snowplow_logging
from faulty_collector import SILENCE, FaultyCollector, nowhere
from seldom import seldom

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="these pipes and signals are POSIX")


@pytest.fixture
def run(command):
    """Return a function that runs a command to its end: status, output and errors."""

    def run(*arguments, **more):
        process = command(*arguments, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def test_version(run):
    """The version is that of the distribution."""
    assert run("--version") == (0, f"snowplow-logging {snowplow_logging.__version__}\n", "")


LINE = '{"snowplow": {"event": "page_view"}}\n'
COMMANDS = {
    "check": ("check", "good.json"),
    "collector": ("collector", "--port", "0"),
    "help": ("--help",),
    "help of a command": ("replay", "--help"),
    "replay": ("replay", "events.jsonl", "--endpoint", "http://127.0.0.1:9", "--dry-run"),
    "send": ("send", "page_view", "page_url=https://a.example/", "--endpoint", "{endpoint}"),
    "version": ("--version",),
}


@pytest.fixture
def files(tmp_path):
    """Give the commands what they read, and a collector."""
    pytest.importorskip("werkzeug", reason="the local collector needs it")
    pytest.importorskip("jsonschema_rs", reason="the local collector needs it")
    with FaultyCollector() as collector:
        config = {
            "version": 1,
            "handlers": {
                "s": {
                    "class": "snowplow_logging.SnowplowHandler",
                    "endpoint": collector.endpoint,
                }
            },
            "root": {"level": "INFO", "handlers": ["s"]},
        }
        (tmp_path / "good.json").write_text(json.dumps(config))
        (tmp_path / "events.jsonl").write_text(LINE * 20_000)
        yield lambda arguments: [text.format(endpoint=collector.endpoint) for text in arguments]


@posix
@pytest.mark.parametrize("both", [False, *seldom(True)], ids=["output", "output and errors"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_pipe_ends_a_command_quietly(command, files, name, both):
    """As `| head -0` closes it: no traceback, and a status that says so."""
    reader, writer = os.pipe()
    os.close(reader)
    errors = writer if both else subprocess.PIPE
    # What argparse prints it writes without looking, so that only a later flush fails.
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    process = command(*files(COMMANDS[name]), stdout=writer, stderr=errors, env=buffered)
    os.close(writer)
    _, said = process.communicate(timeout=60)
    if name == "replay" and not both:
        assert "Traceback" not in said
        assert "BrokenPipe" not in said
    else:
        assert not said
    assert process.returncode == 141


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("name", ["check", "replay", "send"])
def test_a_stream_that_is_closed_is_done_without(files, tmp_path, name, closed):
    """As some daemons start their programs: the status says what became of the events."""
    arguments = shlex.join([sys.executable, "-m", "snowplow_logging", *files(COMMANDS[name])])
    done = subprocess.run(
        ["sh", "-c", f"exec {arguments} {closed}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    # What is replayed here are events that Snowplow would refuse.
    assert done.returncode == (1 if name == "replay" else 0)


@posix
@pytest.mark.parametrize("name", ["replay", "send", "check"])
def test_ctrl_c_ends_a_command_quietly(command, tmp_path, name):
    """While it waits for a collector that does not answer."""
    with FaultyCollector(default=SILENCE) as collector:
        config = {
            "version": 1,
            "handlers": {
                "s": {
                    "class": "snowplow_logging.SnowplowHandler",
                    "endpoint": collector.endpoint,
                    "timeout": 600,
                }
            },
            "root": {"level": "INFO", "handlers": ["s"]},
        }
        (tmp_path / "c.json").write_text(json.dumps(config))
        letter = {"snowplow": {"e": "pv", "p": "srv", "tv": "t", "url": "https://a.example/"}}
        letter["snowplow"]["eid"] = "c6ef3124-b53a-4b13-a233-0088f79dcbcb"
        (tmp_path / "e.jsonl").write_text(json.dumps(letter) + "\n")
        arguments = {
            "replay": ("e.jsonl", "--endpoint", collector.endpoint),
            "send": ("page_view", "page_url=https://a.example/", "--endpoint", collector.endpoint),
            "check": ("c.json",),
        }[name]
        process = command(name, *arguments)
        collector.wait_for_requests(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    if name == "replay":  # which says how far it came
        assert process.returncode == 130
        assert "not finished, interrupted" in out
        assert err == ""
    else:
        assert (process.returncode, out, err) == (130, "", "")


@posix
def test_a_replay_ends_where_nobody_reads_its_errors(command, tmp_path):
    """Also those that come from the thread that sends, while the main one waits for it."""
    letter = {"e": "pv", "p": "srv", "tv": "t", "url": "https://a.example/"}
    letter["eid"] = "c6ef3124-b53a-4b13-a233-0088f79dcbcb"
    (tmp_path / "e.jsonl").write_text(json.dumps({"snowplow": letter}) + "\n")
    reader, writer = os.pipe()
    os.close(reader)
    with nowhere() as endpoint:
        process = command("replay", "e.jsonl", "--endpoint", endpoint, stderr=writer)
        os.close(writer)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 141
    assert "not finished, interrupted" in out


FORCED = {
    "a pipe": (False, {}, False),
    "a pipe, forced": (False, {"FORCE_COLOR": "1"}, True),
    "a pipe, forced and forbidden": (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    "a terminal": (True, {"TERM": "xterm"}, True),
    "a terminal, forbidden": (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
    "a terminal, not forbidden": (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
    "a dumb terminal": (True, {"TERM": "dumb"}, False),
    "a dumb terminal, forced": (True, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
}


@posix
@pytest.mark.parametrize("where", FORCED)
def test_colours_are_for_terminals(command, files, where):
    """As no-color.org and force-color.org have it."""
    pty = pytest.importorskip("pty")
    is_terminal, variables, coloured = FORCED[where]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    process = command(*files(COMMANDS["check"]), stdout=theirs, env={**environment, **variables})
    os.close(theirs)
    said = b""
    try:
        while block := os.read(ours, 65_536):
            said += block
    except OSError:  # how a terminal ends
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert said.startswith(b"\x1b[32mgood: " if coloured else b"good: ")
    assert (b"\x1b" in said) is coloured


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "missing.jsonl", "--endpoint", "http://127.0.0.1:9"),
        ("replay",),
        ("send", "page_veiw", "--endpoint", "http://127.0.0.1:9"),
        ("send",),
        ("collector", "--port", "1", "--iglu", "nowhere"),
        ("collector", "--port", "x"),
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_errors_have_one_form(run, arguments):
    """That of wrong arguments, whose last line names the command, the word and what is wrong."""
    pytest.importorskip("jsonschema_rs", reason="the local collector needs it")
    status, out, err = run(*arguments)
    assert status in (1, 2)
    assert out == ""
    assert err.splitlines()[-1].startswith(f"snowplow-logging {arguments[0]}: error: ")


def test_no_error_shows_a_header(run):
    """Not even one that is not of the form of a header."""
    for command in (["send", "page_view"], ["replay", "x"]):
        status, out, err = run(*command, "--endpoint", "http://127.0.0.1:9", "--header", "Bear s3c")
        assert (status, out) == (2, "")
        assert "argument --header: it is not of the form NAME:VALUE" in err
        assert "s3c" not in err


# send


@pytest.fixture
def collector():
    """Start a collector that takes everything."""
    with FaultyCollector() as running:
        yield running


def test_send(run, collector):
    """It sends one event with the values given, and says its id and who has taken it."""
    status, out, err = run(
        "send",
        "struct_event",
        "category=shop",
        "action=tidy up",
        "value=9.5",
        "label=1",
        "subject.user_id=u-42",
        "subject.screen_resolution=[640, 480]",
        'context=[{"schema": "iglu:com.acme/a/jsonschema/1-0-0", "data": {"é": 1}}]',
        "true_timestamp=1700000000000",
        "--endpoint",
        collector.endpoint,
        "--app-id",
        "shell",
        "--namespace",
        "ns",
        "--platform",
        "cnsl",
        "--header",
        "X-Team: shop",
    )
    assert (status, err) == (0, "")
    [event] = collector.events
    wanted = {"se_ca": "shop", "se_ac": "tidy up", "se_va": "9.5", "se_la": "1", "uid": "u-42"}
    wanted |= {"aid": "shell", "tna": "ns", "p": "cnsl", "res": "640x480", "ttm": "1700000000000"}
    assert {name: event[name] for name in wanted} == wanted
    assert "cx" in event
    url = f"{collector.endpoint}/com.snowplowanalytics.snowplow/tp2"
    assert out == f"sent: struct_event {event['eid']}, taken by {url}\n"
    assert collector.requests[0].headers["x-team"] == "shop"


def test_send_numbers_where_the_key_takes_them(run, collector):
    """And text where it takes text, though that looks like a number; `:=` says what is JSON."""
    status, _, err = run(
        "send", "add_to_cart", "sku=007", "quantity=2", "--endpoint", collector.endpoint
    )
    assert (status, err) == (0, "")
    status, _, err = run(
        "send",
        "self_describing_event",
        "schema=iglu:com.acme/a/jsonschema/1-0-0",
        "data.size:=2",
        "data.name=2",
        "--endpoint",
        collector.endpoint,
    )
    assert (status, err) == (0, "")


def test_send_takes_the_environment(run, collector):
    """As a handler does, but for what is not for one event of a shell."""
    variables = {
        **os.environ,
        "SNOWPLOW_ENDPOINT": collector.endpoint,
        "SNOWPLOW_APP_ID": "env",
        "SNOWPLOW_ENABLED": "false",
        "SNOWPLOW_STORE": "never.db",
    }
    status, _, err = run("send", "page_view", "page_url=https://a.example/", env=variables)
    assert (status, err) == (0, "")
    assert collector.events[0]["aid"] == "env"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("page_view",), 1, "page_url is missing"),
        (("page_view", "page_url"), 1, "'page_url' is not of the form key=value or key:=JSON"),
        (("page_view", "page_url:={"), 1, "is no JSON"),
        (
            ("page_view", "page_url=x", "true_timestamp=2024-01-01T00:00:00Z"),
            1,
            "true_timestamp=2024-01-01T00:00:00Z is no number; give milliseconds since 1970 UTC",
        ),
        (
            ("page_view", "page_url=x", "true_timestamp="),
            1,
            "true_timestamp= is no number; give milliseconds since 1970 UTC",
        ),
        (("page_veiw", "page_url=x"), 1, "there is no event 'page_veiw'; give 'page_view'"),
        (("page_view", "page_url=x", "a=1"), 1, "page_view: a is not a key"),
        (("page_view", "page_url=https://a.example/"), 2, "did not answer"),
        (("page_view", "page_url=https://a.example/", "--platform", "x"), 2, "platform"),
    ],
    ids=["missing", "form", "json", "time", "no-time", "event", "key", "collector", "setting"],
)
def test_send_says_what_is_wrong(run, arguments, status, told):
    """And its status says whose it is to mend that: 1 for the event, 2 for the collector."""
    with nowhere() as endpoint:
        got, out, err = run("send", *arguments, "--endpoint", endpoint)
    assert (got, out) == (status, "")
    assert err.startswith("snowplow-logging send: error: ")
    assert told in err
    assert len(err.splitlines()) == 1


TRANSACTION = ("ecommerce_transaction", "order_id=o1", "total_value=5")


def items(*prices, **more):
    """Return the items of a transaction as they are given in a shell."""
    given = [{"sku": "s", "price": price, "quantity": 1} for price in prices]
    given[-1].update(more)
    return f"items={json.dumps(given)}"


@pytest.mark.parametrize("method", ["post", "get"])
def test_send_a_transaction(run, collector, method):
    """It is several events, whose ids are all named once all of them were taken."""
    where = ("--endpoint", collector.endpoint, "--method", method)
    status, out, err = run("send", *TRANSACTION, items(1, 2), *where)
    assert (status, err) == (0, "")
    assert [event["e"] for event in collector.events] == ["tr", "ti", "ti"]
    assert out.startswith(f"sent: ecommerce_transaction {', '.join(collector.ids)}, taken by ")


def test_send_a_transaction_in_part(run):
    """What was taken is named, and what was not, and the status is none of success."""
    with FaultyCollector(200, default=503) as collector:
        where = ("--endpoint", collector.endpoint, "--method", "get")
        status, out, err = run("send", *TRANSACTION, items(1, 2), *where)
        requests = collector.wait_for_requests(3)
    first, second, third = (request.events[0]["eid"] for request in requests)
    assert (status, out) == (2, "")
    assert err == (
        "snowplow-logging send: error: sent in part: "
        f"ecommerce_transaction {first}, taken by {collector.endpoint}/i; "
        f"not sent: items[0] {second}, items[1] {third}: "
        f"{collector.endpoint}/i answered 503 Service Unavailable (after 1 attempt)\n"
    )


def test_send_a_transaction_of_which_nothing_is_taken(run):
    """Several requests that failed alike are told once."""
    with FaultyCollector(default=503) as collector:
        where = ("--endpoint", collector.endpoint, "--method", "get")
        status, out, err = run("send", *TRANSACTION, items(1, 2), *where)
    assert (status, out) == (2, "")
    assert err.count("503") == 1
    assert "sent" not in err.removeprefix("snowplow-logging send: error: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*TRANSACTION, items(1, "x")), "items[1]: ecommerce_transaction_item: price is 'x'"),
        ((*TRANSACTION[:2], items(1, 2)), "ecommerce_transaction: total_value is missing"),
        ((*TRANSACTION, "items=[5]"), "items[0]: event: event is 5"),
    ],
    ids=["an item", "the transaction", "no item"],
)
def test_send_no_part_of_a_transaction_that_is_wrong(run, collector, arguments, told):
    """Who mends it and sends it again would send the rest twice."""
    status, out, err = run("send", *arguments, "--endpoint", collector.endpoint)
    assert (status, out) == (1, "")
    assert err.startswith(f"snowplow-logging send: error: {told}")
    assert collector.requests == []


def test_send_checks_schemas(run, collector, tmp_path):
    """By the registries that are given, and waits for them."""
    pytest.importorskip("jsonschema_rs", reason="a registry needs it")
    schema = tmp_path / "registry/schemas/com.acme/a/jsonschema/1-0-0"
    schema.parent.mkdir(parents=True)
    schema.write_text(
        json.dumps(
            {
                "self": {
                    "vendor": "com.acme",
                    "name": "a",
                    "format": "jsonschema",
                    "version": "1-0-0",
                },
                "type": "object",
                "properties": {"size": {"type": "integer"}},
            }
        )
    )
    where = ("--iglu", str(tmp_path / "registry"), "--endpoint", collector.endpoint)
    entity = {"schema": "iglu:com.acme/a/jsonschema/1-0-0", "data": {"size": "large"}}
    event = ("self_describing_event", f"schema={entity['schema']}", "data.size=large")
    for arguments, place in (
        (event, "self_describing_event: data.size"),
        ((*TRANSACTION, items(1, 2, context=[entity])), "items[1]: ecommerce_transaction_item: "),
    ):
        status, _, err = run("send", *arguments, *where)
        assert status == 1
        assert err.startswith(f"snowplow-logging send: error: {place}")
        assert "data.size is 'large'" in err
    assert collector.requests == []
