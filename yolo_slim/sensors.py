"""Power, energy and fans as the kernel and a Raspberry Pi's firmware report them; a sensor that isn't there is absent.

Every function takes the folder below which the system's files are. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
"""Rails through which all of a Jetson's power flows (Orin and Xavier; Nano and TX2)."""
PMIC_READING = re.compile(r"(\w+)_([AV])\s+\w+\(\d+\)=([\d.]+)[AV]")
"""A line of ``vcgencmd pmic_read_adc``: ``VDD_CORE_A current(7)=1.57A``, ``VDD_CORE_V volt(15)=0.87V``."""
PWM_FULL = 255


def read_text(path: Path) -> str:
    """The text of a file without its outer spaces; empty where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def read_number(path: Path) -> float | None:
    """The number in a file, None where there is none."""
    try:
        return float(read_text(path))
    except ValueError:
        return None


def hwmon_watts(root: Path) -> dict[str, float]:
    """Power of every labelled rail of hwmon, such as those of a Jetson's INA3221 (``in1_label``: VDD_IN)."""
    found: dict[str, float] = {}
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            millivolts = read_number(chip / f"in{number}_input")
            milliamperes = read_number(chip / f"curr{number}_input")
            if millivolts is not None and milliamperes is not None:
                found[read_text(label)] = millivolts * milliamperes / 1e6
        for power in sorted(chip.glob("power*_input")):
            microwatts = read_number(power)
            name = read_text(power.with_name(power.name.replace("_input", "_label"))) or read_text(chip / "name")
            if microwatts is not None and name:
                found[name] = microwatts / 1e6
    return found


def pmic_watts(answer: str) -> dict[str, float]:
    """Power of every rail in what ``vcgencmd pmic_read_adc`` of a Raspberry Pi 5 prints; a Pi 4 has no such sensors."""
    readings = {(rail, unit): float(value) for rail, unit, value in PMIC_READING.findall(answer)}
    rails = dict.fromkeys(rail for rail, _ in readings)
    return {
        rail: readings[rail, "A"] * readings[rail, "V"] for rail in rails if {(rail, "A"), (rail, "V")} <= set(readings)
    }


def rapl_joules(root: Path) -> dict[str, float]:
    """Energy that every processor package has used since some moment (RAPL of x86; only root may read it)."""
    zones = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    energies = {read_text(zone / "name"): read_number(zone / "energy_uj") for zone in zones}
    # Other zones are parts of a package, or the whole platform (psys): packages would count twice.
    return {
        name: energy / 1e6 for name, energy in energies.items() if name.startswith("package") and energy is not None
    }


def fan_rpm(root: Path) -> float | None:
    """Speed of the fastest fan, revolutions per minute."""
    speeds = [read_number(path) for path in root.glob("sys/class/hwmon/hwmon*/fan*_input")]
    return max((speed for speed in speeds if speed is not None), default=None)


def fan_percent(root: Path) -> float | None:
    """How hard the fans are driven, percent: the duty cycle of their motors."""
    duties = [read_number(path) for path in root.glob("sys/class/hwmon/hwmon*/pwm[0-9]")]
    return max((100 * duty / PWM_FULL for duty in duties if duty is not None), default=None)


def total_watts(rails: Mapping[str, float]) -> float | None:
    """Power of the whole board where one rail carries all of it, else the sum of all rails; None without sensors."""
    inputs = [rails[name] for name in INPUT_RAILS if name in rails]
    return inputs[0] if inputs else sum(rails.values()) if rails else None


def watts_between(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> float | None:
    """Mean power from two readings of energy; None without sensors, or where a counter began again in between."""
    used = [after[name] - energy for name, energy in before.items() if name in after]
    return sum(used) / seconds if used and min(used) >= 0 and seconds > 0 else None
