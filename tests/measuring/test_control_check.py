"""A wrong truth or wrong weights end the run or are told, before anything is made of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.helpers.listeners import Remembers
from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.labels import LabelFormat
from yolo_slim.errors import SlimError
from yolo_slim.measuring.control_check import (
    MOST_DIFFERENCE,
    ControlCheck,
    ControlChecker,
    allowed_difference,
    spread,
)
from yolo_slim.measuring.truth import Truth
from yolo_slim.models import checkpoint
from yolo_slim.progress import Silent
from yolo_slim.stages import control
from yolo_slim.stages.context import Context
from yolo_slim.verdict.control import control_gate, far_from_training

IMGSZ = 320
Rows = list[list[str]]


def checked(model: Path, data: Path) -> ControlCheck:
    """Check a model on a data set's validation images."""
    return ControlChecker(
        control=checkpoint.load(model), dataset=load_dataset(data), config=ValidateConfig(split="val"),
        imgsz=IMGSZ, end2end=False, progress=Silent(),
    ).check()  # fmt: skip


@pytest.fixture(scope="module")
def recorded(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the trained model with a record of its mAP, as a training writes it."""
    found = checked(trained, signs)
    content = torch.load(trained, weights_only=False)
    path = tmp_path_factory.mktemp("recorded") / "it's best.pt"
    torch.save({**content, "train_metrics": {"metrics/mAP50-95(B)": found.map50_95}}, path)
    return path


def told(model: Path, data: Path) -> str:
    """Return what a user is told of a control: the refusal, the gate's reason and the note; empty: nothing."""
    try:
        found = checked(model, data)
    except SlimError as error:
        return str(error)
    gate = control_gate(found.map50_95, 0.02)
    far = far_from_training("control", found.map50_95, found.trained_map50_95)
    return " ".join([gate.reason, *far, *found.doubts]).strip()


def test_right_data_and_weights(recorded: Path, signs: Path) -> None:
    """Our mAP is Ultralytics', the training's record is read, and nothing is told."""
    found = checked(recorded, signs)
    assert found.map50_95 > 0.3
    assert found.trained_map50_95 == pytest.approx(found.map50_95)
    assert abs(found.map50_95 - found.ultralytics_map50_95) < MOST_DIFFERENCE
    assert told(recorded, signs) == ""


@pytest.mark.parametrize("imgsz", [64, IMGSZ])
def test_side_far_from_the_trainings(imgsz: int, recorded: Path, signs: Path, tmp_path: Path) -> None:
    """A model that scores less than half of its record is told at once; at the side of its training nothing is."""
    listener = Remembers()
    context = Context.load(signs, "host", imgsz=imgsz, progress=listener)
    control.run(recorded, ValidateConfig(split="val"), tmp_path, context)
    told_it = "control: WARNING: the model scores mAP50-95" in listener.said
    assert told_it == (imgsz != IMGSZ), listener.said


def test_difference_on_purpose_is_said() -> None:
    """The line says why the two figures differ, and nothing where they don't."""
    same = ControlCheck(split="val", images=48, map50_95=0.5, ultralytics_map50_95=0.5, trained_map50_95=None)
    assert "rounds" not in same.as_text()
    assert "0.5020 (it rounds scaled sides up)" in same.model_copy(update={"ultralytics_map50_95": 0.502}).as_text()


def test_without_a_record(trained: Path, signs: Path) -> None:
    """A checkpoint that records no mAP is compared with Ultralytics' validator alone."""
    assert checked(trained, signs).trained_map50_95 is None


@pytest.mark.parametrize(
    ("images", "difference"), [(1, 0.224), (2, 0.258), (3, 0.206), (5, 0.129), (8, 0.079), (15, 0.042), (48, 0.014)]
)
def test_few_images_differ_more(images: int, difference: float) -> None:
    """The largest differences that were measured on right data are allowed, however few images there are."""
    assert difference <= allowed_difference(images)


@pytest.mark.parametrize(("images", "difference"), [(2, 0.5), (10, 0.1), (48, 0.021), (400, 0.021)])
def test_many_images_differ_less(images: int, difference: float) -> None:
    """Negative control: what the number of images doesn't explain is refused."""
    assert difference > allowed_difference(images)


@pytest.mark.parametrize("most", [1, 10, 15, 16, 400])
def test_sample_is_spread_over_the_split(most: int) -> None:
    """Where there are fewer than twice as many images as are taken, the last ones are among them too."""
    images = [Path(f"{number}.jpg") for number in range(16)]
    taken = spread(images, most)
    assert len(set(taken)) == len(taken) == min(most, 16)
    assert most == 1 or images.index(taken[-1]) >= 14


def shuffled(files: list[Rows]) -> list[Rows]:
    """Give every image the labels of another one."""
    return [*files[1:], files[0]]


def shifted(files: list[Rows]) -> list[Rows]:
    """Move every box by a twentieth of the image."""
    return [[[c, f"{min(float(x) + 0.05, 1)}", y, w, h] for c, x, y, w, h in rows] for rows in files]


def swapped(files: list[Rows]) -> list[Rows]:
    """Give every object the next class."""
    return [[[str((int(c) + 1) % 3), *box] for c, *box in rows] for rows in files]


def halved(files: list[Rows]) -> list[Rows]:
    """Delete half of the labels."""
    chance = random.Random(0)
    return [[row for row in rows if chance.random() < 0.5] for rows in files]


@pytest.mark.parametrize("change", [shuffled, shifted, swapped, halved])
@pytest.mark.parametrize("record", [True, False], ids=["recorded mAP", "no record"])
def test_wrong_truth(
    recorded: Path, trained: Path, signs: Path, tmp_path: Path, change: Callable[[list[Rows]], list[Rows]], record: bool
) -> None:
    """Labels that aren't those of the images are never scored without a word, also where no training is on record."""
    data = tmp_path / "data"
    shutil.copytree(signs.parent, data)
    labels = sorted((data / "labels" / "val").glob("*.txt"))
    rows = [[line.split() for line in path.read_text().splitlines()] for path in labels]
    for path, changed in zip(labels, change(rows), strict=True):
        path.write_text("".join(f"{' '.join(row)}\n" for row in changed))
    assert told(recorded if record else trained, data / signs.name)


def test_lost_label_files(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Images whose label files are gone are looked at too."""
    data = tmp_path / "data"
    shutil.copytree(signs.parent, data)
    for path in sorted((data / "labels" / "val").glob("*.txt"))[::2]:
        path.unlink()
    listener = Remembers()
    context = Context.load(data / signs.name, imgsz=IMGSZ, progress=listener)
    control.run(trained, ValidateConfig(split="val"), tmp_path / "control", context)
    assert "control: WARNING: " in listener.said
    assert "have no label at their place" in listener.said


def test_zeroed_layer(recorded: Path, signs: Path, tmp_path: Path) -> None:
    """One layer of zeros is told by the training's record, or ends the run."""
    content = torch.load(recorded, weights_only=False)
    content["model"].model[4].cv2.conv.weight.data.zero_()
    torch.save(content, tmp_path / "zeroed.pt")
    assert told(tmp_path / "zeroed.pt", signs)


def test_another_models_weights(untrained: Callable[[str], Path], signs: Path) -> None:
    """Weights that find nothing end the run, with what to give instead."""
    with pytest.raises(SlimError, match=r"finds almost nothing: mAP50-95 0\.0\d+ on \d+ val images") as caught:
        checked(untrained("yolov8n"), signs)
    assert "the data that it was trained on" in caught.value.remedy


def test_truth_that_is_read_another_way(trained: Path, signs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a reader of labels that loses every other box doesn't get past Ultralytics' validator."""
    from yolo_slim.measuring import images

    read = images.read_truths

    def half_read(paths: Sequence[Path], label_format: LabelFormat) -> list[Truth]:
        return [Truth(boxes=truth.boxes[::2], class_ids=truth.class_ids[::2]) for truth in read(paths, label_format)]

    monkeypatch.setattr(images, "read_truths", half_read)
    with pytest.raises(SlimError, match="score the same weights differently"):
        checked(trained, signs)
