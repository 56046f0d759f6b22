"""Prune by the default scope and by a table of block costs, untrained, and print both as a Markdown table.

    yolo-slim block-costs --model ../shared/models/hardhat/yolov8n.pt --data ../shared/data/hardhat/data.yaml \
        --imgsz 320 --images 100 --out runs/block_costs
    python scripts/bench_block_costs.py ../shared/models/hardhat/yolov8n.pt --data ../shared/data/hardhat/data.yaml \
        --imgsz 320 --map runs/block_costs/block_costs.json --out runs/bench-block-costs

mAP is of validation images, in ONNX Runtime: all of them, and those alone that the map wasn't measured on. Milliseconds
are of inference, in turns with the unpruned network.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yolo_slim
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.machine import device_model
from yolo_slim.measuring.accuracy import read_truth, score
from yolo_slim.measuring.predict import detect_all, onnx_infer
from yolo_slim.models.exported import layout_of
from yolo_slim.progress import Silent
from yolo_slim.reporting import facts
from yolo_slim.runtime import paired
from yolo_slim.runtime.letterbox import letterbox
from yolo_slim.runtime.sources import read_image
from yolo_slim.workspace.job import versions

HEAD = ["| | mAP50-95, all | not in the map | GMACs | ms gained (middle half of the turns) |", "|---|---|---|---|---|"]


def accuracies(onnx: Path, images: Sequence[Path], seen: int, dataset: Dataset) -> list[float]:
    """Return the mAP50-95 on all images, and on those after the first ``seen``."""
    about = layout_of(onnx)
    found = detect_all(images, onnx_infer(onnx), layout=about.layout, imgsz=about.imgsz[0], progress=Silent(), text="")
    truths = [read_truth(path) for path in images]
    parts = [0, seen] if seen < len(images) else [0]
    return [score(truths[start:], found[start:], dataset.names).map50_95 for start in parts]


def timed(control: Path, slim: Path, images: Sequence[Path], threads: int, rounds: int) -> dict[str, Any]:
    """Return what a pruned graph gains against the control in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        sessions = [
            paired.open_session(onnx, Path(folder), asdict(layout_of(onnx)), runtime="onnxruntime", threads=threads)
            for onnx, folder in ((control, one), (slim, two))
        ]
        side = layout_of(control).imgsz
        blobs = [letterbox(read_image(path, convert_channels=True), side)[0] for path in images[:8]]
        return paired.time_paired(sessions[0], sessions[1], blobs, rounds=rounds, frames=6).to_json()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--prune", type=float, default=0.5)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=51, help="turns of the timing")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    measured = read_json(options.map)
    guided = {"prune.scope": "block_costs", "prune.block_costs": str(options.map)}
    dataset = load_dataset(options.data)
    images = dataset.splits["val"]
    threads = min(2, len(os.sched_getaffinity(0)))
    text, control = list(HEAD), Path()
    try:
        for name, settings in (("control", None), ("global", {}), ("block_costs", guided)):
            folder, weights, gmacs = options.out / name, options.model, measured["control"]["macs"] / 1e9
            if settings is not None:
                pruned = yolo_slim.prune(
                    options.model, options.data, folder / "prune", imgsz=options.imgsz, prune=options.prune,
                    settings=settings,
                )  # fmt: skip
                weights, gmacs = pruned.weights, read_json(pruned.widths)["slim"]["macs"] / 1e9
            onnx = yolo_slim.export(weights, options.data, folder / "export", imgsz=options.imgsz).onnx
            control = onnx if settings is None else control
            shown = [f"{value:.3f}" for value in accuracies(onnx, images, measured["data"]["images"], dataset)]
            gain = timed(control, onnx, images, threads, options.rounds)
            span = "{:.2f} to {:.2f}".format(*facts.middle_half(gain))
            ms = "-" if settings is None else f"{gain['ms_gain']:.2f} of {gain['ms_control']:.2f} ({span})"
            ms += (
                f" invalid: {', '.join(gain['invalid_reasons'])}"
                if settings is not None and gain["invalid_reasons"]
                else ""
            )
            text.append(f"| {name} | {shown[0]} | {shown[-1] if len(shown) > 1 else '-'} | {gmacs:.3f} | {ms} |")
    except SlimError as error:
        sys.exit(f"error: {error}")
    about = ", ".join(f"{key} {value}" for key, value in versions().items())
    print("\n".join([*text, "", f"{device_model()}, {threads} threads, {len(images)} val images; {about}"]))


if __name__ == "__main__":
    main()
