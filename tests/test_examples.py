"""Every program in `examples/` runs as its docstring says, and what it logs arrives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from seldom import seldom
from servers import SECONDS, get, names, started
from snowplow_logging.events import EVENTS

EXAMPLES = Path(__file__).parents[1] / "examples"

WEB = {
    "flask": ["-m", "flask", "--app", f"{EXAMPLES}/flask_app.py", "run", "--port=0"],
    "gunicorn": [
        *("-m", "gunicorn", "--config", f"{EXAMPLES}/gunicorn_config.py"),
        *("--bind", "127.0.0.1:0"),
    ],
    "uvicorn": ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app", "--port=0"],
    "django": [f"{EXAMPLES}/django_project.py", "runserver", "--noreload", "127.0.0.1:0"],
}
TYPES = {event.event_name for event in EVENTS.values()}
NEEDS = {"gunicorn": ["gunicorn", "flask"], "uvicorn": ["uvicorn", "fastapi"]}


@pytest.fixture
def environment(collector, tmp_path):
    """Return an environment in which examples talk to the collector and leave nothing behind."""
    return {
        **os.environ,
        "SNOWPLOW_ENDPOINT": collector.endpoint,
        "PYTHONUNBUFFERED": "1",
        "HOME": str(tmp_path),
        "CELERY_FOLDER": str(tmp_path),
    }


def run(environment, *arguments, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with Python's own checks on, and return what came of it."""
    command = [sys.executable, "-X", "dev", "-W", "error", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        **settings,
    )


@pytest.fixture(params=[*(name for name in WEB if name != "flask"), *seldom("flask")])
def server(request, environment):
    """Start each of the web servers, and return its port."""
    for module in NEEDS.get(request.param, [request.param]):
        pytest.importorskip(module)
    with started(environment, EXAMPLES, *WEB[request.param]) as (said, _):
        yield said(r"http://127\.0\.0\.1:(\d+)")


def test_each_example_says_how_to_run_it():
    """The docstring of each example says what it shows and how it is run."""
    for path in sorted(EXAMPLES.rglob("*.py")):
        docstring = path.read_text(encoding="utf-8").split('"""')[1]
        assert path.stem in docstring.partition("\n")[2]


def test_each_example_is_run_by_a_test():
    """Or at least named by one, here or beside this file."""
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    for path in EXAMPLES.rglob("*.py"):
        assert any(re.search(rf"\b{path.stem}\b", text) for text in tests), path.name


def test_quickstart_shows_every_event(environment):
    """The quickstart shows an event of each type and a bad one, in 100 columns, and no more."""
    done = run(environment, EXAMPLES / "quickstart.py")
    *rows, reason, _, count, page = done.stdout.splitlines()[1:]
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert Counter(re.findall(r" (good|bad|refused|failed|missing)\b", done.stdout)) == {
        "good": len(TYPES),
        "refused": 2,  # the row and the count at the end
        "failed": 1,  # the count
    }
    assert {row.split()[0] for row in rows} == TYPES
    assert len({row.split()[1] for row in rows}) == len(TYPES) + 1
    for row in rows[:-1]:
        assert re.fullmatch(
            r"\w+ +[0-9a-f-]{14}  \d\d:\d\d:\d\d\.\d{3} +\d\d:\d\d:\d\d\.\d{3} +\S+ +good", row
        )
    assert rows[-1].endswith("refused")
    assert reason.startswith("    add_to_cart: quantity is 'two'; give a number")
    assert page.startswith(f"The same was a page at {count.partition(': ')[0]}; --serve")
    assert done.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="this platform has no SIGINT to send")
def test_quickstart_keeps_its_page_up(environment):
    """With --serve the page is there, with all that was logged, until Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "quickstart.py", "--serve"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        for line in running.stdout:
            if line.startswith("The same as a page: "):
                break
        endpoint = line.split()[5]
        counts = requests.get(f"{endpoint}/micro/all", timeout=10).json()
        page = requests.get(endpoint, timeout=10)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    assert counts == {"total": len(TYPES), "good": len(TYPES), "bad": 0}
    assert "<h1>Snowplow collector</h1>" in page.text


def test_quickstart_checks_schemas_where_it_has_them(environment, registry):
    """Given an Iglu registry, the quickstart's events fit their schemas."""
    if registry is None:
        pytest.skip("the schemas of Iglu Central are not there")
    done = run(environment, EXAMPLES / "quickstart.py", "--iglu", registry)
    assert (done.stdout.count(" good"), done.stderr, done.returncode) == (len(TYPES), "", 0)


def test_quickstart_talks_to_a_given_collector(environment, collector):
    """With an endpoint the quickstart sends there, and asks what arrived there."""
    done = run(environment, EXAMPLES / "quickstart.py", collector.endpoint)
    assert (done.stdout.count(" good"), done.stderr, done.returncode) == (14, "", 0)
    assert collector.counts == {"total": 14, "good": 14, "bad": 0}


def test_quickstart_says_that_nobody_answers(environment):
    """Where no collector is, the quickstart says of each event that it failed, and why."""
    done = run(environment, EXAMPLES / "quickstart.py", "http://127.0.0.1:9")
    assert len(re.findall(r" failed\n +not delivered within", done.stdout)) == 14
    assert done.returncode == 1


def test_script(environment, collector):
    """The script's events are there when it ends; the ordinary record was shown and not sent."""
    done = run(environment, EXAMPLES / "script.py")
    assert done.returncode == 0
    assert names(collector, "se_ac", "se_la", "uid") == [
        ("file", "customers.csv", "importer"),
        ("file", "orders.csv", "importer"),
        ("finished", None, "importer"),
        ("started", None, "importer"),
    ]
    assert len(done.stderr.splitlines()) == 5


def test_yaml_configuration(environment, collector):
    """A YAML file configures the handler, and the endpoint of the environment replaces its own."""
    pytest.importorskip("yaml")
    done = run(environment, EXAMPLES / "yaml_configuration" / "program.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert names(collector, "aid", "tna", "p") == [("shop", "shop-backend", "app")] * 2
    assert [event["contexts"] for event in collector.good] == [
        ["iglu:com.snowplowanalytics.snowplow.ecommerce/page/jsonschema/1-0-0"]
    ] * 2


def test_notebook_cells_can_be_run_again(environment, collector):
    """Cells that are run twice double nothing, and a bad event shows at once what is wrong."""
    cells = (EXAMPLES / "notebook.py").read_text(encoding="utf-8")
    done = run(environment, "-i", "-q", input=cells * 2)
    assert done.returncode == 0
    assert re.findall(r"^True|\bsent=\d+|^\d+$", done.stdout, re.MULTILINE) == [
        *("True", "sent=2", "1"),
        *("True", "sent=2", "1"),
    ]
    assert done.stderr.count("struct_event: value is 'high'; give a number") == 2
    assert "Traceback" not in done.stderr
    assert names(collector, "e", "uid") == [("pv", None)] * 2 + [("se", "ada")] * 2


def test_lambda_delivers_before_it_is_frozen(environment, collector):
    """Each call of the Lambda function has delivered when it returns, also after a raise."""
    invoke = """
import os
import aws_lambda

class Context:
    def get_remaining_time_in_millis(self):
        return 30_000

for event in {"order_id": "o-1"}, {}, {"order_id": "o-2"}:
    try:
        print(aws_lambda.handler(event, Context())["statusCode"], aws_lambda.snowplow.stats.sent)
    except KeyError as error:
        print("raised", error)
os._exit(0)  # as if it were frozen and never woken
"""
    done = run(environment, "-c", invoke)
    assert (done.stdout.splitlines(), done.stderr) == (["200 1", "raised 'order_id'", "200 2"], "")
    assert names(collector, "aid", "se_la") == [("local", "o-1"), ("local", "o-2")]


@pytest.mark.parametrize("method", ["spawn", *seldom("fork", "forkserver")])
def test_processes_of_a_pool_send_their_own(environment, collector, method):
    """Ten tasks in two processes, however started, give ten events, each with its own user."""
    done = run(environment, EXAMPLES / "multiprocess.py", collector.endpoint, method)
    assert (done.returncode, done.stderr) == (0, "")
    shipped = [(f"u-{order}", "shipped", f"o-{order}") for order in range(10)]
    assert names(collector, "uid", "se_ac", "se_la") == sorted(
        [*shipped, (None, "started", None), (None, "finished", None)], key=str
    )


def test_structlog_events(environment, collector):
    """An event in a structlog call is sent, and its line on the console stays without it."""
    pytest.importorskip("structlog")
    done = run(environment, EXAMPLES / "structlog_events.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    assert "shop.example.com" not in done.stdout
    assert names(collector, "aid", "url") == [
        ("structlog-shop", "https://shop.example.com/basket"),
        ("structlog-shop", "https://shop.example.com/order"),
    ]


def test_crm_replay_keeps_the_true_times(environment, collector):
    """Past orders arrive with the time at which they happened, and a second replay changes none."""
    for _ in range(2):
        done = run(environment, EXAMPLES / "crm_replay.py")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "3 of 3 orders sent\n"
    events = [event["rawEvent"]["parameters"] for event in collector.good]
    assert [(e["tr_id"], e["tr_tt"], e["uid"], e["ttm"]) for e in events[:3]] == [
        ("o-1001", "49.90", "u-42", "1553993999250"),
        ("o-1002", "12.00", "u-43", "1553994000000"),
        ("o-1003", "199.99", "u-42", "1640370600125"),
    ]
    assert [event["eid"] for event in events[:3]] == [event["eid"] for event in events[3:]]


def test_crm_replay_names_a_bad_order(environment, collector, tmp_path):
    """An order that is broken is named with its fault, costs no other, and shows in the status."""
    export = tmp_path / "orders.csv"
    export.write_text(
        "order_id,customer_id,ordered_at,total,currency\n"
        "o-1,u-1,2019-03-31T03:00:00,10,EUR\n"
        "o-2,u-1,2019-03-31T03:00:00+02:00,ten,EUR\n"
        "o-3,u-1,2019-03-31T03:00:00+02:00,10,EUR\n"
    )
    done = run(environment, EXAMPLES / "crm_replay.py", collector.endpoint, export)
    naive, ten = (line for line in done.stderr.splitlines() if line.startswith("o-"))
    assert re.match("o-1 .*true_timestamp is a naive datetime", naive)
    assert re.match("o-2 .*total_value is 'ten'", ten)
    assert (done.stdout, done.returncode) == ("1 of 3 orders sent\n", 1)
    assert names(collector, "tr_id") == [("o-3",)]


def test_celery_tasks(environment, collector):
    """Tasks in the worker's pool send their events, at the latest when the worker is stopped."""
    pytest.importorskip("celery")
    worker = ["-m", "celery", "--workdir", str(EXAMPLES), "-A", "celery_app", "worker"]
    quick = [
        "--loglevel=INFO",
        "--concurrency=2",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    # First, for a worker that takes a file before this broker of Kombu's has written it ends.
    assert run(environment, EXAMPLES / "celery_app.py").returncode == 0
    with started(environment, EXAMPLES, *worker, *quick) as (said, process):
        said("succeeded")
        said("succeeded")
        process.terminate()
        process.wait(SECONDS)
    assert names(collector, "aid", "uid", "se_la") == [
        ("shop-tasks", "u-42", "o-1"),
        ("shop-tasks", "u-43", "o-2"),
    ]


def test_each_request_has_its_own_user(server, collector):
    """Two users at once: each event has the user, address, browser and page of its own request."""
    barrier = threading.Barrier(2)

    def browse(user: str, address: str) -> list[tuple[str, ...]]:
        expected = []
        for page in range(10):
            barrier.wait(SECONDS)
            referrer = f"https://www.example.com/{user}/{page}"
            status = get(
                server,
                f"/basket?page={page}",
                Cookie=f"user={user}",
                User_Agent=f"Browser of {user}",
                Referer=referrer,
                X_Forwarded_For=address,
            )
            assert status == 200
            url = f"http://127.0.0.1:{server}/basket?page={page}"
            expected.append((user, f"Browser of {user}", address, url, referrer))
        return expected

    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(browse, ["u-42", "u-43"], ["198.51.100.42", "198.51.100.43"]))
    assert collector.wait_for(20, SECONDS)
    expected = sorted([*expected[0], *expected[1]], key=str)
    assert names(collector, "uid", "ua", "ip", "url", "refr") == expected


def test_only_a_trusted_proxy_is_believed(server, collector):
    """The address is what trusted proxies say, and that of the connection behind no such proxy."""
    if sys.platform != "linux":
        pytest.skip("only Linux has more than one loopback address without being told to")
    said = "203.0.113.1, 198.51.100.7, 10.1.2.3"
    assert get(server, "/basket?trusted", X_Forwarded_For=said) == 200
    assert get(server, "/basket?stranger", X_Forwarded_For=said, source="127.0.0.2") == 200
    assert get(server, "/basket?nobody") == 200
    assert collector.wait_for(3, SECONDS)
    page = f"http://127.0.0.1:{server}/basket?"
    assert names(collector, "url", "ip", "uid", "refr") == [
        (f"{page}nobody", "127.0.0.1", None, None),
        (f"{page}stranger", "127.0.0.2", None, None),
        (f"{page}trusted", "198.51.100.7", None, None),
    ]


REFERRERS = {
    "about:blank": None,
    "not a URL": None,
    "https://[::1": None,
    "https://exa mple.com/": None,
    "https://www.example.com/s?q={red}|shoes&off=50%": (
        "https://www.example.com/s?q=%7Bred%7D%7Cshoes&off=50%25"
    ),
    "https://www.example.com/caf\xe9#top": "https://www.example.com/caf\xe9",
    "https://www.example.com/caf%C3%A9": "https://www.example.com/caf%C3%A9",
}


def test_junk_of_a_browser_costs_no_event(server, collector):
    """Referrers and URLs that are no URIs are encoded or left out, a long user agent is cut."""
    for referrer in REFERRERS:
        assert get(server, "/basket?a=[|]%", User_Agent="x" * 4000, Referer=referrer) == 200
    assert collector.wait_for(len(REFERRERS), SECONDS)
    url = f"http://127.0.0.1:{server}/basket?a=[%7C]%25"
    assert names(collector, "refr", "url", "ua") == sorted(
        ((refr, url, "x" * 1000) for refr in REFERRERS.values()), key=str
    )


def test_flask_streams_within_the_request(environment, collector):
    """What is logged while a streamed answer is sent is its request's, too."""
    pytest.importorskip("flask")
    with started(environment, EXAMPLES, *WEB["flask"]) as (said, _):
        assert get(said(r"http://127\.0\.0\.1:(\d+)"), "/export", Cookie="user=u-42") == 200
        assert collector.wait_for(2, SECONDS)
    assert names(collector, "uid", "se_va") == [("u-42", "0"), ("u-42", "1")]


def test_fastapi_binds_threads(environment, collector):
    """An endpoint that FastAPI runs on a thread has the request's user and page."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with started(environment, EXAMPLES, *WEB["uvicorn"]) as (said, _):
        port = said(r"http://127\.0\.0\.1:(\d+)")
        assert get(port, "/checkout", Cookie="user=u-42") == 200
        assert collector.wait_for(1, SECONDS)
    url = f"http://127.0.0.1:{port}/checkout"
    assert names(collector, "uid", "page", "url") == [("u-42", "Checkout", url)]


def test_gunicorn_workers_deliver_at_their_end(environment, collector):
    """Workers that are stopped at once after a request still deliver its event."""
    pytest.importorskip("gunicorn")
    pytest.importorskip("flask")
    with started(environment, EXAMPLES, *WEB["gunicorn"]) as (said, process):
        port = said(r"http://127\.0\.0\.1:(\d+)")
        assert get(port, "/basket", Cookie="user=u-42") == 200
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert names(collector, "uid", "page") == [("u-42", "Basket")]
