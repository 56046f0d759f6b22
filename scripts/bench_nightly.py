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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.config.nightly import NightlyConfig
from yolo_slim.files import JsonObject, merge_json, read_json
from yolo_slim.history.judge import speed_rule
from yolo_slim.history.statistics import SURELY_SAME, holm, speed_p_values
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
NIGHT_TO_NIGHT = 0.6
"""Correlation of a simulated machine's level from one night to the next."""

HALF_DIGIT = 5e-5
"""Half of the last digit of a record of rounds, milliseconds."""
Draw = Callable[[np.random.Generator, int, int], NDArray[np.float64]]
"""Latencies of a number of cells and rounds, milliseconds: (cells, 2, rounds), the reference's and the candidate's."""


def from_rounds(path: Path) -> Draw:
    """Runs of consecutive rounds, each from a random place of a record."""
    record = read_json(path)
    pairs = np.array([record["reference_ms"], record["candidate_ms"]])
    # The record's last digit makes ties, which cost the signed-rank test much memory.
    pairs += np.random.default_rng(0).uniform(-HALF_DIGIT, HALF_DIGIT, pairs.shape)

    def draw(rng: np.random.Generator, cells: int, rounds: int) -> NDArray[np.float64]:
        starts = rng.integers(0, pairs.shape[1] - rounds, cells)
        # Which of two equal bundles is called the reference is a coin's choice.
        swapped = pairs[::-1]
        chosen = [
            (pairs, swapped)[coin][:, start : start + rounds]
            for start, coin in zip(starts, rng.integers(0, 2, cells), strict=True)
        ]
        return np.array(chosen)

    return draw


def simulated(*, drift: float = 0.0, rho: float = 0.0, spikes: float = 0.0, throttled: float = 0.0) -> Draw:
    """A machine of 20 ms with 2 % of noise a timing, whose level moves by 5 % from night to night.

    Args:
        drift: standard deviation of its drift inside a night.
        rho: correlation of that drift from one timing to the next.
        spikes: probability that a timing takes half as long again.
        throttled: probability that its clock falls by a third at some time of a cell.
    """

    def draw(rng: np.random.Generator, cells: int, rounds: int) -> NDArray[np.float64]:
        count = 2 * rounds
        logs = rng.normal(0, 0.02, (cells, count)) + 0.05 * drifting(rng, (1, cells), NIGHT_TO_NIGHT).T
        logs += drift * drifting(rng, (cells, count), rho)
        logs += np.log(1.5) * (rng.random((cells, count)) < spikes)
        falls = np.where(rng.random(cells) < throttled, rng.integers(0, count, cells), count)
        logs += np.log(1.5) * (np.arange(count) >= falls[:, None])
        found = 20 * np.exp(logs).reshape(cells, rounds, 2)
        # Every other round begins with the other bundle.
        found[:, 1::2] = found[:, 1::2, ::-1]
        return found.transpose(0, 2, 1)

    return draw


def drifting(rng: np.random.Generator, shape: tuple[int, int], rho: float) -> NDArray[np.float64]:
    """Autoregressive series of standard deviation 1, one a row."""
    found = rng.normal(0, 1, shape)
    for index in range(1, shape[1]):
        found[:, index] = rho * found[:, index - 1] + np.sqrt(1 - rho**2) * found[:, index]
    return found


@dataclass(frozen=True)
class Measured:
    """What nights found of cells."""

    p_worse: NDArray[np.float64]
    """(cells,), corrected for the looks."""
    is_same: NDArray[np.bool_]
    rounds: int
    """Of all cells."""


def measured(latencies: NDArray[np.float64], looks: Sequence[int]) -> Measured:
    """Time cells as a night does: rounds are added until the answer is clear."""
    logs = np.log(latencies[:, 1] / latencies[:, 0])
    p_worse, is_same = np.ones(len(logs)), np.zeros(len(logs), bool)
    left, rounds, rule = np.arange(len(logs)), 0, replace(RULE, looks=len(looks))
    for limit in looks:
        found = speed_p_values(logs[left, :limit], rule)
        p_worse[left], is_same[left] = found[:, 0], found[:, 2:].max(axis=1) <= SURELY_SAME
        decided = is_same[left] | (found[:, :2].min(axis=1) <= ERROR / COMPARISONS)
        rounds += limit * int(len(left) if limit == looks[-1] else decided.sum())
        left = left[~decided]
        if not len(left):
            break
    return Measured(p_worse=p_worse, is_same=is_same, rounds=rounds)


def worse(p_worse: NDArray[np.float64]) -> list[bool]:
    """Which cells of one night are called worse; accuracy is judged with them, and shows nothing here."""
    return holm([*p_worse, *[1.0] * len(p_worse)], ERROR)[: len(p_worse)]


def nights(draw: Draw, count: int, rng: np.random.Generator, looks: Sequence[int]) -> JsonObject:
    """Null nights; and pairs of nights in which one cell of twenty is slower."""
    null = measured(draw(rng, count * CELLS, looks[-1]), looks)
    slow = draw(rng, 2 * count, looks[-1])
    slow[:, 1] *= 1 + SLOWER
    p_null, p_slow = null.p_worse.reshape(count, CELLS), measured(slow, looks).p_worse.reshape(count, 2)
    alarms = [sum(worse(row)) for row in p_null]
    # The slower cell stands among nineteen equal ones of a null night.
    caught = [
        any(worse(np.array([p, *others[1:]]))[0] for p in pair) for pair, others in zip(p_slow, p_null, strict=True)
    ]
    return {
        "nights": count,
        "alarms": sum(alarms),
        "nights_with_alarm": sum(map(bool, alarms)),
        "caught": sum(caught),
        "same": int(null.is_same.sum()),
        "rounds": null.rounds,
    }


STEP = SERIES - 2
"""The slower bundle is there for two nights."""


def drawn_series(draw: Draw, rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nights without a change, and the same ones with a slower bundle at the end, each (count, SERIES, 2, rounds)."""
    still = draw(rng, count * SERIES, LOOKS[-1]).reshape(count, SERIES, 2, LOOKS[-1])
    stepped = still.copy()
    stepped[:, STEP:, 1] *= 1 + SLOWER
    return still, stepped


def without_reference(series: NDArray[np.float64]) -> list[list[float]]:
    """Latency of the cells night by night, of the first rounds."""
    found: list[list[float]] = np.median(series[:, :, 1, : LOOKS[0]], axis=2).tolist()
    return found


def ours(series: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which nights are called worse, (count, SERIES), each judged as the strictest of twenty cells."""
    p_worse = measured(series.reshape(-1, 2, series.shape[-1]), LOOKS).p_worse
    return (p_worse <= ERROR / COMPARISONS).reshape(series.shape[:2])


def threshold(values: list[float]) -> bool:
    """Whether one of the last two nights is slower than the first by the threshold."""
    return any(value > values[0] * (1 + THRESHOLD) for value in values[-2:])


OTHERS = """
import json, sys
from asv import step_detect
values = json.load(sys.stdin)
def asv(one):
    steps = step_detect.detect_steps(one)
    return len(steps) > 1 and steps[-1][2] > steps[-2][2]
found = {"asv": [bool(asv(one)) for one in values]}
try:
    from otava.analysis import compute_change_points
    def otava(one):
        points, _ = compute_change_points(one, window_len=50, max_pvalue=0.001)
        return any(point.stats.forward_rel_change() > 0 for point in points)
    found["otava"] = [bool(otava(one)) for one in values]
except ImportError as error:
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
    """Our gates and the simpler methods on the same series: series with an alarm without a step, and steps caught."""
    quiet, loud = drawn_series(draw, rng, count)
    alarms, caught = ours(quiet).any(axis=1), ours(loud)[:, STEP:].any(axis=1)
    yield "yolo_slim", {"alarms": int(alarms.sum()), "caught": int(caught.sum())}
    still, stepped = without_reference(quiet), without_reference(loud)
    yield "10 % threshold", {"alarms": sum(map(threshold, still)), "caught": sum(map(threshold, stepped))}
    if python:
        found, others_found = others(python, still), others(python, stepped)
        for name in found:
            yield name, {"alarms": sum(found[name]), "caught": sum(others_found[name])}


def machines(record: Path) -> dict[str, Draw]:
    """Name of a machine to its rounds; the real one only where there is a record."""
    return {
        **({"real rounds": from_rounds(record)} if record.is_file() else {}),
        "nights that differ": simulated(),
        "drift of 3 %, rho .9": simulated(drift=0.03, rho=0.9),
        "and 3 % spikes": simulated(drift=0.03, rho=0.9, spikes=0.03),
        "and throttling": simulated(drift=0.03, rho=0.9, throttled=0.5),
        "drift of 5 %, rho .6": simulated(drift=0.05, rho=0.6),
    }


def _beside(draw: Draw, count: int, python: str | None) -> JsonObject:
    """Our gates beside the simpler methods, on series of their own."""
    return {"series": count, "others": dict(compared(draw, count, np.random.default_rng(1), python))}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=500)
    parser.add_argument("--series", type=int, default=200, help="series of the simpler methods; 0: keep the record's")
    parser.add_argument("--rounds", type=Path, default=Path("docs/benchmarks/records/nightly_rounds.json"))
    parser.add_argument(
        "--looks", type=int, nargs="+", default=LOOKS, help="after how many rounds the answer is sought"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the nights")
    parser.add_argument("--machines", nargs="*", help="only these; the record keeps the others' figures")
    parser.add_argument("--others", help="Python with asv and apache-otava")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name, draw in machines(options.rounds).items():
        if options.machines and name not in options.machines:
            continue
        found = nights(draw, options.nights, np.random.default_rng(options.seed), options.looks)
        beside = _beside(draw, options.series, options.others) if options.series else {}
        made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", "versions": versions()}
        how = {"cells": CELLS, "slower": SLOWER, "looks": options.looks, "seed": options.seed}
        kept = read_json(options.out).get(name, {}) if options.out.is_file() else {}
        merge_json(options.out, {name: {**kept, **found, **beside, **how, **made}})
        print(name, found, beside, flush=True)


if __name__ == "__main__":
    main()
