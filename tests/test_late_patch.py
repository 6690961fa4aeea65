"""gevent and eventlet that patch the standard library when a handler is there already."""

from __future__ import annotations

import importlib.util

import pytest

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("when", ["no thread yet", "a thread waits", "a thread has a file"])
@pytest.mark.parametrize("library", PATCHES)
def test_patched_late(collector, run, tmp_path, library, when):
    """All arrives, also what is logged last, and one line says what to do; no traceback does."""
    # Not imported here: eventlet warns of each fork of a process that has imported it.
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    logs_before, store = when != "no thread yet", str(tmp_path / "s") if "file" in when else None
    ran = run(
        f"""
        def all_wait():
            # In the middle of something, a thread cannot be kept from what is patched below it.
            frames = sys._current_frames()
            ours = [one for one in threading.enumerate() if one.name.startswith("snowplow-logging")]
            return all(frames[one.ident].f_code.co_name == "wait" for one in ours)

        logging.getLogger("snowplow_logging").propagate = True
        handler = configure(flush_interval=0.1, store={store!r})
        logging.getLogger("snowplow_logging").handlers[:] = []
        if {logs_before}:
            log("before")
            assert handler.flush(20)
            while not all_wait():
                time.sleep(0.01)
        {PATCHES[library]}
        for _ in range(3):
            log("after")
        say(handler.flush(20))
        time.sleep(0)  # which lets greenlets run
        log("last")
        """,
        collector,
        error=None,
    )
    assert ran.words == ["True"], ran.err
    assert "Traceback" not in ran.err
    assert ran.err.count("snowplow_logging: ") == 1
    assert f"{library} has patched the standard library after a SnowplowHandler" in ran.err
    labels = [event["event"]["se_label"] for event in collector.good]
    assert sorted(labels) == [*["after"] * 3, *["before"] * logs_before, "last"]
