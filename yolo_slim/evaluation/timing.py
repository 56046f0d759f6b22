"""Timings of several builds that can be compared: taken in turns, put together, compared turn by turn. Pure functions.

A shared machine is slower in one minute than in the next. Control and pruned build of a runtime are therefore timed in
several short rounds, one right after the other, and their speed-up is the median of the rounds' ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from yolo_slim.runtime.bench import summarize


def merged(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several rounds of one build as one timing: all samples kept, statistics over all of them.

    ``round_p50_ms`` lists the median end-to-end latency of each round, milliseconds.
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
    }


def speedups(builds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for every slim build how many times as fast as its control it is, with the smallest and largest round."""
    found = []
    controls = {key: b for b in builds if b["model"] == "control" and (key := (b["runtime"], b["precision"]))}
    for build in builds:
        control = controls.get((build["runtime"], build["precision"]))
        if build["model"] != "slim" or control is None or not (build["bench"] and control["bench"]):
            continue
        ratios = np.divide(control["bench"]["round_p50_ms"], build["bench"]["round_p50_ms"])
        found.append(
            {
                "runtime": build["runtime"],
                "precision": build["precision"],
                "ratio": float(np.median(ratios)),
                "lowest": float(ratios.min()),
                "highest": float(ratios.max()),
                "rounds": len(ratios),
                "valid": build["bench"]["valid"] and control["bench"]["valid"],
            }
        )
    return found
