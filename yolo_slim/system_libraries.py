"""Libraries of the system that Python packages need: which are missing, and the line to type.

Standard library only: it is asked before anything is installed, and on devices.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

from yolo_slim.errors import SlimError

OPENCV_LIBRARIES = (
    "libGL.so.1", "libxcb.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0", "libstdc++.so.6", "libz.so.1",
)  # fmt: skip
"""What opencv-python's wheel (with windows) takes from the system when it is imported; ``ldd`` of 5.0.0, x86-64."""

DEBIAN_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libxcb.so.1": "libxcb1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
    "libgomp.so.1": "libgomp1",
    "libopenblas.so.0": "libopenblas0",
    "libvulkan.so.1": "libvulkan1",
}
"""Library to the package of Debian, Ubuntu and Raspberry Pi OS that contains it."""

CLONE = Path(__file__).resolve().parents[1]
"""The folder of the repository, where this package lies in one."""

PIP_NAMES = {"cv2": "opencv-python-headless"}
"""Module to the package of PyPI, where the names differ."""

_MISSING = re.compile(r"(lib[\w+.-]*?\.so[.\d]*): (?:cannot open shared object file|file too short)")
"""The dynamic linker's words for a library that isn't there, or is damaged."""


def missing_libraries(libraries: Iterable[str] = OPENCV_LIBRARIES) -> list[str]:
    """Those that the dynamic linker doesn't find here."""
    return [name for name in libraries if not _loads(name)]


def install_line(packages: Iterable[str]) -> str:
    """The line that installs Debian packages, each once; other systems get the names."""
    names = " ".join(dict.fromkeys(packages))
    if shutil.which("apt") is None:
        return f"with this system's package manager, what Debian calls {names}"
    # A fresh container has no sudo, and no list of packages.
    is_root = getattr(os, "geteuid", lambda: 1)() == 0
    return f"apt update && apt install -y {names}" if is_root else f"sudo apt install {names}"


def pip_line(*wanted: str) -> str:
    """The line that installs packages with pip; in a clone of the repository with its pins, which no wheel has."""
    pins = CLONE / "constraints.txt"
    return " ".join(["pip install", *([f"-c {shlex.quote(str(pins))}"] if pins.is_file() else []), *wanted])


def extra_line(extra: str) -> str:
    """The line that installs one extra of yolo_slim's, such as ``host``."""
    return pip_line(f"'yolo-slim[{extra}]'")


def import_problem(module: str) -> SlimError | None:
    """Import a module; what keeps it from being imported, None where nothing does."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return explain_import(error) or SlimError(f"{module} can't be imported: {error}.")
    return None


def explain_import(error: ImportError, *, install: str = "") -> SlimError | None:
    """What a failed import means for the user; None: a fault of ours, which needs its traceback.

    ``install`` is what installs a missing package here, by default pip with its name.
    """
    module = (error.name or "").partition(".")[0]
    if module == "yolo_slim":
        return None
    if isinstance(error, ModuleNotFoundError):
        command = install or f"pip install {PIP_NAMES.get(module, module)}"
        return SlimError(f"{module or error} isn't installed on this machine.", remedy=f"Install it: {command}")
    found = _MISSING.findall(str(error))
    # OpenCV's second import in one process fails with another message, without the library's name.
    is_opencv = module == "cv2" or '"cv2"' in str(error) or any(name in OPENCV_LIBRARIES for name in found)
    missing = list(dict.fromkeys([*found, *(missing_libraries() if is_opencv else [])]))
    who = "OpenCV" if is_opencv else module or "A Python package"
    if missing:
        return _missing(who, missing)
    text = " ".join(str(error).split())
    return SlimError(f"OpenCV can't be imported: {text}", remedy="Install it again.") if is_opencv else None


def _missing(who: str, libraries: list[str]) -> SlimError:
    packages = [DEBIAN_PACKAGES[name] for name in libraries if name in DEBIAN_PACKAGES]
    remedy = f"Install: {install_line(packages)}" if packages else "Install the packages that contain them."
    return SlimError(
        f"{who} needs libraries that this system lacks: {', '.join(libraries)}.",
        remedy=remedy,
        topic="a-package-is-missing",
    )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
