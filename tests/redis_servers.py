"""Servers of Redis that the tests start on free ports, with their data in a folder of the test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from server_process import ServerProcess

__all__ = ["RedisServer"]


class RedisServer(ServerProcess):
    """A server, with an append-only file that is written before each answer.

    Args:
        folder: Where its data are.
        *arguments: Options that come after the usual ones.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        redis = pytest.importorskip("redis", reason="the client of Redis is an extra")
        if shutil.which("redis-server") is None:
            pytest.skip("there is no redis-server")
        super().__init__(folder)
        self._arguments = arguments
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client: Any = redis.Redis(port=self.port, protocol=2)

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.kill()

    def command(self) -> list[Any]:
        """Return what starts it."""
        options = f"--bind 127.0.0.1 --appendonly yes --appendfsync always --port {self.port}"
        return ["redis-server", *options.split(), "--save", "", *self._arguments]

    def answers(self) -> bool:
        """Tell whether it has read its data."""
        import redis

        try:
            self.client.ping()
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True
