"""Connections to RabbitMQ as the URL of a broker asks for them, through kombu; and queues there."""

from __future__ import annotations

import contextlib
import importlib
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from snowplow_logging.brokers.message import MOST_DELIVERIES
from snowplow_logging.brokers.urls import BrokerURL
from snowplow_logging.http_client import certificates, described

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AMQPConnection", "amqp_error", "amqp_problems", "needs_mending", "options_of"]


_HEARTBEAT: Final = 30  # seconds
_CLOSE_SECONDS: Final = 1.0  # that the answer to a close is waited for
_CONNECT_SECONDS: Final = 10.0  # where the settings give no limit
_TLS: Final = ("ca_certs", "certfile", "keyfile")


def options_of(broker: BrokerURL) -> dict[str, Any]:
    """Return what the query of a URL says, for kombu.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The query has an option that is not known, or a file that cannot be read.
    """
    _kombu()
    query = dict(parse_qsl(broker.query, keep_blank_values=True))
    heartbeat = query.pop("heartbeat", str(_HEARTBEAT))
    if not (heartbeat.isascii() and heartbeat.isdecimal()):
        raise ValueError("broker has a heartbeat in its query that is no number of seconds")
    files: dict[str, str] = {name: query.pop(name) for name in _TLS if name in query}
    if query or (files and not broker.secure):
        known = ", ".join(("heartbeat", *(_TLS if broker.secure else ())))
        raise ValueError(f"broker has an option in its query that is not known; known are {known}")
    return {"heartbeat": int(heartbeat), "ssl": _tls(files) if broker.secure else False}


def _kombu() -> Any:
    try:
        return importlib.import_module("kombu")  # which has no types of its own
    except ImportError:
        raise ImportError(
            "a broker of this kind needs the extra kombu: pip install 'snowplow-logging[kombu]'"
        ) from None


def _not_found() -> type[Exception]:
    found: type[Exception] = importlib.import_module("amqp.exceptions").NotFound
    return found


def _tls(files: Mapping[str, str]) -> dict[str, Any]:
    verified_by = files.get("ca_certs") or certificates()
    options = {name: files[name] for name in _TLS[1:] if name in files}
    if verified_by is not True:
        options["ca_certs"] = str(verified_by)
    return {**options, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}


class AMQPConnection:
    """A connection with one channel, on which what is published is confirmed.

    Args:
        broker: Where the server is; of several hosts the first that answers.
        connect: The seconds to wait for a connection at most.
        read: The seconds to wait for an answer at most.

    Raises:
        OSError, amqp.AMQPError: It is out of reach, or refuses.
    """

    def __init__(self, broker: BrokerURL, connect: float | None, read: float | None) -> None:
        options = options_of(broker)
        for index, (host, port) in enumerate(broker.hosts):
            self._client: Any = _kombu().Connection(
                hostname=host,
                port=port,
                userid=broker.user or "guest",
                password=broker.password or "guest",
                virtual_host=broker.path[0] if broker.path else "/",
                transport="pyamqp",
                connect_timeout=connect or _CONNECT_SECONDS,
                transport_options={"confirm_publish": True},
                **options,
            )
            self._transport: Any = self._client.transport
            try:
                self._connection: Any = self._transport.establish_connection()
                break
            except (OSError, *self._transport.connection_errors):
                if index == len(broker.hosts) - 1:
                    raise
        self._declared: set[str] = set()
        try:
            self.wait_at_most(read)
            self.channel: Any = self._new_channel()
        except BaseException:
            self.drop()  # or it stays open until the garbage collector comes to it
            raise

    def wait_at_most(self, seconds: float | None) -> None:
        """Set how long each answer is waited for, and each part of a message on its way out."""
        self._seconds = seconds
        self._connection.transport.sock.settimeout(seconds)

    def _new_channel(self) -> Any:
        channel = self._transport.create_channel(self._connection)
        channel.auto_decode = False  # a body stays what it is, whatever encoding is said to be its
        return channel

    def declare(self, name: str, dead_letters: str | None = None) -> None:
        """Make a durable queue, unless there is one of whatever kind already.

        Args:
            name: The queue.
            dead_letters: The queue where messages go that were delivered too often.
        """
        if name in self._declared:
            return
        try:
            self.channel.queue_declare(name, passive=True)
        except _not_found():  # which closes the channel
            self.channel = self._new_channel()
            arguments: dict[str, Any] = {"x-queue-type": "quorum"}
            if dead_letters is not None:
                self.declare(dead_letters)
                arguments |= {
                    "x-delivery-limit": MOST_DELIVERIES,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": dead_letters,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",  # which that strategy takes
                }
            self.channel.queue_declare(
                name, durable=True, exclusive=False, auto_delete=False, arguments=arguments
            )
        self._declared.add(name)

    def count(self, name: str) -> int:
        """Return how many messages of a queue nobody has taken; none where there is no queue."""
        try:
            return int(self.channel.queue_declare(name, passive=True).message_count)
        except _not_found():
            self.channel = self._new_channel()
            return 0

    def publish(self, name: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Put a message into a queue, and wait until the broker has it on its disk.

        Raises:
            amqp.AMQPError: It does not have it.
        """
        message = self.channel.prepare_message(
            body,
            content_type="application/json",
            content_encoding="binary",
            headers=dict(headers or {}),
            properties={"delivery_mode": 2},  # as the protocol has it: kept on disk
        )
        # Mandatory, else the broker confirms what no queue has got.
        self.channel.basic_publish(
            message,
            exchange="",
            routing_key=name,
            mandatory=True,
            confirm_timeout=self._seconds,
        )

    def drain(self, seconds: float) -> bool:
        """Wait for one frame; return whether one came."""
        try:
            self._transport.drain_events(self._connection, timeout=max(0.001, seconds))
        except TimeoutError:
            return False
        return True

    def is_well(self) -> bool:
        """Read what came while nobody waited; return whether the connection is still of use."""
        try:
            while self.drain(0.0):
                pass
            self.heartbeat()
        except Exception:  # noqa: BLE001 - whatever it is, another connection is needed
            self.drop()
            return False
        return bool(self._connection.connected)

    def heartbeat(self) -> None:
        """Say that this end lives, if it has said nothing for long; and see that the other does.

        It is to be called when all that has come was read.
        """
        if self._connection.heartbeat:
            self._connection.heartbeat_tick(rate=2)

    def say_alive(self) -> None:
        """Say that this end lives, whatever of the other's was not read."""
        self._connection.send_heartbeat()

    def drop(self) -> None:
        """Close the socket, and tell nobody."""
        with contextlib.suppress(Exception):
            self._connection.collect()

    def close(self) -> None:
        """Close the connection; what was not acknowledged is anybody's at once."""
        with contextlib.suppress(Exception):
            self.wait_at_most(_CLOSE_SECONDS)
            self._connection.close()
        self.drop()


def amqp_error(broker: BrokerURL, error: BaseException) -> str:
    """Say what went wrong, without a secret."""
    if type(error).__name__ == "MessageNacked":
        return "it refused the message"
    if isinstance(error, ssl.SSLCertVerificationError):
        error = OSError(f"certificate verify failed: {error.verify_message}")
    text = getattr(error, "reply_text", None)
    if isinstance(text, str) and text:
        error = OSError(text)
    if isinstance(error, OSError):  # which begins with a number
        error = OSError(error.strerror or str(error) or type(error).__name__)
    return described(error, filter(None, (broker.password,)))


def amqp_problems(broker: BrokerURL, name: str, seconds: float) -> list[str]:  # noqa: ARG001
    """Return nothing: whatever speaks against a server, it does not say so.

    Args:
        broker: Which.
        name: The queue.
        seconds: To wait at most.

    Raises:
        Exception: It is out of reach.
    """
    AMQPConnection(broker, seconds, seconds).close()
    return []


def needs_mending(error: BaseException) -> bool:
    """Tell whether an error is likely to last until the user mends something."""
    return getattr(error, "reply_code", None) in {402, 403, 406, 530} or isinstance(
        error, ssl.SSLCertVerificationError
    )
