"""What boards say of power, fans and throttling, read from files and programs of the same shape as theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.staged import stage, stage_program
from yolo_slim.machine import read_state, throttle_reasons
from yolo_slim.runtime.readings import Extremes, Range, Watch, widest

INA3221 = {
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "2400\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr2_input": "800\n",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon1/in7_input": "0\n",
    "sys/class/hwmon/hwmon0/fan1_input": "2930\n",
    "sys/class/hwmon/hwmon2/pwm1": "51\n",
}
PMIC = """
printf '   3V7_WL_SW_A current(0)=0.10000000A\\n     VDD_CORE_A current(7)=2.00000000A\\n'
printf '  3V7_WL_SW_V volt(8)=3.70000000V\\n  VDD_CORE_V volt(15)=0.80000000V\\n  EXT5V_V volt(24)=5.15000000V\\n'
"""
VCGENCMD = f"""#!/bin/sh
case $1 in
  get_throttled) printf 'throttled=0x50005\\n';;
  pmic_read_adc) {PMIC};;
esac
"""


def test_power_of_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rails with a current have a power; the board's is that of the rail which carries all of it."""
    stage(tmp_path, INA3221, monkeypatch)
    watch = Watch()
    state = watch.read()
    assert state.watts == {"VDD_IN": 12.0, "VDD_CPU_GPU_CV": 4.0}
    assert (state.fan_rpm, state.fan_percent) == (2930.0, 20.0)
    assert watch.extremes().watts == Range(lowest=12.0, highest=12.0)


def test_power_of_a_raspberry_pi_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rails with a voltage and a current are multiplied; the supply, which has no current, isn't."""
    stage(tmp_path, {}, monkeypatch)
    stage_program(tmp_path, "vcgencmd", VCGENCMD, monkeypatch)
    watch = Watch()
    state = watch.read()
    assert state.watts == {"3V7_WL_SW": pytest.approx(0.37), "VDD_CORE": pytest.approx(1.6)}
    assert state.throttled == 0x50005
    found = watch.extremes()
    assert found.watts is not None
    assert found.watts.highest == pytest.approx(1.97)
    assert found.limits == ("under-voltage", "throttled")


def test_a_raspberry_pi_4_has_no_power_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its firmware refuses the command: nothing is known then, and nothing invented."""
    stage(tmp_path, {}, monkeypatch)
    stage_program(tmp_path, "vcgencmd", "#!/bin/sh\necho 'error=1 error_msg=\"Command not registered\"'\n", monkeypatch)
    state = read_state()
    assert (state.watts, state.throttled) == ({}, None)


def test_energy_becomes_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that counts energy has the mean power between two readings; parts and the whole don't count twice."""
    clock = iter((10.0, 12.0, 14.0, 16.0))
    watch = Watch(clock=lambda: next(clock))
    package = "sys/class/powercap/intel-rapl:0"
    for microjoules in (5_000_000, 65_000_000, 85_000_000, 1_000_000):
        files = {f"{package}/name": "package-0", f"{package}/energy_uj": str(microjoules)}
        core = {f"{package}:0/name": "core", f"{package}:0/energy_uj": "77"}
        whole = {"sys/class/powercap/intel-rapl:1/name": "psys"}
        whole |= {"sys/class/powercap/intel-rapl:1/energy_uj": str(2 * microjoules)}
        stage(tmp_path, {**files, **core, **whole}, monkeypatch)
        watch.read()
    # The last one began again at zero: no power is made of it.
    assert watch.extremes().watts == Range(lowest=10.0, highest=30.0)


def test_a_machine_without_sensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is null there."""
    stage(tmp_path, {}, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    watch = Watch()
    watch.read()
    found = watch.extremes()
    assert found == Extremes(readings=1, celsius=None, cpu_mhz=None, gpu_mhz=None, watts=None, fan_rpm=None, limits=())


def test_a_damaged_sensor_is_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without a number, as some drivers leave it, is no measurement."""
    stage(tmp_path, {**INA3221, "sys/class/hwmon/hwmon1/curr1_input": "busy\n"}, monkeypatch)
    assert read_state().watts == {"VDD_CPU_GPU_CV": 4.0}


@pytest.fixture
def heating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Return a function that sets temperature (millidegrees) and clock (kHz)."""

    def heat(celsius: int, khz: int) -> None:
        core = "sys/devices/system/cpu/cpu0/cpufreq"
        files = {"sys/class/thermal/thermal_zone0/temp": str(celsius), f"{core}/scaling_cur_freq": str(khz)}
        stage(tmp_path, {**files, f"{core}/scaling_governor": "ondemand"}, monkeypatch)

    return heat


def test_extremes_cover_all_moments(heating: Callable[[int, int], None]) -> None:
    """What was hottest in between counts, though the timing began and ended cooler; rounds are put together."""
    watch = Watch()
    for celsius, khz in ((50_000, 2_400_000), (81_500, 1_500_000), (79_000, 2_400_000)):
        heating(celsius, khz)
        watch.read()
    found = watch.extremes()
    assert found.celsius == Range(lowest=50.0, highest=81.5)
    assert found.cpu_mhz == Range(lowest=1500.0, highest=2400.0)
    heating(40_000, 2_400_000)
    other = Watch()
    other.read()
    both = widest([found, other.extremes()])
    assert both is not None
    assert (both.readings, both.celsius) == (4, Range(lowest=40.0, highest=81.5))
    assert widest([]) is None


def test_a_reading_is_due_after_a_while() -> None:
    """Sensors aren't read for every frame: some boards start a program for it."""
    seconds = iter((0.0, 1.9, 2.0, 2.0))
    watch = Watch(clock=lambda: next(seconds))
    watch.read()
    assert not watch.read_if_due()
    assert watch.read_if_due()
    assert len(watch.states) == 2


def test_throttling_between_two_ends_counts(jetson: Path) -> None:
    """An alert that came and went during the run is found by the readings in between, and named once."""
    cool = read_state()
    (jetson / "sys/class/thermal/cooling_device1/cur_state").write_text("1\n")
    hot = read_state()
    assert throttle_reasons(cool, cool) == []
    assert throttle_reasons(cool, cool, [hot, hot]) == ["gpu-throttle-alert during the run"]
    assert throttle_reasons(hot, cool, [hot]) == ["gpu-throttle-alert before the run"]
