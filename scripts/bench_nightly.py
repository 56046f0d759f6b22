"""How often a night alarms without a change, and how often it catches one: our gates beside simpler ones.

    python scripts/bench_nightly.py --nights 500 --out docs/benchmarks/records/nightly.json

Null nights are drawn from raw rounds of two equal bundles (scripts/nightly_rounds.py) and from simulated machines with
drift, spikes and throttling. A night has 20 cells; each is timed in turns with its reference, as a real night does it.
Slower bundles are the same rounds, multiplied. ``--others PYTHON`` names an interpreter with asv and apache-otava.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.config.nightly import NightlyConfig
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.history.judge import speed_rule
from yolo_slim.history.rows import Compared
from yolo_slim.history.statistics import answers, compare_speed, is_decided
from yolo_slim.machine import cores, device_model
from yolo_slim.workspace.job import versions

CELLS = 20
COMPARISONS = 2 * CELLS
CONFIG = NightlyConfig(models={"m": "m"}, data={"d": "d"})
LOOKS, ERROR, RULE = CONFIG.timing.rounds, CONFIG.gates.false_alarms, speed_rule(CONFIG)
SLOWER = 0.03
SERIES = 60
"""Nights of one series for the methods that look at a history."""
THRESHOLD = 0.1

Latencies = NDArray[np.float64]
Draw = Callable[[np.random.Generator], tuple[Latencies, Latencies]]
"""The reference's and the candidate's medians of one cell's rounds, (LOOKS[-1],) each."""


def from_rounds(path: Path) -> Draw:
    """Runs of consecutive rounds, from a random place of a record."""
    record = read_json(path)
    reference, candidate = np.array(record["reference_ms"]), np.array(record["candidate_ms"])

    def draw(rng: np.random.Generator) -> tuple[Latencies, Latencies]:
        start = rng.integers(0, len(reference) - LOOKS[-1])
        rows = slice(start, start + LOOKS[-1])
        pair = (reference[rows], candidate[rows])
        # Which of two equal bundles is called the reference is a coin's choice.
        return pair if rng.random() < 0.5 else pair[::-1]

    return draw


def simulated(*, rho: float = 0.0, spikes: float = 0.0, throttled: float = 0.0) -> Draw:
    """A machine of 20 ms with 2 % of noise a round.

    Args:
        rho: correlation of its drift (5 %) from one timing to the next.
        spikes: probability that a timing takes half as long again.
        throttled: probability that its clock falls by a third at some time.
    """

    def draw(rng: np.random.Generator) -> tuple[Latencies, Latencies]:
        count = 2 * LOOKS[-1]
        drift, level = np.zeros(count), float(rng.normal(0, 0.05))
        for index in range(count):
            level = rho * level + float(rng.normal(0, 0.05 * np.sqrt(1 - rho**2)))
            drift[index] = level if rho else 0.0
        logs = drift + rng.normal(0, 0.02, count) + np.log(1.5) * (rng.random(count) < spikes)
        if rng.random() < throttled:
            logs[rng.integers(0, count) :] += np.log(1.5)
        pairs = 20 * np.exp(logs).reshape(-1, 2)
        # Every other round begins with the other bundle.
        pairs[1::2] = pairs[1::2, ::-1]
        return pairs[:, 0], pairs[:, 1]

    return draw


def measured(reference: Latencies, candidate: Latencies) -> Compared:
    """One cell of a night: rounds are added until the answer is clear."""
    for limit in LOOKS:
        found = compare_speed(reference[:limit].tolist(), candidate[:limit].tolist(), RULE)
        if is_decided(found, ERROR, COMPARISONS):
            break
    return found


@dataclass
class Tally:
    """Counts of one machine."""

    alarms: int = 0
    nights_with_alarm: int = 0
    caught: int = 0
    same: int = 0
    rounds: int = 0


def nights(draw: Draw, count: int, rng: np.random.Generator) -> tuple[Tally, int]:
    """Null nights, and nights in which one cell of twenty is slower, each followed by a second one."""
    tally = Tally()
    for _ in range(count):
        cells = [measured(*draw(rng)) for _ in range(CELLS)]
        worse = [answer == "worse" for answer in answers(_with_accuracy(cells), ERROR)[:CELLS]]
        tally.alarms += sum(worse)
        tally.nights_with_alarm += any(worse)
        tally.same += sum(answer == "same" for answer in answers(_with_accuracy(cells), ERROR)[:CELLS])
        tally.rounds += sum(cell.samples for cell in cells)
        tally.caught += any(_is_caught(draw, cells, rng) for _ in range(2))
    return tally, count


def _is_caught(draw: Draw, others: list[Compared], rng: np.random.Generator) -> bool:
    """Whether a cell that is slower is called worse among nineteen equal ones."""
    reference, candidate = draw(rng)
    slow = measured(reference, candidate * (1 + SLOWER))
    return answers(_with_accuracy([slow, *others[1:]]), ERROR)[0] == "worse"


def _with_accuracy(cells: list[Compared]) -> list[Compared]:
    """A night judges accuracy too: as many comparisons again, none of which shows anything."""
    nothing = cells[0].model_copy(update={"p_worse": 1.0, "p_better": 1.0})
    return [*cells, *[nothing] * len(cells)]


def series(draw: Draw, rng: np.random.Generator, *, step_at: int | None = None) -> list[float]:
    """One cell's latency night by night, without a reference; from ``step_at`` on slower."""
    found = [float(np.median(draw(rng)[1][: LOOKS[0]])) for _ in range(SERIES)]
    return [value * (1 + SLOWER * (step_at is not None and night >= step_at)) for night, value in enumerate(found)]


STEP = SERIES - 2
"""The slower bundle is there for two nights."""


def threshold(values: list[float]) -> bool:
    """Whether one of the last two nights is slower than the first by the threshold."""
    return any(value > values[0] * (1 + THRESHOLD) for value in values[-2:])


OTHERS = """
import json, sys
import numpy as np
from asv import step_detect
values = json.load(sys.stdin)
def asv(one):
    steps = step_detect.detect_steps(one)
    return len(steps) > 1 and steps[-1][2] > steps[-2][2]
found = {"asv": [bool(asv(one)) for one in values]}
try:
    from otava.analysis import compute_change_points
    def otava(one):
        points, _ = compute_change_points(np.array(one), window_len=50, max_pvalue=0.001)
        return any(point.stats.forward_rel_change() > 0 for point in points)
    found["otava"] = [bool(otava(one)) for one in values]
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
json.dump(found, sys.stdout)
"""


def others(python: str, values: list[list[float]]) -> dict[str, list[bool]]:
    """What asv's and Otava's detection say of series: whether the level rose at some time."""
    done = subprocess.run([python, "-c", OTHERS], input=json.dumps(values), capture_output=True, text=True, check=True)
    print(done.stderr, end="")
    found: dict[str, list[bool]] = json.loads(done.stdout)
    return found


def compared(draw: Draw, count: int, rng: np.random.Generator, python: str | None) -> Iterator[tuple[str, JsonObject]]:
    """The simpler methods on series of the same machine: alarms without a step, and steps caught."""
    still = [series(draw, rng) for _ in range(count)]
    stepped = [series(draw, rng, step_at=STEP) for _ in range(count)]
    yield "10 % threshold", {"alarms": sum(map(threshold, still)), "caught": sum(map(threshold, stepped))}
    if python:
        quiet, loud = others(python, still), others(python, stepped)
        for name in quiet:
            yield name, {"alarms": sum(quiet[name]), "caught": sum(loud[name])}


def machines(record: Path) -> dict[str, Draw]:
    """Name of a machine to its rounds."""
    return {
        "real rounds": from_rounds(record),
        "white noise": simulated(),
        "drift, rho .6": simulated(rho=0.6),
        "drift, rho .95": simulated(rho=0.95),
        "3 % spikes": simulated(rho=0.6, spikes=0.03),
        "throttling": simulated(rho=0.6, throttled=0.5),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=500)
    parser.add_argument("--series", type=int, default=200, help="series of the simpler methods")
    parser.add_argument("--rounds", type=Path, default=Path("docs/benchmarks/records/nightly_rounds.json"))
    parser.add_argument("--others", help="Python with asv and apache-otava")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows: JsonObject = {}
    for name, draw in machines(options.rounds).items():
        tally, count = nights(draw, options.nights, np.random.default_rng(0))
        rows[name] = {"nights": count, "cells": CELLS, **vars(tally)}
        rng = np.random.default_rng(1)
        rows[name]["others"] = dict(compared(draw, options.series, rng, options.others))
        print(name, rows[name], flush=True)
    made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", "versions": versions()}
    write_json(options.out, {**made, "series": options.series, "slower": SLOWER, "looks": LOOKS, "machines": rows})


if __name__ == "__main__":
    main()
