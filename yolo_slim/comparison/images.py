"""The images that score and time every network of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.pipeline import Run
from yolo_slim.stages.validate import choose_split


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """One split of the user's data."""

    split: str
    paths: tuple[Path, ...]
    folder: Path
    """Folder of links to them, because a device takes a folder."""
    names: dict[int, str]
    """Class number to name."""
    train_images: int
    """Number of images of one epoch of a training."""


def choose_images(run: Run) -> ScoredImages:
    """Choose the split that ``yolo-slim validate`` would, and link its images in the comparison's folder."""
    dataset, config = run.context.dataset, run.config.validate_
    split = choose_split(dataset, config)
    paths = dataset.splits[split][: config.max_images or None]
    chosen = Dataset(yaml=dataset.yaml, root=dataset.root, names=dataset.names, splits={split: paths})
    place = run.folder / "data"
    place.mkdir(exist_ok=True)
    links = write_absolute_yaml(chosen, place / "data.yaml").with_name("data_links") / "images" / split
    return ScoredImages(
        split=split,
        paths=tuple(paths),
        folder=links,
        names=dataset.names,
        train_images=len(dataset.splits["train"]),
    )
