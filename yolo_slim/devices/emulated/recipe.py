"""What an emulated system is made of: Debian's packages, and wheels in the versions that this workstation has."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from yolo_slim.errors import SlimError
from yolo_slim.files import sha256_json
from yolo_slim.machine import package_version
from yolo_slim.system_libraries import extra_line

REVISION = 1
"""Raised when equal recipes come out otherwise."""
DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")
"""Packages that the wheels need; apt adds what these depend on."""
QEMU = "qemu-user-static"
WHEELS = {
    "numpy": ("numpy",),
    "opencv-python-headless": ("opencv-python", "opencv-python-headless"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "ncnn": ("ncnn",),
}
"""Wheel to the packages of this workstation whose version it takes: both sides then differ in the processor alone."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides an emulated system."""

    source: str
    """Where Debian's packages come from: this machine's release, or a mirror and its release."""
    wheels: tuple[str, ...]
    """``NAME==VERSION`` of every wheel."""
    packages: tuple[str, ...] = DEBIAN
    revision: int = REVISION

    @property
    def key(self) -> str:
        """Name of its folder in the cache."""
        return sha256_json(asdict(self))[:16]


def wanted_wheels() -> tuple[str, ...]:
    """The wheels in the versions of this workstation.

    Raises:
        SlimError: a package isn't installed here.
    """
    found = {name: _version(own) for name, own in WHEELS.items()}
    if missing := [name for name, version in found.items() if version is None]:
        raise SlimError(
            "An emulated device has the same packages as this machine, and some aren't installed here.",
            culprits=missing,
            remedy=f"Install them: {extra_line('host')}",
        )
    return tuple(f"{name}=={version}" for name, version in found.items())


def _version(packages: tuple[str, ...]) -> str | None:
    return next((version for package in packages if (version := package_version(package))), None)


def own_release() -> str:
    """Name this machine's distribution and release, such as ``debian bookworm``."""
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        return "unknown"
    return f"{about.get('ID', 'unknown')} {about.get('VERSION_CODENAME', 'unknown')}"


def cache_folder() -> Path:
    """Where emulated systems are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "yolo_slim" / "emulated"
