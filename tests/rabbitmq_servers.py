"""Servers of RabbitMQ that the tests start on free ports, with data in a folder of the test."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from server_process import ServerProcess, free_port

__all__ = ["RabbitMQServer"]

# What distributions put into the path changes the user, and the variables with him.
_PROGRAMS: Final = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)


def _program() -> str | None:
    for name in _PROGRAMS:
        if Path(name).exists():
            return name
    return shutil.which("rabbitmq-server")


class RabbitMQServer(ServerProcess):
    """A server with a daemon of Erlang's own, so that it meets no other of the machine.

    Args:
        folder: Where its data are.
        *lines: More lines of its configuration.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        pytest.importorskip("kombu", reason="the client of RabbitMQ is an extra")
        program = _program()
        if program is None or shutil.which("epmd") is None:
            pytest.skip("there is no rabbitmq-server")
        super().__init__(folder)
        self._program = program
        self.url = f"amqp://127.0.0.1:{self.port}"
        (folder / "rabbitmq.conf").write_text("\n".join(("log.file.level = info", *lines, "")))
        (folder / "plugins").write_text("[].\n")
        self.environment = {
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

    def command(self) -> list[Any]:
        """Return what starts it, after the daemon, which it would start for all of the machine."""
        script = 'epmd & until epmd -names; do sleep 0.05; done; exec "$0"'
        return ["sh", "-c", script, self._program]

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            with self.channel():
                return True
        except OSError:
            return False

    @contextlib.contextmanager
    def channel(self):
        """Give a channel of a client."""
        import amqp

        with amqp.Connection(f"127.0.0.1:{self.port}", confirm_publish=True) as connection:
            yield connection.channel()

    def publish(self, body: bytes, queue: str | None = None, **properties: str) -> None:
        """Put a message into a queue, as another program would."""
        import amqp

        with self.channel() as channel:
            channel.basic_publish(
                amqp.Message(body, delivery_mode=2, **properties),
                routing_key=queue or self.stream,
            )

    def count(self, queue: str | None = None) -> int:
        """Return how many messages nobody has taken."""
        with self.channel() as channel:
            return channel.queue_declare(queue or self.stream, passive=True).message_count

    def take(self, queue: str | None = None) -> list[tuple[dict, bytes]]:
        """Remove the messages of a queue; return each one's headers and body."""
        taken = []
        with self.channel() as channel:
            while message := channel.basic_get(queue or self.stream, no_ack=True):
                body = message.body
                data = body.encode() if isinstance(body, str) else bytes(body)
                taken.append((message.headers, data))
        return taken

    def delete(self, *queues: str) -> None:
        """Remove queues, if they are there."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)
