"""Leaving out of events what says who the user is, as Snowplow's other trackers do it.

Their setting of the same name, `anonymousTracking` on the web and `userAnonymisation` on mobile
devices, leaves out the same fields of a subject, and treats the entity `client_session` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Final

from snowplow_logging.entities import fields_of
from snowplow_logging.json_data import JsonDefault, plain_json
from snowplow_logging.protocol import schema_uri
from snowplow_logging.surroundings import Bound

__all__ = ["Anonymity", "anonymity", "check_anonymous_tracking"]

_USER: Final = frozenset({"user_id", "domain_user_id", "network_user_id", "ip_address"})
_SESSION: Final = frozenset({"domain_session_id", "domain_session_index"})
_WITH_SESSION: Final = "with_session"
_CLIENT_SESSION: Final = "iglu:com.snowplowanalytics.snowplow/client_session/"
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""The id of a user in the entity of a session that is nobody's, in all of Snowplow's trackers."""


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
            schema = schema_uri(fields.get("schema"))
            if not schema.startswith(_CLIENT_SESSION):
                return entity
            if not self._keeps_session:
                return None
            data = plain_json(fields.get("data"), json_default=self._json_default)
            return {
                "schema": schema,
                "data": {**data, "userId": _NOBODY, "previousSessionId": None},
            }
        except Exception:  # noqa: BLE001 - it may be anything, and the check says what is wrong
            return entity

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
