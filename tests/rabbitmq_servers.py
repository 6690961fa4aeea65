"""Servers of RabbitMQ that the tests start on free ports, with data in a folder of the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from redis_servers import free_port

__all__ = ["RabbitMQServer"]

_SECONDS: Final = 60.0
# What distributions put into the path changes the user, and the variables with him.
_PROGRAMS: Final = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)


def _program() -> str | None:
    for name in _PROGRAMS:
        if Path(name).exists():
            return name
    return shutil.which("rabbitmq-server")


class RabbitMQServer:
    """A server with a daemon of Erlang's own, so that it meets no other of the machine.

    Args:
        folder: Where its data are.
        *lines: More lines of its configuration.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        pytest.importorskip("kombu", reason="the client of RabbitMQ is an extra")
        program, epmd = _program(), shutil.which("epmd")
        if program is None or epmd is None:
            pytest.skip("there is no rabbitmq-server")
        self._program, self._epmd_program = program, epmd
        self._folder = folder
        self.port = free_port()
        self.url = f"amqp://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        (folder / "rabbitmq.conf").write_text("\n".join(("log.file.level = info", *lines, "")))
        (folder / "plugins").write_text("[].\n")
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(_SECONDS)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "out").open("ab") as log:
            if self._epmd is None:
                self._epmd = subprocess.Popen(
                    [self._epmd_program], env=self._environment, stdout=log, stderr=log
                )
            self._process = subprocess.Popen(
                [self._program],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise

    def wait(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + _SECONDS
        while True:
            try:
                with self.channel():
                    return
            except OSError:
                assert time.monotonic() < until, (self._folder / "out").read_text()
                assert self._process.poll() is None, (self._folder / "out").read_text()
                time.sleep(0.05)

    @contextlib.contextmanager
    def channel(self):
        """Give a channel of a client."""
        import amqp

        with amqp.Connection(f"127.0.0.1:{self.port}", confirm_publish=True) as connection:
            yield connection.channel()

    def publish(self, body: bytes, queue: str = "snowplow") -> None:
        """Put a message into a queue, as another program would."""
        import amqp

        with self.channel() as channel:
            channel.basic_publish(amqp.Message(body, delivery_mode=2), routing_key=queue)

    def count(self, queue: str = "snowplow") -> int:
        """Return how many messages nobody has taken."""
        with self.channel() as channel:
            return channel.queue_declare(queue, passive=True).message_count

    def take(self, queue: str) -> list[tuple[dict, bytes]]:
        """Remove the messages of a queue; return each one's headers and body."""
        taken = []
        with self.channel() as channel:
            while message := channel.basic_get(queue, no_ack=True):
                body = message.body
                data = body.encode() if isinstance(body, str) else bytes(body)
                taken.append((message.headers, data))
        return taken

    def delete(self, *queues: str) -> None:
        """Remove queues, if they are there."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def freeze(self) -> None:
        """Have it do nothing, with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_SECONDS)
            self._process = None
