"""What this machine is and whether it may be timed: model, CPU, memory, clocks, temperature, throttling."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_slim import __version__

THROTTLE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of ``vcgencmd get_throttled``: now; the same 16 higher: since boot (Raspberry Pi documentation)."""

CPU_FEATURES = ("asimdhp", "asimddp", "i8mm", "avx2", "f16c", "avx512f", "avx512_vnni")
"""asimdhp: fp16 arithmetic, asimddp: int8 dot product; the rest likewise on Arm and x86."""

_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """Clocks, temperature and throttling at one moment. None: this machine doesn't tell."""

    governors: tuple[str, ...]
    """Distinct cpufreq governors of all cores."""
    cpu_mhz: tuple[float, ...]
    """Present clock of each core."""
    celsius: float | None
    """Hottest thermal zone."""
    throttled: int | None
    """Value of ``vcgencmd get_throttled``."""


def read_state() -> MachineState:
    """Return the present clocks, temperature and throttling."""
    cores = sorted(_CPUS.glob("cpu[0-9]*/cpufreq"))
    clocks = [_read_number(core / "scaling_cur_freq") for core in cores]
    zones = [_read_number(zone / "temp") for zone in sorted(_THERMAL.glob("thermal_zone*"))]
    return MachineState(
        governors=tuple(sorted({_read(core / "scaling_governor") for core in cores} - {""})),
        cpu_mhz=tuple(clock / 1000 for clock in clocks if clock is not None),
        celsius=max((zone / 1000 for zone in zones if zone is not None), default=None),
        throttled=_read_throttled(),
    )


def throttle_reasons(before: MachineState, after: MachineState) -> list[str]:
    """Return why a timing between two states doesn't count: limited at either end, or at any time in between."""
    start, end = before.throttled or 0, after.throttled or 0
    during = (end >> 16) & ~(start >> 16)
    reasons = [f"{name} before the run" for bit, name in THROTTLE_BITS.items() if start >> bit & 1]
    reasons += [f"{name} after the run" for bit, name in THROTTLE_BITS.items() if end >> bit & 1]
    return reasons + [f"{name} during the run" for bit, name in THROTTLE_BITS.items() if during >> bit & 1]


def describe_machine() -> dict[str, Any]:
    """Return what does not change while a program runs: model, CPU, memory, system, versions."""
    memory = _meminfo()
    return {
        "model": device_model(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "cpu_features": cpu_features(),
        "memory_total_mb": memory.get("MemTotal"),
        "memory_available_mb": memory.get("MemAvailable"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "yolo_slim": __version__,
        "numpy": _version("numpy"),
        "opencv": _opencv_version(),
    }


def device_model() -> str:
    """Return the device-tree model (``Raspberry Pi 5 Model B``), or the processor's name."""
    model = _read(Path("/proc/device-tree/model")).strip("\0 \n")
    return model or _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Return which of :data:`CPU_FEATURES` this CPU has."""
    flags = (_cpuinfo("Features") or _cpuinfo("flags")).split()
    return [feature for feature in CPU_FEATURES if feature in flags]


def peak_memory_mb() -> float | None:
    """Return the most memory this process ever held, megabytes; None where the system doesn't tell."""
    status = (line.split() for line in _read(Path("/proc/self/status")).splitlines())
    # Not getrusage: its maximum survives fork and exec, so a child reports what its parent held.
    return next((int(row[1]) * 1024 / 1e6 for row in status if row[:1] == ["VmHWM:"]), None)


def _read_throttled() -> int | None:
    """Return the Raspberry Pi firmware's throttling word, None where there is no vcgencmd or it fails."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=10, check=True)
        return int(done.stdout.strip().split("=")[1], 16)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_number(path: Path) -> float | None:
    try:
        return float(_read(path))
    except ValueError:
        return None


def _cpuinfo(key: str) -> str:
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _meminfo() -> dict[str, float]:
    """Return /proc/meminfo in megabytes."""
    rows = [line.split() for line in _read(Path("/proc/meminfo")).splitlines()]
    return {row[0].rstrip(":"): round(int(row[1]) * 1024 / 1e6) for row in rows if len(row) == 3}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _opencv_version() -> str | None:
    """Return OpenCV's version; a Pi's or a Jetson's own build has no pip metadata."""
    try:
        import cv2
    except ImportError:
        return None
    return str(cv2.__version__)
