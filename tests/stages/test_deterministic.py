"""Export and build give the same bytes twice, and say no where they can't do what is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.listeners import Remembers
from yolo_slim.build_key import BuildName
from yolo_slim.bundle import open_bundle
from yolo_slim.config.profile import Budget, RuntimeChoice
from yolo_slim.config.run import ExportConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import sha256
from yolo_slim.models.exported import layout_of
from yolo_slim.runtime.selfcheck import check
from yolo_slim.stages import build, export
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context


def test_export_and_build_twice(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Two exports and two builds in different folders are equal, byte by byte; the self-check passes."""
    log, digests = Remembers(), []
    context = Context.load(signs, imgsz=128, progress=log)
    images = selfcheck_images(context.dataset)
    for name in ("a", "b"):
        onnx = export.run(trained, ExportConfig(parity_images=2), tmp_path / name / "export", context).onnx
        built = build.run(build.BuildInputs(onnx=onnx, images=images), tmp_path / name / "build", context, name="t")
        assert "WARNING" not in log.said
        assert set(map(str, built.bundles)) == {"onnxruntime-fp32", "ncnn-fp16"}
        digests.append([sha256(onnx), *[sha256(build.archive_of(folder)) for folder in built.bundles.values()]])
        assert all(check(open_bundle(folder)).is_passed for folder in built.bundles.values())
    assert digests[0] == digests[1]


def test_what_a_bundle_contains_decides_it(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A gate of the profile leaves the bundles alone; threads, which every bundle contains, make them again."""
    context, log = Context.load(signs, imgsz=64), Remembers()
    inputs = build.BuildInputs(
        onnx=export.run(trained, ExportConfig(parity_images=2), tmp_path / "export", context).onnx,
        images=selfcheck_images(context.dataset),
    )
    profile = context.profile.model_copy(
        update={"runtimes": [RuntimeChoice(runtime="onnxruntime", precisions=["fp32"])], "threads": 2}
    )
    for change in ({}, {"budget": Budget(min_fps=500)}, {"threads": 1}):
        given = replace(context, profile=profile.model_copy(update=change), progress=log)
        build.run(inputs, tmp_path / "build", given, name="t")
    answers = [line for line in log.said.splitlines() if "up to date" in line or "stale" in line]
    assert answers == ["build: up to date, skipped", "build: stale, made again: profile.threads 2 -> 1"]


def test_end2end(untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """yolo26 exports end2end; ONNX Runtime gets a bundle, NCNN is skipped with the reason; yolov8 is refused."""
    log = Remembers()
    context, config = Context.load(signs, imgsz=64, progress=log), ExportConfig(parity_images=2, end2end=True)
    onnx = export.run(untrained("yolo26n"), config, tmp_path / "export", context).onnx
    assert layout_of(onnx).layout == "end2end"
    inputs = build.BuildInputs(onnx=onnx, images=selfcheck_images(context.dataset))
    built = build.run(inputs, tmp_path / "build", context, name="t")
    assert set(map(str, built.bundles)) == {"onnxruntime-fp32"}
    assert "end2end" in built.skipped[BuildName("ncnn", "fp16")]
    # Random weights find nothing: that is said, and the check of such a bundle compares nothing and fails.
    assert "onnxruntime-fp32: WARNING: the model finds nothing in the 16 images" in log.said
    assert not check(open_bundle(next(iter(built.bundles.values())))).is_passed
    with pytest.raises(SlimError, match="no one-to-one head"):
        export.run(untrained("yolov8n"), ExportConfig(end2end=True), tmp_path / "x", context)
