"""Label files, read as Ultralytics' ``verify_image_label`` reads them: for checks, scores, batches and calibration.

What Ultralytics takes for corrupt, and then trains without its image, is an error here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError

TOLERANCE = 0.01
"""Ultralytics accepts coordinates this far outside [0, 1]: rounding of boxes at the border."""
BOX_COLUMNS = 5
"""Class, centre x, centre y, width, height."""
WITH_POLYGONS = ("segment", "obb")
"""Tasks whose labels are polygons; the others' may be, and become boxes."""

Floats = NDArray[np.float32]
Words = list[list[str]]
"""The words of every row of a file."""


@dataclass(frozen=True, kw_only=True)
class LabelFormat:
    """What a data set and a task say of the rows of label files."""

    task: str
    """Ultralytics' name."""
    classes: int
    """Number of classes."""
    keypoints: tuple[int, int] | None = None
    """``kpt_shape``: points after the box and values of each."""

    @property
    def pose_columns(self) -> int:
        """Columns of a row with key points; 0 where the data set has none."""
        points, values = self.keypoints or (0, 0)
        return BOX_COLUMNS + points * values if points else 0

    @property
    def reads_keypoints(self) -> bool:
        """Whether key points are part of a row, instead of being cut off."""
        return self.task == "pose"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The objects that a label file lists."""

    rows: Floats
    """(N, 5) class, centre x, centre y, width, height; coordinates in [0, 1]."""
    duplicates: int = 0
    """Rows that repeat another and were dropped."""

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """(N,)."""
        return self.rows[:, 0].astype(np.int64)


def label_path(image: Path) -> Path:
    """Where Ultralytics looks for an image's labels: the last ``/images/`` becomes ``/labels/``."""
    # The last /images/: an earlier one may be part of the path to the data set.
    head, separator, tail = str(image).rpartition("/images/")
    mapped = f"{head}/labels/{tail}" if separator else tail
    return Path(mapped).with_suffix(".txt")


def has_labels(image: Path) -> bool:
    """Whether an image has a label file that isn't blank."""
    label = label_path(image)
    return label.is_file() and bool(label.read_bytes().strip())


def read_labels(path: Path, label_format: LabelFormat) -> Labels:
    """Read a label file; a missing or blank one means an image without objects.

    Numbers are float32, polygons become their boxes, key points that the task doesn't read are cut off, and of equal
    rows one stays. The order is the file's; where rows repeat, Ultralytics sorts them, and so does this.

    Raises:
        SlimError: a file that Ultralytics wouldn't accept.
    """
    try:
        words = _words(path)
        if not words:
            return Labels(rows=np.zeros((0, BOX_COLUMNS), np.float32))
        rows, polygons = _numbers(words, label_format)
        _require_valid(rows, label_format)
    except (ValueError, OSError) as error:
        raise SlimError(f"{path}: {error}", remedy="Correct or remove this file.") from None
    kept = _distinct(rows, polygons)
    return Labels(rows=rows[kept, :BOX_COLUMNS], duplicates=len(rows) - len(kept))


def _words(path: Path) -> Words:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8-sig").strip().splitlines()
    return [line.split() for line in lines if line.strip()]


def _numbers(words: Words, label_format: LabelFormat) -> tuple[Floats, list[Floats]]:
    """A file's rows, (N, columns), and their polygons, (points, 2) each; none where the rows are boxes.

    Raises:
        ValueError: rows of other columns than expected, or words that aren't numbers.
    """
    if label_format.reads_keypoints:
        columns = label_format.pose_columns
        _require_columns(words, columns, f"{columns} for kpt_shape {label_format.keypoints}")
        return _as_floats(words), []
    words = [row[:BOX_COLUMNS] if len(row) == label_format.pose_columns else row for row in words]
    if any(len(row) > BOX_COLUMNS + 1 for row in words):
        return _polygon_rows(words)
    if label_format.task in WITH_POLYGONS:
        raise ValueError(
            f"rows have {len(words[0])} columns; a {label_format.task} data set needs polygons "
            "(class x1 y1 x2 y2 x3 y3 ...)"
        )
    _require_columns(words, BOX_COLUMNS, "5 (class x y width height)")
    return _as_floats(words), []


def _polygon_rows(words: Words) -> tuple[Floats, list[Floats]]:
    """The boxes of polygons, (N, 5), and the polygons."""
    for number, row in enumerate(words, 1):
        if len(row) == BOX_COLUMNS:
            raise ValueError(f"row {number} is a box and others are polygons; expected one kind in a file")
        if len(row) < 3 or len(row) % 2 == 0:
            raise ValueError(f"row {number} has {len(row)} columns; expected a class and pairs of x and y")
    numbers = [_as_floats([row], number)[0] for number, row in enumerate(words, 1)]
    classes, polygons = np.array([row[:1] for row in numbers]), [row[1:].reshape(-1, 2) for row in numbers]
    low, high = (np.array([side(polygon, axis=0) for polygon in polygons]) for side in (np.min, np.max))
    return np.concatenate([classes, (low + high) / 2, high - low], axis=1), polygons


def _require_columns(words: Words, columns: int, expected: str) -> None:
    for number, row in enumerate(words, 1):
        if len(row) != columns:
            raise ValueError(f"row {number} has {len(row)} columns; expected {expected}")


def _as_floats(words: Words, first: int = 1) -> Floats:
    """Rows of equal length as (N, columns); ``first`` is the number of the first one."""
    try:
        return np.array(words, dtype=np.float32)
    except ValueError:
        number, row = next((n, row) for n, row in enumerate(words, first) if not all(map(_is_number, row)))
        raise ValueError(f"row {number} isn't numbers: {' '.join(row)[:60]}") from None


def _is_number(word: str) -> bool:
    try:
        np.array(word, dtype=np.float32)
    except ValueError:
        return False
    return True


def _require_valid(rows: Floats, label_format: LabelFormat) -> None:
    """Refuse what Ultralytics refuses, (N, columns).

    Raises:
        ValueError: a class that the data set doesn't have, or coordinates outside the image.
    """
    classes, points, sizes = rows[:, :1], _points(rows, label_format), rows[:, 3:BOX_COLUMNS]
    last, outside = label_format.classes - 1, "{} lies outside the image; expected 0 to 1"
    # Written so that not-a-number is refused.
    _refuse(classes, ~((classes % 1 == 0) & (classes >= 0)), "class {} isn't a class id")
    _refuse(classes, classes > last, f"class {{}} is out of range; the data has {last + 1} (0 to {last})")
    _refuse(points, ~(points <= 1 + TOLERANCE), outside)
    _refuse(rows, ~(rows >= -TOLERANCE), outside)
    _refuse(sizes, sizes < 0, "{} is a negative width or height")


def _points(rows: Floats, label_format: LabelFormat) -> Floats:
    """The values that may not lie right of the image or below it, (N, values); Ultralytics tests no box of a pose."""
    if not (label_format.reads_keypoints and label_format.keypoints):
        return rows[:, 1:]
    points, values = label_format.keypoints
    # A third value of a point is its visibility, not a coordinate.
    return rows[:, BOX_COLUMNS:].reshape(-1, points, values)[..., :2].reshape(len(rows), -1)


def _refuse(values: Floats, bad: NDArray[np.bool_], problem: str) -> None:
    """Raise for the first row with bad values, both (N, columns); ``problem`` has a place for them.

    Raises:
        ValueError: there is one.
    """
    if bad.any():
        row = int(bad.any(axis=1).argmax())
        shown = [f"{value:g}" for value in values[row][bad[row]]]
        raise ValueError(f"row {row + 1}: {problem.format(', '.join(shown[:4]))}")


def _distinct(rows: Floats, polygons: Sequence[Floats]) -> NDArray[np.intp]:
    """Which rows stay, so that none repeats another."""
    _, first = np.unique(rows, axis=0, return_index=True)
    if len(first) < len(rows) and polygons:
        # Different polygons can have one box.
        whole = [row[:1].tobytes() + polygon.tobytes() for row, polygon in zip(rows, polygons, strict=True)]
        _, first = np.unique(np.array(whole, dtype=object), return_index=True)
    return first if len(first) < len(rows) else np.arange(len(rows))
