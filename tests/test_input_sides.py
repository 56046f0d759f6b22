"""`--imgsz auto`: which input sides are tried, which of them is trained for how long, and which one wins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.devices import ModelledDevice
from tests.helpers.latency_tables import outputs_of, table
from tests.helpers.listeners import Remembers
from yolo_slim import exploration, preparation
from yolo_slim.api import make_config
from yolo_slim.build_key import BuildName
from yolo_slim.config.record import read_record
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.exploration import choose_side, sides_of
from yolo_slim.files import read_json, write_json
from yolo_slim.measuring.latency_cut import LatencyCut, TimedCut
from yolo_slim.measuring.sides import Candidate, Sides
from yolo_slim.pruning.outputs import PruneOutputs, outputs_in
from yolo_slim.pruning.unreachable import Unreachable
from yolo_slim.stages.context import Context
from yolo_slim.stages.recover import RecoverInputs, RecoverOutputs
from yolo_slim.stages.unpruned import Unpruned
from yolo_slim.workspace.up_to_date import NotUpToDate

BUDGET = 9.0
"""Milliseconds that a frame may take; the table's unpruned network takes 10."""
ACCURACIES = {(160, 1): 0.30, (160, 3): 0.50, (128, 1): 0.40, (128, 3): 0.45, (96, 1): 0.20}
"""By side and epochs; what isn't here isn't trained. 192 px doesn't reach the budget."""


class Scripted:
    """Stages that make nothing: what they say of every side is given, and what was trained is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.reached: set[int] = {160, 128, 96}
        self.accuracies: Mapping[tuple[int, int], float] = ACCURACIES
        self.trainings: list[str] = []
        self.activations: set[str] = set()
        self.weights: Path | None = None
        self.unpruned_ms = 10.0
        self.folder = folder
        monkeypatch.setattr(preparation, "connect", lambda *_: ModelledDevice())
        monkeypatch.setattr(exploration.latency_tables, "for_budget", self.tables)
        monkeypatch.setattr(exploration.prune, "run", self.prune)
        monkeypatch.setattr(exploration.recover, "run", self.train)

    def tables(self, *_: object) -> Any:
        """The table, 2 ms of whose frame are before and after inference."""
        return outputs_of(table(control_ms=self.unpruned_ms - 2), self.folder / "tables")

    def prune(self, _: object, config: Any, folder: Path, context: Context, **__: Any) -> PruneOutputs:
        """Cut to the budget, at the sides that reach it."""
        if context.only_check:
            raise NotUpToDate("prune")
        if context.imgsz not in self.reached:
            raise Unreachable("Too slow.", predicted_ms=12.0)
        outputs, cut = outputs_in(folder), TimedCut(predicted_ms=8.9, measured_ms=8.8)
        folder.mkdir(parents=True, exist_ok=True)
        found = LatencyCut(
            budget_ms=config.frame_ms, build=BuildName("onnxruntime", "fp32"), device="a board", unpruned_ms=10.0,
            overhead_ms=2.0, table_error_median=0.01, table_error_worst=0.02, cuts=(cut,), kept=0,
        )  # fmt: skip
        write_json(outputs.latency, found.to_json())
        write_json(outputs.widths, {"control": {"macs": 100}, "slim": {"macs": 60}})
        return outputs

    def train(self, inputs: RecoverInputs, config: Any, folder: Path, context: Context) -> RecoverOutputs:
        """Note the training."""
        self.trainings.append(f"{context.imgsz} px, {config.epochs}")
        self.activations.add(config.activation)
        weights = self.weights or folder.with_name(f"{context.imgsz}-{config.epochs}")
        return RecoverOutputs(weights=weights, results=folder)

    def map_on_val(self, weights: Path, _: object) -> float:
        """The accuracy that belongs to a training."""
        side, epochs = map(int, weights.name.split("-"))
        return self.accuracies[side, epochs]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scripted:
    """Replace the stages and the scores."""
    found = Scripted(monkeypatch, tmp_path)
    monkeypatch.setattr(exploration, "map_on_val", found.map_on_val)
    return found


def config_of(model: Path, data: Path, imgsz: int = 192, **settings: Any) -> RunConfig:
    """Ask for the budget."""
    return make_config(model, data, imgsz=imgsz, target="host", latency_ms=BUDGET, settings=settings)


def chosen(config: RunConfig, folder: Path, progress: Remembers | None = None) -> tuple[int, dict[int, Candidate]]:
    """Choose, and read what is said of every side."""
    winner, path = choose_side(config, project=folder, progress=progress)
    sides = read_record(Sides, read_json(path), str(path), "")
    assert sides.winner == winner
    return winner, {one.imgsz: one for one in sides.candidates}


def test_best_side_wins(trained: Path, signs: Path, scripted: Scripted, tmp_path: Path) -> None:
    """Of the sides that reach the budget the one with the highest mAP at the end wins, though not after one epoch.

    The worst after one epoch isn't trained further, though it would have been the best (control). A side that doesn't
    reach the budget isn't trained at all.
    """
    scripted.accuracies = {**ACCURACIES, (96, 3): 0.99, (192, 1): 0.99, (192, 3): 0.99}
    listener = Remembers()
    winner, found = chosen(config_of(trained, signs), tmp_path, listener)
    assert winner == 160
    assert scripted.trainings == ["160 px, 1", "128 px, 1", "96 px, 1", "128 px, 3", "160 px, 3"]
    assert [one for one, side in found.items() if side.map50_95 is not None] == [160, 128]
    assert {side: one.reason for side, one in found.items()} == {
        192: "the budget can't be reached: pruned as far as possible it is predicted to take 12.00 ms",
        160: "won: the highest mAP, mAP50-95 0.5000 after 3 epochs, 0.0500 above 128 px",
        128: "0.0500 below 160 px",
        96: "stopped after one epoch: 2 were better",
    }
    assert "sides: 160 px: won: the highest mAP" in listener.said
    assert (found[160].measured_ms, found[160].predicted_ms, found[160].macs_removed) == (8.8, 8.9, 0.4)


def test_smaller_side_wins_where_it_is_better(trained: Path, signs: Path, scripted: Scripted, tmp_path: Path) -> None:
    """The same sides with other accuracies have another winner: it isn't the largest that wins."""
    scripted.accuracies = {**ACCURACIES, (128, 3): 0.51}
    assert chosen(config_of(trained, signs), tmp_path)[0] == 128


@pytest.mark.parametrize("takes_ms", [8.0, 9.5])
def test_int8_of_the_unpruned_network_competes(
    takes_ms: float, trained: Path, signs: Path, scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A side that the unpruned network reaches in int8 isn't cut; what int8 loses is taken off its mAP.

    Where int8 is too slow the side is cut (control).
    """
    found = Unpruned(frame_ms=takes_ms, map50_95_drop=0.002)
    monkeypatch.setattr(exploration.pipeline, "unpruned_in_int8", lambda _: found)
    monkeypatch.setattr(exploration, "map_on_val", lambda *_: 0.5)
    winner, sides = chosen(config_of(trained, signs), tmp_path)
    if takes_ms < BUDGET:
        assert {(one.build, one.macs_removed, one.measured_ms) for one in sides.values()} == {
            ("onnxruntime-int8", 0.0, 8.0)
        }
        assert sides[winner].map50_95 == pytest.approx(0.498)
        assert not scripted.trainings
    else:
        assert {one.macs_removed for one in sides.values()} == {None, 0.4}


def test_choice_stays(trained: Path, signs: Path, scripted: Scripted, tmp_path: Path) -> None:
    """A second call asks for nothing, whatever the device would say now; other settings choose anew (control)."""
    config = config_of(trained, signs)
    assert chosen(config, tmp_path)[0] == 160
    scripted.reached = {128, 96}
    scripted.trainings.clear()
    assert chosen(config, tmp_path)[0] == 160
    assert scripted.trainings == []
    other = config.model_copy(update={"latency": config.latency.model_copy(update={"rounds": 99})})
    assert chosen(other, tmp_path)[0] == 128


def test_one_side_is_left(trained: Path, signs: Path, scripted: Scripted, tmp_path: Path) -> None:
    """Where one side alone reaches the budget there is nothing to compare, so nothing is trained."""
    scripted.reached = {96}
    winner, found = chosen(config_of(trained, signs), tmp_path)
    assert (winner, scripted.trainings) == (96, [])
    assert found[96].reason == "won: no other side reaches the budget"


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_activation_that_the_network_will_have(
    activation: str, trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sides that need no cut are compared with the activation of the run; without one nothing is trained.

    The scores are real: the side at which the network finds more wins.
    """
    scripted = Scripted(monkeypatch, tmp_path)
    scripted.unpruned_ms, scripted.weights = 8.0, trained
    config = config_of(trained, signs, imgsz=128, **{"recover.activation": activation, "latency.explore_epochs": 1})
    winner, found = chosen(config, tmp_path)
    trained_sides = {"128 px, 1", "96 px, 1"} if activation == "relu" else set()
    assert (set(scripted.trainings), scripted.activations) == (trained_sides, {"relu"} if trained_sides else set())
    scores = {side: one.map50_95_first for side, one in found.items()}
    assert winner == max(scores, key=lambda side: scores[side])
    assert scores[128] != scores[96]


def test_no_side_reaches_it(trained: Path, signs: Path, scripted: Scripted, tmp_path: Path) -> None:
    """The message has the smallest cut of every side, predicted; nothing is trained."""
    scripted.reached = set()
    with pytest.raises(SlimError, match="No input side reaches 9 ms a frame by pruning") as error:
        choose_side(config_of(trained, signs), project=tmp_path)
    predicted = r"px: the budget can't be reached: pruned as far as possible it is predicted to take \d+\.\d\d ms"
    assert len(re.findall(predicted, str(error.value))) == len(sides_of(192, 32))
    assert "Set prune.latency_ms to at least 12.13" in error.value.remedy
    assert scripted.trainings == []


def test_sides_are_multiples_of_the_stride() -> None:
    """From the target's side down to about half of it; none is too small to detect anything."""
    assert sides_of(640, 32) == [640, 512, 416, 320]
    assert sides_of(640, 64) == [640, 512, 384, 320]
    assert sides_of(320, 32) == [320, 256, 192, 160]
    assert sides_of(128, 32) == [128, 96]
    assert sides_of(96, 32) == [96]


def test_auto_needs_a_frame_rate(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Without one there is nothing to choose by: one message, exit code 2."""
    options = ["--model", str(trained), "--data", str(signs), "--project", str(tmp_path), "--imgsz"]
    code, _, err = run_cli("run", *options, "auto")
    assert code == 2
    assert "--target-fps" in err
    code, _, err = run_cli("run", *options, "big")
    assert code == 2
    assert "neither a whole number nor auto" in err
