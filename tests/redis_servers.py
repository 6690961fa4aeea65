"""Servers of Redis that the tests start on free ports, with their data in a folder of the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["RedisServer", "free_port"]

_SECONDS: Final = 30.0


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class RedisServer:
    """A server, with an append-only file that is written before each answer.

    Args:
        folder: Where its data are.
        *arguments: Options that come after the usual ones.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        redis = pytest.importorskip("redis", reason="the client of Redis is an extra")
        if shutil.which("redis-server") is None:
            pytest.skip("there is no redis-server")
        self._folder = folder
        self._arguments = arguments
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client: Any = redis.Redis(port=self.port, protocol=2)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        options = f"--bind 127.0.0.1 --appendonly yes --appendfsync always --port {self.port}"
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "redis-server",
                    *options.split(),
                    "--save",
                    "",
                    "--dir",
                    self._folder,
                    *self._arguments,
                ],
                stdout=log,
                stderr=log,
            )
        try:
            self.wait()
        except BaseException:
            self.kill()
            raise

    def wait(self) -> None:
        """Wait until it answers, and has read its data."""
        import redis

        until = time.monotonic() + _SECONDS
        while True:
            try:
                self.client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                assert time.monotonic() < until, (self._folder / "redis.log").read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_SECONDS)
            self._process = None
