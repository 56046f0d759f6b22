"""The images that every network of a validation is scored on, and how they are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.errors import SlimError
from yolo_slim.measuring.truth import Truth, read_truths


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """Images of one split with what is in them."""

    split: str
    paths: Sequence[Path]
    """The image files."""
    folder: Path
    """A folder with links to these images alone: what a device gets."""
    truths: Sequence[Truth]
    """What the labels say, in the order of ``paths``."""
    notes: Sequence[str]
    """What the reader must know of the choice."""

    @property
    def boxes(self) -> int:
        """Labelled objects in all images."""
        return sum(len(truth.class_ids) for truth in self.truths)

    def unlabelled(self, classes: Iterable[int]) -> tuple[int, ...]:
        """Those of some classes that have no label in these images: their accuracy can't be measured here."""
        labelled = {int(class_id) for truth in self.truths for class_id in truth.class_ids}
        return tuple(class_id for class_id in sorted(classes) if class_id not in labelled)


def scored_images(dataset: Dataset, config: ValidateConfig, out: Path) -> ScoredImages:
    """Choose the images and link them below ``out``.

    Raises:
        SlimError: see :func:`choose_split`.
    """
    split = choose_split(dataset, config)
    paths = dataset.splits[split][: config.max_images or None]
    out.mkdir(parents=True, exist_ok=True)
    links = write_absolute_yaml(replace(dataset, splits={split: paths}, problems={}), out / "data.yaml")
    truths = read_truths(paths, dataset.label_format())
    return ScoredImages(
        split=split,
        paths=paths,
        # The links are numbered, so a device's answers, sorted by file name, are in the order of ``paths``.
        folder=links.with_name("data_links") / "images" / split,
        truths=truths,
        notes=passed_over(dataset, split) if config.split == "auto" else [],
    )


def spread(images: Sequence[Path], most: int) -> list[Path]:
    """Up to ``most`` images at equal distances, in their order: neighbours may be of one scene."""
    count = min(most, len(images))
    return [images[number * len(images) // count] for number in range(count)]


def sample(dataset: Dataset, config: ValidateConfig, most: int) -> Dataset:
    """Up to ``most`` labelled images, spread over those that are scored, as a data set of their split alone.

    Raises:
        SlimError: see :func:`choose_split`.
    """
    split = choose_split(dataset, config)
    labelled = [path for path in dataset.splits[split][: config.max_images or None] if has_labels(path)]
    return replace(dataset, splits={split: spread(labelled, most)}, problems={})


def choose_split(dataset: Dataset, config: ValidateConfig) -> str:
    """Choose the split that mAP is measured on; ``auto`` takes test where that has labels, else val.

    Raises:
        SlimError: the split has no images or is incomplete, or what would be scored has no labels: every drop would be
            zero.
    """
    split = config.split if config.split != "auto" else ("test" if _has_labels(dataset, "test") else "val")
    if not dataset.has(split) or dataset.problems.get(split):
        what = "is incomplete" if dataset.has(split) else "has no images"
        raise SlimError(
            f"{dataset.yaml}: the split '{split}' {what}.",
            culprits=dataset.problems.get(split, ()),
            remedy="Correct it, or choose validate.split: val.",
        )
    if not _has_labels(dataset, split, config.max_images):
        scored = len(dataset.splits[split][: config.max_images or None])
        raise SlimError(
            f"{dataset.yaml}: none of the {scored} images of '{split}' that would be scored has a label.",
            remedy="Choose another validate.split, or more validate.max_images (0: all).",
        )
    return split


def passed_over(dataset: Dataset, split: str) -> list[str]:
    """Say why another split than test is measured though the data set names one."""
    if "test" not in dataset.splits or split == "test":
        return []
    why = "; ".join(dataset.problems.get("test", ())) or f"it has no {'labels' if dataset.has('test') else 'images'}"
    return [f"the test split can't be used ({why}): mAP is measured on {split}"]


def _has_labels(dataset: Dataset, split: str, most: int = 0) -> bool:
    """Whether one of the first images of a split (0: all) has a label."""
    images = dataset.splits.get(split, [])[: most or None]
    return bool(images) and (dataset.in_class_folders or any(has_labels(image) for image in images))
