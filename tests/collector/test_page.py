"""The collector's page, in a real Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.parse
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests

from snowplow_logging import (
    AddToCart,
    ApplicationError,
    PageView,
    ScreenView,
    SiteSearch,
    SnowplowAdapter,
    StructuredEvent,
)
from snowplow_logging.collector import LocalCollector

pytest.importorskip("werkzeug", reason="the local collector needs it")
pytest.importorskip("jsonschema_rs", reason="the local collector needs it")
sync_api = pytest.importorskip("playwright.sync_api", reason="it drives the browser")
expect = sync_api.expect
# Milliseconds. A browser beside other tests on a machine of two cores may take its time.
PATIENCE = 45_000
expect.set_options(timeout=PATIENCE)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium; Debian has it as chromium", allow_module_level=True)

# Seconds for one test. They take a few; a machine on which they take that long is hopeless.
pytestmark = pytest.mark.timeout(300)

DOCS = Path(__file__).parents[2] / "docs"
PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
FORM = "iglu:com.snowplowanalytics.snowplow/submit_form/jsonschema/1-0-0"
VIEW = {"tv": "t-1", "p": "srv", "e": "pv", "url": "https://shop.example.com/", "aid": "shop"}
MARKUP = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""


@pytest.fixture(scope="module")
def browser():
    """Start the browser. It ends with this module: others have event loops of their own."""
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, timeout=PATIENCE)
        yield running
        running.close()


@pytest.fixture
def local():
    """Start a collector without a registry."""
    with LocalCollector() as running:
        yield running


@pytest.fixture
def opened(browser, local):
    """Give a function that opens the page; it must ask no other host and report no error."""
    contexts, asked, complaints = [], [], []

    def opener(address="/", clock=None, **settings):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **settings)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        if clock is not None:
            page.clock.set_fixed_time(clock)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(local.endpoint + address)
        expect(page.get_by_role("status").first).to_have_text(local.endpoint)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert {"{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url)) for url in asked} == {
        local.endpoint
    }
    assert complaints == []


def send(collector, *events):
    """POST events in one request."""
    answer = requests.post(
        f"{collector.endpoint}/com.snowplowanalytics.snowplow/tp2",
        json={"schema": PAYLOAD_DATA, "data": events},
        timeout=60,
    )
    assert answer.status_code == 200


def described(schema, data, **others):
    """Return a self-describing event."""
    envelope = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
    text = json.dumps({"schema": envelope, "data": {"schema": schema, "data": data}})
    return {"tv": "t-1", "p": "srv", "e": "ue", "aid": "shop", "ue_pr": text, **others}


BAD_FORM = described(
    FORM,
    {
        "formId": "checkout",
        "elements": [{"name": "city", "value": "Köln", "nodeName": "DIV"}],
        "colour": "red",
    },
    uid="u-44",
)


def cells(page):
    """Return the table's rows, each as the texts of its cells without the time."""
    rows = page.locator("#rows tr")
    return [row.locator("td").all_inner_texts()[1:] for row in rows.all()]


def row(page, text):
    """Return the row of the event that holds a text."""
    return page.get_by_role("table", name="Events").get_by_role("row").filter(has_text=text)


def bars(page):
    """Return the bars of the timeline."""
    return page.get_by_role("group", name="Good and bad events over time").get_by_role("button")


# Whether the bars together count so many good and bad events.
ARRIVALS = """([good, bad]) => {
  const labels = [...document.querySelectorAll("#bars button")].map((bar) => bar.ariaLabel ?? "");
  const sum = (word) => labels.reduce(
    (all, label) => all + Number(label.match(`([0-9]+) ${word}`)?.[1] ?? 0), 0,
  );
  return sum("good") === good && sum("bad") === bad;
}"""


def test_what_is_logged_shows_up_without_a_reload(opened, local, request):
    """An event that is logged appears by itself, with its main values, its user and its counts."""
    page = opened()
    expect(page.get_by_role("heading", name="Waiting for the first event")).to_be_visible()
    tracked = request.getfixturevalue("tracking_to")(local)

    tracked.page_view(page_url="https://shop.example.com/basket", page_title="Basket")
    send(local, BAD_FORM)

    expect(row(page, "form_submit")).to_be_visible()
    expect(row(page, "Basket")).to_be_visible()
    good = ["page_view", "Basket · https://shop.example.com/basket", "u-42", "shop", "good"]
    bad, shown = sorted(cells(page))
    assert shown == good
    assert bad[0] == "form_submit"
    assert "$.elements[0].nodeName does not fit the schema" in bad[1]
    assert bad[2:] == ["u-44", "shop", "bad"]
    expect(page.get_by_role("button", name="All 2", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Bad 1", exact=True)).to_be_visible()
    assert bars(page).count() == 60
    # Each is in the bar of the ten seconds in which it arrived, which need not be the same ten.
    expect(bars(page).filter(has=page.locator(".bad.some"))).to_have_count(1)
    page.wait_for_function(ARRIVALS, arg=[1, 1])


@pytest.fixture
def tracking_to():
    """Give a function that makes an adapter whose handler sends to a collector at once."""
    from helpers import tracking

    running = []

    def start(collector):
        manager = tracking(collector, app_id="shop", flush_interval=0.05)
        running.append(manager)
        return SnowplowAdapter(manager.__enter__().logger, subject={"user_id": "u-42"})

    yield start
    for manager in running:
        manager.__exit__(None, None, None)


def test_filters_are_kept_in_the_address(opened, local):
    """Each filter leaves the rows that fit, and the address of a filtered page opens it again."""
    send(
        local,
        {**VIEW, "uid": "u-1", "page": "Basket"},
        {**VIEW, "uid": "u-2", "page": "Home", "aid": "blog"},
        {**VIEW, "uid": "u-2", "vid": "x", "page": "Vault"},
        {**VIEW, "e": "se", "se_ca": "shop", "se_ac": "checkout", "uid": "u-3"},
    )
    page = opened("/micro/ui")
    rows = page.locator("#rows tr")
    expect(rows).to_have_count(4)
    for label, typed, count in (
        ("Event", "STRUCT", 1),
        ("About", "basket", 1),
        ("User", "u-2", 2),
        ("Application", "blog", 1),
        ("Search everything", "is not an int", 1),
    ):
        field = page.get_by_label(label, exact=True)
        field.fill(typed)
        expect(rows).to_have_count(count)
        assert urllib.parse.quote_plus(typed) in page.url
        field.fill("")
        expect(rows).to_have_count(4)

    page.get_by_label("User", exact=True).fill("u-2")
    page.get_by_role("button", name=re.compile("^Bad")).click()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("button", name=re.compile("^Bad"))).to_have_attribute(
        "aria-pressed", "true"
    )
    again = opened(page.url.removeprefix(local.endpoint))
    expect(again.locator("#rows tr")).to_have_count(1)
    assert cells(again)[0][0:1] == ["page_view"]
    expect(again.get_by_label("User", exact=True)).to_have_value("u-2")

    page.get_by_label("User", exact=True).fill("nobody")
    expect(page.get_by_role("heading", name="No event matches the filters")).to_be_visible()
    page.get_by_role("button", name="Clear filters").first.click()
    expect(rows).to_have_count(4)
    assert "?" not in page.url


@pytest.mark.parametrize("span", ["last 10 minutes", "last 7 days"])
def test_a_bar_filters_by_its_time(opened, local, span):
    """A bar that is chosen leaves the events of its span, and the address holds it."""
    send(local, VIEW)
    # The page's clock stands still: otherwise the bars may move on between a look and a click.
    page = opened(clock=datetime.now(timezone.utc))
    page.get_by_label("Span of time").select_option(span)
    filled = page.get_by_role("button", name=re.compile("1 good, 0 bad"))
    filled.click()
    expect(filled).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#rows tr")).to_have_count(1)
    assert "from=" in page.url
    bars(page).first.click()
    expect(page.locator("#rows tr")).to_have_count(0)
    page.get_by_role("button", name=re.compile("press to show all times")).click()
    expect(page.locator("#rows tr")).to_have_count(1)
    again = opened(page.url.removeprefix(local.endpoint))
    expect(again.get_by_label("Span of time")).to_have_value(
        {"last 10 minutes": "10", "last 7 days": "10080"}[span]
    )


def test_a_bar_of_the_span_before_cannot_be_chosen(opened, local):
    """While those of another span are asked for, whose time is another."""
    send(local, VIEW)
    page = opened(clock=datetime.now(timezone.utc))
    filled = page.get_by_role("button", name=re.compile("1 good, 0 bad"))
    expect(filled).to_be_visible()
    held = []

    def hold(route):
        held.append(route)

    page.route("**/micro/timeline", hold)
    with page.expect_request("**/micro/timeline"):
        page.get_by_label("Span of time").select_option("last 7 days")
    expect(page.locator("#bars[inert]")).to_have_count(1)
    (asked,) = held
    asked.continue_()
    filled.click()
    expect(filled).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#rows tr")).to_have_count(1)


def abouts(page):
    """Return what is told of the page views in the table, in its order."""
    return [cell.partition(" ")[0] for cell in page.locator("#rows td.about").all_inner_texts()]


def test_a_head_sorts(opened, local):
    """A click on a head sorts by its column, another the other way round, and a third no more."""
    for user, title in (("b", "Two"), ("", "None"), ("C", "Three"), ("a", "One")):
        send(local, {**VIEW, "page": title, "uid": user})
    page = opened()
    expect(page.locator("#rows tr")).to_have_count(4)
    newest_first = ["One", "Three", "None", "Two"]
    assert abouts(page) == newest_first
    head = page.get_by_role("columnheader", name="User")
    for state, order in (
        ("ascending", ["One", "Two", "Three", "None"]),
        ("descending", ["Three", "Two", "One", "None"]),
        ("none", newest_first),
    ):
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", state)
        expect(head.get_by_role("button")).to_be_focused()
        expect(page.locator("#rows td.about")).to_have_text([re.compile(word) for word in order])
    page.get_by_role("columnheader", name="Time").get_by_role("button").click()
    expect(page.locator("#rows td.about").first).to_contain_text("Two")
    again = opened(page.url.removeprefix(local.endpoint))
    expect(again.get_by_role("columnheader", name="Time")).to_have_attribute(
        "aria-sort", "ascending"
    )
    expect(again.locator("#rows td.about").last).to_contain_text("One")


def test_columns_are_chosen_filtered_and_moved(opened, local):
    """Any column of the events, also of their data, can be shown, filtered, sorted and moved."""
    game = "iglu:com.acme/save_game/jsonschema/1-0-0"
    level = "unstruct_event_com_acme_save_game_1.level"
    send(local, *(described(game, {"level": number}, uid="u-1") for number in (9, 10)))
    send(local, {**VIEW, "url": "https://shop.example.com/a/b"})
    page = opened()
    opener = page.get_by_role("button", name="Columns", exact=True)
    opener.press("Enter")
    find = page.get_by_label("Find a column")
    expect(find).to_be_focused()
    for name in ("page_urlpath", level):
        find.fill(name)
        page.get_by_role("checkbox", name=name).press("Space")
        expect(page.get_by_role("columnheader", name=name)).to_be_visible()
    find.fill("")
    page.keyboard.press("Escape")
    expect(find).to_be_hidden()
    expect(opener).to_be_focused()

    extras = page.locator("#rows td.extra")
    expect(extras).to_have_text(["/a/b", "", "", "10", "", "9"])
    page.get_by_role("columnheader", name=level).get_by_role("button").click()
    expect(extras).to_have_text(["", "9", "", "10", "/a/b", ""])
    page.get_by_role("searchbox", name=level).fill("10")
    expect(extras).to_have_text(["", "10"])

    opener.click()
    page.get_by_role("button", name=f"Move {level} to the left").click()
    expect(extras).to_have_text(["10", ""])
    again = opened(page.url.removeprefix(local.endpoint))
    expect(again.locator("#rows td.extra")).to_have_text(["10", ""])
    page.get_by_role("checkbox", name=level).uncheck()
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.get_by_role("searchbox", name=level)).to_have_count(0)
    page.get_by_role("heading", name="Snowplow collector").click()
    expect(find).to_be_hidden()


def test_the_panel_says_what_to_mend_and_where(opened, local):
    """A click shows the sentence that says what to mend, the data, and the rule that it breaks."""
    send(local, BAD_FORM)
    page = opened()
    row(page, "form_submit").click()

    panel = page.get_by_role("complementary")
    expect(panel.get_by_role("heading", name="form_submit")).to_be_visible()
    mend = panel.get_by_role("region", name="What to mend").get_by_role("listitem")
    assert [sentence.partition(" does")[0] for sentence in mend.all_inner_texts()] == [
        "ue_pr: $.elements[0].nodeName",
        "ue_pr: $",
    ]
    assert "give one of INPUT, TEXTAREA, SELECT" in mend.first.inner_text()
    assert [mark.inner_text() for mark in panel.locator("pre mark").all()] == ['"DIV"', '"red"']
    broken = panel.locator("tr.broken")
    assert [line.locator("th").inner_text().split()[0] for line in broken.all()] == [
        "elements[].nodeName",
        "colour",
    ]
    assert "one of" in broken.first.inner_text()
    for heading in ("Event data", "Payload", "Enriched columns", "Request"):
        expect(panel.get_by_role("heading", name=heading)).to_be_visible()
    payload = panel.locator("details", has=page.get_by_role("heading", name="Payload"))
    expect(payload.get_by_role("row", name="uid u-44")).to_be_visible()
    expect(panel.get_by_role("row", name="event_name submit_form")).to_be_visible()
    assert "show=1" in page.url
    again = opened(page.url.removeprefix(local.endpoint))
    expect(again.get_by_role("heading", name="form_submit")).to_be_visible()


def test_an_unknown_schema_names_the_registries(opened, local):
    """Where no registry has a schema, the panel says which were asked; the data shows in full."""
    send(local, described("iglu:com.acme/save_game/jsonschema/1-0-2", {"score": 2**70, "x": [{}]}))
    page = opened()
    row(page, "save_game").click()
    note = page.get_by_role("complementary").locator(".note")
    expect(note).to_contain_text("was not checked")
    expect(note).to_contain_text("the registry that comes with this package")
    expect(page.get_by_role("complementary").locator("pre.json")).to_contain_text(str(2**70))


def test_large_data_is_shown_in_part(opened, local):
    """Of more lines than a browser shows at once the first are shown, and how many there are."""
    schema = "iglu:com.acme/large/jsonschema/1-0-0"
    send(local, described(schema, {"list": list(range(100_000)), "text": "x" * 300_000}))
    page = opened()
    row(page, "large").click()
    data = page.get_by_role("complementary").locator("pre.json")
    expect(data).to_contain_text("… 97,001 more, which the copy as JSON has")


def test_a_request_that_failed_as_a_whole_is_shown(opened, local):
    """What could not be read at all shows with its body and what is wrong with it."""
    requests.post(
        f"{local.endpoint}/com.snowplowanalytics.snowplow/tp2", data="<b>nonsense", timeout=10
    )
    page = opened()
    row(page, "whole request").click()
    panel = page.get_by_role("complementary")
    expect(panel.get_by_role("listitem").first).to_contain_text("Content-Type: ")
    expect(panel.get_by_text("<b>nonsense")).to_be_visible()


def test_copies(opened, local, tracking_to):
    """The copied Python logs the same event, the JSON is Micro's, and curl sends it once more."""
    subject = {"user_id": "u-9", "viewport": (80, 60)}
    adapter = tracking_to(local).bind(subject=subject)
    entity = {"schema": "iglu:com.acme/plan/jsonschema/1-0-0", "data": {"name": 'go"ld'}}
    adapter.add_to_cart(sku="it's", quantity=2, unit_price=9.95, context=[entity])
    assert local.wait_for(1, timeout=60)
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    row(page, "add_to_cart").click()

    def copied(name):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_text(f"Copied as {name}")).to_be_visible()
        return page.evaluate("navigator.clipboard.readText()")

    [event] = local.good
    assert json.loads(copied("JSON")) == event
    exec(copied("Python"), {"logger": adapter.logger})  # noqa: S102 - as who pastes it would
    assert local.wait_for(2, timeout=60)
    subprocess.run(copied("curl"), shell=True, check=True, capture_output=True)  # noqa: S602
    assert local.wait_for(3, timeout=60)
    first, logged, sent = (good["rawEvent"]["parameters"] for good in local.good)
    assert sent == first
    own = ("eid", "dtm", "stm")
    assert {k: v for k, v in logged.items() if k not in own} == {
        k: v for k, v in first.items() if k not in own
    }


def test_it_is_used_by_keyboard_alone(opened, local):
    """Keys search, move between rows, open, follow, close, and reach the bars."""
    send(local, *({**VIEW, "page": f"Page {number}"} for number in range(200)))
    page = opened()
    expect(row(page, "Page 199")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Search everything")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(row(page, "Page 199")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    heading = page.get_by_role("complementary").get_by_role("heading", name="page_view")
    expect(heading).to_be_focused()
    expect(row(page, "Page 198")).to_have_attribute("aria-current", "true")
    page.keyboard.press("Escape")
    expect(heading).to_have_count(0)
    expect(row(page, "Page 198")).to_be_focused()
    page.keyboard.press("End")
    expect(row(page, re.compile(r"Page 0\b"))).to_be_focused()
    page.keyboard.press("Home")
    expect(row(page, "Page 199")).to_be_focused()
    bars(page).last.focus()
    page.keyboard.press("ArrowLeft")
    expect(bars(page).nth(58)).to_be_focused()


def test_values_that_are_markup_stay_text(opened, local):
    """HTML and script in an event are shown as they are, and run nowhere."""
    data = {"formId": MARKUP, "elements": [{"name": MARKUP, "value": MARKUP, "nodeName": MARKUP}]}
    send(
        local,
        {**VIEW, "page": MARKUP, "uid": MARKUP, "aid": MARKUP, "tna": MARKUP, "vid": MARKUP},
        described(FORM, {**data, MARKUP: MARKUP}, uid=MARKUP),
    )
    page = opened()
    for event in ("page_view", "form_submit"):
        row(page, event).click()
        expect(page.get_by_role("complementary").get_by_role("heading", name=event)).to_be_visible()
        expect(page.locator("#panel td", has_text=MARKUP).first).to_be_visible()
    page.get_by_label("Search everything").fill(MARKUP)
    expect(page.locator("#rows tr")).to_have_count(2)
    assert page.locator("main img, main script").count() == 0
    assert "owned" not in page.title()


def test_what_cannot_be_seen_is_shown(opened, local):
    """Control characters, and those that turn a text around, are shown by their names."""
    hostile = "a\u202eb\u2066c\u200fd\ufeffe"
    shown = "a[U+202E]b[U+2066]c[U+200F]d[U+FEFF]e"
    data = {"formId": f"{hostile}\x1b", "elements": [], hostile: 1}
    send(
        local,
        {**VIEW, "page": hostile, "uid": hostile, "aid": hostile, "vid": hostile},
        described(FORM, data, uid=hostile),
    )
    page = opened("/?column.page_title=")
    for event in ("page_view", "form_submit"):
        row(page, event).click()
        panel = page.get_by_role("complementary")
        expect(panel.get_by_role("heading", name=event)).to_be_visible()
        expect(panel.get_by_role("cell", name=shown).first).to_be_visible()
    expect(row(page, "form_submit")).to_contain_text(f"formId={shown}␛")
    body = page.locator("body").inner_text()
    assert shown in body
    assert not re.search("[\u202e\u2066\u200f\ufeff\x1b]", body)


@pytest.mark.parametrize("count", [5_000, pytest.param(20_000, marks=pytest.mark.exhaustive)])
def test_many_events_cost_only_the_rows_in_sight(opened, local, count):
    """Of many events only those in sight are rows; the last one is reached, and is the oldest."""
    for start in range(0, count, 1_000):
        send(local, *({**VIEW, "page": f"Page {start + number}"} for number in range(1_000)))
    page = opened()
    table = page.get_by_role("table", name="Events")
    expect(table).to_have_attribute("aria-rowcount", str(count + 1))
    expect(row(page, f"Page {count - 1}")).to_be_visible()
    page.evaluate(COUNT_REQUESTS)
    for part in (0.3, 0.7):
        table.evaluate(f"table => {{ table.scrollTop = {part} * table.scrollHeight }}")
    table.evaluate(DRAG)
    expect(row(page, re.compile(r"Page 0\b"))).to_be_visible()
    assert page.locator("#rows tr").count() < 60
    assert page.evaluate("[mostAtOnce, rowsAsked > 1]") == [1, True]
    # What made it stall: Chromium works longer on every style of its own that a row has had.
    assert page.locator("#rows tr[style], #rows td[style]").count() == 0

    send(local, {**VIEW, "page": "The newest"})
    page.get_by_role("button", name="1 new event").click()
    expect(row(page, "The newest")).to_be_visible()


# Counts the requests for rows, and how many of them are under way at once.
COUNT_REQUESTS = """() => {
  const plain = window.fetch;
  let underWay = 0;
  window.mostAtOnce = window.rowsAsked = 0;
  window.fetch = (path, options) => {
    if (!path.includes("/rows?")) return plain(path, options);
    window.rowsAsked += 1;
    window.mostAtOnce = Math.max(window.mostAtOnce, ++underWay);
    return plain(path, options).finally(() => { underWay -= 1; });
  };
}"""

# Drags the scrollbar from top to bottom, a step a frame.
DRAG = """(table) => new Promise((done) => {
  const steps = 60;
  const step = (count) => {
    table.scrollTop = (table.scrollHeight * count) / steps;
    if (count < steps) requestAnimationFrame(() => step(count + 1));
    else done();
  };
  step(0);
})"""


def test_reset_and_a_collector_that_goes_away(browser):
    """Forgetting empties the page; it says that the collector is gone, and finds it again."""
    collector = LocalCollector()
    collector.start()
    port = collector.port
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(collector.endpoint)
    send(collector, VIEW)
    expect(row(page, "page_view")).to_be_visible()
    page.get_by_role("button", name="Forget all").click()
    expect(page.get_by_role("heading", name="Waiting for the first event")).to_be_visible()
    assert collector.counts["total"] == 0
    collector.close()
    expect(page.get_by_role("status").first).to_contain_text("does not answer")
    with LocalCollector(port=port) as other:
        send(other, {**VIEW, "page": "Once more"})
        expect(row(page, "Once more")).to_be_visible()
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_it_can_be_read(opened, local, scheme, width):
    """On a phone and a screen, light and dark, nothing is cut off sideways, and text stands out."""
    send(local, {**VIEW, "page": "Basket", "uid": "u-1"}, BAD_FORM)
    page = opened(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    for look in ("table", "panel"):
        if look == "panel":
            row(page, "form_submit").click()
            expect(page.get_by_role("heading", name="What to mend")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(LEAST_CONTRAST) >= 4.5
    if width == 390:
        page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Filters", exact=True).click()
        page.get_by_label("User", exact=True).fill("u-1")
        expect(page.locator("#rows tr")).to_have_count(1)


def test_columns_that_were_chosen_are_in_sight_on_a_phone(opened, local):
    """Each has a line of its own in the row, with its name, and the rows stand below each other."""
    send(local, *({**VIEW, "url": f"https://shop.example.com/{path}"} for path in "ab"))
    page = opened("/?column.page_urlpath=&column.page_urlhost=")
    page.set_viewport_size({"width": 390, "height": 800})
    extras = page.locator("#rows td.extra")
    expect(extras).to_have_text(["/b", "shop.example.com", "/a", "shop.example.com"])
    tops = [
        box["y"] for box in extras.evaluate_all("all => all.map((e) => e.getBoundingClientRect())")
    ]
    assert tops == sorted(set(tops))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rows = page.locator("#rows tr").evaluate_all(
        "all => all.map((e) => [e.getBoundingClientRect().top, e.getBoundingClientRect().bottom])"
    )
    assert (
        rows[0][0] < tops[0] < tops[1] < rows[0][1] <= rows[1][0] < tops[2] < tops[3] < rows[1][1]
    )


# The least contrast between any text that is shown and what is behind it (WCAG 2: at least 4.5).
LEAST_CONTRAST = """() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let least = 21;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [one, other] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
    least = Math.min(least, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
  }
  return least;
}"""


def test_a_screen_reader_finds_its_way(opened, local):
    """Headings, table, columns, states and changes have the roles and names that are read out."""
    send(local, VIEW)
    page = opened()
    expect(row(page, "page_view")).to_be_visible()
    expect(page.get_by_role("main")).to_match_aria_snapshot("""
- main:
  - region "Arrivals":
    - heading "Arrivals" [level=2]
    - combobox "Span of time"
    - group /Good and bad events/
  - region "Events":
    - heading "Events" [level=2]
    - search "Filter the events"
    - table "Events":
      - rowgroup:
        - row:
          - columnheader "Time"
          - columnheader "Event"
          - columnheader "About"
          - columnheader "User"
          - columnheader "Application"
          - columnheader "Verdict"
      - rowgroup:
        - row /page_view/
""")
    assert page.get_by_role("heading", level=1).inner_text() == "Snowplow collector"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing(opened, local, scheme, width):
    """The rules of axe-core hold with no event, in the table, beside a panel, and for columns."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})

    def faults():
        found = axe.run(page).response["violations"]
        return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found]

    assert faults() == []
    send(local, {**VIEW, "page": "Basket", "uid": "u-1"}, BAD_FORM)
    expect(row(page, "form_submit")).to_be_visible()
    assert faults() == []
    page.get_by_role("button", name="Columns", exact=True).click()
    expect(page.get_by_role("checkbox").first).to_be_visible()
    assert faults() == []
    page.keyboard.press("Escape")
    row(page, "form_submit").click()
    expect(page.get_by_role("heading", name="What to mend")).to_be_visible()
    assert faults() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_readmes_pictures_can_be_made(opened, local, tracking_to, scheme, tmp_path):
    """The pictures in the README are of this page; with PICTURES=1 they are made anew."""
    shop = tracking_to(local)
    for event in (
        PageView(page_url="https://shop.example.com/", page_title="Shop"),
        SiteSearch(terms=["red", "shoes"], total_results=7),
        PageView(page_url="https://shop.example.com/shoes/7", page_title="Red shoes"),
        AddToCart(sku="s-1", quantity=2, unit_price=9.95, currency="EUR"),
        ScreenView(name="basket", type="modal"),
        StructuredEvent(category="shop", action="checkout", label="card", value=9.95),
        ApplicationError(message="The card was declined.", is_fatal=False),
    ):
        shop.info(event)
    assert local.wait_for(7, timeout=60)
    send(local, {**VIEW, "uid": "u-43", "vid": "first"}, BAD_FORM)
    page = opened(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 1280, "height": 680})
    row(page, "form_submit").click()
    expect(page.get_by_role("heading", name="What to mend")).to_be_visible()
    name = f"collector-{scheme}.png"
    folder = DOCS if os.environ.get("PICTURES") else tmp_path
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / name)

    # A PNG's header has its width and height.
    made, kept = ((at / name).read_bytes() for at in (folder, DOCS))
    assert made[:8] == kept[:8] == b"\x89PNG\r\n\x1a\n"
    assert made[16:24] == kept[16:24]


def test_the_page_opens_at_once_with_its_policy(local):
    """Every file of the page comes from the collector, and may load nothing from elsewhere."""
    page = requests.get(local.endpoint, timeout=60)
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    linked = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
    assert len(linked) == 3
    for path in linked:
        assert requests.get(local.endpoint + path, timeout=60).status_code == 200
    assert not re.search(r"https?:", page.text)
