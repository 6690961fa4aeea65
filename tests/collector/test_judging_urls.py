"""Which URLs and referrers the local collector takes, and what it makes of the others."""

from __future__ import annotations

import json

import pytest

from judging import (
    EVENT,
    PAYLOAD_DATA,
    client,
    errors,
    judge,
    running,
)

pytestmark = pytest.mark.usefixtures("judging")


@pytest.mark.parametrize(("name", "path"), [("url", 3000), ("refr", 6000)])
def test_each_part_of_a_url_is_good_up_to_its_limit(name, path):
    """Scheme, host, path, query and fragment have limits of their own, the whole has 10,000."""
    prefix = {"url": "page_url", "refr": "refr_url"}[name]
    parts = {
        "scheme": ("{}://h", "x", 16),
        "host": ("x://{}", "h", 255),
        "path": ("x://h{}", "/", path),
        "query": ("x://h/?{}", "q", 6000),
        "fragment": ("x://h/#{}", "f", 3000),
    }
    for part, (shape, letter, limit) in parts.items():
        good, [bad] = judge(
            {**EVENT, name: shape.format(letter * limit)},
            {**EVENT, name: shape.format(letter * (limit + 1))},
        )

        assert good[0]["event"][f"{prefix}{part}"] == letter * limit
        [error] = bad["errors"]
        assert error.startswith(f"{name}: {prefix}{part}: has {limit + 1} characters")

    whole = f"x://h/{'p' * 2999}?{'q' * 6000}#"
    good, [bad] = judge(
        {**EVENT, name: whole.ljust(10_000, "f")}, {**EVENT, name: whole.ljust(10_001, "f")}
    )
    assert len(good) == 1
    [error] = bad["errors"]
    assert error.startswith(f"{name}: has 10001 characters")


URIS = [
    "https://shop.example.com/a;b/c?d=e&f=[g]#h",
    "http://user:secret@[2001:db8::1]:8080/",
    "https://bücher.example/straße?q=日本#é",
    "android-app://com.example/",
    "mailto:a@example.com",
    "file:///etc/hosts",
    "/basket?step=2",
    "?a=b",
    "#top",
    "//cdn.example.com/x",
    "https://a/%C3%A4",
]
REPAIRED = {
    "https://a/b c": "https://a/b%20c",
    "https://a/?q=100%": "https://a/?q=100%25",
    "https://a/%zz": "https://a/%25zz",
    "https://a/\u3000": "https://a/%E3%80%80",
    "https://a/#b#c": "https://a/#b%23c",
    "https://a/[b]": "https://a/%5Bb%5D",
    "https://a/\n": "https://a/",
    "https://a/\t": "https://a/%20%20%20%20",
    "127.0.0.1:80/a": "127.0.0.1%3A80/a",
    "1a:b": "1a%3Ab",
    "https://a/?b=%2B|+": "https://a/?b=+%7C+",
    "https://a/%E9|": "https://a/%EF%BF%BD%7C",
    "https://a/🦊|": "https://a/%3F%3F%7C",
    "http://127.0.0.01:080/|": "http://127.0.0.1:80/%7C",
    "http://[0:0:0:0:0:0:0:1]/|": "http://[::1]/%7C",
    "http://[1:0:0:2:0:0:0:3]/|": "http://[1:0:0:2::3]/%7C",
    "http://[1:2:3:4:5:6:7::]/|": "http://[1:2:3:4:5:6:7:0]/%7C",
    "http://u s:p|w@a:1/": "http://u%20s:p%7Cw@a:1/",
    "urn:isbn:100%": "urn:isbn:100%25",
    "https://a/|?": "https://a/%7C",
    "https://a/|\uffffb": "https://a/%7C",
    **{f"https://a/{char}": f"https://a/%{ord(char):02X}" for char in '<>"{}|\\^`'},
}
NO_URIS = [
    "http:",
    "http://",
    "//",
    "x:#",
    "http://a|b/",
    "http://a%/",
    "http://[1]/",
    "http://[::1",
    "http://[::1]x/",
    "http://[1:2:3:4:5:6:7:8::]/|",
    "http://[1::2::3]/",
    "http://[::256.1.1.1]/",
    "http://[::1%]/",
    "http://a:99999999999/|",
    "https://a:443|",
    "https://a/?_sp=.",
    "https://a/?_sp=user@example.com",
    "https://a/?x=1;_sp=a.253402300800000",
    f"https://a/?_sp={'d' * 129}",
]


@pytest.mark.parametrize("name", ["url", "refr"])
@pytest.mark.parametrize("value", URIS)
def test_a_url_is_a_uri(name, value):
    """A URI is good, with letters of any alphabet in it, absolute or not."""
    [good], bad = judge({**EVENT, name: value})

    assert good["event"][{"url": "page_url", "refr": "page_referrer"}[name]] == value
    assert bad == []


@pytest.mark.parametrize(("value", "repaired"), REPAIRED.items(), ids=map(ascii, REPAIRED))
def test_any_other_url_is_repaired(value, repaired):
    """What java.net.URI refuses is taken apart, encoded and tried again."""
    good, bad = judge({**EVENT, "url": value}, {**EVENT, "refr": value})

    assert bad == []
    page, referrer = (event["event"] for event in good)
    assert page["page_url"] == repaired
    # The referrer stays as it was sent; only its parts are those of the repaired one.
    parts = ("scheme", "host", "port", "path", "query", "fragment")
    assert [page[f"page_url{part}"] for part in parts] == [
        referrer[f"refr_url{part}"] for part in parts
    ]


@pytest.mark.parametrize("name", ["url", "refr"])
@pytest.mark.parametrize("value", NO_URIS, ids=ascii)
def test_what_cannot_be_repaired_is_no_url(name, value):
    """A bad host, a bad IPv6 address, nothing after the scheme, or a bad `_sp` fails the event."""
    if name == "refr" and "_sp" in value:
        pytest.skip("only the page's own URL is asked for the mark of a link across domains")

    [error] = errors({**EVENT, name: value})

    assert error.startswith(f"{name}: ")


def test_the_mark_of_a_link_across_domains_is_read():
    """The last `_sp` of a page's URL gives the referring user and the time of the click."""
    url = "https://a/?_sp=one.1&_sp=t%20wo.1700000000123.3"

    [good], _ = judge({**EVENT, "url": url})

    assert good["event"]["refr_domain_userid"] == "t wo"
    assert good["event"]["refr_dvce_tstamp"] == "2023-11-14T22:13:20.123Z"


@pytest.mark.parametrize("url", ["", "\n", None], ids=["empty", "nothing left", "absent"])
def test_the_referer_header_stands_in_for_a_missing_url(url):
    """A request's `Referer` is the page's URL where an event has none, and is judged like one."""
    event = {key: value for key, value in {**EVENT, "url": url}.items() if value is not None}
    body = json.dumps({"schema": PAYLOAD_DATA, "data": [event, EVENT]})
    headers = {"Content-Type": "application/json", "Referer": "https://from/a b|?c=d"}

    client.post(
        f"{running.endpoint}/com.snowplowanalytics.snowplow/tp2",
        data=body,
        headers=headers,
        timeout=10,
    )

    first, second = (good["event"] for good in running.good)
    assert (first["page_url"], first["page_urlhost"]) == ("https://from/a%20b%7C?c=d", "from")
    assert second["page_url"] == EVENT["url"]

    running.reset()
    headers["Referer"] = "http://h|/"
    client.post(
        f"{running.endpoint}/com.snowplowanalytics.snowplow/tp2",
        data=body,
        headers=headers,
        timeout=10,
    )
    assert [len(running.good), len(running.bad)] == [1, 1]
    assert running.bad[0]["errors"][0].startswith("Referer: ")


def test_a_url_is_judged_in_linear_time():
    """A long value that is nearly a URL is refused as quickly as any other."""
    [error] = errors({**EVENT, "url": "http://" + "a@" * 4900 + "["})

    assert error.startswith("url: ")
