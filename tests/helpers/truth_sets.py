"""Random small data sets in the forms that Ultralytics reads, of scenes that the shipped detector knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml
from PIL import Image

from yolo_slim.datasets import quickstart
from yolo_slim.datasets.description import load_dataset
from yolo_slim.datasets.labels import label_path, read_labels
from yolo_slim.datasets.quickstart.signs import NAMES

Box = tuple[int, float, float, float, float]
"""Class, centre x, centre y, width, height."""

IMGSZ = 160
SIZES = ((160, 160), (160, 120), (120, 160), (128, 96), (60, 80), (48, 64))
"""Width and height that scale to 160 in whole pixels: elsewhere `yolo val` rounds a side up, and we to the nearest."""
SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation to how an upright picture is stored for it."""
KEYPOINTS = {"corners": [2, 2], "visible corners": [2, 3]}
"""Form of labels to the ``kpt_shape`` of a data set that was made for poses."""
FORMS = ("boxes", "polygons", "boxes and polygons", *KEYPOINTS)
LAYOUTS = ("folder", "overlapping folders", "list", "list and folder")
CORRUPT = {
    "six columns": "0 .5 .5 .2 .2 .1",
    "a class too many": "99 .5 .5 .2 .2",
    "pixels": "0 80 80 20 20",
    "a word": "car .5 .5 .2 .2",
    "a box and a polygon": "0 .5 .5 .2 .2\n0 .1 .1 .3 .1 .3 .5",
}
"""Rows for which Ultralytics leaves out an image, so that a run has to be refused."""
UNREADABLE = ("GIF", "PPM", "AVIF", "JPEG2000", "ICO", "text", "nothing")
"""Content of a file named .jpg that a training leaves out, or that OpenCV on a device can't be relied on to read."""
TURNED = {"PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "JPEG": ".tif"}
"""Formats of pictures that their EXIF orientation turns in some readers and not in others, with the file's suffix."""
MODES = {"JPEG": ("L", "CMYK"), "PNG": ("L", "P", "RGBA", "LA", "1"), "WEBP": ("RGBA",), "TIFF": ("L", "RGBA")}
"""Kinds of pixels besides RGB that a format stores."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture with what is in it."""

    picture: Image.Image
    boxes: list[Box]


@dataclass(frozen=True, kw_only=True)
class TruthSet:
    """A random data set."""

    yaml: Path
    about: str
    """Its forms, for messages."""
    is_corrupt: bool
    """Whether one of its labels or images is among those that a run has to refuse."""


def scenes(folder: Path, count: int = 32) -> list[Scene]:
    """Draw pictures that sets are made of; objects lie at the border of some."""
    data = quickstart.generate(folder, counts={"train": count, "val": 1, "test": 1}, imgsz=IMGSZ)
    dataset = load_dataset(data)
    found = []
    for image in dataset.splits["train"]:
        rows = read_labels(label_path(image), dataset.label_format()).rows.tolist()
        with Image.open(image) as opened:
            picture = opened.convert("RGB")
        found.append(Scene(picture=picture, boxes=[(int(row[0]), *row[1:5]) for row in rows]))
    return found


def make(pool: Sequence[Scene], folder: Path, seed: int, *, any_size: bool = False) -> TruthSet:
    """Write the data set of a seed: one for validation, which is also named for training.

    Pictures have one of :data:`SIZES`, or any size.
    """
    rng = Random(seed)
    form, layout = rng.choice(FORMS), rng.choice(LAYOUTS)
    corrupt = rng.choice(list(CORRUPT)) if rng.random() < 0.1 else ""
    # From a source of its own, so that the rest of a seed's set stays what it was.
    other = Random(seed + 1_000_000)
    bad_image = other.choice([*UNREADABLE, *(f"turned {kind}" for kind in TURNED)]) if other.random() < 0.1 else ""
    images = []
    for number, scene in enumerate(rng.sample(pool, rng.randint(4, 7))):
        # The first has a place in the inner folder, and labels.
        inner = "a" if number == 0 else rng.choice(("", "a", "a/b"))
        image = folder / "images" / "val" / inner / f"{number}{rng.choice(SUFFIXES)}"
        _write_image(image, scene.picture.resize(_size(other, rng, any_size)), rng)
        text = _label(scene.boxes, form, rng)
        text += f"\n{CORRUPT[corrupt]}\n" if corrupt and number == 0 else ""
        if number == 0 or rng.random() < 0.85:
            _write_label(label_path(image), text if number == 0 or rng.random() < 0.9 else rng.choice(("", "\n")), rng)
        images.append(image)
    if bad_image:
        images.append(_bad_image(folder / "images" / "val", bad_image, pool[0].picture))
    # A folder's files of other kinds are passed over.
    if other.random() < 0.3:
        pool[0].picture.save(folder / "images" / "val" / "passed_over.gif")
    return TruthSet(
        yaml=_write_yaml(folder, form, _sources(folder, images, layout, rng), rng),
        about=", ".join(filter(None, (f"seed {seed}", form, layout, corrupt, bad_image))),
        is_corrupt=bool(corrupt or bad_image),
    )


def _size(other: Random, rng: Random, any_size: bool) -> tuple[int, int]:
    """Width and height of a picture."""
    size = rng.choice(SIZES)
    return (other.randint(60, 200), other.randint(60, 200)) if any_size else size


def _write_image(path: Path, picture: Image.Image, rng: Random) -> None:
    """Write a picture of a random size, grey or turned by its EXIF orientation at times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = Image.registered_extensions()[path.suffix.lower()]
    if rng.random() < 0.25:
        picture = picture.convert(rng.choice(MODES.get(kind, ("L",))))
    exif = Image.Exif()
    # Other formats than JPEG are turned by some decoders and not by others.
    if path.suffix.lower() in (".jpg", ".jpeg"):
        exif[274] = rng.choice(list(STORED))
        turn = STORED[exif[274]]
        picture = picture if turn is None else picture.transpose(turn)
    picture.save(path, exif=exif) if exif else picture.save(path)


def _bad_image(folder: Path, kind: str, picture: Image.Image) -> Path:
    """Write an image that has to be refused; it has no labels."""
    turned, _, of = kind.partition(" ")
    path = folder / f"bad{TURNED[of] if of else '.jpg'}"
    if turned == "turned":
        exif = Image.Exif()
        exif[274] = 6
        picture.save(path, format=of, exif=exif)
    elif kind in ("text", "nothing"):
        path.write_text("<html></html>" if kind == "text" else "")
    else:
        picture.save(path, format=kind)
    return path


def _label(boxes: Sequence[Box], form: str, rng: Random) -> str:
    """A label file's rows, shuffled, some of them repeated or nearly so."""
    as_polygon = form == "polygons" or (form == "boxes and polygons" and rng.random() < 0.5)
    row: Callable[[Box], str] = lambda box: _polygon(box, rng) if as_polygon else _row(box, form)  # noqa: E731
    rows = [row(box) for box in boxes]
    for box in boxes:
        # A box that differs in the eighth digit is the same in float32, one that differs in the fourth is another.
        near = rng.choice((None, None, 0.0, 1e-8, 1e-4))
        if near is not None:
            rows.append(row((box[0], box[1] + near, *box[2:])))
    rows += rng.sample(rows, min(len(rows), rng.choice((0, 0, 1, 3))))
    rng.shuffle(rows)
    return rng.choice(("\n", "\n\n")).join(rows)


def _row(box: Box, form: str) -> str:
    """A box, with two of its corners where the data set has key points."""
    text = " ".join([str(box[0]), *(f"{value:.8f}" for value in box[1:])])
    values = KEYPOINTS.get(form, [0, 0])[1]
    for side in (-0.4, 0.4) if values else ():
        corner = [min(max(box[1 + axis] + side * box[3 + axis], 0), 1) for axis in (0, 1)]
        text += " " + " ".join(f"{value:.6f}" for value in [*corner, 2][:values])
    return text


def _polygon(box: Box, rng: Random) -> str:
    """A polygon that fills a box: a diamond or another one of the same box."""
    class_id, x, y, w, h = box
    points = rng.choice((((0, -1), (1, 0), (0, 1), (-1, 0)), ((-1, -1), (1, -1), (1, 1)), ((-1, 1), (1, 1), (0, -1))))
    shown = [
        f"{min(max(c + side * s / 2, 0), 1):.8f}"
        for point in points
        for c, s, side in zip((x, y), (w, h), point, strict=True)
    ]
    return f"{class_id} {' '.join(shown)}"


def _write_label(path: Path, text: str, rng: Random) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + rng.choice(("", "\n")), encoding=rng.choice(("utf-8", "utf-8-sig")))


def _sources(folder: Path, images: Sequence[Path], layout: str, rng: Random) -> str | list[str]:
    """What a data.yaml names for the images; an image is in it again where folders overlap or a list repeats it."""
    if layout == "folder":
        return "images/val"
    if layout == "overlapping folders":
        return ["images/val", "images/val/a"]
    lines = [*images, *rng.choices(images, k=rng.choice((0, 3, 8)))]
    rng.shuffle(lines)
    text = [rng.choice((str(path), f"./{path.relative_to(folder)}")) for path in lines]
    # A space at its end makes Ultralytics pass a line over.
    text = [f"{images[-1]} ", *text] if rng.random() < 0.2 else text
    end = rng.choice(("\n", "\r\n"))
    (folder / "val.txt").write_text(end.join(text) + end, encoding=rng.choice(("utf-8", "utf-8-sig")), newline="")
    return "val.txt" if layout == "list" else ["val.txt", "images/val/a"]


def _write_yaml(folder: Path, form: str, sources: str | list[str], rng: Random) -> Path:
    described: dict[str, object] = {"train": sources, "val": sources, "names": list(NAMES)}
    described |= {"path": str(folder)} if rng.random() < 0.5 else {}
    described |= {"kpt_shape": KEYPOINTS[form]} if form in KEYPOINTS else {}
    (folder / "data.yaml").write_text(yaml.safe_dump(described))
    return folder / "data.yaml"
