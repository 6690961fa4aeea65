"""What the clients of Kafka are made with, as the URL of a broker asks for it."""

from __future__ import annotations

import importlib
from typing import Any, Final
from urllib.parse import parse_qsl

from snowplow_logging.brokers.urls import BrokerURL
from snowplow_logging.http_client import described

__all__ = ["confluent_kafka", "kafka_error", "kafka_options", "kafka_problems", "needs_mending"]

_OURS: Final = frozenset(
    {
        "acks",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "group.id",
        "request.required.acks",
        "sasl.password",
        "sasl.username",
    }
)
"""What is not for the URL's query to set: delivery depends on it, or the URL has it elsewhere."""

_LASTING: Final = frozenset(
    {
        "_AUTHENTICATION",
        "_SSL",
        "_UNKNOWN_TOPIC",
        "CLUSTER_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "INVALID_TOPIC_EXCEPTION",
        "SASL_AUTHENTICATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
    }
)
"""The errors that last until the user mends something."""


def confluent_kafka() -> Any:
    """Return the client.

    Raises:
        ImportError: The extra is not installed.
    """
    try:
        return importlib.import_module("confluent_kafka")
    except ImportError:
        raise ImportError(
            "a broker of this kind needs the extra kafka: pip install 'snowplow-logging[kafka]'"
        ) from None


def kafka_options(broker: BrokerURL) -> dict[str, Any]:
    """Return what each client of a broker is made with.

    A user in the URL logs in by SASL, with PLAIN and over TLS if the query says nothing else.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The query sets what it may not, or what the client does not know.
    """
    query = dict(parse_qsl(broker.query, keep_blank_values=True))
    if taken := sorted(_OURS & query.keys()):
        raise ValueError(f"broker has {taken[0]} in its query, which is not for that to set")
    options: dict[str, Any] = {
        "bootstrap.servers": ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in broker.hosts
        ),
        "log_level": 0,  # else librdkafka writes to standard error, past all handlers
        "client.id": "snowplow-logging",
        "allow.auto.create.topics": "true",
    }
    if broker.user is not None:
        options |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": broker.user,
            "sasl.password": broker.password or "",
        }
    options |= query
    kafka = confluent_kafka()
    try:
        # Which opens nothing yet, and says what it does not know.
        kafka.Consumer({**options, "group.id": "none"}).close()
    except (kafka.KafkaException, ValueError, TypeError):
        raise ValueError(
            "broker has an option in its query that librdkafka does not know, or a value that it"
            " does not take"
        ) from None
    return options


def kafka_error(broker: BrokerURL, error: Any) -> str:
    """Say what went wrong, without a secret.

    Args:
        broker: Where.
        error: What was raised, or what the client calls an error.
    """
    inner = error.args[0] if getattr(error, "args", None) else error
    text = inner.str() if hasattr(inner, "str") else str(inner)
    return described(OSError(text), filter(None, (broker.password,)))


def needs_mending(error: Any) -> bool:
    """Tell whether an error is likely to last until the user mends something."""
    inner = error.args[0] if getattr(error, "args", None) else error
    return bool(hasattr(inner, "name") and inner.name() in _LASTING)


def kafka_problems(broker: BrokerURL, name: str, seconds: float) -> list[str]:
    """Return what speaks against a broker as a place where events wait.

    Args:
        broker: Which.
        name: The topic.
        seconds: To wait at most.

    Raises:
        Exception: It is out of reach.
    """
    kafka = confluent_kafka()
    said: list[Any] = []
    options = {**kafka_options(broker), "error_cb": said.append}
    options["allow.auto.create.topics"] = "false"
    consumer = kafka.Consumer({**options, "group.id": "none"})
    try:
        found = consumer.list_topics(name, timeout=seconds)
    except kafka.KafkaException as error:
        consumer.poll(0)  # which calls `error_cb`
        raise kafka.KafkaException(said[0] if said else error.args[0]) from None
    finally:
        consumer.close()
    partitions = found.topics[name].partitions.values() if name in found.topics else ()
    copies = min((len(one.replicas) for one in partitions), default=len(found.brokers))
    if copies < 2:
        return ["one server alone has each message, and loses what it has lost"]
    return []
