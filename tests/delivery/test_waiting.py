"""What the parts of delivery wait with."""

from __future__ import annotations

import signal
import threading
from itertools import repeat

import pytest

from snowplow_logging.delivery.waiting import new_lock

pytestmark = pytest.mark.every_python


class Interrupted(Exception):
    """Raised by a signal handler."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such signals")
def test_a_lock_is_given_back_whatever_a_signal_handler_raises():
    """Wherever in a `with` it does: Python 3.14 leaves the block right before it begins."""
    lock, interrupts = new_lock(), 0

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while interrupts < 500:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00005)
                for _ in repeat(None):
                    with lock:
                        pass
            except Interrupted:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=10)))
    thread.start()
    thread.join()
    assert taken == [True]


def test_a_lock_may_be_taken_again_by_who_has_it():
    """As often as wanted, and is free for others when it was given back as often."""
    lock, taken = new_lock(), []
    with lock, lock:
        pass
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert taken == [True]
