"""URLs as Enrich reads them: the page's and the referrer's, and the query string of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from . import java_uri, scala_uri
from .java_text import decode_form, tsv_safe

if TYPE_CHECKING:
    from .java_uri import JavaUri

__all__ = ["columns_of_url", "find_parameter", "parse_query", "read_url"]

_DEFAULT_PORT: Final = 80
_HTTPS_PORT: Final = 443
_SEPARATOR: Final = re.compile("[&;]")


def read_url(text: str) -> JavaUri:
    """Read a URL as Enrich does: by `java.net.URI`, and where that fails, repaired.

    Args:
        text: The URL, absolute or relative.

    Returns:
        The URL as Enrich keeps it, repaired where it had to be.

    Raises:
        ValueError: It stays bad; the message is the end of a sentence that begins with it.
    """
    try:
        return java_uri.parse(text.replace(" ", "%20"))
    except ValueError as error:
        try:
            return java_uri.parse(scala_uri.repair(text))
        except ValueError:
            # What is wrong with the URL as it was sent helps its sender more.
            raise error from None


def columns_of_url(url: JavaUri, prefix: str) -> dict[str, str]:
    """Return the columns that hold the parts of a URL.

    Args:
        url: The URL.
        prefix: What the columns' names begin with, ``page_url`` or ``refr_url``.

    Returns:
        The columns that are not null. A port is always among them: Enrich gives 443 for
        ``https``, in lower case, and 80 for everything else.
    """
    port = url.port
    if port is None:
        port = _HTTPS_PORT if url.scheme == "https" else _DEFAULT_PORT
    parts = {
        "scheme": url.scheme,
        "host": url.host,
        "port": str(port),
        "path": url.path and tsv_safe(url.path),
        "query": url.query and tsv_safe(url.query),
        "fragment": url.fragment and tsv_safe(url.fragment),
    }
    return {f"{prefix}{name}": text for name, text in parts.items() if text}


def parse_query(query: str) -> list[tuple[str, str | None]]:
    """Read a query string into its parameters as Apache's HTTP client does.

    Args:
        query: The raw query string. A semicolon separates parameters as an ampersand does.

    Returns:
        Names and values, decoded. A name with no ``=`` after it has the value None, and what
        has no name is left out.
    """
    parameters = []
    for part in _SEPARATOR.split(query):
        name, mark, value = part.partition("=")
        if name:
            parameters.append((decode_form(name), decode_form(value) if mark else None))
    return parameters


def find_parameter(url: JavaUri, name: str) -> str | None:
    """Return the value of a query parameter of a URL; of several the last one counts.

    Args:
        url: The URL.
        name: The parameter's name.

    Returns:
        Its value, or None where there is no such parameter or it has no value.
    """
    return dict(parse_query(url.query or "")).get(name)
