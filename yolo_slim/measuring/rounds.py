"""Timings that can be compared: builds timed in turns, rounds put together, ratios round by round. Pure functions.

A shared machine is slower in one minute than in the next. So several short rounds time the control and the slim build,
one right after the other. Their speed-up is the median of the rounds' ratios.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import TypeVar

import numpy as np

from yolo_slim.devices.answers import Bench, StageSamples
from yolo_slim.runtime.cold_start import ColdStart
from yolo_slim.runtime.load import busiest
from yolo_slim.runtime.readings import Range, range_of, widest

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """How many times as fast as another timing one is, in the rounds that both have."""

    ratio: float
    """Median."""
    lowest: float
    highest: float
    rounds: int
    valid: bool
    """Both timings count."""


def time_in_rounds(
    keys: Sequence[Key], rounds: int, bench: Callable[[Key], Bench], step: Callable[[int, int], None]
) -> dict[Key, Bench]:
    """Time every build once in every round; every other round goes through them in the opposite order.

    Args:
        keys: names of the builds.
        rounds: how often each is timed.
        bench: times one build once.
        step: is called with the number of timings done and of all.
    """
    found: dict[Key, list[Bench]] = {key: [] for key in keys}
    total = len(keys) * rounds
    for index in range(rounds):
        # In one order only, a drift inside the rounds would always favour the same builds.
        for key in keys if index % 2 else reversed(keys):
            step(sum(map(len, found.values())), total)
            found[key].append(bench(key))
    step(total, total)
    return {key: merged(values) for key, values in found.items()}


def merged(rounds: Sequence[Bench]) -> Bench:
    """Put several rounds of one build together: all samples are kept, statistics are over all of them."""
    samples = StageSamples.joined([one.samples_ms for one in rounds])
    stages = samples.latencies()
    memory = [one.peak_memory_mb for one in rounds if one.peak_memory_mb is not None]
    # The last round has the latest machine state; what adds up or spans all rounds is replaced.
    return rounds[-1].model_copy(
        update={
            "fps": 1000 / stages.total.p50_ms,
            "stages": stages,
            "samples_ms": samples,
            "round_p50_ms": tuple(ms for one in rounds for ms in one.round_p50_ms),
            "round_network_p50_ms": tuple(ms for one in rounds for ms in one.round_network_p50_ms),
            "queries": sum(one.queries for one in rounds),
            "seconds": sum(one.seconds for one in rounds),
            "before": rounds[0].before,
            "peak_memory_mb": max(memory, default=None),
            "p50_spread_ms": _spanned(one.p50_spread_ms for one in rounds),
            "cold_start": _median_start([one.cold_start for one in rounds if one.cold_start]),
            "breakdown": next((one.breakdown for one in rounds if one.breakdown), None),
            "sensors": widest(one.sensors for one in rounds if one.sensors),
            "load": busiest(one.load for one in rounds if one.load),
            "invalid_reasons": tuple(one_of_a_kind(reason for one in rounds for reason in one.invalid_reasons)),
        }
    )


def _spanned(ranges: Iterable[Range | None]) -> Range | None:
    """The smallest and the largest value of several rounds."""
    return range_of(value for one in ranges if one for value in (one.lowest, one.highest))


def _median_start(starts: Sequence[ColdStart]) -> ColdStart | None:
    """The start whose total is in the middle, the quicker one of two."""
    return sorted(starts, key=lambda one: one.total_ms)[(len(starts) - 1) // 2] if starts else None


def one_of_a_kind(reasons: Iterable[str]) -> list[str]:
    """The first of the reasons that differ in figures and programs alone: two rounds are never equally hot or busy."""
    kinds: dict[str, str] = {}
    for reason in reasons:
        kinds.setdefault(re.sub(r"[\d.]+|\(.*?\)", "", reason), reason)
    return list(kinds.values())


def ratios(control: Bench, build: Bench) -> Ratios:
    """Compare two builds that were timed in the same rounds."""
    return round_ratios(control.round_p50_ms, build.round_p50_ms, valid=control.is_valid and build.is_valid)


def round_ratios(control_ms: Sequence[float], build_ms: Sequence[float], *, valid: bool) -> Ratios:
    """Compare the medians of the same rounds; ``valid``: both timings count."""
    found = np.divide(control_ms, build_ms)
    return Ratios(
        ratio=float(np.median(found)),
        lowest=float(found.min()),
        highest=float(found.max()),
        rounds=len(found),
        valid=valid,
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The edges of the middle half of some values, and their median between."""
    # Before Python 3.13 statistics.quantiles refuses a single value.
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high
