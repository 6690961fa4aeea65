"""The retry rule and the back-off: no server, no thread, no clock."""

from __future__ import annotations

import math
import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowplow_logging.delivery.retry import Answer, Outcome, backoff, judge

URL = "https://collector.example.com/com.snowplowanalytics.snowplow/tp2"
FINAL = (400, 401, 403, 410, 422)


def judged(status, count=2, **more):
    """Return what an answer means for a request of so many events."""
    return judge(status, url=URL, count=count, **more)


@given(st.integers(100, 999).filter(lambda status: status not in (*FINAL, 413, 414)))
def test_all_is_tried_again_but_what_the_trackers_name(status):
    """The common rule of Snowplow's trackers has five statuses that are final."""
    outcome = Outcome.TAKEN if 200 <= status < 300 else Outcome.RETRY
    assert judged(status).outcome is outcome


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "could not read the request"),
        (401, "wants authentication"),
        (403, "forbids the request"),
        (410, "gone from this address"),
        (422, "could not process"),
    ],
)
def test_what_is_final_says_what_to_mend(status, advice):
    """The reason names the address, the answer and what to do."""
    answer = judged(status, phrase="No")
    assert answer.outcome is Outcome.REFUSED
    assert answer.reason.startswith(f"{URL} answered {status} No; ")
    assert advice in answer.reason


@pytest.mark.parametrize("status", [413, 414, 431])
@pytest.mark.parametrize("in_url", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_too_large_is_halved_or_refused(status, in_url, count):
    """Headers are too large by an event only where it is in the request line."""
    outcome = Outcome.SPLIT if count > 1 else Outcome.REFUSED
    if status == 431 and not in_url:
        outcome = Outcome.RETRY
    assert judged(status, count, in_url=in_url).outcome is outcome


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308, 404])
def test_a_wrong_address_is_to_be_said_at_once(status):
    """What the user likely has to mend does not wait for the report of a minute."""
    answer = judged(status, location="https://a.example.com/")
    assert (answer.outcome, answer.at_once) == (Outcome.RETRY, True)
    assert not judged(503).at_once
    expected = "check endpoint and path" if status == 404 else "redirects to https://a.example.com/"
    assert expected in answer.reason


@given(
    status=st.integers(300, 599), retry=st.booleans(), count=st.integers(1, 3), in_url=st.booleans()
)
def test_retry_codes_have_the_last_word(status, retry, count, in_url):
    """What the user says of a status holds, whatever the rule is."""
    answer = judged(status, count, in_url=in_url, retry_codes={status: retry})
    assert answer.outcome is (Outcome.RETRY if retry else Outcome.REFUSED)


@pytest.mark.parametrize(
    ("kind", "start", "outcome"),
    [
        ("text/html; charset=utf-8", b" \r\n<html>", Outcome.RETRY),
        ("Text/HTML", b"<!doctype html>", Outcome.RETRY),
        ("text/html", b"ok", Outcome.TAKEN),
        ("text/html", b"", Outcome.TAKEN),
        ("text/plain", b"<3", Outcome.TAKEN),
        ("", b"<html>", Outcome.TAKEN),
    ],
)
def test_a_web_page_has_taken_nothing(kind, start, outcome):
    """A captive portal answers 200 to all; a proxy that only calls it HTML does not."""
    answer = judged(200, headers={"Content-Type": kind}, body_start=start)
    assert answer.outcome is outcome


@given(st.integers(100, 999))
def test_5xx_may_be_the_fault_of_an_event(status):
    """No other status is."""
    assert judged(status).server_error is (500 <= status < 600)


@given(status=st.integers(100, 999), phrase=st.text(max_size=5), value=st.text(max_size=40))
def test_anything_may_stand_in_an_answer(status, phrase, value):
    """No header makes it raise or wait for ever without a cap."""
    headers = {"Retry-After": value, "Content-Type": value}
    answer = judged(status, phrase=phrase, headers=headers, location=value)
    assert isinstance(answer, Answer)
    assert 0 <= backoff(0, answer.retry_after, 60, random.uniform) <= 60


def test_retry_after_is_seconds_or_a_date():
    """RFC 9110, 10.2.3."""
    assert judged(503, headers={"Retry-After": " 7 "}).retry_after == 7
    date = formatdate(time.time() + 50, usegmt=True)
    assert 40 < judged(503, headers={"Retry-After": date}).retry_after < 51
    past = formatdate(time.time() - 50, usegmt=True)
    for value in (past, "-1", "soon", ""):
        assert judged(503, headers={"Retry-After": value}).retry_after == 0


# How long to wait.


@given(
    failures=st.integers(0, 2_000),
    asked=st.floats(0, 1e9) | st.just(math.inf),
    longest=st.floats(0, 1e9),
    share=st.floats(0, 1),
)
def test_a_delay_keeps_its_bounds(failures, asked, longest, share):
    """A delay is at most exponential, at least what `Retry-After` asks for, and always capped."""
    delay = backoff(failures, asked, longest, lambda low, high: low + share * (high - low))
    least = min(asked, longest)
    assert least <= delay <= max(least, min(longest, 0.5 * 2 ** min(failures, 100)))
    assert delay <= longest


def test_a_delay_has_full_jitter():
    """Delays lie anywhere between nothing and the longest, so that clients do not keep step."""
    chance = random.Random(1)
    delays = [backoff(3, 0, 60, chance.uniform) for _ in range(400)]
    assert min(delays) < 0.4
    assert 3.6 < max(delays) <= 4
    assert 1.6 < sum(delays) / len(delays) < 2.4
