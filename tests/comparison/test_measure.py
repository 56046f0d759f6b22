"""What is equal between the methods, and what a failure means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.comparisons import prepared
from yolo_slim import pipeline
from yolo_slim.comparison.device import Meter
from yolo_slim.comparison.folder import owned
from yolo_slim.comparison.measure import Measurements, training_of
from yolo_slim.comparison.methods import METHODS
from yolo_slim.comparison.networks import Cell
from yolo_slim.comparison.request import fair
from yolo_slim.comparison.starts import Place, Start, StartFailed
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import MachineError, SlimError


def test_equal_training() -> None:
    """No method may stop early or be trained before its cut."""
    config = RunConfig.model_validate({"model": "m", "data": "d", "recover": {"epochs": 40}})
    assert fair(config).recover.patience == 40
    sparse = RunConfig.model_validate({"model": "m", "data": "d", "prune": {"sparse_epochs": 3}})
    with pytest.raises(SlimError, match="unfair"):
        fair(sparse)


def test_nothing_learns_from_itself() -> None:
    """Methods that begin as the control train without distillation from it, the others with it."""
    config = RunConfig(model="m.pt", data="d.yaml")
    for method in METHODS.values():
        expected = config.recover.distill if method.distilled else 0
        assert training_of(method, config).recover.distill == expected
    assert [name for name, method in METHODS.items() if method.trained and not method.distilled] == [
        "small-input",
        "control-trained",
    ]


@pytest.fixture
def measured(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Exception | None, Exception | None], bool]]:
    """Yield a function that measures a method whose start or training fails: whether its network has failed."""
    run = prepared(trained, signs, tmp_path)

    def measure(name: str, start: Exception | None, later: Exception | None) -> bool:
        def make(place: Place) -> Start:
            if start:
                raise start
            return Start(weights=trained, imgsz=64, implementation="made")

        def trained_and_built(*_: object, **__: object) -> pipeline.Built:
            assert later is not None
            raise later

        monkeypatch.setitem(METHODS, name, replace(METHODS[name], make=make))
        monkeypatch.setattr(pipeline, "trained_and_built", trained_and_built)
        (found,) = measurements.measure_all([Cell(method=name, removed=0.5, seed=0)])
        assert not found.measured
        return found.failed

    with owned(tmp_path, {}):
        measurements = Measurements(run, ("onnxruntime-fp32",), {}, Meter.of(run))
        yield measure


def test_only_the_machine_stops_a_comparison(measured: Callable[..., bool]) -> None:
    """A start that can't be is no rival, one that fails later has failed, a killed process stops the call."""
    assert measured("narrow", SlimError("no such width."), None) is False
    assert measured("narrow", StartFailed("took too long."), None) is True
    assert measured("narrow", None, SlimError("its loss became NaN.")) is True
    with pytest.raises(MachineError):
        measured("narrow", MachineError("out of memory."), None)
    with pytest.raises(MachineError):
        measured("narrow", None, MachineError("out of memory."))


def test_nothing_is_compared_without_ours(measured: Callable[..., bool]) -> None:
    """A failure of ours ends the call with its reason."""
    with pytest.raises(SlimError, match="the MACs can't be reached"):
        measured("ours", SlimError("the MACs can't be reached."), None)
