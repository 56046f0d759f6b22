"""A bundle of the built-in example's model, for people who want to see the camera before they have one."""

from __future__ import annotations

import sys
from pathlib import Path

from yolo_slim.errors import SlimError

IMGSZ = 320
COUNTS = {"train": 1, "val": 16, "test": 1}
"""Scenes to compare the exported graph on, and for the self-check."""


def example_bundle(folder: Path) -> Path:
    """Build it once in a folder, which takes about half a minute, and return its own folder.

    Raises:
        SlimError: it can't be built here.
    """
    from yolo_slim import api
    from yolo_slim.datasets import quickstart

    print("Built-in example: it finds traffic signs. Give a bundle of yours to find other things.", file=sys.stderr)
    if not (folder / "build" / "manifest.json").is_file():
        print("Making its bundle (half a minute, once)", file=sys.stderr)
    data = quickstart.generate(folder / "data", counts=COUNTS, imgsz=IMGSZ)
    onnx = api.export(quickstart.default_model(), data, folder / "export", imgsz=IMGSZ).onnx
    bundles = api.build(onnx, data, folder / "build", target="host").bundles
    if not bundles:
        raise SlimError("No bundle of the example can be built here.", remedy="See what `yolo-slim doctor` says.")
    return next(iter(bundles.values()))
