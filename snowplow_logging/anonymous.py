"""Leaving out of events what says who the user is, as Snowplow's other trackers do it.

Their setting of the same name, `anonymousTracking` on the web and `userAnonymisation` on mobile
devices, leaves out the same fields of a subject, and treats the entity `client_session` alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from functools import wraps
from typing import Any, Final

from snowplow_logging.entities import fields_of
from snowplow_logging.json_data import JsonDefault, plain_json
from snowplow_logging.protocol import as_text
from snowplow_logging.surroundings import Bound

__all__ = ["Anonymity", "anonymity", "check_anonymous_tracking"]

_USER: Final = frozenset({"user_id", "domain_user_id", "network_user_id", "ip_address"})
_SESSION: Final = frozenset({"domain_session_id", "domain_session_index"})
_WITH_SESSION: Final = "with_session"
_CLIENT_SESSION: Final = "iglu:com.snowplowanalytics.snowplow/client_session/"
_NOBODYS: Final = {
    "userId": "00000000-0000-0000-0000-000000000000",
    "previousSessionId": None,
}
"""What the entity of a session that is nobody's has in all of Snowplow's trackers."""


def check_anonymous_tracking(name: str, value: Any) -> None:
    """Check what is given for `anonymous_tracking`.

    Raises:
        TypeError: It is of the wrong type.
        ValueError: It is another text.
    """
    if not isinstance(value, (bool, str)):
        raise TypeError(f"{name} is {value!r}; give True, False or {_WITH_SESSION!r}")
    if isinstance(value, str) and value != _WITH_SESSION:
        raise ValueError(f"{name} is {value!r}; give True, False or {_WITH_SESSION!r}")


def anonymity(
    anonymous_tracking: bool | str,  # noqa: FBT001 - a setting
    json_default: JsonDefault | None = None,
) -> Anonymity | None:
    """Return what leaves out who the user is; None where all is to stay.

    Args:
        anonymous_tracking: True leaves out the ids of user and session and the address;
            `"with_session"` leaves the ids of the session in; False leaves all in.
        json_default: Takes what is no JSON and returns what is.
    """
    if not anonymous_tracking:
        return None
    return Anonymity(keeps_session=anonymous_tracking == _WITH_SESSION, json_default=json_default)


class Anonymity:
    """Takes out of events, and of what surrounds them, what says who the user is. Never raises.

    Args:
        keeps_session: Whether the ids of the session stay.
        json_default: Takes what is no JSON and returns what is.
    """

    def __init__(self, *, keeps_session: bool, json_default: JsonDefault | None) -> None:
        self._keeps_session = keeps_session
        self._json_default = json_default
        self._hidden = _USER if keeps_session else _USER | _SESSION

    def subject(self, subject: Any) -> Any:
        """Return the fields of a subject without those that identify."""
        if not isinstance(subject, Mapping):
            return subject
        return {name: value for name, value in subject.items() if name not in self._hidden}

    def context(self, context: Any) -> Any:
        """Return entities with a session that is nobody's, or with none."""
        if not isinstance(context, (list, tuple)):
            return context
        # By index, because that is how a list of `dictConfig` converts its items.
        entities = [self._entity(context[index]) for index in range(len(context))]
        return [entity for entity in entities if entity is not None]

    def made_by(self, factory: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return what makes an entity of a record as a function does, but for the user."""

        @wraps(factory)
        def make(record: Any) -> Any:
            return self._entity(factory(record))

        return make

    def _entity(self, entity: Any) -> Any:
        try:
            # As it is read when it is written, in whatever form it was given.
            fields = fields_of(entity)
            schema = as_text(fields.get("schema"))
        except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
            return entity
        if not schema.startswith(_CLIENT_SESSION):
            return entity
        data = None if not self._keeps_session else self._session(fields.get("data"))
        return data if data is None else {**fields, "data": data}

    def _session(self, data: Any) -> Any:
        """Return the data of a session that is nobody's; None for what is no such data.

        Others see events that are refused, so that the user is hidden whatever else is wrong.
        """
        if not isinstance(data, Mapping):
            with contextlib.suppress(Exception):
                data = plain_json(data, json_default=self._json_default)
        if not isinstance(data, Mapping):
            return None
        others = {key: value for key, value in data.items() if _name(key) not in _NOBODYS}
        return {**others, **_NOBODYS}

    def event(self, event: Any) -> Any:
        """Return an event of a record without what identifies; what is no event as it is."""
        try:
            if not isinstance(event, Mapping):
                return event
            parts = {"subject": self.subject, "context": self.context}
            return {
                **event,
                **{key: part(event[key]) for key, part in parts.items() if key in event},
            }
        except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
            return event

    def bound(self, around: Bound) -> Bound:
        """Return what surrounds a log call without what identifies."""
        return replace(
            around, subject=self.subject(around.subject), context=self.context([*around.context])
        )


def _name(key: Any) -> str:
    """Return a key as JSON has it."""
    return str(key.value if isinstance(key, Enum) else key)
