"""Whatever an event holds, it is either refused at the log call or good at the collector."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_strategies import events, some_or_many
from helpers import tracking
from snowplow_logging import InvalidEvent
from snowplow_logging.events import EVENTS


class TestWhateverIsLogged:
    """Whatever an event holds, it is either refused here or good at the collector."""

    @pytest.mark.parametrize("encode_base64", [True, False])
    @pytest.mark.parametrize("name", sorted({cls.event_name for cls in EVENTS.values()}))
    @some_or_many
    def test_what_is_sent_is_good(self, collector, name, encode_base64, examples):
        """An event that is not refused is one that Enrich takes."""

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(events(name), min_size=1, max_size=20))
        def check(logged):
            collector.reset()
            with tracking(collector, encode_base64=encode_base64) as tracked:
                tracked.log(logged)
                good = len(tracked.arrived())
                stats, errors = tracked.handler.stats, tracked.handler.errors
            assert [error for error in errors if not isinstance(error, InvalidEvent)] == []
            assert (stats.sent, stats.invalid) == (good, len(errors))
            assert good + len(errors) >= len(logged)

        check()
