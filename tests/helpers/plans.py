"""Plans: quick settings to make one, a way to apply it, and changes of its JSON value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_slim.config.run import PruneConfig
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.stages import plan
from yolo_slim.stages.context import Context

TWO_STEPS = PruneConfig(criterion="l2", normalize="mean", steps=2, bn_images=8)
"""Scores without gradients, so that a pruning takes seconds."""
EDITED_LAYER = "model.2.cv1.conv"


def apply(plan_path: Path, model: Path, folder: Path, context: Context) -> PruneOutputs:
    """Apply a plan with its own input side, seed and head, as `yolo-slim plan apply` does."""
    imgsz, seed, end2end = plan.settings_in(plan_path)
    return plan.apply(plan_path, model, folder, replace(context, imgsz=imgsz, seed=seed, end2end=end2end))


def with_row(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change the line of :data:`EDITED_LAYER` in a plan's JSON value."""
    layers = values["layers"]
    return {**values, "layers": {**layers, EDITED_LAYER: {**layers[EDITED_LAYER], **changes}}}


def with_settings(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change settings that a plan's JSON value records."""
    return {**values, "settings": {**values["settings"], **changes}}
