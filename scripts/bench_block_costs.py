"""Prune by the default scope and by a table of block costs, untrained, and print both as a Markdown table.

    yolo-slim block-costs --model ../shared/models/hardhat/yolov8n.pt --data ../shared/data/hardhat/data.yaml \
        --imgsz 320 --images 100 --out runs/block_costs
    python scripts/bench_block_costs.py ../shared/models/hardhat/yolov8n.pt --data ../shared/data/hardhat/data.yaml \
        --imgsz 320 --table runs/block_costs/block_costs.json --out runs/bench-block-costs

mAP is of validation images, in ONNX Runtime: all of them, and those alone that the table wasn't measured on.
Milliseconds are of inference, in the same rounds as the unpruned network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import yolo_slim
from yolo_slim.build_key import BuildName
from yolo_slim.config import targets
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError
from yolo_slim.export.bundle_maker import BundleSource, make_timed_bundle
from yolo_slim.files import read_json, write_json
from yolo_slim.machine import device_model
from yolo_slim.measuring.accuracy import read_truths, score
from yolo_slim.measuring.block_costs import BlockCostTable, RoundMs
from yolo_slim.measuring.predict import detect_all, onnx_infer
from yolo_slim.models.exported import layout_of
from yolo_slim.progress import Silent
from yolo_slim.runtime.paired import Paired
from yolo_slim.workspace.job import versions

HEAD = [
    "| | mAP50-95, all | not in the table | GMACs | ms gained (middle half of the rounds) |",
    "|---|---|---|---|---|",
]


def accuracies(onnx: Path, images: Sequence[Path], seen: int, dataset: Dataset) -> list[float]:
    """Score a graph: the mAP50-95 on all images, and on those after the first ``seen``."""
    layout = layout_of(onnx)
    found = detect_all(
        images, onnx_infer(onnx), layout=layout.layout, imgsz=layout.imgsz[0], progress=Silent(), text=""
    )
    truths = read_truths(images, dataset.label_format())
    parts = [0, seen] if seen < len(images) else [0]
    return [score(truths[start:], found[start:], dataset.names).map50_95 for start in parts]


def timed(control: Path, slim: Path, images: Path, rounds: int) -> Paired:
    """Compare a pruned graph with the control in ONNX Runtime."""
    device, profile = LocalDevice(), targets.load("host")
    with tempfile.TemporaryDirectory() as folder:
        placed = []
        for name, onnx in (("control", control), ("slim", slim)):
            source = BundleSource(name=name, exported=onnx, layout=layout_of(onnx), profile=profile)
            make_timed_bundle(source, BuildName("onnxruntime", "fp32"), onnx, Path(folder) / name)
            placed.append(device.put(Path(folder) / name))
        return device.time_paired(placed[0], placed[1], images, rounds=rounds, frames=6)


def shown(timing: Paired) -> str:
    """Write a comparison as a cell of the table."""
    span = "{:.2f} to {:.2f}".format(*RoundMs.of(timing).middle_half)
    invalid = f" invalid: {', '.join(timing.invalid_reasons)}" if timing.invalid_reasons else ""
    return f"{timing.ms_gain:.2f} of {timing.ms_before:.2f} ({span}, {timing.threads} threads){invalid}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--prune", type=float, default=0.5)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=51, help="rounds of the timing")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", type=Path, help="record to write, JSON; has the table too")
    options = parser.parse_args()
    guided = {"prune.scope": "block_costs", "prune.block_costs": str(options.table)}
    dataset = load_dataset(options.data)
    images = dataset.splits["val"]
    text, control, rows = list(HEAD), Path(), {}
    try:
        measured = BlockCostTable.load(options.table)
        for name, settings in (("control", None), ("global", {}), ("block_costs", guided)):
            folder, weights, gmacs = options.out / name, options.model, measured.control.macs / 1e9
            if settings is not None:
                pruned = yolo_slim.prune(
                    options.model, options.data, folder / "prune", imgsz=options.imgsz, prune=options.prune,
                    settings=settings,
                )  # fmt: skip
                weights, gmacs = pruned.weights, read_json(pruned.widths)["slim"]["macs"] / 1e9
            onnx = yolo_slim.export(weights, options.data, folder / "export", imgsz=options.imgsz).onnx
            control = onnx if settings is None else control
            scores = accuracies(onnx, images, measured.data.images, dataset)
            # The control against itself says how much of a gain is the machine's noise.
            timing = timed(control, onnx, images[0].parent, options.rounds)
            rows[name] = {"map50_95": scores, "gmacs": gmacs, "timing": timing.to_json()}
            found = [f"{value:.3f}" for value in scores]
            unseen = found[-1] if len(found) > 1 else "-"
            text.append(f"| {name} | {found[0]} | {unseen} | {gmacs:.3f} | {shown(timing)} |")
    except SlimError as error:
        sys.exit(f"error: {error}")
    about = ", ".join(f"{key} {value}" for key, value in versions().items())
    print("\n".join([*text, "", f"{device_model()}, {len(images)} val images; {about}"]))
    if options.record:
        made = {"date": str(date.today()), "machine": device_model(), "versions": versions()}
        write_json(options.record, {**made, "scopes": rows, "table": read_json(options.table)})


if __name__ == "__main__":
    main()
