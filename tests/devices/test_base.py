"""What the host derives from a profile and a device."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import pytest

from tests.helpers.devices import FakeDevice
from tests.helpers.results import QUIET, complete_result
from yolo_slim.bundle import open_bundle, read_spec
from yolo_slim.config import targets
from yolo_slim.config.record import read_record
from yolo_slim.config.run import ValidateConfig
from yolo_slim.devices.answers import Bench, DeviceFacts, tuning_from_json
from yolo_slim.devices.base import BenchSettings, can_run, celsius_limit
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError
from yolo_slim.runtime import tuned


def test_a_targets_temperature_is_no_other_machines() -> None:
    """The temperature that a device throttles at invalidates no timing of the workstation, which runs hotter."""
    profile = targets.load("rpi5")
    assert profile.thermal.max_celsius is not None
    assert celsius_limit(FakeDevice(is_target=False), profile) is None
    assert celsius_limit(FakeDevice(is_target=True), profile) == profile.thermal.max_celsius


def test_the_target_is_known_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model and architecture must be the profile's."""
    profile = targets.load("rpi5")
    board = "Raspberry Pi 5 Model B Rev 1.0"
    for model, arch, expected in [
        ("A workstation", "aarch64", False),
        (board, "aarch64", True),
        (board, "x86_64", False),
    ]:
        facts = DeviceFacts(model=model, arch=arch, cores=4)
        monkeypatch.setattr("yolo_slim.devices.local.LocalShell.facts", lambda _, facts=facts: facts)
        assert LocalDevice().is_target(profile) is expected


def test_engines_run_on_their_target_only(bundle: Path) -> None:
    """A TensorRT bundle needs the target; another bundle runs anywhere."""
    profile = targets.load("jetson-orin-nano")
    spec = read_spec(bundle)
    engine = type(spec)(**{**vars(spec), "runtime": "tensorrt"})
    elsewhere = FakeDevice(is_target=False)
    assert can_run(elsewhere, spec, profile)
    assert not can_run(elsewhere, engine, profile)
    assert can_run(FakeDevice(is_target=True), engine, profile)


def test_rounds_share_frames_and_seconds() -> None:
    """Frames are rounded up, so that all rounds together have enough."""
    found = BenchSettings.of_round(ValidateConfig(min_seconds=10, min_queries=64, rounds=5), 80.0)
    assert (found.seconds, found.queries, found.max_celsius) == (2.0, 13, 80.0)


@pytest.mark.parametrize(("busy", "repeats"), [("repeat", 2), ("mark", 0), ("refuse", 0)])
def test_only_repeat_repeats(
    busy: Literal["repeat", "mark", "refuse"],
    repeats: int,
    bundle: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device is told how often it may time again; the other policies get its first answer."""
    commands: list[list[str]] = []

    def failed(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 2, "", "")

    monkeypatch.setattr("yolo_slim.devices.local.subprocess.run", failed)
    settings = BenchSettings.of_round(ValidateConfig(busy=busy), None)
    device = LocalDevice()
    with pytest.raises(SlimError):
        device.bench(device.put(bundle), images, settings)
    assert commands[-1][commands[-1].index("--repeat") + 1] == str(repeats)


def test_a_timing_of_an_earlier_version_has_no_load() -> None:
    """A result that was written before the load was looked at is read, and isn't called disturbed."""
    bench = complete_result().builds[0].bench
    assert bench is not None
    value = {key: item for key, item in bench.to_json().items() if key != "load"}
    found = read_record(Bench, value, "result.json", "")
    assert (found.load, found.is_disturbed) == (None, False)


def test_a_timing_without_the_newer_facts_is_read() -> None:
    """A device, or a result, that knows neither cold start nor sensors nor the look before and after is understood."""
    bench = complete_result().builds[0].bench
    assert bench is not None
    load = {key: item for key, item in asdict(QUIET).items() if not key.startswith("other_cores_")}
    value = {**bench.to_json(), "load": load, "schema": 1}
    for key in ("cold_start", "sensors", "sustained", "p50_spread_ms"):
        del value[key]
    for moment in ("before", "after"):
        value[moment] = {"celsius": None, "throttled": None, "governors": [], "cpu_mhz": []}
    found = Bench.from_device(value)
    assert (found.cold_start, found.sensors, found.sustained) == (None, None, None)
    assert found.load is not None
    assert found.load.other_cores_before is None


def test_a_timing_of_another_version_is_refused() -> None:
    """A device with an older or newer yolo_slim is told to update, never misread."""
    for value in ({"schema": 99}, {}, None):
        with pytest.raises(SlimError, match="expected 1"):
            Bench.from_device(value)
    with pytest.raises(SlimError, match="damaged or incomplete"):
        Bench.from_device({"schema": 1, "stages": {"total": {}}})


def test_what_a_device_adds_is_kept() -> None:
    """Facts that this version has no name for stay in the result."""
    bench = complete_result().builds[0].bench
    assert bench is not None
    assert bench.machine.to_json()["memory_total_mb"] == 8062


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"best": "2 threads", "gain": 1.0, "invalid_reasons": []}, "2 threads: nothing is faster"),
        ({"best": "2 threads", "gain": 1.0, "invalid_reasons": ["busy"]}, "not tuned: busy"),
    ],
)
def test_what_tuning_answers(answer: dict[str, object], words: str) -> None:
    """One line says what was found, or why nothing was kept; a cut answer is an error."""
    assert tuning_from_json(answer) == words
    for damaged in ({"best": "2 threads"}, None):
        with pytest.raises(SlimError, match="damaged or incomplete"):
            tuning_from_json(damaged)


def test_tune_says_what_is_kept(bundle: Path, images: Path, tmp_path: Path) -> None:
    """A bundle that was tuned there isn't timed again; it runs with that setting, and the timing says so."""
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    record = {"best": "1 thread, spinning off", "gain": 1.25, "invalid_reasons": []}
    tuned.save(open_bundle(copy), tuned.Setting(threads=1, options={"spinning": False}), record)
    device = LocalDevice()
    placed = device.put(copy)
    assert device.tune(placed, images) == "1 thread, spinning off, 1.25 times as fast as untuned"
    runtime = device.bench(placed, images, BenchSettings(seconds=0.05, queries=6)).runtime.to_json()
    assert (runtime["tuned"], runtime["spinning"]) == ("1 thread, spinning off", False)
