"""A stream of Redis as a relay reads it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.brokers.message import MOST_DELIVERIES, letter_of
from snowplow_logging.brokers.redis_client import check_url, new_client, problems_of, redis_error
from snowplow_logging.brokers.redis_out import FIELD
from snowplow_logging.delivery.waiting import clock
from snowplow_logging.relay.stream_queue import SUSPECT, Message

if TYPE_CHECKING:
    from snowplow_logging.brokers.urls import BrokerURL

__all__ = ["RedisStream"]

_READ_TIMEOUT: Final = 10.0  # seconds that an answer is waited for, besides what a read waits
_CONNECT_TIMEOUT: Final = 3.05  # seconds
_CLAIMED_AT_ONCE: Final = 100  # messages taken over from relays that have died
_CHUNK: Final = 1_000  # ids in one command
_FORGOTTEN_AFTER: Final = 3_600_000  # milliseconds after which an idle consumer without any goes
_LATEST: Final = 10**9  # seconds: what was not touched for so long is anybody's

_LETTER: Final = {b"reason", b"message"}
"""The fields of a dead letter that is no batch, as `keep_letter` writes it."""

_REASON: Final = "delivered too often without an answer"
_MOVE: Final = """
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if found[1] then
    redis.call('XADD', KEYS[2], '*', 'reason', ARGV[2], unpack(found[1][2]))
end
return 0
"""


class RedisStream:
    """Reads the messages of a stream, as one consumer of a group.

    What a consumer has read is pending until it is acknowledged. Others take it over once nothing
    was heard of it for a while; so a relay says again and again that it still has what it has.

    Args:
        broker: Which server.
        name: The stream.
        group: The group of consumers.
        claim_after: The seconds after which what another has is taken over.

    Raises:
        ImportError: The extra is not installed.
        ValueError: The URL makes no sense.
    """

    redelivers: Final = False
    most_bytes: Final = None

    def __init__(self, broker: BrokerURL, name: str, group: str, claim_after: float) -> None:
        self._broker = broker
        self._name = name
        self._group = group
        self._claim_after = int(claim_after * 1_000)
        self.keep_interval = claim_after / 4
        self._claim_at = 0.0
        self._me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._client: Any = None
        self._asking: Any = None  # the client of who asks for the lag, and of dead letters
        self.shown = f"{self._broker.shown}#{name}"
        self._letters_name = f"{name}-dead-letter"
        self._letters_path = f"{self._broker.shown}#{self._letters_name}"
        check_url(self._broker)

    def _new_client(self) -> Any:
        return new_client(self._broker, _CONNECT_TIMEOUT, _READ_TIMEOUT)

    def keep_letter(self, field: str, data: bytes, reason: str) -> None:
        """Append a dead letter beside the stream."""
        if self._asking is None:
            self._asking = self._new_client()
        self._asking.xadd(self._letters_name, {"reason": reason, field: data})

    def backlog(self) -> dict[str, float]:
        """Return how many messages are in the stream, and how many of them relays have taken."""
        if self._asking is None:
            self._asking = self._new_client()
        import redis

        waiting = self._asking.xlen(self._name)
        taken = 0
        with contextlib.suppress(redis.ResponseError):  # there may be no group yet
            taken = self._asking.xpending(self._name, self._group)["pending"]
        return {"messages": float(waiting), "messages_taken": float(taken)}

    # What the queue asks for.

    def open(self) -> list[str]:
        """Make the group, with the stream where that is missing as well."""
        import redis

        if self._client is None:
            self._client = self._new_client()
        try:
            self._client.xgroup_create(self._name, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        return problems_of(self._client, self._name)

    def read(self, most: int, seconds: float) -> list[Message]:
        """Return what other relays have left behind, or else what is new."""
        if clock.now() >= self._claim_at and (claimed := self._claim(most)):
            return claimed
        found = self._client.xreadgroup(
            self._group, self._me, {self._name: ">"}, count=most, block=max(1, int(seconds * 1_000))
        )
        return [self._message(entry) for _, entries in found or () for entry in entries]

    def _claim(self, most: int) -> list[Message]:
        """Take over what was not heard of; look again at once while there may be more.

        What was taken over several times already comes last and alone: it may be what ended the
        relays before, which the others should not count as.
        """
        found = self._client.xpending_range(
            self._name,
            self._group,
            "-",
            "+",
            min(most, _CLAIMED_AT_ONCE),
            idle=self._claim_after,
        )
        often = {one["message_id"]: one["times_delivered"] for one in found}
        keys = [key for key, count in often.items() if count < SUSPECT] or [*often][:1]
        if not keys:
            self._claim_at = clock.now() + self.keep_interval
            self._forget_consumers()
            return []
        if often[keys[0]] >= MOST_DELIVERIES:
            return [self._set_aside(keys[0])]
        entries = self._client.xclaim(self._name, self._group, self._me, self._claim_after, keys)
        # In Redis 6.2 an entry that was removed from the stream comes without its fields.
        entries = [one for one in entries if one and one[0] is not None and one[1] is not None]
        claimed = {key for key, _ in entries}
        if gone := [key for key in keys if key not in claimed and not self._exists(key)]:
            self._client.xack(self._name, self._group, *gone)
        return [self._message(entry) for entry in entries]

    def _exists(self, key: Any) -> bool:
        return bool(self._client.xrange(self._name, key, key, 1))

    def _set_aside(self, key: Any) -> Message:
        """Have the server itself move an entry to the dead letters, so that nobody reads it."""
        import redis

        where = self._letters_path
        try:
            self._client.eval(_MOVE, 2, self._name, self._letters_name, key, _REASON)
        except redis.RedisError as error:
            # In a cluster the two may be on two servers; and not each server runs scripts.
            if not isinstance(error, (redis.ResponseError, redis.exceptions.RedisClusterException)):
                raise
            self._client.xack(self._name, self._group, key)
            name = _bytes(key).decode()
            return Message(None, b"", set_aside=f"{self.shown} still, as {name}")
        return Message(key, b"", set_aside=where)

    def _forget_consumers(self) -> None:
        for consumer in self._client.xinfo_consumers(self._name, self._group):
            is_idle = consumer["idle"] > _FORGOTTEN_AFTER + 2 * self._claim_after
            if is_idle and not consumer["pending"]:
                self._client.xgroup_delconsumer(self._name, self._group, consumer["name"])

    @staticmethod
    def _message(entry: Any) -> Message:
        key, fields = entry
        fields = {_bytes(name): _bytes(value) for name, value in fields.items()}
        if FIELD in fields:
            return Message(key, fields[FIELD])
        if fields.keys() == _LETTER:
            return Message(key, fields[b"message"])
        return Message(key, _as_json(fields))

    def keep(self, keys: Sequence[Any]) -> None:
        """Set the time for which nothing was heard of messages to none.

        And how often they were delivered to once: who has them has outlived the reading.
        """
        for some in self._mine(keys):
            self._client.xclaim(
                self._name, self._group, self._me, 0, some, idle=0, retrycount=1, justid=True
            )

    def release(self, keys: Sequence[Any]) -> None:
        """Have messages look as if nothing was heard of them for long."""
        for some in self._mine(keys):
            self._client.xclaim(
                self._name,
                self._group,
                self._me,
                0,
                some,
                idle=_LATEST * 1_000,
                retrycount=0,
                justid=True,
            )

    def _mine(self, keys: Sequence[Any]) -> list[list[Any]]:
        """Return those that no other relay has taken over meanwhile, in parts."""
        wanted, mine, start = set(keys), list[Any](), "-"
        while keys:
            found = self._client.xpending_range(
                self._name, self._group, start, "+", _CHUNK, consumername=self._me
            )
            mine += [one["message_id"] for one in found if one["message_id"] in wanted]
            if len(found) < _CHUNK:
                break
            start = f"({_bytes(found[-1]['message_id']).decode()}"
        return [mine[at : at + _CHUNK] for at in range(0, len(mine), _CHUNK)]

    def acknowledge(self, keys: Sequence[Any]) -> None:
        """Remove messages from the group and from the stream."""
        keys = [key for key in keys if key is not None]
        for start in range(0, len(keys), _CHUNK):
            some = keys[start : start + _CHUNK]
            # In this order, so that none is left in the stream that no relay would read.
            with self._client.pipeline(transaction=False) as pipe:
                pipe.xdel(self._name, *some)
                pipe.xack(self._name, self._group, *some)
                pipe.execute()

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without a secret."""
        return redis_error(self._broker, error)

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _as_json(fields: dict[bytes, bytes]) -> bytes:
    """Return what an entry holds that is none of ours, as it is to stand in the dead letters."""
    document: dict[str, str] = {}
    for name, value in fields.items():
        document |= letter_of(value, name.decode(errors="backslashreplace"))
    return json.dumps(document, ensure_ascii=False).encode()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
