"""The session of a program that a user runs, with a random id of the user, which a file keeps.

It is the entity that Snowplow's trackers for apps add to each event. A session is one run of the
program: it begins when the first handler is made that wants one. A second handler with the same
file is in the same session, and so are children that are forked.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from snowplow_logging.delivery.waiting import clock
from snowplow_logging.file_lock import try_lock, unlock
from snowplow_logging.private_files import open_private
from snowplow_logging.protocol import Refused
from snowplow_logging.protocol import uuid as checked_uuid
from snowplow_logging.record import events_of

__all__ = ["Session", "default_path", "program_session", "session_entity"]

_SCHEMA: Final = "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2"
_MOST: Final = 2_147_483_647  # sessions and events, by the schema
_LONGEST_FILE: Final = 1_000  # bytes; one of ours has some 170
_LOCK_TIMEOUT: Final = 1.0  # seconds to wait for other processes that begin their sessions
_MARK: Final = b'{"snowplow_client_session": 1, '
"""What a file of ours begins with, so that none is written to that is somebody else's."""
_ID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Session:
    """One run of a program.

    Args:
        user_id: The random id of the user.
        index: Which session of the user this is, from 1.
        previous_id: The id of the session before.
        id: The id of this session.
        process: The process that began it.
        event_index: Counts its events.
        first: When its first event was logged, and the id of that, as the only item: two threads
            may both have the first event, and only one item is put in.
    """

    user_id: str = field(default_factory=_new_id)
    index: int = 1
    previous_id: str | None = None
    id: str = field(default_factory=_new_id)
    process: int = field(default_factory=os.getpid)
    event_index: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    first: dict[str, tuple[float, str | None]] = field(default_factory=dict)


_sessions: Final[dict[str, Session]] = {}
"""The sessions of this process, by the paths of their files."""


def default_path(app_id: str) -> Path:
    """Return where a program's file is: in the user's folder for the state of programs.

    That is `$XDG_STATE_HOME` or `~/.local/state` (the XDG Base Directory Specification),
    `~/Library/Application Support` on macOS and `%LOCALAPPDATA%` on Windows.

    Args:
        app_id: Tells programs apart, which do not share the id of a user.

    Raises:
        RuntimeError: The user has no home.
    """
    if sys.platform == "win32":
        given = os.environ.get("LOCALAPPDATA")
        folder = Path(given) if given else Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        given = os.environ.get("XDG_STATE_HOME", "")
        # A relative path is to be ignored, by the specification.
        folder = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    return folder / "snowplow-logging" / f"{quote(app_id, safe='')}.json"


def program_session(
    app_id: str | None, path: str | os.PathLike[str] | None, report: Callable[[str, str], None]
) -> Session:
    """Return the session of this run of the program, which begins with the first call.

    Never raises: what is wrong with the file is reported, and costs no more than that the user or
    the session is not known the next time.

    Args:
        app_id: Tells programs apart, where no path is given.
        path: The file; it and its folder are made where they are not there, for their owner alone.
        report: Told what is wrong, with its kind.
    """
    try:
        file = str(default_path(app_id or "") if path is None else Path(path).absolute())
    except (RuntimeError, OSError) as error:
        report("client_session", f"the session of this program is not kept: {error}")
        return _sessions.setdefault("", Session())
    known = _sessions.get(file)
    if known is None:
        # Two threads may both begin one; then that of the first is taken by both.
        known = _sessions.setdefault(file, _begun(file, report))
    return known


def _begun(path: str, report: Callable[[str, str], None]) -> Session:
    """Begin a session: read who the user is and which sessions there were, and write that down."""
    session = Session()
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        try:
            descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        except OSError:
            with contextlib.suppress(OSError, ValueError):  # whose file may still be read
                descriptor = open_private(path, os.O_RDONLY)
                try:
                    session = _next(os.read(descriptor, _LONGEST_FILE))
                finally:
                    os.close(descriptor)
            raise
        try:
            until = clock.now() + _LOCK_TIMEOUT
            while not (alone := try_lock(descriptor)) and clock.now() < until:
                time.sleep(0.002)
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                session = _next(os.read(descriptor, _LONGEST_FILE))
                if not alone:
                    raise TimeoutError(f"another process keeps {path} locked")
                _write(descriptor, session)
            finally:
                if alone:
                    unlock(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        report("client_session", f"the session of this program is not kept in {path}: {error}")
    return session


def _next(held: bytes) -> Session:
    """Return the session that comes after the one that a file holds.

    Raises:
        ValueError: The file is not one of ours, and is not to be written to.
    """
    if not held.strip(b"\x00\n "):
        return Session()  # just made, or lost with the power
    if not held.startswith(_MARK):
        raise ValueError("it holds something else, and is left alone")
    try:
        fields = json.loads(held)
        user_id, index, last_id = fields["userId"], fields["sessionIndex"], fields["sessionId"]
        if type(index) is int and 0 < index <= _MOST and _ID.fullmatch(user_id):
            previous_id = last_id if _ID.fullmatch(last_id) else None
            return Session(user_id, min(index + 1, _MOST), previous_id)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # it was damaged
    return Session()


def _write(descriptor: int, session: Session) -> None:
    fields = {
        "userId": session.user_id,
        "sessionIndex": session.index,
        "sessionId": session.id,
    }
    line = _MARK + json.dumps(fields).encode()[1:] + b"\n"
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, line)  # all at once, for a process that is killed amid
    os.ftruncate(descriptor, len(line))


def session_entity(session: Session, record: logging.LogRecord, event_key: str) -> dict[str, Any]:
    """Return the entity of an event.

    Args:
        session: The session.
        record: The record of the event.
        event_key: The attribute of a record that holds its event.
    """
    if not session.first:
        session.first.setdefault("", (record.created, _event_id(record, event_key)))
    created, event_id = session.first[""]
    data: dict[str, Any] = {
        "userId": session.user_id,
        "sessionId": session.id,
        "sessionIndex": session.index,
        "previousSessionId": session.previous_id,
        # What the schema calls a file that is neither a database nor a cookie.
        "storageMechanism": "LOCAL_STORAGE",
        "firstEventTimestamp": datetime.fromtimestamp(created, timezone.utc)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
    }
    if event_id is not None:
        data["firstEventId"] = event_id
    # Nobody counts the events of several processes together.
    if os.getpid() == session.process:
        data["eventIndex"] = min(next(session.event_index), _MOST)
    return {"schema": _SCHEMA, "data": data}


def _event_id(record: logging.LogRecord, event_key: str) -> str | None:
    for event, given in events_of(record, event_key):
        with contextlib.suppress(Refused, AttributeError):
            return checked_uuid(event.get("event_id") or given)
    return None
