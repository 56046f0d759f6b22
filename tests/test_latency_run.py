"""Whole runs whose budget is a frame rate, on a device whose layers take what a formula says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import yolo_slim
from tests.helpers.devices import ModelledDevice
from tests.helpers.listeners import Remembers
from tests.helpers.results import make_bench
from yolo_slim import exploration, preparation
from yolo_slim.api import make_config
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.datasets import quickstart
from yolo_slim.devices.answers import Bench
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.errors import SlimError
from yolo_slim.exploration import sides_of
from yolo_slim.latency_tables import for_budget, tables_folder
from yolo_slim.measuring.latency import LatencyTable
from yolo_slim.quantization.layer_errors import kept_float
from yolo_slim.stages.unpruned import drop_in
from yolo_slim.uncut import LosesTooMuch
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


@pytest.fixture(scope="module")
def recorded(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped yolo11n, whose training recorded another mAP than it has on these images."""
    content = torch.load(trained, weights_only=False)
    content["train_metrics"] = {"metrics/mAP50-95(B)": 0.99}
    path = tmp_path_factory.mktemp("model") / "recorded.pt"
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def project(recorded: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs for which `yolo-slim latency` measured the table of 96 px."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preparation, "connect", lambda *_: ModelledDevice())
        settings = {key: value for key, value in QUICK.items() if key.startswith("latency")}
        out = tables_folder(prepared(recorded, signs, folder), folder)
        yolo_slim.latency(recorded, signs, out, imgsz=IMGSZ, target="host", settings=settings)
    return folder


def prepared(model: Path, data: Path, folder: Path, progress: Remembers | None = None) -> preparation.Run:
    """Prepare a run to a frame rate."""
    config = make_config(model, data, imgsz=IMGSZ, target="host", target_fps=60.0, settings=QUICK)
    return preparation.prepared(config, folder, runs_bundles=True, progress=progress)


def run(model: Path, data: Path, project: Path, **options: Any) -> tuple[Result, Remembers]:
    """Run the chain and read its result."""
    listener = Remembers()
    outcome = yolo_slim.run(
        model, data, project=project, epochs=1, settings=QUICK, progress=listener, target="host",
        **{"imgsz": IMGSZ} | options,
    )  # fmt: skip
    return Result.load(outcome.result), listener


def test_run_to_a_frame_rate(recorded: Path, signs: Path, device: ModelledDevice, project: Path) -> None:
    """The result has budget, prediction and measurement; the frame rate is a gate; a second call makes nothing.

    The table that `yolo-slim latency` measured isn't measured again.
    """
    # The modelled board's control takes 20 ms a frame end to end, of which its bench says how much is inference.
    result, listener = run(recorded, signs, project, name="cut", latency_ms=15.0)
    assert "layers" not in device.asked
    assert "latency: up to date, skipped" in listener.said
    assert result.latency is not None
    assert result.latency.measured_ms <= 15.0 * 1.01
    assert result.latency.unpruned_ms > 15.0
    (gate,) = [gate for gate in result.verdict.gates if gate.name == "min_fps"]
    assert gate.limit == pytest.approx(1000 / 15)
    assert "measured" in listener.said
    device.asked.clear()
    again, said = run(recorded, signs, project, name="cut", latency_ms=15.0)
    assert again.latency == result.latency
    assert "time_paired" not in device.asked
    assert "prune: up to date, skipped" in said.said


@pytest.mark.parametrize("precisions", [["fp32"], ["int8", "fp32"]])
def test_build_without_a_table_is_told(
    precisions: list[str], recorded: Path, signs: Path, device: ModelledDevice, project: Path
) -> None:
    """Where the target has int8, the terminal says that no cut is made for it; without it nothing is said (control)."""
    listener = Remembers()
    this = prepared(recorded, signs, project, listener)
    choice = RuntimeChoice.model_validate({"runtime": "onnxruntime", "precisions": precisions})
    profile = this.context.profile.model_copy(update={"runtimes": [choice]})
    for_budget(replace(this, context=replace(this.context, profile=profile)), project)
    assert ("latency: no cut is made for onnxruntime-int8: what int8" in listener.said) == ("int8" in precisions)


def test_run_that_is_fast_enough(recorded: Path, signs: Path, device: ModelledDevice, project: Path) -> None:
    """Where the unpruned network reaches the frame rate, it is built as it is, and the run says so.

    Its training recorded another mAP than it has here: result and page say that too.
    """
    result, listener = run(recorded, signs, project, name="fast", target_fps=2.0)
    assert any("its training recorded 0.9900" in note for note in result.notes)
    page = (project / "fast" / "validate" / "report.html").read_text(encoding="utf-8")
    assert "its training recorded 0.9900" in page
    assert "the unpruned network reaches the budget" in listener.said
    assert result.latency is None
    assert result.size.slim.macs == result.size.control.macs
    assert "recovered" not in {rung.rung for rung in result.ladder}


class Integer(ModelledDevice):
    """It computes int8 in a share of the time; what is timed of int8 may not count."""

    share = 0.2
    reasons: tuple[str, ...] = ()

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Invent a timing of 50 ms, or a share of it."""
        if placed.build.precision == "int8":
            return make_bench(50.0 * self.share, 1, invalid_reasons=self.reasons)
        return make_bench(50.0, 1)


@pytest.fixture(scope="module")
def integer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of a target that has fp32 and int8."""
    profile = tmp_path_factory.mktemp("profile") / "integer.yaml"
    host = Path(yolo_slim.__file__).parents[1] / "targets/host.yaml"
    text = host.read_text(encoding="utf-8").replace("name: host", "name: integer")
    profile.write_text(
        text.replace("[fp32]", "[fp32, int8]").replace("  - runtime: ncnn\n    precisions: [fp16]\n", "")
    )
    return profile


@pytest.mark.slow
@pytest.mark.parametrize("is_busy", [False, True])
def test_unpruned_in_int8(
    is_busy: bool, trained: Path, integer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the unpruned network is fast enough in int8, nothing is cut; a timing that doesn't count isn't proof.

    A second call keeps what the first one made, though the device now says otherwise.
    """
    board = Integer()
    board.reasons = ("busy",) if is_busy else ()
    monkeypatch.setattr(preparation, "connect", lambda *_: board)
    settings = {key: value for key, value in QUICK.items() if key != "latency.runtime"}
    settings |= {"quantize.images": 32, "quantize.check_images": 8, "quantize.max_drop": 1.0}
    # Calibration takes 32 images; what int8 loses is measured on others.
    data = quickstart.generate(tmp_path / "data", counts={"train": 48, "val": 16, "test": 8}, imgsz=IMGSZ)

    def call() -> tuple[Result, str]:
        listener = Remembers()
        outcome = yolo_slim.run(
            trained, data, project=tmp_path, name="run", epochs=1, settings=settings, progress=listener,
            target=str(integer), imgsz=IMGSZ, latency_ms=40.0,
        )  # fmt: skip
        return Result.load(outcome.result), listener.said

    first, said = call()
    end = "it is cut, because the timing doesn't count: busy" if is_busy else "nothing is cut"
    took = make_bench(50.0 * 0.2, 1).stages.total.p50_ms
    assert f"takes {took:.2f} ms a frame in onnxruntime-int8; {end}" in said
    assert (first.latency is None, first.size.slim.macs == first.size.control.macs) == (not is_busy,) * 2
    board.reasons, board.share = (), 0.2 if is_busy else 0.9
    # As after an update of the runtime, by which it was timed.
    shutil.rmtree(tmp_path / "run" / "unpruned")
    again, said = call()
    assert (again.latency, again.size) == (first.latency, first.size)
    assert ("recover: up to date, skipped" in said) == is_busy


@pytest.mark.slow
def test_cut_for_a_named_int8_build(
    trained: Path, integer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table and cuts keep the layers float that the unpruned network's int8 graph keeps.

    Where that network is fast enough, and int8 loses too much, nothing is cut and the error says so.
    """
    monkeypatch.setattr(preparation, "connect", lambda *_: ModelledDevice())
    data = quickstart.generate(tmp_path / "data", counts={"train": 48, "val": 16, "test": 8}, imgsz=IMGSZ)
    # No loss is allowed, so that two layers stay float: as many as may.
    settings = QUICK | {
        "latency.runtime": "onnxruntime-int8", "quantize.images": 32, "quantize.check_images": 8,
        "quantize.max_drop": 0.0, "quantize.max_float_layers": 2,
    }  # fmt: skip

    def call(latency_ms: float) -> Result:
        outcome = yolo_slim.run(
            trained, data, project=tmp_path, name="run", epochs=1, settings=settings, progress=Remembers(),
            target=str(integer), imgsz=IMGSZ, latency_ms=latency_ms,
        )  # fmt: skip
        return Result.load(outcome.result)

    result = call(15.0)
    assert result.latency is not None
    assert (str(result.latency.build), result.latency.named) == ("onnxruntime-int8", "onnxruntime-int8")
    kept = kept_float(tmp_path / "run" / "quantize" / "control" / "layer_errors.json")
    (table,) = tmp_path.glob("*-latency/onnxruntime-int8.json")
    assert LatencyTable.load(table).kept_float == kept
    drop = drop_in(tmp_path / "run" / "quantize" / "control" / "layer_errors.json")
    assert drop is not None
    if drop > 0:
        with pytest.raises(LosesTooMuch, match="in onnxruntime-int8, but int8 loses"):
            call(1000.0)
    else:
        assert call(1000.0).latency is None


def test_run_at_the_best_side(
    recorded: Path, signs: Path, device: ModelledDevice, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on at the side that won; result and page have the figures of every side.

    A run at a given side has none (control). How a side wins: tests/test_input_sides.py.
    """
    monkeypatch.setattr(exploration, "map_on_val", lambda _, this: {128: 0.1, 96: 0.2}[this.context.imgsz])
    start = tmp_path / "config.yaml"
    start.write_text("imgsz: 128\n")
    result, listener = run(recorded, signs, project, name="auto", imgsz="auto", target_fps=2.0, config=start)
    assert "Input sides for 500.00 ms a frame" in listener.said
    assert result.sides is not None
    assert [one.imgsz for one in result.sides.candidates] == sides_of(128, 32)
    assert (result.imgsz, result.sides.winner) == (96, 96)
    page = (project / "auto" / "validate" / "report.html").read_text(encoding="utf-8")
    assert "stopped after one epoch: 1 was better" in page
    alone, _ = run(recorded, signs, project, name="fast", target_fps=2.0)
    assert alone.sides is None


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
