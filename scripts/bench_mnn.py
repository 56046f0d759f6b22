"""Compare MNN with NCNN and ONNX Runtime: the same graph, threads and images, timed in turns; and the mAP of each.

    python scripts/bench_mnn.py best.pt --data data.yaml --imgsz 320 --out docs/benchmarks/records/mnn.json

Several models may be given; ``quickstart`` is the built-in one with its own data. Each timing is a
process of its own, by the device's own command. ``--shield`` (root) gives these processes the scheduler's real-time
class, which keeps the other users of a shared machine away.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.config.run import ExportConfig, ValidateConfig
from yolo_slim.datasets import quickstart
from yolo_slim.devices.base import BenchSettings
from yolo_slim.devices.local import LocalDevice
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import score
from yolo_slim.measuring.images import scored_images
from yolo_slim.measuring.rounds import round_ratios, time_in_rounds
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
    device = LocalDevice()
    placed = {key: device.put(path) for key, path in bundles.items()}
    settings = BenchSettings(seconds=options.seconds, queries=16)
    with shield(options.shield):
        timed = time_in_rounds(
            list(placed),
            options.rounds,
            lambda key: device.bench(placed[key], images.folder, settings),
            lambda *_: None,
        )
        answers = {key: device.infer(one, images.folder) for key, one in placed.items()}
    rounds = {key: bench.round_p50_ms for key, bench in timed.items()}
    rows = []
    for key, one in placed.items():
        accuracy = score(images.truths, [answer.detections for answer in answers[key]], context.dataset.names)
        size_mb = sum(one.spec.files[file]["size_bytes"] for file in one.spec.model.values()) / 1e6
        reasons = {"invalid_reasons": list(timed[key].invalid_reasons)}
        rows.append(row(weights.stem, key, rounds, accuracy.map50_95, size_mb) | reasons)
    return rows


@contextmanager
def shield(is_wanted: bool) -> Iterator[None]:
    """Give this process and those that it starts the scheduler's real-time class."""
    usual = os.sched_getscheduler(0), os.sched_getparam(0)
    if is_wanted:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *usual)


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
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of one timing")
    parser.add_argument("--rounds", type=int, default=9)
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
        "date": str(date.today()), "machine": device_model(), "cores": cores(),
        "command": f"python scripts/bench_mnn.py {' '.join(sys.argv[1:])}", "versions": versions(), "rows": rows,
    }  # fmt: skip
    if options.out:
        write_json(options.out, record)


if __name__ == "__main__":
    main()
