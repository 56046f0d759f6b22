"""What this machine is and whether it may be timed: model, CPU, memory, clocks, temperature, throttling."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from yolo_slim import sensors
from yolo_slim.bundle import PACKAGES
from yolo_slim.sensors import read_number, read_text
from yolo_slim.version import __version__

THROTTLE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of ``vcgencmd get_throttled``: now; the same 16 higher: since boot (Raspberry Pi documentation)."""

CPU_FEATURES = ("asimdhp", "asimddp", "i8mm", "avx2", "f16c", "avx512f", "avx512_vnni")
"""asimdhp: fp16 arithmetic, asimddp: int8 dot product; the rest likewise on Arm and x86."""

JETPACKS = {"35": "5.1", "36.3": "6.0", "36.4": "6.1 or 6.2", "36.5": "6.2", "38": "7.0 or 7.1", "39": "7.2"}
"""Jetson Linux release (its beginning) to JetPack (docs/tensorrt.md)."""

ROOT = Path("/")
"""Where the system's files are; tests point it at files of the same shape."""


class JetsonFacts(TypedDict, total=False):
    """What only a Jetson has."""

    l4t: str
    """Jetson Linux release (``36.4.3``)."""
    jetpack: str | None
    """JetPack of that release; None: unknown."""
    power_mode: str | None
    """Power mode (``MAXN_SUPER``); None: unknown."""


class MachineFacts(JetsonFacts):
    """What doesn't change while a program runs, as it stands in results. None: unknown."""

    model: str
    arch: str
    cores: int | None
    cpu_features: list[str]
    cpu_max_mhz: list[int]
    """Highest clocks that the cores may have (cpufreq), each once; empty: unknown."""
    gpu_max_mhz: int | None
    memory_total_mb: float | None
    memory_available_mb: float | None
    system: str
    python: str
    yolo_slim: str
    numpy: str | None
    opencv: str | None


class DeviceAnswer(MachineFacts):
    """What a device answers when it is asked what it is."""

    runtimes: dict[str, str]
    """Package of a runtime that is installed to its version."""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """Clocks, temperature and throttling at one moment. None or empty: this machine doesn't say."""

    governors: tuple[str, ...]
    """cpufreq governors of the cores, each once."""
    cpu_mhz: tuple[float, ...]
    """Present clock of each core."""
    celsius: float | None
    """Temperature of the hottest thermal zone."""
    throttled: int | None
    """Value of ``vcgencmd get_throttled``."""
    gpu_mhz: float | None = None
    """Present clock of a Jetson's GPU."""
    over_current: int | None = None
    """Times a Jetson's over-current protection cut the clocks since boot (Jetson Linux: ``oc*_event_cnt``)."""
    throttle_alerts: tuple[str, ...] = ()
    """Thermal throttling of a Jetson that is active now (cooling devices named ``*throttle-alert``)."""
    watts: dict[str, float] = field(default_factory=dict)
    """Power of every rail with a sensor: INA3221 of a Jetson, PMIC of a Raspberry Pi 5."""
    joules: dict[str, float] = field(default_factory=dict)
    """Energy that every processor package used so far (RAPL of x86, where it may be read)."""
    fan_rpm: float | None = None
    """Speed of the fastest fan, revolutions per minute."""
    fan_percent: float | None = None
    """How hard the fans are driven: duty cycle of their motors, percent."""


def read_state() -> MachineState:
    """Clocks, temperature and throttling at this moment."""
    cores = sorted(ROOT.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    clocks = [read_number(core / "scaling_cur_freq") for core in cores]
    zones = [read_number(zone / "temp") for zone in sorted(ROOT.glob("sys/class/thermal/thermal_zone*"))]
    return MachineState(
        governors=tuple(sorted({read_text(core / "scaling_governor") for core in cores} - {""})),
        cpu_mhz=tuple(clock / 1000 for clock in clocks if clock is not None),
        celsius=max((zone / 1000 for zone in zones if zone is not None), default=None),
        throttled=_read_throttled(),
        gpu_mhz=_gpu_mhz(),
        over_current=_over_current(),
        throttle_alerts=_throttle_alerts(),
        watts={**sensors.hwmon_watts(ROOT), **sensors.pmic_watts(_vcgencmd("pmic_read_adc"))},
        joules=sensors.rapl_joules(ROOT),
        fan_rpm=sensors.fan_rpm(ROOT),
        fan_percent=sensors.fan_percent(ROOT),
    )


def throttle_reasons(before: MachineState, after: MachineState, between: Iterable[MachineState] = ()) -> list[str]:
    """Why a timing between two states doesn't count: the clocks were limited at either end or in between."""
    # The upper bits stay set until the next boot: only those that are new belong to this run.
    during = ((after.throttled or 0) >> 16) & ~((before.throttled or 0) >> 16)
    at_ends = {"before": throttled_now(before), "after": throttled_now(after)}
    seen = [name for bit, name in THROTTLE_BITS.items() if during >> bit & 1]
    known = {name for names in at_ends.values() for name in names}
    seen += [name for state in between for name in throttled_now(state) if name not in known]
    reasons = [f"{name} {moment} the run" for moment, names in at_ends.items() for name in names]
    reasons += [f"{name} during the run" for name in dict.fromkeys(seen)]
    cuts = (after.over_current or 0) - (before.over_current or 0)
    return reasons + ([f"over-current protection cut the clocks {cuts} times during the run"] if cuts > 0 else [])


def heat_reasons(before: MachineState, after: MachineState, max_celsius: float | None) -> list[str]:
    """Why a timing between two states doesn't count: it began or ended hotter than the limit; None: there is none."""
    moments = {"before": before.celsius, "after": after.celsius}
    return [
        f"{celsius:.1f} C {moment} the run, above {max_celsius:g} C"
        for moment, celsius in moments.items()
        if celsius is not None and max_celsius is not None and celsius > max_celsius
    ]


def throttled_now(state: MachineState) -> list[str]:
    """What limits the clocks at the moment of a reading; empty: nothing, or the machine doesn't say."""
    bits = state.throttled or 0
    return [*(name for bit, name in THROTTLE_BITS.items() if bits >> bit & 1), *state.throttle_alerts]


def describe_machine() -> MachineFacts:
    """The facts about this machine that every result records."""
    memory = _meminfo()
    facts = MachineFacts(
        model=device_model(),
        arch=platform.machine(),
        cores=os.cpu_count(),
        cpu_features=cpu_features(),
        cpu_max_mhz=cpu_max_mhz(),
        gpu_max_mhz=gpu_max_mhz(),
        memory_total_mb=memory.get("MemTotal"),
        memory_available_mb=memory.get("MemAvailable"),
        system=platform.platform(),
        python=platform.python_version(),
        yolo_slim=__version__,
        numpy=package_version("numpy"),
        opencv=_opencv_version(),
    )
    l4t = l4t_version()
    if l4t is not None:
        facts["l4t"], facts["jetpack"], facts["power_mode"] = l4t, jetpack_of(l4t), power_mode()
    return facts


def cpu_max_mhz() -> list[int]:
    """The clocks that the cores are limited to, each once: what cpufreq, a power mode or the user set."""
    limits = [read_number(path) for path in ROOT.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq")]
    return sorted({round(limit / 1000) for limit in limits if limit is not None})


def gpu_max_mhz() -> int | None:
    """The clock that a Jetson's GPU is limited to; None: unknown."""
    limits = [read_number(path) for path in ROOT.glob("sys/class/devfreq/*gpu*/max_freq")]
    return max((round(limit / 1e6) for limit in limits if limit is not None), default=None)


def describe_device() -> DeviceAnswer:
    """The facts about this machine, with the runtimes that are installed."""
    return {**describe_machine(), "runtimes": _runtimes()}


def device_model() -> str:
    """The device tree's model (``Raspberry Pi 5 Model B``), or the processor's name."""
    model = read_text(ROOT / "proc/device-tree/model").strip("\0 \n")
    return model or _cpuinfo("model name") or platform.processor() or platform.machine()


def l4t_version() -> str | None:
    """A Jetson's Linux release (``36.4.3``), None on other machines.

    The file begins ``# R36 (release), REVISION: 4.3, GCID: ...``.
    """
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read_text(ROOT / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def jetpack_of(l4t: str | None) -> str | None:
    """The JetPack that a Jetson Linux release belongs to, None where that isn't known."""
    return next((name for start, name in JETPACKS.items() if is_release(l4t, start)), None)


def is_release(l4t: str | None, start: str) -> bool:
    """Whether a Jetson Linux release begins with given parts: 36.4.3 with 36.4, but 36.10 not with 36.1."""
    return f"{l4t}.".startswith(f"{start}.")


def power_mode() -> str | None:
    """A Jetson's power mode (``MAXN_SUPER``), None where ``nvpmodel`` is missing or doesn't say."""
    # /usr/sbin isn't on an ordinary user's PATH.
    program = shutil.which("nvpmodel") or shutil.which("nvpmodel", path="/usr/sbin")
    answer = _answer_of([program, "-q"]) if program else ""
    found = re.search(r"NV Power Mode:\s*(\S+)", answer)
    return found[1] if found else None


def cpu_features() -> list[str]:
    """Those of :data:`CPU_FEATURES` that this CPU has."""
    flags = (_cpuinfo("Features") or _cpuinfo("flags")).split()
    return [feature for feature in CPU_FEATURES if feature in flags]


def cores() -> int:
    """Count the cores that this process may use; ``taskset`` and containers give it fewer than there are."""
    return len(own_cores())


def own_cores() -> set[int]:
    """The numbers of the cores that this process may use."""
    # Linux alone can keep a process off some of them.
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def peak_memory_mb() -> float | None:
    """The most memory that this process ever used, megabytes; None where the system doesn't say."""
    # Not getrusage: its maximum survives fork and exec, so a child would report what its parent used.
    return _own_memory_mb("VmHWM:")


def memory_mb() -> float | None:
    """The memory that this process uses now (resident), megabytes; None where the system doesn't say."""
    return _own_memory_mb("VmRSS:")


def package_version(package: str) -> str | None:
    """The version of an installed Python package, None where it isn't installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _runtimes() -> dict[str, str]:
    found = {package: package_version(package) for packages in PACKAGES.values() for package in packages}
    return {package: version for package, version in found.items() if version is not None}


def _own_memory_mb(key: str) -> float | None:
    status = (line.split() for line in read_text(ROOT / "proc/self/status").splitlines())
    return next((int(row[1]) * 1024 / 1e6 for row in status if row[:1] == [key]), None)


def _read_throttled() -> int | None:
    """The Raspberry Pi firmware's throttling bits, None where there is no vcgencmd or it fails."""
    try:
        return int(_vcgencmd("get_throttled").strip().split("=")[1], 16)
    except (IndexError, ValueError):
        return None


def _vcgencmd(question: str) -> str:
    """What the Raspberry Pi's firmware answers; empty on other machines."""
    program = shutil.which("vcgencmd")
    return _answer_of([program, question]) if program else ""


def _gpu_mhz() -> float | None:
    clocks = [read_number(path / "cur_freq") for path in sorted(ROOT.glob("sys/class/devfreq/*gpu*"))]
    return max((clock / 1e6 for clock in clocks if clock is not None), default=None)


def _over_current() -> int | None:
    # The counters only grow: what matters is the difference between two readings.
    counts = [read_number(path) for path in sorted(ROOT.glob("sys/class/hwmon/hwmon*/oc*_event_cnt"))]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def _throttle_alerts() -> tuple[str, ...]:
    devices = sorted(ROOT.glob("sys/class/thermal/cooling_device*"))
    active = {read_text(device / "type") for device in devices if (read_number(device / "cur_state") or 0) > 0}
    # Fans are cooling devices too; only those named so cut clocks.
    return tuple(sorted(name for name in active if name.endswith("throttle-alert")))


def _answer_of(command: list[str]) -> str:
    """What a program prints; empty when it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpuinfo(key: str) -> str:
    lines = read_text(ROOT / "proc/cpuinfo").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _meminfo() -> dict[str, float]:
    """The entries of /proc/meminfo, megabytes."""
    # The file's "kB" are 1024 bytes.
    rows = [line.split() for line in read_text(ROOT / "proc/meminfo").splitlines()]
    return {row[0].rstrip(":"): round(int(row[1]) * 1024 / 1e6) for row in rows if len(row) == 3}


def _opencv_version() -> str | None:
    # The operating system's own OpenCV, usual on a Pi or a Jetson, has no pip metadata.
    try:
        import cv2
    except ImportError:
        return None
    return str(cv2.__version__)
