"""Sends the events of log files and dead-letter files again, as they were first meant to be sent.

An event keeps its id, its times and all other values but the time of sending, so that Snowplow
sees an exact duplicate of one that had arrived after all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import logging
import math
import os
import sys
import threading
import time
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from snowplow_logging.emitter import Emitter
from snowplow_logging.events import EVENTS, InvalidEvent
from snowplow_logging.formatter import read_decimal
from snowplow_logging.json_data import payload_json
from snowplow_logging.payload import EVENT_ID, TRACKER, PayloadEncoder
from snowplow_logging.protocol import Refused, atomic_text, describe, uuid
from snowplow_logging.subject import SUBJECT_KEYS
from snowplow_logging.transport import Transport

if TYPE_CHECKING:
    from snowplow_logging.schema_check import SchemaCheck

__all__ = ["Replay", "ReplayError", "Screen"]

_BATCHES_QUEUED: Final = 4
_RATE_BURST: Final = 2.0  # seconds' worth of events that leave at once after an outage, at most
_SHOW_INTERVAL: Final = 0.1  # seconds between two looks at the progress
_SAVE_INTERVAL: Final = 0.2  # seconds between two writes of the resume point
_REFUSALS_AT_FIRST: Final = 3  # requests; where nothing but these came back, it is no collector
_END_SECONDS: Final = 2.0  # that ending early may take
_VERSION: Final = 1  # of the resume point
_GZIP: Final = b"\x1f\x8b"
_READ_ERRORS: Final = (OSError, EOFError, zlib.error)

_COUNTS: Final = ("sent", "refused", "skipped", "broken")

_tracker: Final = atomic_text(100)
_decode: Final = json.JSONDecoder(parse_float=read_decimal).decode


class ReplayError(Exception):
    """The replay cannot begin, and why."""


@dataclass(frozen=True)
class _Point:
    """How far into its input, all files one after the other, a replay has come.

    Attributes:
        lines: The lines before it.
        size: Their length in bytes.
        crc32: Their checksum, which tells whether an input is the same so far.
    """

    lines: int = 0
    size: int = 0
    crc32: int = 0

    def after(self, line: bytes) -> _Point:
        """Return the point after one more line."""
        return _Point(self.lines + 1, self.size + len(line), zlib.crc32(line, self.crc32))


@dataclass(eq=False)
class _Stretch:
    """A line with events that are under way, and the lines after it that have none.

    Attributes:
        where: The line's file and number.
        waiting: The events that are not answered for.
        end: Where the stretch ends.
        counts: What has become of what is in it.
    """

    where: str
    waiting: int
    end: _Point
    counts: Counter[str] = field(default_factory=Counter)


class _Account:
    """Knows what has become of each line, and keeps the point before which nothing is open.

    Args:
        file: Where the resume point is kept, if anywhere.
        url: Where the events go: to replay to another place is to begin anew.
        report: Told what goes wrong, line by line.
        keeps: Whether the resume point moves on.

    Attributes:
        counts: What has become of events (`sent`, `refused`) and lines (`skipped`, `broken`), of
            those before the resume point, too.
        start: Where to begin.
        stopped: Why the replay is to end before its input does.
    """

    def __init__(
        self, file: Path | None, url: str, report: Callable[[str], None], *, keeps: bool
    ) -> None:
        self._file = file if keeps else None
        self._url = url
        self._report = report
        self._lock = threading.RLock()
        self._stretches: deque[_Stretch] = deque()
        self._under_way: defaultdict[str, deque[_Stretch]] = defaultdict(deque)
        self._refusals = 0  # requests that the collector has refused
        self._saved_at = -math.inf
        self._ending = False
        self.stopped: str | None = None
        self.start, self._settled = _Point(), Counter[str]()
        if file is not None:
            self._load(file)
        self._point = self.start
        self.counts = self._settled.copy()
        try:
            self._save()
        except OSError as error:
            raise ReplayError(f"the resume point cannot be written: {error}") from None

    @property
    def open(self) -> int:
        """The events that are not answered for."""
        with self._lock:
            return sum(stretch.waiting for stretch in self._stretches)

    def begin(self, where: str, end: _Point, ids: Sequence[str], counts: Mapping[str, int]) -> None:
        """Note that a line has been read.

        Args:
            where: Its file and number.
            end: The point after it.
            ids: The ids of its events, which are about to be sent.
            counts: What has become of the rest of it.
        """
        with self._lock:
            self.counts.update(counts)
            if ids or not self._stretches:
                self._stretches.append(_Stretch(where, len(ids), end, Counter(counts)))
            else:
                self._stretches[-1].end = end
                self._stretches[-1].counts.update(counts)
            for event_id in ids:
                self._under_way[event_id].append(self._stretches[-1])
            if not ids:
                self._advance()

    def sent(self, events: Sequence[Mapping[str, str]]) -> None:
        """Note that the collector has taken events."""
        with self._lock:
            for event in events:
                self._answered(event["eid"], "sent")
            self._advance()

    def failed(self, events: Sequence[Mapping[str, str]], reason: str) -> None:
        """Note that the collector has refused events, and name them."""
        with self._lock:
            if self._ending:
                return  # they were given up for lack of time
            for event in events:
                where = self._answered(event["eid"], "refused").where
                self._report(f"{where}: refused: {event['eid']}: {reason}")
            self._refusals += 1
            if not self.counts["sent"] and self._refusals >= _REFUSALS_AT_FIRST:
                self.stopped = f"nothing but refusals came back: {reason}"
            self._advance()

    def end(self) -> None:
        """Note that events which are given up from now on were not refused."""
        with self._lock:
            self._ending = True

    def close(self) -> None:
        """Write the resume point as it is."""
        with self._lock:
            self._try_to_save()

    def _answered(self, event_id: str, count: str) -> _Stretch:
        stretches = self._under_way[event_id]
        stretch = stretches.popleft()
        if not stretches:
            del self._under_way[event_id]
        stretch.waiting -= 1
        stretch.counts[count] += 1
        self.counts[count] += 1
        return stretch

    def _advance(self) -> None:
        # As long as all was refused, it may be the endpoint that is wrong, and not the events.
        if self._refusals and not self.counts["sent"]:
            return
        moved = False
        while self._stretches and not self._stretches[0].waiting:
            stretch = self._stretches.popleft()
            self._point, moved = stretch.end, True
            self._settled.update(stretch.counts)
        if moved and time.monotonic() - self._saved_at > _SAVE_INTERVAL:
            self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self._save()
        except OSError as error:
            self._report(f"the resume point stays as it was: {error}")

    def _save(self) -> None:
        if self._file is None:
            return
        state = {
            "version": _VERSION,
            "url": self._url,
            **dataclasses.asdict(self._point),
            "counts": {name: self._settled[name] for name in _COUNTS},
        }
        new = self._file.with_name(f"{self._file.name}.new")
        new.write_text(f"{json.dumps(state)}\n", encoding="utf-8")
        new.replace(self._file)  # so that it is there in full, whenever the process is killed
        self._saved_at = time.monotonic()

    def _load(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise ReplayError(f"the resume point cannot be read: {error}") from None
        try:
            state = json.loads(text)
            if state["version"] != _VERSION:
                raise ValueError("it is of another version")
            self.start = _Point(*(int(state[f.name]) for f in dataclasses.fields(_Point)))
            self._settled = Counter({name: int(state["counts"][name]) for name in _COUNTS})
            url = state["url"]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ReplayError(f"{file} is no resume point: {error!r}") from None
        if url != self._url:
            raise ReplayError(f"{file} is the resume point of a replay to {url}; give another file")


class Screen:
    """Shows how far the replay is, where standard error is a terminal, and what goes wrong.

    Args:
        total: The bytes to read, None where that is not known.

    Attributes:
        shows: Whether standard error is a terminal.
    """

    def __init__(self, total: int | None) -> None:
        self._lock = threading.Lock()
        self.shows = sys.stderr.isatty()
        self._bar: Any = None
        self._latest: tuple[int, Mapping[str, int]] = 0, {}
        self._shown_at = -math.inf
        if self.shows:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr)

    def tell(self, message: str) -> None:
        """Write a line."""
        text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)
        encoding = sys.stderr.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with self._lock:
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                clear = "\r\x1b[K" if self.shows else ""
                self._write(f"{clear}{text}\n")

    def show(self, read: int, counts: Mapping[str, int]) -> None:
        """Show how many bytes have been read and what has become of them."""
        self._latest = read, counts
        if time.monotonic() - self._shown_at > _SHOW_INTERVAL:
            self._show()

    def close(self) -> None:
        """Show how far it has come, and leave the terminal as it was."""
        if not self.shows:
            return
        self._show()
        if self._bar is not None:
            self._bar.close()
        else:
            self._write("\n")

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        read, counts = self._latest
        numbers = ", ".join(f"{counts.get(name, 0):,} {name}" for name in _COUNTS)
        with self._lock:
            if self._bar is not None:
                self._bar.set_postfix_str(numbers, refresh=False)
                self._bar.update(read - self._bar.n)
            else:
                self._write(f"\r\x1b[K{numbers}")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class _Reports(logging.Handler):
    """Shows what the emitter reports, such as that the collector does not answer."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Show a report."""
        self._tell(record.getMessage())


class Replay:
    """Sends the events of files again.

    Args:
        files: Paths of files with JSON lines, gzipped or not; `-` is standard input.
        transport: Sends them.
        encoder: Makes the encoder for lines that were logged, by the tracker that they name.
        event_key: The key of a line that holds its event.
        true_timestamp: Whether an event without a true timestamp gets the time of its log call.
        rate: The events a second at most.
        resume: Where to keep how far it has come, and to go on from.
        batch_size: The events that a request carries at most.
        dry_run: Whether everything is checked and nothing is sent.
        screen: Where it says how far it is and what goes wrong.
        schemas: Checks self-describing data and entities, if anything does.

    Raises:
        ReplayError: It cannot begin.
        ValueError: The encoder has a setting that makes no sense.
    """

    def __init__(
        self,
        files: Sequence[str],
        *,
        transport: Transport,
        encoder: Callable[[str], PayloadEncoder],
        event_key: str,
        true_timestamp: bool,
        rate: float | None,
        resume: Path | None,
        batch_size: int,
        dry_run: bool,
        screen: Screen,
        schemas: SchemaCheck | None = None,
    ) -> None:
        self._files = files
        self._transport = transport
        self._encoder = lru_cache(maxsize=16)(encoder)
        self._event_key = event_key
        self._true_timestamp = true_timestamp
        self._rate = rate
        self._screen = screen
        self._schemas = schemas
        self._next_put = 0.0
        self._read = 0  # bytes of all files before the one that is read
        self._record = logging.makeLogRecord({})
        for file in files:
            if file != "-" and not (os.access(file, os.R_OK) and not Path(file).is_dir()):
                raise ReplayError(f"{file} is no file that can be read")
        encoder(TRACKER)  # so that a setting that makes no sense is told at once
        self._account = _Account(resume, transport.url, screen.tell, keeps=not dry_run)
        queue_size = _BATCHES_QUEUED * batch_size
        if rate is not None:
            queue_size = min(queue_size, math.ceil(rate * _RATE_BURST))
        self._emitter = None
        if dry_run:
            return
        self._emitter = Emitter(
            transport,
            batch_size=batch_size,
            batch_bytes=500_000,
            flush_interval=1.0,
            queue_size=queue_size,
            on_full="block",
            block_timeout=threading.TIMEOUT_MAX,
            connections=1,
            max_retry_delay=60.0,
            max_attempts=None,
            shutdown_timeout=_END_SECONDS,
            on_success=self._account.sent,
            on_failure=self._account.failed,
            dead_letters=None,
            store=None,
            store_sync=False,
        )

    def run(self) -> bool:
        """Read and send until the end of the input, or until it is interrupted.

        Returns:
            Whether everything that was an event has been taken.

        Raises:
            ReplayError: The resume point belongs to another input.
        """
        reports, logger = _Reports(self._screen.tell), logging.getLogger("snowplow_logging")
        logger.addHandler(reports)
        account, ended = self._account, False
        try:
            self._read_all()
            if self._emitter is not None and account.stopped is None:
                self._emitter.flush(math.inf)
            ended = account.stopped is None
        except KeyboardInterrupt:
            account.stopped = account.stopped or "interrupted"
        finally:
            account.end()
            if self._emitter is not None:
                with contextlib.suppress(KeyboardInterrupt):  # once more, by who cannot wait
                    self._emitter.close()
                account.close()
            self._screen.close()
            logger.removeHandler(reports)
        bad = account.counts["refused"] + account.counts["broken"]
        return ended and not bad and not account.open

    @property
    def summary(self) -> str:
        """What has become of the input, in a line or two."""
        account = self._account
        counts = Counter(account.counts)
        sent = "would be sent" if self._emitter is None else "sent"
        lines = [f"events: {counts['sent']:,} {sent}, {counts['refused']:,} refused; "]
        lines[0] += f"lines: {counts['skipped']:,} without an event, {counts['broken']:,} broken"
        if after := account.start.lines:
            lines.append(f"resumed after line {after:,}; the counts are those of the whole input")
        if account.stopped is not None or account.open:
            why = f"not finished, {account.stopped}" if account.stopped else "not finished"
            lines.append(f"{why}; events read and not answered for: {account.open:,}")
        return "\n".join(lines)

    def _read_all(self) -> None:
        account, start, point = self._account, self._account.start, _Point()
        for file in self._files:
            number = 0
            try:
                for line in self._lines(file):
                    number += 1
                    point = point.after(line)
                    if point.lines > start.lines:
                        self._replay_line(f"{file}:{number}", line, point)
                        if account.stopped is not None:
                            return
                    elif point.lines == start.lines and point != start:
                        raise ReplayError("the resume point is that of another input")
            except _READ_ERRORS as error:
                self._screen.tell(f"{file}:{number + 1}: broken: cannot be read on: {error}")
                account.begin(file, point, (), {"broken": 1})
        if point.lines < start.lines:
            raise ReplayError("the resume point is that of another input, which was longer")

    def _lines(self, file: str) -> Iterator[bytes]:
        with contextlib.ExitStack() as opened:
            raw = sys.stdin.buffer if file == "-" else opened.enter_context(Path(file).open("rb"))
            # Of a pipe one byte may be all that is there yet, but no line of JSON begins like it.
            start = raw.peek(2)[:2] if isinstance(raw, io.BufferedReader) else b""
            stream = gzip.GzipFile(fileobj=raw) if start and _GZIP.startswith(start) else raw
            seekable, piped = raw.seekable(), 0
            for line in stream:
                yield line
                if self._screen.shows:
                    piped += len(line)
                    read = self._read + (raw.tell() if seekable else piped)
                    self._screen.show(read, self._account.counts)
            self._read += raw.tell() if seekable else piped

    def _replay_line(self, where: str, line: bytes, end: _Point) -> None:
        try:
            events = _events(line, self._event_key)
        except (ValueError, RecursionError) as error:
            self._screen.tell(f"{where}: broken: {error}")
            self._account.begin(where, end, (), {"broken": 1})
            return
        payloads, refused = [], 0
        for event in events:
            try:
                payloads.append(self._payload(event))
            except InvalidEvent as error:
                self._screen.tell(f"{where}: refused: {error}")
                refused += 1
        if self._emitter is None:
            counts = {"sent": len(payloads), "refused": refused, "skipped": int(not events)}
            self._account.begin(where, end, (), counts)
            return
        ids = [payload[EVENT_ID].decode() for payload in payloads]
        self._account.begin(where, end, ids, {"refused": refused, "skipped": int(not events)})
        for payload in payloads:
            self._keep_to_rate()
            self._emitter.put(payload)

    def _keep_to_rate(self) -> None:
        if self._rate is not None:
            time.sleep(max(0.0, self._next_put - time.monotonic()))
            # An outage is not made up for afterwards.
            self._next_put = max(self._next_put, time.monotonic()) + 1 / self._rate

    def _payload(self, event: Any) -> bytes:
        """Return the payload of an event of a line; raise InvalidEvent where there is none."""
        if isinstance(event, dict) and "event" not in event and {"e", "eid"} <= event.keys():
            payload = self._payload_as_sent(event)
            name = event["e"]
        else:
            payload = self._payload_as_logged(event)
            name = event["event"]
        if (problem := self._transport.excess(payload)) is not None:
            raise InvalidEvent(name, "event", problem, "it less data")
        if self._schemas is not None:
            self._schemas.check_payload(name, json.loads(payload + b"}"))
        return payload

    def _payload_as_logged(self, event: Any) -> bytes:
        written = "the line as SnowplowJsonFormatter wrote it"
        fields = dict(event) if isinstance(event, dict) else event
        name, created, tracker = "event", 0, TRACKER
        if isinstance(fields, dict):
            name = str(fields.get("event", name))
            if "incomplete" in fields:
                problem = f"says that JSON could not hold it: {fields['incomplete']}"
                raise InvalidEvent(name, "incomplete", problem, "it in full, without this key")
            created, tracker = fields.pop("dtm", None), fields.pop("tv", TRACKER)
            if type(created) is not int or not isinstance(fields.get("event_id"), str):
                raise InvalidEvent(name, "event_id or dtm", "is missing or changed", written)
            try:
                tracker = _tracker(tracker)
            except Refused as error:
                raise InvalidEvent(name, "tv", error.problem, written) from None
            if not tracker:
                raise InvalidEvent(name, "tv", "is empty", written)
            if self._true_timestamp and fields.get("true_timestamp") is None:
                fields["true_timestamp"] = created
        # The middle of the millisecond comes out as the same one, however floats are rounded.
        self._record.created = (created + 0.5) / 1000
        return self._encoder(tracker).encode(fields, "", self._record)

    def _payload_as_sent(self, event: dict[str, Any]) -> bytes:
        values = {name: value for name, value in event.items() if name != "stm"}
        for name, value in values.items():
            if name not in _sent_names() or not isinstance(value, str):
                problem = describe(value) if name in _sent_names() else "is not what was sent"
                raise InvalidEvent(str(event["e"]), name, problem, "the values as they were sent")
        for name in ("e", "p", "tv"):
            if not values.get(name):
                raise InvalidEvent(values["e"], name, "is missing", "the values as they were sent")
        if self._true_timestamp and "dtm" in values:
            values.setdefault("ttm", values["dtm"])
        event_id = values.pop("eid")
        try:
            uuid(event_id)
            return payload_json({"eid": event_id, **values})
        except Refused as error:
            raise InvalidEvent(values["e"], "eid", error.problem, error.expected) from None
        except (TypeError, ValueError):
            problem = "holds a lone surrogate"
            raise InvalidEvent(values["e"], "event", problem, "text that UTF-8 can hold") from None


def _events(line: bytes, event_key: str) -> list[Any]:
    """Return the events in a line.

    Raises:
        ValueError: It is no JSON.
    """
    if not line.strip():
        return []
    text = line.decode()
    try:
        value = _decode(text)
    except ValueError:
        start = text.find("{")
        if start <= 0:
            raise
        value = _decode(text[start:])  # behind the formatter's `prefix`
    event = value.get(event_key) if isinstance(value, dict) else None
    return [e for e in (event if isinstance(event, list) else [event]) if e is not None]


@cache
def _sent_names() -> frozenset[str]:
    """Return the names that a payload may have: those that this library sends."""
    atomic = [cls.keys().values() for cls in EVENTS.values() if cls.event_type != "ue"]
    names = [key.name for keys in (*atomic, SUBJECT_KEYS.values()) for key in keys]
    others = "e eid dtm ttm tv tna aid ue_px ue_pr cx co".split()
    return frozenset({*names, *others} - {"items"})
