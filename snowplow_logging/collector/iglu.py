"""Schemas from an Iglu registry, and the check of data against them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import requests

from .protocol import SCHEMA_URI, show

if TYPE_CHECKING:
    import os

    from jsonschema import Draft4Validator

__all__ = ["Registry", "ResolutionError"]

_FETCH_TIMEOUT: Final = (2.0, 4.0)
_MISSING_FOR: Final = 5.0


class ResolutionError(LookupError):
    """A schema that the registry does not have, cannot give, or holds in a broken state."""


class _Schema(NamedTuple):
    document: dict[str, Any]
    validator: Draft4Validator
    stamp: int


class Registry:
    """A static Iglu registry: a folder, or the same layout behind a URL.

    Schemas lie at ``schemas/VENDOR/NAME/FORMAT/VERSION``. One in a folder is read again once
    its file has changed; one from a URL is kept, and asked for again 5 seconds after it was not
    to be had.

    Args:
        location: A folder that holds ``schemas`` or is it, or an http(s) URL to which
            ``/schemas/…`` is added.

    Raises:
        ModuleNotFoundError: `jsonschema` is not installed.
        ValueError: There is no such folder.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        try:
            import jsonschema  # noqa: F401 - to say at once that the extra is missing
        except ModuleNotFoundError as error:
            message = (
                "checking schemas needs the package jsonschema: "
                "pip install 'snowplow-logging[collector]'"
            )
            raise ModuleNotFoundError(message, name=error.name) from error
        self._lock = Lock()
        self._schemas: dict[str, _Schema] = {}
        self._missing: dict[str, tuple[float, str]] = {}
        self._base: str | Path
        if isinstance(location, str) and re.match(r"https?://", location):
            self._base = location.rstrip("/").removesuffix("/schemas") + "/schemas"
        else:
            folder = Path(location)
            self._base = folder / "schemas" if (folder / "schemas").is_dir() else folder
            if not self._base.is_dir():
                message = (
                    f"iglu: {str(location)!r} is no folder; give a folder laid out as "
                    "schemas/VENDOR/NAME/FORMAT/VERSION, or an http(s) URL"
                )
                raise ValueError(message)

    def lookup(self, uri: str) -> dict[str, Any]:
        """Return a schema.

        Args:
            uri: Its Iglu URI, ``iglu:VENDOR/NAME/FORMAT/VERSION``.

        Returns:
            The schema as the registry has it.

        Raises:
            ResolutionError: It is not to be had.
        """
        return self._resolve(uri).document

    def check(self, uri: str, data: object) -> list[str]:
        """Check data against a schema.

        Args:
            uri: The schema's Iglu URI.
            data: The data, as read from JSON.

        Returns:
            A sentence for everything that is wrong; none where the data is valid.
        """
        from referencing.exceptions import Unresolvable

        try:
            found = list(self._resolve(uri).validator.iter_errors(data))
        except ResolutionError as error:
            return [str(error)]
        except (re.error, Unresolvable) as error:
            return [f"schema {uri} cannot be used for a check: {error}"]
        return [
            f"{error.json_path} does not fit the schema {uri}: {_cut(error.message)}"
            for error in sorted(found, key=lambda error: error.json_path)
        ]

    def _resolve(self, uri: str) -> _Schema:
        match = SCHEMA_URI.fullmatch(uri)
        if not match or match["vendor"] in {".", ".."}:
            message = f"{show(uri)} is not an Iglu schema URI"
            raise ResolutionError(message)
        path = uri.removeprefix("iglu:")
        # The lock is held while a schema is fetched: whoever else needs it waits for the answer.
        with self._lock:
            known = self._schemas.get(path)
            if isinstance(self._base, Path):
                try:
                    stamp = (self._base / path).stat().st_mtime_ns
                    if known and known.stamp == stamp:
                        return known
                    text = (self._base / path).read_text(encoding="utf-8")
                except OSError:
                    raise ResolutionError(self._not_found(uri)) from None
            else:
                if known:
                    return known
                stamp = 0
                text = self._fetch(uri, path)
            schema = self._schemas[path] = self._build(uri, text, stamp)
            return schema

    def _fetch(self, uri: str, path: str) -> str:
        until, message = self._missing.get(path, (0.0, ""))
        if time.monotonic() < until:
            raise ResolutionError(message)
        try:
            answer = requests.get(f"{self._base}/{path}", timeout=_FETCH_TIMEOUT)
            answer.raise_for_status()
        except requests.RequestException as error:
            message = f"{self._not_found(uri)} ({error})"
            self._missing[path] = time.monotonic() + _MISSING_FOR, message
            raise ResolutionError(message) from None
        return answer.content.decode("utf-8", "replace")

    def _not_found(self, uri: str) -> str:
        return f"schema {uri} is not found in the registry {self._base}"

    def _build(self, uri: str, text: str, stamp: int) -> _Schema:
        from jsonschema import Draft4Validator, FormatChecker, SchemaError
        from referencing.jsonschema import EMPTY_REGISTRY

        try:
            document = json.loads(text)
            Draft4Validator.check_schema(document)
        except (ValueError, SchemaError) as error:
            message = f"schema {uri} is broken: {_cut(str(error))}"
            raise ResolutionError(message) from None
        # Iglu's own $schema names a dialect that jsonschema does not know; it is draft 4. The
        # empty registry keeps a $ref from being fetched off the network.
        rules = {key: value for key, value in document.items() if key != "$schema"}
        validator = Draft4Validator(rules, registry=EMPTY_REGISTRY, format_checker=FormatChecker())
        return _Schema(document, validator, stamp)


def _cut(message: str) -> str:
    first, *_ = message.split("\n", 1)
    return first if len(first) <= 300 else f"{first[:300]}…"
