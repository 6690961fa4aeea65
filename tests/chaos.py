"""Kills programs that log into a store, again and again, and sees that no event is lost.

Run it alone (`python tests/chaos.py --rounds 50 --seed 1`), or for a few rounds in the tests. In
each round one or several processes log into one store, half of them with `store_sync`, while the
collector answers at random: at once, late, after the sender has given up, with an error, with a
reset, or not at all. They are killed with SIGKILL at a random moment. In the end one more process
empties the store, and what has arrived is compared with what had reached the store:

* with `store_sync` that is what a process has noted in a file of its own once its log call had
  returned,
* without it, and with it as well, what the store's file holds between two rounds.

None may be missing, and none may have changed but in `stm`. The exit status is 0 if that is so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from faulty_collector import DROP, RESET, Answer, FaultyCollector
from snowplow_logging import SnowplowHandler, StructuredEvent
from snowplow_logging.delivery import store

TIMEOUT = 0.5  # seconds after which a process gives up a request
ANSWERS = {
    "200": (45, Answer()),
    "200 slow": (12, Answer(after=0.2)),
    "200 too late": (3, Answer(after=TIMEOUT * 2)),
    "503": (12, Answer(503)),
    "429": (10, Answer(429, {"Retry-After": "1"})),
    "500": (5, Answer(500)),
    "reset": (10, RESET),
    "no answer": (3, DROP),
}


class ChaoticCollector(FaultyCollector):
    """Answers at random, and counts its answers by kind."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.kinds = Counter()
        self.chaotic = True
        super().__init__(default=self.choose)

    def choose(self, events):
        """Return an answer."""
        kind = "200"
        if self.chaotic:
            weights = [weight for weight, _ in ANSWERS.values()]
            (kind,) = self.chance.choices(list(ANSWERS), weights)
        self.kinds[kind] += 1
        return ANSWERS[kind][1]


def log(arguments):
    """Log until killed, or, where told to drain, until the store is empty."""
    # So that processes which live for a second take over from each other.
    store._RECOVER_INTERVAL = 0.1
    handler = SnowplowHandler(
        arguments.endpoint,
        store=arguments.store,
        store_sync=arguments.sync,
        flush_interval=0.05,
        batch_size=50,
        timeout=TIMEOUT,
        max_retry_delay=0.3,
        connections=arguments.connections,
    )
    if arguments.drain:
        until = time.monotonic() + 60
        while rows(arguments.store) and time.monotonic() < until:
            time.sleep(0.1)
        handler.close()
        print(handler.stats)
        return
    logger = logging.getLogger("chaos")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
    chance = random.Random(arguments.name)
    note = os.open(arguments.note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    print("logging", flush=True)
    number = 0
    while True:
        for _ in range(chance.randrange(1, 40)):
            number += 1
            name = f"{arguments.name}-{number}"
            text = "é😀" * chance.randrange(50)
            event = StructuredEvent(category="chaos", action=name, label=text, value=number)
            logger.info(event)
            os.write(note, f"{name}\n".encode())
        time.sleep(chance.random() * 0.02)


def start(collector, path, note, *, sync=False, connections=1, drain=False):
    """Start a process that logs or drains."""
    command = [sys.executable, __file__, "--log", "--name", note.stem, "--note", note]
    command += ["--endpoint", collector.endpoint, "--store", path]
    command += ["--connections", str(connections)]
    command += ["--sync"] * sync + ["--drain"] * drain
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def rows(path):
    """Return the events in the store."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        try:
            payloads = connection.execute("SELECT payload FROM events").fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []  # killed before it was made
    return [json.loads(payload + b"}") for (payload,) in payloads]


def play(collector, path, number, chance, found):
    """Play one round, and return the names that had reached the store for certain."""
    if chance.random() < 0.25:
        collector.stop()  # down for a while, or for the whole round
        threading.Timer(chance.random(), collector.start).start()
    processes = {}
    for index in range(chance.choice((1, 1, 1, 2, 3))):
        sync = chance.random() < 0.5
        note = path.with_name(f"{number}-{index}.{'sync' if sync else 'later'}")
        process = start(collector, path, note, sync=sync, connections=chance.choice((1, 1, 4)))
        processes[process] = note
    early = chance.random() < 0.15  # killed while it starts and takes over, or later
    for process in processes:
        if not early:
            assert process.stdout.readline() == b"logging\n"
    time.sleep(chance.random() * 1.5)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found["kills"] += 1
    for note in processes.values():
        if note.exists():
            lines = note.read_text().split("\n")[:-1]
            found["logged"] += len(lines)
            if note.suffix == ".sync":
                yield from lines


def look(path):
    """Return the events in a copy of the store, because who reads the file itself also mends it."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f"{path.name}*"):
            shutil.copy(file, folder)
        return rows(Path(folder) / path.name)


def run(rounds, seed):
    """Play so many rounds, print the counts, and return whether all is well."""
    print(f"seed {seed}, {rounds} rounds")
    chance = random.Random(seed)
    found = Counter()
    reached = set()
    kept = {}
    path = Path(tempfile.mkdtemp()) / "events.db"
    with ChaoticCollector(seed) as collector:
        for number in range(rounds):
            reached.update(play(collector, path, number, chance, found))
            kept.update({event["se_ac"]: event for event in look(path)})
            for timer in [t for t in threading.enumerate() if isinstance(t, threading.Timer)]:
                timer.join()
        collector.chaotic = False
        process = start(collector, path, path.with_name("drain"), drain=True)
        drained, _ = process.communicate(timeout=90)
        left = len(rows(path))
        aside = [file.name for file in path.parent.glob("events.db.*")]
        arrived = {}
        for event in collector.events:
            stamp = event.pop("stm")
            assert len(stamp) == 13
            assert stamp.isdecimal()
            arrived.setdefault(event["se_ac"], []).append(event)
    reached |= kept.keys()
    lost = sorted(reached - arrived.keys())
    copies = {name: [*events, kept.get(name, events[0])] for name, events in arrived.items()}
    changed = sorted(name for name, same in copies.items() if any(e != same[0] for e in same))
    duplicates = sum(len(events) - 1 for events in arrived.values())
    print(f"events logged      {found['logged']:>8,}")
    print(f"reached the store  {len(reached):>8,}")
    print(f"arrived            {len(arrived):>8,}")
    print(f"duplicates         {duplicates:>8,}")
    print(f"kills              {found['kills']:>8,}")
    print("answers            " + ", ".join(f"{n:,} of {k}" for k, n in collector.kinds.items()))
    print(
        f"lost {len(lost)} {lost[:5]}, changed {len(changed)} {changed[:5]}, left {left}, {aside}"
    )
    print(f"the last process    {drained.decode().strip()}")
    if lost or changed or left or aside or process.returncode:
        print(f"kept for a look: {path.parent}")
        return False
    shutil.rmtree(path.parent)
    return True


def main():
    """Play, or log, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    for flag in ("--log", "--sync", "--drain"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for option in ("--name", "--note", "--endpoint", "--store"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    parser.add_argument("--connections", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.log:
        return log(arguments)
    return 0 if run(arguments.rounds, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
