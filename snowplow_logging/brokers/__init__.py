"""Brokers that hold events between the programs that log them and the relays that send them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowplow_logging.brokers.urls import BrokerURL, read_url

if TYPE_CHECKING:
    from snowplow_logging.delivery.way_out import WayOut
    from snowplow_logging.settings import Settings

__all__ = ["BrokerURL", "broker_of", "read_url"]


def broker_of(settings: Settings) -> WayOut:
    """Return what hands batches to the broker of a handler.

    Raises:
        ImportError: The extra that it takes is not installed.
        ValueError: There is no such broker.
    """
    kind = read_url("broker", settings.broker or "").kind
    if kind == "amqp":
        from snowplow_logging.brokers.amqp_out import AMQPOut

        return AMQPOut(settings)
    if kind == "kafka":
        from snowplow_logging.brokers.kafka_out import KafkaOut

        return KafkaOut(settings)
    if kind == "sqs":
        from snowplow_logging.brokers.sqs_out import SQSOut

        return SQSOut(settings)
    from snowplow_logging.brokers.redis_out import RedisOut

    return RedisOut(settings)
