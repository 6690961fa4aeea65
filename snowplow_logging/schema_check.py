"""Checks what is about to be sent against its schemas, and refuses it or warns."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from snowplow_logging.events import InvalidEvent
from snowplow_logging.protocol import LONGEST_KEPT, Refused
from snowplow_logging.schemas import Absent, Schema

__all__ = ["SchemaCheck"]

_MOST_KNOWN: Final = 1_000  # schemas that are not there
_MOST_FAULTS: Final = 100  # that are counted, for there may be one in each of very many values
_LOSS: Final = "schema"  # the reason under which an event is counted that does not fit its schema


class SchemaCheck:
    """Checks self-describing data and entities against their schemas, and says what then.

    Args:
        find: Returns the schema of a URI, or why there is none to check against, or None where it
            is not there yet.
        warn: Told of each fault where faults are no more than reported; None refuses.
        later: Whether `find` may have no answer yet.
        final: Whether `find` always says the same of a schema.

    Attributes:
        refuses_at_once: Whether what does not fit is refused the first time already.
        known: By their URIs, what tells of data at once that a schema takes them, or raises a
            ValueError, TypeError or OverflowError where it cannot tell.
    """

    def __init__(
        self,
        find: Callable[[str], Schema | Absent | None],
        warn: Callable[[str], None] | None = None,
        *,
        later: bool = False,
        final: bool = False,
    ) -> None:
        self.refuses_at_once = warn is None and not later
        self._find = find
        self._is_final = final and warn is None
        self._warn = warn
        self.known: dict[str, Callable[[Any], bool]] = {}

    def check(self, uri: str, data: Any, written: bytes) -> None:
        """Check data that is about to be sent.

        Args:
            uri: The URI of its schema.
            data: The data as the caller gave it.
            written: The JSON that holds it: a self-describing JSON whose own data is another one.

        Raises:
            Refused: Enrich would fail the event.
        """
        if not self._is_checked(uri, data, ""):
            self.check_plain(uri, _data_of(written)["data"])

    def check_entities(self, entities: Sequence[Mapping[str, Any]], written: bytes) -> None:
        """Check the entities of an event; see `check`.

        Args:
            entities: The entities as the caller gave them.
            written: The JSON that holds them: a self-describing JSON whose data is their list.
        """
        read = None
        for index, entity in enumerate(entities):
            path = f"[{index}]."
            if not self._is_checked(entity["schema"], entity["data"], path):
                if read is None:  # once, for there may be very many
                    read = _data_of(written)
                self.check_plain(entity["schema"], read[index]["data"], path)

    def _is_checked(self, uri: str, data: Any, path: str) -> bool:
        """Check data as they were given; return False where that does not tell."""
        is_valid = self.known.get(uri)
        try:
            if is_valid is not None and is_valid(data):
                return True
        except (ValueError, TypeError, OverflowError):
            pass  # It is not made of JSON's own types; what was written is.
        if is_valid is None:
            schema = self._found(uri, path)
            if schema is None:
                # Callers may make up any number of names, of which few are kept.
                few = len(self.known) < _MOST_KNOWN and len(uri) <= LONGEST_KEPT
                if self._is_final and few:
                    self.known[uri] = bool  # true of all data but of none, which comes here again
                return True
            self.known[uri] = schema.is_valid
        return False

    def check_plain(self, uri: str, data: Any, path: str = "") -> None:
        """Check data as read from JSON; see `check`."""
        schema = self._found(uri, path)
        if schema is not None and (faults := schema.faults(data, _MOST_FAULTS)):
            first, more = faults[0], len(faults) - 1
            problem = f"{first.problem}, which the schema {uri} does not take: {first.rule}"
            at_least = "at least " if len(faults) == _MOST_FAULTS else ""
            others = f" (and {at_least}{more:,} more)" if more else ""
            self._refuse(f"{path}data{first.path}", problem + others, first.expected)

    def check_payload(self, event: str, payload: Mapping[str, str]) -> None:
        """Check what a payload holds.

        Args:
            event: The name of the event, for the message.
            payload: The protocol's names and values.

        Raises:
            InvalidEvent: Enrich would fail the event.
        """
        try:
            for uri, data, path in _contents(payload):
                self.check_plain(uri, data, path)
        except Refused as error:
            raise InvalidEvent(
                event, error.path, error.problem, error.expected, error.loss
            ) from None

    def _found(self, uri: str, path: str) -> Schema | None:
        """Return a schema; None where there is none that data could be checked against."""
        found = self._find(uri)
        if not isinstance(found, Absent):
            return found
        if found.certain:
            self._refuse(f"{path}schema", f"is {uri!r}, which {found.problem}", found.expected)
        return None

    def _refuse(self, path: str, problem: str, expected: str) -> None:
        if self._warn is None:
            raise Refused(problem, expected, path, _LOSS)
        self._warn(f"{path} {problem}; give {expected}")


def _data_of(written: str | bytes) -> Any:
    return json.loads(written, parse_float=_number)["data"]


def _number(text: str) -> float | Decimal:
    """Read a number that has a fraction or an exponent, without losing a digit."""
    number = float(text)
    exact = Decimal(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else exact


def _contents(payload: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Yield schema, data and place of what a payload holds, as far as it can be read."""
    for encoded, plain, is_list in (("ue_px", "ue_pr", False), ("cx", "co", True)):
        try:
            text: str | bytes = payload.get(plain, "")
            if encoded in payload:
                bare = payload[encoded].rstrip("=")
                text = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
            inner = _data_of(text) if text else []
            for index, part in enumerate(inner if is_list else [inner] if inner else []):
                yield part["schema"], part["data"], f"context[{index}]." if is_list else ""
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
