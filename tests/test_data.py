"""Data sets: resolved as Ultralytics does, and the user's folder stays as it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_slim import api
from yolo_slim.config.run import ExportConfig, ValidateConfig
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.errors import SlimError
from yolo_slim.export.parity import measure_parity
from yolo_slim.measuring.images import choose_split, passed_over
from yolo_slim.models import checkpoint
from yolo_slim.stages import export as export_stage
from yolo_slim.stages.export import ExportInputs


@pytest.fixture
def copied(signs: Path, tmp_path: Path) -> Path:
    """Return the data.yaml of a copy of the signs."""
    shutil.copytree(signs.parent, tmp_path / "data")
    return tmp_path / "data" / "data.yaml"


def test_users_folder_stays(copied: Path, tmp_path: Path) -> None:
    """Ultralytics reads the links; its caches land beside them and nothing appears in the user's folder."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    before = {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*")}
    dataset = load_dataset(copied)
    data = check_det_dataset(str(write_absolute_yaml(dataset, tmp_path / "out.yaml")))
    loaded = YOLODataset(img_path=data["val"], data=data, imgsz=64, augment=False)
    assert len(loaded) == len(dataset.splits["val"])
    boxes = [len(read_labels(label_path(path))) for path in dataset.splits["val"]]
    assert [len(label["cls"]) for label in loaded.labels] == boxes
    assert {path: path.stat().st_mtime_ns for path in copied.parent.rglob("*")} == before


def test_digest_sees_changes(copied: Path) -> None:
    """The digest changes with a label, an image and what is said of keypoints, and not with time."""
    first = load_dataset(copied).digest
    label = copied.parent / "labels/train/00000.txt"
    text = label.read_text()
    label.write_text(text + text)
    assert load_dataset(copied).digest != first
    label.write_text(text)
    assert load_dataset(copied).digest == first
    copied.write_text(copied.read_text() + "flip_idx: [1, 0]\n")
    flipped = load_dataset(copied).digest
    copied.write_text(copied.read_text().replace("[1, 0]", "[0, 1]"))
    assert len({first, flipped, load_dataset(copied).digest}) == 3
    image = copied.parent / "images/train/00000.jpg"
    image.write_bytes(image.read_bytes() + b"0")
    assert load_dataset(copied).digest != first


def test_labels(tmp_path: Path) -> None:
    """Polygons become boxes, repeated rows are dropped, a missing file is a background."""
    path = tmp_path / "a.txt"
    path.write_text("1 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    assert read_labels(path).tolist() == [[1, 0.5, 0.5, 0.2, 0.4]]
    path.write_text("0 0.1 0.1 0.3 0.1 0.3 0.5\n")
    assert np.allclose(read_labels(path), [[0, 0.2, 0.3, 0.2, 0.4]])
    assert read_labels(tmp_path / "none.txt").shape == (0, 5)


def test_formats_that_devices_do_not_read(copied: Path) -> None:
    """An image that Ultralytics validates on and a device can't be scored on is named before any work."""
    check_dataset(load_dataset(copied))
    image = copied.parent / "images/val/00000.jpg"
    image.rename(image.with_suffix(".mpo"))
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied))
    assert "devices don't read .mpo" in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images(copied: Path, channels: int) -> None:
    """An image of 16 bits, which Ultralytics trains on and no device's pre-processing takes, is named; 8 bits pass."""
    image = copied.parent / "images/val/00000.jpg"
    image.unlink()
    for depth in (np.uint8, np.uint16):
        cv2.imwrite(str(image.with_suffix(".png")), np.full((64, 64, channels), 200, depth))
        if depth == np.uint8:
            check_dataset(load_dataset(copied), deep=True)
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied), deep=True)
    assert caught.value.culprits == (f"{image.with_suffix('.png')}: more than 8 bits per channel; convert it to 8",)


def test_images_that_only_the_training_can_read(copied: Path) -> None:
    """What a device's decoder takes for damaged is named before the training, and a legal rare JPEG passes."""
    first = copied.parent / "images/val/00000.jpg"
    written = first.read_bytes()
    first.write_bytes(written[:2] + b"\xff" * 3 + written[2:])
    check_dataset(load_dataset(copied))
    second = first.with_name("00001.png")
    first.with_name("00001.jpg").unlink()
    cv2.imwrite(str(second), np.full((64, 64, 3), 200, np.uint8))
    second.write_bytes(second.read_bytes()[:-12])
    with pytest.raises(SlimError) as caught:
        check_dataset(load_dataset(copied))
    (problem,) = caught.value.culprits
    assert problem.startswith(f"{second}: OpenCV")


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


def test_forms_of_a_description(copied: Path) -> None:
    """A count as text passes as in Ultralytics; a split that is a number and a list in another encoding are named."""
    plain = copied.read_text()
    count = len(load_dataset(copied).names)
    for same in (f"'{count}'", f"'{count}.0'", f"{count}.0"):
        copied.write_text(f"{plain}nc: {same}\n")
        load_dataset(copied)
    copied.write_text(re.sub(r"^names:(\n[ -].*)*.*$", f"nc: '{count}'", plain, flags=re.MULTILINE))
    assert len(load_dataset(copied).names) == count
    copied.write_text(f"{plain}nc: '{count + 1}'\n")
    with pytest.raises(SlimError, match="names lists"):
        load_dataset(copied)
    copied.write_text(plain.replace("val:", "validation: 3 #"))
    with pytest.raises(SlimError, match="validation: got 3; expected a folder"):
        load_dataset(copied)
    (copied.parent / "val.txt").write_bytes("./images/val/\u00e4.jpg\n".encode("latin-1"))
    copied.write_text(re.sub(r"^val:.*$", "val: val.txt", plain, flags=re.MULTILINE))
    with pytest.raises(SlimError, match=r"val\.txt is no list of images in UTF-8"):
        check_dataset(load_dataset(copied))


def test_stages_alone_check_what_they_read(copied: Path, signs: Path, trained: Path, tmp_path: Path) -> None:
    """Labels that can't be read, a missing split and no images at all are errors of every stage, not tracebacks."""
    plain = copied.read_text()
    label = copied.parent / "labels/train/00000.txt"
    label.write_text("0 .5 .5\n")
    with pytest.raises(SlimError, match="has 3 columns"):
        api.quantize("model.onnx", copied, tmp_path / "quantize", imgsz=64)
    label.unlink()
    copied.write_text(re.sub(r"^(val|train):.*\n", "", plain, flags=re.MULTILINE))
    graph = Path(
        export_stage.run(
            ExportInputs(weights=trained, data=signs), ExportConfig(parity_images=1), tmp_path / "export", imgsz=64
        ).onnx
    )
    with pytest.raises(SlimError, match="no images to compare the graphs"):
        api.quantize(graph, copied, tmp_path / "half", precisions=["fp16"])
    copied.write_text(re.sub(r"^val:.*\n", "", plain, flags=re.MULTILINE))
    with pytest.raises(SlimError, match="no validation images for the bundle's self-check"):
        api.build("model.onnx", copied, tmp_path / "build")
    with pytest.raises(SlimError, match="no images to compare"):
        measure_parity(checkpoint.load(trained), tmp_path / "model.onnx", [], imgsz=64, end2end=False)
