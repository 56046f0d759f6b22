"""The folder of the quickstart data set: written once, recognised when it is finished."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from yolo_slim.datasets.description import SPLITS
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import JsonObject

GENERATOR_VERSION = 1
"""Raised whenever the same seed draws other pixels or labels."""
SEED, IMGSZ = 0, 320
IS_DRAWING = "Built-in example: drawing the traffic signs (about a minute, once)"
"""Said before the images are drawn."""
DEFAULT_COUNTS = {"train": 560, "val": 120, "test": 120}
MODEL = Path(__file__).parents[2] / "assets" / "quickstart-yolo11n.pt"
# Ultralytics leaves .npy files beside images and .cache files beside labels; they don't make a folder the user's.
FILE_PATTERN = re.compile(
    r"data\.yaml|dataset\.json|images/(train|val|test)/\d{5}\.(jpg|npy)|labels/(train|val|test)(/\d{5}\.txt|\.cache)"
)


def generate(out_dir: Path, *, counts: dict[str, int] | None = None, seed: int = SEED, imgsz: int = IMGSZ) -> Path:
    """Write the data set to ``out_dir`` and return its data.yaml; a finished set isn't written again.

    The same arguments give the same bytes with the same OpenCV.

    Args:
        out_dir: new or empty folder, or one with an earlier quickstart set.
        counts: images per split; by default :data:`DEFAULT_COUNTS`.
        seed: decides every pixel.
        imgsz: width and height, pixels.

    Raises:
        SlimError: impossible counts, or a folder with files that aren't the quickstart's.
    """
    out_dir, sizes = Path(out_dir).resolve(), _checked_counts(counts)
    _refuse_foreign_files(out_dir)
    if _is_finished(out_dir, _identity(sizes, seed, imgsz)):
        return out_dir / "data.yaml"
    # Drawn beside the folder and moved at the end: an interrupted call leaves no half of a set.
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    with os_errors_explained(out_dir):
        shutil.rmtree(partial, ignore_errors=True)
        for path, data in _contents(sizes, seed, imgsz):
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(data)
        # The folder itself isn't replaced: it may be the working folder of a shell.
        for old in out_dir.iterdir() if out_dir.is_dir() else ():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        out_dir.mkdir(parents=True, exist_ok=True)
        # dataset.json comes last: it marks the set as complete.
        for new in sorted(partial.iterdir(), key=lambda path: path.name == "dataset.json"):
            new.rename(out_dir / new.name)
        partial.rmdir()
    return out_dir / "data.yaml"


def default_data(root: Path) -> Path:
    """Generate the default set below ``root`` and return its data.yaml."""
    return generate(default_place(root).parent)


def default_place(root: Path) -> Path:
    """Where :func:`default_data` writes the data.yaml."""
    return Path(root) / "quickstart" / "data.yaml"


def is_drawn(root: Path) -> bool:
    """Whether :func:`default_data` has nothing left to draw."""
    return _is_finished(default_place(root).parent, _identity(DEFAULT_COUNTS, SEED, IMGSZ))


def default_model() -> Path:
    """The weights shipped with the package: yolo11n trained on the default training split."""
    if not MODEL.is_file():
        raise SlimError("The quickstart weights are missing.", culprits=[str(MODEL)], remedy="Reinstall yolo-slim.")
    return MODEL


def _checked_counts(counts: dict[str, int] | None) -> dict[str, int]:
    chosen = {**DEFAULT_COUNTS, **(counts or {})}
    wrong = [f"{split}: {count}" for split, count in chosen.items() if split not in SPLITS or count < 1]
    if wrong:
        raise SlimError("Impossible image counts.", culprits=wrong, remedy=f"Give {', '.join(SPLITS)} at least 1 each.")
    return {split: int(chosen[split]) for split in SPLITS}


def _refuse_foreign_files(out_dir: Path) -> None:
    if not out_dir.exists():
        return
    found = [path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if not path.is_dir()]
    foreign = sorted(path for path in found if not FILE_PATTERN.fullmatch(path))
    if foreign:
        raise SlimError(
            f"{out_dir} has {len(foreign)} files that the quickstart generator did not write.",
            culprits=foreign,
            remedy="Give a new or empty folder: everything in it is replaced.",
        )


def _identity(counts: dict[str, int], seed: int, imgsz: int) -> JsonObject:
    return {"generator_version": GENERATOR_VERSION, "seed": seed, "imgsz": imgsz, "counts": counts}


def _is_finished(out_dir: Path, identity: JsonObject) -> bool:
    """Whether the folder has exactly the set asked for, every file with its recorded digest."""
    try:
        record = json.loads((out_dir / "dataset.json").read_text(encoding="utf-8"))
        asked = all(record[key] == value for key, value in identity.items())
        return asked and all(
            hashlib.sha256((out_dir / path).read_bytes()).hexdigest() == digest
            for path, digest in record["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _contents(counts: dict[str, int], seed: int, imgsz: int) -> Iterator[tuple[str, bytes]]:
    """Yield each file's relative path and bytes, ``dataset.json`` last."""
    # OpenCV is imported only when there is something to draw: a finished set is recognised without it.
    import cv2

    digests: dict[str, str] = {}
    for path, data in chain([_description(seed)], _images(counts, seed, imgsz)):
        digests[path] = hashlib.sha256(data).hexdigest()
        yield path, data
    record = {**_identity(counts, seed, imgsz), "opencv": cv2.__version__, "sha256": dict(sorted(digests.items()))}
    yield "dataset.json", (json.dumps(record, indent=1) + "\n").encode()


def _description(seed: int) -> tuple[str, bytes]:
    """Path and bytes of the data.yaml."""
    from yolo_slim.datasets.quickstart.signs import NAMES

    listing = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    head = f"# Rendered traffic signs: yolo_slim quickstart set, generator {GENERATOR_VERSION}, seed {seed}.\n"
    return "data.yaml", f"{head}{listing}names:\n{names}".encode()


def _images(counts: dict[str, int], seed: int, imgsz: int) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of every image and its labels."""
    import cv2

    from yolo_slim.datasets.quickstart.render import render

    for split in SPLITS:
        for index in range(counts[split]):
            image, labels, quality = render(seed, split, index, imgsz)
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            yield f"images/{split}/{index:05d}.jpg", jpeg
            yield f"labels/{split}/{index:05d}.txt", labels.encode()
