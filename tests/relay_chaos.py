"""Kills who logs, the relay and the broker, again and again, and sees that no event is lost.

Run it alone (`python tests/relay_chaos.py redis --rounds 50 --seed 1`), or for a few rounds in the
tests. Programs log all the time, to a broker or into a store with `send=False`; one or two relays
send to a collector that answers at random (see `chaos`). In each round one of the processes is
killed with SIGKILL at a random moment, and replaced. In the end the relays empty what is left, and
what has arrived is compared with what had been acknowledged: by the broker to the program that
logs, or by the return of the log call where it writes into a store.

None of that may be missing, and copies may differ in `stm` alone. The exit status is 0 if that is
so. The servers of Redis and Kafka write their files before each answer; the one of SQS is
never killed, for it has its messages in memory.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos import ChaoticCollector
from kafka_servers import KafkaServer
from rabbitmq_servers import RabbitMQServer
from redis_servers import RedisServer
from relays import Relay, eventually
from snowplow_logging import SnowplowHandler, StructuredEvent
from sqs_servers import SQSServer


def log(arguments):
    """Log until killed, and note what was acknowledged."""
    note = os.open(arguments.note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def taken(events):
        os.write(note, "".join(f"{event['se_ac']}\n" for event in events).encode())

    where = (
        {"store": arguments.url, "send": False}
        if arguments.kind == "store"
        else {"broker": arguments.url, "flush_interval": 0.02, "batch_size": 50}
    )
    handler = SnowplowHandler(max_retry_delay=0.2, on_success=taken, **where)
    logger = logging.getLogger("chaos")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    logging.getLogger("snowplow_logging").addHandler(logging.NullHandler())
    chance, name, number = random.Random(arguments.note), Path(arguments.note).stem, 0
    print("logging", flush=True)
    while True:
        for _ in range(chance.randrange(1, 40)):
            number += 1
            event = StructuredEvent(category="chaos", action=f"{name}-{number}", label="é😀" * 20)
            logger.info(event)
        time.sleep(chance.random() * 0.02)


BROKERS = {
    "kafka": KafkaServer,
    "rabbitmq": RabbitMQServer,
    "redis": RedisServer,
    "sqs": SQSServer,
}
FORGETFUL = ("sqs", "store")  # the first has a server for tests in memory, the second none


class Play:
    """The processes of one play.

    Args:
        kind: `store`, or that of a broker.
        folder: Where all files are.
        collector: Where the relays send to.
        chance: Draws.
    """

    def __init__(self, kind, folder, collector, chance):
        self.kind, self.folder, self.collector, self.chance = kind, folder, collector, chance
        self.broker = BROKERS[kind](folder / kind) if kind in BROKERS else None
        if self.broker is not None:
            self.broker.start()
        self.url = str(folder / "events.db") if self.broker is None else self.broker.url
        self.started = 0
        self.kills = Counter()
        self.programs = [self.program() for _ in range(2)]
        self.relays = [self.relay() for _ in range(2)]

    def program(self):
        """Start a program that logs."""
        self.started += 1
        note = self.folder / f"{self.started}.note"
        command = [sys.executable, __file__, self.kind, "--url", self.url, "--note", note]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def relay(self):
        """Start a relay."""
        source = ("--store",) if self.kind == "store" else ("--claim-after", 1, "--broker")
        options = ("--max-retry-delay", 0.3, "--batch-size", 100, "--connections", 2)
        return Relay(*options, *source, self.url, endpoint=self.collector)

    def kill(self, what):
        """Kill one process, and start another in its place."""
        self.kills[what] += 1
        if what == "broker":
            self.broker.kill()
            time.sleep(self.chance.random() * 0.5)
            self.broker.start()
        elif what == "relay":
            index = self.chance.randrange(len(self.relays))
            with self.relays[index]:
                pass
            self.relays[index] = self.relay()
            if self.chance.random() < 0.8:  # else the next kill may come while it starts
                self.relays[index].started()
        else:
            index = self.chance.randrange(len(self.programs))
            self._kill(self.programs[index])
            self.programs[index] = self.program()
            if self.chance.random() < 0.8:
                self.programs[index].stdout.readline()

    @staticmethod
    def _kill(program):
        program.kill()
        program.wait()
        program.stdout.close()

    def end(self):
        """Kill who logs, and let the relays send what is left; return what was acknowledged."""
        for program in self.programs:
            self._kill(program)
        self.collector.chaotic = False
        while self.relays:
            eventually(lambda: not self.left())
            for relay in self.relays:
                with relay:
                    relay.started()
                    print(f"a relay             {relay.end().splitlines()[-1]}")
            # RabbitMQ does not count what relays have taken, which they give back at their end.
            self.relays = [self.relay()] if self.left() else []
        if self.broker is not None:
            self.broker.__exit__()
        return {
            name
            for note in self.folder.glob("*.note")
            for name in note.read_text().split("\n")[:-1]  # the last one may be cut
        }

    def left(self):
        """Return how much is left."""
        if self.kind == "redis":
            return self.broker.client.xlen("snowplow")
        if self.broker is not None:
            return self.broker.count()
        from test_relay_store import rows

        return rows(self.url)


def run(kind, rounds, seed):
    """Play so many rounds, print the counts, and return whether all is well."""
    print(f"{kind}, seed {seed}, {rounds} rounds")
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp())
    with ChaoticCollector(seed) as collector:
        play = Play(kind, folder, collector, chance)
        for program in play.programs:
            assert program.stdout.readline() == b"logging\n"
        time.sleep(2)  # RabbitMQ knows a new queue for good only after half a second
        parts = ["program", "relay"] + ["broker"] * (kind not in FORGETFUL)
        for number in range(rounds):
            time.sleep(chance.random() * 1.0)
            play.kill(parts[number % len(parts)])
        time.sleep(1)
        acknowledged = play.end()
        arrived = {}
        for event in collector.events:
            assert len(event.pop("stm")) == 13
            arrived.setdefault(event["se_ac"], []).append(event)
    lost = sorted(acknowledged - arrived.keys())
    changed = [name for name, same in arrived.items() if any(one != same[0] for one in same)]
    print(f"acknowledged       {len(acknowledged):>8,}")
    print(f"arrived            {len(arrived):>8,}")
    print(f"doubled            {sum(len(same) - 1 for same in arrived.values()):>8,}")
    print("kills              " + ", ".join(f"{n} of {what}" for what, n in play.kills.items()))
    print("answers            " + ", ".join(f"{n:,} of {k}" for k, n in collector.kinds.items()))
    print(f"lost {len(lost)} {lost[:5]}, changed {len(changed)} {changed[:5]}")
    if lost or changed or not acknowledged:
        print(f"kept for a look: {folder}")
        return False
    shutil.rmtree(folder)
    return True


def main():
    """Play, or log, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=(*BROKERS, "store"))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    for option in ("--url", "--note"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.note:
        return log(arguments)
    return 0 if run(arguments.kind, arguments.rounds, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
