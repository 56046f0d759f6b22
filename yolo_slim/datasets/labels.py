"""Label files, read as Ultralytics reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.01
"""Ultralytics accepts coordinates this far outside [0, 1]: rounding of boxes at the border."""


def label_path(image: Path) -> Path:
    """Where Ultralytics looks for an image's labels: the last ``/images/`` becomes ``/labels/``."""
    # The last /images/: an earlier one may be part of the path to the data set.
    head, separator, tail = str(image).rpartition("/images/")
    mapped = f"{head}/labels/{tail}" if separator else tail
    return Path(mapped).with_suffix(".txt")


def has_labels(image: Path) -> bool:
    """Whether an image has a label file that isn't empty."""
    label = label_path(image)
    return label.is_file() and label.stat().st_size > 0


def read_labels(path: Path, keypoints: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Read the boxes of a label file, ``(N, 5)``: class, centre x, centre y, width, height in [0, 1].

    As in Ultralytics, polygons become their boxes, repeated rows are dropped and a missing file means a background.
    ``keypoints`` is the ``kpt_shape`` of a pose data set, whose rows have keypoints after the box.

    Raises:
        ValueError: a row that Ultralytics wouldn't accept.
    """
    rows = label_rows(path)
    if not rows:
        return np.zeros((0, 5))
    if keypoints:
        rows = [_without_keypoints(number, row, keypoints) for number, row in enumerate(rows, 1)]
    boxes = np.array([_row_to_box(number, row) for number, row in enumerate(rows, 1)])
    # np.unique also sorts the rows; Ultralytics sorts them only where some repeat.
    return np.asarray(np.unique(boxes, axis=0))


def label_rows(path: Path) -> list[list[str]]:
    """The words of every row of a label file, none where there is no file.

    Raises:
        ValueError: boxes and polygons in one file.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8-sig")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    # Ultralytics takes such a file for corrupt, and trains without its image.
    if len({len(row) == 5 for row in rows}) > 1:
        odd = next(number for number, row in enumerate(rows, 1) if len(row) != 5)
        raise ValueError(f"row {odd} has {len(rows[odd - 1])} columns; expected 5 (class x y width height)")
    return rows


def _without_keypoints(number: int, row: list[str], shape: tuple[int, int]) -> list[str]:
    """A pose row's class and box.

    Raises:
        ValueError: a number of columns that doesn't fit the data set's ``kpt_shape``, or points outside the image.
    """
    points, values = shape
    if len(row) != 5 + points * values:
        raise ValueError(f"row {number} has {len(row)} columns; expected {5 + points * values} for kpt_shape {shape}")
    try:
        # A third value of a point is its visibility (0 to 2), not a coordinate.
        outside = [word for i, word in enumerate(row[5:]) if i % values < 2 and not _inside(float(word))]
    except ValueError:
        raise ValueError(f"row {number} isn't numbers: {' '.join(row)[:60]}") from None
    if outside:
        raise ValueError(f"row {number} lies outside the image: {', '.join(outside[:4])}; expected 0 to 1")
    return row[:5]


def _row_to_box(number: int, row: list[str]) -> list[float]:
    try:
        values = [float(word) for word in row]
    except ValueError:
        raise ValueError(f"row {number} isn't numbers: {' '.join(row)[:60]}") from None
    # A polygon has at least three points: 7 columns, and always an odd number.
    if len(values) < 5 or (len(values) > 5 and (len(values) < 7 or len(values) % 2 == 0)):
        raise ValueError(f"row {number} has {len(values)} columns; expected 5 (class x y width height)")
    if not values[0].is_integer() or values[0] < 0:
        raise ValueError(f"row {number}: class {row[0]} isn't a class id")
    outside = [word for word, value in zip(row[1:], values[1:], strict=True) if not _inside(value)]
    if outside:
        raise ValueError(f"row {number} lies outside the image: {', '.join(outside[:4])}; expected 0 to 1")
    if len(values) > 5:
        return [values[0], *_polygon_box(np.array(values[1:]).reshape(-1, 2))]
    if min(values[3:]) < 0:
        raise ValueError(f"row {number} has a negative width or height")
    return values


def _inside(value: float) -> bool:
    # Written so that not-a-number is outside.
    return -TOLERANCE <= value <= 1 + TOLERANCE


def _polygon_box(points: NDArray[np.float64]) -> list[float]:
    low, high = points.min(0), points.max(0)
    return [*((low + high) / 2).tolist(), *(high - low).tolist()]
