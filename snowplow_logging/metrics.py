"""The counts of a process's handlers as metrics, whatever they are shown by."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from snowplow_logging.delivery.ledger import Stats
    from snowplow_logging.settings import Settings

__all__ = ["METRICS", "Metric", "handlers", "read"]


class _Handler(Protocol):
    name: str | None
    settings: Settings

    @property
    def stats(self) -> Stats: ...


handlers: Final[weakref.WeakSet[_Handler]] = weakref.WeakSet()
"""The handlers of this process."""


@dataclass(frozen=True)
class Metric:
    """What is shown of the counts of handlers.

    Args:
        name: Its name, without that of the library.
        words: What it says.
        unit: The unit of its values, in OpenTelemetry's form (UCUM).
        kind: `counter`, which only grows, or `gauge`, the state of the moment.
        values: Returns its values, each with the value of `label`.
        label: What tells values of one handler apart, if anything.
        together: Returns the value of several handlers of one name.
    """

    name: str
    words: str
    unit: str
    kind: Literal["counter", "gauge"]
    values: Callable[[Stats], Mapping[str, float | None]]
    label: str | None = None
    together: Callable[[Iterable[float]], float] = sum


def _outcomes(stats: Stats) -> Mapping[str, float]:
    names = ("sent", "failed", "dropped", "invalid", "filtered")
    return {name: getattr(stats, name) for name in names}


METRICS: Final = (
    Metric(
        "events",
        "Events that were logged, by what became of them",
        "{event}",
        "counter",
        _outcomes,
        "outcome",
    ),
    Metric(
        "losses",
        "Events that failed, were dropped or invalid, by reason",
        "{event}",
        "counter",
        lambda stats: dict(stats.losses),
        "reason",
    ),
    Metric(
        "retries",
        "Events that were sent again, once each time",
        "{event}",
        "counter",
        lambda stats: {"": stats.retried},
    ),
    Metric(
        "dead_letters_lost",
        "Events that the dead-letter file could not keep",
        "{event}",
        "counter",
        lambda stats: {"": stats.dead_letters_lost},
    ),
    Metric(
        "queued",
        "Events that wait, those of a request under way included",
        "{event}",
        "gauge",
        lambda stats: {"": stats.queued},
    ),
    Metric(
        "queued_bytes",
        "Bytes of the events that wait in memory",
        "By",
        "gauge",
        lambda stats: {"": stats.queued_bytes},
    ),
    Metric(
        "oldest_queued_seconds",
        "How long the oldest event that waits has waited",
        "s",
        "gauge",
        lambda stats: {"": stats.oldest_queued_seconds},
        together=max,
    ),
    Metric(
        "last_sent_timestamp_seconds",
        "When the collector last took events, in seconds since 1970",
        "s",
        "gauge",
        lambda stats: {"": stats.last_sent},
        together=max,
    ),
)
"""All that is shown."""


def read(given: Iterable[Any]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the values of each metric, by its name, each with its labels.

    Args:
        given: The handlers to read; without any, all of the process.
    """
    # A set that others may add to is copied by one call, which no thread can come between.
    chosen = [*given] or list(handlers)
    known = [
        (handler.name or handler.settings.namespace or "", handler.stats) for handler in chosen
    ]
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for metric in METRICS:
        values: dict[tuple[str, str], list[float]] = {}
        for name, stats in known:
            for label, value in metric.values(stats).items():
                if value is not None:
                    values.setdefault((name, label), []).append(value)
        found[metric.name] = [
            (
                {"handler": name, **({metric.label: label} if metric.label else {})},
                metric.together(all_),
            )
            for (name, label), all_ in sorted(values.items())
        ]
    return found
