"""`before_send` changes events, or leaves them out, and fails alone."""

from __future__ import annotations

import gc
import logging
import threading
from types import MappingProxyType

import pytest

from event_examples import (
    BY_NAME,
    PAGE,
    as_dict,
)
from helpers import ANYTHING, entity, tracking
from snowplow_logging import (
    FormChange,
    SelfDescribingJson,
    StructuredEvent,
)


class TestBeforeSend:
    """What `before_send` makes of an event."""

    def logged(self, collector, before_send, event=None, **settings):
        """Log an event through `before_send`, and return what arrived and the handler."""
        event = event or as_dict(BY_NAME["page_view"], subject={"user_id": "u-1"})
        with tracking(collector, before_send=before_send, **settings) as tracked:
            tracked.log(event)
            return tracked.arrived(), tracked.handler

    def test_sees_the_whole_event(self, collector):
        """It gets a dict with the event's id, its whole subject and all its entities."""
        seen = []
        arrived, _ = self.logged(
            collector,
            lambda event: seen.append(event) or event,
            subject={"language": "de", "user_id": "u-0"},
            context=[entity(a=1), lambda record: SelfDescribingJson(ANYTHING, {"b": record.name})],
        )
        (event,) = seen
        assert event.pop("event_id") == arrived[0]["event"]["event_id"]
        assert event == {
            "event": "page_view",
            **PAGE,
            "subject": {"user_id": "u-1", "language": "de"},
            "context": [entity(a=1), entity(b="shop")],
        }
        assert arrived[0]["event"]["contexts"]["data"] == event["context"]
        assert arrived[0]["event"]["br_lang"] == "de"

    def test_what_cannot_be_copied(self, collector):
        """It is sent as without `before_send`, which sees the object that was logged."""
        lock = threading.Lock()
        plain = MappingProxyType({"a": 1})
        data = {"keys": plain.keys(), "lock": lock, "plain": plain, "more": [{"lock": lock}]}
        event = {"event": "self_describing_event", "schema": ANYTHING, "data": data}
        seen = []
        arrived, _ = self.logged(
            collector,
            lambda event: seen.append(event) or event,
            event,
            json_default=lambda value: "a lock" if value is lock else [*value],
        )
        assert seen[0]["data"]["lock"] is lock
        assert seen[0]["data"]["more"] is not data["more"]
        assert arrived[0]["event"]["unstruct_event"]["data"]["data"] == {
            "keys": ["a"],
            "lock": "a lock",
            "plain": {"a": 1},
            "more": [{"lock": "a lock"}],
        }

    def test_changes_it(self, collector):
        """What it returns is what is sent, and what it takes out is not put back."""

        def before_send(event):
            event["page_title"] = "changed"
            del event["referrer"], event["subject"]["user_id"], event["context"]
            return event

        arrived, _ = self.logged(
            collector, before_send, subject={"user_id": "u-0"}, context=[entity(a=1)]
        )
        sent = arrived[0]["rawEvent"]["parameters"]
        assert sent["page"] == "changed"
        assert not {"refr", "uid", "cx"} & sent.keys()

    def test_leaves_it_out(self, collector):
        """None leaves the event out, and it is counted as filtered."""
        arrived, handler = self.logged(collector, lambda event: None)
        assert arrived == []
        assert (handler.stats.filtered, handler.stats.invalid, handler.errors) == (1, 0, [])

    def test_returns_an_object(self, collector):
        """It may return another event, as an object."""
        arrived, _ = self.logged(
            collector, lambda event: StructuredEvent(category="c", action=event["page_title"])
        )
        assert arrived[0]["event"]["se_action"] == "Bäsket 🧺"

    def test_raises(self, collector):
        """One that raises costs the event, which is counted, and nothing else."""
        failures = []

        def before_send(event):
            raise KeyError("nothing")

        arrived, handler = self.logged(
            collector, before_send, on_failure=lambda events, reason: failures.append(reason)
        )
        assert arrived == []
        assert handler.stats.invalid == 1
        assert dict(handler.stats.losses) == {"before_send failed": 1}
        assert [type(error) for error in handler.errors] == [KeyError]
        assert len(failures) == 1
        assert "KeyError" in failures[0]

    def test_that_logs_an_event_each_time(self, collector, reports):
        """It is called with that, and so on to the end of the stack, and the report names it."""
        gc.collect()  # what tests before have left, which cannot be finalised near the limit
        logger = logging.Logger("shop")

        def before_send(event):
            logger.info("x", extra={"snowplow": as_dict(BY_NAME["page_view"])})
            return event

        with tracking(collector, before_send=before_send) as tracked:
            logger.addHandler(tracked.handler)
            tracked.log(as_dict(BY_NAME["page_view"]))
            assert tracked.handler.flush(30)
            losses = tracked.handler.stats.losses
        assert {*losses} == {"before_send failed"}
        assert [report for report in reports if "before_send" in report] == reports != []

    def test_that_logs_an_event_once(self, collector):
        """It is called with that, and both are sent."""
        logger = logging.Logger("shop")

        def before_send(event):
            if event["event"] == "page_view":
                logger.info("x", extra={"snowplow": as_dict(BY_NAME["struct_event"])})
            return event

        with tracking(collector, before_send=before_send) as tracked:
            logger.addHandler(tracked.handler)
            tracked.log(as_dict(BY_NAME["page_view"]))
            assert len(tracked.arrived()) == 2

    @pytest.mark.parametrize("returned", [True, 5, [], "page_view", {"event": "page_view"}])
    def test_returns_nonsense(self, collector, returned):
        """What Snowplow would refuse is refused after it as before."""
        arrived, handler = self.logged(collector, lambda event: returned)
        assert arrived == []
        assert handler.stats.invalid == 1

    def test_null_values(self, collector):
        """A form's value of None is there for it, and still null when it is sent."""
        event = FormChange(form_id="f", element_id="e", node_name="INPUT", value=None)
        seen = []
        arrived, _ = self.logged(collector, lambda event: seen.append(event) or event, event)
        assert seen[0]["value"] is None
        assert "type" not in seen[0]
        assert arrived[0]["event"]["unstruct_event"]["data"]["data"]["value"] is None

    def test_each_part_of_a_transaction(self, collector):
        """It is called for the transaction and for each item."""
        names = []
        items = [{"sku": sku, "price": 1, "quantity": 1} for sku in ("s1", "s2", "s3")]
        event = as_dict(BY_NAME["ecommerce_transaction"], items=items)
        self.logged(collector, lambda event: names.append(event["event"]), event)
        assert names == ["ecommerce_transaction", *["ecommerce_transaction_item"] * 3]
