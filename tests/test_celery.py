"""Celery's real workers: tasks have the subject of who sent them, and their events arrive."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from celery_broker import BROKER
from helpers import entity
from servers import SECONDS, names, started

pytest.importorskip("celery")

import snowplow_logging.celery

TASKS = (
    BROKER
    + """
import logging.config
from decimal import Decimal
from celery import signals
from celery.utils.log import get_task_logger
import snowplow_logging.celery
from snowplow_logging import SelfDescribingJson, SnowplowAdapter, subject_context

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"snowplow": {
        "class": "snowplow_logging.SnowplowHandler",
        "endpoint": os.environ["SNOWPLOW_ENDPOINT"],
        "flush_interval": 600.0,
    }},
    "root": {"level": "INFO", "handlers": ["snowplow"]},
})
app.conf.worker_hijack_root_logger = not os.environ.get("KEEP_ROOT")
snowplow_logging.celery.install(app)
snowplow_logging.celery.install(app)  # once is enough, and twice does no harm
shop, task_shop = map(SnowplowAdapter, (logging.getLogger("shop"), get_task_logger("shop.tasks")))

@signals.task_postrun.connect
def done(state=None, **_):
    if state != "RETRY":
        os.write(1, b"DONE\\n")  # at once, for another process may write, too

@app.task
def work(label):
    shop.struct_event(category="c", action="a", label=label)
    if label == "parent":
        work.delay("child")
    if label == "task logger":
        task_shop.struct_event(category="c", action="a", label=label)

@app.task
def unbound():
    shop.struct_event(category="c", action="a", label="unbound")

@app.task(bind=True, max_retries=1)
def again(self):
    if not self.request.retries:
        with subject_context(timezone="UTC"):
            raise self.retry(countdown=0)
    shop.struct_event(category="c", action="a", label="again")

@app.task
def fail():
    shop.struct_event(category="c", action="a", label="fail")
    raise ZeroDivisionError

if __name__ == "__main__":
    plan = SelfDescribingJson("iglu:com.acme/anything/jsonschema/1-0-0", {"price": Decimal("9.90")})
    for number in range(3):
        with subject_context(user_id=f"u-{number}", viewport=(1, 2), context=[plan]):
            work.delay(f"o-{number}")
    with subject_context(user_id="u-p"):
        work.delay("parent")
        again.delay()
        fail.delay()
        work.delay("task logger")
    unbound.delay()
"""
)

LABELS = ["o-0", "o-1", "o-2", "parent", "child", "again", "fail", *["task logger"] * 2, "unbound"]
USERS = ["u-0", "u-1", "u-2", *["u-p"] * 6, None]


@pytest.mark.parametrize(
    ("pool", "keeps_root"),
    [
        ("prefork", ""),
        pytest.param("threads", "", marks=pytest.mark.exhaustive),
        ("solo", ""),
        pytest.param("prefork", "1", marks=pytest.mark.exhaustive),
    ],
    ids=["prefork", "threads", "solo", "root logger kept"],
)
def test_each_pool(collector, tmp_path, pool, keeps_root):
    """Ten of ten arrive at the worker's end, each with the user of who sent its task."""
    environment = {
        **os.environ,
        "SNOWPLOW_ENDPOINT": collector.endpoint,
        "PYTHONUNBUFFERED": "1",
        "KEEP_ROOT": keeps_root,
    }
    (tmp_path / "main.py").write_text(TASKS, encoding="utf-8")
    command = ["-m", "celery", "--workdir", str(tmp_path), "-A", "main", "worker"]
    quick = ["--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    # At its default level the worker shows warnings alone, and events at INFO are delivered.
    with started(environment, tmp_path, *command, *quick, f"--pool={pool}") as (said, process):
        subprocess.run(
            [sys.executable, "main.py"], cwd=tmp_path, env=environment, check=True, timeout=SECONDS
        )
        for _ in range(9):
            said("DONE")
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert names(collector, "se_la", "uid") == sorted(zip(LABELS, USERS, strict=True), key=str)
    assert {vp for user, vp in names(collector, "uid", "vp") if user == "u-1"} == {"1x2"}
    by_label = {
        event["rawEvent"]["parameters"]["se_la"]: event["event"]["contexts"].get("data", [])
        for event in collector.good
    }
    assert by_label["o-0"] == [entity(price=9.9)]
    assert by_label["unbound"] == []


def test_what_json_cannot_hold(reports):
    """A subject that cannot go in headers is left out with a report, and the task is sent."""
    from celery import Celery, signals

    from snowplow_logging import subject_context

    snowplow_logging.celery.install(Celery("tasks"))
    headers = {}
    with subject_context(
        user_id="u", language=object(), context=[entity(a=1), {"schema": object()}]
    ):
        signals.before_task_publish.send(sender="work", headers=headers)
    assert headers == {"snowplow_logging": {"subject": {"user_id": "u"}, "context": [entity(a=1)]}}
    assert any("sent without language" in report for report in reports)


def test_no_application():
    """What is no Celery application is an error where it is given."""
    with pytest.raises(TypeError, match="app is"):
        snowplow_logging.celery.install("tasks")


@pytest.mark.parametrize("times", [1, 2], ids=["configured", "configured anew"])
def test_what_sets_up_logging_without_a_worker(collector, run, times):
    """`beat` and Celery's own worker for tests tell nobody before they do; events arrive once."""
    run(
        f"""
        import snowplow_logging.celery
        from celery import Celery
        configure()
        app = Celery("tasks", set_as_current=False)
        snowplow_logging.celery.install(app)
        if {times} == 2:
            configure()
            snowplow_logging.celery.install(app)
        app.log.setup(loglevel="WARNING")
        log("x")
        """,
        collector,
        error=None,
    )
    assert names(collector, "se_la") == [("x",)]
