"""What a stage leaves behind as its last act; without it the stage is not done.

A stage is fresh when its manifest's fingerprint (stage, settings, inputs, yolo_slim version) is the one wanted and
every output still has the bytes that the manifest recorded.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import flat, read_json, sha256, sha256_json, write_json
from yolo_slim.machine import device_model
from yolo_slim.version import __version__

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
PACKAGES = ("torch", "ultralytics", "torch-pruning", "onnx", "onnxruntime", "ncnn", "pnnx", "numpy", "opencv-python")
"""Packages whose version a manifest records."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage's work: what decides its result."""

    stage: str
    folder: Path
    """Where its outputs go."""
    config: Mapping[str, Any]
    """The settings that it depends on, as JSON values."""
    inputs: Mapping[str, str]
    """Role to SHA-256 of what it reads."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""

    @property
    def fingerprint(self) -> str:
        """Return what must match for the stage to be skipped."""
        return sha256_json({"stage": self.stage, "config": self.config, "inputs": self.inputs, "version": __version__})

    def is_done(self) -> bool:
        """Tell whether the folder already holds this job's whole result."""
        manifest = read_manifest(self.folder)
        return bool(manifest) and manifest["fingerprint"] == self.fingerprint and outputs_whole(self.folder, manifest)

    @property
    def identity(self) -> dict[str, Any]:
        """Return what the fingerprint is made of, readable."""
        return {"config": dict(self.config), "inputs": dict(self.inputs), "yolo_slim": __version__}

    def begin(self) -> None:
        """Make the folder and withdraw the manifest of an earlier, different job."""
        with os_errors_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / MANIFEST).unlink(missing_ok=True)

    def finish(self, outputs: Sequence[Path], extra: Mapping[str, Any] | None = None) -> None:
        """Write the manifest; ``outputs`` are files below the folder."""
        value = {
            "schema": MANIFEST_SCHEMA,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "config": dict(self.config),
            "inputs": dict(self.inputs),
            "outputs": {path.relative_to(self.folder).as_posix(): sha256(path) for path in outputs},
            "seconds": round(time.time() - self.started, 2),
            "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "machine": {"model": device_model(), "system": platform.platform()},
            **(extra or {}),
        }
        with os_errors_explained(self.folder):
            write_json(self.folder / MANIFEST, value)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a stage's manifest, empty where there is none that can be read."""
    try:
        value = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and value.get("schema") == MANIFEST_SCHEMA else {}


def identity_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says its stage was made of, as :attr:`Job.identity` does."""
    made_by = manifest.get("versions", {}).get("yolo_slim")
    return {"config": manifest.get("config", {}), "inputs": manifest.get("inputs", {}), "yolo_slim": made_by}


def changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what differs between two identities, each with its old and new value."""
    old, new = flat(found), flat(wanted)
    keys = [key for key in {**old, **new} if key != "fingerprint" and old.get(key) != new.get(key)]
    return [f"{key.partition('.')[2] or key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys]


def _short(value: Any) -> str:
    """Return a value for a message: a digest by its beginning, an absent one as such."""
    text = "not set" if value is None else str(value)
    return text[:12] if len(text) == 64 else text


def outputs_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Tell whether every output of a manifest is there with its recorded bytes."""
    return all(
        (folder / name).is_file() and sha256(folder / name) == digest for name, digest in manifest["outputs"].items()
    )


def require_manifest(folder: Path, stage: str) -> dict[str, Any]:
    """Return the manifest of a finished stage.

    Raises:
        SlimError: the stage isn't done there.
    """
    manifest = read_manifest(folder)
    if manifest.get("stage") != stage:
        raise SlimError(f"{folder} holds no finished {stage} stage.", remedy=f"Run `yolo-slim {stage}` first.")
    return manifest


def versions() -> dict[str, str]:
    """Return the versions of yolo_slim, Python and the packages that decide results."""
    found = {"yolo_slim": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
