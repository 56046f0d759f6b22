"""Compare MNN with NCNN and ONNX Runtime: the same graph, threads and images, timed in turns; and the mAP of each.

    python scripts/bench_mnn.py best.pt --data data.yaml --imgsz 320 --out docs/benchmarks/records/mnn.json

Several models may be given; ``quickstart`` is the built-in one with its own data. Everything of one model runs in one
process, a block of frames after the other. ``--shield`` (root) gives the process the scheduler's real-time class, which
keeps the other users of a shared machine away.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.config.run import ExportConfig, ValidateConfig
from yolo_slim.datasets import quickstart
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import score
from yolo_slim.measuring.images import scored_images
from yolo_slim.measuring.rounds import round_ratios
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.sources import read_image
from yolo_slim.stages import build, export
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

RUNTIMES = (
    RuntimeChoice(runtime="onnxruntime", precisions=["fp32"]),
    RuntimeChoice(runtime="ncnn", precisions=["fp16"]),
    RuntimeChoice(runtime="mnn", precisions=["fp16", "int8"]),
)
QUICKSTART = "quickstart"
COUNTS = {"train": 8, "val": 8, "test": 64}
SETTLE_S = 0.05
"""Pause before a block: idle threads of another runtime spin for a while."""
WARMUP = 3


def contest(model: str, options: argparse.Namespace, folder: Path) -> list[JsonObject]:
    """Build all bundles of one model, time them in turns and score them; one row for each."""
    weights, data = Path(model), options.data
    if model == QUICKSTART:
        weights, data = (
            quickstart.default_model(),
            quickstart.generate(folder / "data", counts=COUNTS, imgsz=options.imgsz),
        )
    context = Context.load(data, imgsz=options.imgsz)
    context = replace(context, profile=context.profile.model_copy(update={"runtimes": list(RUNTIMES)}))
    graph = export.run(weights, ExportConfig(), folder / "export", context).onnx
    inputs = build.BuildInputs(onnx=graph, images=selfcheck_images(context.dataset))
    bundles = build.run(inputs, folder / "build", context, name=weights.stem).bundles
    images = scored_images(context.dataset, ValidateConfig(max_images=options.images), folder / "scored")
    frames = [read_image(path, convert_channels=True) for path in images.paths]
    with ExitStack() as stack:
        if options.shield:  # before the runtimes make their threads, which inherit it
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            stack.callback(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0))
        detectors = {key: stack.enter_context(Detector(path, options.threads)) for key, path in bundles.items()}
        found = {
            key: score(images.truths, [one.detect(frame, mode="val") for frame in frames], context.dataset.names)
            for key, one in detectors.items()
        }
        rounds = time_in_turns(detectors, frames[: options.frames], options.rounds)
    sizes = {key: sum(file.stat().st_size for file in path.glob("model*")) / 1e6 for key, path in bundles.items()}
    return [row(weights.stem, key, rounds, found[key].map50_95, sizes[key]) for key in bundles]


def time_in_turns(
    detectors: Mapping[BuildName, Detector], frames: Sequence[Any], rounds: int
) -> dict[BuildName, list[float]]:
    """The median end-to-end milliseconds of every round; each round gives every bundle all frames in one block."""
    medians: dict[BuildName, list[float]] = {key: [] for key in detectors}
    for number in range(rounds):
        # In one order only, a drift inside the rounds would always favour the same bundles.
        for key in list(detectors)[:: 1 if number % 2 == 0 else -1]:
            time.sleep(SETTLE_S)
            samples = [detectors[key].timed(frame)[1].total_ms for frame in [*frames[:WARMUP], *frames]]
            medians[key].append(float(np.median(samples[WARMUP:])))
    return medians


def row(
    model: str, key: BuildName, rounds: Mapping[BuildName, Sequence[float]], map50_95: float, size_mb: float
) -> JsonObject:
    """The figures of one bundle, against the other two runtimes."""
    against: JsonObject = {}
    for other in (BuildName("ncnn", "fp16"), BuildName("onnxruntime", "fp32")):
        ratios = round_ratios(rounds[other], rounds[key], valid=True)
        against[str(other)] = [ratios.ratio, ratios.lowest, ratios.highest]
    return {
        "model": model, "build": str(key), "ms": float(np.median(rounds[key])), "times_as_fast": against,
        "map50_95": map50_95, "size_mb": size_mb, "round_ms": list(rounds[key]),
    }  # fmt: skip


def table(rows: Sequence[JsonObject]) -> str:
    """A Markdown table."""
    lines = ["| model | build | ms | times as fast as NCNN fp16 | as ONNX Runtime fp32 | mAP50-95 | MB |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in rows:
        ratios = [f"{mid:.2f} ({low:.2f} to {high:.2f})" for mid, low, high in one["times_as_fast"].values()]
        figures = f"{one['ms']:.2f} | {' | '.join(ratios)} | {one['map50_95']:.4f} | {one['size_mb']:.2f}"
        lines.append(f"| {one['model']} | {one['build']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every model, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=200, help="images that mAP is measured on")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--shield", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[JsonObject] = []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            rows += contest(model, options, Path(folder))
        print(f"{model}: done", file=sys.stderr)
    print(table(rows))
    record = {
        "date": str(date.today()), "machine": device_model(), "cores": cores(), "threads": options.threads,
        "command": f"python scripts/bench_mnn.py {' '.join(sys.argv[1:])}", "versions": versions(), "rows": rows,
    }  # fmt: skip
    if options.out:
        write_json(options.out, record)


if __name__ == "__main__":
    main()
