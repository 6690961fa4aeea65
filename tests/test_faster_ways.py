"""`orjson` and the compiler make the library faster and change nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from enums import Colour, Number, Size
from event_examples import (
    BY_NAME,
    COMMON,
    EVENT_ID,
    EXAMPLES,
    as_dict,
)
from helpers import ANYTHING, entity
from snowplow_logging import (
    protocol,
)

LOG_ALL = """
import importlib.util, json, logging, os, sys
if "without orjson" in sys.argv:
    sys.modules["orjson"] = None
class AsPython:
    def find_spec(name, path, target):
        package, _, module = name.partition(".")
        source = f"{path[0]}/{module}.py" if path else ""
        if package == "snowplow_logging" and os.path.exists(source):
            return importlib.util.spec_from_file_location(name, source)
if "as Python" in sys.argv:
    sys.meta_path.insert(0, AsPython)
import test_faster_ways
from helpers import tracking
from snowplow_logging import LocalCollector, json_data, protocol
assert (json_data.orjson is None) == ("without orjson" in sys.argv)
assert protocol.__file__.endswith(".py") or "as Python" not in sys.argv
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


class TestFasterWays:
    """`orjson` and the compiler make the library faster and change nothing else."""

    def run(self, *arguments):
        """Run Python in the folder of the tests."""
        tests = Path(__file__).parent
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tests,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    @pytest.mark.every_python
    @pytest.mark.parametrize(
        "slower", [["without orjson"], ["as Python"], ["without orjson", "as Python"]]
    )
    def test_payloads_are_equal(self, slower):
        """With and without them the same values are sent and the same errors found."""
        pytest.importorskip("orjson")
        pytest.importorskip("werkzeug")
        if "as Python" in slower and protocol.__file__.endswith(".py"):
            pytest.skip("is not compiled here")
        ways = [self.run("-c", LOG_ALL, *way) for way in ([], slower)]
        assert [way.returncode for way in ways] == [0, 0], [way.stderr for way in ways]
        fast, slow = (list(map(self.values, way.stdout.splitlines())) for way in ways)
        assert len(fast) > 50
        for one, other in zip(fast, slow, strict=True):
            assert one == other

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
