"""Clients of Redis as the URL of a broker asks for them: a server, by sentinels, a cluster."""

from __future__ import annotations

import importlib
from typing import Any, Final
from urllib.parse import parse_qsl

from snowplow_logging.brokers.urls import BrokerURL
from snowplow_logging.http_client import described

__all__ = [
    "check_url",
    "needs_mending",
    "new_client",
    "problems_of",
    "redis_error",
    "redis_problems",
]

_SENTINEL: Final = "sentinel_"  # begins the options that are for the sentinels themselves


def _redis() -> Any:
    try:
        return importlib.import_module("redis")
    except ImportError:
        raise ImportError(
            "a broker of this kind needs the extra redis: pip install 'snowplow-logging[redis]'"
        ) from None


def check_url(broker: BrokerURL) -> None:
    """See that a client can be made, and open nothing.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL has an option that the client does not know.
    """
    _redis()
    if broker.kind != "cluster":  # a client of which asks the servers at once
        new_client(broker, None, None)


def new_client(broker: BrokerURL, connect: float | None, read: float | None) -> Any:
    """Return a client that neither retries nor waits by itself.

    Args:
        broker: Where the server is.
        connect: The seconds to wait for a connection at most.
        read: The seconds to wait for an answer at most.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL has an option that the client does not know.
        redis.RedisError: A cluster is out of reach.
    """
    redis = _redis()
    from redis.backoff import NoBackoff
    from redis.cluster import RedisCluster
    from redis.retry import Retry

    # Which have no types of their own.
    parse_url: Any = importlib.import_module("redis.connection").parse_url
    cluster_node: Any = importlib.import_module("redis.cluster").ClusterNode
    sentinel_of: Any = importlib.import_module("redis.sentinel").Sentinel
    query = parse_qsl(broker.query, keep_blank_values=True)
    plain = "&".join(f"{name}={value}" for name, value in query if not name.startswith(_SENTINEL))
    try:
        options: dict[str, Any] = {**parse_url(f"redis://h?{plain}")}
    except ValueError:
        raise ValueError("broker has an option in its query that makes no sense") from None
    options.pop("host", None)
    options |= {
        "socket_connect_timeout": connect,
        "socket_timeout": read,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # whose answers all versions of the client give in the same form
    }
    credentials = {"username": broker.user, "password": broker.password}
    options |= {name: value for name, value in credentials.items() if value is not None}
    database = int(broker.path[-1]) if broker.path and broker.path[-1].isdecimal() else 0
    try:
        if broker.kind == "cluster":
            nodes = [cluster_node(host, port) for host, port in broker.hosts]
            return RedisCluster(startup_nodes=nodes, ssl=broker.secure, **options)
        if broker.kind == "sentinel":
            own = {name[len(_SENTINEL) :]: v for name, v in query if name.startswith(_SENTINEL)}
            times = {"socket_connect_timeout": connect, "socket_timeout": read}
            kwargs = {**times, "ssl": broker.secure, **own}
            sentinel = sentinel_of(
                broker.hosts, sentinel_kwargs=kwargs, ssl=broker.secure, db=database, **options
            )
            client = sentinel.master_for(broker.path[0])
        else:
            ((host, port),) = broker.hosts
            client = redis.Redis(host, port, database, ssl=broker.secure, **options)
        client.connection_pool.make_connection()  # which opens nothing yet
    except TypeError:
        raise ValueError("broker has an option in its query that redis-py does not know") from None
    return client


def redis_error(broker: BrokerURL, error: BaseException) -> str:
    """Say what went wrong, without a secret."""
    return described(error, filter(None, (broker.password,)))


def needs_mending(error: BaseException) -> bool:
    """Tell whether an error is likely to last until the user mends something."""
    import redis

    passing = (redis.exceptions.BusyLoadingError, redis.exceptions.ReadOnlyError)
    lasting = (redis.ResponseError, redis.AuthenticationError, redis.DataError)
    return isinstance(error, lasting) and not isinstance(error, passing)


def redis_problems(broker: BrokerURL, name: str, seconds: float) -> list[str]:
    """Return what speaks against a server as a place where events wait.

    Args:
        broker: Which.
        name: The stream.
        seconds: To wait at most.

    Raises:
        Exception: It is out of reach.
    """
    client = new_client(broker, seconds, seconds)
    try:
        client.ping()
        return problems_of(client, name)
    finally:
        client.close()


def problems_of(client: Any, name: str) -> list[str]:
    """Return what speaks against the server that has a stream, by its client."""
    try:
        if hasattr(client, "get_node_from_key"):  # of a cluster, the server that has the stream
            info = client.info(target_nodes=client.get_node_from_key(name))
        else:
            info = client.info()
    except Exception as error:  # noqa: BLE001 - some that are managed allow no such question
        return [f"it does not say how it keeps its data: {type(error).__name__}"]
    problems = []
    if not info.get("aof_enabled"):
        problems.append(
            "appendonly is no: what it has acknowledged is lost when it ends; set appendonly yes"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not str(policy).startswith("volatile"):
        problems.append(
            f"maxmemory-policy is {policy}: once its memory is full it removes the stream;"
            " set maxmemory-policy noeviction"
        )
    version = tuple(int(part) for part in str(info.get("redis_version", "7")).split(".")[:2])
    if version < (6, 2):
        problems.append(f"it is Redis {info['redis_version']}, and a relay needs 6.2 or newer")
    return problems
