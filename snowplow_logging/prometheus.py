"""Prometheus: the counts of the process's handlers as metrics, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from snowplow_logging.metrics import METRICS, read

if TYPE_CHECKING:
    from snowplow_logging.handler import SnowplowHandler

__all__ = ["SnowplowCollector"]


class SnowplowCollector:
    """A collector of prometheus-client's, which reads `stats` when the metrics are asked for.

        prometheus_client.REGISTRY.register(SnowplowCollector())

    The names begin with `snowplow_logging_`, and the label `handler` is the handler's name
    (`dictConfig` gives it that of its configuration), or else its namespace; what handlers of one
    name count is added up. It shows this process: where prometheus-client adds up many
    (`PROMETHEUS_MULTIPROC_DIR`) it cannot take part.

    Args:
        *handlers: The handlers to show; without any, all of the process.

    Raises:
        ImportError: prometheus-client is not installed.
    """

    def __init__(self, *handlers: SnowplowHandler) -> None:
        try:
            self._core: Any = import_module("prometheus_client.core")
        except ImportError as error:
            raise ImportError(f"SnowplowCollector needs prometheus-client: {error}") from error
        self._handlers = handlers

    def describe(self) -> Iterator[Any]:
        """Name the metrics, so that a registry need not ask for their values to know them."""
        return self._families({})

    def collect(self) -> Iterator[Any]:
        """Read the counts."""
        return self._families(read(self._handlers))

    def _families(self, values: dict[str, list[tuple[dict[str, str], float]]]) -> Iterator[Any]:
        for metric in METRICS:
            labels = ["handler", *([metric.label] if metric.label else [])]
            kind = getattr(self._core, f"{metric.kind.title()}MetricFamily")
            family = kind(f"snowplow_logging_{metric.name}", metric.words, labels=labels)
            for known, value in values.get(metric.name, ()):
                family.add_metric([known[label] for label in labels], value)
            yield family
