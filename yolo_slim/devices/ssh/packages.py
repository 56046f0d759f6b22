"""Which Python packages a device needs, and the wheels of them for a device without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.backends.tensorrt.sdk import PYCUDA
from yolo_slim.bundle import PACKAGES
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import JsonObject, fresh_folder, sha256_json

NUMPY, OPENCV = "numpy>=1.24", "opencv-python-headless>=4.8"
SYSTEM_RUNTIMES = ("tensorrt",)
"""Runtimes that come with the device's system: their environment sees its packages."""
OLDEST_GLIBC = 17
"""glibc 2.17: the oldest that manylinux wheels of aarch64 are made for."""


MISSING = """
import importlib, sys
for name in sys.argv[1:]:
    try: importlib.import_module(name)
    except Exception: print("missing", name)
"""
"""A program for the device: names those modules of its arguments that can't be imported."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an environment must have."""

    modules: Mapping[str, str]
    """Module to the requirement that brings it."""
    sees_system: bool = False
    """It sees the system's packages, and only what is missing there is installed."""
    python: str = ""
    """Version of the device's Python."""

    @property
    def key(self) -> str:
        """Name of the environment: another Python or other requirements are another one."""
        return sha256_json([self.python, dict(self.modules), self.sees_system])[:16]


def needs_of(runtimes: Iterable[str], versions: Mapping[str, str], python: str) -> Needs:
    """Find what runtimes need.

    Args:
        runtimes: names of them.
        versions: package to version specifier (``sdk`` of a profile).
        python: version of the device's Python.
    """
    chosen = sorted(set(runtimes))
    modules = {"numpy": NUMPY, "cv2": OPENCV}
    for runtime in chosen:
        if runtime in SYSTEM_RUNTIMES:
            modules["pycuda.driver"] = PYCUDA
        else:
            for package in PACKAGES[runtime]:
                modules[package] = f"{package}{versions.get(package, '')}"
    return Needs(modules=modules, sees_system=any(one in SYSTEM_RUNTIMES for one in chosen), python=python)


def download(needs: Needs, about: JsonObject, cache: Path) -> Path:
    """Collect the wheels of an environment, and pip's own, for a device's Python and processor.

    Args:
        needs: what is installed.
        about: what the device's agent said: ``arch``, ``libc``, ``python``.
        cache: folder of such collections; one that is complete is used again.

    Raises:
        SlimError: a package has no wheel for that device, or this machine has no network.
    """
    folder = cache / f"{needs.key}-{about['arch']}"
    if folder.is_dir():
        return folder
    platforms = [word for tag in platform_tags(about) for word in ("--platform", tag)]
    minor = ".".join(str(about["python"]).split(".")[:2])
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
        *platforms, "--python-version", minor, "--implementation", "cp", "pip", *needs.modules.values(),
    ]  # fmt: skip
    cache.mkdir(parents=True, exist_ok=True)
    with fresh_folder(folder, stays=Path.is_dir) as temporary:
        done = subprocess.run([*command, "--dest", str(temporary)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SlimError(
                f"The wheels for Python {minor} on {about['arch']} can't be downloaded.",
                culprits=_errors(done.stderr),
                remedy="This machine needs a network, or a mirror in pip's configuration.",
            )
    return folder


def platform_tags(about: JsonObject) -> list[str]:
    """List the platforms of wheels that run on a device, the newest first.

    Raises:
        SlimError: its C library isn't glibc.
    """
    name, version = about["libc"]
    found = re.match(r"2\.(\d+)", version)
    if name != "glibc" or not found:
        raise SlimError(
            f"{about['host']} has no glibc, so there are no wheels for it.", remedy="Use Debian, Ubuntu or JetPack."
        )
    arch = about["arch"]
    tags = [f"manylinux_2_{minor}_{arch}" for minor in range(int(found[1]), OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{arch}", f"linux_{arch}"]


def not_installed(device: str, lines: list[str], *, offline: bool) -> MachineError:
    """Make the error of packages that a device can't install."""
    remedy = "Give --offline: then this machine collects the wheels and sends them."
    if offline:
        remedy = f"Look at the messages above; `yolo-slim device clean {device}` begins anew."
    return MachineError(
        f"The packages can't be installed on {device}.", culprits=_errors("\n".join(lines)), remedy=remedy
    )


def _errors(text: str) -> list[str]:
    """The lines of pip's output that say why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if line.lower().startswith("error")][-3:] or lines[-3:]
