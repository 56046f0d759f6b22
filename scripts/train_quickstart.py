"""Train the quickstart's yolo11n from scratch on the rendered traffic signs, and write the shipped weights.

    python scripts/train_quickstart.py [--epochs 80] [--work runs/quickstart] [--out yolo_slim/assets]

Takes about 40 minutes on two CPU cores. Beside the weights it writes a JSON file with the settings, versions and the
validation mAP, so that a reader can tell how they came about.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch

from yolo_slim.datasets import quickstart
from yolo_slim.files import sha256, write_json
from yolo_slim.models.ultralytics import prepare_ultralytics, use_all_cores

SETTINGS = {
    "imgsz": 320,
    "batch": 16,
    "nbs": 16,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "cos_lr": True,
    "warmup_bias_lr": 0.0,
    "close_mosaic": 10,
    "fliplr": 0.0,
    "amp": False,
    "seed": 0,
    "deterministic": True,
    "workers": 2,
    "cache": "ram",
    "plots": False,
    "exist_ok": True,
}
"""No flips: a mirrored sign is another sign. ``nbs`` equals the batch, or only every fourth step would be an update."""

KEPT_ARGS = ("imgsz", "task", "epochs", "batch", "optimizer", "lr0", "box", "cls", "dfl", "overlap_mask", "fliplr")


def ship(best: Path, folder: Path) -> Path:
    """Write a checkpoint in half precision, without paths, dates or repository names, under its shipped name."""
    content = torch.load(best, map_location="cpu", weights_only=False)
    model = content["model"].half()
    model.args = {key: value for key, value in dict(model.args).items() if key in KEPT_ARGS}
    kept = {"version": content["version"], "license": content["license"], "docs": content["docs"], "model": model}
    train_args = {key: value for key, value in content["train_args"].items() if key in KEPT_ARGS}
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / quickstart.MODEL.name
    with weights.open("wb") as stream:
        torch.save({"epoch": -1, "ema": None, "optimizer": None, "train_args": train_args, **kept}, stream)
    return weights


def main() -> None:
    """Train, then write the weights without a trace of the machine that made them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--work", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("yolo_slim/assets"))
    options = parser.parse_args()
    prepare_ultralytics()
    from ultralytics import YOLO, __version__

    work = options.work.absolute()
    data = quickstart.default_data(work)
    model = YOLO("yolo11n.yaml")
    model.add_callback("on_train_start", lambda _: use_all_cores())
    model.train(data=str(data), epochs=options.epochs, project=str(work), name="train", **SETTINGS)
    weights = ship(work / "train" / "weights" / "best.pt", options.out)
    metrics = YOLO(weights).val(data=str(data), split="test", imgsz=320, rect=False, plots=False, verbose=False)
    record = {
        "command": f"python scripts/train_quickstart.py --epochs {options.epochs}",
        "generator_version": quickstart.GENERATOR_VERSION,
        "epochs": options.epochs,
        "settings": SETTINGS,
        "ultralytics": __version__,
        "python": platform.python_version(),
        "test_map50_95": round(float(metrics.box.map), 4),
        "sha256": sha256(weights),
    }
    write_json(weights.with_suffix(".json"), record)


if __name__ == "__main__":
    main()
