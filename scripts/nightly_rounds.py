"""Collect raw rounds of two equal bundles timed in turns, which scripts/bench_nightly.py draws its null nights from.

    python scripts/nightly_rounds.py bundle --rounds 4000 --out docs/benchmarks/records/nightly_rounds.json

Both bundles are copies of one, so every difference between them is noise. Each round times both end to end, in one
process, and every other round begins with the other one. All rounds are kept, those of a busy machine too.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.bundle import open_bundle
from yolo_slim.files import write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.runtime.bench import bench_images
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.sources import Skipped
from yolo_slim.workspace.job import versions

WARMUP = 2


def median_ms(detector: Detector, images: list[NDArray[np.uint8]], frames: int) -> float:
    """Median end-to-end latency of one round, milliseconds."""
    times = [detector.timed(images[index % len(images)])[1].total_ms for index in range(WARMUP + frames)]
    return float(np.median(times[WARMUP:]))


def collect(bundle: Path, rounds: int, frames: int) -> dict[str, list[float]]:
    """Time two sessions of one bundle in turns."""
    found: dict[str, list[float]] = {"reference_ms": [], "candidate_ms": [], "at_s": []}
    with ExitStack() as stack:
        opened = [open_bundle(bundle), open_bundle(bundle)]
        pair = [stack.enter_context(Detector(one)) for one in opened]
        images = bench_images(opened[0], None, Skipped())
        begin = time.monotonic()
        for index in range(rounds):
            medians = [0.0, 0.0]
            for which in (0, 1) if index % 2 == 0 else (1, 0):
                medians[which] = median_ms(pair[which], images, frames)
            for key, value in zip(found, (*medians, time.monotonic() - begin), strict=True):
                found[key].append(round(value, 4))
    return found


def main() -> None:
    """Collect and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--frames", type=int, default=8, help="timed frames of one bundle in a round")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    samples = collect(options.bundle, options.rounds, options.frames)
    made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", "versions": versions()}
    about = {
        "bundle": options.bundle.name,
        "frames": options.frames,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }
    write_json(options.out, {**made, **about, **samples})


if __name__ == "__main__":
    main()
