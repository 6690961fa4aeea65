"""What a request says of whoever makes it, known when the first event asks."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from snowplow_logging.adapter import SnowplowAdapter
from snowplow_logging.anonymous import Anonymity, anonymity, check_anonymous_tracking
from snowplow_logging.protocol import Refused, is_given
from snowplow_logging.reporting import report_seldom
from snowplow_logging.setting_checks import check_at_once
from snowplow_logging.surroundings import Bound
from snowplow_logging.urls import page_uri, referrer_uri
from snowplow_logging.web.cookies import ids_in_cookies
from snowplow_logging.web.proxies import TrustedProxies, client_address, hops_of

__all__ = ["SAFE_IN_PATH", "Facts", "Request", "Settings"]

SAFE_IN_PATH: Final = "/:@!$&'()*+,;=~"
"""What stands in the path of a URL as it is, besides letters, digits and `_.-` (RFC 3986, 3.3)."""

_HOST: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.~-]+)(?::\d*)?", re.ASCII)
_LONGEST_HOST: Final = 261  # a name of 255 characters (RFC 1035, 2.3.4) and a port
_REFERRER: Final = re.compile(r"(?:https?|android-app|ios-app)://([^/?#]*)(?:[/?#].*)?", re.DOTALL)
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,8}")
_QUALITY: Final = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)


class Settings:
    """What a middleware is told; see `SnowplowMiddleware`."""

    def __init__(
        self,
        *,
        user: Callable[[Any], Any] | None,
        page_view: bool | Callable[[Any], bool | Mapping[str, Any] | None],
        trusted_proxies: Iterable[Any],
        address_header: str,
        id_cookie: str,
        network_cookie: str,
        anonymous_tracking: bool | str | Callable[[Any], bool | str],
        logger: str,
    ) -> None:
        if callable(anonymous_tracking):
            check_at_once("anonymous_tracking", anonymous_tracking)
        else:
            check_anonymous_tracking("anonymous_tracking", anonymous_tracking)
        for name, callback in (("user", user), ("page_view", page_view)):
            if callable(callback):
                check_at_once(name, callback)
            elif callback is not None and not (name == "page_view" and isinstance(callback, bool)):
                expected = "True, False or a callable" if name == "page_view" else "a callable"
                raise TypeError(f"{name} is {callback!r}; give {expected} that takes the request")
        for name, text in (
            ("address_header", address_header),
            ("id_cookie", id_cookie),
            ("network_cookie", network_cookie),
        ):
            if not _TOKEN.fullmatch(str(text)):
                raise ValueError(f"{name} is {text!r}; give a name")
        self.user = user
        self.page_view = page_view
        self.proxies = TrustedProxies(trusted_proxies)
        self.address_header = address_header.lower()
        self.id_cookie = id_cookie
        self.network_cookie = network_cookie
        self.anonymous_tracking = anonymous_tracking
        self.adapter = SnowplowAdapter(logging.getLogger(logger))


@dataclass(frozen=True)
class Facts:
    """What a server says of a request.

    Args:
        header: Returns the value of a header by its name in lower case, several such headers
            joined; empty where there is none.
        peer: The address that the connection comes from; empty where it has none.
        scheme: The scheme of its URL.
        server: The host and port that the server has.
        path: The path of its URL, percent-encoded.
        query: The query of its URL, without the question mark.
    """

    header: Callable[[str], str]
    peer: str
    scheme: str
    server: str
    path: str
    query: str


class Request:
    """What surrounds the events of one request, as a layer asks for it.

    Args:
        settings: The middleware's.
        native: The request as the framework has it, which the user's callables are given.
        read: Reads it.
    """

    __slots__ = ("_bound", "_is_anonymous", "_is_asking", "_native", "_read", "_settings")

    def __init__(self, settings: Settings, native: Any, read: Callable[[Any], Facts]) -> None:
        self._settings = settings
        self._native = native
        self._read = read
        self._bound: Bound | None = None
        self._is_anonymous = self._is_asking = False

    def __call__(self) -> tuple[Bound, bool]:
        """Return subject and page, and whether they stay so: a user may yet sign in. Never raises.

        Nothing is asked while it is being asked, for what is asked may log events.
        """
        if self._is_asking:
            return self._bound or Bound({}, ()), False
        self._is_asking = True
        try:
            if self._bound is None:
                self._bound = self._asked()
            if self._settings.user is None or self._is_anonymous:
                return self._bound, True
            user_id = self._user(self._settings.user)
        finally:
            self._is_asking = False
        if not is_given(user_id):
            return self._bound, False
        return Bound({**self._bound.subject, "user_id": user_id}, (), self._bound.page), True

    def _asked(self) -> Bound:
        """Return what the request says, without the user."""
        try:
            bound = _bound(self._read(self._native), self._settings)
        except Exception as error:  # noqa: BLE001 - a server that says something else than its rules
            report_seldom("web request", f"a request could not be read: {error!r}")
            bound = Bound({}, ())
        hides = self._anonymity()
        self._is_anonymous = hides is not None
        return bound if hides is None else hides.bound(bound)

    def _user(self, user: Callable[[Any], Any]) -> Any:
        try:
            return user(self._native)
        except Exception as error:  # noqa: BLE001 - it is the user's code
            report_seldom(
                "web user", f"the middleware's user raised {error!r}; events go without user_id"
            )
            return None

    def _anonymity(self) -> Anonymity | None:
        """Return what leaves out who the user is, if that is to be left out of this request."""
        wanted = self._settings.anonymous_tracking
        if callable(wanted):
            try:
                wanted = wanted(self._native)
                check_anonymous_tracking("the answer", wanted)
            except Exception as error:  # noqa: BLE001 - it is the user's code
                report_seldom(
                    "web anonymous_tracking",
                    f"the middleware's anonymous_tracking raised {error!r}; "
                    "events go without the user",
                )
                wanted = True
        return anonymity(wanted)

    def log_page_view(self) -> None:
        """Log a view of the page, if this request is to have one. Never raises."""
        which = self._settings.page_view
        try:
            keys = which(self._native) if callable(which) else which
            if keys is None or keys is False:
                return
            bound, _ = self()
            page = {**(bound.page or {}), **(keys if isinstance(keys, Mapping) else {})}
            self._settings.adapter.page_view(**page)
        except Exception as error:  # noqa: BLE001 - it is the user's code, or what that returned
            report_seldom("web page_view", f"the middleware's page_view raised {error!r}")


def _bound(facts: Facts, settings: Settings) -> Bound:
    header = facts.header
    hops = hops_of(settings.address_header, header(settings.address_header))
    subject = {
        "ip_address": client_address(facts.peer, hops, settings.proxies),
        "useragent": _text(header("user-agent")),
        "language": _language(header("accept-language")),
        **ids_in_cookies(header("cookie"), settings.id_cookie, settings.network_cookie),
    }
    page = {"page_url": _url(facts, settings), "referrer": _referrer(_text(header("referer")))}
    return Bound({key: value for key, value in subject.items() if is_given(value)}, (), page)


def _url(facts: Facts, settings: Settings) -> str:
    """Return the URL of a request, as whoever made it sees it; less of it where it is unfit."""
    scheme, host = facts.scheme, facts.header("host")
    if client_address(facts.peer, ["192.0.2.1"], settings.proxies) == "192.0.2.1":
        # It comes from a trusted proxy, to which others may speak otherwise.
        said = facts.header("x-forwarded-proto").rpartition(",")[2].strip().lower()
        scheme = said if said in ("http", "https") else scheme
        host = facts.header("x-forwarded-host").rpartition(",")[2].strip() or host
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        host = facts.server
    start = f"{scheme}://{host}" if host else ""
    query = f"?{_text(facts.query)}" if facts.query else ""
    for url in (f"{start}{facts.path}{query}", f"{start}{facts.path}", f"{start}/"):
        try:
            return page_uri(url)
        except Refused:
            continue
    return "/"


def _text(header: str) -> str:
    """Return a header, which comes as Latin-1, as the UTF-8 that it may be."""
    if header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _referrer(header: str) -> str | None:
    """Return where a request comes from; None where no page can be meant."""
    found = _REFERRER.fullmatch(header)
    if found is None or not _HOST.fullmatch(found[1]):
        return None
    try:
        return referrer_uri(header.partition("#")[0])
    except Refused:
        return None


def _language(header: str) -> str | None:
    """Return the language that is liked best, as browsers name it to scripts."""
    best, best_quality = None, 0.0
    for part in header.split(",", 20)[:20]:
        tag, _, parameter = part.partition(";")
        stated = _QUALITY.search(parameter)
        quality = float(stated[1]) if stated else 1.0
        if quality > best_quality and _LANGUAGE.fullmatch(tag.strip()):
            best, best_quality = tag.strip(), quality
    return best
