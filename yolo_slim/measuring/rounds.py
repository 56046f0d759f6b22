"""Timings of several builds that can be compared: taken in turns, put together, compared turn by turn. Pure functions.

A shared machine is slower in one minute than in the next. Control and pruned build of a runtime are therefore timed in
several short rounds, one right after the other, and their speed-up is the median of the rounds' ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import quantiles
from typing import Any

import numpy as np

from yolo_slim.runtime.bench import summarize


def in_turns(
    keys: Sequence[str], rounds: int, bench: Callable[[str], Mapping[str, Any]], tell: Callable[[int, int], None]
) -> dict[str, dict[str, Any]]:
    """Return the timing of every build, each timed once in every round, in an order that turns from round to round.

    Args:
        keys: names of the builds.
        rounds: how often each is timed.
        bench: times one build once.
        tell: told how many of how many timings are done.
    """
    found: dict[str, list[Mapping[str, Any]]] = {key: [] for key in keys}
    total = len(keys) * rounds
    for index in range(rounds):
        for key in keys if index % 2 else reversed(keys):
            tell(sum(map(len, found.values())), total)
            found[key].append(bench(key))
    tell(total, total)
    return {key: merged(values) for key, values in found.items()}


def merged(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several rounds of one build as one timing: all samples kept, statistics over all of them.

    ``round_p50_ms`` lists the median end-to-end latency of each round, milliseconds; ``round_network_p50_ms`` the same
    without post-processing.
    """
    samples = {
        stage: [sample for one in rounds for sample in one["samples_ms"][stage]] for stage in rounds[0]["samples_ms"]
    }
    stages = {stage: asdict(summarize(values)) for stage, values in samples.items()}
    memory = [one["peak_memory_mb"] for one in rounds if one["peak_memory_mb"] is not None]
    reasons = list(dict.fromkeys(reason for one in rounds for reason in one["invalid_reasons"]))
    return {
        **rounds[-1],
        "samples_ms": samples,
        "stages": stages,
        "fps": 1000 / stages["total"]["p50_ms"],
        "queries": sum(one["queries"] for one in rounds),
        "seconds": sum(one["seconds"] for one in rounds),
        "before": rounds[0].get("before"),
        "peak_memory_mb": max(memory, default=None),
        "invalid_reasons": reasons,
        "valid": not reasons,
        "round_p50_ms": [one["stages"]["total"]["p50_ms"] for one in rounds],
        "round_network_p50_ms": [one["stages"]["pre"]["p50_ms"] + one["stages"]["infer"]["p50_ms"] for one in rounds],
    }


def speedups(builds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for every slim build how many times as fast as its control it is, with the smallest and largest round."""
    found = []
    controls = {key: b for b in builds if b["model"] == "control" and (key := (b["runtime"], b["precision"]))}
    for build in builds:
        control = controls.get((build["runtime"], build["precision"]))
        if build["model"] != "slim" or control is None or not (build["bench"] and control["bench"]):
            continue
        about = {"runtime": build["runtime"], "precision": build["precision"]}
        found.append({**about, **speedup(control["bench"], build["bench"])})
    return found


def speedup(control: Mapping[str, Any], build: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many times as fast as the control a build is: the median, smallest and largest of the rounds."""
    ratios = np.divide(control["round_p50_ms"], build["round_p50_ms"])
    return {
        "ratio": float(np.median(ratios)),
        "lowest": float(ratios.min()),
        "highest": float(ratios.max()),
        "rounds": len(ratios),
        "valid": build["valid"] and control["valid"],
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the edges of the middle half of some values, and their median between."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high
