"""Reads the URL of a broker: which kind it is, its hosts, and what may be shown of it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from snowplow_logging.endpoint import without_credentials

__all__ = ["KINDS", "BrokerURL", "read_url"]


class _Scheme(NamedTuple):
    kind: str
    secure: bool
    port: int


KINDS: Final = {
    "redis": _Scheme("server", secure=False, port=6_379),
    "rediss": _Scheme("server", secure=True, port=6_379),
    "redis+sentinel": _Scheme("sentinel", secure=False, port=26_379),
    "rediss+sentinel": _Scheme("sentinel", secure=True, port=26_379),
    "redis+cluster": _Scheme("cluster", secure=False, port=6_379),
    "rediss+cluster": _Scheme("cluster", secure=True, port=6_379),
    "amqp": _Scheme("amqp", secure=False, port=5_672),
    "amqps": _Scheme("amqp", secure=True, port=5_671),
    "kafka": _Scheme("kafka", secure=False, port=9_092),
    "sqs": _Scheme("sqs", secure=False, port=80),
    "sqss": _Scheme("sqs", secure=True, port=443),
}
"""The schemes, each with what it leads to, and the port that it has if none is given."""

_NOT_IN_URL: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_EXPECTED: Final = "give one such as 'redis://broker.example.com:6379/0'"
_MOST_PATH: Final = {"server": 1, "sentinel": 2, "cluster": 0, "amqp": 1, "kafka": 0, "sqs": 0}
"""How many parts the path of a URL may have."""


class BrokerURL(NamedTuple):
    """Where a broker is.

    Attributes:
        kind: `server`, `sentinel` or `cluster` of Redis, `amqp`, `kafka` or `sqs`.
        shown: The URL without what may be secret: user, password and query.
        secure: Whether it is spoken to by TLS.
        hosts: Its hosts with their ports; none for SQS at AWS itself.
        path: The parts of its path.
        query: Its query.
        user: The user, if one is given.
        password: The password, if one is given.
    """

    kind: str
    shown: str
    secure: bool
    hosts: list[tuple[str, int]]
    path: list[str]
    query: str
    user: str | None
    password: str | None

    def __repr__(self) -> str:
        """Show what may be shown."""
        return f"<{type(self).__name__} {self.shown}>"


def read_url(name: str, value: str) -> BrokerURL:
    """Read the URL of a broker.

    Args:
        name: What it is given as.
        value: The URL; user and password are percent-encoded where need be.

    Raises:
        ValueError: It makes no sense. The message never shows it, for it may hold a password.
    """
    scheme = value.partition("://")[0].lower()
    if "://" not in value or scheme not in KINDS:
        known = ", ".join(f"{one}://" for one in KINDS)
        raise ValueError(f"{name} has none of the schemes that are known; give one of {known}")
    if _NOT_IN_URL.search(value):
        raise ValueError(f"{name} has characters that no URL has; {_EXPECTED}")
    parts = urlsplit(value)
    user_info, _, hosts = parts.netloc.rpartition("@")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(
            f"{name} has an @ behind its host; write / ? and # in a password as %2F, %3F and %23"
        )
    user, _, password = user_info.partition(":")
    kind, secure, default = KINDS[scheme]
    path = [unquote(part) for part in parts.path.split("/") if part]
    found = [_host(name, host, default) for host in hosts.split(",") if host or kind != "sqs"]
    if kind == "server" and len(found) > 1:
        raise ValueError(f"{name} has several hosts; give one, or {scheme}+cluster://")
    if kind == "sqs" and len(found) > 1:
        raise ValueError(f"{name} has several hosts; give one, or none for AWS")
    _check_path(name, kind, path)
    shown = without_credentials(value.partition("?")[0].partition("#")[0])
    return BrokerURL(
        kind,
        shown,
        secure,
        found,
        path,
        parts.query,
        unquote(user) or None,
        unquote(password) or None,
    )


def _check_path(name: str, kind: str, path: list[str]) -> None:
    most = _MOST_PATH[kind]
    if len(path) > most:
        raise ValueError(f"{name} has a path with more than it takes; {_EXPECTED}")
    if kind == "sentinel" and not path:
        raise ValueError(f"{name} names no master; give redis+sentinel://host:26379/NAME")
    if kind == "amqp":
        return
    database = path[-1] if len(path) == most and most else "0"
    if not database.isdecimal():
        raise ValueError(f"{name} has a database that is no number; {_EXPECTED}")


def _host(name: str, text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{name} has a host or a port that is none; {_EXPECTED}") from None
    if not host:
        raise ValueError(f"{name} has no host; {_EXPECTED}")
    return host, port or default
