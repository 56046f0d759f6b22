"""Compare the mAP of our bundles with `yolo val rect=False` on the same weights and images.

    python scripts/bench_parity.py --data ../shared/data/hardhat/data.yaml --imgsz 320 ../shared/models/hardhat/*.pt \
        --out docs/benchmarks/records/parity.json

Every figure is mAP50-95 on the split; a difference of .003 is the aim.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.devices.local import LocalDevice
from yolo_slim.files import read_json, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import read_truths, score
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.stages import build, export
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions


@dataclass(frozen=True, kw_only=True)
class Split:
    """The images that every model is scored on."""

    dataset: Dataset
    name: str
    imgsz: int

    @property
    def images(self) -> list[Path]:
        """Its images."""
        return list(self.dataset.splits[self.name])


def main() -> None:
    """Measure, print a Markdown table and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--out", type=Path, help="record to write, JSON; other rows in it stay")
    options = parser.parse_args()
    prepare_ultralytics()
    split = Split(dataset=load_dataset(options.data), name=options.split, imgsz=options.imgsz)
    print("| weights | yolo val rect=False | onnxruntime-fp32 | difference | ncnn-fp16 | difference |")
    print("|---|---|---|---|---|---|")
    scores = {}
    for weights in options.models:
        with tempfile.TemporaryDirectory() as name:
            scores[weights.stem] = _scores(weights, split, Path(name))
        wanted, *ours = scores[weights.stem].values()
        cells = [
            weights.stem,
            f"{wanted:.4f}",
            *(cell for got in ours for cell in (f"{got:.4f}", f"{got - wanted:+.4f}")),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    found = {"images": len(split.images), "split": split.name, "imgsz": split.imgsz, "map50_95": scores}
    made = {"date": str(date.today()), "machine": device_model(), "cores": cores(), "versions": versions()}
    print(f"\n{len(split.images)} {split.name} images, {made}")
    if options.out:
        before, name = read_json(options.out) if options.out.is_file() else {}, split.dataset.yaml.parent.name
        scores = {**before.get(name, {}).get("map50_95", {}), **scores}
        write_json(options.out, {**before, name: {**found, **made, "map50_95": scores}})


def _scores(weights: Path, split: Split, folder: Path) -> dict[str, float]:
    """mAP50-95 by Ultralytics, and of each of our bundles."""
    from ultralytics import YOLO

    data = write_absolute_yaml(split.dataset, folder / "data.yaml")
    context = Context.load(split.dataset.yaml, imgsz=split.imgsz)
    onnx = export.run(weights, ExportConfig(), folder / "export", context).onnx
    inputs = build.BuildInputs(onnx=onnx, images=selfcheck_images(split.dataset))
    built = build.run(inputs, folder / "build", context, name=weights.stem)
    model = YOLO(weights)
    if hasattr(model.model, "end2end"):
        model.model.end2end = False  # what is exported is the one-to-many head
    theirs = model.val(
        data=str(data), split=split.name, imgsz=split.imgsz, rect=False, plots=False, verbose=False, workers=0,
        project=str(folder),
    )  # fmt: skip
    truths = read_truths(split.images, split.dataset.label_format())
    device, images = LocalDevice(), folder / "data_links" / "images" / split.name
    ours = {}
    for key, bundle in built.bundles.items():
        answers = device.infer(device.put(bundle), images)
        ours[str(key)] = score(truths, [answer.detections for answer in answers], split.dataset.names).map50_95
    return {"ultralytics": float(theirs.box.map), **ours}


if __name__ == "__main__":
    main()
