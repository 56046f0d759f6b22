"""The validate stage knows a device by its protocol alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

import yolo_slim
from tests.helpers.cli import run_cli
from tests.helpers.devices import FakeDevice
from tests.helpers.results import BUSY, SUSTAINED
from tests.helpers.tiny_detector import write_described
from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config import targets
from yolo_slim.config.run import ExportConfig, ValidateConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.runtime.load import busy_reasons
from yolo_slim.stages import build, export, validate
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.verdict.result import Result

IMGSZ = 64


@pytest.fixture(scope="module")
def inputs(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> validate.ValidateInputs:
    """Return a bundle for the Raspberry Pi, beside the weights that it was made of."""
    out = tmp_path_factory.mktemp("built")
    context = Context.load(signs, imgsz=IMGSZ)
    graph = export.run(trained, ExportConfig(parity_images=1), out / "export", context).onnx
    made = build.BuildInputs(onnx=graph, images=selfcheck_images(context.dataset))
    built = build.run(made, out / "build", context, name="t")
    bundles = {BuildKey("control", name): path for name, path in built.bundles.items()}
    bundles |= {BuildKey("slim", name): path for name, path in built.bundles.items()}
    return validate.ValidateInputs(control=trained, bundles=bundles)


Run = Callable[[FakeDevice], Result]


@pytest.fixture
def run(inputs: validate.ValidateInputs, signs: Path, tmp_path: Path) -> Run:
    """Return what validates for the Raspberry Pi on a device, always in the same folder."""

    def validated(device: FakeDevice) -> Result:
        context = Context.load(signs, "rpi5", imgsz=IMGSZ, device=device)
        config = ValidateConfig(rounds=2, max_images=6)
        return Result.load(validate.run(inputs, config, tmp_path, context, name="t").result)

    return validated


def test_bundles_run_on_the_device_alone(
    inputs: validate.ValidateInputs, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bundle is placed, inferred and timed by the device; this machine starts no process for it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started here")

    monkeypatch.setattr("yolo_slim.devices.local.subprocess.run", refuse)
    device, count = FakeDevice(), len(inputs.bundles)
    found = run(device)
    assert sorted(device.asked) == sorted(["put", "infer", "bench", "bench"] * count)
    assert device.limits == {targets.load("rpi5").thermal.max_celsius}
    rungs = [rung for rung in found.ladder if rung.build]
    assert {rung.where for rung in rungs} == {device.name}
    assert all(rung.map50 > 0.99 for rung in rungs)
    assert found.target.is_measured
    assert all(build.bench and build.bench.machine.model == "Example Board" for build in found.builds)


def test_a_device_that_is_not_the_target_proves_nothing(run: Run) -> None:
    """Its speeds are in the result, but the gates of speed and the verdict are unproven."""
    found = run(FakeDevice(is_target=False))
    statuses = {gate.name: gate.status for gate in found.verdict.gates}
    assert statuses["min_fps"] == "unproven"
    assert found.verdict.status != "pass"
    assert any("unproven" in note for note in found.notes)
    assert "board at 10.0.0.7 is not a rpi5" in next(g.reason for g in found.verdict.gates if g.name == "min_fps")


def test_a_result_is_used_again_where_its_timings_count(run: Run) -> None:
    """The same command measures again what was throttled, and on another machine; a good result is used again."""

    def asked(device: FakeDevice) -> bool:
        run(device)
        return "bench" in device.asked

    assert asked(FakeDevice(invalid_reasons=("throttled",)))
    assert asked(FakeDevice())
    assert not asked(FakeDevice())
    assert asked(FakeDevice(model="Raspberry Pi 5"))
    assert not asked(FakeDevice(model="Raspberry Pi 5"))


def test_a_busy_device_proves_no_speed(run: Run) -> None:
    """Gates of speed are unproven with the load as their reason, never passed, and the next call measures again."""
    busy = FakeDevice(invalid_reasons=tuple(busy_reasons(BUSY)), load=BUSY)
    found = run(busy)
    gate = next(gate for gate in found.verdict.gates if gate.name == "max_p99_ms")
    assert gate.status == "unproven"
    assert "other processes used 2.9 of 4 cores during the run" in gate.reason
    assert not any(row.valid for row in found.speedups)
    assert all(build.bench and build.bench.load == BUSY for build in found.builds)
    quiet = FakeDevice()
    again = run(quiet)
    assert "bench" in quiet.asked
    assert next(gate for gate in again.verdict.gates if gate.name == "max_p99_ms").status == "pass"
    assert all(row.valid for row in again.speedups)


def test_the_winner_runs_on(inputs: validate.ValidateInputs, signs: Path, tmp_path: Path) -> None:
    """One build of all runs for minutes, its curve is in the result and on the page, and the gates stay the same."""

    def validated(device: FakeDevice, minutes: float) -> Result:
        context = Context.load(signs, "rpi5", imgsz=IMGSZ, device=device)
        config = ValidateConfig(rounds=1, max_images=6, sustained_minutes=minutes)
        return Result.load(validate.run(inputs, config, tmp_path, context, name="t").result)

    plain, device = validated(FakeDevice(), 0), FakeDevice()
    found = validated(device, 10)
    runs = [one for one in device.asked if one.startswith("sustained")]
    assert runs == [f"sustained 10 min of {found.winner and found.winner.build}"]
    assert [build.key for build in found.builds if build.bench and build.bench.sustained] == [found.winner]
    assert found.best is not None
    assert found.best.bench is not None
    assert found.best.bench.sustained == SUSTAINED
    assert found.verdict == plain.verdict
    assert "16.0 FPS in the first 30 s, 12.0 in the last (75%)" in (tmp_path / "report.html").read_text()
    again = FakeDevice()
    validated(again, 10)
    assert "bench" not in again.asked


def test_bundles_are_tuned_before_they_are_measured(
    inputs: validate.ValidateInputs, signs: Path, tmp_path: Path
) -> None:
    """Accuracy and speed are those of the tuned bundle, so every bundle is tuned before its first detection."""
    device = FakeDevice()
    context = Context.load(signs, "rpi5", imgsz=IMGSZ, device=device)
    validate.run(inputs, ValidateConfig(rounds=1, max_images=6, tune=True), tmp_path, context, name="t")
    count = len(inputs.bundles)
    assert device.asked == ["put"] * count + ["tune"] * count + ["infer"] * count + ["bench"] * count


def test_a_disturbed_sustained_run_is_made_again(inputs: validate.ValidateInputs, signs: Path, tmp_path: Path) -> None:
    """As any timing: the next call measures again, ``mark`` keeps it, ``refuse`` ends the run."""
    busy = replace(SUSTAINED, invalid_reasons=("other processes used 3.0 of 4 cores during the run",))

    def asked(busy_policy: Literal["repeat", "mark", "refuse"]) -> bool:
        device = FakeDevice(sustained=busy)
        context = Context.load(signs, "rpi5", imgsz=IMGSZ, device=device)
        config = ValidateConfig(rounds=1, max_images=6, sustained_minutes=1, busy=busy_policy)
        validate.run(inputs, config, tmp_path, context, name="t")
        return "bench" in device.asked

    assert [asked("repeat"), asked("repeat")] == [True, True]
    assert [asked("mark"), asked("mark")] == [True, False]
    with pytest.raises(SlimError, match="busy"):
        asked("refuse")


def test_importing_the_stage_imports_no_torch() -> None:
    """A finished run is recognized without it."""
    code = "import sys, yolo_slim.stages.validate; print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_networks_of_another_side_are_refused_at_once(
    inputs: validate.ValidateInputs, trained: Path, signs: Path, tmp_path: Path
) -> None:
    """All would be scored at one side: every other bundle and graph is named with its own.

    A bundle and a graph of that side are fine (negative control).
    """
    key, folder = next(iter(inputs.bundles.items()))
    places = {BuildKey("slim", key.build): (128, 128), BuildKey("slim", BuildName("onnxruntime", "int8")): (64, 96)}
    bundles = {str(key): folder}
    for name, sides in places.items():
        copy = tmp_path / str(name.build)
        shutil.copytree(folder, copy)
        precision = {"precision": name.build.precision, "imgsz": list(sides)}
        write_json(copy / "bundle.json", {**read_json(copy / "bundle.json"), **precision})
        bundles[str(name)] = copy
    graph = write_described(tmp_path / "model.onnx", imgsz=(32, 32))
    with pytest.raises(SlimError, match="another input side than 64") as caught:
        yolo_slim.validate(bundles, trained, signs, tmp_path / "out", imgsz=IMGSZ, onnx=graph)
    wrong = [f"{bundles[str(name)]}: {height}x{width}" for name, (height, width) in places.items()]
    assert list(caught.value.culprits) == [*wrong, f"{graph}: 32x32"]
    assert not list((tmp_path / "out").rglob("*.json"))
    replace(inputs, onnx=write_described(tmp_path / "model.onnx")).require_side(IMGSZ)


def test_bundles_of_two_sides_by_the_command_line(
    inputs: validate.ValidateInputs, trained: Path, signs: Path, tmp_path: Path
) -> None:
    """Without --imgsz the first bundle has the side, and the others are compared with it."""
    folder = next(iter(inputs.bundles.values()))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    write_json(other / "bundle.json", {**read_json(other / "bundle.json"), "precision": "fp16", "imgsz": [128, 128]})
    given = ("--control", str(trained), "--data", str(signs), "--out", str(tmp_path / "out"))
    for first, second, side in ((folder, other, 64), (other, folder, 128)):
        code, _, err = run_cli("validate", str(first), str(second), *given)
        assert (code, f"another input side than {side}" in err) == (2, True), err
        assert f"  - {second}: {192 - side}x{192 - side}\n" in err
        assert f"  - {first}" not in err


def test_a_bundle_of_another_model_is_refused_at_once(
    inputs: validate.ValidateInputs, trained: Path, signs: Path, tmp_path: Path
) -> None:
    """A bundle whose classes aren't the data set's would be scored as if they were."""
    key, folder = next(iter(inputs.bundles.items()))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    values = read_json(other / "bundle.json")
    write_json(other / "bundle.json", {**values, "names": {**values["names"], "0": "banana"}})
    with pytest.raises(SlimError, match="other classes than the data set") as caught:
        yolo_slim.validate({str(key): other}, trained, signs, tmp_path / "out", imgsz=IMGSZ)
    assert [one.partition(":")[0] for one in caught.value.culprits] == [str(other)]
    assert not list((tmp_path / "out").rglob("*.json"))
