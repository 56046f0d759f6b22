"""Latency tables and budgets in milliseconds, on a device whose layers take what a formula says."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.charts import charts, loads_nothing
from tests.helpers.devices import ModelledDevice
from tests.helpers.listeners import Remembers
from yolo_slim.build_key import BuildName
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.config.run import LatencyConfig, PruneConfig, RecoverConfig
from yolo_slim.datasets import quickstart
from yolo_slim.devices.answers import NOT_ITS_SPEED, DeviceFacts
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.measuring.latency import Fit, LatencyOutputs, LatencyTable
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.models import checkpoint
from yolo_slim.models.family import family_of
from yolo_slim.pruning.random_cuts import RandomCuts
from yolo_slim.reporting.latency import text
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.runtime.layers import LayerTimes
from yolo_slim.runtime.paired import Paired
from yolo_slim.stages import latency, prune
from yolo_slim.stages.context import Context
from yolo_slim.stages.unpruned import Unpruned
from yolo_slim.workspace.up_to_date import NotUpToDate

IMGSZ = 96
BUILD = BuildName("onnxruntime", "fp32")
QUICK = LatencyConfig(networks=4, checks=2, rounds=2, frames=1, control_seconds=0.1)


class Board(ModelledDevice):
    """It computes 16 output channels at once: the small detector has few layers of more than 64."""

    BLOCK = 16


def context_of(data: Path, device: ModelledDevice, **others: Any) -> Context:
    """Make the context of a call on a device."""
    return Context.load(data, "host", **{"imgsz": IMGSZ, "device": device} | others)


def measured(model: Path, context: Context, folder: Path, activation: str = "none") -> LatencyOutputs:
    """Run the stage."""
    inputs = latency.LatencyInputs(model=model, pruning=PruneConfig(round_to=8), activation=activation)
    return latency.run(inputs, QUICK, [BUILD], folder, context)


def cut(
    model: Path,
    context: Context,
    tables: LatencyOutputs | None,
    folder: Path,
    training: RecoverConfig | None = None,
    **budget: Any,
) -> LatencyCut:
    """Prune to milliseconds."""
    config = PruneConfig(round_to=8, images=8, bn_images=8, steps=1, **budget)
    inputs = prune.PruneInputs(model=model, latency=tables, timing=QUICK, training=training or RecoverConfig())
    outputs = prune.run(inputs, config, folder, context)
    return LatencyCut.model_validate_json(outputs.latency.read_text())


@pytest.fixture(scope="module")
def tables(small: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> LatencyOutputs:
    """Measure the small detector."""
    return measured(small, context_of(signs, Board()), tmp_path_factory.mktemp("latency") / "tables")


def test_table_predicts_networks_that_it_did_not_see(tables: LatencyOutputs) -> None:
    """Where networks take the sum of their layers, the table is right to two hundredths."""
    table = LatencyTable.load(tables.tables[BUILD])
    assert table.error.networks == 2
    assert table.error.worst < 0.02
    assert table.fit.per_layer_ms > 0.5
    assert not table.invalid_reasons
    page = tables.page.read_text()
    assert loads_nothing(page)
    assert len(charts(page)) == 2


def test_networks_are_cut_in_three_ways(
    small: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turns at random, as the search cuts, and mostly in the wide layers."""
    ways, widths, searched = list[str](), RandomCuts.widths, RandomCuts.searched

    def at_random(*given: Any, **others: Any) -> np.ndarray:
        ways.append("random")
        return widths(*given, **others)

    def by_search(*given: Any, deep: bool = False, **others: Any) -> np.ndarray:
        ways.append("deep" if deep else "searched")
        return searched(*given, deep=deep, **others)

    monkeypatch.setattr(RandomCuts, "widths", at_random)
    monkeypatch.setattr(RandomCuts, "searched", by_search)
    measured(small, context_of(signs, Board()), tmp_path / "tables")
    assert ways == ["random", "searched", "deep"] * 2


def test_up_to_date_table_is_used_again(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """The same call asks the device for nothing; another device is measured anew."""
    device = Board()
    folder = tables.page.parent
    assert measured(small, context_of(signs, device), folder) == tables
    assert device.asked == []
    other = Board()
    other.model = "Another Board"
    with pytest.raises(NotUpToDate, match=r"^latency$"):
        measured(small, context_of(signs, other, only_check=True), folder)


def test_interrupted_measurement_resumes(small: Path, signs: Path, tmp_path: Path) -> None:
    """A measurement that ended in the middle goes on with what is missing."""

    class Stops(Board):
        def time_layers(self, layers: Path, **limits: Any) -> LayerTimes:
            if self.asked.count("layers") == 3:
                raise KeyboardInterrupt
            return super().time_layers(layers, **limits)

    with pytest.raises(KeyboardInterrupt):
        measured(small, context_of(signs, Stops()), tmp_path / "tables")
    device = Board()
    table = LatencyTable.load(measured(small, context_of(signs, device), tmp_path / "tables").tables[BUILD])
    assert device.asked.count("layers") == len(table.grids) - 3
    assert device.asked.count("bench") == 0


def test_busy_device_is_told(small: Path, signs: Path, tmp_path: Path) -> None:
    """Timings that don't count are repeated, then marked, and the next call measures again."""
    device = Board(invalid_reasons=("busy: other programs used 1.5 cores",))
    listener = Remembers()
    found = measured(small, context_of(signs, device, progress=listener), tmp_path / "tables")
    table = LatencyTable.load(found.tables[BUILD])
    assert table.invalid_reasons == ("busy: other programs used 1.5 cores",)
    assert "WARNING: onnxruntime-fp32: timings that don't count: busy: other programs used" in listener.said
    assert device.asked.count("layers") == 3 * len(table.grids)
    again = Board()
    found = measured(small, context_of(signs, again), tmp_path / "tables")
    assert not LatencyTable.load(found.tables[BUILD]).invalid_reasons
    assert again.asked.count("layers") == len(table.grids)


def test_emulated_table_is_kept(small: Path, signs: Path, tmp_path: Path) -> None:
    """Timings of an emulated device never count, so they are measured once; each kind of reason is told once."""

    class Emulated(Board):
        """The machine that emulates it is busier at every layer."""

        def time_layers(self, layers: Path, **limits: Any) -> LayerTimes:
            found, busy = super().time_layers(layers, **limits), self.asked.count("layers") / 10
            return replace(found, invalid_reasons=(NOT_ITS_SPEED, f"other processes used {busy:.1f} (qemu {busy:.1f})"))

    device, listener = Emulated(), Remembers()
    found = measured(small, context_of(signs, device, progress=listener), tmp_path / "tables")
    table = LatencyTable.load(found.tables[BUILD])
    assert table.invalid_reasons == (NOT_ITS_SPEED, "other processes used 0.1 (qemu 0.1)")
    assert device.asked.count("layers") == len(table.grids)
    assert "measures them again" not in listener.said
    again = Emulated()
    assert measured(small, context_of(signs, again), tmp_path / "tables") == found
    assert again.asked == []


def test_layers_that_are_timed_anew_give_other_networks(small: Path, signs: Path, tmp_path: Path) -> None:
    """Networks cut by the search follow the layers' times: with new ones, the old networks' times aren't theirs."""

    class Disturbed(Board):
        """Its layers don't count, and are fastest at other widths."""

        def time_layers(self, layers: Path, **limits: Any) -> LayerTimes:
            found = super().time_layers(layers, **limits)
            ms = {name: 1.0 if int(name.split("-")[1]) <= 8 else 9.0 for name in found.ms}
            return replace(found, ms=ms, invalid_reasons=("busy",))

    measured(small, context_of(signs, Disturbed()), tmp_path / "tables")
    board = Board()
    again = LatencyTable.load(measured(small, context_of(signs, board), tmp_path / "tables").tables[BUILD])
    assert 0 < board.asked.count("time_paired") < QUICK.networks + QUICK.checks
    fresh = LatencyTable.load(measured(small, context_of(signs, Board()), tmp_path / "fresh").tables[BUILD])
    assert again.networks == fresh.networks


def test_cut_meets_the_budget(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """The first cut is within three hundredths of the budget, and widths end at the device's steps."""
    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.6 * table.control_ms
    listener = Remembers()
    found = cut(small, context_of(signs, Board(), progress=listener), tables, tmp_path, latency_ms=budget)
    assert found.build == BUILD
    assert found.cuts[0].measured_ms == pytest.approx(budget, rel=0.03)
    assert found.measured_ms <= budget * 1.01
    assert "the budget is" in listener.said
    widths = read_json(tmp_path / "widths.json")["layers"]
    cut_layers = [row["after"] for row in widths if row["after"] < row["before"]]
    # A narrower layer that isn't at a step of the device would have lost score for nothing.
    assert np.mean([width % Board.BLOCK == 0 or width < Board.BLOCK for width in cut_layers]) > 0.8


def test_wrong_table_is_corrected(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """Where cuts take longer than the table says, the second or third cut meets the budget all the same."""

    class Slower(Board):
        """Pruned networks take a fifth longer than their layers."""

        def time_paired(self, *args: Any, **kwargs: Any) -> Any:
            found = super().time_paired(*args, **kwargs)
            return replace(found, after=tuple(1.2 * ms for ms in found.after))

    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.7 * table.control_ms
    found = cut(small, context_of(signs, Slower()), tables, tmp_path, target_fps=1000 / budget)
    assert found.cuts[0].measured_ms > 1.05 * budget
    assert 2 <= len(found.cuts) <= 3
    assert found.measured_ms == pytest.approx(budget, rel=0.03)


class Unsteady(Board):
    """Each cut takes 1.3 % longer than the table says of the one before it."""

    calls = 0

    def time_paired(self, *args: Any, **kwargs: Any) -> Any:
        """Time as a board that becomes slower."""
        found = super().time_paired(*args, **kwargs)
        self.calls += 1
        return replace(found, after=tuple(1.013**self.calls * ms for ms in found.after))


def test_cut_after_a_miss_aims_lower(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """Where the first cut missed the budget by less than the noise, the next one is inside all the same."""
    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.7 * table.control_ms
    found = cut(small, context_of(signs, Unsteady()), tables, tmp_path / "prune", latency_ms=budget)
    first, second = found.cuts
    assert second.measured_ms <= budget < first.measured_ms
    assert second.predicted_ms < first.predicted_ms - 0.005 * budget


def test_cut_after_a_disturbed_timing_aims_lower(
    small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path
) -> None:
    """A disturbed first cut inside the budget proves nothing: the next one aims lower, and one that counts is kept."""

    class Disturbed(Board):
        def time_paired(self, *args: Any, **kwargs: Any) -> Any:
            found = super().time_paired(*args, **kwargs)
            is_first = self.asked.count("time_paired") <= 1 + REPEATS
            return replace(found, invalid_reasons=("busy",)) if is_first else found

    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.7 * table.control_ms
    found = cut(small, context_of(signs, Disturbed()), tables, tmp_path / "a", latency_ms=budget)
    first, second, *more = found.cuts
    assert first.measured_ms <= budget
    assert second.predicted_ms < first.predicted_ms - 0.005 * budget
    assert not second.invalid_reasons
    # Once a cut that counts is inside, the next one aims at the budget again.
    assert all(one.predicted_ms > second.predicted_ms for one in more)
    assert found.kept != 0
    assert found.measured_ms <= budget
    quiet = cut(small, context_of(signs, Board()), tables, tmp_path / "b", latency_ms=budget)
    assert len(quiet.cuts) == 1


def macs_left(folder: Path) -> float:
    """The share of the MACs that a pruning left."""
    found = read_json(folder / "widths.json")
    return float(found["slim"]["macs"] / found["control"]["macs"])


def test_mild_budget_that_the_table_takes_for_reached(
    small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path
) -> None:
    """Where the table takes the unpruned network for fast enough, which it isn't, something is cut all the same."""
    table = LatencyTable.load(tables.tables[BUILD])
    low = {key: 0.9 * value for key, value in table.fit.model_dump().items()}
    optimist = table.model_copy(update={"fit": Fit(**low)})
    optimist.save(tmp_path / "table.json")
    budget = table.overhead_ms + 0.97 * table.control_ms
    # Control: this table says that nothing has to go.
    assert optimist.networks[0].name == "unpruned"
    assert optimist.fit.ms(optimist.networks[0].load) + table.overhead_ms < 0.98 * budget < budget
    given = replace(tables, tables={BUILD: tmp_path / "table.json"})
    found = cut(small, context_of(signs, Board()), given, tmp_path / "prune", latency_ms=budget)
    assert 0.9 * budget < found.measured_ms <= budget
    assert macs_left(tmp_path / "prune") < 1
    assert found.choices[0].loss == 1.0


def test_budget_below_what_surrounds_the_inference(
    small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path
) -> None:
    """No cut reaches it, though a poor table predicts less than nothing for the narrowest network."""
    table = LatencyTable.load(tables.tables[BUILD])
    poor = table.model_copy(update={"fit": Fit(**{**table.fit.model_dump(), "constant_ms": -2 * table.control_ms})})
    poor.save(tmp_path / "table.json")
    given = replace(tables, tables={BUILD: tmp_path / "table.json"})
    error = refusal(small, context_of(signs, Board()), given, tmp_path / "prune", latency_ms=0.5 * table.overhead_ms)
    assert f"{table.overhead_ms:.2f} ms of them before and after inference" in str(error)
    # Control: the measured table refuses it too, and a budget that leaves something is met with it.
    refusal(small, context_of(signs, Board()), tables, tmp_path / "same", latency_ms=0.5 * table.overhead_ms)
    budget = table.overhead_ms + 0.7 * table.control_ms
    assert cut(small, context_of(signs, Board()), tables, tmp_path / "met", latency_ms=budget).measured_ms <= budget


def test_cut_at_another_speed(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """A cut that is timed while the device runs at another speed is timed again, and kept as at the usual speed."""

    class Slower(Board):
        """The first timing takes twice as long for the unpruned network, and half as much more for the cut."""

        calls = 0

        def time_paired(self, *args: Any, **kwargs: Any) -> Paired:
            found = super().time_paired(*args, **kwargs)
            self.calls += 1
            if self.calls > 1:
                return found
            before, after = tuple(2 * ms for ms in found.before), tuple(1.5 * ms for ms in found.after)
            return replace(found, before=before, after=after)

    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.7 * table.control_ms
    usual = cut(small, context_of(signs, Board()), tables, tmp_path / "usual", latency_ms=budget)
    found = cut(small, context_of(signs, slower := Slower()), tables, tmp_path / "slower", latency_ms=budget)
    assert found == usual
    assert slower.calls == len(usual.cuts) + 1


def test_cut_that_is_far_too_fast_gives_nothing_back_for_noise(
    small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path
) -> None:
    """Corrected by a cut that was far too fast, the table wants the whole network back: no cut to time or to keep."""

    class Faster(Board):
        """Pruned networks take two thirds of what their layers take."""

        def time_paired(self, *args: Any, **kwargs: Any) -> Any:
            found = super().time_paired(*args, **kwargs)
            return replace(found, after=tuple(0.65 * ms for ms in found.after))

    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.7 * table.control_ms
    found = cut(small, context_of(signs, Faster()), tables, tmp_path / "prune", latency_ms=budget)
    assert found.measured_ms <= budget
    assert macs_left(tmp_path / "prune") < 1


class PassOfItsOwn(Board):
    """A runtime that takes as long for a sigmoid as for such an output of a convolution of 128 weights."""

    def _ms(self, graph: Any) -> float:
        shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in (*graph.graph.value_info, *graph.graph.output)
        }
        found = [shapes[node.output[0]] for node in graph.graph.node if node.op_type == "Sigmoid"]
        return super()._ms(graph) + 128e-6 * sum(float(np.prod(shape)) for shape in found)


def test_cut_for_another_activation(small: Path, signs: Path, tmp_path: Path) -> None:
    """Table and cuts have the activation of the recovered network, so less has to go; the pruned one keeps its own.

    Control: for the network's own activation the same budget removes more. A table of that one is refused.
    """
    device = PassOfItsOwn(scale=1.0)
    context = context_of(signs, device)
    own = measured(small, context, tmp_path / "own")
    relu = measured(small, context, tmp_path / "relu", "relu")
    tables = [LatencyTable.load(one.tables[BUILD]) for one in (own, relu)]
    assert {grid.activation for grid in tables[1].grids} == {"relu", "none"}
    assert {grid.activation for grid in tables[0].grids} == {"silu", "none"}
    assert tables[1].control_ms < 0.95 * tables[0].control_ms
    assert "The unpruned network with relu at 96 px" in text([tables[1]])
    assert own.request != relu.request
    budget = tables[1].overhead_ms + 0.7 * tables[1].control_ms
    training = RecoverConfig(activation="relu")
    found = cut(small, context, relu, tmp_path / "cut", training, latency_ms=budget)
    assert found.measured_ms == pytest.approx(budget, rel=0.03)
    assert "times the unpruned network with relu" in found.text()
    pruned = checkpoint.load(tmp_path / "cut" / "pruned.pt")
    assert {type(block.act) for block in pruned.model.modules() if hasattr(block, "act")} == {nn.SiLU}
    cut(small, context, own, tmp_path / "plain", latency_ms=budget)
    assert macs_left(tmp_path / "plain") < macs_left(tmp_path / "cut") - 0.02
    with pytest.raises(SlimError, match="was measured for something else") as error:
        cut(small, context, own, tmp_path / "wrong", training, latency_ms=budget)
    assert error.value.culprits == ("activation: none there, relu now",)


def test_activation_without_a_name(small: Path, signs: Path, tmp_path: Path) -> None:
    """An activation that single convolutions can't have is named by table and terminal; SiLU isn't (control)."""
    content = torch.load(small, weights_only=False)
    for module in content["model"].modules():
        if isinstance(getattr(module, "act", None), nn.SiLU):
            module.act = nn.LeakyReLU()
    leaky = tmp_path / "leaky.pt"
    torch.save(content, leaky)
    named = "Single convolutions before LeakyReLU were timed with SiLU"
    for model, is_named in ((leaky, True), (small, False)):
        listener = Remembers()
        found = measured(model, context_of(signs, Board(), progress=listener), tmp_path / model.stem)
        table = LatencyTable.load(found.tables[BUILD])
        assert table.as_silu == (("LeakyReLU",) if is_named else ())
        assert [named in where for where in (listener.said, text([table]), found.page.read_text())] == [is_named] * 3


def test_missed_budget_ends_the_run(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """Where no cut gets fast enough on the device, nothing is trained: the message has every cut that was timed."""

    class Stuck(Board):
        """Pruned networks take as long as the unpruned one."""

        def time_paired(self, *args: Any, **kwargs: Any) -> Any:
            found = super().time_paired(*args, **kwargs)
            return replace(found, after=found.before)

    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.9 * table.control_ms
    with pytest.raises(SlimError, match=r"was missed|can't be reached|below their floor") as error:
        cut(small, context_of(signs, Stuck()), tables, tmp_path / "prune", latency_ms=budget)
    assert not (tmp_path / "prune" / "pruned.pt").exists()
    assert not (tmp_path / "prune" / "latency.json").exists()
    assert error.value.culprits


def test_cut_by_a_disturbed_timing_says_so(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """A timing that doesn't count is used, and named beside the figure."""
    table = LatencyTable.load(tables.tables[BUILD])
    busy = Board(invalid_reasons=("busy: other programs used 1.5 cores",))
    budget = table.overhead_ms + 0.6 * table.control_ms
    found = cut(small, context_of(signs, busy), tables, tmp_path, latency_ms=budget)
    assert "the timing doesn't count: busy: other programs used 1.5 cores" in found.text()


def test_disturbed_timing_is_no_better_cut(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """A cut inside the budget whose timing counts is kept, though a disturbed one seems to be nearer."""

    class Jumps(Board):
        """The first cut is too fast; what comes after is disturbed."""

        def time_paired(self, *args: Any, **kwargs: Any) -> Any:
            found = super().time_paired(*args, **kwargs)
            found = replace(found, after=tuple(0.9 * ms for ms in found.after))
            is_first = self.asked.count("time_paired") == 1
            return found if is_first else replace(found, invalid_reasons=("busy: other programs used 1.5 cores",))

    table = LatencyTable.load(tables.tables[BUILD])
    budget = table.overhead_ms + 0.7 * table.control_ms
    found = cut(small, context_of(signs, Jumps()), tables, tmp_path, latency_ms=budget)
    assert len(found.cuts) == 3
    assert found.kept == 0
    assert max(one.measured_ms for one in found.cuts[1:] if one.measured_ms <= budget) > found.measured_ms


def test_another_data_set_is_measured_anew(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """Pre- and post-processing depend on the images, so a table holds for one data set."""
    other = quickstart.generate(tmp_path / "data", counts={"train": 8, "val": 8, "test": 4}, imgsz=64)
    inputs = latency.LatencyInputs(model=small, pruning=PruneConfig(round_to=8))
    first, second = (
        latency.job_of(inputs, QUICK, [BUILD], tmp_path, context_of(data, Board())) for data in (signs, other)
    )
    assert first.request == tables.request
    assert second.request != first.request
    assert second.fingerprint != first.fingerprint


def refusal(model: Path, context: Context, tables: LatencyOutputs, folder: Path, **budget: Any) -> SlimError:
    """Ask for a budget that no cut reaches."""
    with pytest.raises(SlimError, match="can't be reached by pruning") as error:
        cut(model, context, tables, folder, **budget)
    assert not (folder / "pruned.pt").exists()
    return error.value


def figure(pattern: str, message: object) -> float:
    """Read the first such figure out of a message."""
    found = re.search(pattern.replace("#", r"(\d+\.\d+)"), str(message))
    assert found, f"{pattern} isn't in: {message}"
    return float(found[1])


SMALLEST = "onnxruntime-fp32: pruned as far as possible it is predicted to take # ms"


def test_unreachable_budget_says_how_far_it_goes(
    small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path
) -> None:
    """The smallest cut's milliseconds are those that a budget right above them is predicted to reach."""
    device = Board()
    error = refusal(small, context_of(signs, device), tables, tmp_path / "prune", target_fps=100_000.0)
    assert str(error).startswith("100000 FPS can't be reached by pruning at 96 px.")
    # Its yaml is none of Ultralytics', so nothing is known of its family.
    assert "family" not in str(error)
    assert "smaller than" not in str(error)
    smallest = figure(SMALLEST, error)
    listener = Remembers()
    context = context_of(signs, device, progress=listener)
    # The first cut is predicted; whether the device agrees there is another test's.
    with contextlib.suppress(SlimError):
        cut(small, context, tables, tmp_path / "cut", latency_ms=smallest / 0.975)
    assert figure("predicted # ms a frame, measured", listener.said) == pytest.approx(smallest, rel=0.02)


def test_smaller_sides_are_estimated(trained: Path, signs: Path, tmp_path: Path) -> None:
    """What is estimated for half the side is what a table of that side predicts; a side that reaches it is suggested.

    Control: at the side of the run the smallest cut's inference takes more than three times as long.
    """
    device = ModelledDevice(scale=1.0)
    large, small = (context_of(signs, device, imgsz=side) for side in (2 * IMGSZ, IMGSZ))
    of_large, of_small = measured(trained, large, tmp_path / "192"), measured(trained, small, tmp_path / "96")
    error = refusal(trained, large, of_large, tmp_path / "large", target_fps=100_000.0)
    here = refusal(trained, small, of_small, tmp_path / "small", target_fps=100_000.0)
    estimated = figure("onnxruntime-fp32 at 96 px: estimated # ms", error)
    assert estimated - 2.0 == pytest.approx(figure(SMALLEST, here) - 2.0, rel=0.05)
    assert figure(SMALLEST, error) - 2.0 > 3 * (estimated - 2.0)
    assert "by these figures nothing else reaches it" in error.remedy
    assert "yolo11n is the smallest of its family" in error.culprits
    enough = refusal(trained, large, of_large, tmp_path / "enough", latency_ms=1.1 * estimated)
    assert f"try --imgsz 96, estimated {estimated:.2f} ms" in enough.remedy


def test_smaller_model_of_the_family_is_named(small: Path, signs: Path, tmp_path: Path) -> None:
    """Its milliseconds are estimated by the network's own table; it is advised where it reaches the budget.

    Control: where it doesn't, it is named, and not advised.
    """
    content = torch.load(small, weights_only=False)
    scales = {"n": [1.0, 0.5, 1024], "s": [1.0, 1.0, 1024]}
    content["model"].yaml |= {"scales": scales, "scale": "s", "yaml_file": "yolov8s.yaml"}
    of_family = tmp_path / "s.pt"
    torch.save(content, of_family)
    nano = family_of(content["model"])
    assert nano is not None
    context = context_of(signs, Board(scale=1.0))
    tables = measured(of_family, context, tmp_path / "tables")
    # A cut keeps most of every layer: less than what the smaller model has never goes.
    error = refusal(of_family, context, tables, tmp_path / "none", target_fps=100_000.0, min_share=0.8)
    named = "yolov8n, which is smaller than yolov8s: estimated"
    estimated = figure(f"{named} # ms a frame", error)
    assert "train yolov8n" not in error.remedy
    torch.save({**content, "model": nano.smaller["yolov8n"]()}, tmp_path / "n.pt")
    smaller = measured(tmp_path / "n.pt", context, tmp_path / "smaller")
    assert estimated - 2.0 == pytest.approx(LatencyTable.load(smaller.tables[BUILD]).control_ms, rel=0.05)
    assert estimated - 2.0 < 0.6 * (figure(SMALLEST, error) - 2.0)
    enough = refusal(of_family, context, tables, tmp_path / "enough", latency_ms=1.1 * estimated, min_share=0.8)
    assert f"train yolov8n on these data, estimated {estimated:.2f} ms unpruned" in enough.remedy


def test_table_of_another_runtime_is_named(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """A build that latency.runtime left out is named with its figure, if its table is of this network and machine."""
    table = LatencyTable.load(tables.tables[BUILD])
    (tmp_path / "tables").mkdir()
    table.save(tmp_path / "tables" / f"{BUILD}.json")
    alone = replace(tables, tables={BUILD: tmp_path / "tables" / f"{BUILD}.json"})
    faster = {
        "per_layer_ms": table.fit.per_layer_ms / 4,
        "per_mb": table.fit.per_mb / 4,
        "per_weight_mb": 0.0,
        "constant_ms": 0.0,
    }
    changed = {"build": BuildName("ncnn", "fp16"), "fit": Fit(**faster)}
    beside = tmp_path / "tables" / "ncnn-fp16.json"
    error = refusal(small, context_of(signs, Board()), alone, tmp_path / "none", target_fps=100_000.0)
    budget = 0.9 * figure(SMALLEST, error)
    assert "ncnn" not in str(error)
    table.model_copy(update=changed).save(beside)
    error = refusal(small, context_of(signs, Board()), alone, tmp_path / "two", latency_ms=budget)
    ms = figure("ncnn-fp16: pruned as far as possible it is predicted to take # ms", error)
    assert f"set latency.runtime to ncnn-fp16, predicted {ms:.2f} ms" in error.remedy
    table.model_copy(update={**changed, "model_sha256": "0" * 64}).save(beside)
    error = refusal(small, context_of(signs, Board()), alone, tmp_path / "other", latency_ms=budget)
    assert "ncnn" not in str(error)


def test_choice_of_the_build_is_recorded(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """Of two builds the one that loses least is pruned for, and both are recorded; a build without a table is named.

    Control: with one table there is one choice, which loses as much as itself.
    """
    table = LatencyTable.load(tables.tables[BUILD])
    other = BuildName("ncnn", "fp16")
    slower = {
        "per_layer_ms": 1.3 * table.fit.per_layer_ms,
        "per_mb": table.fit.per_mb,
        "per_weight_mb": table.fit.per_weight_mb,
        "constant_ms": 0.0,
    }
    changed = {"build": other, "fit": Fit(**slower), "control_ms": 1.3 * table.control_ms}
    table.model_copy(update=changed).save(tmp_path / "ncnn-fp16.json")
    both = replace(tables, tables={**tables.tables, other: tmp_path / "ncnn-fp16.json"})
    context = with_int8(context_of(signs, Board(), progress=Remembers()))
    budget = table.overhead_ms + 0.7 * table.control_ms
    found = cut(small, context, both, tmp_path / "both", latency_ms=budget)
    first, second = found.choices
    assert (first.build, first.loss, second.build) == (BUILD, 1.0, other)
    assert second.loss > 1.05
    assert second.smallest_ms > first.smallest_ms
    assert f"(ncnn-fp16 {second.loss:.2f} times as much)" in context.progress.said
    assert list(found.without_table) == ["onnxruntime-int8"]
    alone = cut(small, context_of(signs, Board()), tables, tmp_path / "alone", latency_ms=budget)
    assert [choice.loss for choice in alone.choices] == [1.0]
    assert alone.without_table == {}
    error = refusal(small, context, both, tmp_path / "none", target_fps=100_000.0)
    assert "onnxruntime-int8: not predicted; what int8 itself loses" in str(error)


def with_int8(context: Context) -> Context:
    """The same call for a target that also has int8."""
    profile = context.profile
    choice = RuntimeChoice.model_validate({"runtime": "onnxruntime", "precisions": ["fp32", "int8"]})
    runtimes = [choice, *[one for one in profile.runtimes if one.runtime != "onnxruntime"]]
    return replace(context, profile=profile.model_copy(update={"runtimes": runtimes}))


def test_target_without_any_table(signs: Path) -> None:
    """A target that has only int8 can't be pruned to milliseconds: the message has the reason of every build."""
    context = context_of(signs, Board())
    choice = RuntimeChoice.model_validate({"runtime": "onnxruntime", "precisions": ["int8"]})
    only = replace(context, profile=context.profile.model_copy(update={"runtimes": [choice]}))
    with pytest.raises(SlimError, match="No build of host has a latency table") as error:
        latency.timed_builds(only)
    assert error.value.culprits[0].startswith("onnxruntime-int8: what int8 itself loses")
    assert latency.timed_builds(with_int8(context)) == [BUILD, BuildName("ncnn", "fp16")]


@pytest.mark.parametrize("given", [{}, None])
def test_cut_without_a_table(given: dict[str, Any] | None, small: Path, signs: Path, tmp_path: Path) -> None:
    """The Python API may be given none, or an empty mapping of them: one message, no traceback."""
    tables = None if given is None else LatencyOutputs(tables=given, page=Path(), request="0")
    with pytest.raises(SlimError, match=r"prune.target_fps.* needs a latency table, and none is given") as error:
        cut(small, context_of(signs, Board()), tables, tmp_path / "prune", target_fps=60.0)
    assert "yolo-slim latency" in error.value.remedy


@pytest.mark.parametrize(
    ("changes", "culprits"),
    [
        ({"model_sha256": "0" * 64}, ["model_sha256"]),
        ({"imgsz": 640, "target": "rpi5"}, ["imgsz: 640 there, 96 now", "target: rpi5 there, host now"]),
        ({"build": BuildName("ncnn", "fp16")}, ["build: ncnn-fp16 there, onnxruntime-fp32 now"]),
        (
            {"machine": DeviceFacts(model="Another Board", cores=4)},
            ["machine: Another Board there, Modelled Board now"],
        ),
        ({"machine": DeviceFacts(model="Modelled Board", cores=2)}, ["cores: 2 there, 4 now"]),
        (
            {"machine": DeviceFacts(model="Modelled Board", cores=4, runtimes={"onnxruntime": "1.2", "ncnn": "1"})},
            ["onnxruntime: 1.2 there, not set now"],
        ),
        ({"device": "pi@10.0.0.8"}, ["device: pi@10.0.0.8 there, board at 10.0.0.7 now"]),
        ({"activation": "relu"}, ["activation: relu there, none now"]),
        ({"grids": ()}, ["model.0.conv: 3x3 stride 2, 96x96, silu"]),
    ],
)
def test_table_of_something_else(
    changes: dict[str, Any], culprits: list[str], small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path
) -> None:
    """What a table was measured for and this call isn't is named; so is a kind of layer that it lacks."""
    table = LatencyTable.load(tables.tables[BUILD]).model_copy(update=changes)
    table.save(tmp_path / "table.json")
    given = replace(tables, tables={BUILD: tmp_path / "table.json"})
    with pytest.raises(SlimError, match="latency table") as error:
        cut(small, context_of(signs, Board()), given, tmp_path / "prune", target_fps=60.0)
    for culprit, found in zip(culprits, error.value.culprits, strict=True):
        assert found.startswith(culprit)
    assert "Measure the table again" in error.value.remedy


def test_cut_that_a_corrected_table_refuses(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Where the first cut takes far longer than predicted, the message has the milliseconds by the corrected table."""

    class Slower(ModelledDevice):
        """Pruned networks take twice as long as the table says."""

        def time_paired(self, *args: Any, **kwargs: Any) -> Any:
            found = super().time_paired(*args, **kwargs)
            return replace(found, after=tuple(2 * ms for ms in found.after))

    # The shipped network: the smallest cut of the small one is so small that no network of the fit is near it.
    tables = measured(trained, context_of(signs, ModelledDevice()), tmp_path / "tables")
    table = LatencyTable.load(tables.tables[BUILD])
    first = refusal(trained, context_of(signs, ModelledDevice()), tables, tmp_path / "first", target_fps=100_000.0)
    smallest = figure(SMALLEST, first)
    error = refusal(trained, context_of(signs, Slower()), tables, tmp_path / "prune", latency_ms=1.2 * smallest)
    assert figure(SMALLEST, error) - table.overhead_ms == pytest.approx(2 * (smallest - table.overhead_ms), rel=0.02)


def test_budget_that_is_reached_already(small: Path, signs: Path, tables: LatencyOutputs, tmp_path: Path) -> None:
    """There is nothing to prune, and the message says so."""
    with pytest.raises(SlimError, match="reaches the budget in onnxruntime-fp32: there is nothing to prune"):
        cut(small, context_of(signs, Board()), tables, tmp_path, target_fps=1.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"frame_ms": 9.0}, "the budget is 8.00 ms"),
        ({"map50_95_drop": None}, "what int8 loses wasn't measured"),
        ({"map50_95_drop": 0.01}, "int8 loses 0.0100 mAP50-95, quantize.max_drop is 0.003"),
        ({"invalid_reasons": ("busy",)}, "the timing doesn't count: busy"),
    ],
)
def test_unpruned_int8_that_is_cut_all_the_same(changes: dict[str, Any], reason: str) -> None:
    """It needn't be cut only where a timing that counts is inside the budget and int8 loses little."""
    found = Unpruned(**{"frame_ms": 7.0, "map50_95_drop": 0.003} | changes)
    assert found.why_not(8.0, 0.003) == reason
