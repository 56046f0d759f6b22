"""Splits without images or labels: which split is scored, and what every stage refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from yolo_slim import api
from yolo_slim.config.run import ExportConfig, ValidateConfig
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.export.parity import measure_parity
from yolo_slim.measuring.images import choose_split, passed_over
from yolo_slim.models import checkpoint
from yolo_slim.stages import export
from yolo_slim.stages.context import Context


def test_test_list_of_images_that_nobody_has(copied: Path) -> None:
    """COCO's list of unlabelled test images is no test split; one that is partly there is a damaged one."""
    listed = copied.parent / "test.txt"
    listed.write_text("./images/test2017/1.jpg\n./images/test2017/2.jpg\n")
    copied.write_text(re.sub(r"^test:.*\n", "", copied.read_text(), flags=re.MULTILINE) + "test: test.txt\n")
    dataset = load_dataset(copied)
    assert not dataset.has("test")
    check_dataset(dataset)
    assert choose_split(dataset, ValidateConfig()) == "val"
    assert passed_over(dataset, "val") == [
        "the test split can't be used (test: none of its 2 images exists): mAP is measured on val"
    ]
    with pytest.raises(SlimError, match="the split 'test' has no images") as caught:
        choose_split(dataset, ValidateConfig(split="test"))
    assert caught.value.culprits == ("test: none of its 2 images exists",)
    listed.write_text("./images/val/00000.jpg\n./images/test2017/2.jpg\n")
    with pytest.raises(SlimError, match="no such file"):
        check_dataset(load_dataset(copied))
    copied.write_text(copied.read_text().replace("test: test.txt", "test: [images/val, images/gone]"))
    with pytest.raises(SlimError, match="the split 'test' is incomplete"):
        choose_split(load_dataset(copied), ValidateConfig())


def test_split_without_labels_judges_nothing(copied: Path) -> None:
    """On images without labels every mAP is 0 and every drop too: they aren't scored, nor is a run begun."""
    folder = copied.parent / "images" / "unlabelled"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(copied.parent / "images/val/00000.jpg", folder / name)
    copied.write_text(re.sub(r"^test:.*\n", "", copied.read_text(), flags=re.MULTILINE) + "test: images/unlabelled\n")
    assert choose_split(load_dataset(copied), ValidateConfig()) == "val"
    with pytest.raises(SlimError, match="none of the 2 images of 'test' that would be scored has a label"):
        choose_split(load_dataset(copied), ValidateConfig(split="test"))
    labels = copied.parent / "labels" / "unlabelled"
    labels.mkdir()
    (labels / "b.txt").write_text("0 .5 .5 .1 .1\n")
    assert choose_split(load_dataset(copied), ValidateConfig()) == "test"
    with pytest.raises(SlimError, match="none of the 1 images"):
        choose_split(load_dataset(copied), ValidateConfig(max_images=1))


def test_stages_alone_check_what_they_read(copied: Path, signs: Path, trained: Path, tmp_path: Path) -> None:
    """Labels that can't be read, a missing split and no images at all are errors of every stage, not tracebacks."""
    plain = copied.read_text()
    label = copied.parent / "labels/train/00000.txt"
    label.write_text("0 .5 .5\n")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(SlimError, match="has 3 columns"):
        api.quantize(tmp_path / "model.onnx", copied, tmp_path / "quantize", imgsz=64)
    label.unlink()
    copied.write_text(re.sub(r"^(val|train):.*\n", "", plain, flags=re.MULTILINE))
    context = Context.load(signs, imgsz=64)
    graph = export.run(trained, ExportConfig(parity_images=1), tmp_path / "export", context).onnx
    with pytest.raises(SlimError, match="no images on which the graphs can be compared"):
        api.quantize(graph, copied, tmp_path / "half", precisions=["fp16"])
    copied.write_text(re.sub(r"^val:.*\n", "", plain, flags=re.MULTILINE))
    with pytest.raises(SlimError, match="no validation images for the bundle's self-check"):
        api.build("model.onnx", copied, tmp_path / "build")
    with pytest.raises(SlimError, match="no images on which the ONNX graph"):
        measure_parity(checkpoint.load(trained), tmp_path / "model.onnx", [], imgsz=64, end2end=False)
