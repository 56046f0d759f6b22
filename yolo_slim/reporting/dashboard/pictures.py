"""The images that got worse since the baseline, side by side, as files of the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.history.statistics import equal
from yolo_slim.history.store import History
from yolo_slim.measuring.matches import Matches
from yolo_slim.reporting.dashboard.board import CellHistory, slug
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.draw import draw
from yolo_slim.runtime.sources import read_image

CELLS, IMAGES = 12, 4
"""Cells with pictures: those that lost most accuracy; and pictures of each."""
MIN_SCORE = 0.25
LONGEST_SIDE, JPEG_QUALITY = 480, 75
FOLDER = "images"


@dataclass(frozen=True, kw_only=True)
class WorseImage:
    """One image in the baseline's night and in the last one."""

    file: str
    before: float
    """Its own mAP50-95."""
    after: float
    pictures: tuple[str, str] | None
    """Files of the dashboard; None: the image can't be read here any more."""

    @property
    def name(self) -> str:
        """The file without its folders, which may be those of another system."""
        return self.file.replace("\\", "/").rpartition("/")[2]


def worse_images(history: History, cells: Sequence[CellHistory], folder: Path) -> Mapping[str, Sequence[WorseImage]]:
    """Draw the images of the cells that lost most accuracy; cell to images, those that lost most first."""
    lost = {one.cell.name: change for one in cells if (change := _change(one)) < 0}
    chosen = sorted((one for one in cells if one.cell.name in lost), key=lambda one: lost[one.cell.name])[:CELLS]
    return {one.cell.name: _of_cell(history, one, folder) for one in chosen}


def pairs(cells: Sequence[CellHistory], images: Mapping[str, Sequence[WorseImage]]) -> Mapping[str, JsonObject]:
    """What the page of two runs shows: for each cell the nights that have pictures, and the images."""
    return {
        one.cell.name: {
            "nights": one.pair,
            "images": [
                {"name": found.name, "before": found.before, "after": found.after, "pictures": found.pictures}
                for found in images.get(one.cell.name, ())
            ],
        }
        for one in cells
    }


def _change(cell: CellHistory) -> float:
    """What its accuracy gained; 0: nothing, or nothing is known."""
    judgement = cell.last.judgement
    return judgement.accuracy.change if judgement and judgement.accuracy else 0.0


def _of_cell(history: History, cell: CellHistory, folder: Path) -> list[WorseImage]:
    baseline = cell.baseline
    old, new = (history.matches(run) if run else None for run in (baseline, cell.last))
    if old is None or new is None or old.files != new.files or equal(old, new):
        return []
    first, second = old.per_image(), new.per_image()
    lost = np.nan_to_num(first - second)
    names = cell.last.measurement.accuracy.names if cell.last.measurement else {}
    return [
        WorseImage(
            file=new.files[index], before=float(first[index]), after=float(second[index]),
            pictures=_drawn((old, new), index, names, folder, slug(f"{cell.cell.name}/{index}")),
        )
        for index in np.argsort(-lost)[:IMAGES].tolist() if lost[index] > 0
    ]  # fmt: skip


def _drawn(
    both: tuple[Matches, Matches], index: int, names: Mapping[int, str], folder: Path, name: str
) -> tuple[str, str] | None:
    """Write an image twice, each with one run's boxes."""
    try:
        image = read_image(Path(both[1].files[index]), convert_channels=True)
    except SlimError:
        return None
    (folder / FOLDER).mkdir(exist_ok=True)
    files = (f"{FOLDER}/{name}-before.jpg", f"{FOLDER}/{name}-after.jpg")
    for file, matches in zip(files, both, strict=True):
        _write(folder / file, draw(image, _shown(matches, index), names))
    return files


def _shown(matches: Matches, index: int) -> Detections:
    """An image's detections above the usual threshold."""
    rows = np.flatnonzero((matches.image == index) & (matches.scores > MIN_SCORE))
    return Detections(
        boxes=matches.boxes[rows].astype(np.float32), scores=matches.scores[rows], class_ids=matches.class_ids[rows]
    )


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a small JPEG."""
    scale = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    path.write_bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
