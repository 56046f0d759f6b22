"""How far apart timings of one pair of bundles are, with one load and with several: docs/benchmarks/latency.md.

    python scripts/bench_paired.py CONTROL SLIM IMAGES --out record.json

Both ways are timed in turns, ``--calls`` times each. One call gives the ratio of both bundles' inference.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from yolo_slim.bundle import open_bundle
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import describe_machine
from yolo_slim.runtime import paired
from yolo_slim.workspace.job import versions

ROUNDS, FRAMES = 25, 6
"""Those of a latency table."""


def main() -> None:
    """Time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    before, after = open_bundle(options.before), open_bundle(options.after)
    images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in sorted(options.images.iterdir())[: paired.IMAGES]]
    ways = {"one load": ROUNDS, "several loads": paired.ROUNDS_A_LOAD}
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    reasons: set[str] = set()
    for _ in range(options.calls):
        for name, rounds in ways.items():
            paired.ROUNDS_A_LOAD = rounds
            found = paired.pair_bundles(before, after, images, rounds=ROUNDS, frames=FRAMES)
            ratios[name].append(found.ratio)
            reasons |= set(found.invalid_reasons)
    spread = {name: _spread(values) for name, values in ratios.items()}
    for name, values in spread.items():
        print(f"{name}: {values}")
    record = {
        "bundles": [before.spec.name, after.spec.name], "build": f"{before.spec.runtime}-{before.spec.precision}",
        "imgsz": list(before.spec.imgsz), "rounds": ROUNDS, "frames": FRAMES, "rounds_a_load": ways,
        "machine": describe_machine(), "versions": versions(), "invalid_reasons": sorted(reasons),
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "ratios": ratios, "spread": spread,
    }  # fmt: skip
    write_json(options.out, record)


def _spread(ratios: list[float]) -> JsonObject:
    """Standard deviation and range of the ratios, as fractions of their median."""
    median = float(np.median(ratios))
    return {
        "median": median, "deviation": float(np.std(ratios)) / median, "range": (max(ratios) - min(ratios)) / median
    }  # fmt: skip


if __name__ == "__main__":
    main()
