"""The quickstart data set: rendered traffic sign scenes, drawn on the user's machine in seconds.

Nothing is downloaded: NumPy and OpenCV draw streets, signs, look-alikes and bad weather from a seed.
Generate a set with ``python -m yolo_slim.datasets.quickstart OUT``. Scenes are painted at twice the final size on a
:class:`Scene`, which knows for every pixel which sign is seen there; labels are read from that map.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolo_slim.datasets.quickstart.scene import SUPERSAMPLE, Scene, _backdrop, _background, _signs
from yolo_slim.datasets.quickstart.signs import NAMES, Image
from yolo_slim.datasets.quickstart.weather import _camera, _lighting, _weather
from yolo_slim.errors import SlimError, os_errors_explained

GENERATOR_VERSION = 1
"""Raised whenever the same seed draws other pixels or labels."""


DEFAULT_COUNTS = {"train": 560, "val": 120, "test": 120}


SPLITS = tuple(DEFAULT_COUNTS)


MODEL = Path(__file__).parents[2] / "assets" / "quickstart-yolo11n.pt"


FILE_PATTERN = re.compile(
    r"data\.yaml|dataset\.json|images/(train|val|test)/\d{5}\.(jpg|npy)|labels/(train|val|test)(/\d{5}\.txt|\.cache)"
)


def _boxes(scene: Scene) -> list[tuple[int, float, float, float, float]]:
    """Return (class, x_centre, y_centre, width, height) of each sign's visible pixels, in parts of the image size."""
    boxes = []
    for place, class_id in enumerate(scene.class_ids):
        rows, columns = np.nonzero(scene.owner == place + 1)
        x0, x1 = columns.min() / scene.size, (columns.max() + 1) / scene.size
        y0, y1 = rows.min() / scene.size, (rows.max() + 1) / scene.size
        boxes.append((class_id, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
    return boxes


def render(seed: int, split: str, index: int, imgsz: int) -> tuple[Image, str, int]:
    """Draw one image; return the (imgsz, imgsz, 3) uint8 BGR picture, its YOLO label text and a JPEG quality."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    size = imgsz * SUPERSAMPLE
    horizon = int(rng.uniform(0.4, 0.7) * size)
    scene = Scene(rng, _backdrop(rng, size, horizon), np.zeros((size, size), np.int16))
    _background(scene, horizon)
    _signs(scene, index, horizon)
    small = np.asarray(cv2.resize(scene.canvas, (imgsz, imgsz), interpolation=cv2.INTER_AREA), np.float32)
    image = _camera(rng, _weather(rng, _lighting(rng, small)))
    lines = [f"{box[0]} {' '.join(f'{value:.6f}' for value in box[1:])}\n" for box in _boxes(scene)]
    return image, "".join(lines), int(rng.integers(35, 91))


def _contents(counts: dict[str, int], seed: int, imgsz: int) -> Iterator[tuple[str, bytes]]:
    """Yield each file's relative path and bytes, ``dataset.json`` last."""
    digests: dict[str, str] = {}
    listing = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    head = f"# Rendered traffic signs: yolo_slim quickstart set, generator {GENERATOR_VERSION}, seed {seed}.\n"
    files = [("data.yaml", f"{head}{listing}names:\n{names}".encode())]
    for split in SPLITS:
        for index in range(counts[split]):
            image, labels, quality = render(seed, split, index, imgsz)
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            files += [(f"images/{split}/{index:05d}.jpg", jpeg), (f"labels/{split}/{index:05d}.txt", labels.encode())]
            while files:
                path, data = files.pop()
                digests[path] = hashlib.sha256(data).hexdigest()
                yield path, data
    record = {**_identity(counts, seed, imgsz), "opencv": cv2.__version__, "sha256": dict(sorted(digests.items()))}
    yield "dataset.json", (json.dumps(record, indent=1) + "\n").encode()


def _identity(counts: dict[str, int], seed: int, imgsz: int) -> dict[str, Any]:
    return {"generator_version": GENERATOR_VERSION, "seed": seed, "imgsz": imgsz, "counts": counts}


def _is_finished(out_dir: Path, identity: dict[str, Any]) -> bool:
    """Tell whether ``out_dir`` holds exactly the set asked for, every file with its recorded digest."""
    try:
        record = json.loads((out_dir / "dataset.json").read_text(encoding="utf-8"))
        asked = all(record[key] == value for key, value in identity.items())
        return asked and all(
            hashlib.sha256((out_dir / path).read_bytes()).hexdigest() == digest
            for path, digest in record["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _refuse_foreign_files(out_dir: Path) -> None:
    if not out_dir.exists():
        return
    found = [path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if not path.is_dir()]
    foreign = sorted(path for path in found if not FILE_PATTERN.fullmatch(path))
    if foreign:
        raise SlimError(
            f"{out_dir} holds {len(foreign)} files that the quickstart generator did not write.",
            culprits=foreign,
            remedy="Give it a new or empty folder: it replaces the whole folder.",
        )


def _checked_counts(counts: dict[str, int] | None) -> dict[str, int]:
    chosen = {**DEFAULT_COUNTS, **(counts or {})}
    wrong = [f"{split}: {count}" for split, count in chosen.items() if split not in SPLITS or count < 1]
    if wrong:
        raise SlimError("Impossible image counts.", culprits=wrong, remedy=f"Give {', '.join(SPLITS)} at least 1 each.")
    return {split: int(chosen[split]) for split in SPLITS}


def generate(out_dir: Path, *, counts: dict[str, int] | None = None, seed: int = 0, imgsz: int = 320) -> Path:
    """Write the data set to ``out_dir`` and return its data.yaml; a finished set is left as it is.

    counts: images per split, 560 / 120 / 120 unless told; imgsz: width and height in pixels. The same arguments
    give the same bytes with the same OpenCV. Raises SlimError where the folder holds files of someone else.
    """
    out_dir, sizes = Path(out_dir).resolve(), _checked_counts(counts)
    _refuse_foreign_files(out_dir)
    if _is_finished(out_dir, _identity(sizes, seed, imgsz)):
        return out_dir / "data.yaml"
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    with os_errors_explained(out_dir):
        shutil.rmtree(partial, ignore_errors=True)
        for path, data in _contents(sizes, seed, imgsz):
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(data)
        # The folder itself stays: somebody may stand in it.
        for old in out_dir.iterdir() if out_dir.is_dir() else ():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        out_dir.mkdir(parents=True, exist_ok=True)
        # What says that the set is whole comes last.
        for new in sorted(partial.iterdir(), key=lambda path: path.name == "dataset.json"):
            new.rename(out_dir / new.name)
        partial.rmdir()
    return out_dir / "data.yaml"


def default_data(root: Path) -> Path:
    """Generate the default set in ``root/quickstart`` and return its data.yaml."""
    return generate(Path(root) / "quickstart")


def default_model() -> Path:
    """Return the weights shipped with the package: yolo11n trained on the default training split."""
    if not MODEL.is_file():
        raise SlimError("The quickstart weights are missing.", culprits=[str(MODEL)], remedy="Reinstall yolo-slim.")
    return MODEL


def main(arguments: Sequence[str]) -> int:
    """Generate the default set in the folder named on the command line, and print its data.yaml."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m yolo_slim.datasets.quickstart OUT_DIR", file=sys.stderr)
        return 2
    try:
        print(generate(Path(arguments[0])))
    except SlimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
