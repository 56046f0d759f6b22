"""Where the repository is, which families the tests cover, and settings that make a run quick."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("yolov8n", "yolo11n", "yolo26n")
QUICK = [
    "--set",
    "validate.min_seconds=0.2",
    "--set",
    "validate.rounds=1",
    "--set",
    "validate.busy=mark",  # a machine that runs tests is busy; its timings are kept, marked invalid
    "--set",
    "prune.steps=1",
    "--set",
    "prune.images=8",
]
QUICK += ["--set", "prune.bn_images=8", "--set", "export.parity_images=2", "--train", "workers=0"]
"""Options of ``yolo-slim run``: few images and short timings."""
