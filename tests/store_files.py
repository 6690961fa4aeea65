"""What the tests of the store share: files of other programs, small disks, and programs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = [
    "DESTINATION",
    "FILE_PROGRAM",
    "fill_up",
    "small_disk",
    "snapshot",
    "spawn",
    "write_database",
]

DESTINATION = "https://collector.example.com/tp2"

FILE_PROGRAM = f"""
import os, signal, sys, time
from snowplow_logging.delivery.sqlite_file import SQLiteFile, StoreError
def open_file(path, destination={DESTINATION!r}):
    file = SQLiteFile(path, 1 << 30, destination)
    file.open()
    return file
def take(file, count=10_000):
    taken = file.take(count, 10**9, len)
    file.share.cursors = taken.cursors
    return taken.payloads
def payload(name):
    return b'{{"se_ac":"%s"' % str(name).encode()
def say(*words):
    print(*words, flush=True)
"""
"""How each program that uses the file itself begins."""


def spawn(program: str, *arguments: object, preamble: str = FILE_PROGRAM) -> subprocess.Popen[str]:
    """Start a program in another process."""
    code = preamble + textwrap.dedent(program)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    return subprocess.Popen([*command, *map(str, arguments)], text=True, **pipes)


def snapshot(folder: Path) -> dict[str, object]:
    """Return all that is in a folder: contents, inodes and times of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[path.name] = (status.st_ino, status.st_mtime_ns, status.st_mode, content)
    return found


def write_database(
    path: Path, *, version: int = 0, application: int = 0, wal: bool = False
) -> None:
    """Write the database of another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute(f"PRAGMA user_version = {version}")
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, payload BLOB)")
        connection.execute("INSERT INTO events (payload) VALUES (randomblob(20000))")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Give a disk of its own, as small as that; skip the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk is needed, and there is no `mount`")
    if done.returncode:
        pytest.skip(f"a small disk is needed: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path) -> None:
    """Take all the room that is left on a disk."""
    descriptor = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, b"x" * 512)
    finally:
        os.close(descriptor)
