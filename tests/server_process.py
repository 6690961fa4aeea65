"""Servers of others that tests start on free ports, and that the processes of one run share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["ServerProcess", "free_port", "shared"]

SECONDS: Final = 150.0
"""For a start, on a machine with much else to do."""


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class ServerProcess:
    """A server with its data in a folder.

    It is nobody's child: who of the tests' processes has started it may end before the others. It
    is a group of processes of its own, which is ended as a whole.

    Args:
        folder: Where its data and what it says are.

    Attributes:
        stream: The stream, queue or topic that is meant where none is named.
    """

    stream = "snowplow"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment: dict[str, str] | None = None
        self._group: int | None = None
        folder.mkdir(exist_ok=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def command(self) -> list[Any]:
        """Return what starts it."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Tell whether it can be used."""
        raise NotImplementedError

    @property
    def letters(self) -> str:
        """Where a relay puts its dead letters."""
        return f"{self.stream}-dead-letter"

    @property
    def said(self) -> str:
        """What it has written on its output."""
        return (self.folder / "out").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        shell = subprocess.Popen(
            ["sh", "-c", '"$@" >>out 2>&1 &', "sh", *self.command()],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert shell.wait(SECONDS) == 0
        self._group = shell.pid
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise

    def wait(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + SECONDS
        while not self.answers():
            assert time.monotonic() < until, self.said
            assert self._signal(0), self.said
            time.sleep(0.05)

    def _signal(self, number: int) -> bool:
        """Send it a signal; tell whether it is there."""
        if self._group is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._group, number)
            return True
        return False

    def freeze(self) -> None:
        """Have it do nothing, with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        until = time.monotonic() + SECONDS
        while self._signal(signal.SIGKILL) and self._listens():
            assert time.monotonic() < until
            time.sleep(0.01)
        self._group = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


@contextlib.contextmanager
def shared(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], ServerProcess]
) -> Iterator[Any]:
    """Give the server of that name that all processes of this run share.

    Who comes first starts it, and who goes last ends it, for an idle Java costs a tenth of a
    processor. Who comes after that starts another one.

    Args:
        factory: Makes folders.
        name: What the server is known by.
        make: Makes the server with its data in a folder.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    state = root / f"{name}.state"
    with contextlib.ExitStack() as stack:
        one_at_a_time, users = (
            stack.enter_context((root / f"{name}.{what}").open("w")) for what in ("lock", "users")
        )
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if state.exists():
            server = pickle.loads(state.read_bytes())  # noqa: S301 - which one of us has written
        else:
            server = make(factory.mktemp(name))
            server.start()
            state.write_bytes(pickle.dumps(server))
        fcntl.flock(one_at_a_time, fcntl.LOCK_UN)
        try:
            yield server
        finally:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            with contextlib.suppress(BlockingIOError):  # somebody else uses it still
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                state.unlink()
                server.kill()
