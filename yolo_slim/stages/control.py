"""best.pt -> control.json: whether the unpruned model is worth comparing with, before anything is made of it."""

from __future__ import annotations

from pathlib import Path

from yolo_slim.config.run import ValidateConfig
from yolo_slim.files import write_json
from yolo_slim.stages.context import Context
from yolo_slim.verdict.control import far_from_training
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

REVISION = 2
"""Raised when equal inputs are checked otherwise."""
VERY_FAR = 0.5
"""Share of the mAP that training recorded. Few images alone make a smaller difference."""
PACKAGES = ("torch", "ultralytics", "numpy", "opencv-python")
"""Packages that run the network and compute its mAP."""


def run(model: Path, config: ValidateConfig, folder: Path, context: Context) -> Path:
    """Check the control, and return the file that says how (:class:`~yolo_slim.measuring.control_check.ControlCheck`).

    Raises:
        SlimError: the control finds almost nothing, or Ultralytics measures another mAP on the same images.
    """
    path = folder / "control.json"
    job = Job(
        stage="control",
        folder=folder,
        settings={
            "imgsz": context.imgsz, "end2end": context.end2end, "split": config.split, "max_images": config.max_images,
        },
        inputs={"model": content(model), "data": context.dataset.digest},
        revision=REVISION,
        packages=PACKAGES,
    )  # fmt: skip

    def make(_: None) -> Made:
        from yolo_slim.measuring.control_check import ControlChecker
        from yolo_slim.models import checkpoint

        found = ControlChecker(
            control=checkpoint.load(model), dataset=context.dataset, config=config,
            imgsz=context.imgsz, end2end=context.end2end, progress=context.progress,
        ).check()  # fmt: skip
        far = far_from_training("the model", found.map50_95, found.trained_map50_95, VERY_FAR)
        for line in (found.as_text(), *(f"control: WARNING: {doubt}" for doubt in (*far, *found.doubts))):
            context.progress.say(line)
        write_json(path, found.to_json())
        return Made(outputs=[path])

    run_once(job, make, context, check=lambda: None)
    return path
