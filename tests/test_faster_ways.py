"""`orjson` makes the library faster and changes nothing else."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings

from enums import Colour, Number, Size
from event_examples import (
    BY_NAME,
    COMMON,
    EVENT_ID,
    EXAMPLES,
    as_dict,
)
from event_strategies import events, some_or_many
from helpers import ANYTHING, entity, record, tracking
from snowplow_logging import (
    subject_context,
)
from snowplow_logging.events import EVENTS

LOG_ALL = """
import json, logging, sys
if "without orjson" in sys.argv:
    sys.modules["orjson"] = None
import test_faster_ways
from helpers import tracking
from snowplow_logging import LocalCollector, json_data
assert (json_data.orjson is None) == ("without orjson" in sys.argv)
with LocalCollector() as collector, tracking(collector, encode_base64=False) as tracked:
    for number, event in enumerate(test_faster_ways.corpus()):
        event = {"event_id": f"00000000-0000-8000-8000-{number:012}", **event}
        record = {"created": 1.7e9 + number, "snowplow": event}
        tracked.handler.handle(logging.makeLogRecord(record))
    assert tracked.handler.flush(30)
    for sent in tracked.payloads():
        del sent["stm"]
        print(json.dumps(sent))
    print(json.dumps(list(map(str, tracked.handler.errors))))
"""


def corpus():
    """Return events of all kinds, good and bad, for both ways of writing JSON."""
    odd = {
        "texts": ['é\0\x1f"\\/\u2028😀', "\ud83d", Size.LARGE, UUID(EVENT_ID), Colour.RED],
        "numbers": [1e16, 1e-7, -0.0, 2**63, 2**64, Decimal("0.1"), Number.TWO, float("nan")],
        "others": [b"bytes", {1}, object, (1, (2,)), MappingProxyType({"a": float("inf")})],
    }
    yield from (as_dict(example, **COMMON) for example in EXAMPLES)
    for values in odd.values():
        for value in values:
            yield {"event": "self_describing_event", "schema": ANYTHING, "data": {"value": value}}
            yield as_dict(BY_NAME["page_view"], context=[entity(value=value)])
            yield {"event": "site_search", "terms": [value], "filters": {"a": value}}
            yield {"event": "struct_event", "category": value, "action": "a", "value": value}
    for levels in (35, 36, 37, 38, 49, 50):
        value: Any = "leaf"
        for _ in range(levels - 1):
            value = [value]
        yield {"event": "self_describing_event", "schema": ANYTHING, "data": value}


@pytest.mark.timeout(300)
class TestFasterWays:
    """`orjson` makes the library faster and changes nothing else."""

    def run(self, *arguments):
        """Run Python in the folder of the tests."""
        tests = Path(__file__).parent
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tests,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def test_payloads_are_equal(self):
        """With and without it the same values are sent and the same errors found."""
        pytest.importorskip("orjson")
        pytest.importorskip("werkzeug")
        ways = [self.run("-c", LOG_ALL, *way) for way in ([], ["without orjson"])]
        assert [way.returncode for way in ways] == [0, 0], [way.stderr for way in ways]
        fast, slow = (list(map(self.values, way.stdout.splitlines())) for way in ways)
        assert len(fast) > 50
        for one, other in zip(fast, slow, strict=True):
            assert one == other

    @pytest.mark.parametrize("name", sorted({cls.event_name for cls in EVENTS.values()}))
    @some_or_many
    def test_the_usual_event_is_sent_as_any_other(self, collector, name, examples):
        """What is written in a shorter way is the same to the byte, and refused for the same."""

        @settings(max_examples=3 * examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(events(name))
        def check(event):
            sent, errors = [], []
            logged = record(event)
            # An event that anything surrounds, and be it nothing, is no usual one.
            for surroundings in (contextlib.nullcontext(), subject_context()):
                collector.reset()
                with surroundings, tracking(collector) as tracked:
                    tracked.logger.handle(logged)
                    tracked.logger.handle(logged)  # its schemas are known by now
                    sent.append([self.decoded(one) for one in tracked.payloads()])
                    errors.append(list(map(str, tracked.handler.errors)))
            assert sent[0] == sent[1]
            half = len(sent[0]) // 2
            assert sent[0][:half] == sent[0][half:]
            assert errors[0] == errors[1]

        check()

    def decoded(self, payload):
        """Return what a payload says, but for when it was sent."""
        return {name: value for name, value in payload.items() if name != "stm"}

    def values(self, line):
        """Return what was printed, JSON inside of it read, whose spelling may differ."""
        printed = json.loads(line)
        if isinstance(printed, dict):
            for name in {"co", "ue_pr"} & printed.keys():
                printed[name] = json.loads(printed[name])
        return printed

    @pytest.mark.usefixtures("running_collector")  # where there is none all would be skipped
    @pytest.mark.parametrize(
        "which",
        [
            "(TestWhateverIsLogged and True and form_submit) or (goes_on and text)",
            pytest.param(
                "(TestWhateverIsLogged and True) or goes_on", marks=pytest.mark.exhaustive
            ),
        ],
        ids=["some", "all"],
    )
    def test_nothing_bad_leaves_without_orjson(self, which):
        """What Snowplow would refuse is refused, and the log call goes on, without it, too."""
        result = self.run(
            "-c",
            "import sys; sys.modules['orjson'] = None; import pytest; sys.exit(pytest.main())",
            *[
                "-q",
                "-rs",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "-k",
                which,
            ],
            *(
                str(Path(__file__).with_name(f"{name}.py"))
                for name in ("test_whatever_is_logged", "test_hostile_input")
            ),
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r"\d+ passed", result.stdout), result.stdout
