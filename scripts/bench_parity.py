"""Compare the mAP of our bundles with `yolo val rect=False` on the same weights and images.

    python scripts/bench_parity.py --data ../shared/data/hardhat/data.yaml --imgsz 320 ../shared/models/hardhat/*.pt

Every figure is mAP50-95 on the split; a difference of .003 is the aim.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import date
from pathlib import Path

from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.devices.local import LocalDevice
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import read_truths, score
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.stages import build, export
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--imgsz", type=int, default=320)
    options = parser.parse_args()
    prepare_ultralytics()
    from ultralytics import YOLO

    dataset = load_dataset(options.data)
    images = dataset.splits[options.split]
    truths = read_truths(images, dataset.label_format())
    print("| weights | yolo val rect=False | onnxruntime-fp32 | difference | ncnn-fp16 | difference |")
    print("|---|---|---|---|---|---|")
    for weights in options.models:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            data = write_absolute_yaml(dataset, folder / "data.yaml")
            context = Context.load(options.data, imgsz=options.imgsz)
            onnx = export.run(weights, ExportConfig(), folder / "export", context).onnx
            built = build.run(
                build.BuildInputs(onnx=onnx, images=selfcheck_images(dataset)),
                folder / "build",
                context,
                name=weights.stem,
            )
            model = YOLO(weights)
            if hasattr(model.model, "end2end"):
                model.model.end2end = False  # what is exported is the one-to-many head
            wanted = float(
                model.val(
                    data=str(data),
                    split=options.split,
                    imgsz=options.imgsz,
                    rect=False,
                    plots=False,
                    verbose=False,
                    workers=0,
                    project=str(folder),
                ).box.map
            )
            cells = [weights.stem, f"{wanted:.4f}"]
            for bundle in built.bundles.values():
                device, images_folder = LocalDevice(), folder / "data_links" / "images" / options.split
                answers = device.infer(device.put(bundle), images_folder)
                got = score(truths, [answer.detections for answer in answers], dataset.names).map50_95
                cells += [f"{got:.4f}", f"{got - wanted:+.4f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    about = ", ".join(f"{key} {value}" for key, value in versions().items())
    print(f"\n`python scripts/bench_parity.py {' '.join(sys.argv[1:])}`: {len(images)} {options.split} images,")
    print(f"{options.imgsz} px, {date.today()}, {device_model()}, {cores()} cores; {about}")


if __name__ == "__main__":
    main()
