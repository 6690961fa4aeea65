"""What is wrong with the arguments of a command is said without what may be secret among them."""

from __future__ import annotations

import json

import pytest

from helpers import NOWHERE
from snowplow_logging.cli import main

# What argparse says, and how it gives arguments to subcommands, differs between versions.
pytestmark = pytest.mark.every_python

SECRET = "hush-hush"
HEADER = f"Authorization: Bearer {SECRET}"
URL = f"https://user:{SECRET}@h.example/x"
SEND = ("send", "struct_event", "category=a", "action=b", "--endpoint", NOWHERE)
REPLAY = ("replay", "x.jsonl", "--endpoint", NOWHERE)
RELAY = ("relay", "--store", "x.db", "--endpoint", NOWHERE)

WRONG = {
    "misspelt": ((*SEND, "--headr", HEADER), "unrecognized arguments: --headr"),
    "misspelt, as one": ((*SEND, f"--headr={HEADER}"), "unrecognized arguments: --headr"),
    "misspelt with a colon": ((*SEND, f"--headr:{SECRET}"), "unrecognized arguments: --headr"),
    "misspelt first": (
        ("send", "--headr", HEADER, *SEND[1:]),
        "unrecognized arguments: --headr",
    ),
    "short": ((*SEND, "-H", HEADER), "unrecognized arguments: -H"),
    "short, as one": ((*SEND, f"-H{SECRET}"), "unrecognized arguments: -H"),
    "a key": ((*SEND, "--iglu-apikey", SECRET), "unrecognized arguments: --iglu-apikey"),
    "a key with a dash": (
        (*SEND, "--iglu-apikey", f"--{SECRET}"),
        "unrecognized arguments: --iglu-apikey",
    ),
    "a key of a replay": ((*REPLAY, "--iglu-apikey", SECRET), "unrecognized arguments: --iglu"),
    "an endpoint": ((*RELAY, "--endpont", URL), "unrecognized arguments: --endpont"),
    "an endpoint to check": (("check", "x.json", "--endpoint", URL), "arguments: --endpoint"),
    "before the command": (("--iglu-api-key", SECRET, *SEND), "COMMAND: invalid choice"),
    "before the command, as one": ((f"--endpoint={URL}", *SEND), "arguments: --endpoint"),
    "no command": ((URL,), "argument COMMAND: invalid choice (choose from"),
    "ambiguous": ((*SEND, f"--he={HEADER}"), "ambiguous option: --he could match"),
    "abbreviated": ((*SEND, "--head", SECRET), "argument --header: it is not of the form"),
    "left over": (("check", "x.json", URL), "unrecognized arguments: 1, not shown"),
    "left over in a relay": ((*RELAY, HEADER, SECRET), "unrecognized arguments: 2, not shown"),
    "no choice": ((*REPLAY, "--method", URL), "--method: invalid choice (choose from"),
    "no choice, quoted": ((*REPLAY, "--method", f"'\"\\{SECRET}"), "--method: invalid choice ("),
    "no number": ((*REPLAY, "--rate", SECRET), "--rate: give a number more than 0"),
    "no port": (("collector", "--port", SECRET), "--port: invalid int value"),
    "no seconds": ((*RELAY, "--claim-after", SECRET), "--claim-after: invalid float value"),
    "a flag": ((*REPLAY, f"--dry-run={SECRET}"), "--dry-run: ignored explicit argument"),
    "a value that is none": ((*SEND[:4], HEADER), "value 3 is not of the form key=value"),
    "a value that is a URL": ((*SEND[:4], f"{URL}?a=b"), "value 3 is not of the form key=value"),
    "a value in base64": ((*SEND[:4], f"{HEADER}=="), "value 3 is not of the form key=value"),
    "an event": (("send", HEADER, "--endpoint", NOWHERE), "there is no event of that name"),
    "a platform": ((*SEND, "--platform", URL), "platform is 'https://h.example/x'"),
    "a file": (("replay", URL, *REPLAY[1:]), "https://h.example/x is no file that can be read"),
    "a store": (("relay", "--store", URL, "--endpoint", NOWHERE), "h.example/x cannot be made"),
    "a port of a relay": ((*RELAY, "--health", URL), "--health is 'https://h.example/x'"),
    "a host": (("collector", "--port", "0", "--host", URL), "cannot be used on https://h.example"),
    "a configuration": (("check", URL), "h.example/x cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_no_error_shows_a_value(name, capsys, tmp_path, monkeypatch):
    """Whatever was misspelt, left out or put in the wrong place; its option is named."""
    if name == "a host":
        pytest.importorskip("werkzeug", reason="the local collector needs it")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text(json.dumps({"snowplow": {}}))
    arguments, words = WRONG[name]
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert status in (1, 2)
    assert words in said.out + said.err
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize("command", [SEND, REPLAY, RELAY, ("collector",), ("check", "x.json")])
def test_what_is_left_over_is_an_error_of_its_command(command, capsys):
    """In the form of all errors, with the usage of that command."""
    with pytest.raises(SystemExit):
        main([*command, "--nonsense"])
    error = capsys.readouterr().err
    assert error.startswith(f"usage: snowplow-logging {command[0]} ")
    assert error.splitlines()[-1] == (
        f"snowplow-logging {command[0]}: error: unrecognized arguments: --nonsense"
    )


def test_a_key_without_a_value_is_named(capsys):
    """For what is a key of the event is none of a registry."""
    assert main(["send", "page_view", "page_url"]) == 1
    assert "'page_url' is not of the form key=value" in capsys.readouterr().err
