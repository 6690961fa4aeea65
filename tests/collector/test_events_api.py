"""What Micro 4 adds to the REST API, what is kept, and who is told of it."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from decimal import Decimal
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
SAVED = "unstruct_event_com_acme_games_save_game_2"
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
        ({"filters": [{"column": "page_title", "value": "A"}]}, [VAULT, BASKET]),
        ({"filters": [{"column": "user_id", "value": "u-3"}], "validEvents": True}, [PLAY]),
        ({"filters": [{"column": f"{SAVED}.level", "values": ["1"]}]}, [PLAY]),
        ({"filters": [{"column": f"{SAVED}.level", "value": "2"}]}, []),
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


def test_a_time_range_ends_before_its_end(collector):
    """An event that arrived at the very end of a range is in the next one; nothing is one page."""
    newest = collector.entries()[-1].timestamp
    end = datetime.fromtimestamp(newest / 1000, timezone.utc)
    after = {"start": end.isoformat()}

    found = ask(collector, "events", {"timeRange": {"end": end.isoformat()}})["totalItems"]
    assert found + ask(collector, "events", {"timeRange": after})["totalItems"] == 4
    assert found < 4
    nothing = ask(collector, "events", {"timeRange": {"end": "2000-01-01T00:00:00Z"}})
    assert nothing == {"events": [], "totalPages": 1, "totalItems": 0}


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
    plan = "contexts_com_acme_plan_1"
    assert {"user_id", "page_title", plan, f"{plan}.name", SAVED, FAILURE} <= set(columns)
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


def rows(collector, query, status=200):
    """Return what the page is told of the rows of its table: the users, and how many there are."""
    answer = requests.get(f"{collector.endpoint}/micro/ui/rows?{query}", timeout=60)
    assert answer.status_code == status
    if status != 200:
        return answer.text
    return [row["user"] for row in answer.json()["rows"]], answer.json()["total"]


@pytest.mark.parametrize(
    ("query", "users"),
    [
        ("", ["u-1", "u-2", "U-3", "u-1"]),
        ("offset=1&limit=2", ["u-2", "U-3"]),
        ("until=2", ["U-3", "u-1"]),
        ("until=99&status=bad", ["u-2"]),
        ("user=U-", ["u-1", "u-2", "U-3", "u-1"]),
        ("app=shop&about=o", ["u-1", "u-2", "u-1"]),
        ("q=is+not+an+int", ["u-2"]),
        ("sort=time", ["u-1", "U-3", "u-2", "u-1"]),
        ("sort=-time", ["u-1", "u-2", "U-3", "u-1"]),
        ("sort=-user", ["U-3", "u-2", "u-1", "u-1"]),
        ("sort=verdict", ["u-2", "u-1", "U-3", "u-1"]),
        ("sort=-column.domain_sessionidx&app=shop&status=good", ["u-1", "u-1"]),
        (f"column.{SAVED}.level=1", ["U-3"]),
        ("column.contexts_com_acme_plan_1.name=GOLD", ["U-3"]),
        ("column.collector_tstamp=20", ["u-1", "u-2", "U-3", "u-1"]),
        ("column.nothing=&sort=column.nothing", ["u-1", "u-2", "U-3", "u-1"]),
    ],
)
def test_the_pages_rows_are_found(collector, query, users):
    """The rows of the page's table are filtered and sorted by all that it shows."""
    found, total = rows(collector, query)

    assert found == users
    assert total == (4 if query.startswith("offset") else len(users))


@pytest.mark.parametrize("query", ["offset=x", "from=-1", "sort=nothing", "sort=user&until=1.5"])
def test_rows_that_make_no_sense_are_refused(collector, query):
    """A number that is none, and an order that there is not, are answered in words."""
    name = query.rpartition("=")[0].rpartition("&")[2]
    assert rows(collector, query, 400).startswith(f"{name} is ")


def test_a_list_stays_while_events_come_and_go():
    """What is asked for by `until` stays in its order while others arrive and the oldest go."""
    with LocalCollector(keep=6) as collector:
        for number in range(6):
            send(collector, {**VIEW, "uid": f"u-{number}", "page": "even" if number % 2 else "odd"})
        held = "until=6&sort=-user&about=even"
        assert rows(collector, held) == (["u-5", "u-3", "u-1"], 3)
        send(collector, *({**VIEW, "uid": "u-9", "page": "even"} for _ in range(3)))
        assert rows(collector, held) == (["u-5", "u-3"], 2)
        assert rows(collector, "until=6") == (["u-5", "u-4", "u-3"], 3)
        collector.reset()
        assert rows(collector, held) == ([], 0)
        send(collector, {**VIEW, "uid": "u-1", "page": "even"})
        assert rows(collector, held) == ([], 0)
        assert rows(collector, "about=even") == (["u-1"], 1)


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


HOSTILE = "a\"b'c\\d\n\t\r{x}%s ü😀\u2028\u202e\x1b</script>$(x)`y`"
ENTITIES = [
    {
        "schema": "iglu:com.acme/plan/jsonschema/1-0-0",
        "data": {HOSTILE: HOSTILE, "big": 2**70, "l": [1, [2.5, {"a": None}], 1e300, True]},
    },
    {"schema": "iglu:com.acme/plan/jsonschema/1-0-0", "data": {}},
]
EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
NUMBER = Decimal("12345678901234567890.123456789")
ELEMENTS = [
    {"name": HOSTILE, "value": HOSTILE, "node_name": "INPUT", "type": "email"},
    {"name": "x", "value": None, "nodeName": "SELECT"},
]
CALLS = {
    "page_view": {"page_url": "https://a/?q='", "page_title": HOSTILE, "referrer": "https://b/"},
    "page_ping": {"page_url": "https://a/", "min_x": -3, "max_y": 2**31 - 1},
    "struct_event": {"category": HOSTILE, "action": "007", "label": "1.50", "value": NUMBER},
    "ecommerce_transaction": {
        "order_id": HOSTILE,
        "total_value": Decimal("9.90"),
        "shipping": 1e22,
        "items": [{"sku": HOSTILE, "price": 9.95, "quantity": 2}],
    },
    "ecommerce_transaction_item": {"order_id": "1", "sku": "2", "price": 10**25, "quantity": 1},
    "link_click": {"target_url": HOSTILE, "element_classes": [HOSTILE, "b"]},
    "add_to_cart": {"sku": HOSTILE, "quantity": 2.5, "unit_price": 9.95, "currency": "EUR"},
    "remove_from_cart": {"sku": "1", "quantity": 10**20},
    "form_change": {"form_id": "f", "element_id": "e", "node_name": "INPUT", "value": None},
    "form_submit": {"form_id": HOSTILE, "form_classes": [HOSTILE], "elements": ELEMENTS},
    "site_search": {"terms": [HOSTILE, ""], "filters": {HOSTILE: True, "a": "b"}},
    "screen_view": {"name": HOSTILE, "id": EVENT_ID, "previous_id": EVENT_ID},
    "application_error": {"message": HOSTILE, "is_fatal": True, "stack_trace": HOSTILE},
    "self_describing_event": {
        "schema": "iglu:com.acme/x/jsonschema/1-0-0",
        "data": {HOSTILE: [1, None, True, 2**70, 1.5, {"b": {"c": []}}], "": {}},
    },
}
SUBJECT = {
    "user_id": HOSTILE,
    "platform": "web",
    "viewport": (8, 9),
    "domain_session_index": 3,
    "color_depth": 24,
    "language": "de",
}


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@needs_curl
@pytest.mark.parametrize("kind", CALLS)
def test_a_copy_gives_the_event_once_more(kind):
    """The log call and the command that the page shows for an event send that event once more."""
    from snowplow_logging import SnowplowAdapter

    with LocalCollector() as collector, tracking(collector, app_id="shop") as tracked:
        method = getattr(SnowplowAdapter(tracked.logger, subject=SUBJECT), kind)
        method(**CALLS[kind], context=ENTITIES, true_timestamp=1700000000123, event_id=EVENT_ID)
        tracked.arrived()
        for entry in collector.entries():
            first = dict(entry.verdict().parameters)
            copies = collector.explain(entry.number)
            subprocess.run(copies["curl"], shell=True, check=True, capture_output=True)  # noqa: S602
            assert collector.entries()[-1].verdict().parameters == first
            assert first["eid"] in copies["python"].splitlines()[0]
            exec(copies["python"], {"logger": tracked.logger})  # noqa: S102 - as who pastes it would
            tracked.arrived()
            again = dict(collector.entries()[-1].verdict().parameters)
            for own in ("eid", "dtm", "stm"):
                del first[own], again[own]
            assert again == first
        assert collector.counts["bad"] == 0


@needs_curl
@pytest.mark.parametrize(
    "query",
    [
        "",
        "?aid=[1-3]",
        "?aid={a,b}&page=a+b%20c",
        "?@/etc/passwd",
        "?+x=1",
        "?-o=x&url=a'$(id)`id`",
    ],
    ids=["none", "range", "set", "file", "plus", "shell"],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"@/etc/passwd", b"{'\"$x`$(id)\n", b"\xff\x00\\n%s", "ü\x1b[201~\r".encode(), None],
    ids=["empty", "file", "shell", "bytes", "terminal", "pixel"],
)
def test_a_copy_as_curl_obeys_no_value(query, body):
    """Nothing in a request makes curl or the shell do anything but send that request once more."""
    with LocalCollector() as collector:
        connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=60)
        if body is None:
            connection.request("GET", f"/i{query}")
        else:
            path = f"/com.snowplowanalytics.snowplow/tp2{query}"
            connection.request("POST", path, body, {"Content-Type": "text/plain"})
        assert connection.getresponse().read()
        connection.close()
        [entry] = collector.entries()

        command = collector.explain(entry.number)["curl"]
        subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602

        assert command.replace("\n", "").isprintable()
        first, again = (entry.as_json() for entry in collector.entries())
        assert again["errors"] == first["errors"]
        for part in ("querystring", "body"):
            assert again["collectorPayload"][part] == first["collectorPayload"][part]
