"""The session of a program, with a random id of the user that a file keeps."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from datetime import datetime, timezone
from uuid import UUID

import pytest

from helpers import entity, tracking
from snowplow_logging import PageView

pytest.importorskip("werkzeug", reason="the local collector needs it")

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")

RUN = """
handler = configure(**SETTINGS)
log("first")
log("second")
"""


@pytest.fixture
def session(collector, run, tmp_path):
    """Return a function that runs a program and returns the sessions of its events, in order."""

    def of_run(program=RUN, *, error="", environment="", **settings):
        collector.reset()
        settings.setdefault("client_session", str(tmp_path / "state" / "session.json"))
        ran = run(f"{environment}\nSETTINGS = {settings!r}\n" + program, collector, error=error)
        assert ran.status == 0, ran.err
        assert [bad["errors"] for bad in collector.bad] == []
        sessions = []
        for event in sorted(collector.good, key=lambda event: event["event"]["se_label"]):
            if "data" not in event["event"]["contexts"]:
                sessions.append(None)
                continue
            (held,) = event["event"]["contexts"]["data"]
            assert held["schema"].endswith("/client_session/jsonschema/1-0-2")
            sessions.append({**held["data"], "of": event["event"]["event_id"]})
        return sessions

    return of_run


def test_runs_of_a_program(session, tmp_path):
    """All events of a run are one session, the next run is the next one of the same user."""
    before = datetime.now(timezone.utc).isoformat(timespec="seconds")[:19]
    first, second = session()
    assert (first["eventIndex"], second["eventIndex"]) == (1, 2)
    assert first["firstEventId"] == second["firstEventId"] == first["of"]
    assert before <= first["firstEventTimestamp"] <= datetime.now(timezone.utc).isoformat()
    assert UUID(first["userId"]).version == 4
    same = ("userId", "sessionId", "sessionIndex", "previousSessionId", "firstEventTimestamp")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert (first["sessionIndex"], first["previousSessionId"]) == (1, None)
    later, _ = session()
    assert (later["userId"], later["sessionIndex"]) == (first["userId"], 2)
    assert later["previousSessionId"] == first["sessionId"] != later["sessionId"]
    file = tmp_path / "state" / "session.json"
    if hasattr(os, "geteuid"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the folder is another there")
@pytest.mark.parametrize("given", [True, False], ids=["XDG_STATE_HOME", "home"])
def test_the_folder_of_the_user(session, tmp_path, given):
    """The file is where the platform has it, and programs do not share a user."""
    state = tmp_path / "state"
    home = f"os.environ['HOME'] = {str(tmp_path)!r}; os.environ.pop('XDG_STATE_HOME', None)"
    environment = f"os.environ['XDG_STATE_HOME'] = {str(state)!r}" if given else home
    users = {
        app_id: session(client_session=True, app_id=app_id, environment=environment)[0]["userId"]
        for app_id in ("my shop", "../other", "my shop")
    }
    folder = (state if given else tmp_path / ".local" / "state") / "snowplow-logging"
    assert sorted(path.name for path in folder.iterdir()) == ["..%2Fother.json", "my%20shop.json"]
    assert len(set(users.values())) == 2
    assert (
        session(client_session=True, app_id="my shop", environment=environment)[0]["sessionIndex"]
        == 3
    )


def test_two_handlers_are_in_one_session(collector, tmp_path):
    """A second handler with the same file goes on with the session, and with its count."""
    path = tmp_path / "session.json"
    event = PageView(page_url="app:x", context=[entity(a=1)])
    with (
        tracking(collector, client_session=path, context=[entity(b=2)]) as one,
        tracking(collector, client_session=path) as other,
    ):
        one.log(event)
        assert one.handler.flush(30)
        other.log(event)
        first, second = (
            event["event"]["contexts"]["data"][-1]["data"] for event in other.arrived()
        )
    assert first["sessionId"] == second["sessionId"]
    assert (first["eventIndex"], second["eventIndex"]) == (1, 2)


def test_anonymous(session):
    """The user is nobody, or there is no session at all."""
    known, _ = session()
    nobody, _ = session(anonymous_tracking="with_session")
    assert nobody["userId"] == "00000000-0000-0000-0000-000000000000"
    assert (nobody["sessionIndex"], nobody["previousSessionId"]) == (2, None)
    again, _ = session()
    assert again["userId"] == known["userId"]
    assert session(anonymous_tracking=True) == [None, None]


@posix
def test_a_fork_is_in_the_session_of_its_parent(session):
    """It has no index of its events, for nobody counts those of both."""
    first, second, third = session(
        """
handler = configure(**SETTINGS)
log("first")
if not os.fork():
    log("second")
    handler.flush()
    os._exit(0)
os.wait()
log("third")
"""
    )
    assert len({event["sessionId"] for event in (first, second, third)}) == 1
    assert (first["eventIndex"], third["eventIndex"]) == (1, 2)
    assert "eventIndex" not in second


def test_processes_that_begin_at_once(collector, start, tmp_path):
    """They are sessions of one user, each with its own number."""
    path = str(tmp_path / "state" / "session.json")
    program = f"""
        import snowplow_logging.handler, snowplow_logging.client_session, requests
        say("ready"); sys.stdin.readline()
        handler = configure(client_session={path!r})
        log("x")
    """
    processes = [start(program, collector) for _ in range(6)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
    sessions = [event["event"]["contexts"]["data"][0]["data"] for event in collector.good]
    assert len({session["userId"] for session in sessions}) == 1
    assert sorted(session["sessionIndex"] for session in sessions) == [*range(1, 7)]
    assert len({session["previousSessionId"] for session in sessions}) == 6


MARK = '{"snowplow_client_session": 1, '
USER = "0b5ea4c0-4067-11e9-8bad-9b1deb4d3b7d"


DAMAGED = {
    "empty": "",
    "zeros": "\0" * 170,
    "cut": MARK,
    "number": MARK + '"userId": 5}',
    "no id": MARK + f'"userId": "{USER[:-1]}x", "sessionIndex": 1, "sessionId": "{USER}"}}',
    "infinite": MARK + f'"userId": "{USER}", "sessionIndex": 1e999, "sessionId": "{USER}"}}',
    "bool": MARK + f'"userId": "{USER}", "sessionIndex": true, "sessionId": "{USER}"}}',
    "deep": MARK + "[" * 900,
    "surrogate": MARK + "\ud800",
}


def test_damaged_files(session, tmp_path):
    """Each is begun anew, with a new user. One program has them all, which saves its starts."""
    folder = tmp_path / "state"
    folder.mkdir()
    for name, held in DAMAGED.items():
        (folder / name).write_bytes(held.encode(errors="surrogatepass"))
    program = f"""
for name in {[*DAMAGED]!r}:
    handler = configure(client_session=os.path.join({str(folder)!r}, name))
    log(name)
    handler.flush()
"""
    first = dict(zip(sorted(DAMAGED), session(program), strict=True))
    later = dict(zip(sorted(DAMAGED), session(program), strict=True))
    assert len({one["userId"] for one in first.values()} - {USER}) == len(DAMAGED)
    for name in DAMAGED:
        assert first[name]["sessionIndex"] == 1, name
        assert later[name]["sessionIndex"] == 2, name
        assert later[name]["userId"] == first[name]["userId"], name


def test_only_the_session_before_is_damaged(session, tmp_path):
    """The user stays, at the most that the schema has a place for."""
    path = tmp_path / "state" / "session.json"
    path.parent.mkdir()
    path.write_text(MARK + f'"userId": "{USER}", "sessionIndex": 2147483647, "sessionId": "x"}}')
    first, _ = session()
    assert (first["userId"], first["sessionIndex"]) == (USER, 2147483647)
    assert first["previousSessionId"] is None


def _foreign(path):
    path.parent.mkdir()
    path.write_text("root:x:0:0")


def _folder(path):
    path.mkdir(parents=True)


def _no_folder(path):
    path.parent.write_text("a file")


def _link(path):
    path.parent.mkdir()
    (path.parent / "target").write_text("")
    path.symlink_to("target")


@pytest.mark.parametrize(
    "make", [_foreign, _folder, _no_folder, _link], ids=lambda one: one.__name__
)
def test_what_is_not_ours_is_left_alone(session, tmp_path, make):
    """The program goes on, with a session of its own, and says why the next one knows nothing."""
    path = tmp_path / "state" / "session.json"
    make(path)

    def seen():
        files = [file for file in tmp_path.rglob("*") if file.suffix != ".py"]
        return {file: file.read_text() for file in files if file.is_file()}

    before = seen()
    shown = "logging.getLogger('snowplow_logging').addHandler(logging.StreamHandler())"
    program = shown + RUN
    first, second = session(program, error="session of this program is not kept")
    assert first["sessionId"] == second["sessionId"]
    assert (first["sessionIndex"], second["eventIndex"]) == (1, 2)
    assert seen() == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes are POSIX")
def test_a_file_that_may_only_be_read(session, tmp_path):
    """The user is known, though the session cannot be counted."""
    first, _ = session()
    path = tmp_path / "state" / "session.json"
    path.chmod(0o400)
    program = RUN
    if os.geteuid() == 0:  # whom no mode stops
        program = (
            """
        import snowplow_logging.handler, errno
        # As a file system that is mounted to be read only.
        really = os.open
        def opened(path, flags, *rest, **more):
            if str(path).endswith("session.json") and flags & os.O_RDWR:
                raise OSError(errno.EROFS, "Read-only file system", path)
            return really(path, flags, *rest, **more)
        os.open = opened
        """
            + RUN
        )
    later, _ = session(program.replace("\n        ", "\n"), error=None)
    assert (later["userId"], later["sessionIndex"]) == (first["userId"], 2)
    assert later["previousSessionId"] == first["sessionId"]
    assert json.loads(path.read_text())["sessionId"] == first["sessionId"]


@posix
def test_a_file_that_another_process_keeps_locked(session, tmp_path):
    """It is waited for a second, and then the session is not written down."""
    first, _ = session()
    later, _ = session(
        """
import fcntl
file = open(SETTINGS["client_session"])
fcntl.flock(file, fcntl.LOCK_EX)
"""
        + RUN,
        error=None,
    )
    assert (later["userId"], later["sessionIndex"]) == (first["userId"], 2)
    again, _ = session()
    assert again["previousSessionId"] == first["sessionId"]


def test_nothing_of_it_without_the_handler(tmp_path, collector):
    """A handler that is not enabled keeps no file; a session's file has no name of anybody."""
    path = tmp_path / "session.json"
    with tracking(collector, client_session=path, enabled=False):
        assert not path.exists()
    with tracking(collector, client_session=path):
        assert re.fullmatch(
            r'\{"snowplow_client_session": 1, "userId": "[0-9a-f-]{36}", "sessionIndex": 1, '
            r'"sessionId": "[0-9a-f-]{36}"\}\n',
            path.read_text(),
        )
