"""Clients of SQS as the URL of a broker asks for them: at AWS, or at a server that speaks it."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from snowplow_logging.brokers.urls import BrokerURL
from snowplow_logging.http_client import certificates, described

__all__ = [
    "LARGEST",
    "is_too_large",
    "needs_mending",
    "new_client",
    "problems_of",
    "queue_url",
    "sqs_error",
    "sqs_problems",
    "text_of",
]

LARGEST: Final = 262_144
"""The bytes of a message that each queue takes; some take up to 1,048,576."""

_OPTIONS: Final = ("profile", "region")
_KEPT_SECONDS: Final = 14 * 86_400  # that a queue keeps a message, and none can keep it longer
_FEW_SECONDS: Final = 4 * 86_400  # that it does if nobody says anything else
_LASTING: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "InvalidClientTokenId",
        "InvalidParameterValue",
        "InvalidSecurity",
        "MissingParameter",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""The answers that last until the user mends something."""

_NO_TEXT_THERE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What SQS takes in no message: the characters that XML does not have."""


def _boto(name: str) -> Any:
    try:
        return importlib.import_module(name)  # which have no types of their own
    except ImportError:
        raise ImportError(
            "a broker of this kind needs the extra kombu: pip install 'snowplow-logging[kombu]'"
        ) from None


def new_client(broker: BrokerURL, connect: float | None, read: float | None) -> Any:
    """Return a client that does not try again by itself, and opens nothing yet.

    Without a key in the URL it looks for one where all programs for AWS do.

    Args:
        broker: Where the server is; without a host it is AWS.
        connect: The seconds to wait for a connection at most.
        read: The seconds to wait for an answer at most.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The query has an option that is not known, or the region is missing.
    """
    query = dict(parse_qsl(broker.query, keep_blank_values=True))
    if not query.keys() <= set(_OPTIONS):
        known = ", ".join(_OPTIONS)
        raise ValueError(f"broker has an option in its query that is not known; known are {known}")
    if (broker.user is None) != (broker.password is None):
        raise ValueError("broker has half a key; give both parts, sqs://ID:KEY@…")
    session_module, exceptions = _boto("boto3.session"), _boto("botocore.exceptions")
    config = _boto("botocore.config").Config(
        connect_timeout=connect, read_timeout=read, retries={"total_max_attempts": 1}
    )
    verified_by = certificates()
    endpoint = None
    for host, port in broker.hosts:
        place = f"[{host}]" if ":" in host else host
        endpoint = f"{'https' if broker.secure else 'http'}://{place}:{port}"
    try:
        session = session_module.Session(
            aws_access_key_id=broker.user,
            aws_secret_access_key=broker.password,
            region_name=query.get("region"),
            profile_name=query.get("profile"),
        )
        return session.client(
            "sqs",
            region_name=session.region_name or (endpoint and "us-east-1"),
            endpoint_url=endpoint,
            verify=None if verified_by is True else verified_by,
            config=config,
        )
    except exceptions.NoRegionError:
        raise ValueError(
            "broker names no region; give sqs://?region=eu-west-1, or set AWS_REGION"
        ) from None
    except (exceptions.BotoCoreError, ValueError):
        raise ValueError("broker has a key, a region or a profile that makes no sense") from None


def queue_url(client: Any, name: str) -> str:
    """Return the URL of a queue, which is made if it is missing."""
    url: str
    try:
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
    except client.exceptions.QueueDoesNotExist:
        attributes = {"MessageRetentionPeriod": str(_KEPT_SECONDS)}
        url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def text_of(message: bytes) -> str:
    """Return a message as SQS takes it: what it would refuse is written as JSON writes it."""
    text = message.decode(errors="replace")
    return _NO_TEXT_THERE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _code(error: BaseException) -> str:
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def is_too_large(error: BaseException, size: int) -> bool:
    """Tell whether an answer says that a message of that many bytes has too many."""
    return size > LARGEST and _code(error).startswith(("Invalid", "BatchRequestTooLong"))


def needs_mending(error: BaseException) -> bool:
    """Tell whether an error is likely to last until the user mends something."""
    return _code(error) in _LASTING or type(error).__name__ in {
        "NoCredentialsError",
        "PartialCredentialsError",
        "SSLError",
    }


def sqs_error(broker: BrokerURL, error: BaseException) -> str:
    """Say what went wrong, without a secret."""
    return described(OSError(str(error)), filter(None, (broker.password, broker.user)))


def sqs_problems(broker: BrokerURL, name: str, seconds: float) -> list[str]:
    """Return what speaks against a queue as a place where events wait.

    Args:
        broker: Which.
        name: The queue.
        seconds: To wait at most.

    Raises:
        Exception: It is out of reach.
    """
    client = new_client(broker, seconds, seconds)
    try:
        return problems_of(client, queue_url(client, name))
    finally:
        client.close()


def problems_of(client: Any, url: str) -> list[str]:
    """Return what speaks against a queue, by its client."""
    names = ["MessageRetentionPeriod"]
    try:
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    except Exception:  # noqa: BLE001 - not everybody may ask, nor does every server answer
        return []
    kept = int(found.get(names[0], _KEPT_SECONDS))
    if kept >= _FEW_SECONDS:
        return []
    return [f"the queue forgets what has waited for {kept:,} s; set MessageRetentionPeriod higher"]
