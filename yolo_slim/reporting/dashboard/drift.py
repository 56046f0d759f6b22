"""How the speed of a device itself moved: told by the references of all its cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from yolo_slim.history.rows import Run


def device_latency(runs: Iterable[Run], order: Sequence[int]) -> tuple[list[int], list[float]]:
    """Nights in their order, and the device's latency in each: the logarithm of its ratio to the first night's.

    A night's step is the mean of what the same bundles took longer than the night before. So a new reference moves
    nothing, nor does a cell that comes or goes.
    """
    nights: dict[int, dict[str, float]] = {}
    for run in runs:
        nights.setdefault(run.night, {}).update(_latencies(run))
    numbers = [number for number in order if nights.get(number)]
    steps = [0.0, *(_step(nights[before], nights[after]) for before, after in pairwise(numbers))]
    return numbers, np.cumsum(steps[: len(numbers)]).tolist()


def _latencies(run: Run) -> Mapping[str, float]:
    """Milliseconds of the bundle and of its reference, by the run that made each; none if the timing doesn't count."""
    if run.measurement is None or run.measurement.speed.invalid_reasons:
        return {}
    speed = run.measurement.speed
    # The baseline's own night has its bundle's latency too: there it was no reference yet.
    timed = {run.uid: speed.p50_ms}
    return timed | ({run.reference: speed.reference_p50_ms} if run.reference and speed.reference_p50_ms else {})


def _step(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    steps = [np.log(after[bundle] / before[bundle]) for bundle in before.keys() & after.keys()]
    return float(np.mean(steps)) if steps else 0.0
