"""What all requests have in common: certificates, authentication, the words of their errors."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterable
from typing import Any, Final

import requests
import urllib3

from snowplow_logging.printable import printable

__all__ = ["as_it_is", "certificates", "described"]

_LONGEST: Final = 300  # characters of an error
_SHORTEST_SECRET: Final = 4  # characters; a shorter one would be found in any text

_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL, by its version, makes of an answer in plain text."""

_MAY_QUOTE: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    urllib3.exceptions.ProxySchemeUnknown,
    ValueError,
)
"""Errors that quote what they were given: a header, a URL, the URL of a proxy."""


def as_it_is(request: Any) -> Any:
    """Authenticate a request by nothing but the headers that it has.

    Given as `auth` it keeps `requests` from looking into a netrc file, whose entry for the host
    would replace what the user gave, and go out over http as well.
    """
    return request


def certificates() -> str | bool:
    """Return what TLS is verified by: a file or folder, or True for what comes with `requests`.

    `requests` itself looks at the first two of the variables, and not at those of OpenSSL.
    """
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return next(filter(None, map(os.environ.get, names)), True)


def described(error: BaseException, hidden: Iterable[str] = ()) -> str:
    """Say what went wrong, without the layers that `requests` and `urllib3` wrap it in.

    Args:
        error: What was raised.
        hidden: Secrets that its text might quote.
    """
    inner: Any = error.args[0] if error.args else error
    inner = getattr(inner, "reason", inner)
    inner = getattr(inner, "__cause__", None) or inner
    is_known = isinstance(inner, (http.client.HTTPException, OSError))
    if isinstance(error, _MAY_QUOTE) or (isinstance(inner, _MAY_QUOTE) and not is_known):
        quoting = error if isinstance(error, _MAY_QUOTE) else inner
        return f"{type(quoting).__name__}, whose words may quote a header or a password"
    text = str(inner)
    for secret in hidden:
        # Of `Basic dXNlcjpwdw==` what counts is the end.
        for part in {secret, secret.rpartition(" ")[2]}:
            if len(part) >= _SHORTEST_SECRET:
                text = text.replace(part, "***")
    words = printable(text, _LONGEST)
    if any(mark in words for mark in _NO_TLS):
        words += "; where it speaks no TLS, give its URL with http://"
    return words
