"""A comparison at equal latency: the search of the share of the MACs, and a whole comparison on a modelled device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import yolo_slim
from tests.helpers.cli import run_cli
from tests.helpers.comparisons import KEY, command, entries
from tests.helpers.devices import ModelledDevice
from tests.helpers.listeners import Remembers
from yolo_slim import preparation
from yolo_slim.comparison import run
from yolo_slim.comparison.equal_latency import EQUAL, MOST_TRIES, Try, is_open, searched
from yolo_slim.comparison.networks import Cell
from yolo_slim.comparison.result import load
from yolo_slim.config.run import ExportConfig
from yolo_slim.export.onnx import export_onnx
from yolo_slim.files import read_json
from yolo_slim.workspace.job import MANIFEST

QUICK = {
    "latency.networks": 4, "latency.checks": 2, "latency.rounds": 2, "latency.frames": 1,
    "latency.control_seconds": 0.1, "prune.images": 8, "prune.bn_images": 8, "prune.steps": 1,
    "validate.min_seconds": 0.1, "validate.min_queries": 8, "validate.rounds": 5, "export.parity_images": 2,
}  # fmt: skip


def straight(removed: float) -> float:
    """Milliseconds that fall evenly from 20."""
    return 20 * (1 - removed)


def timed_by(device: Callable[[float], float]) -> Callable[[float], Try]:
    """Cuts that take what a formula says."""
    return lambda removed: Try(removed=removed, ms=device(removed))


@pytest.mark.parametrize(
    "device",
    [
        straight,
        lambda removed: 1.3 * straight(removed),
        lambda removed: 4 + 0.8 * straight(removed),
        lambda removed: 20 * (1 - removed) ** 0.5,
    ],
)
def test_search_finds_the_share(device: Callable[[float], float]) -> None:
    """Whether the table is right or far off, the cut that is found takes as long, and few are timed."""
    found = searched(straight, timed_by(device), 11.0)
    assert found.is_equal
    assert device(found.best.removed) == pytest.approx(11.0, rel=EQUAL)
    assert len(found.tries) <= 4


def test_search_on_steps() -> None:
    """Where no share takes as long, because time falls in steps, the nearest one is taken and told apart."""
    stairs = lambda removed: 20.0 if removed < 0.5 else 10.0  # noqa: E731
    found = searched(straight, timed_by(stairs), 11.0)
    assert not found.is_equal
    assert found.best.ms == 10.0
    assert len(found.tries) <= MOST_TRIES


def test_search_of_a_table_that_is_right_times_one_cut() -> None:
    """One timing is enough then; a table that is far off needs more (control)."""
    assert len(searched(straight, timed_by(straight), 11.0).tries) == 1
    assert len(searched(straight, timed_by(lambda removed: 1.3 * straight(removed)), 11.0).tries) > 1


def test_search_stops_where_no_cut_reaches() -> None:
    """A share that is larger than the largest possible one is never asked for."""
    found = searched(straight, timed_by(straight), 1.0, most=0.8)
    assert not found.is_equal
    assert max(one.removed for one in found.tries) <= 0.8


def test_share_stays_once_something_is_trained(tmp_path: Path) -> None:
    """A share that was found by a timing that doesn't count is searched again, until a network is trained at it."""
    doubtful = Try(removed=0.4321, ms=5.0, invalid_reasons=("busy",))
    other = tmp_path / Cell(method="ours", removed=0.4, seed=0).name / "recover" / MANIFEST
    trained = tmp_path / Cell(method="ours", removed=0.4321, seed=0).name / "recover" / MANIFEST
    for path, expected in ((other, True), (trained, False)):
        path.parent.mkdir(parents=True)
        path.touch()
        assert is_open(doubtful, tmp_path) == expected
    assert not is_open(Try(removed=0.1, ms=5.0), tmp_path)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> ModelledDevice:
    """Let every call find the modelled board, whose networks all take what their layers say."""
    found = ModelledDevice(scale=1.0)
    monkeypatch.setattr(preparation, "connect", lambda *_: found)
    return found


@pytest.mark.slow
def test_comparison_at_equal_latency(
    small: Path, signs: Path, device: ModelledDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is cut to milliseconds, its rival to the MACs that take as long; both are judged as equally fast.

    The board computes 32 channels at once, so equal milliseconds aren't equal MACs.
    """
    # The small network has random weights: that it finds nothing is no reason to end here.
    monkeypatch.setattr(run.control, "run", lambda *_: None)
    export_onnx(small, ExportConfig(), 96, tmp_path / "control.onnx")
    budget = round(2 + 0.88 * device.network_ms(tmp_path / "control.onnx"), 1)
    listener = Remembers()

    def compare() -> Path:
        outcome = yolo_slim.compare(
            small, signs, project=tmp_path, name="small", imgsz=96, target="host", epochs=1, seeds=[0],
            train={"workers": 0}, device="cpu", settings=QUICK, progress=listener, latency_ms=budget,
        )  # fmt: skip
        return outcome.folder

    folder = compare()
    result, methods = load(folder / "compare.json"), entries(folder)
    assert list(methods) == ["ours", "macs", "control"]
    assert result.budget_ms == budget
    ours, macs = methods["ours"], methods["macs"]
    assert f"cut to {budget:.2f} ms a frame in onnxruntime-fp32" in ours.implementation
    assert "of the MACs removed" in macs.implementation
    share = read_json(folder / "latency/macs/share.json")
    assert macs.macs_removed == pytest.approx(ours.removed, abs=0.03)
    assert ours.runtimes[KEY].bench.p50_ms == pytest.approx(budget, rel=0.05)
    assert macs.runtimes[KEY].bench.p50_ms == pytest.approx(ours.runtimes[KEY].bench.p50_ms, rel=EQUAL)
    assert share["ours_ms"] <= budget * 1.01
    assert abs(macs.macs_removed - ours.macs_removed) > 0.02
    (judged,) = [one for one in result.judgements[KEY].methods if one.method == "macs"]
    assert "as fast as ours" in judged.reason
    assert "pruning to milliseconds" in result.verdict.text
    assert any(f"Ours was cut to {budget:.2f} ms a frame in onnxruntime-fp32" in note for note in result.notes)
    device.asked.clear()
    assert compare() == folder
    assert "layers" not in device.asked
    assert "time_paired" not in device.asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--latency-ms", "5", "--set", "latency.runtime=ncnn-fp16"],
            "latency.runtime names ncnn-fp16, but the budget is of the first build of this comparison",
        ),
        (["--latency-ms", "5", "--prune", "0.4"], "--prune: latency_ms decides the share of the MACs"),
        (["--target-fps", "5", "--measured", __file__], "--measured: another comparison's share"),
        (["--target-fps", "5", "--latency-ms", "5"], "conflicts with target_fps"),
        (["--methods", "macs"], "Give --target-fps or --latency-ms"),
        (["--target", "rpi5", "--target-fps", "5"], "rpi5 isn't here"),
    ],
)
def test_bad_options(trained: Path, signs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    """What has no meaning beside a budget in milliseconds, or without one, is refused before any work."""
    call = command(trained, signs, tmp_path)
    at = call.index("--prune")
    code, _, err = run_cli(*call[:at], *call[at + 2 :], *options)
    assert (code, message in err) == (2, True), err
    assert not list(tmp_path.rglob("*.pt"))
