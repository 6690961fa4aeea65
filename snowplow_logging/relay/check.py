"""What the command ``check`` tries of a handler whose events go to a broker or stay in a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from snowplow_logging.brokers import BrokerURL, read_url
from snowplow_logging.delivery.retry import Outcome
from snowplow_logging.delivery.way_out import WayOut
from snowplow_logging.payload import EVENT_ID

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["try_elsewhere"]

_LONGEST_WAIT: Final = 10.0  # seconds


def try_elsewhere(
    settings: Settings, where: WayOut, payload: bytes | None, tell: Callable[[str], None]
) -> bool:
    """Try the way of a handler that leaves the sending to a relay.

    Args:
        settings: Those of the handler.
        where: Where its events go.
        payload: The test event; None where none is to be sent.
        tell: Called with each line of the report.

    Returns:
        Whether it is within reach, and took the event.
    """
    relay = f"snowplow-logging relay --store {settings.store}"
    if settings.broker is not None:
        relay = f"snowplow-logging relay --broker {read_url('broker', settings.broker).shown}"
        if not _try_broker(settings, tell):
            return False
    if payload is not None:
        start = time.monotonic()
        answer = where.send([payload], at_most=_LONGEST_WAIT)
        where.close()
        if answer.outcome is not Outcome.TAKEN:
            tell(f"error: {answer.reason}")
            return False
        took = (time.monotonic() - start) * 1_000
        tell(f"took the test event {payload[EVENT_ID].decode()}, after {took:,.0f} ms")
    tell(f"`{relay} --endpoint URL` sends what is there")
    return True


def _try_broker(settings: Settings, tell: Callable[[str], None]) -> bool:
    broker = read_url("broker", settings.broker or "")
    try:
        problems = _problems(broker, settings.stream)
    except ConnectionError as error:
        tell(f"error: {broker.shown}: {error}")
        return False
    tell("answers")
    for problem in problems:
        tell(f"warning: {problem}")
    return True


def _problems(broker: BrokerURL, stream: str) -> list[str]:
    """Return what speaks against a broker.

    Raises:
        ConnectionError: It is out of reach.
    """
    problems: Callable[[BrokerURL, str, float], list[str]]
    describe: Callable[[BrokerURL, Exception], str]
    if broker.kind == "amqp":
        from snowplow_logging.brokers.amqp_client import amqp_error, amqp_problems

        problems, describe = amqp_problems, amqp_error
    elif broker.kind == "kafka":
        from snowplow_logging.brokers.kafka_client import kafka_error, kafka_problems

        problems, describe = kafka_problems, kafka_error
    elif broker.kind == "sqs":
        from snowplow_logging.brokers.sqs_client import sqs_error, sqs_problems

        problems, describe = sqs_problems, sqs_error
    else:
        from snowplow_logging.brokers.redis_client import redis_error, redis_problems

        problems, describe = redis_problems, redis_error
    try:
        return problems(broker, stream, _LONGEST_WAIT)
    except Exception as error:  # noqa: BLE001 - a client may raise what it likes
        raise ConnectionError(describe(broker, error)) from None
