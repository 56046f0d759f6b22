"""The recovery's defaults: Ultralytics arguments that differ from its own, and those that the stage sets itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import yaml

DEFAULTS: dict[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 0.001,
    "lrf": 0.01,
    "cos_lr": True,
    "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.0,
    "cache": "ram",
    "plots": False,
    "verbose": False,
}
"""Ultralytics arguments that differ from its own defaults; each can be overridden.

lr0 was compared with its half and double, AdamW against SGD, the cosine against linear decay, the warm-up against none:
docs/benchmarks/ablations.md.
"""


OURS = frozenset(
    [
        "model",
        "data",
        "imgsz",
        "epochs",
        "batch",
        "patience",
        "device",
        "seed",
        "project",
        "name",
        "exist_ok",
        "resume",
        "save_dir",
        "mode",
        # Only Ultralytics' own command line reads that file.
        "cfg",
        "task",
        "distill_model",
        "dis",
        # Other weights would take the pruned ones' place; without saving, nothing could be resumed or kept.
        "pretrained",
        "save",
        # Another split would choose the best epoch, with test images in view; the model has its classes, all of them.
        "split",
        "single_cls",
        "classes",
        # Which head is validated follows from export.end2end.
        "nms",
    ]
)
"""Arguments that the stage sets itself."""


def ultralytics_names() -> list[str]:
    """The names of all arguments that Ultralytics takes, from its own file: importing it takes seconds."""
    found = importlib.util.find_spec("ultralytics")
    places = list(found.submodule_search_locations or []) if found else []
    files = [path for place in places if (path := Path(place) / "cfg" / "default.yaml").is_file()]
    return list(yaml.safe_load(files[0].read_text(encoding="utf-8"))) if files else []
