"""Finds schemas: in Iglu registries, which are folders and URLs, asked in their order."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple, TypeAlias, cast
from urllib.parse import urljoin, urlsplit

from snowplow_logging.delivery.waiting import new_lock
from snowplow_logging.endpoint import split_credentials, without_credentials
from snowplow_logging.protocol import LONGEST_KEPT, type_name
from snowplow_logging.schemas import Absent, BrokenSchema, Schema

__all__ = ["Iglu", "Location", "check_api_key", "check_locations"]

Location: TypeAlias = str | os.PathLike[str]
"""A registry: a folder, or an http(s) URL."""

_URI: Final = re.compile(
    r"iglu:(?!\.{1,2}/)([a-zA-Z0-9\-_.]+/[a-zA-Z0-9\-_]+/[a-zA-Z0-9\-_]+"
    r"/[1-9][0-9]*-(?:0|[1-9][0-9]*)-(?:0|[1-9][0-9]*))"
)
_CENTRAL: Final = re.compile(r"(?:.+\.)?iglucentral\.com\.?")
_AGAIN_AFTER: Final = 5.0  # seconds, after which a registry is asked again for what it did not have
_TIMEOUT: Final = (3.05, 5.0)  # seconds to connect, and for each read
_LONGEST_FETCH: Final = 15.0  # seconds, for an answer in full
_LARGEST: Final = 1_000_000  # bytes of a schema; the largest of Iglu Central has a tenth
_READ_AT_ONCE: Final = 64  # bytes, so that an answer that drips has an end as well
_MOST_REDIRECTS: Final = 3
_MOST_KEPT: Final = 10_000  # answers
_monotonic: Final = (time.monotonic,)  # in a tuple, where a test that stops the clock leaves it


class _DownError(Exception):
    """A registry did not say whether it has a schema, and why."""


class _Folder:
    """A static registry in a folder."""

    waits: Final = False

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._base = folder / "schemas" if os.path.isdir(folder / "schemas") else folder

    def read(self, path: str) -> bytes | None:
        """Return what lies at a path; None where nothing does."""
        try:
            if not stat.S_ISREG((self._base / path).stat().st_mode):
                return None
            with (self._base / path).open("rb") as file:
                return file.read(_LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _DownError(error.strerror or type(error).__name__) from None

    def stamp(self, path: str) -> int:
        """Return a number that changes with the file."""
        try:
            return (self._base / path).stat().st_mtime_ns
        except OSError:
            return 0


class _Url:
    """A registry behind a URL: a static one, an Iglu Server, or either until it has answered."""

    waits: Final = True

    def __init__(self, url: str, api_key: str | None) -> None:
        url, authorization = split_credentials(url)
        self.name = url
        base = url.rstrip("/").removesuffix("/schemas")
        # Iglu's own client is given the URL of a server with its `/api`, and `/schemas` follows.
        is_server = base.endswith("/api")
        self._layouts = (
            [f"{base}/schemas/"] if is_server else [f"{base}/schemas/", f"{base}/api/schemas/"]
        )
        # A static registry knows no keys, and Iglu Central, which often stands beside a server of
        # the application's own, is not to learn that server's key.
        gets_key = api_key is not None and not _CENTRAL.fullmatch(urlsplit(url).hostname or "")
        self._key: dict[str, str] = {"apikey": str(api_key)} if gets_key else {}
        self._headers: dict[str, str] = {}
        if authorization is not None:
            self._headers["Authorization"] = authorization

    def read(self, path: str) -> bytes | None:
        """Return what the registry answers for a path; None where that is 404."""
        for layout in self._layouts:
            key = self._key if layout.endswith("/api/schemas/") else {}
            answer = _fetched(layout + path, {**self._headers, **key})
            if answer is not None:
                self._layouts = [layout]
                return answer
        return None

    def stamp(self, _path: str) -> int:
        """Return a number that never changes: what was fetched is kept."""
        return 0


def _fetched(url: str, secrets: dict[str, str]) -> bytes | None:
    """Fetch a URL, with headers that its host alone may see; return None for 404 and 410."""
    import requests

    from snowplow_logging.http_client import as_it_is, certificates

    until = _monotonic[0]() + _LONGEST_FETCH
    try:
        for _ in range(_MOST_REDIRECTS + 1):
            with requests.get(
                url,
                headers={"Accept": "application/json", **secrets},
                auth=as_it_is,
                verify=certificates(),
                timeout=_TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as response:
                if not response.is_redirect:
                    return _body(response, until)
                target = urljoin(url, response.headers["Location"])
            if urlsplit(target).scheme not in ("http", "https"):
                raise _DownError("redirects to what is no http(s) URL")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                secrets = {}
            url = without_credentials(target)
    except requests.Timeout:
        raise _DownError("did not answer in time") from None
    except requests.ConnectionError:
        raise _DownError("cannot be reached") from None
    # The text of an error may quote a header, and so the key.
    except (requests.RequestException, ValueError, OSError) as error:
        raise _DownError(f"cannot be asked: {type(error).__name__}") from None
    raise _DownError(f"redirects more than {_MOST_REDIRECTS} times")


def _body(response: Any, until: float) -> bytes | None:
    if response.status_code in (404, 410):
        return None
    if response.status_code != 200:
        raise _DownError(f"answered {response.status_code}")
    body = bytearray()
    for part in response.iter_content(_READ_AT_ONCE):
        body += part
        if len(body) > _LARGEST:
            break
        if _monotonic[0]() > until:
            raise _DownError(f"did not answer in full within {_LONGEST_FETCH:g} s")
    return bytes(body)


class _Entry(NamedTuple):
    """An answer, the time until which it counts, and the file that it was read from, if any."""

    answer: Schema | Absent
    until: float
    file: tuple[_Folder | _Url, int] | None = None


class Iglu:
    """Finds schemas in registries, first among those that come with this package.

    A registry is laid out as `schemas/VENDOR/NAME/FORMAT/VERSION`, or it is an Iglu Server, which
    has `/api` before that and takes a key in the header `apikey`. What was found is kept; what was
    not is asked for again after 5 seconds. Where all registries say that they do not have a schema,
    Enrich would fail the event. Where one of them does not answer, nobody can tell, and no event
    is refused for that.

    Nothing of it takes a lock in `find_at_once`, which is called where events are logged. All may
    be called in a forked child, which starts a thread of its own.

    Args:
        locations: The registries, in their order; one, a list of them, or None.
        api_key: The key for Iglu Servers. It is sent with requests to `/api/schemas/…` alone, never
            to Iglu Central, and never to another host that an answer redirects to.
        report: Told that a registry does not answer.
        may_fetch: Asked by `find_at_once` whether the network may be used at all.
        watches: Whether a file that changes is read again at once, as while a schema is written.

    Raises:
        TypeError: A setting is of the wrong type.
        ValueError: There is no such folder, or a setting makes no sense.
    """

    def __init__(
        self,
        locations: Location | Sequence[Location] | None = None,
        api_key: str | None = None,
        *,
        report: Callable[[str], None] | None = None,
        may_fetch: Callable[[], bool] | None = None,
        watches: bool = False,
    ) -> None:
        check_api_key(api_key)
        given = check_locations(locations)
        self._registries: list[_Folder | _Url] = [
            _Folder(Path(__file__).with_name("iglu_central"), "this package")
        ]
        for location in given:
            if isinstance(location, str) and _is_url(location):
                self._registries.append(_Url(location, api_key))
            else:
                folder = Path(os.path.abspath(location))  # noqa: PTH100 - `resolve` follows links
                self._registries.append(_Folder(folder, os.fspath(location)))
        self._names = [registry.name for registry in self._registries[1:]]
        self._report = report
        self._may_fetch = may_fetch
        self._watches = watches
        self._entries: dict[str, _Entry] = {}
        self._wanted: dict[str, None] = {}
        self._thread: Thread | None = None
        self._asking = new_lock()
        self._pid = os.getpid()

    @property
    def waits(self) -> bool:
        """Whether a registry is behind a network."""
        return any(registry.waits for registry in self._registries)

    @property
    def names(self) -> str:
        """The registries in words, without passwords."""
        return ", ".join(self._names) or "this package"

    def __repr__(self) -> str:
        """Name the registries."""
        return f"<{type(self).__name__} {self.names}>"

    def find(self, uri: str) -> Schema | Absent:
        """Return a schema, or why there is none. May wait for the network.

        Args:
            uri: Its Iglu URI.
        """
        if self._pid != os.getpid():
            self._pid, self._asking = os.getpid(), new_lock()
        # Whoever else needs the schema waits for the same answer.
        with self._asking:
            return self._current(uri) or cast("_Entry", self._ask(uri)).answer

    def find_at_once(self, uri: str) -> Schema | Absent | None:
        """Return a schema, or why there is none, or None where it has not been fetched yet.

        Folders are read here, once for each schema. What is behind a URL is fetched on a thread,
        and there for later calls.

        Args:
            uri: Its Iglu URI.
        """
        answer = self._current(uri)
        if answer is None:
            entry = self._ask(uri, waits=False)
            if entry is not None:
                return entry.answer
            self._fetch_later(uri)
            last = self._entries.get(uri)
            return None if last is None else last.answer
        return answer

    def _current(self, uri: str) -> Schema | Absent | None:
        """Return the last answer for a schema, where it still counts."""
        entry = self._entries.get(uri)
        if entry is None or _monotonic[0]() > entry.until:
            return None
        if self._watches and entry.file is not None:
            registry, stamp = entry.file
            if registry.stamp(uri.removeprefix("iglu:")) != stamp:
                return None
        return entry.answer

    def _ask(self, uri: str, *, waits: bool = True) -> _Entry | None:
        """Ask the registries in their order, and keep the answer.

        None where that would mean to wait, and it is not to.
        """
        match = _URI.fullmatch(uri)
        if match is None:
            problem, expected = "is no Iglu schema URI", "iglu:VENDOR/NAME/jsonschema/1-0-0"
            return _Entry(Absent(problem, expected, certain=True), 0.0)
        if len(uri) > LONGEST_KEPT:
            return self._missing([])
        down: list[str] = []
        for registry in self._registries:
            if registry.waits and not waits:
                return None
            stamp = registry.stamp(match[1])
            try:
                text = registry.read(match[1])
            except _DownError as error:
                down.append(f"{registry.name} {error}")
                continue
            if text is not None:
                entry = self._read(uri, text, registry, stamp)
                break
        else:
            entry = self._missing(down)
        self._tell(uri, entry, down)
        if len(self._entries) >= _MOST_KEPT:
            self._entries.clear()
        self._entries[uri] = entry
        return entry

    def _tell(self, uri: str, entry: _Entry, down: list[str]) -> None:
        """Report a schema that is absent though a registry may have it, or has it in a bad form."""
        absent = entry.answer
        if self._report is None or not isinstance(absent, Absent) or absent.certain:
            return
        if down:
            problem = f"{uri} cannot be looked up, and its events go unchecked"
            self._report(f"{problem}: {'; '.join(down)}")
        elif entry.file is not None:
            self._report(f"{uri} {absent.problem}, and its events go unchecked")

    def _read(self, uri: str, text: bytes, registry: _Folder | _Url, stamp: int) -> _Entry:
        """Make a schema of what a registry holds."""
        problem, certain = f"is broken in the registry {registry.name}", False
        if len(text) > _LARGEST:
            problem += f": it has more than {_LARGEST:,} bytes"
        else:
            try:
                return _Entry(Schema(uri, json.loads(text)), math.inf, (registry, stamp))
            except BrokenSchema as error:
                problem, certain = f"{problem}: {error}", error.certain
            except (ValueError, RecursionError):
                problem += ": it is no JSON"
        absent = Absent(problem, "one that can be read", certain)
        return _Entry(absent, _monotonic[0]() + _AGAIN_AFTER, (registry, stamp))

    def _missing(self, down: list[str]) -> _Entry:
        """Return that no registry has a schema, or that it is not known whether one has it."""
        # A file that is about to be written may be there at the next look.
        again = 0.0 if self._watches and not self.waits else _monotonic[0]() + _AGAIN_AFTER
        names = ", ".join(self._names) or "that comes with this package"
        problem = f"is not found in the registr{'ies' if len(self._names) > 1 else 'y'} {names}"
        if down:
            problem += f" ({'; '.join(down)})"
        certain = bool(self._names) and not down
        return _Entry(Absent(problem, "one that is published there", certain), again)

    def _fetch_later(self, uri: str) -> None:
        """Have a schema fetched on a thread."""
        # While the interpreter goes down, a thread that is started may never run, and whoever
        # starts it waits for that.
        if sys.is_finalizing() or (self._may_fetch is not None and not self._may_fetch()):
            return
        if len(self._wanted) < _MOST_KEPT:
            self._wanted[uri] = None
        thread = self._thread
        # In a forked child the thread of its parent is not alive.
        if thread is None or not thread.is_alive():
            thread = Thread(target=self._fetch, name="snowplow-logging-iglu", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                self._thread = None  # at exit, or out of threads: the next event tries again

    def _fetch(self) -> None:
        """Fetch what is wanted, then end; who wants more starts another thread."""
        while self._wanted and not sys.is_finalizing():
            uri, _ = self._wanted.popitem()
            if self._current(uri) is None:
                self._ask(uri)


def check_locations(locations: Any) -> list[Location]:
    """Return registries as a list.

    Args:
        locations: What is given as the setting `iglu`.

    Raises:
        TypeError: It is no folder, URL or list of them.
        ValueError: There is no such folder.
    """
    expected = "give a folder, an http(s) URL, or a list of them"
    # By index, because that is how a list of `dictConfig` converts its items.
    given = (
        [locations[index] for index in range(len(locations))]
        if isinstance(locations, (list, tuple))
        else [locations]
    )
    for location in [] if locations is None else given:
        if not isinstance(location, (str, os.PathLike)) or not os.fspath(location):
            raise TypeError(f"iglu is, or holds, none of these; {expected}")
        if isinstance(location, str) and _is_url(location):
            try:
                host = urlsplit(location).hostname
                urlsplit(location).port  # noqa: B018 - which raises where it is none
            except ValueError:
                host = None
            if not host:
                raise ValueError(f"iglu: a URL has no host; {expected}")
        elif isinstance(location, str) and "://" in location:
            scheme = location.partition("://")[0]
            raise ValueError(f"iglu: a URL has the scheme {scheme!r}; {expected}")
        elif isinstance(location, str) and "@" in location and not os.path.isdir(location):
            # It may be a URL in which something is missing, with a password.
            raise ValueError(f"iglu is, or holds, no folder; {expected}")
        elif not os.path.isdir(location):
            raise ValueError(
                f"iglu: {os.fspath(location)!r} is no folder; give a folder laid out as "
                "schemas/VENDOR/NAME/FORMAT/VERSION, or an http(s) URL"
            )
    return [] if locations is None else given


def check_api_key(api_key: Any) -> None:
    """Check the setting `iglu_api_key`, and never show it.

    Raises:
        TypeError: It is no text.
        ValueError: It cannot be the value of a header.
    """
    expected = "give the key of the Iglu Server as text, or None"
    if api_key is not None and not isinstance(api_key, str):
        raise TypeError(f"iglu_api_key is of the type {type_name(api_key)}; {expected}")
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        raise ValueError(f"iglu_api_key has characters that no key has; {expected}")


def _is_url(location: str) -> bool:
    return re.match(r"https?://", location, re.IGNORECASE) is not None
