"""Check a data set before hours are spent on it: every problem at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.datasets.description import SPLITS, Dataset
from yolo_slim.datasets.images import image_problem
from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.errors import SlimError
from yolo_slim.progress import Progress, Silent
from yolo_slim.runtime.decode import VAL
from yolo_slim.runtime.folders import IMAGE_SUFFIXES as READ_ON_DEVICES

MAX_BACKGROUNDS = 0.5
"""Largest share of images without labels that needs no warning: COCO has .01, Ultralytics advises up to .1.

Few data sets are meant to have more than half. Usually the labels are in another folder.
"""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Counts of a checked split."""

    images: int
    backgrounds: int
    """Images without a box."""
    boxes: int
    duplicates: int
    """Label rows that repeat another and are ignored."""
    repeats: int
    """Images that the split lists again: they count again."""
    most: int
    """Boxes of the image that has the most."""
    boxes_per_class: dict[int, int]

    def __str__(self) -> str:
        """Write the counts, those that are 0 left out."""
        counts = {
            "without labels": self.backgrounds,
            "duplicate rows dropped": self.duplicates,
            "images repeated": self.repeats,
        }
        return ", ".join([f"{self.images} images", *[f"{count} {what}" for what, count in counts.items() if count]])


def check_dataset(
    dataset: Dataset,
    *,
    need: Sequence[str] = ("train", "val"),
    model_names: dict[int, str] | None = None,
    task: str = "detect",
    deep: bool = True,
    progress: Progress | None = None,
) -> dict[str, SplitReport]:
    """Check the needed splits and any other that has images, and count what they contain.

    Args:
        dataset: the data set.
        need: splits that must have images.
        model_names: the class names of the model; None skips the comparison.
        task: Ultralytics' name of the task, which decides the format of labels.
        deep: also read every image: finds damage, content that isn't what the name says, and orientations that
            programs apply differently.
        progress: is told of every image, and in the end what the splits contain.

    Raises:
        SlimError: every problem that was found, at once.
    """
    progress = progress or Silent()
    problems = [problem for split in need for problem in _split_problems(dataset, split)]
    problems += _task_problems(dataset, task)
    checked = [split for split in dict.fromkeys((*need, *SPLITS)) if dataset.has(split)]
    images = [image for split in checked for image in dataset.splits[split]]
    inspect = partial(_inspect, dataset=dataset, task=task, deep=deep, scored=_scored(dataset, task))
    findings = _inspect_all(list(dict.fromkeys(images)), inspect, progress)
    problems += [problem for finding in findings.values() for problem in finding.problems]
    reports = {split: _report(dataset, dataset.splits[split], findings) for split in checked}
    problems += [problem for split in need if split in reports for problem in _no_boxes(dataset, split, reports[split])]
    if model_names is not None and dataset.names != model_names:
        raise _other_classes(dataset, model_names, problems)
    if problems:
        raise SlimError(
            f"{dataset.yaml}: {_counted(problems)} in the data set.",
            culprits=problems,
            remedy="Correct or remove these files and run the command again; nothing was changed.",
            topic="the-data-set-has-problems",
        )
    for line in [*dataset.notes, *_summary(dataset, reports)]:
        progress.say(line)
    return reports


def _counted(problems: Sequence[str]) -> str:
    return f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"


def _other_classes(dataset: Dataset, model_names: Mapping[int, str], others: Sequence[str]) -> SlimError:
    """The error of a data set whose classes aren't the model's; labels may have problems for that reason alone."""
    ours, theirs, remedy = dataset.names, model_names, "Give the data.yaml that the model was trained with."
    if sorted(ours.values()) == sorted(theirs.values()):
        what = "its classes are the model's in another order"
        remedy += " A change of data.yaml alone isn't enough: the numbers in the labels stand for its own order."
    elif len(ours) != len(theirs):
        what = f"it has {len(ours)} class{'es' if len(ours) > 1 else ''}, the model has {len(theirs)}"
    else:
        what = "its classes have other names than the model's"
    return SlimError(
        f"{dataset.yaml}: {what}{f', and there are {_counted(others)} more' if others else ''}.",
        culprits=[f"data: {_listed(ours)}", f"model: {_listed(theirs)}", *others],
        remedy=remedy,
        topic="the-classes-differ",
    )


def _summary(dataset: Dataset, reports: Mapping[str, SplitReport]) -> Iterator[str]:
    """What the splits contain, with warnings where labels seem to be missing, or can't all be found."""
    for split, report in reports.items():
        yield f"{split}: {report}"
        if report.backgrounds > MAX_BACKGROUNDS * report.images:
            # The folder of a file that isn't there says more than that of a blank one.
            labels = [label_path(image) for image in dataset.splits[split]]
            where = next((label for label in labels if not label.is_file()), labels[0]).parent
            yield (
                f"{split}: WARNING: {report.backgrounds} of {report.images} images have no labels and count as "
                f"background; labels are expected in {where}"
            )
        # Ultralytics' validation raises its own limit to the number of objects.
        if report.most > VAL.max_det:
            yield f"{split}: WARNING: an image has {report.most} objects; mAP counts {VAL.max_det} detections an image"


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """Content and problems of one image and its label file."""

    problems: list[str]
    classes: NDArray[np.int64]
    duplicates: int


def _split_problems(dataset: Dataset, split: str) -> list[str]:
    if split not in dataset.splits:
        return [f"{split}: this key is missing from {dataset.yaml.name}"]
    if dataset.problems[split]:
        return dataset.problems[split]
    return [] if dataset.has(split) else [f"{split}: no images found in it"]


def _task_problems(dataset: Dataset, task: str) -> list[str]:
    """What makes a data set unusable for a task, as far as its description shows."""
    if dataset.in_class_folders != (task == "classify"):
        wanted = "a folder of class folders" if task == "classify" else "a data.yaml"
        return [f"a {task} model needs {wanted}, this is {dataset.yaml}"]
    points, values = dataset.keypoint_shape or (0, 0)
    # Ultralytics reads the key for every task that has label files.
    is_wrong = "kpt_shape" in dataset.extra and dataset.keypoint_shape is None
    if (task == "pose" and (points < 1 or values not in (2, 3))) or (task != "classify" and is_wrong):
        return [f"kpt_shape: got {dataset.extra.get('kpt_shape')!r}; expected [points, 2 or 3]"]
    return []


def _listed(names: Mapping[int, str], most: int = 20) -> str:
    words = [f"{number}: {name}" for number, name in sorted(names.items())]
    return ", ".join(words[:most]) + (f", ... {len(words) - most} more" if len(words) > most else "")


def _inspect_all(images: list[Path], inspect: Callable[[Path], _Finding], progress: Progress) -> dict[Path, _Finding]:
    findings = {}
    # Threads are enough: image decoders release the interpreter lock.
    with ThreadPoolExecutor() as pool:
        for done, (image, finding) in enumerate(zip(images, pool.map(inspect, images), strict=True), 1):
            findings[image] = finding
            progress.step("check the data", done, len(images))
    return findings


def _inspect(image: Path, *, dataset: Dataset, task: str, deep: bool, scored: frozenset[Path]) -> _Finding:
    problem = _file_problem(image, is_scored=image in scored)
    if deep and not problem:
        problem = image_problem(image, on_device=task == "detect")
    problems = [problem] if problem else []
    if task == "classify":
        return _class_finding(image, dataset, problems)
    try:
        labels = read_labels(label_path(image), dataset.label_format(task))
    except SlimError as error:
        return _Finding(problems=[*problems, error.fact], classes=np.zeros(0, np.int64), duplicates=0)
    return _Finding(problems=problems, classes=labels.class_ids, duplicates=labels.duplicates)


def _scored(dataset: Dataset, task: str) -> frozenset[Path]:
    """Images that devices are scored on: of these splits, and for detection only."""
    splits = ("val", "test") if task == "detect" else ()
    return frozenset(image for split in splits for image in dataset.splits.get(split, []))


def _file_problem(image: Path, *, is_scored: bool) -> str:
    """What is wrong with a file, as far as its name shows."""
    if not image.is_file():
        return f"{image}: listed, but there is no such file"
    if is_scored and image.suffix.lower() not in READ_ON_DEVICES:
        return f"{image}: devices can't read {image.suffix}; convert it to .png or .jpg"
    return ""


def _class_finding(image: Path, dataset: Dataset, problems: list[str]) -> _Finding:
    """An image in a class folder counts as one object of that class."""
    ids = [i for i, name in dataset.names.items() if name == image.parent.name]
    if not ids:
        problems = [*problems, f"{image}: {image.parent.name} is no class of the training images"]
    return _Finding(problems=problems, classes=np.array(ids, np.int64), duplicates=0)


def _report(dataset: Dataset, images: Sequence[Path], found: Mapping[Path, _Finding]) -> SplitReport:
    findings = [found[image] for image in images]
    counts = Counter(int(i) for finding in findings for i in finding.classes)
    return SplitReport(
        images=len(images),
        backgrounds=sum(finding.classes.size == 0 for finding in findings),
        boxes=sum(counts.values()),
        duplicates=sum(finding.duplicates for finding in findings),
        repeats=len(images) - len(set(images)),
        most=max((finding.classes.size for finding in findings), default=0),
        boxes_per_class={i: counts[i] for i in dataset.names},
    )


def _no_boxes(dataset: Dataset, split: str, report: SplitReport) -> list[str]:
    if report.boxes:
        return []
    # The usual cause is a folder of labels in another place, so the message has the expected one.
    where = label_path(dataset.splits[split][0]).parent
    return [f"{split}: none of its {report.images} images has a box; labels are expected in {where}"]
