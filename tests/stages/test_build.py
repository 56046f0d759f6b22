"""The build stage refuses graphs that don't belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.tiny_detector import save_scene, write_described
from yolo_slim.config import targets
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.stages import build
from yolo_slim.stages.context import Context


def test_quantized_graphs_of_another_export(signs: Path, tmp_path: Path) -> None:
    """A bundle would say of its graph what another graph is; graphs that no build needs aren't looked at (control)."""
    profile = targets.load("host").model_copy(
        update={"runtimes": [RuntimeChoice(runtime="onnxruntime", precisions=["fp32", "int8"])]}
    )
    context = Context(dataset=load_dataset(signs), profile=profile, imgsz=64)
    other = write_described(tmp_path / "other.onnx", imgsz=(128, 128))
    inputs = build.BuildInputs(
        onnx=write_described(tmp_path / "model.onnx"), images=[save_scene(tmp_path / "a.png")], graphs={"int8": other}
    )
    with pytest.raises(SlimError, match="weren't made from") as error:
        build.run(inputs, tmp_path / "out", context, name="t")
    assert error.value.culprits == (f"{other} (int8): 128x128, classes red, blue",)
    alone = profile.model_copy(update={"runtimes": [RuntimeChoice(runtime="onnxruntime", precisions=["fp32"])]})
    assert build.run(inputs, tmp_path / "out", replace(context, profile=alone), name="t").bundles
