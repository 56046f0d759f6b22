"""The calibration set: every class, the same for a seed, never an image that judges; bad files are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.quantization import calibration, calibration_file


def make_data(folder: Path, train: int = 60, val: int = 4) -> Dataset:
    """Return a data set of random 16 px images of class 0; the last training image alone has class 1."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / "images" / split / f"{i:03}.png"), rng.integers(0, 255, (16, 16, 3), np.uint8))
            class_id = int(split == "train" and i == train - 1)
            (folder / "labels" / split / f"{i:03}.txt").write_text(f"{class_id} .5 .5 .4 .4\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\n")
    return load_dataset(folder / "data.yaml")


def chosen(dataset: Dataset, **changes: int) -> calibration.Calibration:
    """Return a choice of 32 images and 8 more to check."""
    return calibration.choose(dataset, **{"count": 32, "check": 8, "imgsz": 64, "seed": 0, **changes})


def test_choice(tmp_path: Path) -> None:
    """A rare class is in it whatever the seed, one seed gives one choice, and the images to check are others."""
    dataset = make_data(tmp_path)
    rare = dataset.splits["train"][-1]
    for seed in range(5):
        found = chosen(dataset, seed=seed)
        assert rare in found.images
        assert (len(found.images), len(found.check)) == (32, 8)
        assert not set(found.images) & set(found.check)
    assert chosen(dataset) == chosen(dataset)
    assert chosen(dataset).images != chosen(dataset, seed=1).images


def test_small_split(tmp_path: Path) -> None:
    """Fewer images than asked are taken where the split has no more, and none is spared when all are needed."""
    found = chosen(make_data(tmp_path, train=33), count=512)
    assert (len(found.images), len(found.check)) == (32, 1)


def test_repeated_images_count_once(tmp_path: Path) -> None:
    """An image that the training split lists again is chosen once, and doesn't make up for one that is missing."""
    dataset = make_data(tmp_path)
    once = chosen(dataset)
    dataset.splits["train"] = sorted(dataset.splits["train"] * 3, key=str)
    assert chosen(dataset) == once
    dataset.splits["train"] = dataset.splits["train"][: 31 * 3]
    with pytest.raises(SlimError, match=r"31 training images .* it lists 62 again, which count once"):
        chosen(dataset)


def test_saved_and_loaded(tmp_path: Path) -> None:
    """What was saved is loaded, and the file names no folder of this machine."""
    dataset = make_data(tmp_path / "data")
    path = tmp_path / "calibration.json"
    calibration_file.save(chosen(dataset), dataset, path)
    assert calibration_file.load(path, dataset, imgsz=64) == chosen(dataset)
    assert str(tmp_path) not in path.read_text()


def test_list_that_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ultralytics reads such lines; the file that is saved finds the images again."""
    make_data(tmp_path / "data")
    lines = [f"data/images/train/{i:03}.png" for i in range(60)]
    (tmp_path / "data" / "train.txt").write_text("\n".join(lines))
    (tmp_path / "data" / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [a, b]\n")
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset(tmp_path / "data" / "data.yaml")
    path = tmp_path / "calibration.json"
    calibration_file.save(chosen(dataset), dataset, path)
    found = calibration_file.load(path, dataset, imgsz=64)
    assert [image.resolve() for image in found.images] == [image.resolve() for image in chosen(dataset).images]


def test_no_images(tmp_path: Path) -> None:
    """A data set without training images is refused by that fact."""
    dataset = make_data(tmp_path)
    dataset.splits["train"] = []
    with pytest.raises(SlimError, match="no training images to calibrate"):
        chosen(dataset)


def test_too_few(tmp_path: Path) -> None:
    """31 images are refused with the number that is needed."""
    with pytest.raises(SlimError, match=r"31 training images .* at least 32"):
        chosen(make_data(tmp_path, train=31))


def test_train_is_val(tmp_path: Path) -> None:
    """Training images that are the validation images, by file or as copies, are left out; too few are then an error."""
    dataset = make_data(tmp_path)
    dataset.splits["val"] = dataset.splits["train"][:10]
    copies = []
    for image in dataset.splits["train"][10:15]:
        copies.append(tmp_path / f"copy-{image.name}")
        shutil.copyfile(image, copies[-1])
    dataset.splits["test"] = copies
    free = set(dataset.splits["train"][15:])
    assert set(chosen(dataset, count=512).images) <= free
    dataset.splits["val"] = dataset.splits["train"]
    with pytest.raises(SlimError, match="60 of its 60 images are also in val or test"):
        chosen(dataset)


def test_another_imgsz(tmp_path: Path) -> None:
    """A file made for another input side is refused with both sizes."""
    dataset = make_data(tmp_path / "data")
    path = tmp_path / "calibration.json"
    calibration_file.save(chosen(dataset), dataset, path)
    with pytest.raises(SlimError, match="imgsz 64, not 128"):
        calibration_file.load(path, dataset, imgsz=128)


def test_changed_or_gone_image(tmp_path: Path) -> None:
    """Images with other bytes, or none, are named."""
    dataset = make_data(tmp_path / "data")
    path = tmp_path / "calibration.json"
    calibration_file.save(chosen(dataset), dataset, path)
    first, second = chosen(dataset).images[:2]
    first.write_bytes(second.read_bytes())
    second.unlink()
    with pytest.raises(SlimError, match="2 of its 40") as raised:
        calibration_file.load(path, dataset, imgsz=64)
    assert any(first.name in line and "other bytes" in line for line in raised.value.culprits)
    assert any(second.name in line and "no such file" in line for line in raised.value.culprits)


def test_validation_images_in_the_file(tmp_path: Path) -> None:
    """A file that lists validation images is refused, and so is one with a copy of one."""
    dataset = make_data(tmp_path / "data")
    path = tmp_path / "calibration.json"
    calibration_file.save(chosen(dataset), dataset, path)
    dataset.splits["val"] = [*dataset.splits["val"], chosen(dataset).images[0]]
    with pytest.raises(SlimError, match="1 of its images are also in val or test"):
        calibration_file.load(path, dataset, imgsz=64)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "imgsz": 64, "seed": 0, "images": [1], "check": []}'])
def test_damaged_file(text: str, tmp_path: Path) -> None:
    """A file of something else is an error that names it."""
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(SlimError, match=r"calibration\.json isn't a calibration file"):
        calibration_file.load(path, make_data(tmp_path / "data"), imgsz=64)


def test_newer_schema_and_short_file(tmp_path: Path) -> None:
    """Another schema and a list of too few images are refused."""
    dataset = make_data(tmp_path / "data")
    path = tmp_path / "calibration.json"
    calibration_file.save(chosen(dataset), dataset, path)
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "schema": 2}))
    with pytest.raises(SlimError, match="of schema 1"):
        calibration_file.load(path, dataset, imgsz=64)
    path.write_text(json.dumps({**value, "images": value["images"][:31]}))
    with pytest.raises(SlimError, match="lists 31 images"):
        calibration_file.load(path, dataset, imgsz=64)
