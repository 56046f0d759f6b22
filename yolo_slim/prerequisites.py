"""What a workstation must have before yolo_slim's packages are installed, and what to type where it is missing.

Standard library only, and written for Python 3.8 too, so that an older Python can say that it is too old.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from yolo_slim.system_libraries import DEBIAN_PACKAGES, install_line, missing_libraries

LEAST_PYTHON = (3, 11)
"""What the tests run on. constraints.txt has versions for 3.10 too, which is that of JetPack 6 (docs/installing.md)."""
INSTALLED_GB = 7
"""Size of the environment with CUDA, rounded up (docs/benchmarks/records/install.json)."""
CUDA_GB = 4.3
"""What of it torch takes for GPUs: NVIDIA's libraries and triton (the same record)."""
DOWNLOADED_GB = 4
"""About what pip keeps in its cache and temporary folder meanwhile; an estimate."""
HINT = (
    f", pip's downloads about {DOWNLOADED_GB} GB more. {CUDA_GB} GB are NVIDIA's libraries, which torch from PyPI "
    "needs even without a GPU; make TORCH_INDEX=URL takes torch from an index with CPU packages"
)


class Finding(NamedTuple):
    """One prerequisite."""

    is_met: bool
    text: str
    """What was found, with what is needed."""
    packages: tuple[str, ...] = ()
    """Debian packages that would help."""
    remedy: str = ""
    """What to do where no package helps."""


def look(venv: Path, *, has_cuda: bool = True) -> list[Finding]:
    """Check every prerequisite of an environment that is to be made in the folder ``venv``, with CUDA or not."""
    first = python()
    # A Python that is too old makes no environment, so its package for them doesn't matter.
    return [first, *([environments()] if first.is_met else []), libraries(), disk(venv, has_cuda=has_cuda)]


def python() -> Finding:
    """The version of the Python that would run everything, and whether it is a 64-bit one."""
    version, least = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, LEAST_PYTHON))
    is_64_bit = sys.maxsize > 2**32
    text = f"Python {version}{'' if is_64_bit else ', 32-bit'} ({least} or newer is needed, 64-bit)"
    if not is_64_bit:
        return Finding(False, text, remedy="Use a 64-bit operating system: torch has no 32-bit packages.")
    newer = (f"python{least}", f"python{least}-venv")
    remedy = f"Then name the newer Python: make PYTHON=python{least} and the goal."
    return Finding(True, text) if sys.version_info >= LEAST_PYTHON else Finding(False, text, newer, remedy)


def environments() -> Finding:
    """Whether this Python can make virtual environments with pip; Debian has that in a package of its own."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding(True, "virtual environments (venv, ensurepip)")
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    return Finding(False, f"no virtual environments: this Python lacks {', '.join(missing)}", (package,))


def libraries() -> Finding:
    """Whether the system has the libraries that OpenCV's package takes from it."""
    missing = missing_libraries() if sys.platform == "linux" else []
    if not missing:
        return Finding(True, "system libraries that OpenCV needs")
    packages = tuple(dict.fromkeys(DEBIAN_PACKAGES[name] for name in missing))
    return Finding(False, f"OpenCV needs libraries that this system lacks: {', '.join(missing)}", packages)


def disk(venv: Path, *, has_cuda: bool = True) -> Finding:
    """Whether the packages fit beside what is on the disk; those that are installed already take no more."""
    size = INSTALLED_GB if has_cuda else math.ceil(INSTALLED_GB - CUDA_GB)
    if next(venv.glob("lib/python*/site-packages/torch"), None):
        return Finding(True, f"packages are in {venv} already; they take about {size} GB")
    place = next(folder for folder in (venv.absolute(), *venv.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    needed = f"the packages take about {size} GB" + (HINT if has_cuda else "")
    remedy = f"Free some space on the disk of {place}, or make the environment on another one: make VENV=FOLDER."
    return Finding(free >= size, f"{free:.1f} GB free for {venv}; {needed}", remedy=remedy)


def nvidia_gpus(root: Path = Path("/")) -> list[str]:
    """The GPUs that NVIDIA's driver shows: by name to nvidia-smi, else as a device (WSL has no device file)."""
    program, listed = shutil.which("nvidia-smi"), ""
    if program:
        with suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=True, timeout=30).stdout
    names = re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", listed, re.M)
    devices = [*root.glob("dev/nvidia[0-9]*"), *root.glob("proc/driver/nvidia/gpus/*")]
    return names or ["an NVIDIA GPU"] * bool(devices)


def report(findings: list[Finding]) -> str:
    """All findings, one a line, and below them what to type."""
    lines = [f"{'ok' if finding.is_met else 'MISSING':<8} {finding.text}" for finding in findings]
    unmet = [finding for finding in findings if not finding.is_met]
    packages = [package for finding in unmet for package in finding.packages]
    lines += [f"Install: {install_line(packages)}"] if packages else []
    return "\n".join(lines + [finding.remedy for finding in unmet if finding.remedy])
