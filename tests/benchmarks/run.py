"""Compare what tracking costs, in time, processor and memory.

    python tests/benchmarks/run.py [--quick] [--output FOLDER]

Each measurement is made in a fresh process, by `child.py`, against a collector in a process of its
own that does nothing but count, `sink.py`. The contenders take turns, round by round; what is
reported is the median of the rounds with the least and the most. A ratio is made within each
round, so that whatever else the machine does meets both sides of it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from picture import Column, picture

HERE: Final = Path(__file__).parent
# So that what is imported is compiled once, and not in each process anew.
ENVIRONMENT: Final = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
FAR: Final = 0.05  # seconds that a distant collector takes to answer

CONTENDERS: Final[dict[str, dict[str, Any]]] = {
    "fast": {"contender": "snowplow_logging"},
    "fast, 4": {"contender": "snowplow_logging", "connections": 4},
    "plain": {"contender": "snowplow_logging", "orjson": False},
    "queue": {"contender": "queue_handler"},
    "sync": {"contender": "snowplow_tracker", "emitter": "Emitter", "session": True},
    "async": {"contender": "snowplow_tracker", "emitter": "AsyncEmitter", "session": False},
    "async, session": {"contender": "snowplow_tracker", "emitter": "AsyncEmitter", "session": True},
    # With the size of this library's batches, which takes the trackers fewer requests.
    "sync, 500": {
        "contender": "snowplow_tracker",
        "emitter": "Emitter",
        "session": True,
        "batch_size": 500,
    },
    "async, 500": {
        "contender": "snowplow_tracker",
        "emitter": "AsyncEmitter",
        "session": True,
        "batch_size": 500,
    },
}
"""What `child.py` is told of each."""

TITLES: Final = {
    "fast": "snowplow-logging with orjson",
    "fast, 4": "snowplow-logging with connections=4",
    "plain": "snowplow-logging without orjson",
    "queue": "logging's QueueHandler, which sends nothing",
    "sync": "snowplow-tracker Emitter, a session",
    "async": "snowplow-tracker AsyncEmitter",
    "async, session": "snowplow-tracker AsyncEmitter, a session",
    "sync, 500": "snowplow-tracker Emitter, a session, batches of 500",
    "async, 500": "snowplow-tracker AsyncEmitter, a session, batches of 500",
}


@dataclass(frozen=True)
class Scenario:
    """What some contenders are measured in.

    Attributes:
        title: What it is.
        measure: The function of `child.py`.
        events: How many events each contender logs.
        arguments: What the function takes besides.
        latency: The seconds that the collector takes to answer.
        rounds: How often each is measured.
        quick_rounds: The same in a quick run.
        quick_share: The share of the events that a quick run logs.
    """

    title: str
    measure: str
    events: Mapping[str, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    latency: float = 0.0
    rounds: int = 3
    quick_rounds: int = 1
    quick_share: float = 1.0


SENDERS: Final = ("fast", "plain", "sync", "async", "async, session")
FAR_EVENTS: Final = {
    "fast": 10_000,
    "fast, 4": 20_000,
    "plain": 10_000,
    "sync": 2_000,
    "async": 4_000,
    "async, session": 4_000,
}

SCENARIOS: Final = {
    "near": Scenario(
        "One thread, and a collector that answers at once",
        "stream",
        dict.fromkeys(("queue", *SENDERS, "sync, 500", "async, 500"), 40_000),
        {"threads": 1},
        rounds=9,
        quick_rounds=2,
        quick_share=0.25,
    ),
    "near, 8 threads": Scenario(
        "Eight threads at once, and a collector that answers at once",
        "stream",
        dict.fromkeys(("queue", *SENDERS), 40_000),
        {"threads": 8},
        rounds=5,
        quick_share=0.25,
    ),
    "far": Scenario(
        "One thread, and a collector that answers after 50 ms",
        "stream",
        FAR_EVENTS,
        {"threads": 1},
        latency=FAR,
        rounds=5,
        quick_share=0.25,
    ),
    "far, 8 threads": Scenario(
        "Eight threads at once, and a collector that answers after 50 ms",
        "stream",
        FAR_EVENTS,
        {"threads": 8},
        latency=FAR,
        quick_rounds=0,
    ),
    "queued": Scenario(
        "10,000 events that nobody takes",
        "queued",
        dict.fromkeys(("fast", "plain", "queue"), 10_000),
    ),
    "sent": Scenario(
        "A million events sent",
        "sent",
        dict.fromkeys(("fast", "plain"), 1_000_000),
        {"queue_size": 10_000, "on_full": "block", "block_timeout": 60.0},
        rounds=1,
        quick_rounds=0,
    ),
    "import": Scenario(
        "Importing the library, and making what tracks",
        "importing",
        dict.fromkeys(("fast", "sync"), 0),
        rounds=15,
        quick_rounds=3,
    ),
}

UNITS: Final = {
    "call_us": ("log call", "µs", 1),
    "call_p50_us": ("median", "µs", 1),
    "call_p99_us": ("99th percentile", "µs", 0),
    "call_cpu_us": ("its CPU", "µs", 1),
    "events_per_s": ("events/s", "", 0),
    "cpu_s_per_100k": ("CPU/100,000", "s", 2),
    "bytes_per_event": ("an event", "bytes", 0),
    "growth_mb": ("growth", "MB", 1),
    "import_ms": ("import", "ms", 0),
    "ready_ms": ("until an event can be tracked", "ms", 0),
}
"""The words for each measure, its unit, and the digits that are worth showing."""

Samples = dict[str, dict[str, list[dict[str, float]]]]
"""By scenario and contender, what each round measured."""


@dataclass(frozen=True)
class Goal:
    """What a ratio, or a plain measure, has to be.

    Attributes:
        title: The goal in words.
        scenario: Where it is measured.
        measure: What is measured.
        who: The contender that the goal is for.
        over: The contender that it is compared with, if any.
        at_most: The highest value that meets the goal.
        at_least: The lowest.
    """

    title: str
    scenario: str
    measure: str
    who: str
    over: str | None = None
    at_most: float | None = None
    at_least: float | None = None


GOALS: Final = (
    Goal("log call, of QueueHandler's", "near", "call_us", "fast", "queue", at_most=1.0),
    Goal("log call, of QueueHandler's", "near", "call_us", "plain", "queue", at_most=1.3),
    Goal("log call's median, of QueueHandler's", "near", "call_p50_us", "fast", "queue", 1.0),
    Goal("log call's median, of QueueHandler's", "near", "call_p50_us", "plain", "queue", 1.3),
    Goal(
        "99th percentile with 8 threads, of AsyncEmitter's",
        "near, 8 threads",
        "call_p99_us",
        "fast",
        "async",
        at_most=0.1,
    ),
    Goal("events/s, of AsyncEmitter's", "near", "events_per_s", "fast", "async", at_least=3.0),
    Goal("events/s, of AsyncEmitter's", "near", "events_per_s", "plain", "async", at_least=2.2),
    Goal("events/s, of Emitter's", "near", "events_per_s", "fast", "sync", at_least=1.6),
    Goal("events/s, of Emitter's", "near", "events_per_s", "plain", "sync", at_least=1.2),
    # The seconds of the goals, 1.2 and 1.8, are those of a machine where the queue took 1.25.
    Goal("CPU, of QueueHandler's", "near", "cpu_s_per_100k", "fast", "queue", at_most=1.2 / 1.25),
    Goal("CPU, of QueueHandler's", "near", "cpu_s_per_100k", "plain", "queue", at_most=1.8 / 1.25),
    Goal("CPU s per 100,000 events", "near", "cpu_s_per_100k", "fast", at_most=1.2),
    Goal("CPU s per 100,000 events", "near", "cpu_s_per_100k", "plain", at_most=1.8),
    Goal("events/s at 50 ms, of AsyncEmitter's", "far", "events_per_s", "fast", "async", None, 4.5),
    Goal(
        "events/s at 50 ms with 4 connections, of those with 1",
        "far",
        "events_per_s",
        "fast, 4",
        "fast",
        at_least=3.5,
    ),
    Goal("MB for 10,000 queued events", "queued", "growth_mb", "fast", at_most=8.0),
    Goal("MB for 10,000 queued events", "queued", "growth_mb", "plain", at_most=8.0),
    Goal("MB after a million events sent", "sent", "growth_mb", "fast", at_most=2.0),
    Goal("MB after a million events sent", "sent", "growth_mb", "plain", at_most=2.0),
    Goal("import time, of snowplow_tracker's", "import", "import_ms", "fast", "sync", at_most=0.6),
)


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Make it of the values themselves."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """Return it as text, `median (least-most)`."""
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f}-{self.most:,.{digits}f})"


@dataclass(frozen=True)
class Sink:
    """The collector, one address for each latency."""

    urls: Mapping[float, str]

    def counts(self, latency: float) -> dict[str, int]:
        """Return what has arrived at an address so far."""
        with urllib.request.urlopen(f"{self.urls[latency]}/counts") as response:
            counts: dict[str, int] = json.load(response)
        return counts


@contextmanager
def running_sink() -> Iterator[Sink]:
    """Run the collector."""
    latencies = (0.0, FAR)
    command = [sys.executable, str(HERE / "sink.py"), *map(str, latencies)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        ports = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        yield Sink(dict(zip(latencies, urls, strict=True)))
        process.stdin.close()  # type: ignore[union-attr]  # which ends it


def measured(script: str, argument: str) -> dict[str, Any]:
    """Have a script make one measurement in a process of its own."""
    command = [sys.executable, str(HERE / script), argument]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode != 0:
        raise SystemExit(f"{script} {argument} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measured_by_child(measure: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Have `child.py` make one measurement."""
    return measured("child.py", json.dumps({"measure": measure, "orjson": True, **arguments}))


def one_round(scenario: Scenario, name: str, sink: Sink, share: float) -> dict[str, float]:
    """Measure one contender once, and see to it that every event has truly arrived."""
    if scenario.measure == "importing":
        return measured("importing.py", CONTENDERS[name]["contender"])
    events = int(scenario.events[name] * share)
    arguments = {**CONTENDERS[name], **scenario.arguments, "events": events}
    before = sink.counts(scenario.latency)
    arguments["endpoint"] = sink.urls[scenario.latency]
    result = measured_by_child(scenario.measure, arguments)
    arrived = {key: n - before[key] for key, n in sink.counts(scenario.latency).items()}
    expected = result.pop("arriving", 0)
    if arrived["events"] != expected:
        raise SystemExit(f"{TITLES[name]}: {arrived['events']:,} of {expected:,} events arrived")
    if expected and scenario.measure == "stream":
        result["bytes_per_event"] = arrived["bytes"] / arrived["events"]
    return result


def run_scenario(scenario: Scenario, sink: Sink, *, quick: bool) -> dict[str, Any]:
    """Measure the contenders of a scenario in turns, beginning with another one each round."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in scenario.events}
    share = scenario.quick_share if quick else 1.0
    for number in range(scenario.quick_rounds if quick else scenario.rounds):
        names = list(scenario.events)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(one_round(scenario, name, sink, share))
    return samples


def table(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table as lines, the first column on the left and the others on the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    ]


def scenario_table(scenario: Scenario, samples: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return what a scenario measured."""
    measures = [m for m in UNITS if any(m in rounds[0] for rounds in samples.values())]
    headings = [" ".join(filter(None, UNITS[measure][:2])) for measure in measures]
    rows = []
    for name, rounds in samples.items():
        row = [TITLES[name]]
        for measure in measures:
            values = [its_measures[measure] for its_measures in rounds if measure in its_measures]
            row.append(Spread.of(values).text(UNITS[measure][2]) if values else "")
        rows.append(row)
    title = f"{scenario.title}; rounds: {len(rounds)}"
    return [title, *table(["", *headings], rows)]


def promises_table(promises: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return what each variant of the log call takes, with and without orjson."""
    rows = []
    for title in promises["fast"]:
        row = [title]
        for kind in ("fast", "plain"):
            times, plain = promises[kind][title], promises[kind]["plain: checked and written"]
            # Within each block, so that it is no matter how busy the machine was just then.
            more = statistics.median(a - b for a, b in zip(times, plain, strict=True))
            row += [Spread.of(times).text(1), f"{more:+.1f}"]
        rows.append(row)
    return [
        "What each promise costs: the log call alone, one thread, in µs, and more than plain",
        *table(["", "with orjson", "", "without", ""], rows),
    ]


def judged(samples: Samples) -> list[dict[str, Any]]:
    """Return each goal that was measured, with what came out."""
    results = []
    for goal in GOALS:
        rounds = samples[goal.scenario][goal.who]
        values = [measures[goal.measure] for measures in rounds]
        if goal.over is not None:
            others = samples[goal.scenario][goal.over]
            values = [a / b[goal.measure] for a, b in zip(values, others, strict=True)]
        if not values:
            continue
        its_spread = Spread.of(values)
        if goal.at_most is not None:
            wanted, met = f"at most {goal.at_most:.2f}", its_spread.median <= goal.at_most
        else:
            wanted, met = f"at least {goal.at_least:.2f}", its_spread.median >= goal.at_least
        results.append(
            {
                "who": TITLES[goal.who],
                "goal": goal.title,
                "wanted": wanted,
                "measured": asdict(its_spread),
                "met": met,
            }
        )
    return results


def goals_table(results: list[dict[str, Any]]) -> list[str]:
    """Return the goals with what was measured."""
    rows = [
        [
            f"{result['goal']} ({result['who']})",
            result["wanted"],
            Spread(**result["measured"]).text(2),
            "met" if result["met"] else "MISSED",
        ]
        for result in results
    ]
    return ["The goals", *table(["", "goal", "measured", ""], rows)]


def picture_columns(samples: Samples) -> list[Column]:
    """Return the columns of the picture."""
    columns = []
    for heading, better, scenario, measure, digits in (
        ("log call,|µs", "less", "near", "call_us", 1),
        ("its 99th percentile|with 8 threads, µs", "less", "near, 8 threads", "call_p99_us", 0),
        ("events a second|", "more", "near", "events_per_s", 0),
        ("events a second|at 50 ms", "more", "far", "events_per_s", 0),
        ("CPU seconds|for 100,000 events", "less", "near", "cpu_s_per_100k", 2),
        ("MB for 10,000|queued events", "less", "queued", "growth_mb", 1),
    ):
        values = {
            TITLES[name]: Spread.of([measures[measure] for measures in rounds]).median
            for name, rounds in samples[scenario].items()
            if rounds
        }
        columns.append(Column(heading, better, values, digits))
    return columns


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    names = ("snowplow-tracker", "requests", "urllib3", "orjson")
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        **{name: version(name) for name in names},
    }


def main() -> None:
    """Measure, print the tables, and write them as JSON and as a picture."""
    parser = argparse.ArgumentParser(description="Compare what tracking an event costs.")
    parser.add_argument(
        "--quick", action="store_true", help="half a minute; rough, and without the longest parts"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where results.json and results.svg go (default: beside this file; of a quick run, "
        "nowhere)",
    )
    options = parser.parse_args()
    start = time.monotonic()
    samples: Samples = {}
    with running_sink() as sink:
        for name in SCENARIOS["import"].events:  # which compiles their bytecode
            one_round(SCENARIOS["import"], name, sink, 1.0)
        for name, scenario in SCENARIOS.items():
            samples[name] = run_scenario(scenario, sink, quick=options.quick)
            if any(samples[name].values()):
                print_lines(scenario_table(scenario, samples[name]))
        promises = {
            name: measured_by_child(
                "promises",
                {
                    "orjson": CONTENDERS[name].get("orjson", True),
                    "endpoint": sink.urls[0.0],
                    "blocks": 3 if options.quick else 30,
                },
            )
            for name in ("fast", "plain")
        }
        print_lines(promises_table(promises))
    goals = judged(samples)
    print_lines(goals_table(goals))
    about = machine()
    caption = ", ".join(f"{key} {value}" for key, value in about.items())
    print_lines([caption, f"It took {time.monotonic() - start:.0f} s."])
    output = options.output or (None if options.quick else HERE)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        results = {"machine": about, "goals": goals, "scenarios": samples, "promises": promises}
        (output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        ours = [TITLES[name] for name in ("fast", "fast, 4", "plain")]
        drawn = picture(list(TITLES.values()), ours, picture_columns(samples), caption)
        (output / "results.svg").write_text(drawn, encoding="utf-8")


def print_lines(lines: list[str]) -> None:
    """Print a table, at once, since the whole takes minutes."""
    print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
