"""OpenTelemetry: the counts of the process's handlers as observable instruments."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from snowplow_logging._version import __version__
from snowplow_logging.metrics import METRICS, read

if TYPE_CHECKING:
    from snowplow_logging.handler import SnowplowHandler

__all__ = ["install"]


def install(*handlers: SnowplowHandler, meter_provider: Any = None) -> None:
    """Make instruments that read `stats` when a reader of metrics asks.

    The names begin with `snowplow_logging.`, and the attribute `handler` is the handler's name
    (`dictConfig` gives it that of its configuration), or else its namespace; what handlers of one
    name count is added up.

    Args:
        *handlers: The handlers to show; without any, all of the process.
        meter_provider: Whose meter the instruments belong to; None for the global one.

    Raises:
        ImportError: opentelemetry-api is not installed.
    """
    try:
        metrics: Any = import_module("opentelemetry.metrics")
    except ImportError as error:
        raise ImportError(
            f"snowplow_logging.opentelemetry needs opentelemetry-api: {error}"
        ) from error
    meter = metrics.get_meter("snowplow_logging", __version__, meter_provider)

    def observe(name: str, _options: Any) -> list[Any]:
        return [metrics.Observation(value, labels) for labels, value in read(handlers)[name]]

    for metric in METRICS:
        create = getattr(meter, f"create_observable_{metric.kind}")
        create(
            f"snowplow_logging.{metric.name}",
            callbacks=[partial(observe, metric.name)],
            unit=metric.unit,
            description=metric.words,
        )
