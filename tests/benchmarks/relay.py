"""How fast events go through Redis: handlers that give them, and a relay that sends them.

`python tests/benchmarks/relay.py [--events 1000000]` starts a server of Redis and a sink, and
measures

* a handler with a broker against one with a collector: events a second until all are taken, and
  the CPU seconds of its process for 100,000 events,
* a relay with two connections that drains a backlog: events a second, CPU seconds, and the most
  memory that it ever took.

Where the machine does other things as well the figures say little.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from redis_servers import RedisServer
from snowplow_logging import SnowplowHandler, StructuredEvent
from snowplow_logging.brokers.message import pack

_SINK = Path(__file__).with_name("sink.py")
_LABEL = "x" * 250


def log(where, url, count):
    """Log so many events, and print the seconds and the CPU seconds that it took."""
    handler = SnowplowHandler(**{where: url}, queue_size=count + 1, queue_bytes=2**33)
    logger = logging.Logger("benchmark")
    logger.addHandler(handler)
    event = StructuredEvent(category="benchmark", action="relay", label=_LABEL)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        logger.info(event)
    assert handler.flush(600)
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]))
    handler.close()


def measured(where, url, count):
    """Return the best of three runs of `log` in a process of its own."""
    command = [sys.executable, __file__, "--log", where, url, "--events", str(count)]
    return min(json.loads(subprocess.check_output(command)) for _ in range(3))


def fill(redis, count):
    """Write a backlog, in messages of 500 events."""
    payload = b'{"e":"se","p":"srv","tv":"py-benchmark","tna":"benchmark","dtm":"1700000000000",'
    payload += b'"eid":"%036d","se_ca":"benchmark","se_ac":"relay","se_la":"%s"'
    label = b"x" * 400
    pipe = redis.client.pipeline(transaction=False)
    for start in range(0, count, 500):
        pipe.xadd("snowplow", {"batch": pack([payload % (start + i, label) for i in range(500)])})
        if start % 50_000 == 0:
            pipe.execute()
    pipe.execute()


def counted(port):
    """Return what the sink has got."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts") as answer:
        return json.load(answer)["events"]


def drain(redis, port, count):
    """Return the seconds, the CPU seconds and the most memory of a relay that empties a stream."""
    command = [sys.executable, "-m", "snowplow_logging", "relay", "--broker", redis.url]
    command += ["--endpoint", f"http://127.0.0.1:{port}", "--connections", "2"]
    relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    relay.stdout.readline()
    before, start = counted(port), time.perf_counter()
    half = 0
    while (got := counted(port) - before) < count:
        if not half and got > count / 2:
            half = peak(relay.pid)
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    while redis.client.xlen("snowplow"):
        time.sleep(0.01)
    ticks = Path(f"/proc/{relay.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    most = peak(relay.pid)
    relay.terminate()
    print(relay.communicate()[0].strip())
    return seconds, cpu, half, most


def peak(pid):
    """Return the most memory that a process has ever taken, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1_024
    return 0


def main():
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--log", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.log:
        log(*arguments.log, arguments.events)
        return
    sink = subprocess.Popen(
        [sys.executable, _SINK, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    (port,) = json.loads(sink.stdout.readline())
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis", "--appendfsync", "everysec") as redis,
    ):
        count = min(100_000, arguments.events)
        for where, url in (("endpoint", f"http://127.0.0.1:{port}"), ("broker", redis.url)):
            seconds, cpu = measured(where, url, count)
            rate, cpu = count / seconds, cpu * 100_000 / count
            print(f"a handler with {where:<9} {rate:>10,.0f} events/s {cpu:>6.2f} CPU s/100,000")
        redis.client.flushall()
        fill(redis, arguments.events)
        seconds, cpu, half, most = drain(redis, port, arguments.events)
        rate, cpu = arguments.events / seconds, cpu * 100_000 / arguments.events
        print(f"a relay of {arguments.events:,} {rate:>10,.0f} events/s {cpu:>6.2f} CPU s/100,000")
        print(f"its memory: {half:,.0f} MB after half of them, {most:,.0f} MB in the end")
    sink.kill()


if __name__ == "__main__":
    main()
