"""A local Snowplow collector for development and tests.

`LocalCollector` takes events as Snowplow's collector does, judges them as Enrich does, and
answers the questions of Snowplow Micro's REST API. It needs the extra ``collector``
(``pip install 'snowplow-logging[collector]'``). The judging shares no code with what sends events,
so that a mistake there cannot hide itself here.
"""

from __future__ import annotations

from .server import LocalCollector

__all__ = ["LocalCollector"]
