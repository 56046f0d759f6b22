"""What surrounds a cut to milliseconds: its gate, its device, and a network that is fast enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

import yolo_slim
from tests.helpers.cli import run_cli
from tests.helpers.devices import ModelledDevice
from tests.helpers.listeners import Remembers
from tests.helpers.nights import runs_of, write_matrix
from yolo_slim import api, preparation
from yolo_slim.config import targets
from yolo_slim.config.run import DeviceConfig
from yolo_slim.errors import SlimError
from yolo_slim.latency_tables import require_measurable, tables_folder
from yolo_slim.models import checkpoint
from yolo_slim.nightly import devices
from yolo_slim.verdict.result import Result

IMGSZ = 96
QUICK = {
    "latency.networks": 4, "latency.checks": 2, "latency.rounds": 2, "latency.frames": 1,
    "latency.control_seconds": 0.1, "latency.runtime": "onnxruntime-fp32", "latency.explore_epochs": 1,
    "validate.min_seconds": 0.1, "validate.min_queries": 8, "validate.rounds": 1,
}  # fmt: skip


class EmulatedBoard(ModelledDevice):
    """A modelled board that is called as an emulated one."""

    name = "rpi5-emulated"


def prepared(model: Path, data: Path, folder: Path, **options: Any) -> preparation.Run:
    """Prepare a run with its device."""
    config = api.make_config(model, data, imgsz=IMGSZ, **options)
    return preparation.prepared(config, folder, runs_bundles=True)


def test_gate_is_the_stricter_speed(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A budget that allows less than the profile's own gate doesn't loosen it; one that asks for more is the gate."""
    profile = yaml.safe_load(Path("targets/host.yaml").read_text())
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**profile, "name": "own", "budget": {"max_map50_95_drop": 0.02, "min_fps": 30}}))
    for target, latency_ms, gate in ((str(own), 50.0, 30.0), (str(own), 10.0, 100.0), ("host", 50.0, 20.0)):
        this = prepared(trained, signs, tmp_path / "run", target=target, latency_ms=latency_ms)
        assert this.context.profile.budget.min_fps == pytest.approx(gate)
    assert prepared(trained, signs, tmp_path / "run", target=str(own)).context.profile.budget.min_fps == 30


def test_emulated_device_has_no_milliseconds(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emulator's own speed is nobody's budget, unless the user says that any device will do."""
    monkeypatch.setattr(preparation, "connect", lambda *_: EmulatedBoard())
    this = prepared(trained, signs, tmp_path, target="rpi5", target_fps=30.0)
    with pytest.raises(SlimError, match=r"rpi5-emulated is emulated: .* never how long that takes") as error:
        require_measurable(this)
    assert "--any-device" in error.value.remedy
    require_measurable(prepared(trained, signs, tmp_path, target="rpi5", target_fps=30.0, any_device=True))
    require_measurable(prepared(trained, signs, tmp_path, target="rpi5"))


def test_named_build_without_a_frame_rate(trained: Path, signs: Path, tmp_path: Path) -> None:
    """The name of a build isn't ignored beside a budget in MACs; beside a frame rate it is part of the run's name."""
    named = {"latency.runtime": "onnxruntime-fp32"}
    with pytest.raises(SlimError, match=r"latency.runtime \(onnxruntime-fp32\) names the build .* none is asked for"):
        require_measurable(prepared(trained, signs, tmp_path, target="host", prune=0.5, settings=named))
    require_measurable(prepared(trained, signs, tmp_path, target="host", prune=0.5))
    config = api.make_config(trained, signs, imgsz=IMGSZ, target="host", target_fps=60.0, settings=named)
    assert preparation.default_name(config).endswith("-60fps-onnxruntime-fp32")


def test_activation_is_trained_where_nothing_is_cut(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unpruned network is fast enough, and still gets the activation that was asked for."""
    monkeypatch.setattr(preparation, "connect", lambda *_: ModelledDevice())
    listener = Remembers()
    outcome = yolo_slim.run(
        trained, signs, project=tmp_path, imgsz=IMGSZ, epochs=1, target="host", target_fps=2.0, progress=listener,
        settings={**QUICK, "recover.activation": "relu"},
    )  # fmt: skip
    assert "nothing is cut" in listener.said
    result = Result.load(outcome.result)
    rungs = {rung.rung for rung in result.ladder}
    assert ("pruned" in rungs, "recovered" in rungs) == (False, True)
    assert result.size.slim.macs == result.size.control.macs
    trained_model = checkpoint.load(outcome.folder / "recover" / "recovered.pt").model
    found = {type(module.act) for module in trained_model.modules() if hasattr(module, "act")}
    assert nn.ReLU in found
    assert nn.SiLU not in found
    assert any("the slim network ReLU (recover.activation)" in note for note in result.notes)


@pytest.mark.parametrize(("budget", "host"), [({"target_fps": 30.0}, "pi"), ({"macs_removed": 0.5}, None)])
def test_night_cuts_on_its_device(
    budget: dict[str, float],
    host: str | None,
    trained: Path,
    signs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chain of a cell that is cut to a frame rate gets the target's host; other chains need no device."""
    asked: list[str | None] = []

    def connect(config: DeviceConfig, *_: object) -> None:
        asked.append(config.host)
        raise SlimError("No device in this test.")

    monkeypatch.setattr(preparation, "connect", connect)
    monkeypatch.setattr(devices, "connect", lambda *_: ModelledDevice())
    matrix = night_on_a_pi(trained, signs, tmp_path, budget)
    run_cli("nightly", str(matrix))
    assert asked == [host]
    assert {run.state for run in runs_of(matrix, 1)} == {"failed"}
    assert len(runs_of(matrix, 1)) == len(targets.load("rpi5").builds)


def at(name: str, *, is_here: bool = False) -> ModelledDevice:
    """A board of one model at an address."""
    found = ModelledDevice()
    found.name, found.is_here = name, is_here
    return found


def test_two_devices_have_two_tables(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boards of one profile don't overwrite each other's tables; the same board finds its own again (control).

    The longest name is a folder of one part that file systems take.
    """

    def folder(device: ModelledDevice) -> Path:
        monkeypatch.setattr(preparation, "connect", lambda *_: device)
        return tables_folder(prepared(trained, signs, tmp_path, target="rpi5", target_fps=30.0), tmp_path)

    boards = [at("pi@10.0.0.7"), at("pi@10.0.0.8"), at("pi@a:22"), at("pi@a-22"), at("this machine", is_here=True)]
    found = [folder(device) for device in boards]
    assert len(set(found)) == len(boards)
    assert folder(at("pi@10.0.0.7")) == found[0]
    assert "pi-10.0.0.7" in found[0].name
    longest = folder(at(f"../{'n' * 240}/pi"))
    assert longest.parent == tmp_path
    assert len(longest.name) < 255


def night_on_a_pi(model: Path, data: Path, folder: Path, budget: dict[str, float]) -> Path:
    """Write the matrix of a night on a remote device."""
    return write_matrix(
        folder, data, models={"m": str(model)}, targets={"pi": {"profile": "rpi5", "host": "pi"}},
        settings={"s": {"imgsz": IMGSZ, "prune": budget}},
    )  # fmt: skip


def test_night_without_its_device(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is off is missing, also where the cut is timed on it: no alarm, and nothing is made."""

    def connect(*_: object) -> None:
        raise SlimError("pi doesn't answer.")

    monkeypatch.setattr(devices, "connect", connect)
    matrix = night_on_a_pi(trained, signs, tmp_path, {"target_fps": 30.0})
    code, _, _ = run_cli("nightly", str(matrix))
    assert code == 3
    assert {run.state for run in runs_of(matrix, 1)} == {"missing"}
    assert not list(tmp_path.rglob("pruned.pt"))
