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
from yolo_slim.stages import build, quantize
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content


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


def test_quantized_folder_of_other_weights(tmp_path: Path) -> None:
    """Graphs of an earlier training look alike; the folder says what they were made from. Its own export passes."""
    own, other = write_described(tmp_path / "own.onnx"), write_described(tmp_path / "other.onnx", imgsz=(128, 128))
    folder = tmp_path / "quantize"
    job = Job(stage="quantize", folder=folder, settings={}, inputs={"onnx": content(own)}, revision=1, packages=())
    job.begin()
    graph = folder / "model-fp16.onnx"
    graph.write_bytes(own.read_bytes())
    job.finish(Made(outputs=[graph]), seconds=1.0)
    assert quantize.finished_in(folder, own).graphs == quantize.finished_in(folder).graphs == {"fp16": graph}
    with pytest.raises(SlimError, match=r"weren't made from .*other\.onnx: they have other weights"):
        quantize.finished_in(folder, other)
