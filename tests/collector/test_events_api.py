"""What Micro 4 adds to the REST API, what is kept, and who is told of it."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
import requests

from helpers import tracking
from snowplow_logging.collector import LocalCollector
from snowplow_logging.collector.columns import COLUMNS

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")

PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
VIEW = {"tv": "t-1", "p": "srv", "e": "pv", "url": "https://shop.example.com/", "aid": "shop"}
FAILURE = "contexts_com_snowplowanalytics_snowplow_failure_1"


def described(envelope, version, data):
    """Return the text of a self-describing JSON of Snowplow's own."""
    schema = f"iglu:com.snowplowanalytics.snowplow/{envelope}/jsonschema/{version}"
    return json.dumps({"schema": schema, "data": data})


GAME = {
    "tv": "t-1",
    "p": "srv",
    "e": "ue",
    "aid": "game",
    "uid": "U-3",
    "ue_pr": described(
        "unstruct_event",
        "1-0-0",
        {"schema": "iglu:com.acme-games/saveGame/jsonschema/2-0-1", "data": {"level": 1}},
    ),
    "co": described(
        "contexts",
        "1-0-1",
        [
            {"schema": "iglu:com.acme/plan/jsonschema/1-0-0", "data": {"name": name}}
            for name in ("gold", "free")
        ],
    ),
}
BAD = {**VIEW, "uid": "u-2", "vid": "x", "page": "Vault"}


@pytest.fixture
def collector():
    """Start a collector that has four events, one of which failed."""
    with LocalCollector() as running:
        send(running, {**VIEW, "uid": "u-1", "page": "Basket", "vid": "2"}, GAME, BAD)
        send(running, {**VIEW, "uid": "u-1", "page": "Home", "vid": "10"})
        yield running


def send(collector, *events):
    """POST events in one request."""
    requests.post(
        f"{collector.endpoint}/com.snowplowanalytics.snowplow/tp2",
        json={"schema": PAYLOAD_DATA, "data": events},
        timeout=30,
    ).raise_for_status()


def ask(collector, path, question, status=200):
    """POST a question, and return its answer."""
    answer = requests.post(f"{collector.endpoint}/micro/{path}", json=question, timeout=30)
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer.text


def users(collector, **question):
    """Return the user and the title of the events that are found."""
    found = ask(collector, "events", question)["events"]
    return [(event["user_id"], event["page_title"]) for event in found]


HOME, VAULT, PLAY, BASKET = ("u-1", "Home"), ("u-2", "Vault"), ("U-3", None), ("u-1", "Basket")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, [HOME, VAULT, PLAY, BASKET]),
        ({"filters": None, "validEvents": None, "sorting": None}, [HOME, VAULT, PLAY, BASKET]),
        ({"validEvents": True}, [HOME, PLAY, BASKET]),
        ({"validEvents": False}, [VAULT]),
        ({"filters": [{"column": "user_id", "values": ["U-1", "u-3"]}]}, [HOME, PLAY, BASKET]),
        ({"filters": [{"column": "domain_sessionidx", "values": ["10"]}]}, [HOME]),
        (
            {
                "filters": [
                    {"column": "app_id", "values": ["shop"]},
                    {"column": "user_id", "values": ["u-1"]},
                ]
            },
            [HOME, BASKET],
        ),
        ({"filters": [{"column": "no_such_column", "values": ["1"]}]}, []),
        ({"sorting": {"column": "page_title", "desc": False}}, [BASKET, HOME, VAULT, PLAY]),
        ({"sorting": {"column": "domain_sessionidx", "desc": True}}, [HOME, BASKET, VAULT, PLAY]),
        ({"page": 2, "pageSize": 3}, [BASKET]),
        ({"page": 3, "pageSize": 3}, []),
        ({"timeRange": {"start": "2100-01-01T00:00:00.000Z", "end": None}}, []),
        ({"timeRange": {"start": None, "end": "2100-01-01T00:00:00Z"}, "pageSize": 1}, [HOME]),
    ],
    ids=str,
)
def test_events_are_found(collector, question, expected):
    """Filters, validity, time, sorting and pages choose the events, the newest first."""
    assert users(collector, **question) == expected


def test_how_much_was_found_is_told(collector):
    """The answer counts pages and events, of all that fit."""
    answer = ask(collector, "events", {"validEvents": True, "pageSize": 2})

    assert (answer["totalPages"], answer["totalItems"], len(answer["events"])) == (2, 3, 2)


def test_events_are_flat(collector):
    """An event has all columns, and those of its self-describing data and its entities."""
    events = ask(collector, "events", {})["events"]
    [game] = [event for event in events if event["app_id"] == "game"]
    [bad] = [event for event in events if FAILURE in event]

    assert game["unstruct_event_com_acme_games_save_game_2"] == {"level": 1}
    assert game["contexts_com_acme_plan_1"] == [{"name": "gold"}, {"name": "free"}]
    assert game["event_name"] == "saveGame"
    atomic = set(COLUMNS) - {"contexts", "unstruct_event", "derived_contexts"}
    assert game.keys() - atomic == {
        "unstruct_event_com_acme_games_save_game_2",
        "contexts_com_acme_plan_1",
    }
    assert atomic <= game.keys()
    assert bad["page_title"] == "Vault"
    [failure] = bad[FAILURE]
    assert failure["errors"][0]["message"].startswith("vid: 'x' is not an int")
    assert failure["failureType"] == "ValidationError"


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("events", []),
        ("events", {"page": 0}),
        ("events", {"pageSize": "1"}),
        ("events", {"page": True}),
        ("events", {"validEvents": "yes"}),
        ("events", {"filters": [{}]}),
        ("events", {"filters": ["a"]}),
        ("events", {"sorting": {"column": 1}}),
        ("events", {"timeRange": {"start": "yesterday"}}),
        ("timeline", {"buckets": [1]}),
        ("timeline", {"buckets": {}}),
        ("columnStats", {"columns": [1]}),
    ],
    ids=str,
)
def test_a_question_that_makes_no_sense_is_refused(collector, path, question):
    """What cannot be answered is answered 400, in words."""
    assert ask(collector, path, question, 400)


def test_columns_are_those_that_were_seen(collector):
    """The columns in which any event has a value are listed in their order."""
    columns = requests.get(f"{collector.endpoint}/micro/columns", timeout=10).json()

    assert columns == sorted(columns)
    assert {"user_id", "page_title", "contexts_com_acme_plan_1", FAILURE} <= set(columns)
    assert not {"tr_total", "contexts", "unstruct_event"} & set(columns)


def test_columns_are_described(collector):
    """For each column it is told whether it can be sorted and filtered by, and its few values."""
    send(collector, *({**VIEW, "page": f"Page {number}"} for number in range(30)))
    wanted = ["user_id", "domain_sessionidx", "page_title", "contexts_com_acme_plan_1", "tr_total"]

    stats = ask(collector, "columnStats", {"columns": wanted})

    plain = {"sortable": True, "filterable": True}
    assert stats == {
        "user_id": {**plain, "values": ["u-1", "u-2", "U-3"]},
        "domain_sessionidx": {**plain, "values": ["2", "10"]},
        "page_title": {**plain, "values": sorted(f"Page {number}" for number in range(10, 30))},
        "contexts_com_acme_plan_1": {"sortable": False, "filterable": False, "values": None},
        "tr_total": {**plain, "values": []},
    }


def test_the_timeline_counts_each_event_once(collector):
    """Good and failed events are counted in the bucket in which they arrived."""
    now = datetime.now(timezone.utc)
    ends = [now - timedelta(hours=2), now - timedelta(hours=1), now + timedelta(hours=1)]
    buckets = [
        {"start": start.isoformat(), "end": end.isoformat()} for start, end in pairwise(ends)
    ]

    points = ask(collector, "timeline", {"buckets": buckets})["points"]

    assert points == [
        {"validEvents": 0, "failedEvents": 0, "bucket": buckets[0]},
        {"validEvents": 3, "failedEvents": 1, "bucket": buckets[1]},
    ]


def test_nobody_has_to_sign_in(collector):
    """The page's first question has the answer of a Micro that has no accounts."""
    assert requests.get(f"{collector.endpoint}/micro/auth-config", timeout=10).json() == {
        "enabled": False
    }


def test_what_is_kept_is_bounded_by_number():
    """The last events are kept, and all of them count."""
    with LocalCollector(keep=10) as collector:
        send(collector, *({**VIEW, "page": str(number)} for number in range(25)))

        assert [good["event"]["page_title"] for good in collector.good] == [
            str(number) for number in range(15, 25)
        ]
        assert collector.counts == {"total": 25, "good": 25, "bad": 0}
        assert collector.wait_for(25, timeout=0)
        assert ask(collector, "events", {})["totalItems"] == 10


@pytest.mark.parametrize("broken", [{}, {"vid": "x"}], ids=["good", "bad"])
def test_what_is_kept_is_bounded_by_bytes(broken):
    """Large events leave room for few, whether they are good or failed with all their request."""
    with LocalCollector(keep_bytes=1_000_000) as collector:
        for number in range(20):
            send(collector, {**VIEW, **broken, "page": f"{number} " + "x" * 1_900, "co": ENTITY})

        kept = [*collector.good, *collector.bad]
        assert 2 <= len(kept) <= 6
        assert kept[-1]["rawEvent"]["parameters"]["page"].startswith("19 ")


ENTITY = described(
    "contexts",
    "1-0-1",
    [{"schema": "iglu:com.acme/text/jsonschema/1-0-0", "data": {"text": "y" * 60_000}}],
)


@pytest.mark.parametrize("settings", [{"keep": 0}, {"keep_bytes": 0}, {"keep": -1}])
def test_to_keep_nothing_is_refused(settings):
    """A limit below one is an error that names the setting."""
    [name] = settings
    with pytest.raises(ValueError, match=f"^{name}: "):
        LocalCollector(**settings)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9090"}, 200),
        ({"Host": "micro.localhost"}, 200),
        ({"Host": "[::1]:9090"}, 200),
        ({"Host": "evil.example:9090"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/micro/good", "/micro/reset", "/micro/ui/rows"])
def test_other_sites_are_not_told_and_change_nothing(collector, path, headers, status):
    """What was tracked is for this machine: not for a foreign name, and not for another site."""
    answer = requests.get(collector.endpoint + path, headers=headers, timeout=10)

    assert answer.status_code == status
    assert "Access-Control-Allow-Origin" not in answer.headers
    if status != 200:
        assert len(collector.entries()) == 4


def test_a_link_from_elsewhere_opens_the_page(collector):
    """Who follows a link to the page gets it."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

    assert requests.get(collector.endpoint, headers=headers, timeout=10).status_code == 200
    reset = requests.get(f"{collector.endpoint}/micro/reset", headers=headers, timeout=10)
    assert reset.status_code == 403


def test_copied_python_gives_each_type_of_event():
    """The log call that the page shows for an event of any type logs that event once more."""
    from snowplow_logging import SnowplowAdapter

    own = ("eid", "dtm", "stm")
    with LocalCollector() as collector, tracking(collector, app_id="shop") as tracked:
        shop = SnowplowAdapter(tracked.logger, subject={"user_id": "u'\"\\\n", "language": "de"})
        element = {"name": "a", "value": None, "node_name": "INPUT", "type": "text"}
        long = "word " * 60
        shop.page_view(page_url="https://a/?q='", page_title=long, referrer="https://b/")
        shop.page_ping(page_url="https://a/", min_x=0, max_y=7)
        shop.struct_event(category="c", action="a", label="{l}\t", value=1.5)
        shop.ecommerce_transaction(
            order_id="o", total_value=3, items=[{"sku": "s", "price": 3, "quantity": 1}]
        )
        shop.link_click(target_url="https://a/", element_classes=["a", "b"])
        shop.remove_from_cart(sku="s", quantity=1)
        shop.form_change(form_id="f", element_id="e", node_name="INPUT", value=None)
        shop.form_submit(form_id="f", elements=[element])
        shop.site_search(terms=["ä", "b"], filters={"x": True})
        shop.screen_view(name="s", id="0f8fad5b-d9cb-469f-a165-70867728950e")
        shop.application_error(message="m", is_fatal=True)
        shop.self_describing_event(
            schema="iglu:com.acme/x/jsonschema/1-0-0",
            data={"a": [1, None, True, {"b": 1.5}], "c": long},
            true_timestamp=time.time() * 1000,
        )
        tracked.arrived()
        entries = collector.entries()
        assert len(entries) == 13
        for entry in entries:
            program = collector.explain(entry.number)["python"]
            exec(program, {"logger": tracked.logger})  # noqa: S102 - as who pastes it would
        arrived = tracked.arrived()
    pairs = zip(arrived[:13], arrived[13:], strict=True)
    for first, second in pairs:
        one, other = (
            {k: v for k, v in event["rawEvent"]["parameters"].items() if k not in own}
            for event in (first, second)
        )
        assert other == one
