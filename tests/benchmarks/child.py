"""One measurement, made in a process of its own and printed as a JSON object.

`run.py` runs it with one argument, a JSON object: `measure` names a function below, `orjson` says
whether that is to be there, and the rest are the function's arguments.
"""

import gc
import json
import os
import queue
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

WARM_UP = 200  # events before anything is measured


def _timed(log: Callable[[int], Any], numbers: range) -> list[int]:
    """Return the nanoseconds of each call."""
    clock = time.perf_counter_ns
    times = [0] * len(numbers)
    for index, number in enumerate(numbers):
        start = clock()
        log(number)
        times[index] = clock() - start
    return times


def stream(
    contender: str, endpoint: str, events: int, threads: int, **settings: Any
) -> dict[str, float]:
    """Log events as fast as it goes, and wait until the last of them has arrived."""
    from contenders import CONTENDERS

    way = CONTENDERS[contender](endpoint, **settings)
    for number in range(WARM_UP):
        way.log(number)
    way.flush()
    # What is measured where nothing is called, so that the clock itself does not count.
    clock_ns = statistics.median(_timed(lambda _: None, range(20_000)))

    each = events // threads
    times: list[int] = []
    thread_seconds = 0.0
    lock = threading.Lock()
    barrier = threading.Barrier(threads + 1)

    def work(first: int) -> None:
        nonlocal thread_seconds
        barrier.wait()
        start = time.thread_time()
        its_times = _timed(way.log, range(first, first + each))
        with lock:
            thread_seconds += time.thread_time() - start
            times.extend(its_times)

    workers = [threading.Thread(target=work, args=(each * n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    gc.collect()
    start, start_cpu = time.perf_counter(), time.process_time()
    barrier.wait()
    for worker in workers:
        worker.join()
    way.flush()
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    times.sort()
    count = len(times)
    return {
        "call_us": (sum(times) / count - clock_ns) / 1000,
        "call_p50_us": (times[count // 2] - clock_ns) / 1000,
        "call_p99_us": (times[count * 99 // 100] - clock_ns) / 1000,
        "call_cpu_us": (thread_seconds / count * 1e9 - clock_ns) / 1000,
        "events_per_s": count / seconds,
        "cpu_s_per_100k": cpu / count * 100_000,
        "arriving": 0 if contender == "queue_handler" else WARM_UP + count,
    }


def _resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def queued(contender: str, endpoint: str, events: int, **settings: Any) -> dict[str, float]:
    """Return how events grow the process while nobody takes them."""
    from contenders import CONTENDERS, log, logger_with

    way = CONTENDERS[contender](endpoint, **settings)
    for number in range(WARM_UP):
        way.log(number)
    way.flush()
    with socket.socket() as nobody:  # bound and not listening: it refuses every connection
        nobody.bind(("127.0.0.1", 0))
        if contender == "queue_handler":
            to_nobody = partial(log, logger_with(QueueHandler(queue.Queue())))
        else:
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
            to_nobody = CONTENDERS[contender](url, **settings).log
        to_nobody(0)
        before = _resident_mb()
        for number in range(events):
            to_nobody(number)
        growth = _resident_mb() - before
    return {"growth_mb": growth, "arriving": 0 if contender == "queue_handler" else WARM_UP}


def sent(contender: str, endpoint: str, events: int, **settings: Any) -> dict[str, float]:
    """Return how the process has grown once very many events have been sent."""
    from contenders import CONTENDERS

    way = CONTENDERS[contender](endpoint, **settings)
    for number in range(events // 10):
        way.log(number)
    way.flush()
    before = _resident_mb()
    for number in range(events):
        way.log(number)
    way.flush()
    return {"growth_mb": _resident_mb() - before, "arriving": events // 10 + events}


def main() -> None:
    """Make the measurement that the command line asks for."""
    request = json.loads(sys.argv[1])
    if not request.pop("orjson"):
        sys.modules["orjson"] = None  # type: ignore[assignment]  # so that its import fails
    measure = request.pop("measure")
    if measure == "promises":
        from promises import measure as chosen
    else:
        chosen = {f.__name__: f for f in (stream, queued, sent)}[measure]
    print(json.dumps(chosen(**request)), flush=True)
    # How a contender ends is not measured, and one that nobody listens to would take its time.
    os._exit(0)


if __name__ == "__main__":
    main()
