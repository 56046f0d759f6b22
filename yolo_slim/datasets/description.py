"""A data set's description (``data.yaml`` or class folders), resolved as Ultralytics resolves it."""

from __future__ import annotations

import glob
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from yolo_slim.config.strict import read_yaml
from yolo_slim.datasets.labels import LabelFormat, label_path
from yolo_slim.errors import SlimError
from yolo_slim.models.class_names import name_problems

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset(
    ["avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"]
)
COMPANIONS = frozenset({".cache", ".csv", ".db", ".json", ".md", ".npy", ".txt", ".xml", ".yaml", ".yml"})
"""Files that usually lie beside images: labels, their caches, and what systems leave in folders."""
EXTRA_KEYS = ("channels", "kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas")
"""Keys of a ``data.yaml`` that Ultralytics gets unchanged."""
ALIASES = {"val": "validation"}
"""Another key that Ultralytics accepts for a split."""
FOLDER_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Where Ultralytics looks for the splits of a classification folder."""
END_BYTES = 4096
"""Bytes at each end of an image that the digest reads."""

Values = Mapping[str, Any]
"""Content of a ``data.yaml``: any key, any type, checked here."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set: its description, its image files and the digest of its content."""

    yaml: Path
    """The description that was read; the folder itself for class folders."""
    root: Path
    """Folder that relative split paths start from."""
    names: dict[int, str]
    """Class id to name, ids 0 to n-1."""
    splits: dict[str, list[Path]]
    """Image files of each declared split, sorted as Ultralytics sorts them.

    An image that is listed twice, or lies in two folders of a split, is there twice, as in a training.
    """
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Missing folders and unreadable lists of each split."""
    extra: dict[str, Any] = field(default_factory=dict)
    """The description's values of :data:`EXTRA_KEYS`."""
    notes: list[str] = field(default_factory=list)
    """What the reader must know of how the description was read."""

    @property
    def in_class_folders(self) -> bool:
        """Whether an image's class is the name of its folder, as classification has it."""
        return self.yaml.is_dir()

    @property
    def keypoint_shape(self) -> tuple[int, int] | None:
        """Key points of a label and values of each; None where the description has none, or has no two numbers."""
        match self.extra.get("kpt_shape"):
            case [int(points), int(values)]:
                return points, values
        return None

    def label_format(self, task: str = "detect") -> LabelFormat:
        """Say how a task reads this data set's labels."""
        return LabelFormat(task=task, classes=len(self.names), keypoints=self.keypoint_shape)

    @cached_property
    def digest(self) -> str:
        """One SHA-256 of names, labels, keypoint keys, and each image's name, size, first and last bytes.

        Reading complete images would take minutes for large sets. An image that is replaced by one of equal size and
        equal ends isn't noticed.
        """
        total = hashlib.sha256(repr(sorted(self.names.items())).encode())
        # Sorted by split: the order of keys in the YAML file decides nothing.
        for split, images in sorted(self.splits.items()):
            total.update(split.encode())
            for image in images:
                total.update(self._content(image))
        if self.extra:
            total.update(repr(sorted(self.extra.items())).encode())
        return total.hexdigest()

    def has(self, split: str) -> bool:
        """Whether a split is declared and has images."""
        return bool(self.splits.get(split))

    def comparison_images(self, count: int) -> list[Path]:
        """Up to ``count`` images, no two the same, to compare two graphs on.

        They are of validation, or of training where that has none.
        """
        images = self.splits.get("val") or self.splits.get("train") or []
        return list(dict.fromkeys(images))[:count]

    def _content(self, image: Path) -> bytes:
        label = label_path(image)
        # The name counts, because names decide the order of images, and so the batches of a training.
        # A missing image is the data check's to refuse, with all the others.
        ends = _ends(image) if image.is_file() else b"missing"
        content = image.name.encode() + ends + (label.read_bytes() if label.is_file() else b"-")
        return content + image.parent.name.encode() if self.in_class_folders else content


def load_dataset(data_yaml: Path) -> Dataset:
    """Read a ``data.yaml`` or a folder of class folders, and find the images of every split.

    A relative ``path`` starts at the working folder, as in Ultralytics, or else at the file itself; it never starts at
    Ultralytics' ``datasets_dir``.

    Raises:
        SlimError: the file isn't readable, its names and splits aren't valid (all at once), or a relative ``path`` fits
            two folders.
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
            topic="the-data-set-has-problems",
        )
    return _with_images(data_yaml, names, values)


def _class_folders(folder: Path) -> Dataset:
    """A classification data set: ``SPLIT/CLASS/image``.

    Raises:
        SlimError: no class folders for training.
    """
    folder = folder.resolve()
    found = {split: next((folder / name for name in names if (folder / name).is_dir()), None)
             for split, names in FOLDER_NAMES.items()}  # fmt: skip
    train = found["train"]
    # Ultralytics numbers the classes in the order of the training folders' names.
    classes = sorted(path.name for path in train.iterdir() if path.is_dir()) if train else []
    if not classes:
        raise SlimError(
            f"{folder}: no class folders in {folder / 'train'}.",
            remedy="Classification needs train/CLASS/image and val/CLASS/image; other tasks need a data.yaml.",
        )
    splits = {
        split: [Path(name) for name in sorted(filter(_is_image, _listed(path)))]
        for split, path in found.items()
        if path
    }
    return Dataset(
        yaml=folder,
        root=folder,
        names=dict(enumerate(classes)),
        splits=splits,
        problems={split: [] for split in splits},
    )


def _class_names(values: Values) -> tuple[dict[int, str], list[str]]:
    # As in Ultralytics names decide, and nc is only compared with them.
    names, count = values.get("names"), _as_count(values.get("nc"))
    if names is None:
        if isinstance(count, int) and count > 0:
            return {i: f"class_{i}" for i in range(count)}, []
        return {}, ["names: missing; expected a list or a mapping of class id to name"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        named = {int(key): str(value) for key, value in names.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        return {}, [f"names: got {names!r}; expected a list or a mapping of class id to name"]
    problems = name_problems(named)
    if count is not None and count != len(named):
        problems.append(f"nc: got {count!r}, but names lists {len(named)} classes")
    return dict(sorted(named.items())), problems


def _as_count(value: Any) -> Any:
    """The number that Ultralytics takes a value for: 3 for 3.0 and for "3"; anything else unchanged."""
    try:
        return int(float(value)) if float(value).is_integer() else value
    except (TypeError, ValueError, OverflowError):
        return value


def _is_source(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _root(data_yaml: Path, values: Values) -> tuple[Path, list[str]]:
    """The folder that splits start from, and what to say of it.

    Raises:
        SlimError: a relative ``path`` leads to the data from the working folder, and to others from the file's folder.
    """
    path = str(values.get("path") or "")
    beside, here = (data_yaml.parent / path).resolve(), Path(path).resolve()
    if not path or beside == here:
        return beside, []
    is_beside = _leads_to_data(beside, values)
    if _leads_to_data(here, values):
        if is_beside:
            raise SlimError(
                f"{data_yaml}: two folders fit its path: {path!r}.",
                culprits=[f"{here}, from the working folder (Ultralytics reads this one)", f"{beside}, from the file"],
                remedy="Write an absolute path.",
            )
        return here, []
    note = (
        f"path: {path!r} is read as {beside}, from {data_yaml.name}; Ultralytics reads it from the working folder, or "
        "from its datasets_dir. An absolute path is the same for both"
    )
    return beside if beside.exists() else here, [note] if is_beside else []


def _leads_to_data(root: Path, values: Values) -> bool:
    """Whether a source of a split is below a folder."""
    sources = [source for split in SPLITS for source in _sources(values, split)]
    return any(_resolve(root, source).exists() for source in sources if not Path(source).is_absolute())


def _sources(values: Values, split: str) -> list[str]:
    """What the description names for a split."""
    given = values.get(split) or values.get(ALIASES.get(split, split)) or []
    return [given] if isinstance(given, str) else given


def _with_images(data_yaml: Path, names: dict[int, str], values: Values) -> Dataset:
    splits: dict[str, list[Path]] = {}
    problems: dict[str, list[str]] = {}
    root, notes = _root(data_yaml, values)
    for split in SPLITS:
        if sources := [_resolve(root, source) for source in _sources(values, split)]:
            problems[split] = [f"{split}: {source} does not exist" for source in sources if not source.exists()]
            splits[split] = _found(split, sources, problems[split], notes)
    extra = {key: values[key] for key in EXTRA_KEYS if key in values}
    return Dataset(yaml=data_yaml, root=root, names=names, splits=splits, problems=problems, extra=extra, notes=notes)


def _found(split: str, sources: Iterable[Path], problems: list[str], notes: list[str]) -> list[Path]:
    """The images of a split in Ultralytics' order; adds unreadable lists to problems, lines passed over to notes."""
    found: list[str] = []
    for source in sources:
        try:
            listed = _listed(source)
        except UnicodeDecodeError:
            problems.append(f"{split}: {source} is no list of images in UTF-8")
            continue
        images = [name for name in listed if _is_image(name)]
        others = [name for name in listed if name.strip() and not _is_image(name)]
        # A space at a line's end makes Ultralytics pass the line over.
        if others and source.is_file():
            notes.append(f"{split}: {source} has lines that name no image, {len(others)} passed over: {others[0]!r}")
        if source.is_dir() and (counts := _left_out(others)):
            notes.append(f"{split}: {source} has files that training doesn't read either: {counts}")
        found += images
    # COCO's test list names images that nobody downloads, because their labels are secret: then there is no such split.
    if split == "test" and found and not any(Path(name).is_file() for name in found):
        problems.append(f"test: none of its {len(found)} images exists")
        return []
    # By text, as Ultralytics sorts: paths compare part by part, which puts a/ before a-b/.
    return [Path(name) for name in sorted(found)]


def _resolve(root: Path, source: str) -> Path:
    path = (root / source).resolve()
    # Roboflow writes ../train/images for a folder beside the YAML file.
    if not path.exists() and source.startswith("../"):
        return (root / source[3:]).resolve()
    return path


def _listed(source: Path) -> list[str]:
    """The files in a folder and below, or the lines of a list."""
    if source.is_dir():
        # The same pattern as Ultralytics': it skips hidden folders and names without a dot in the same way.
        return glob.glob(str(Path(glob.escape(str(source))) / "**" / "*.*"), recursive=True)  # noqa: PTH207  (Ultralytics' own order)
    if not source.is_file():
        return []
    # utf-8-sig: Windows editors write a byte order mark before the first path.
    lines = source.read_text(encoding="utf-8-sig").strip().splitlines()
    return [f"{source.parent}/{line[2:]}" if line.startswith("./") else line for line in lines]


def _left_out(names: Iterable[str]) -> str:
    """Count the files by suffix, those that usually lie beside images left out; empty where there are no others."""
    suffixes = Counter(f".{name.rpartition('.')[2].lower()}" for name in names if Path(name).is_file())
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()) if suffix not in COMPANIONS)


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _ends(path: Path) -> bytes:
    """A file's size and its first and last bytes."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(END_BYTES)
        stream.seek(max(size - END_BYTES, 0))
        return size.to_bytes(8, "big") + head + stream.read(END_BYTES)
