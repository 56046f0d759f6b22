"""Label files, read as Ultralytics reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from yolo_slim.datasets.labels import LabelFormat, read_labels
from yolo_slim.errors import SlimError

DETECT = LabelFormat(task="detect", classes=3)
CORNERS = LabelFormat(task="detect", classes=3, keypoints=(2, 2))
POSE = LabelFormat(task="pose", classes=3, keypoints=(2, 2))
VISIBLE = LabelFormat(task="pose", classes=3, keypoints=(2, 3))
SEGMENT = LabelFormat(task="segment", classes=3)
BOX, OTHER = "1 .5 .5 .2 .4", "0 .4 .4 .2 .2"

ACCEPTED = {
    "boxes in the file's order": (f"{BOX}\n{OTHER}", DETECT),
    "repeated rows": (f"{BOX}\n{OTHER}\n{BOX}\n{BOX}", DETECT),
    "rows that are equal in float32": ("1 .50000001 .5 .2 .4\n0 .1 .1 .1 .1\n1 .5 .5 .2 .4", DETECT),
    "rows that differ in float32": ("1 .5000001 .5 .2 .4\n0 .1 .1 .1 .1\n1 .5 .5 .2 .4", DETECT),
    "numbers of many forms": ("1e0 +.5 5e-1 .2 .4\n\n  2.0\t.5 0.500 1_0e-2 .4  \r\n", DETECT),
    "a byte order mark": (f"\ufeff{BOX}", DETECT),
    "a border that was rounded": ("1 1.01 -.01 .2 .4\n1 -.01 1.01 0 0", DETECT),
    "polygons": ("1 .1 .1 .3 .1 .3 .5\n0 .2 .2 .7 .3 .33333333 .9 .1 .4", DETECT),
    "polygons of one box": ("1 .1 .1 .3 .1 .3 .5\n1 .1 .1 .3 .5 .1 .5", DETECT),
    "a repeated polygon": (
        "2 .1 .1 .3 .1 .3 .5\n1 .2 .2 .3 .1 .3 .5\n2 .1 .1 .3 .1 .3 .5\n2 .1 .1 .3 .5 .1 .5",
        DETECT,
    ),
    "a polygon across the border": ("1 1.05 .5 .9 .4 .9 .6", DETECT),
    "a polygon of one point": ("1 .2 .2 .3 .1 .3 .5\n1 .5 .5", DETECT),
    "polygons for masks": ("1 .1 .1 .3 .1 .3 .5\n1 .1 .1 .3 .5 .1 .5", SEGMENT),
    "key points": (f"{BOX} .4 .4 .6 .6\n{BOX} .4 .4 .6 .7", POSE),
    "visible key points": (f"{BOX} .4 .4 2 .6 .6 0\n{BOX} .4 .4 2 .6 .6 0", VISIBLE),
    "a pose's box outside": ("1 1.5 .5 .2 .4 .4 .4 .6 .6", POSE),
    "key points of a detector": (f"{BOX} .4 .4 .6 .6\n{OTHER} .4 .4 .6 .6", CORNERS),
    "boxes that only key points tell apart": (f"{BOX} .4 .4 .6 .6\n{BOX} .4 .4 .6 .7", CORNERS),
    "key points of a detector and boxes": (f"{BOX} .4 .4 .6 .6\n{OTHER}", CORNERS),
    "polygons beside kpt_shape": ("1 .1 .1 .3 .1 .3 .5", CORNERS),
    "a blank file": (" \n\n", DETECT),
    "an empty file": ("", POSE),
}
REFUSED = {
    "three columns": (f"{BOX}\n1 .5 .5", DETECT, "row 2 has 3 columns"),
    "six columns": (f"{BOX} .5", DETECT, "row 1 has 6 columns"),
    "a column too many": ("1 .1 .1 .3 .1 .3 .5 .6", DETECT, "row 1 has 8 columns"),
    "boxes and polygons": (f"{BOX}\n1 .1 .1 .3 .1 .3 .5", DETECT, "row 1 is a box and others are polygons"),
    "a word": (f"{BOX}\ncar .5 .5 .2 .4", DETECT, "row 2 isn't numbers: car"),
    "a word in a polygon": ("1 .1 .1 .3 .1 .3 .5\n1 .1 x .3 .1 .3 .5", DETECT, "row 2 isn't numbers: 1 .1 x"),
    "half a class": ("1.5 .5 .5 .2 .4", DETECT, "class 1.5 isn't a class id"),
    "a negative class": ("-1 .5 .5 .2 .4", DETECT, "class -1 isn't a class id"),
    "a class too many": (f"{BOX}\n3 .5 .5 .2 .4", DETECT, "row 2: class 3 is out of range; the data has 3 "),
    "pixels": ("1 50 50 20 40", DETECT, "row 1: 50, 50, 20, 40 lies outside the image"),
    "not a number": ("1 nan .5 .2 .4", DETECT, "nan lies outside"),
    "a negative size": ("1 .5 .5 -.005 .4", DETECT, "row 1: -0.005 is a negative width or height"),
    "a negative place": ("1 -.02 .5 .2 .4", DETECT, "-0.02 lies outside"),
    "a point outside": (f"{BOX} .4 1.2 2 .6 .6 0", VISIBLE, "row 1: 1.2 lies outside"),
    "points without visibility": (f"{BOX} .4 .4 .6 .6", VISIBLE, "row 1 has 9 columns; expected 11 for kpt_shape"),
    "a box without points": (BOX, POSE, "row 1 has 5 columns; expected 9"),
}


@pytest.fixture
def label(tmp_path: Path) -> Path:
    """Return where the label of an image is."""
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    return tmp_path / "a.txt"


def theirs(path: Path, of: LabelFormat) -> NDArray[np.float32] | None:
    """Return what Ultralytics reads; None where it takes the image for corrupt."""
    from ultralytics.data.utils import verify_image_label

    points, values = of.keypoints or (0, 0)
    image = str(path.with_suffix(".jpg"))
    found = verify_image_label((image, str(path), "", of.reads_keypoints, of.classes, points, values, False))
    return None if found[1] is None else np.asarray(found[1])


@pytest.mark.parametrize("case", ACCEPTED)
def test_rows_are_ultralytics(case: str, label: Path) -> None:
    """The same rows of the same float32 numbers in the same order, and the number of those that were dropped."""
    text, of = ACCEPTED[case]
    label.write_text(text)
    wanted, found = theirs(label, of), read_labels(label, of)
    assert wanted is not None
    assert found.rows.dtype == wanted.dtype == np.float32
    assert np.array_equal(found.rows, wanted)
    assert found.duplicates == sum(bool(line.strip()) for line in text.splitlines()) - len(wanted)


@pytest.mark.parametrize("case", REFUSED)
def test_what_ultralytics_trains_without_is_refused(case: str, label: Path) -> None:
    """A row that makes Ultralytics leave out its image is an error that names file, row and value."""
    text, of, message = REFUSED[case]
    label.write_text(text)
    assert theirs(label, of) is None
    with pytest.raises(SlimError) as caught:
        read_labels(label, of)
    assert caught.value.fact.startswith(f"{label}: ")
    assert message in caught.value.fact


def test_boxes_are_no_masks(label: Path) -> None:
    """Boxes don't train a model that predicts masks; no file, or a file of another encoding, is what it is."""
    label.write_text(BOX)
    with pytest.raises(SlimError, match="a segment data set needs polygons"):
        read_labels(label, SEGMENT)
    assert read_labels(label.with_name("none.txt"), SEGMENT).rows.shape == (0, 5)
    label.write_bytes(b"\xff\xfe1 .5")
    with pytest.raises(SlimError, match="utf-8"):
        read_labels(label, DETECT)
