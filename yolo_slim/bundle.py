"""A bundle: one folder (or .tar.gz) with everything a device needs to run one model in one runtime and precision.

``bundle.json`` is written last and lists the SHA-256 of every other file: a bundle that lacks a byte is refused.
See docs/bundle.md for its keys.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, TypedDict, get_args

from yolo_slim.errors import SlimError, did_you_mean
from yolo_slim.files import JsonObject, fresh_folder, sha256, write_atomic, write_json
from yolo_slim.requirements import Requirements, requirement_problems

BUNDLE_SCHEMA = 2
"""Version of bundle.json; a reader refuses a newer one. 2: ``build`` is named ``engine``; ``requires`` is new."""

BUNDLE_JSON = "bundle.json"
BUILT_FILES = (".onnx", ".engine", ".param", ".mnn")
"""Endings of model files that are in bundles."""
MODEL_FILES = (".pt", *BUILT_FILES)
"""Endings of files that people take for a bundle."""
Runtime = Literal["onnxruntime", "ncnn", "tensorrt", "mnn"]
"""Every runtime. Each is a folder of :mod:`yolo_slim.backends`; profiles and bundles accept these names."""
Precision = Literal["fp32", "fp16", "int8"]
"""Every precision. A backend's own ``PRECISIONS`` says which of them it builds."""
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "ncnn": ("ncnn",),
    "tensorrt": ("tensorrt", "pycuda"),
    "mnn": ("MNN",),
}
"""Python packages that a runtime imports on the device."""
LAYOUTS = ("one2many", "end2end")
OPTIONAL_KEYS = ("engine", "requires")
"""Keys that are absent where there is nothing to say."""
ARCHIVES = (".tar.gz", ".tgz")
RUN_DEPTHS = ("*/", "*/*/", "build/*/*/")
"""Where bundles are in ``build/slim``, in ``build``, and in the folder of a run."""
_WHAT_IT_IS = (
    f"A bundle is a folder with {BUNDLE_JSON} and the files of a model, or its .tar.gz. On the workstation, `yolo-slim "
    "run` writes bundles to runs/slim/NAME/build/slim."
)
_COPY_AGAIN = "Copy the bundle to this device again, or build it again."


class FileEntry(TypedDict):
    """How one file of a bundle is recognised."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class BundleSpec:
    """The content of bundle.json."""

    schema: int = BUNDLE_SCHEMA
    """Version of this layout."""
    name: str
    """Name for people, usually that of the weights."""
    target: str
    """Device profile that the bundle was built for."""
    runtime: str
    """Folder of :mod:`yolo_slim.backends` that runs it: one of :data:`RUNTIMES`."""
    precision: str
    """One of :data:`PRECISIONS`."""
    task: str = "detect"
    """Ultralytics task; only ``detect``."""
    imgsz: tuple[int, int]
    """Height and width of the model's input, pixels."""
    stride: int
    """Largest stride of the model, pixels."""
    names: dict[int, str]
    """Class id to class name."""
    layout: str
    """``one2many``: (1, 4 + classes, anchors), needs NMS; ``end2end``: (1, 300, 6), needs a score cut only."""
    threads: int
    """Inference threads."""
    conf: float = 0.25
    """Score threshold of ``detect``."""
    iou: float = 0.7
    """IoU above which NMS drops the lower-scored box."""
    max_det: int = 300
    """Most detections of one image."""
    model: dict[str, str]
    """Role (``onnx``; ``param`` and ``bin``) to file of the bundle."""
    input_name: str
    """Name of the model's input tensor."""
    output_name: str
    """Name of the model's output tensor."""
    files: dict[str, FileEntry]
    """Every file except bundle.json, by relative path."""
    provenance: dict[str, Any]
    """Where it came from: weights, data, versions. Free-form, for reports."""
    engine: dict[str, Any] = field(default_factory=dict)
    """How the device builds its engine: TensorRT's workspace, DLA and so on. Empty: it builds none."""
    requires: Requirements = field(default_factory=Requirements)
    """What the device must have; ``doctor`` compares it with the machine."""

    def to_json(self) -> dict[str, object]:
        """The content of bundle.json."""
        names = {str(key): value for key, value in sorted(self.names.items())}
        value = {**asdict(self), "imgsz": list(self.imgsz), "names": names, "requires": self.requires.to_json()}
        return {key: content for key, content in value.items() if key not in OPTIONAL_KEYS or content}

    @classmethod
    def from_json(cls, value: object, source: str = BUNDLE_JSON) -> BundleSpec:
        """Check and convert the content of bundle.json; schema 1 is converted to the present one.

        Raises:
            SlimError: newer schema; or every missing key, unknown key and impossible value, all at once.
        """
        if not isinstance(value, dict):
            raise SlimError(f"{source} isn't a JSON object.", remedy=_COPY_AGAIN)
        _refuse_newer_schema(value.get("schema"), source)
        value = _in_present_schema(value)
        problems = list(_problems(value))
        if problems:
            raise SlimError(f"{source} has {len(problems)} problem(s).", culprits=problems, remedy=_COPY_AGAIN)
        names = {int(key): text for key, text in value["names"].items()}
        requires = Requirements.from_json(value.get("requires", {}))
        return cls(**{**value, "imgsz": tuple(value["imgsz"]), "names": names, "requires": requires})


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened, verified bundle."""

    folder: Path
    """Where its files lie."""
    spec: BundleSpec
    """What bundle.json says."""
    archive: Path | None = None
    """The .tar.gz that was opened; None: the folder itself was."""

    def model_path(self, role: str) -> Path:
        """The model file that has a role, such as ``onnx`` or ``param``."""
        return self.folder / self.spec.model[role]


def write_bundle_json(folder: Path, spec: BundleSpec) -> BundleSpec:
    """Hash every file of ``folder``, write its bundle.json last, and give ``spec`` back with ``files`` filled in."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / BUNDLE_JSON]
    described = {path.relative_to(folder).as_posix(): _describe(path) for path in paths}
    complete = replace(spec, files=described)
    value = complete.to_json()
    # The device's own check: a bundle that it would refuse is never written.
    BundleSpec.from_json(value, str(folder / BUNDLE_JSON))
    write_json(folder / BUNDLE_JSON, value)
    return complete


def open_bundle(path: Path | str) -> Bundle:
    """Open a bundle folder or .tar.gz and verify every file.

    An archive is unpacked once, into a sibling folder named after its hash.

    Raises:
        SlimError: not a bundle, damaged, incomplete, changed, or made by a newer yolo_slim.
    """
    path = Path(path)
    if not path.exists():
        raise SlimError(f"Bundle not found: {path}", remedy="Give a bundle folder or its .tar.gz.")
    if path.suffix in MODEL_FILES:
        raise SlimError(
            f"{path} is a model, not a bundle.",
            remedy="Make a bundle of it on the workstation (yolo-slim run, or yolo-slim build), and give that.",
        )
    if path.is_file() and not path.name.endswith(ARCHIVES):
        raise SlimError(f"Not a bundle: {path} is neither a folder nor a .tar.gz.", remedy=_WHAT_IT_IS)
    folder = path if path.is_dir() else _unpacked(path)
    spec = read_spec(folder)
    _verify(folder, spec)
    return Bundle(folder=folder, spec=spec, archive=None if path.is_dir() else path)


def read_spec(folder: Path) -> BundleSpec:
    """Read a folder's bundle.json without verifying the other files."""
    path = folder / BUNDLE_JSON
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _no_bundle(folder) from None
    except ValueError as error:
        raise SlimError(f"{path} is damaged or cut off: {error}", remedy=_COPY_AGAIN) from None
    return BundleSpec.from_json(value, str(path))


def _no_bundle(folder: Path) -> SlimError:
    """Make the error of a folder without bundle.json: one with bundles in it, half of a bundle, or any other."""
    inside = [path.parent for depth in RUN_DEPTHS for path in sorted(folder.glob(f"{depth}{BUNDLE_JSON}"))]
    is_half = any(path.suffix in BUILT_FILES for path in folder.glob("*"))
    return SlimError(
        f"Not a bundle: {folder} has no {BUNDLE_JSON}.",
        culprits=[f"{path} is a bundle" for path in inside],
        remedy="Give one of these." if inside else _COPY_AGAIN if is_half else _WHAT_IT_IS,
    )


def pack(folder: Path, tar_path: Path) -> None:
    """Write a bundle folder as a .tar.gz whose bytes depend on its content and the archive's name only.

    Raises:
        SlimError: a file of the bundle is missing or changed.
    """
    spec = open_bundle(folder).spec
    top = _stem(tar_path)
    # The files of bundle.json and no others: an engine that a device built beside them belongs to that device.
    write_atomic(tar_path, lambda temporary: _write_tar(folder, [*spec.files, BUNDLE_JSON], top, temporary))


def _describe(path: Path) -> FileEntry:
    return {"sha256": sha256(path), "size_bytes": path.stat().st_size}


def _refuse_newer_schema(schema: Any, source: str) -> None:
    if isinstance(schema, int) and schema > BUNDLE_SCHEMA:
        raise SlimError(
            f"{source} has schema {schema}, this yolo_slim reads up to {BUNDLE_SCHEMA}: "
            "the bundle was made by a newer yolo_slim; update on the device.",
            remedy="On the device: pip install --upgrade yolo_slim-*.whl (the wheel is in the bundle).",
            topic="the-bundle-is-newer",
        )


def _in_present_schema(value: JsonObject) -> JsonObject:
    """Schema 1 named the engine's settings ``build`` and required nothing of the device."""
    if value.get("schema") != 1:
        return value
    return {{"build": "engine"}.get(key, key): content for key, content in value.items()} | {"schema": BUNDLE_SCHEMA}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0  # True is an int in Python


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _is_inner_path(value: Any) -> bool:
    """Whether a text is a relative path that stays inside the bundle."""
    if not _is_text(value):
        return False
    path = PurePosixPath(value)
    # Windows reads a backslash as a separator and a colon as a drive.
    return not path.is_absolute() and ".." not in path.parts and "\\" not in value and ":" not in value


def _is_names(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(k.isdecimal() and _is_text(v) for k, v in value.items())


def _is_model(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_is_inner_path(file) for file in value.values())


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_inner_path(k) and _is_file_entry(v) for k, v in value.items())


def _is_file_entry(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"sha256", "size_bytes"}
        and _is_text(value["sha256"])
        and isinstance(value["size_bytes"], int)
    )


_TEXT = (_is_text, "a text")
_COUNT = (_is_count, "a positive integer")
_SHARE = (_is_share, "a number from 0 to 1")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "schema": _COUNT,
    "name": _TEXT,
    "target": _TEXT,
    "runtime": (lambda value: value in RUNTIMES, f"one of {', '.join(RUNTIMES)}"),
    "precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "task": (lambda value: value == "detect", "'detect'"),
    "imgsz": (lambda v: isinstance(v, list) and len(v) == 2 and all(map(_is_count, v)), "[height, width]"),
    "stride": _COUNT,
    "names": (_is_names, "an object of class id to class name"),
    "layout": (lambda value: value in LAYOUTS, f"one of {', '.join(LAYOUTS)}"),
    "threads": _COUNT,
    "conf": _SHARE,
    "iou": _SHARE,
    "max_det": _COUNT,
    "model": (_is_model, "an object of role to a file inside the bundle"),
    "input_name": _TEXT,
    "output_name": _TEXT,
    "files": (_is_files, "an object of relative path to sha256 and size_bytes"),
    "provenance": (lambda value: isinstance(value, dict), "an object"),
    "engine": (lambda value: isinstance(value, dict), "an object"),
}


def _problems(value: JsonObject) -> Iterator[str]:
    """One line for every missing key, unknown key and impossible value."""
    known = [entry.name for entry in fields(BundleSpec)]
    yield from (f"{key}: missing" for key in known if key not in value and key not in OPTIONAL_KEYS)
    yield from (f"{key}: unknown key.{did_you_mean(key, known)}" for key in value if key not in known)
    for key, (is_valid, expected) in _CHECKS.items():
        if key in value and not is_valid(value[key]):
            yield f"{key}: got {value[key]!r}; expected {expected}"
    yield from requirement_problems(value.get("requires", {}))
    if _is_model(value.get("model")) and _is_files(value.get("files")):
        yield from (f"model: {file} isn't in files" for file in value["model"].values() if file not in value["files"])


def _verify(folder: Path, spec: BundleSpec) -> None:
    """Refuse the bundle, naming every file that is missing or differs from bundle.json."""
    problems = [problem for name, entry in spec.files.items() if (problem := _difference(folder / name, name, entry))]
    if problems:
        raise SlimError(
            f"The bundle {folder} isn't what was built.",
            culprits=problems,
            remedy=_COPY_AGAIN,
            topic="the-bundle-is-damaged",
        )


def _difference(path: Path, name: str, entry: FileEntry) -> str:
    if not path.is_file():
        return f"{name}: missing"
    # The size first: a file that was cut off in copying is found without reading it.
    if path.stat().st_size != entry["size_bytes"]:
        return f"{name}: {path.stat().st_size} bytes, expected {entry['size_bytes']}"
    return "" if sha256(path) == entry["sha256"] else f"{name}: content changed (SHA-256 differs)"


def _stem(path: Path) -> str:
    return path.name.removesuffix(".tar.gz").removesuffix(".tgz")


def _write_tar(folder: Path, names: list[str], top: str, out: Path) -> None:
    """Write a tar.gz without anything that varies between two runs."""
    # gzip would store the temporary file's name and the time; TarInfo's own defaults have no time and no owner.
    with (
        out.open("wb") as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(names):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as content:
                tar.addfile(entry, content)


def _is_bundle(folder: Path) -> bool:
    return (folder / BUNDLE_JSON).is_file()


def _unpacked(archive: Path) -> Path:
    """The folder beside ``archive`` with its content, unpacked on first use."""
    # The hash is in the name: another archive under the same name never gets this one's files.
    folder = archive.with_name(f"{_stem(archive)}-{sha256(archive)[:12]}")
    if _is_bundle(folder):
        return folder
    try:
        with fresh_folder(folder, stays=_is_bundle) as temporary:
            _extract(archive, temporary)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SlimError(
            f"{archive} is damaged, cut off or not a .tar.gz: {error}",
            remedy=_COPY_AGAIN,
            topic="the-bundle-is-damaged",
        ) from None
    except PermissionError as error:
        remedy = f"Unpack it yourself where you can write (tar xzf {archive.name}) and give the folder."
        raise SlimError(f"{archive} can't be unpacked beside itself: {error.strerror}.", remedy=remedy) from None
    return folder


def _extract(archive: Path, folder: Path) -> None:
    """Write the archive's regular files below ``folder``, without their top folder.

    ``tarfile``'s own safe filter is absent from early Python 3.10 releases, so names are checked here.
    """
    with gzip.open(archive) as packed, tarfile.open(fileobj=packed, mode="r:") as tar:
        for entry in tar:
            if entry.isdir():
                continue
            # Links and devices are refused like paths that lead out of the folder.
            stream = tar.extractfile(entry) if entry.isreg() and _is_inner_path(entry.name) else None
            if stream is None:
                raise SlimError(
                    f"{archive} contains an entry that doesn't belong in a bundle: {entry.name}",
                    remedy="Don't use this archive: it was not written by yolo_slim.",
                )
            parts = PurePosixPath(entry.name).parts
            _write_stream(stream, folder.joinpath(*parts[1:] or parts))
        # tarfile stops at its end marker; gzip's checksum, which finds a changed archive, comes after it.
        while packed.read(1 << 20):
            pass


def _write_stream(stream: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        while block := stream.read(1 << 20):
            out.write(block)
