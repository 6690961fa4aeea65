"""The collector's schemas: what checks an event's data, and what Micro's REST API returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snowplow_logging.iglu import Location
    from snowplow_logging.schemas import Fault

__all__ = ["Finding", "Registry", "ResolutionError"]


class ResolutionError(LookupError):
    """A schema that no registry has, can give, or has in a state that can be used."""


class Finding(NamedTuple):
    """What a look at data and its schema found.

    Attributes:
        document: The schema; None where it is not to be had.
        faults: What is wrong with the data.
        note: Why nothing could be checked, and which registries were asked, as a sentence.
    """

    document: dict[str, Any] | None
    faults: Sequence[Fault]
    note: str | None


class Registry:
    """Iglu registries, and the schemas that come with this package.

    A schema in a folder is read again once its file has changed; one from a URL is kept, and asked
    for again 5 seconds after it was not to be had.

    Args:
        iglu: A registry, several in their order, or None for the package's own schemas alone, where
            data of any other schema goes unchecked.
        api_key: The key for Iglu Servers.

    Raises:
        ModuleNotFoundError: The extra ``collector`` is not installed.
        TypeError: A registry is neither folder nor URL.
        ValueError: There is no such folder.
    """

    def __init__(
        self, iglu: Location | Sequence[Location] | None, api_key: str | None = None
    ) -> None:
        try:
            from snowplow_logging.iglu import Iglu
        except ModuleNotFoundError as error:
            message = (
                "checking schemas needs the package jsonschema-rs: "
                "pip install 'snowplow-logging[collector]'"
            )
            raise ModuleNotFoundError(message, name=error.name) from error
        self._registries = Iglu(iglu, api_key, watches=True)
        self._is_given = bool(iglu)

    def lookup(self, uri: str) -> dict[str, Any]:
        """Return a schema as its registry has it.

        Args:
            uri: Its Iglu URI, ``iglu:VENDOR/NAME/FORMAT/VERSION``.

        Raises:
            ResolutionError: It is not to be had.
        """
        from snowplow_logging.schemas import Absent

        found = self._registries.find(uri)
        if isinstance(found, Absent):
            hint = "" if self._is_given else "; the collector was given no Iglu registry"
            message = f"schema {uri} {found.problem}{hint}"
            raise ResolutionError(message)
        document: dict[str, Any] = found.document
        return document

    def look(self, uri: str, data: object) -> Finding:
        """Return a schema and what is wrong with data by it.

        Args:
            uri: The schema's Iglu URI.
            data: The data, as read from JSON.
        """
        from snowplow_logging.schemas import Absent

        found = self._registries.find(uri)
        if not isinstance(found, Absent):
            return Finding(found.document, found.faults(data), None)
        hint = "" if self._is_given else "; name the registry that has it with --iglu"
        verdict = "The data fails" if self._is_given else "The data was not checked"
        return Finding(None, (), f"{verdict}: the schema {found.problem}{hint}.")

    def check(self, uri: str, data: object) -> list[str]:
        """Check data against a schema.

        Args:
            uri: The schema's Iglu URI.
            data: The data, as read from JSON.

        Returns:
            A sentence for everything that is wrong; none where the data is valid.
        """
        from snowplow_logging.schemas import Absent

        found = self._registries.find(uri)
        if isinstance(found, Absent):
            return [f"schema {uri} {found.problem}"] if self._is_given else []
        return [
            f"${fault.path} does not fit the schema {uri}: it {fault.problem}, and {fault.rule}; "
            f"give {fault.expected}"
            for fault in found.faults(data)
        ]
