"""What a Jetson says about itself, read from files and programs of the same shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from yolo_slim import machine
from yolo_slim.machine import MachineState, jetpack_of, l4t_version, power_mode, read_state, throttle_reasons
from yolo_slim.runtime import doctor

IDLE = MachineState(governors=(), cpu_mhz=(), celsius=50.0, throttled=None)


def test_facts(jetson: Path) -> None:
    """Jetson Linux, JetPack and power mode are read, and stand in the description of the machine."""
    assert l4t_version() == "36.4.3"
    assert power_mode() == "MAXN_SUPER"
    facts = machine.describe_machine()
    assert (facts["l4t"], facts["jetpack"], facts["power_mode"]) == ("36.4.3", "6.1 or 6.2", "MAXN_SUPER")
    assert facts["model"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"


def test_clock_limits(jetson: Path) -> None:
    """The highest clocks that cores and GPU may have are read; where no file says them they are unknown."""
    assert (machine.describe_machine()["cpu_max_mhz"], machine.describe_machine()["gpu_max_mhz"]) == ([], None)
    limits = {"cpu0": "1510400", "cpu1": "1510400", "cpu4": "729600"}
    for core, limit in limits.items():
        folder = jetson / "sys/devices/system/cpu" / core / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_max_freq").write_text(f"{limit}\n")
    (jetson / "sys/class/devfreq/17000000.gpu/max_freq").write_text("624750000\n")
    facts = machine.describe_machine()
    assert (facts["cpu_max_mhz"], facts["gpu_max_mhz"]) == ([730, 1510], 625)


def test_other_machine() -> None:
    """A machine that isn't a Jetson has no Jetson facts."""
    if Path("/etc/nv_tegra_release").exists():
        pytest.skip("this is a Jetson")
    assert l4t_version() is None
    assert "l4t" not in machine.describe_machine()
    assert read_state().over_current is None


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("36.3.0", "6.0"),
        ("36.4.7", "6.1 or 6.2"),
        ("38.2.1", "7.0 or 7.1"),
        ("39.2", "7.2"),
        ("32.7", None),
        (None, None),
    ],
)
def test_jetpack(l4t: str | None, jetpack: str | None) -> None:
    """Each Jetson Linux belongs to its JetPack, an unknown one to none."""
    assert jetpack_of(l4t) == jetpack


def test_state(jetson: Path) -> None:
    """GPU clock, over-current events and thermal throttling are read; a turning fan is no throttling."""
    state = read_state()
    assert (state.gpu_mhz, state.over_current, state.celsius) == (1020.0, 3, 51.234)
    assert state.throttle_alerts == ()
    (jetson / "sys/class/thermal/cooling_device1/cur_state").write_text("1\n")
    assert read_state().throttle_alerts == ("gpu-throttle-alert",)


def test_throttled_run_does_not_count() -> None:
    """Over-current cuts during a run and throttling at either end invalidate it; old events don't."""
    assert throttle_reasons(IDLE, IDLE) == []
    old = replace(IDLE, over_current=3)
    assert throttle_reasons(old, old) == []
    assert throttle_reasons(old, replace(IDLE, over_current=5)) == [
        "over-current protection cut the clocks 2 times during the run"
    ]
    hot = replace(IDLE, throttle_alerts=("gpu-throttle-alert",))
    assert throttle_reasons(hot, IDLE) == ["gpu-throttle-alert before the run"]
    assert throttle_reasons(IDLE, hot) == ["gpu-throttle-alert after the run"]


def test_doctor_names_them(jetson: Path) -> None:
    """Doctor shows JetPack and power mode, the GPU's clock, and why the GPU can't be used."""
    text = doctor.examine(None).as_text()
    assert "jetson       Jetson Linux 36.4.3, JetPack 6.1 or 6.2, power mode MAXN_SUPER" in text
    assert "GPU 1020 MHz" in text
    assert "\ngpu          " in text


def test_nvpmodel_that_fails(jetson: Path) -> None:
    """A power mode that can't be read is unknown, not an error."""
    (jetson / "bin/nvpmodel").write_text("#!/bin/sh\nexit 1\n")
    assert power_mode() is None
    assert "power mode unknown" in doctor.examine(None).as_text()
