"""What surrounds the timings of a latency table: which builds have one, versions, heat, pauses, damaged answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.helpers.devices import ModelledDevice
from yolo_slim.build_key import BuildName
from yolo_slim.config import targets
from yolo_slim.config.run import LatencyConfig, PruneConfig
from yolo_slim.devices.answers import NOT_ITS_SPEED
from yolo_slim.devices.base import Placed
from yolo_slim.errors import SlimError
from yolo_slim.latency_tables import builds_of
from yolo_slim.measuring.latency import LatencyOutputs, LatencyTable, unlike_network
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.runtime import bench
from yolo_slim.runtime.layers import LayerTimes
from yolo_slim.runtime.paired import Paired
from yolo_slim.stages import latency, network_meter, prune
from yolo_slim.stages.context import Context
from yolo_slim.stages.latency_meter import KINDS, planned
from yolo_slim.stages.network_meter import ANOTHER_SPEED
from yolo_slim.workspace import job
from yolo_slim.workspace.up_to_date import are_versions, changes

BUILD = BuildName("onnxruntime", "fp32")
QUICK = LatencyConfig(networks=4, checks=2, rounds=2, frames=1, control_seconds=0.1)


def context_of(data: Path, device: ModelledDevice, target: str = "host") -> Context:
    """Make the context of a call on a device."""
    return Context.load(data, target, imgsz=96, device=device)


def measured(model: Path, context: Context, folder: Path) -> LatencyOutputs:
    """Run the stage."""
    inputs = latency.LatencyInputs(model=model, pruning=PruneConfig(round_to=8))
    return latency.run(inputs, QUICK, [BUILD], folder, context)


def jobs(model: Path, context: Context, config: LatencyConfig) -> tuple[job.Job, job.Job]:
    """The job of a table, and of a cut that is made by it."""
    inputs = latency.LatencyInputs(model=model, pruning=PruneConfig(round_to=8))
    table = latency.job_of(inputs, config, [BUILD], Path(), context)
    found = LatencyOutputs(tables={}, page=Path(), request=table.request)
    given = prune.PruneInputs(model=model, latency=found, timing=QUICK)
    return table, prune.job_of(given, PruneConfig(latency_ms=9.0, round_to=8), Path(), context)


def test_update_of_a_package_keeps_a_finished_cut(small: Path, signs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other versions measure the table anew, but are no change of what the cut was asked for; a setting is one."""
    context = context_of(signs, ModelledDevice())
    before = [one.identity for one in jobs(small, context, QUICK)]
    monkeypatch.setattr(job, "version", lambda package: f"99 of {package}")
    after = [one.identity for one in jobs(small, context, QUICK)]
    table, cut = (changes(*pair) for pair in zip(before, after, strict=True))
    assert {"onnxruntime", "torch"} <= {change.key for change in table}
    assert are_versions(table)
    assert are_versions(cut)
    _, other = jobs(small, context, QUICK.model_copy(update={"rounds": 99}))
    assert not are_versions(changes(before[1], other.identity))


def test_update_on_the_device_measures_anew(small: Path, signs: Path) -> None:
    """Another version of its runtime there makes a table stale, but no cut; that of another runtime doesn't."""

    def made(**versions: str) -> tuple[job.Job, job.Job]:
        device = ModelledDevice()
        device.runtimes = versions
        return jobs(small, context_of(signs, device), QUICK)

    (table, cut), (other, other_cut) = made(onnxruntime="1.23"), made(onnxruntime="1.24")
    (change,) = changes(table.identity, other.identity)
    assert str(change) == "onnxruntime of the device 1.23 -> 1.24"
    assert change.is_version
    assert table.request == other.request
    assert changes(cut.identity, other_cut.identity) == []
    same, _ = made(onnxruntime="1.23", ncnn="1")
    assert same.fingerprint == table.fingerprint


def with_runtimes(context: Context, **precisions: tuple[str, ...]) -> Context:
    """A context whose target has these builds alone."""
    runtimes = [{"runtime": name, "precisions": list(found)} for name, found in precisions.items()]
    values = {**context.profile.model_dump(exclude_unset=True), "runtimes": runtimes}
    return replace(context, profile=type(context.profile).model_validate(values))


@pytest.mark.parametrize("others", [{}, {"tensorrt": ("int8",)}])
def test_target_without_a_build_that_can_be_timed(others: dict[str, tuple[str, ...]], signs: Path) -> None:
    """A target that has only int8, in one runtime or two, is refused with its builds; with a float one it is not."""
    context = context_of(signs, ModelledDevice())
    with pytest.raises(SlimError, match="No build of host has a latency table") as error:
        latency.timed_builds(with_runtimes(context, onnxruntime=("int8",), **others))
    named = [one.partition(":")[0] for one in error.value.culprits]
    assert named == ["onnxruntime-int8", *(f"{name}-{one[0]}" for name, one in others.items())]
    assert latency.timed_builds(with_runtimes(context, onnxruntime=("int8", "fp32"), **others)) == [BUILD]


def test_engines_are_built_on_the_device_and_timed(small: Path, signs: Path, tmp_path: Path) -> None:
    """TensorRT times no single layer: they are counted. The cut still meets its budget, by what the device measured."""
    device = ModelledDevice()
    context = context_of(signs, device, "jetson-orin-nano")
    tensorrt = BuildName("tensorrt", "fp16")
    assert latency.timed_builds(context) == [tensorrt]
    inputs = latency.LatencyInputs(model=small, pruning=PruneConfig(round_to=8))
    found = latency.run(inputs, QUICK, [tensorrt], tmp_path / "tables", context)
    assert "layers" not in device.asked
    # An engine of every network, and of the unpruned one.
    assert device.asked.count("build") == QUICK.networks + QUICK.checks + 1
    table = LatencyTable.load(found.tables[tensorrt])
    assert all(grid.is_computed for grid in table.grids)
    assert "they count by their multiply-accumulates" in "\n".join(unlike_network(table))
    # The board computes 32 channels at once, which multiply-accumulates don't show.
    assert table.error.worst < 0.25
    budget = table.overhead_ms + 0.7 * table.control_ms
    given = prune.PruneInputs(model=small, latency=found, timing=QUICK)
    outputs = prune.run(given, PruneConfig(latency_ms=budget, round_to=8), tmp_path / "pruned", context)
    kept = LatencyCut.model_validate_json(outputs.latency.read_text(encoding="utf-8"))
    assert 0.9 * budget < kept.measured_ms <= budget
    # Negative control: ONNX Runtime's table of the same board times its layers.
    timed = LatencyTable.load(measured(small, context_of(signs, device), tmp_path / "host").tables[BUILD])
    assert not any(grid.is_computed for grid in timed.grids)
    assert unlike_network(timed) == []


@pytest.mark.parametrize("name", ["onnxruntime-int8", "tensorrt-int8"])
def test_int8_that_the_settings_name(name: str, small: Path, signs: Path, tmp_path: Path) -> None:
    """Int8 has a table, and a cut that meets its budget, if it is named; unnamed it has none (control)."""
    build = BuildName.parse(name)
    device = ModelledDevice()
    context = with_runtimes(context_of(signs, device, "jetson-orin-nano"), **{build.runtime: ("int8", "fp16")})
    assert build not in latency.timed_builds(context)
    assert build in latency.nameable_builds(context)
    assert builds_of(LatencyConfig(runtime=name), context) == [build]
    assert build not in builds_of(LatencyConfig(runtime=build.runtime), context)
    placed: list[set[str]] = []

    def put(bundle: Path) -> Placed:
        graph = onnx.load(bundle / "model.onnx").graph
        placed.append({node.op_type for node in graph.node})
        return ModelledDevice.put(device, bundle)

    device.put = put  # type: ignore[method-assign]
    inputs = latency.LatencyInputs(model=small, pruning=PruneConfig(round_to=8))
    found = latency.run(inputs, QUICK, [build], tmp_path / "tables", context)
    assert "layers" not in device.asked
    budget_of = LatencyTable.load(found.tables[build])
    budget = budget_of.overhead_ms + 0.7 * budget_of.control_ms
    given = prune.PruneInputs(model=small, latency=found, timing=QUICK)
    outputs = prune.run(given, PruneConfig(latency_ms=budget, round_to=8), tmp_path / "pruned", context)
    kept = LatencyCut.model_validate_json(outputs.latency.read_text(encoding="utf-8"))
    assert 0.9 * budget < kept.measured_ms <= budget
    assert kept.build == build
    assert kept.without_table == {}
    # What was timed is the network in int8, each time.
    assert len(placed) == QUICK.networks + QUICK.checks + 2 + len(kept.cuts)
    assert all({"QuantizeLinear", "DequantizeLinear"} <= operators for operators in placed)


def test_layers_that_stay_float(small: Path, signs: Path, tmp_path: Path) -> None:
    """Networks that are timed in int8 keep the named layers float, and the table says which; else none."""
    build = BuildName("onnxruntime", "int8")
    quantized: list[int] = []

    class Counting(ModelledDevice):
        def put(self, bundle: Path) -> Placed:
            graph = onnx.load(bundle / "model.onnx").graph
            weights = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
            quantized.append(sum(node.op_type == "Conv" and node.input[1] in weights for node in graph.node))
            names.update(node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in weights)
            return super().put(bundle)

    names: set[str] = set()
    context = with_runtimes(context_of(signs, Counting()), onnxruntime=("int8", "fp32"))
    inputs = latency.LatencyInputs(model=small, pruning=PruneConfig(round_to=8))
    whole = latency.run(inputs, QUICK, [build], tmp_path / "whole", context)
    assert len(set(quantized)) == 1
    every, some = quantized[0], tuple(sorted(names))[:2]
    quantized.clear()
    kept = latency.run(replace(inputs, kept_float=some), QUICK, [build], tmp_path / "kept", context)
    assert set(quantized) == {every - 2}
    found = [LatencyTable.load(one.tables[build]).kept_float for one in (whole, kept)]
    assert found == [(), some]
    # An update may let others stay float: the table is another one, and what was asked for the same.
    assert whole.request == kept.request
    first, second = (
        latency.job_of(replace(inputs, kept_float=layers), QUICK, [build], tmp_path, context) for layers in ((), some)
    )
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("changed", "builds"),
    [
        ({"tensorrt": {"optimization_level": 4}}, {"tensorrt-fp16": True}),
        ({"channel_multiple": 32}, {"tensorrt-fp16": True, "onnxruntime-fp32": False}),
    ],
)
def test_settings_of_the_target_that_decide_milliseconds(
    changed: dict[str, Any], builds: dict[str, bool], small: Path, signs: Path
) -> None:
    """Another way to build the engine, or to count, is another table; a timed table doesn't depend on counting."""
    inputs = latency.LatencyInputs(model=small, pruning=PruneConfig(round_to=32))
    for name, is_other in builds.items():
        build = BuildName.parse(name)
        context = context_of(signs, ModelledDevice(), "jetson-orin-nano")
        values = {**context.profile.model_dump(exclude_unset=True), **changed}
        other = replace(context, profile=type(context.profile).model_validate(values))
        first, second = (latency.job_of(inputs, QUICK, [build], Path(), one) for one in (context, other))
        assert (first.fingerprint != second.fingerprint) == is_other
        found = [latency.decided_by(one.profile, build) for one in (context, other)]
        assert (found[0] != found[1]) == is_other


def test_networks_of_every_kind_reach_the_hardest() -> None:
    """The line is fitted to three kinds; none ends where the checks go on."""
    for networks in (3, 4, 9, 11):
        plan = planned(networks, 4)
        fits = [hardness for role, hardness in plan if role == "fit"]
        assert len(fits) == networks
        for kind in range(KINDS):
            assert fits[kind::KINDS][-1] == 1
            assert fits[kind::KINDS] == sorted(set(fits[kind::KINDS]))
        assert [hardness for role, hardness in plan if role == "check"] == [0, 1 / 3, 2 / 3, 1]


def test_runtime_that_cannot_run_the_graph(signs: Path) -> None:
    """NCNN has no bundle of an end2end graph, so it is no build to prune for; of another graph it is one (control)."""
    context = context_of(signs, ModelledDevice())
    ncnn = BuildName("ncnn", "fp16")
    assert latency.timed_builds(context) == [BUILD, ncnn]
    end2end = replace(context, end2end=True)
    assert latency.timed_builds(end2end) == [BUILD]
    assert "can't run an end2end graph" in latency.without_table(end2end)[ncnn]


def test_limit_of_temperature_is_the_targets(small: Path, signs: Path, tmp_path: Path) -> None:
    """Every timing of a table has the limit of the target; on another machine there is none."""
    limit = targets.load("rpi5").thermal.max_celsius
    assert limit is not None
    for is_target, limits in ((True, {limit}), (False, {None})):
        device = ModelledDevice()
        device.answer = is_target
        context = context_of(signs, device, "rpi5")
        measured(small, context, tmp_path / str(is_target))
        assert device.limits == limits
        assert {"layers", "time_paired", "bench"} <= set(device.asked)


def test_repeated_timing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy device gets a pause before it is timed again; a quiet and an emulated one are timed once."""
    pauses: list[float] = []
    monkeypatch.setattr(bench, "PAUSE_S", 5.0)
    monkeypatch.setattr(network_meter.time, "sleep", pauses.append)
    for reasons, expected in (("busy",), 2), ((), 0), ((NOT_ITS_SPEED,), 0):
        pauses.clear()
        network_meter.until_it_counts(lambda: LayerTimes(ms={}, threads=1, invalid_reasons=reasons))  # noqa: B023
        assert pauses == [5.0] * expected


class Unsteady(ModelledDevice):
    """It needs a multiple of its time in some timings of two networks; the cut is slowed less than the unpruned one."""

    def __init__(self, slow: set[int], factor: float) -> None:
        super().__init__()
        self.slow, self.factor, self.calls = slow, factor, 0

    def time_paired(self, *args: Any, **kwargs: Any) -> Paired:
        """Compute, and slow down."""
        found = super().time_paired(*args, **kwargs)
        self.calls += 1
        if self.calls not in self.slow:
            return found
        return replace(found, before=tuple(self.factor * ms for ms in found.before))


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_another_speed(factor: float, small: Path, signs: Path, tmp_path: Path) -> None:
    """A timing in which the unpruned network takes clearly more or less than usual is repeated until it doesn't."""
    usual = LatencyTable.load(measured(small, context_of(signs, ModelledDevice()), tmp_path / "usual").tables[BUILD])
    device = Unsteady({4, 5, 8}, factor)
    table = LatencyTable.load(measured(small, context_of(signs, device), tmp_path / "unsteady").tables[BUILD])
    assert device.calls == len(table.networks) - 1 + 3
    assert not table.invalid_reasons
    assert [one.ms for one in table.networks] == pytest.approx([one.ms for one in usual.networks])


def test_first_timing_at_another_speed(small: Path, signs: Path, tmp_path: Path) -> None:
    """Most timings decide what is usual: where the first one was at another speed, the next call repeats it alone."""
    device = Unsteady({1}, 2.0)
    context = context_of(signs, device)
    first = LatencyTable.load(measured(small, context, tmp_path / "tables").tables[BUILD])
    assert ANOTHER_SPEED in first.invalid_reasons
    calls = device.calls
    second = LatencyTable.load(measured(small, context, tmp_path / "tables").tables[BUILD])
    assert (device.calls - calls, second.invalid_reasons) == (1, ())


def test_doesnt_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device stays at another speed, a timing waits so often, and all of them together only so often."""
    monkeypatch.setattr(network_meter.time, "sleep", lambda _: None)
    patience, calls = network_meter.Patience(waits=network_meter.MOST_WAITS + 1), []

    def time_once() -> LayerTimes:
        calls.append(1)
        return LayerTimes(ms={}, threads=1, invalid_reasons=(network_meter.ANOTHER_SPEED,))

    for expected in (1 + network_meter.MOST_WAITS, 1):
        calls.clear()
        assert network_meter.until_it_counts(time_once, patience).invalid_reasons
        assert len(calls) == expected


def test_answer_that_lacks_a_layer(small: Path, signs: Path, tmp_path: Path) -> None:
    """A device that leaves a convolution out is told, with its name."""

    class Forgets(ModelledDevice):
        def time_layers(self, layers: Path, **limits: Any) -> LayerTimes:
            found = super().time_layers(layers, **limits)
            return replace(found, ms=dict(list(found.ms.items())[1:]))

    with pytest.raises(SlimError, match=r"timing of layers is damaged: it lacks \d+-\d+\."):
        measured(small, context_of(signs, Forgets()), tmp_path / "tables")
