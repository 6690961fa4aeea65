"""Requests to a collector: puts payloads into one, sends it and says what the answer means."""

from __future__ import annotations

import contextlib
import json
import netrc  # noqa: F401 - or a user's session imports it in a thread, which a fork may cut short
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import ClosedPoolError

from snowplow_logging._version import __version__
from snowplow_logging.delivery.exchange import (
    Exchange,
    exchange_here,
    exchanges,
    keep_time,
    leave_to_parent,
)
from snowplow_logging.delivery.limits import (
    BODY_PREFIX,
    BODY_SUFFIX,
    FITS_FOR_SURE,
    STM_BYTES,
    excess,
    too_large,
)
from snowplow_logging.delivery.retry import Answer, Outcome, judge
from snowplow_logging.delivery.waiting import new_lock
from snowplow_logging.delivery.way_out import publishing
from snowplow_logging.http_client import as_it_is, certificates, described
from snowplow_logging.protocol import MAX_REQUEST_LINE_BYTES

if TYPE_CHECKING:
    from snowplow_logging.settings import Settings

__all__ = ["Transport", "sends_here"]

_REQUEST_LINE_BYTES: Final = len("GET  HTTP/1.1\r\n")

_KNOWN_HEADERS: Final = frozenset({"Content-Type", "SP-Anonymous"})
"""Headers with values that are everybody's."""

_TARGET: Final = "X-Redirect-Target"
"""The name under which the `Location` of an answer is kept out of the session's sight."""


_DRAIN_TIME: Final = 1.0
"""Seconds that the rest of an answer is waited for, so that its connection can be used again."""


def sends_here() -> bool:
    """Tell whether what this thread does is part of a request to a collector, or to a broker.

    A finaliser that the garbage collector happens to run there is none, nor is a signal handler.
    """
    if exchange_here() is None:
        return threading.get_ident() in publishing
    codes = set()
    for handler in map(signal.getsignal, signal.valid_signals()):
        called: Any = handler
        while isinstance(called, partial):
            called = called.func
        if callable(called) and not hasattr(called, "__code__"):
            called = type(called).__call__
        codes.add(getattr(called, "__code__", None))
    frame: Any = sys._getframe(1)  # noqa: SLF001 - `inspect` takes far longer
    while frame is not None and frame.f_code is not Transport.send.__code__:
        if frame.f_code.co_name == "__del__" or frame.f_code in codes:
            return False
        frame = frame.f_back
    # An interrupt may have kept a request from saying that it is over.
    return frame is not None


class Transport:
    """Sends payloads to one collector. Its methods may be called by several threads.

    Args:
        settings: Where to, how, and with which headers.

    Raises:
        ValueError: No request can be made to the endpoint.
    """

    def __init__(self, settings: Settings) -> None:
        self.batch_limit = None if settings.post else 1
        self.url = settings.url
        try:
            # As `requests` writes it, by which the answers to these requests are known from others.
            # A handler that is not enabled may have no endpoint.
            self._prefix = self.url and str(requests.Request("POST", self.url).prepare().url)
        except (requests.RequestException, ValueError):
            raise ValueError("endpoint has a host that no request can be made to") from None
        self._post = settings.post
        # In a query string a byte takes three at most, and `stm` some more.
        self.fits_for_sure = (
            FITS_FOR_SURE if self._post else (MAX_REQUEST_LINE_BYTES - len(self.url) - 100) // 3
        )
        self._timeout = settings.timeouts
        self._headers = settings.request_headers
        self._rule = partial(
            judge, url=self.url, in_url=not self._post, retry_codes=settings.statuses
        )
        self._connections = settings.connections
        self._user_session = settings.session
        self._session: requests.Session | None = None
        self._lock = new_lock()
        self._pid = os.getpid()
        self._inherited: list[object] = []

    def excess(self, payload: bytes) -> str | None:
        """Say how far a payload alone would be over the collector's limit, if it is.

        One of at most `fits_for_sure` bytes never is.
        """
        if self._post:
            return excess(payload)
        size = len(self._get_url(payload, 0)) + _REQUEST_LINE_BYTES
        return too_large(size, MAX_REQUEST_LINE_BYTES, "a request line")

    batch_bytes: Final = None

    overhead: Final = len(BODY_PREFIX) + len(BODY_SUFFIX)
    """What the body of a request has besides its payloads, in bytes."""

    @staticmethod
    def size(payload: bytes) -> int:
        """Return what a payload adds to the body of a request, in bytes."""
        return len(payload) + STM_BYTES

    @staticmethod
    def body(payloads: Sequence[bytes], stm: int) -> bytes:
        """Return the body of a request.

        Args:
            payloads: What `PayloadEncoder.encode` returned.
            stm: The time of sending, in milliseconds since 1970 UTC.
        """
        end = b',"stm":"%d"}' % stm
        parts = [*payloads, BODY_SUFFIX]
        parts[0] = BODY_PREFIX + parts[0]
        parts[-2:] = [parts[-2] + end + parts[-1]]
        return (end + b",").join(parts)  # in one piece, because it is large

    def _get_url(self, payload: bytes, stm: int) -> str:
        return f"{self.url}?{urlencode({**json.loads(payload + b'}'), 'stm': str(stm)})}"

    def send(self, payloads: Sequence[bytes], *, at_most: float | None = None) -> Answer:
        """Send payloads in one request, stamped with the time, and say what came of them.

        Args:
            payloads: What `PayloadEncoder.encode` returned.
            at_most: The seconds that connecting and waiting may each take at most, if less than
                the transport's own timeout.
        """
        connect, read = self._timeout
        longest = None if connect is None or read is None else connect + read
        if at_most is not None:
            connect, read, longest = (_least(each, at_most) for each in (connect, read, longest))
        exchange = Exchange(self._prefix, longest, read)
        thread = threading.get_ident()
        outer = exchange_here()  # that of a request in which a signal handler makes this one
        try:
            exchanges[thread] = exchange
            while (answer := self._attempt(payloads, exchange, connect, read)) is None:
                pass  # each time there is one less that is closed
            return answer
        finally:
            if outer is None:
                exchanges.pop(thread, None)
            else:
                exchanges[thread] = outer

    def get(self, path: str, seconds: float) -> requests.Response:
        """Ask the collector for another of its paths, as the requests with events are made.

        Args:
            path: The path.
            seconds: How long to wait at most to connect, and for each part of the answer.

        Returns:
            The answer, whose body is still to be read.
        """
        url = urlsplit(self.url)._replace(path=path, query="").geturl()
        headers = {name: value for name, value in self._headers.items() if name != "Content-Type"}
        session = self.session()
        return session.request(
            "GET",
            url,
            headers=headers,
            timeout=seconds,
            allow_redirects=False,
            stream=True,
            **self._authentication(session),
        )

    def _attempt(
        self,
        payloads: Sequence[bytes],
        exchange: Exchange,
        connect: float | None,
        read: float | None,
    ) -> Answer | None:
        """Make the request; return None where a connection that is closed calls for another one."""
        count = len(payloads)
        try:
            stm = int(time.time() * 1000)
            with self._response(payloads, stm, (connect, read)) as response:
                return self._judge(response, _start(response, exchange), count)
        except Exception as error:  # noqa: BLE001 - a session of the user's may raise anything
            if exchange.is_stale or self._was_closed(error):
                return None
            raised: Any = getattr(error, "response", None)  # for its status, as `raise_for_status`
            if isinstance(raised, requests.Response) and str(raised.url).startswith(self._prefix):
                raised.close()
                return self._judge(raised, b"", count)
            if exchange.status is not None:
                status, phrase = exchange.status
                return self._rule(status, count=count, phrase=phrase)
            reason = f"{self.url} did not answer"
            if exchange.is_over():
                return Answer(Outcome.RETRY, f"{reason} within {exchange.seconds:g} s")
            return Answer(Outcome.RETRY, f"{reason}: {self.describe(error)}")

    def _was_closed(self, error: Exception) -> bool:
        """Tell whether another thread has closed the connections before any was used."""
        cause = error.args[0] if error.args else None
        return self._user_session is None and isinstance(cause, ClosedPoolError)

    def describe(self, error: Exception) -> str:
        """Say what went wrong, without the layers that it is wrapped in, and without a secret."""
        hidden = [value for name, value in self._headers.items() if name not in _KNOWN_HEADERS]
        if (session := self._user_session) is not None:
            usual = requests.utils.default_headers()
            hidden += [str(value) for name, value in session.headers.items() if name not in usual]
            auth: Any = session.auth
            hidden += map(
                str, auth if isinstance(auth, tuple) else getattr(auth, "__dict__", {}).values()
            )
        return described(error, hidden)

    def _response(self, payloads: Sequence[bytes], stm: int, timeout: Any) -> requests.Response:
        session = self.session()
        hooks: Any = {"response": [_disarm, *_hooks_of(session)]}
        if self._post and session is not self._user_session:
            # All but the body is prepared once, and not each time, which would double the time.
            request = self._prepared.copy()
            request.hooks = hooks
            request.prepare_body(self.body(payloads, stm), None)
            return session.send(request, timeout=timeout, allow_redirects=False, stream=True)
        return session.request(
            "POST" if self._post else "GET",
            self.url if self._post else self._get_url(payloads[0], stm),
            data=self.body(payloads, stm) if self._post else None,
            headers=self._headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
            hooks=hooks,
            **self._authentication(session),
        )

    def _authentication(self, session: requests.Session) -> dict[str, Any]:
        """Return what keeps a netrc file from replacing an Authorization that was given."""
        for headers in (self._headers, session.headers):
            for name in headers:
                if name.lower() == "authorization" and getattr(session, "auth", None) is None:
                    return {"auth": as_it_is}
        return {}

    def close(self) -> None:
        """Close the connections; the next request opens new ones. A user's session stays."""
        self.after_fork()
        session, self._session = self._session, None
        if session is not None:
            for adapter in session.adapters.values():
                if isinstance(adapter, requests.adapters.HTTPAdapter):
                    # Otherwise urllib3 leaves it to finalizers, which at exit have already run.
                    pools = adapter.poolmanager.pools
                    for key in list(pools.keys()):
                        pools[key].close()
            session.close()

    def after_fork(self) -> None:
        """Let go of what a forked child has inherited, where that is not done already.

        It must not write into its parent's connections, nor wait for a lock that the parent held.
        """
        if self._pid == os.getpid():
            return
        leave_to_parent()
        self._pid, self._session, self._lock = os.getpid(), None, new_lock()
        adapters = [] if self._user_session is None else self._user_session.adapters.values()
        for adapter in adapters:
            if isinstance(adapter, requests.adapters.HTTPAdapter):
                # The session may have connections of its own making, which close the descriptors
                # that they had in the parent when they are forgotten.
                self._inherited.append({**vars(adapter)})
                adapter.__setstate__(adapter.__getstate__())  # type: ignore[attr-defined]

    def session(self) -> requests.Session:
        """Return the session of this process, the user's own where there is one."""
        self.after_fork()
        if self._user_session is not None:
            adapter = self._user_session.get_adapter(self.url)
            if isinstance(adapter, requests.adapters.HTTPAdapter):
                keep_time(adapter)
            return self._user_session
        with self._lock:  # two threads that begin at once share one
            session = self._session  # `close` may take it away at any moment
            if session is None:
                session = self._session = self._new_session()
            return session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        agent = session.headers["User-Agent"]
        session.headers["User-Agent"] = f"snowplow-logging/{__version__} {agent!s}"
        for scheme in ("http://", "https://"):
            # A pool with fewer throws connections away, and warns each time.
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=self._connections)
            keep_time(adapter)
            session.mount(scheme, adapter)
        # Once, and not at each request, which would take a third of its time.
        settings = session.merge_environment_settings(self.url, {}, None, None, None)
        session.proxies, session.verify = settings["proxies"], certificates()
        session.trust_env = False
        self._prepared = session.prepare_request(requests.Request("POST", self.url, self._headers))
        return session

    def _judge(self, response: requests.Response, start: bytes, count: int) -> Answer:
        return self._rule(
            response.status_code,
            count=count,
            phrase=response.reason or "",
            headers=response.headers,
            location=response.headers.get(_TARGET),
            body_start=start,
        )


def _least(timeout: float | None, at_most: float) -> float | None:
    if at_most > threading.TIMEOUT_MAX:  # `math.inf` is no time that a socket takes
        return timeout
    return max(0.001, at_most if timeout is None else min(timeout, at_most))


def _disarm(response: requests.Response, *_: Any, **__: Any) -> None:
    """Take out of a response what the session would act upon: cookies and a redirect.

    The collector knows a user by its cookie, and a server that sent one back would give all its
    users the same `network_userid`. A redirect is looked into even where it is not followed, with
    an error where its target makes no sense.
    """
    for answer in (response, *response.history):  # an authentication may have taken several
        original = getattr(answer.raw, "_original_response", None)
        if original is not None:
            del original.msg["Set-Cookie"]
    if "Location" in response.headers:
        response.headers[_TARGET] = response.headers.pop("Location")


def _hooks_of(session: requests.Session) -> list[Any]:
    hooks: Any = getattr(session, "hooks", {}).get("response") or []
    return [hooks] if callable(hooks) else list(hooks)


def _start(response: requests.Response, exchange: Exchange) -> bytes:
    """Read the start of an answer, all of a collector's, so that the connection is used again.

    The status has said what becomes of the events, unless the answer is a web page.
    """
    start = b""
    with contextlib.suppress(Exception):  # it may be anything but what its headers say
        if "html" in response.headers.get("Content-Type", ""):
            for byte in response.iter_content(1):
                start += byte
                if start.strip() or len(start) > 65_536:
                    break
        exchange.shorten(_DRAIN_TIME)
        start += next(response.iter_content(65_536), b"")
    return start
