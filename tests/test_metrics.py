"""`stats` as metrics, read when they are asked for."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from documents import DOCS, Page
from helpers import NOWHERE, tracking
from snowplow_logging import PageView, SnowplowHandler
from snowplow_logging.delivery.ledger import Stats
from snowplow_logging.metrics import METRICS, read

PAGE = PageView(page_url="app:x")


@pytest.fixture
def two(collector):
    """Return a handler with events of each kind, and one of the same name."""
    with tracking(collector, namespace="shop") as tracked, tracking(collector) as other:
        other.handler.name = "shop"
        tracked.log(PAGE)
        tracked.log([PAGE, {"event": "page_view"}])
        other.log(PAGE)
        assert other.handler.flush(30)
        assert tracked.handler.flush(30)
        yield tracked.handler, other.handler


def test_prometheus(two):
    """A registry shows all counts with their handler, added up where two have one name."""
    prometheus = pytest.importorskip("prometheus_client")
    from snowplow_logging.prometheus import SnowplowCollector

    registry = prometheus.CollectorRegistry()
    registry.register(SnowplowCollector(*two))

    def value(name, **labels):
        return registry.get_sample_value(f"snowplow_logging_{name}", {"handler": "shop", **labels})

    assert value("events_total", outcome="sent") == 3
    assert value("events_total", outcome="invalid") == 1
    assert value("losses_total", reason="invalid event") == 1
    assert value("queued") == 0
    assert value("queued_bytes") == 0
    assert value("last_sent_timestamp_seconds") == max(handler.stats.last_sent for handler in two)
    text = prometheus.generate_latest(registry).decode()
    assert {f"snowplow_logging_{metric.name}" for metric in METRICS} == {
        name.removesuffix("_total") for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    }


def test_prometheus_asks_when_it_is_asked(collector):
    """The values are those of the moment, of handlers that are made later, too."""
    prometheus = pytest.importorskip("prometheus_client")
    from snowplow_logging.prometheus import SnowplowCollector

    registry = prometheus.CollectorRegistry()
    registry.register(SnowplowCollector())
    labels = {"handler": "made later", "outcome": "sent"}
    with tracking(collector, namespace="made later") as tracked:
        for sent in range(3):
            assert registry.get_sample_value("snowplow_logging_events_total", labels) == sent
            tracked.log(PAGE)
            assert tracked.handler.flush(30)


def test_opentelemetry(two):
    """A reader of metrics gets all counts with their handler."""
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from snowplow_logging import opentelemetry

    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    opentelemetry.install(*two, meter_provider=provider)
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    points = {
        (metric.name, *sorted(point.attributes.items())): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    events = "snowplow_logging.events"
    shop = ("handler", "shop")
    assert points[events, shop, ("outcome", "sent")] == 3
    assert points[events, shop, ("outcome", "invalid")] == 1
    assert points["snowplow_logging.queued", shop] == 0
    two[0].handle(logging.makeLogRecord({"snowplow": PAGE, "msg": "x"}))
    assert two[0].flush(30)
    (resource,) = reader.get_metrics_data().resource_metrics
    (sent,) = [
        point.value
        for metric in resource.scope_metrics[0].metrics
        if metric.name == events
        for point in metric.data.data_points
        if point.attributes["outcome"] == "sent"
    ]
    assert sent == 4
    provider.shutdown()


def test_every_count_is_shown():
    """All fields of `stats` that are numbers of this process's events are."""
    handler = SnowplowHandler(NOWHERE)
    shown = {
        labels.get("outcome", name) for name, all_ in read([handler]).items() for labels, _ in all_
    }
    handler.close()
    fields = {*Stats.__dataclass_fields__} - {"recovered", "last_error", "losses", "last_sent"}
    fields -= {"oldest_queued_seconds"}  # nothing is queued
    renamed = {"retried": "retries"}
    assert {renamed.get(field, field) for field in fields} <= shown


@pytest.mark.parametrize("library", ["prometheus", "opentelemetry"])
def test_without_the_library(monkeypatch, library):
    """What is missing is named."""
    from importlib import import_module

    module = import_module(f"snowplow_logging.{library}")
    needed = {"prometheus": "prometheus_client.core", "opentelemetry": "opentelemetry.metrics"}
    monkeypatch.setitem(sys.modules, needed[library], None)
    make = getattr(module, "SnowplowCollector", None) or module.install
    with pytest.raises(ImportError, match=f"needs {library}-"):
        make()


def test_the_guide_names_what_is_there():
    """Its tables and its rules of alarms name counts that are shown."""
    page = Page(DOCS / "guides" / "metrics.md").text
    named = set(re.findall(r"\bsnowplow_logging_(\w+)", page))
    assert {name.removesuffix("_total") for name in named} == {metric.name for metric in METRICS}
    outcomes = set(re.findall(r"\w+", "|".join(re.findall(r'outcome=~?"([^"]+)"', page))))
    assert outcomes <= {*Stats.__dataclass_fields__}
