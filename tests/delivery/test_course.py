"""The course of a batch: what is done next, told what was answered. No server, thread or clock."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from snowplow_logging.delivery.delivery import Aside, Connection, Delivery, Send, Settle, Wait
from snowplow_logging.delivery.retry import Answer, Outcome

TAKEN = Answer(Outcome.TAKEN)
RETRY = Answer(Outcome.RETRY, "no answer")
BUSY = Answer(Outcome.RETRY, "answered 503", server_error=True)
SPLIT = Answer(Outcome.SPLIT, "answered 413")
REFUSED = Answer(Outcome.REFUSED, "answered 400")
LATER = Answer(Outcome.RETRY, "answered 429", retry_after=7)


def longest(_, high):
    """Draw the longest delay."""
    return high


class Course:
    """Drives deliveries as a sending thread does, and keeps what they do.

    Args:
        count: The events of the first batch.
        answer: Called with the events of a request; its answer.
    """

    def __init__(self, count, answer, **settings):
        self.answer = answer
        self.settings = {"max_attempts": None, "max_retry_delay": 60, "draw": longest, **settings}
        self.connection = Connection()
        self.waiting = deque()
        self.aside = deque()
        self.requests, self.waits, self.settled, self.order = [], [], {}, []
        self.retried = 0
        self.add(range(count))

    def add(self, events):
        """Put a batch behind those that wait."""
        self.waiting.append(
            (list(events), Delivery(list(events), connection=self.connection, **self.settings))
        )

    def run(self, requests=10_000):
        """Go on until all is settled, or so many requests have been made."""
        asides_turn = False
        while self.waiting or self.aside:
            source = (
                self.aside if self.aside and (asides_turn or not self.waiting) else self.waiting
            )
            asides_turn = source is self.waiting
            if not self.deliver(*source.popleft(), requests):
                return
        assert self.waits[-1:] == [] or self.requests

    def deliver(self, left, delivery, requests):
        """Lead one batch to its end; return False where too many requests have been made."""
        while (step := delivery.next()) is not None:
            if isinstance(step, Send):
                if len(self.requests) == requests:
                    return False
                assert list(step.payloads) == left[: len(step.payloads)]
                assert step.payloads
                seen = {event for request in self.requests for event in request}
                assert step.again is (step.payloads[0] in seen)
                self.retried += step.again * len(step.payloads)
                self.requests.append(list(step.payloads))
                answer = self.answer(list(step.payloads))
                delivery.answered(answer)
                failed = answer.outcome is Outcome.RETRY
                assert (self.connection.failures > 0) is failed
                assert (self.connection.pause > 0) <= failed
            elif isinstance(step, Wait):
                assert step.seconds == self.connection.pause
                self.waits.append(step)
            else:
                part, left[: step.count] = left[: step.count], []
                assert len(part) == step.count > 0
                if isinstance(step, Aside):
                    self.aside.append((part, step.delivery))
                else:
                    assert isinstance(step, Settle)
                    assert (step.failure is None) == (step.loss is None)
                    self.order += part
                    for event in part:
                        assert event not in self.settled
                        self.settled[event] = step
        assert left == []
        return True

    def attempts(self, event):
        """Return how many requests an event was in."""
        return sum(event in request for request in self.requests)


def scripted(*answers):
    """Return what answers as it is told, and then takes all."""
    left = deque(answers)
    return lambda _: left.popleft() if left else TAKEN


def splits(events):
    """Return SPLIT where that makes sense, as the retry rule does."""
    return SPLIT if len(events) > 1 else REFUSED


def test_nothing_is_done_for_no_events():
    """An empty batch is at its end."""
    assert Delivery([], None, 60, Connection()).next() is None


def test_a_batch_that_is_taken_is_one_request():
    """Send, settle, done."""
    course = Course(3, scripted())
    course.run()
    assert course.requests == [[0, 1, 2]]
    assert course.settled == dict.fromkeys(range(3), Settle(3))
    assert (course.waits, course.retried) == ([], 0)


def test_each_failure_doubles_the_wait_and_a_success_ends_that():
    """The back-off belongs to the connection and outlives the batch."""
    course = Course(1, scripted(RETRY, RETRY, BUSY, TAKEN, RETRY))
    course.add([1])
    course.run()
    assert [wait.seconds for wait in course.waits] == [0.5, 1, 2, 0.5]
    assert [wait.reason for wait in course.waits] == [
        *["no answer"] * 2,
        "answered 503",
        "no answer",
    ]


def test_a_wait_goes_on_with_the_next_batch():
    """A batch that is given up leaves the server no less in trouble."""
    course = Course(1, scripted(RETRY, RETRY, RETRY), max_attempts=2)
    course.add([1])
    course.run()
    assert [wait.seconds for wait in course.waits] == [0.5, 1, 2]
    assert course.settled[0] == Settle(1, "no answer (after 2 attempts)", "max_attempts")
    assert course.settled[1] == Settle(1)


def test_retry_after_is_the_least_wait():
    """It is asked for by the answer, and capped by the setting."""
    for cap, expected in ((60, 7), (5, 5)):
        course = Course(1, scripted(LATER), max_retry_delay=cap)
        course.run()
        assert [wait.seconds for wait in course.waits] == [expected]


def test_what_is_to_be_mended_is_said_with_the_wait():
    """The report does not have to wait for anything."""
    course = Course(1, scripted(Answer(Outcome.RETRY, "answered 404", at_once=True), RETRY))
    course.run()
    assert [wait.at_once for wait in course.waits] == [True, False]


def test_what_is_refused_costs_one_request():
    """It is given up as a whole, and says why."""
    course = Course(2, scripted(REFUSED))
    course.run()
    assert course.settled[1] == Settle(2, "answered 400", "refused by the collector")
    assert len(course.requests) == 1


def test_halves_keep_the_attempts_of_the_whole():
    """A limit of two is two requests for each event, and not two for each half."""
    course = Course(100, splits, max_attempts=2)
    course.run()
    assert course.requests == [list(range(100)), list(range(50)), list(range(50, 100))]
    assert course.settled[99].failure == "answered 413 (after 2 attempts)"
    assert course.retried == 100


def test_an_event_too_large_costs_only_itself():
    """The others are taken, in their order."""
    course = Course(9, lambda events: splits(events) if 5 in events else TAKEN)
    course.run()
    assert course.order == list(range(9))
    assert [event for event, step in course.settled.items() if step.failure] == [5]


def test_a_short_outage_leaves_a_batch_whole():
    """Four 5xx say nothing of an event."""
    course = Course(8, scripted(*[BUSY] * 4))
    course.run()
    assert {len(request) for request in course.requests} == {8}


def test_what_is_no_5xx_says_nothing_of_an_event():
    """A server that is not there at all keeps the batch whole and in order."""
    course = Course(8, scripted(*[RETRY] * 50, *[BUSY, BUSY, RETRY] * 50))
    course.run()
    assert {len(request) for request in course.requests} == {8}


@given(
    count=st.integers(1, 40),
    poison=st.sets(st.integers(0, 39), max_size=4),
    batches=st.integers(0, 3),
)
def test_an_event_that_gets_5xx_steps_aside(count, poison, batches):
    """However the bad ones lie, all others are taken before long, and the bad ones kept."""
    course = Course(count, lambda events: BUSY if poison & set(events) else TAKEN)
    total = count
    for _ in range(batches):
        course.add(range(total, total + count))
        total += count
    good = set(range(total)) - poison
    course.run(requests=50 + 20 * len(poison) + 4 * total)
    assert {event for event, step in course.settled.items() if not step.failure} == good
    assert not any(step.failure for step in course.settled.values())


def test_an_event_that_alone_gets_5xx_is_given_up_in_the_end():
    """The collector has to have taken others between thirty of its attempts."""
    course = Course(1, lambda events: BUSY if 0 in events else TAKEN)
    for event in range(1, 100):
        course.add([event])
    course.run(requests=500)
    assert course.settled[0].loss == "refused by the collector"
    assert "while it took others" in course.settled[0].failure
    assert course.attempts(0) >= 30
    assert len(course.settled) == 100


@given(count=st.integers(1, 50), outage=st.integers(0, 300))
def test_an_outage_loses_nothing_and_leaves_few_single_events(count, outage):
    """While nothing is taken nothing is given up, and most events stay together."""
    course = Course(count, scripted(*[BUSY] * outage))
    course.run()
    assert all(step.failure is None for step in course.settled.values())
    assert set(course.settled) == set(range(count))
    assert len(course.requests) <= outage + count


ANSWERS = st.sampled_from([TAKEN, RETRY, BUSY, BUSY, SPLIT, REFUSED, LATER])


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    answers=st.lists(ANSWERS, max_size=120),
    max_attempts=st.none() | st.integers(1, 8),
    cap=st.floats(0.01, 100),
)
def test_each_event_is_settled_once_whatever_is_answered(counts, answers, max_attempts, cap):
    """Attempts are bounded for each event, waits by the setting, and nothing gets lost."""
    left = deque(answers)

    def answer(events):
        told = left.popleft() if left else TAKEN
        return splits(events) if told is SPLIT else told

    course = Course(counts[0], answer, max_attempts=max_attempts, max_retry_delay=cap)
    total = counts[0]
    for count in counts[1:]:
        course.add(range(total, total + count))
        total += count
    course.run()
    assert set(course.settled) == set(range(total))
    assert all(wait.seconds <= cap for wait in course.waits)
    assert course.retried == sum(map(course.attempts, range(total))) - total
    assert len(course.requests) <= len(answers) + 2 * total
    if max_attempts is not None:
        assert all(course.attempts(event) <= max_attempts for event in range(total))
    failed = [event for event, step in course.settled.items() if step.failure is not None]
    if not ({REFUSED, SPLIT} & set(answers) or max_attempts):
        assert failed == []


@given(answers=st.lists(ANSWERS, max_size=60), count=st.integers(1, 12))
def test_events_keep_their_order_unless_one_steps_aside(answers, count):
    """What a batch settles it settles from the front."""
    few = [RETRY if answer is BUSY else answer for answer in answers]
    left = deque(few)

    def answer(events):
        told = left.popleft() if left else TAKEN
        return splits(events) if told is SPLIT else told

    course = Course(count, answer)
    course.run()
    assert course.order == list(range(count))
