"""Brokers that hold events between the programs that log them and the relays that send them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowplow_logging.brokers.urls import BrokerURL, read_url

if TYPE_CHECKING:
    from snowplow_logging.brokers.broker_out import Publisher
    from snowplow_logging.delivery.way_out import WayOut
    from snowplow_logging.settings import Settings

__all__ = ["BrokerURL", "broker_of", "read_url"]


def broker_of(settings: Settings) -> WayOut:
    """Return what hands batches to the broker of a handler.

    Raises:
        ImportError: The extra that it takes is not installed.
        ValueError: There is no such broker.
    """
    from snowplow_logging.brokers.broker_out import BrokerOut

    broker = read_url("broker", settings.broker or "")
    return BrokerOut(f"{broker.shown}#{settings.stream}", _publisher(broker, settings))


def _publisher(broker: BrokerURL, settings: Settings) -> Publisher:
    place = (broker, settings.stream, settings.timeouts)
    if broker.kind == "amqp":
        from snowplow_logging.brokers.amqp_out import AMQPPublisher

        return AMQPPublisher(*place)
    if broker.kind == "kafka":
        from snowplow_logging.brokers.kafka_out import KafkaPublisher

        return KafkaPublisher(*place)
    if broker.kind == "sqs":
        from snowplow_logging.brokers.sqs_out import SQSPublisher

        return SQSPublisher(*place)
    from snowplow_logging.brokers.redis_out import RedisPublisher

    return RedisPublisher(*place)
