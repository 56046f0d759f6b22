"""A stage's job: what decides its result, and the manifest that a finished one leaves.

A job's fingerprint holds everything that decides its result: the settings, the content of what it reads, the revision
of the stage's own code, and the versions of the packages that compute it. The manifest with that fingerprint and the
digest of every output is written last, so that a result is complete or absent, never half there.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version
from pathlib import Path
from typing import Any

from yolo_slim.errors import CHECK_PATH, SlimError, os_errors_explained
from yolo_slim.files import JsonObject, read_json, sha256, sha256_json, write_json
from yolo_slim.machine import device_model
from yolo_slim.version import __version__

MANIFEST = "manifest.json"

MANIFEST_SCHEMA = 2
"""1, of the first layout, named neither revisions nor packages: such a result counts as stale."""

RECORDED = (
    "torch", "ultralytics", "torch-pruning", "onnx", "onnxruntime", "ncnn", "pnnx", "MNN", "numpy",
    "opencv-python",
)  # fmt: skip
"""Packages whose version every manifest records for people, whether it decides the stage's result or not."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished job says of its result (``manifest.json``)."""

    schema: int = MANIFEST_SCHEMA
    stage: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    revision: int
    packages: dict[str, str | None]
    outputs: dict[str, str]
    """File, relative to the folder, to its SHA-256."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the stage measured of its result."""
    seconds: float
    finished_at: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    machine: dict[str, str]

    @property
    def identity(self) -> JsonObject:
        """What the fingerprint is made of, as :attr:`Job.identity`."""
        return {key: getattr(self, key) for key in ("settings", "inputs", "revision", "packages")}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a stage leaves in its folder."""

    outputs: Sequence[Path]
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_lasting: bool = True
    """False: the result can be read, but the next call makes it again (a timing on a throttled machine)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage's work."""

    stage: str
    folder: Path
    """Where its outputs go."""
    settings: Mapping[str, Any]
    """The settings that it depends on, as JSON values."""
    inputs: Mapping[str, str]
    """Role to SHA-256 of what it reads, the data set's included."""
    revision: int
    """Raised by whoever changes the stage so that equal inputs come out otherwise."""
    packages: tuple[str, ...]
    """Packages whose version decides the result."""
    elsewhere: Mapping[str, str | None] = field(default_factory=dict)
    """What else decides it that an update may change, by what it is called: versions on another machine (None: it isn't
    installed there), or what an earlier stage found."""

    def __post_init__(self) -> None:
        """Refuse an input without a digest: its content could change unnoticed."""
        if unknown := [role for role, digest in self.inputs.items() if not digest]:
            raise ValueError(f"{self.stage}: inputs without a digest: {', '.join(unknown)}")

    @cached_property
    def identity(self) -> JsonObject:
        """What the fingerprint is made of, readable."""
        found = {package: _version(package) for package in self.packages} | dict(self.elsewhere)
        return {
            "settings": dict(self.settings), "inputs": dict(self.inputs), "revision": self.revision, "packages": found,
        }  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """What must match for the job to be skipped."""
        return sha256_json({"stage": self.stage, **self.identity})

    @property
    def request(self) -> str:
        """Digest of what the user asked for: the fingerprint without what an update changes."""
        return sha256_json({"stage": self.stage, "settings": dict(self.settings), "inputs": dict(self.inputs)})

    def begin(self) -> None:
        """Make the folder and withdraw the manifest of an earlier job."""
        with os_errors_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Before the work: a stage that dies must leave no manifest beside half-made outputs.
            (self.folder / MANIFEST).unlink(missing_ok=True)

    def finish(self, made: Made, seconds: float) -> Manifest:
        """Write the manifest."""
        manifest = Manifest(
            stage=self.stage,
            fingerprint=self.fingerprint,
            **self.identity,
            # Relative, so that a folder may be moved.
            outputs={path.relative_to(self.folder).as_posix(): sha256(path) for path in made.outputs},
            facts=dict(made.facts),
            seconds=round(seconds, 2),
            finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=versions(),
            machine={"model": device_model(), "system": platform.platform()},
        )
        if made.is_lasting:
            with os_errors_explained(self.folder):
                write_json(self.folder / MANIFEST, asdict(manifest))
        return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Read a folder's manifest; None where there is none of this schema."""
    try:
        value = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return None
    # A key that this version doesn't know may decide the result, so such a manifest proves nothing.
    known = {item.name for item in fields(Manifest)}
    if not isinstance(value, dict) or value.get("schema") != MANIFEST_SCHEMA or not known >= set(value):
        return None
    try:
        return Manifest(**value)
    except TypeError:
        return None


def outputs_complete(folder: Path, manifest: Manifest) -> bool:
    """Tell whether every output is there with its recorded bytes."""
    return all(
        (folder / name).is_file() and sha256(folder / name) == digest for name, digest in manifest.outputs.items()
    )


def content(path: Path) -> str:
    """Identify an input file by its content.

    Raises:
        SlimError: it isn't there.
    """
    try:
        return sha256(path)
    except (FileNotFoundError, IsADirectoryError):
        raise SlimError(f"File not found: {path}", remedy=CHECK_PATH) from None


def require_manifest(folder: Path, stage: str) -> Manifest:
    """Read the manifest of a finished stage.

    Raises:
        SlimError: the stage isn't finished there.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.stage != stage:
        raise SlimError(f"{folder} contains no finished {stage} stage.", remedy=f"Run `yolo-slim {stage}` first.")
    return manifest


def versions() -> dict[str, str]:
    """Name the versions of yolo_slim, Python and the packages that compute results."""
    found = {"yolo_slim": __version__, "python": platform.python_version()}
    return found | {package: text for package in RECORDED if (text := _version(package))}


def _version(package: str) -> str | None:
    """Look a package's version up; None where it isn't installed. OpenCV has a package without windows too."""
    for name in (package, f"{package}-headless") if package == "opencv-python" else (package,):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
