"""Whole runs whose budget is a frame rate, on a device whose layers take what a formula says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import yolo_slim
from tests.helpers.cli import run_cli
from tests.helpers.devices import ModelledDevice
from tests.helpers.listeners import Remembers
from tests.helpers.results import make_bench
from yolo_slim import preparation
from yolo_slim.api import make_config
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.datasets import quickstart
from yolo_slim.devices.answers import Bench
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.errors import SlimError
from yolo_slim.exploration import sides_of
from yolo_slim.latency_tables import for_budget, measured
from yolo_slim.verdict.result import Result

IMGSZ = 96
QUICK = {
    "latency.networks": 4, "latency.checks": 2, "latency.rounds": 2, "latency.frames": 1,
    "latency.control_seconds": 0.1, "latency.runtime": "onnxruntime-fp32", "latency.explore_epochs": 1,
    "prune.images": 8, "prune.bn_images": 8, "prune.steps": 1, "validate.min_seconds": 0.1, "validate.min_queries": 8,
    "validate.rounds": 1,
}  # fmt: skip


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> ModelledDevice:
    """Let every run find the modelled board."""
    found = ModelledDevice()
    monkeypatch.setattr(preparation, "connect", lambda *_: found)
    return found


def run(model: Path, data: Path, project: Path, **options: Any) -> tuple[Result, Remembers]:
    """Run the chain and read its result."""
    listener = Remembers()
    outcome = yolo_slim.run(
        model, data, project=project, epochs=1, settings=QUICK, progress=listener, target="host",
        **{"imgsz": IMGSZ} | options,
    )  # fmt: skip
    return Result.load(outcome.result), listener


def test_run_to_a_frame_rate(trained: Path, signs: Path, device: ModelledDevice, tmp_path: Path) -> None:
    """The result has budget, prediction and measurement; the frame rate is a gate; a second call makes nothing."""
    # The modelled board's control takes 20 ms a frame end to end, of which its bench says how much is inference.
    result, listener = run(trained, signs, tmp_path, latency_ms=15.0)
    assert result.latency is not None
    assert result.latency.measured_ms <= 15.0 * 1.01
    assert result.latency.unpruned_ms > 15.0
    (gate,) = [gate for gate in result.verdict.gates if gate.name == "min_fps"]
    assert gate.limit == pytest.approx(1000 / 15)
    assert "measured" in listener.said
    device.asked.clear()
    again, said = run(trained, signs, tmp_path, latency_ms=15.0)
    assert again.latency == result.latency
    assert "layers" not in device.asked
    assert "prune: up to date, skipped" in said.said


def test_run_uses_the_table_of_the_other_command(
    trained: Path, signs: Path, device: ModelledDevice, tmp_path: Path
) -> None:
    """What `yolo-slim latency` measured isn't measured again: the plan of a run finds it up to date."""
    settings = {key: value for key, value in QUICK.items() if key.startswith("latency")}
    folder = tmp_path / "tables"
    yolo_slim.latency(trained, signs, folder, imgsz=IMGSZ, target="host", settings=settings)
    device.asked.clear()
    config = make_config(trained, signs, imgsz=IMGSZ, target="host", target_fps=60.0, settings=settings)
    this = preparation.prepared(config, tmp_path / "run", runs_bundles=True)
    measured(this, folder)
    assert device.asked == []


@pytest.mark.parametrize("precisions", [["fp32"], ["int8", "fp32"]])
def test_build_without_a_table_is_told(
    precisions: list[str], trained: Path, signs: Path, device: ModelledDevice, tmp_path: Path
) -> None:
    """Where the target has int8, the terminal says that no cut is made for it; without it nothing is said (control)."""
    config = make_config(trained, signs, imgsz=IMGSZ, target="host", target_fps=60.0, settings=QUICK)
    listener = Remembers()
    this = preparation.prepared(config, tmp_path / "run", runs_bundles=True, progress=listener)
    choice = RuntimeChoice.model_validate({"runtime": "onnxruntime", "precisions": precisions})
    profile = this.context.profile.model_copy(update={"runtimes": [choice]})
    for_budget(replace(this, context=replace(this.context, profile=profile)), tmp_path)
    assert ("latency: no cut is made for onnxruntime-int8: what int8" in listener.said) == ("int8" in precisions)


def test_run_that_is_fast_enough(trained: Path, signs: Path, device: ModelledDevice, tmp_path: Path) -> None:
    """Where the unpruned network reaches the frame rate, it is built as it is, and the run says so.

    Its training recorded another mAP than it has here: result and page say that too.
    """
    content = torch.load(trained, weights_only=False)
    content["train_metrics"] = {"metrics/mAP50-95(B)": 0.99}
    torch.save(content, tmp_path / "recorded.pt")
    result, listener = run(tmp_path / "recorded.pt", signs, tmp_path, target_fps=2.0)
    assert any("its training recorded 0.9900" in note for note in result.notes)
    page = next(tmp_path.rglob("report.html")).read_text(encoding="utf-8")
    assert "its training recorded 0.9900" in page
    assert "the unpruned network reaches the budget" in listener.said
    assert result.latency is None
    assert result.size.slim.macs == result.size.control.macs
    assert "recovered" not in {rung.rung for rung in result.ladder}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_unpruned_in_int8(share: float, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the unpruned network is fast enough in int8, nothing is cut; else it is cut (control)."""

    class Integer(ModelledDevice):
        """It computes int8 in a share of the time."""

        def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
            is_int8 = placed.build.precision == "int8"
            return make_bench(50.0 * share if is_int8 else 50.0, 1)

    monkeypatch.setattr(preparation, "connect", lambda *_: Integer())
    profile = tmp_path / "integer.yaml"
    host = Path(yolo_slim.__file__).parents[1] / "targets/host.yaml"
    text = host.read_text(encoding="utf-8").replace("name: host", "name: integer")
    profile.write_text(
        text.replace("[fp32]", "[fp32, int8]").replace("  - runtime: ncnn\n    precisions: [fp16]\n", "")
    )
    settings = {key: value for key, value in QUICK.items() if key != "latency.runtime"}
    settings |= {"quantize.images": 32, "quantize.check_images": 8, "quantize.max_drop": 1.0}
    listener = Remembers()
    # Calibration takes 32 images; what int8 loses is measured on others.
    data = quickstart.generate(tmp_path / "data", counts={"train": 48, "val": 16, "test": 8}, imgsz=IMGSZ)
    outcome = yolo_slim.run(
        trained, data, project=tmp_path, epochs=1, settings=settings, progress=listener, target=str(profile),
        imgsz=IMGSZ, latency_ms=40.0,
    )  # fmt: skip
    result = Result.load(outcome.result)
    is_enough = share * 50 < 40
    end = "nothing is cut" if is_enough else "it is cut, because the budget is 40.00 ms"
    assert f"ms a frame in onnxruntime-int8; {end}" in listener.said
    assert (result.size.slim.macs == result.size.control.macs) == is_enough
    assert (result.latency is None) == is_enough


def test_best_input_side(trained: Path, signs: Path, device: ModelledDevice, tmp_path: Path) -> None:
    """Every side is tried, those behind after one epoch are stopped, and the run goes on at the winner's.

    Result and page have the figures of every side; a run at a given side has none (control).
    """
    start = _starts_at(128, tmp_path)
    result, listener = run(trained, signs, tmp_path, imgsz="auto", latency_ms=16.0, config=start)
    assert "Input sides for 16.00 ms a frame" in listener.said
    sides = result.sides
    assert sides is not None
    assert [one.imgsz for one in sides.candidates] == sides_of(128)
    assert result.imgsz == sides.winner
    (best,) = [one for one in sides.candidates if one.imgsz == sides.winner]
    (other,) = [one for one in sides.candidates if one.imgsz != sides.winner]
    assert best.reason.startswith("won: ")
    assert f"sides: {sides.winner} px: won: " in listener.said
    assert other.reason == "stopped after one epoch: 1 was better"
    assert best.map50_95_first >= other.map50_95_first
    assert (best.map50_95 is None, other.map50_95 is None) == (False, True)
    for one in sides.candidates:
        assert one.measured_ms <= 16.0 * 1.01
        assert one.predicted_ms == pytest.approx(one.measured_ms, rel=0.05)
    (page,) = tmp_path.rglob("report.html")
    assert other.reason in page.read_text(encoding="utf-8")
    alone, _ = run(trained, signs, tmp_path / "alone", imgsz=96, target_fps=2.0)
    assert alone.sides is None


def test_no_side_reaches_it(trained: Path, signs: Path, device: ModelledDevice, tmp_path: Path) -> None:
    """The message has the smallest cut of every side, predicted; nothing is trained."""
    with pytest.raises(SlimError, match="No input side reaches 100000 FPS by pruning") as error:
        run(trained, signs, tmp_path, imgsz="auto", target_fps=100_000.0, config=_starts_at(128, tmp_path))
    predicted = r"px: the budget can't be reached: the smallest cut is predicted to take \d+\.\d\d ms"
    assert len(re.findall(predicted, str(error.value))) == len(sides_of(128))
    assert "Set prune.target_fps to at most" in error.value.remedy
    assert not list(tmp_path.rglob("pruned.pt"))


def _starts_at(side: int, folder: Path) -> Path:
    """Write a profile whose largest side is given, and a file that chooses it."""
    path = folder / "config.yaml"
    path.write_text(f"imgsz: {side}\n")
    return path


def test_sides_are_multiples_of_the_stride() -> None:
    """From the target's side down to about half of it; none is too small to detect anything."""
    assert sides_of(640) == [640, 512, 416, 320]
    assert sides_of(320) == [320, 256, 192, 160]
    assert sides_of(128) == [128, 96]


def test_auto_needs_a_frame_rate(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Without one there is nothing to choose by: one message, exit code 2."""
    options = ["--model", str(trained), "--data", str(signs), "--project", str(tmp_path), "--imgsz"]
    code, _, err = run_cli("run", *options, "auto")
    assert code == 2
    assert "--target-fps" in err
    code, _, err = run_cli("run", *options, "big")
    assert code == 2
    assert "neither a whole number nor auto" in err


def test_target_that_is_not_here(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Another machine's milliseconds prove nothing of a Pi: the message says what to do, before any work."""
    with pytest.raises(SlimError, match="rpi5 isn't here") as error:
        yolo_slim.run(trained, signs, target="rpi5", imgsz=IMGSZ, target_fps=30.0, project=tmp_path, settings=QUICK)
    assert "--host" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"prune.latency_ms": 5.0}, "conflicts with target_fps"),
        ({"prune.macs_removed": 0.5}, "conflicts with macs_removed"),
        ({"prune.scope": "uniform"}, "conflicts with target_fps"),
        ({"prune.head_removed": 0.3}, "conflicts with target_fps"),
        ({"prune.recover_epochs_between": 1}, "conflicts with target_fps"),
        ({"prune.target_fps": -1.0}, "greater than 0"),
        ({"prune.target_fps": float("inf")}, "finite"),
        ({"latency.runtime": "tensorrt"}, "host has onnxruntime-fp32, ncnn-fp16"),
    ],
)
def test_settings_that_contradict_it(
    settings: dict[str, Any], text: str, trained: Path, signs: Path, tmp_path: Path
) -> None:
    """What has no meaning beside a frame rate is named, before any work."""
    with pytest.raises(SlimError) as error:
        yolo_slim.run(
            trained, signs, imgsz=IMGSZ, project=tmp_path, settings={"prune.target_fps": 30.0} | settings, target="host"
        )
    assert text in str(error.value)
