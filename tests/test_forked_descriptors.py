"""A forked child closes none of its own files, whatever it has inherited under their numbers."""

from __future__ import annotations

import os
import textwrap
from functools import partial

import pytest

from faulty_collector import FaultyCollector
from secure_collector import SecureCollector
from seldom import seldom

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")

CHILDREN = """
import ctypes, gc, requests

FORKS = {"by Python": os.fork, "by C": ctypes.PyDLL(None).fork}

def drop():
    global handler
    logging.getLogger().removeHandler(handler)
    handler = None

DEEDS = {
    "nothing": lambda: None,
    "log": lambda: (log("child"), handler.flush(10)),
    "close": lambda: handler.close(),
    "log, flush and close": lambda: (log("child"), handler.flush(10), handler.close()),
    "drop": drop,
}

def in_children(fork):
    # Each is a daemon that closes all it has inherited, opens files of its own, and goes on.
    for name, deed in DEEDS.items():
        pid = FORKS[fork]()
        if not pid:
            signal.alarm(60)
            os.closerange(3, 256)
            mine = [os.open(f"{number} {name}", os.O_RDWR | os.O_CREAT) for number in range(60)]
            files = [os.fstat(number) for number in mine]
            gc.collect()
            deed()
            gc.collect()
            for number, file in zip(mine, files):
                try:
                    same = os.path.samestat(os.fstat(number), file)
                except OSError as error:
                    same = error
                if same is not True:
                    say(name, number, same)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status:
            say(name, "ended with", status)
"""
"""What children do that were forked `by Python`, or `by C` as uWSGI does it, without hooks."""

SETTINGS = {
    "memory": "ENDPOINTS.pop(); handler = configure(flush_interval=60)",
    "session": """
        other = ENDPOINTS.pop()
        session = requests.Session()
        session.get(other)  # whose connection is none of the handler's business
        handler = configure(session=session, flush_interval=60)
        """,
    "used session": """
        ENDPOINTS.pop()
        session = requests.Session()
        session.get(ENDPOINTS[0])  # on a connection that the session has made for itself
        handler = configure(session=session, flush_interval=60)
        """,
    "store": """
        ENDPOINTS.pop()
        handler = configure(store="s.db", dead_letter="d.jsonl", flush_interval=60)
        """,
    "two connections": "ENDPOINTS.pop(); handler = configure(connections=2, flush_interval=60)",
}


@pytest.fixture(params=["TLS", *seldom("plain")])
def collectors(request, monkeypatch):
    """Start two collectors, whose certificate is trusted where they have one."""
    kind = FaultyCollector
    if request.param == "TLS":
        authority = request.getfixturevalue("certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        kind = partial(SecureCollector, authority)
    with kind() as one, kind() as other:
        yield one, other


@pytest.mark.parametrize("fork", ["by C", *seldom("by Python")])
@pytest.mark.parametrize("settings", [*SETTINGS])
def test_a_child_that_closes_everything_keeps_its_own_files(collectors, run, settings, fork):
    """The connections of its parent have their numbers, and are never closed under these."""
    program = f"""
        log("parent")
        assert handler.flush(10)
        time.sleep(0.2)  # for a fork by C no thread may be waiting for the interpreter itself
        in_children("{fork}")
        log("parent again")
        say(handler.flush(10))
        """
    parts = (CHILDREN, SETTINGS[settings], program)
    assert run("\n".join(map(textwrap.dedent, parts)), *collectors).out == "True\n"
    labels = [event.get("se_la") for collector in collectors for event in collector.events]
    assert sorted(filter(None, labels)) == ["child", "child", "parent", "parent again"]
