"""The package serves every import of it, also where some of its modules are compiled."""

from __future__ import annotations

import pytest

from programs import Programs

pytestmark = pytest.mark.every_python

USE = """
import logging, warnings
warnings.simplefilter("ignore")  # requests misses a compiled module of its own in the second one
from snowplow_logging import InvalidEvent, PageView, SelfDescribingJson, payload
from snowplow_logging.testing import capture_events

logger = logging.getLogger("shop")
logger.setLevel("INFO")
with capture_events() as events:
    entity = SelfDescribingJson("iglu:com.acme/user/jsonschema/1-0-0", {"id": 1})
    logger.info(PageView(page_url="https://shop.example.com/"))
    logger.info("", extra={"snowplow": {
        "event": "page_view", "page_url": "https://shop.example.com/", "context": [entity],
    }})
print(len(events), payload.InvalidEvent is InvalidEvent, flush=True)
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program to its end."""
    with Programs(tmp_path) as programs:
        yield lambda program: programs.run(program, preamble="").words


def test_another_interpreter_of_the_process_is_served(run):
    """As mod_wsgi has them: events of any kind are taken in each, before and after the other."""
    words = run(
        f"""
        import sys
        use = {USE!r}
        try:
            import _interpreters as interpreters
            other = interpreters.create("legacy")
        except ImportError:
            import _xxsubinterpreters as interpreters
            other = interpreters.create(isolated=False)
        exec(use, {{}})
        interpreters.run_string(other, f"import sys; sys.path[:] = {{sys.path!r}}\\n" + use)
        exec(use, {{}})
        """
    )
    assert words == ["2", "True"] * 3


def test_a_second_import_is_served(run):
    """A program may throw the modules out and import them again."""
    words = run(
        f"""
        import sys
        use = {USE!r}
        exec(use, {{}})
        for name in [name for name in sys.modules if name.startswith("snowplow_logging")]:
            del sys.modules[name]
        exec(use, {{}})
        """
    )
    assert words == ["2", "True"] * 2
