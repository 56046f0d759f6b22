"""Read an Ultralytics data set, check all of it before hours are spent on it, and hand it on safely.

Nothing here writes into the user's folders: :func:`write_absolute_yaml` builds a folder of links for Ultralytics, which
otherwise leaves ``*.cache`` files beside the labels and re-encodes JPEG files that lack their end marker.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from yolo_slim.config import read_yaml
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import fresh_folder, write_text

Progress = Callable[[int, int], None]
SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset(
    ["avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"]
)
MIN_SIDE_PX = 10
"""Ultralytics drops smaller images."""
DEEP = re.compile(r"^[IF]\b|;16[BLNS]\b")
"""Pillow on how an image is stored: more than 8 bits per channel, which no device's pre-processing takes."""
CARRIED_KEYS = ("channels", "kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas")
"""Keys of a ``data.yaml`` that are handed on to Ultralytics as they are."""
ALIASES = {"val": "validation"}
"""Another key that Ultralytics takes for a split."""
FOLDER_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Where Ultralytics looks for the splits of a classification folder."""
TOLERANCE = 0.01
"""Ultralytics accepts coordinates this far outside [0, 1]: rounding of boxes at the border."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A resolved data set description."""

    yaml: Path
    """The description that was read; the folder itself where class folders take its place."""
    root: Path
    """Folder that relative split paths start from."""
    names: dict[int, str]
    """Class id to name, ids 0 to n-1."""
    splits: dict[str, list[Path]]
    """Image files of each declared split, sorted as Ultralytics sorts them."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """What was wrong with the sources of a split (missing folder or list)."""
    carried: dict[str, Any] = field(default_factory=dict)
    """What the description holds of :data:`CARRIED_KEYS`."""

    @property
    def in_class_folders(self) -> bool:
        """Tell whether an image's class is the name of its folder, as classification wants it."""
        return self.yaml.is_dir()

    def has(self, split: str) -> bool:
        """Tell whether a split is declared and has images."""
        return bool(self.splits.get(split))


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What a checked split holds."""

    images: int
    backgrounds: int
    """Images without a box."""
    boxes: int
    duplicates: int
    """Label rows that repeat another and are ignored."""
    boxes_per_class: dict[str, int]


def load_dataset(data_yaml: Path) -> Dataset:
    """Return the data set that a ``data.yaml`` or a folder of class folders describes, resolved as Ultralytics does.

    A relative ``path`` starts at the file itself (then at the working folder), never at Ultralytics' ``datasets_dir``.

    Raises:
        SlimError: the file isn't readable, or its names and splits aren't valid; all at once.
    """
    if data_yaml.is_dir():
        return _class_folders(data_yaml)
    values = read_yaml(data_yaml)
    names, problems = _class_names(values)
    problems += [
        f"{key}: got {values[key]!r}; expected a folder, a .txt list, or a list of those"
        for key in (*SPLITS, *[alias for split, alias in ALIASES.items() if not values.get(split)])
        if values.get(key) is not None and not _is_source(values[key])
    ]
    if problems:
        raise SlimError(
            f"{data_yaml}: this isn't an Ultralytics data set.",
            culprits=problems,
            remedy="Correct the file and run the command again.",
        )
    root = _root(data_yaml, values.get("path"))
    return _with_images(data_yaml, root, names, values)


def _class_folders(folder: Path) -> Dataset:
    """Return a classification data set: ``SPLIT/CLASS/image``.

    Raises:
        SlimError: no class folders for training.
    """
    folder = folder.resolve()
    found = {split: next((folder / name for name in names if (folder / name).is_dir()), None)
             for split, names in FOLDER_NAMES.items()}  # fmt: skip
    train = found["train"]
    classes = sorted(path.name for path in train.iterdir() if path.is_dir()) if train else []
    if not classes:
        raise SlimError(
            f"{folder}: no class folders in {folder / 'train'}.",
            remedy="Classification wants train/CLASS/image and val/CLASS/image; other tasks want a data.yaml.",
        )
    splits = {split: sorted(set(_images_in(path)), key=str) for split, path in found.items() if path}
    return Dataset(
        yaml=folder,
        root=folder,
        names=dict(enumerate(classes)),
        splits=splits,
        problems={split: [] for split in splits},
    )


def label_path(image: Path) -> Path:
    """Return where Ultralytics looks for an image's labels: the last ``/images/`` becomes ``/labels/``."""
    head, separator, tail = str(image).rpartition("/images/")
    mapped = f"{head}/labels/{tail}" if separator else tail
    return Path(mapped).with_suffix(".txt")


def has_labels(image: Path) -> bool:
    """Tell whether an image has a label file that isn't empty."""
    label = label_path(image)
    return label.is_file() and label.stat().st_size > 0


def read_labels(path: Path, keypoints: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Return the boxes of a label file, ``(N, 5)``: class, centre x, centre y, width, height in [0, 1].

    Polygon rows become their boxes and repeated rows are dropped, as in Ultralytics; a missing file is a background.
    ``keypoints`` is the ``kpt_shape`` of a pose data set, whose rows go on after the box.

    Raises:
        ValueError: a row that Ultralytics wouldn't accept.
    """
    rows = _label_rows(path)
    if not rows:
        return np.zeros((0, 5))
    if keypoints:
        rows = [_without_keypoints(number, row, keypoints) for number, row in enumerate(rows, 1)]
    boxes = np.array([_row_to_box(number, row) for number, row in enumerate(rows, 1)])
    return np.asarray(np.unique(boxes, axis=0))


def check_dataset(
    dataset: Dataset,
    *,
    need: Sequence[str] = ("train", "val"),
    model_names: dict[int, str] | None = None,
    task: str = "detect",
    deep: bool = True,
    progress: Progress | None = None,
) -> dict[str, SplitReport]:
    """Check the needed splits and any other that has images; return what they hold.

    Args:
        dataset: what :func:`load_dataset` returned.
        need: splits that must be there.
        model_names: the class names of the model; None skips the comparison.
        task: Ultralytics' name of the task, which decides what a label is.
        deep: also decode every image, which finds truncated and corrupt files.
        progress: called with (images checked, images in all).

    Raises:
        SlimError: every problem that was found, at once.
    """
    problems = [problem for split in need for problem in _split_problems(dataset, split)]
    problems += _name_problems(dataset.names, model_names)
    problems += _task_problems(dataset, task)
    problems += _format_problems(dataset, task)
    checked = [split for split in dict.fromkeys((*need, *SPLITS)) if dataset.has(split)]
    images = [image for split in checked for image in dataset.splits[split]]
    inspect = partial(_inspect, dataset=dataset, task=task, deep=deep)
    findings = dict(zip(images, _inspect_all(images, inspect, progress), strict=True))
    problems += [problem for image in images for problem in findings[image].problems]
    reports = {split: _report(dataset, [findings[image] for image in dataset.splits[split]]) for split in checked}
    problems += [problem for split in need if split in reports for problem in _no_boxes(dataset, split, reports[split])]
    if problems:
        raise SlimError(
            f"{dataset.yaml}: {len(problems)} problem{'s' if len(problems) > 1 else ''} in the data set.",
            culprits=problems,
            remedy="Correct or remove these files and run the command again; nothing was changed.",
        )
    return reports


def _format_problems(dataset: Dataset, task: str) -> list[str]:
    """Return the images that Ultralytics would train on but no device could be scored on."""
    from yolo_slim.runtime.sources import IMAGE_SUFFIXES as READ_ON_DEVICES

    scored = [image for split in ("val", "test") for image in dataset.splits.get(split, [])] if task == "detect" else []
    return [
        f"{image}: devices don't read {image.suffix}; convert it to .png or .jpg"
        for image in scored
        if image.suffix.lower() not in READ_ON_DEVICES
    ]


def write_absolute_yaml(dataset: Dataset, out: Path) -> Path:
    """Write a ``data.yaml`` that Ultralytics reads the same way from everywhere; return what to give as its ``data``.

    Beside it, in ``<stem>_links/``, each split becomes a folder of links to the user's images and labels, in the same
    order. Ultralytics writes its caches, and its repaired copies of images, there: the user's folders stay as they are
    and may be read-only. For class folders, that folder of links is all there is.
    """
    out = out.absolute()
    links = out.with_name(f"{out.stem}_links")
    link = _link_classes if dataset.in_class_folders else _link_split
    with os_errors_explained(links), fresh_folder(links) as folder:
        for split, images in dataset.splits.items():
            link(folder, split, images)
    if dataset.in_class_folders:
        return links
    used = [split for split in dataset.splits if dataset.has(split)]
    described = {"path": str(links), **{split: f"images/{split}" for split in used}, "names": dataset.names}
    described |= dataset.carried
    with os_errors_explained(out):
        write_text(out, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
    return out


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """What one image and its label file hold."""

    problems: list[str]
    classes: NDArray[np.int64]
    duplicates: int


def _class_names(values: dict[str, Any]) -> tuple[dict[int, str], list[str]]:
    names, count = values.get("names"), _whole_number(values.get("nc"))
    if names is None:
        if isinstance(count, int) and count > 0:
            return {i: f"class_{i}" for i in range(count)}, []
        return {}, ["names: missing; expected a list or a mapping of class id to name"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        named = {int(key): str(value) for key, value in names.items()}
    except (AttributeError, ValueError):
        return {}, [f"names: got {names!r}; expected a list or a mapping of class id to name"]
    problems = []
    if sorted(named) != list(range(len(named))) or not named:
        problems.append(
            f"names: the class ids are {sorted(named)}; expected 0 to {max(len(named) - 1, 0)} without gaps"
        )
    if count is not None and count != len(named):
        problems.append(f"nc: got {count!r}, but names lists {len(named)} classes")
    return dict(sorted(named.items())), problems


def _whole_number(value: Any) -> Any:
    """Return the number that Ultralytics takes a value for: 3 for 3.0 and for "3"; anything else as it is."""
    try:
        return int(float(value)) if float(value).is_integer() else value
    except (TypeError, ValueError, OverflowError):
        return value


def _is_source(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _root(data_yaml: Path, path: Any) -> Path:
    beside = (data_yaml.parent / str(path or ".")).resolve()
    from_here = Path(str(path or ".")).resolve()
    return from_here if path and not beside.exists() and from_here.exists() else beside


def _with_images(data_yaml: Path, root: Path, names: dict[int, str], values: dict[str, Any]) -> Dataset:
    splits: dict[str, list[Path]] = {}
    problems: dict[str, list[str]] = {}
    for split in SPLITS:
        given = values.get(split) or values.get(ALIASES.get(split, split))
        if given:
            sources = [_resolve(root, source) for source in ([given] if isinstance(given, str) else given)]
            problems[split] = [f"{split}: {source} does not exist" for source in sources if not source.exists()]
            splits[split] = _found(split, sources, problems[split])
    carried = {key: values[key] for key in CARRIED_KEYS if key in values}
    return Dataset(yaml=data_yaml, root=root, names=names, splits=splits, problems=problems, carried=carried)


def _found(split: str, sources: Iterable[Path], problems: list[str]) -> list[Path]:
    """Return the images of a split in Ultralytics' order; what is wrong with its lists joins the problems.

    COCO's test list names images that nobody downloads, because nobody has their labels: there is no such split then.
    """
    images: set[Path] = set()
    for source in sources:
        try:
            images.update(_images_in(source))
        except UnicodeDecodeError:
            problems.append(f"{split}: {source} is no list of images in UTF-8")
    if split == "test" and images and not any(image.is_file() for image in images):
        problems.append(f"test: none of its {len(images)} images exists")
        return []
    return sorted(images, key=str)


def _resolve(root: Path, source: str) -> Path:
    """Return a source's absolute path; Roboflow writes ``../train/images`` for a folder beside the YAML file."""
    path = (root / source).resolve()
    if not path.exists() and source.startswith("../"):
        return (root / source[3:]).resolve()
    return path


def _images_in(source: Path) -> Iterable[Path]:
    if source.is_dir():
        found = glob.glob(str(Path(glob.escape(str(source))) / "**" / "*.*"), recursive=True)  # noqa: PTH207  (Ultralytics' own order)
    elif source.is_file():
        found = [_listed(line, source.parent) for line in source.read_text(encoding="utf-8-sig").split("\n")]
    else:
        found = []
    return [Path(name) for name in found if name.rpartition(".")[2].lower() in IMAGE_SUFFIXES]


def _listed(line: str, folder: Path) -> str:
    line = line.strip()
    return f"{folder}/{line[2:]}" if line.startswith("./") else line


def _label_rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8-sig")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len({len(row) == 5 for row in rows}) > 1:
        odd = next(number for number, row in enumerate(rows, 1) if len(row) != 5)
        raise ValueError(f"row {odd} has {len(rows[odd - 1])} columns; expected 5 (class x y width height)")
    return rows


def _without_keypoints(number: int, row: list[str], shape: tuple[int, int]) -> list[str]:
    """Return a pose row's class and box.

    Raises:
        ValueError: another number of columns than the data set's ``kpt_shape`` wants, or points outside the image.
    """
    points, values = shape
    if len(row) != 5 + points * values:
        raise ValueError(f"row {number} has {len(row)} columns; expected {5 + points * values} for kpt_shape {shape}")
    try:
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
    """Tell whether a coordinate is in [0, 1] within Ultralytics' tolerance; not-a-number never is."""
    return -TOLERANCE <= value <= 1 + TOLERANCE


def _polygon_box(points: NDArray[np.float64]) -> list[float]:
    low, high = points.min(0), points.max(0)
    return [*((low + high) / 2).tolist(), *(high - low).tolist()]


def _split_problems(dataset: Dataset, split: str) -> list[str]:
    if split not in dataset.splits:
        return [f"{split}: this key is missing from {dataset.yaml.name}"]
    if dataset.problems[split]:
        return dataset.problems[split]
    return [] if dataset.has(split) else [f"{split}: no images found in it"]


def _name_problems(names: dict[int, str], model_names: dict[int, str] | None) -> list[str]:
    if model_names is None or names == model_names:
        return []
    what = "class count" if len(names) != len(model_names) else "class names"
    ours, theirs = (_shortened([f"{i}: {name}" for i, name in sorted(n.items())]) for n in (names, model_names))
    return [f"{what} differ: the data has {len(names)} ({ours}), the model has {len(model_names)} ({theirs})"]


def _task_problems(dataset: Dataset, task: str) -> list[str]:
    """Return what keeps a data set from serving a task, before any image is read."""
    if dataset.in_class_folders != (task == "classify"):
        wanted = "a folder of class folders" if task == "classify" else "a data.yaml"
        return [f"a {task} model wants {wanted}, this is {dataset.yaml}"]
    if task == "pose" and keypoint_shape(dataset) is None:
        return [f"kpt_shape: got {dataset.carried.get('kpt_shape')!r}; expected [points, 2 or 3]"]
    return []


def keypoint_shape(dataset: Dataset) -> tuple[int, int] | None:
    """Return the points of a pose label and the values of each, None where the description has none."""
    match dataset.carried.get("kpt_shape"):
        case [int(points), 2 | 3 as values]:
            return points, values
    return None


def _shortened(words: list[str], most: int = 20) -> str:
    return ", ".join(words[:most]) + (f", ... {len(words) - most} more" if len(words) > most else "")


def _inspect_all(images: list[Path], inspect: Callable[[Path], _Finding], progress: Progress | None) -> list[_Finding]:
    findings = []
    with ThreadPoolExecutor() as pool:
        for done, finding in enumerate(pool.map(inspect, images), 1):
            findings.append(finding)
            if progress:
                progress(done, len(images))
    return findings


def _inspect(image: Path, *, dataset: Dataset, task: str, deep: bool) -> _Finding:
    problem = f"{image}: listed, but there is no such file" if not image.is_file() else ""
    if deep and not problem:
        problem = _image_problem(image, on_device=task == "detect")
    problems = [problem] if problem else []
    if task == "classify":
        return _class_finding(image, dataset, problems)
    label = label_path(image)
    try:
        rows = _label_rows(label)
        boxes = read_labels(label, keypoint_shape(dataset) if task == "pose" else None)
        if task in ("segment", "obb") and rows and len(rows[0]) == 5:
            raise ValueError(f"rows have 5 columns; a {task} data set wants polygons (class x1 y1 x2 y2 x3 y3 ...)")
    except (ValueError, OSError) as error:
        return _Finding(problems=[*problems, f"{label}: {error}"], classes=np.zeros(0, np.int64), duplicates=0)
    ids, classes = boxes[:, 0].astype(np.int64), len(dataset.names)
    if ids.size and ids.max() >= classes:
        problems.append(f"{label}: class {ids.max()} is out of range; the data has {classes} (0 to {classes - 1})")
    return _Finding(problems=problems, classes=ids, duplicates=len(rows) - len(boxes))


def _class_finding(image: Path, dataset: Dataset, problems: list[str]) -> _Finding:
    """Return what an image in a class folder holds: one object of the folder's class."""
    ids = [i for i, name in dataset.names.items() if name == image.parent.name]
    if not ids:
        problems = [*problems, f"{image}: {image.parent.name} is no class of the training images"]
    return _Finding(problems=problems, classes=np.array(ids, np.int64), duplicates=0)


def _image_problem(image: Path, *, on_device: bool) -> str:
    """Return what is wrong with an image file, or an empty string; ``on_device`` asks what a device's decoder says.

    Decoding at an eighth of the size still reads every byte of a JPEG, in about half the time.
    """
    from PIL import Image, ImageFile

    from yolo_slim.runtime.sources import is_readable

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(image) as opened:
            width, height = opened.size
            # Pillow makes 8 bits of 16 in colour; only the stored form tells.
            stored = f"{opened.mode} {opened.tile}"
            opened.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))
            opened.load()
    except Exception as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, struct.error, ...
        return f"{image}: can't be decoded, the file is corrupt or truncated ({error})"
    if min(width, height) < MIN_SIDE_PX:
        return f"{image}: {width}x{height} px; the least side is {MIN_SIDE_PX} px"
    if DEEP.search(stored):
        return f"{image}: more than 8 bits per channel; convert it to 8"
    if on_device and not is_readable(image):
        return (
            f"{image}: OpenCV, which reads images on devices, can't read it or finds it cut off; save it anew as .png"
        )
    return ""


def _report(dataset: Dataset, findings: list[_Finding]) -> SplitReport:
    counts = Counter(int(i) for finding in findings for i in finding.classes)
    return SplitReport(
        images=len(findings),
        backgrounds=sum(finding.classes.size == 0 for finding in findings),
        boxes=sum(counts.values()),
        duplicates=sum(finding.duplicates for finding in findings),
        boxes_per_class={name: counts[i] for i, name in dataset.names.items()},
    )


def _no_boxes(dataset: Dataset, split: str, report: SplitReport) -> list[str]:
    if report.boxes:
        return []
    where = label_path(dataset.splits[split][0]).parent
    return [f"{split}: none of its {report.images} images has a box; labels are expected in {where}"]


def _link_classes(folder: Path, split: str, images: list[Path]) -> None:
    """Link a split's files into class folders, the class an image's folder names."""
    for number, image in enumerate(images):
        link = folder / split / image.parent.name / f"{number:06d}_{image.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image.absolute())


def _link_split(folder: Path, split: str, images: list[Path]) -> None:
    """Link a split's files; the number keeps Ultralytics' order and files of one name apart."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for number, image in enumerate(images):
        name = f"{number:06d}_{image.stem}"
        (folder / "images" / split / f"{name}{image.suffix}").symlink_to(image.absolute())
        label = label_path(image)
        if label.is_file():
            (folder / "labels" / split / f"{name}.txt").symlink_to(label.absolute())


def digest(dataset: Dataset) -> str:
    """Return one SHA-256 of a data set: names, keypoints, labels, and each image's size, first and last bytes.

    Reading whole images would take minutes for large sets; an image replaced by another of equal size and ends is not
    noticed.
    """
    total = hashlib.sha256(repr(sorted(dataset.names.items())).encode())
    for split, images in sorted(dataset.splits.items()):
        total.update(split.encode())
        for image in images:
            total.update(image.name.encode() + _ends(image))
            label = label_path(image)
            total.update(label.read_bytes() if label.is_file() else b"-")
            if dataset.in_class_folders:
                total.update(image.parent.name.encode())
    if dataset.carried:
        total.update(repr(sorted(dataset.carried.items())).encode())
    return total.hexdigest()


def _ends(path: Path, block: int = 4096) -> bytes:
    """Return a file's size and its first and last bytes."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(block)
        stream.seek(max(size - block, 0))
        return size.to_bytes(8, "big") + head + stream.read(block)
