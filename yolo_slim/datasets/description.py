"""A data set's description (``data.yaml`` or class folders), resolved as Ultralytics resolves it."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from yolo_slim.config.strict import read_yaml
from yolo_slim.datasets.labels import label_path
from yolo_slim.errors import SlimError
from yolo_slim.models.class_names import name_problems

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset(
    ["avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"]
)
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
    """Image files of each declared split, sorted as Ultralytics sorts them."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Missing folders and unreadable lists of each split."""
    extra: dict[str, Any] = field(default_factory=dict)
    """The description's values of :data:`EXTRA_KEYS`."""

    @property
    def in_class_folders(self) -> bool:
        """Whether an image's class is the name of its folder, as classification has it."""
        return self.yaml.is_dir()

    @property
    def keypoint_shape(self) -> tuple[int, int] | None:
        """Points of a pose label and values of each; None where the description has none, or has other values."""
        match self.extra.get("kpt_shape"):
            case [int(points), 2 | 3 as values]:
                return points, values
        return None

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
        """Up to ``count`` images to compare two graphs on: of validation, or of training where that has none."""
        return (self.splits.get("val") or self.splits.get("train") or [])[:count]

    def _content(self, image: Path) -> bytes:
        label = label_path(image)
        # The name counts, because names decide the order of images, and so the batches of a training.
        # A missing image is the data check's to refuse, with all the others.
        ends = _ends(image) if image.is_file() else b"missing"
        content = image.name.encode() + ends + (label.read_bytes() if label.is_file() else b"-")
        return content + image.parent.name.encode() if self.in_class_folders else content


def load_dataset(data_yaml: Path) -> Dataset:
    """Read a ``data.yaml`` or a folder of class folders, and find the images of every split.

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
    splits = {split: sorted(set(_images_in(path)), key=str) for split, path in found.items() if path}
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
    except (AttributeError, ValueError):
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


def _root(data_yaml: Path, path: Any) -> Path:
    beside = (data_yaml.parent / str(path or ".")).resolve()
    from_here = Path(str(path or ".")).resolve()
    # Ultralytics itself starts a relative path at the working folder: such files keep working.
    return from_here if path and not beside.exists() and from_here.exists() else beside


def _with_images(data_yaml: Path, root: Path, names: dict[int, str], values: Values) -> Dataset:
    splits: dict[str, list[Path]] = {}
    problems: dict[str, list[str]] = {}
    for split in SPLITS:
        given = values.get(split) or values.get(ALIASES.get(split, split))
        if given:
            sources = [_resolve(root, source) for source in ([given] if isinstance(given, str) else given)]
            problems[split] = [f"{split}: {source} does not exist" for source in sources if not source.exists()]
            splits[split] = _found(split, sources, problems[split])
    extra = {key: values[key] for key in EXTRA_KEYS if key in values}
    return Dataset(yaml=data_yaml, root=root, names=names, splits=splits, problems=problems, extra=extra)


def _found(split: str, sources: Iterable[Path], problems: list[str]) -> list[Path]:
    """The images of a split in Ultralytics' order; unreadable lists are added to ``problems``."""
    images: set[Path] = set()
    for source in sources:
        try:
            images.update(_images_in(source))
        except UnicodeDecodeError:
            problems.append(f"{split}: {source} is no list of images in UTF-8")
    # COCO's test list names images that nobody downloads, because their labels are secret: then there is no such split.
    if split == "test" and images and not any(image.is_file() for image in images):
        problems.append(f"test: none of its {len(images)} images exists")
        return []
    # By text, as Ultralytics sorts: paths compare part by part, which puts a/ before a-b/.
    return sorted(images, key=str)


def _resolve(root: Path, source: str) -> Path:
    path = (root / source).resolve()
    # Roboflow writes ../train/images for a folder beside the YAML file.
    if not path.exists() and source.startswith("../"):
        return (root / source[3:]).resolve()
    return path


def _images_in(source: Path) -> Iterable[Path]:
    if source.is_dir():
        # The same pattern as Ultralytics': it skips hidden folders and names without a dot in the same way.
        found = glob.glob(str(Path(glob.escape(str(source))) / "**" / "*.*"), recursive=True)  # noqa: PTH207  (Ultralytics' own order)
    elif source.is_file():
        # utf-8-sig: Windows editors write a byte order mark before the first path.
        found = [_listed(line, source.parent) for line in source.read_text(encoding="utf-8-sig").split("\n")]
    else:
        found = []
    return [Path(name) for name in found if name.rpartition(".")[2].lower() in IMAGE_SUFFIXES]


def _listed(line: str, folder: Path) -> str:
    line = line.strip()
    return f"{folder}/{line[2:]}" if line.startswith("./") else line


def _ends(path: Path) -> bytes:
    """A file's size and its first and last bytes."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(END_BYTES)
        stream.seek(max(size - END_BYTES, 0))
        return size.to_bytes(8, "big") + head + stream.read(END_BYTES)
