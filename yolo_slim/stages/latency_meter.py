"""Measure latency tables: single convolutions over a grid of widths, if they can be timed, then whole networks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from yolo_slim.backends import backend, engine_builder
from yolo_slim.backends.layers import LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.config.run import LatencyConfig
from yolo_slim.devices.base import BenchSettings, Placed, celsius_limit
from yolo_slim.measuring.latency import LatencyTable, TimedNetwork, counting, fitted, unlike_network
from yolo_slim.measuring.layer_graphs import name_of, times_layers, write
from yolo_slim.measuring.layer_grids import LayerGrid, computed_grid, grid_from, layers_of_grid
from yolo_slim.measuring.measured_files import MeasuredFiles
from yolo_slim.measuring.validation_images import ValidationImages
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import with_activation
from yolo_slim.models.layer_kinds import layer_kinds, timed_as_silu
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.latency import LatencyModel, largest_widths, make_latency_model
from yolo_slim.pruning.random_cuts import RandomCuts
from yolo_slim.pruning.slots import widths_of
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.runtime.paired import IMAGES
from yolo_slim.stages.context import Context
from yolo_slim.stages.latency import LatencyInputs, decided_by, job_of
from yolo_slim.stages.latency_timings import ControlTime, Measured, NetworkTime, network_name
from yolo_slim.stages.network_meter import NetworkMeter, may_count_later, scratch_folder, until_it_counts
from yolo_slim.workspace.job import Job, versions

KINDS = 3
"""Kinds of cut networks, see :class:`yolo_slim.pruning.random_cuts.RandomCuts`."""


@dataclass(frozen=True, kw_only=True)
class LatencyMeter:
    """Measures the tables of one network; what was measured before for the same build is read."""

    job: Job
    parts: Mapping[BuildName, Job]
    """The job of every build alone, so that a measurement is found again beside other builds."""
    loaded: checkpoint.Checkpoint
    config: LatencyConfig
    builds: Sequence[BuildName]
    context: Context
    kinds: Mapping[str, LayerKind]
    """The kind of every convolution by its name."""
    cuts: RandomCuts
    images: ValidationImages
    activation: str
    """``recover.activation``."""
    as_silu: tuple[str, ...]
    """Activations whose convolutions are timed with SiLU."""
    kept_float: tuple[str, ...]
    """Convolutions that stay float in an int8 build."""

    def measure(self) -> list[LatencyTable]:
        """Measure everything."""
        began = time.monotonic()
        with scratch_folder() as scratch:
            meter = self._meter(scratch)
            onnx = meter.export(self.loaded.model, scratch / "control.onnx")
            found = {build: self._begun(meter, meter.place(onnx, build), build) for build in self.builds}
            layers_began = time.monotonic()
            for build, measured in found.items():
                measured.grids += self._grids(build, scratch)
            layer_seconds = (time.monotonic() - layers_began) / len(self.builds)
            self._time_networks(meter, found, scratch)
        seconds = (time.monotonic() - began) / len(self.builds)
        return [self._table(build, measured, layer_seconds, seconds) for build, measured in found.items()]

    def _table(self, build: BuildName, measured: Measured, layer_seconds: float, seconds: float) -> LatencyTable:
        """Put a build's measurements together."""
        context = self.context
        table = LatencyTable(
            model_sha256=self.loaded.sha256,
            imgsz=context.imgsz,
            target=context.profile.name,
            build=build,
            threads=context.profile.threads,
            machine=context.device.facts(),
            device="" if context.device.is_here else context.device.name,
            activation=self.activation,
            as_silu=self.as_silu if times_layers(build) else (),
            kept_float=self.kept_float if build.precision == "int8" else (),
            target_settings=decided_by(context.profile, build),
            is_measured_on_target=context.device.is_target(context.profile),
            measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=context.command,
            versions=versions()
            if engine_builder(build.runtime)
            else {**versions(), **backend(build.runtime).versions()},
            control_ms=measured.control.control_ms,
            paired_ms=measured.usual_ms,
            overhead_ms=measured.control.overhead_ms,
            grids=tuple(measured.grids),
            networks=tuple(measured.networks),
            fit=fitted(counting([one for one in measured.networks if one.role == "fit"])),
            layer_seconds=round(layer_seconds, 1),
            seconds=round(seconds, 1),
            invalid_reasons=measured.invalid_reasons,
        )
        for line in unlike_network(table):
            context.progress.say(f"latency: {build}: {line}")
        context.progress.say(
            f"latency: {build}: unpruned {table.control_ms:.2f} ms of inference and {table.overhead_ms:.2f} ms of pre- "
            f"and post-processing; the table's error: {table.error}"
        )
        if table.invalid_reasons:
            again = "; the next call measures them again" if may_count_later(table) else ""
            context.progress.say(
                f"latency: WARNING: {build}: timings that don't count: {'; '.join(table.invalid_reasons)}. The table "
                f"is used{again}"
            )
        return table

    @property
    def _limit(self) -> float | None:
        return celsius_limit(self.context.device, self.context.profile)

    def _files(self, build: BuildName) -> MeasuredFiles:
        return MeasuredFiles(job=self.parts[build], name="parts")

    def _meter(self, scratch: Path) -> NetworkMeter:
        return NetworkMeter(
            loaded=self.loaded, rounds=self.config.rounds, frames=self.config.frames, context=self.context,
            images=self.images.link_timed(scratch / "images"), log=self.job.folder / "export.log",
            kept_float=self.kept_float,
        )  # fmt: skip

    def _begun(self, meter: NetworkMeter, placed: Placed, build: BuildName) -> Measured:
        """Time the unpruned network end to end."""
        files, name = self._files(build), f"{build}-control"
        found = files.read(ControlTime, name)
        if found is None or may_count_later(found):
            settings = BenchSettings(
                seconds=self.config.control_seconds, queries=64, repeats=REPEATS, max_celsius=self._limit
            )
            bench = self.context.device.bench(placed, meter.images, settings)
            infer = bench.stages.infer.p50_ms
            found = ControlTime(
                control_ms=infer,
                overhead_ms=max(bench.stages.total.p50_ms - infer, 0.0),
                invalid_reasons=bench.invalid_reasons,
            )
            files.write(name, found)
        names = (f"{build}-{network_name(index)}" for index in range(self.config.networks + self.config.checks))
        before = [one for name in names if (one := files.read(NetworkTime, name))]
        return Measured(
            placed=placed, control=found, grids=[], networks=[], unpruned=[one.unpruned_ms for one in before]
        )

    def _grids(self, build: BuildName, scratch: Path) -> list[LayerGrid]:
        """Time every kind of convolution over its widths, or count it."""
        largest = sorted(largest_widths(self.cuts.graph, self.cuts.slots, self.kinds).items())
        progress, text, grids = self.context.progress, f"latency: convolutions in {build}", []
        for number, (kind, widths) in enumerate(largest):
            progress.step(text, number, len(largest))
            grids.append(self._grid(build, kind, widths, scratch / f"{build}-layer-{number:02d}.json"))
        progress.step(text, len(largest), len(largest))
        return grids

    def _grid(self, build: BuildName, kind: LayerKind, widths: tuple[int, int], file: Path) -> LayerGrid:
        """Time one kind, whose layers the device gets as ``file``; count it where the runtime can't time layers."""
        if not times_layers(build):
            return computed_grid(kind, *widths, self.context.profile.channel_multiple)
        files = self._files(build)
        before = files.read(LayerGrid, file.stem)
        if before is not None and before.kind == kind and not may_count_later(before):
            return before
        layers = layers_of_grid(kind, *widths)
        write(file, layers, build, self.context.profile.threads)
        times = until_it_counts(lambda: self.context.device.time_layers(file, max_celsius=self._limit))
        times.require(map(name_of, layers))
        ms = {(layer.inputs, layer.outputs): times.ms[name_of(layer)] for layer in layers}
        found = grid_from(kind, *widths, ms, times.invalid_reasons)
        files.write(file.stem, found)
        return found

    def _time_networks(self, meter: NetworkMeter, found: Mapping[BuildName, Measured], scratch: Path) -> None:
        """Time cut networks; the unpruned one is the first that the line is fitted to."""
        plan = planned(self.config.networks, self.config.checks)
        total, timed = len(plan), []
        for index, (role, hardness) in enumerate(plan):
            self.context.progress.step("latency: networks", index, total)
            keep = self._widths(index, hardness, list(found.values()))
            times = self._times(meter, found, keep, scratch / f"{network_name(index)}.onnx")
            timed.append((f"cut {index}", role, keep, times))
        self.context.progress.step("latency: networks", total, total)
        for build, measured in found.items():
            measured.networks.append(self._unpruned(measured))
            # What usually holds is known when all are timed.
            measured.networks += [
                self._network(name, role, measured, keep, measured.judged(times[build]))
                for name, role, keep, times in timed
            ]

    def _unpruned(self, measured: Measured) -> TimedNetwork:
        control = NetworkTime(
            widths=(), ratio=1.0, unpruned_ms=measured.control.control_ms,
            invalid_reasons=measured.control.invalid_reasons,
        )  # fmt: skip
        return self._network("unpruned", "fit", measured, widths_of(self.cuts.slots), control)

    def _widths(self, index: int, hardness: float, found: Sequence[Measured]) -> np.ndarray:
        """Widths of one network: in turns random ones, searched ones and deep ones; builds take turns too."""
        kind = index % KINDS
        if not kind:
            return self.cuts.widths(index, hardness=hardness)
        cost = self._alone(found[index % len(found)])
        return self.cuts.searched(index, cost, hardness=hardness, deep=kind == 2)

    def _alone(self, measured: Measured) -> LatencyModel:
        """What the convolutions of a build take alone."""
        return make_latency_model(self.cuts.graph, self.cuts.slots, self.kinds, measured.grids)

    def _times(
        self, meter: NetworkMeter, found: Mapping[BuildName, Measured], keep: np.ndarray, onnx: Path
    ) -> dict[BuildName, NetworkTime]:
        """Time one network in every build, in turns with the unpruned one; it is exported once, if at all."""
        widths, times = tuple(map(int, keep)), {}
        for build, measured in found.items():
            files, name = self._files(build), f"{build}-{onnx.stem}"
            timed = files.read(NetworkTime, name)
            if timed is None or timed.widths != widths or may_count_later(measured.judged(timed)):
                if not onnx.is_file():
                    meter.export(self.cuts.cut(self.loaded.model, keep), onnx)
                pair = meter.compare(measured.placed, meter.place(onnx, build), measured.usual_ms)
                measured.unpruned.append(pair.ms_before)
                timed = NetworkTime(
                    widths=widths, ratio=pair.ratio, unpruned_ms=pair.ms_before, invalid_reasons=pair.invalid_reasons
                )
                files.write(name, timed)
            times[build] = timed
        return times

    def _network(self, name: str, role: str, measured: Measured, keep: np.ndarray, timed: NetworkTime) -> TimedNetwork:
        """Describe a network by what its convolutions take alone, beside what it took."""
        load = self._alone(measured).load(keep)
        return TimedNetwork(
            name=name, role=role, layers_ms=load.layers_ms, moved_mb=load.moved_mb, weights_mb=load.weights_mb,
            ms=measured.control.control_ms * timed.ratio,
            invalid_reasons=timed.invalid_reasons,
        )  # fmt: skip


def planned(networks: int, checks: int) -> list[tuple[str, float]]:
    """The role and the hardness of every network that is cut.

    Each kind of those that the line is fitted to goes evenly up to the hardest: the unpruned network is the mildest of
    all. What is predicted of networks beyond those of the fit is worth little.
    """
    fits = [("fit", (index // KINDS + 1) / len(range(index % KINDS, networks, KINDS))) for index in range(networks)]
    return fits + [("check", place / (checks - 1)) for place in range(checks)]


def latency_meter(
    job: Job, inputs: LatencyInputs, config: LatencyConfig, builds: Sequence[BuildName], context: Context
) -> LatencyMeter:
    """Load what is measured.

    Raises:
        SlimError: an unusable checkpoint, or layers that no table has.
    """
    found = checkpoint.load(inputs.model)
    loaded = replace(found, model=with_activation(found.model, inputs.activation))
    checkpoint.require_imgsz(loaded, context.imgsz)
    checkpoint.require_end2end(loaded, asked=context.end2end)
    graph = trace_channels(loaded.model, context.imgsz)
    exported = exported_layers(loaded.model, end2end=context.end2end)
    terms = make_terms(loaded.model, graph, inputs.pruning, exported, {})
    kinds = layer_kinds(loaded.model, context.imgsz, exported)
    return LatencyMeter(
        job=job, parts={build: job_of(inputs, config, [build], job.folder, context) for build in builds},
        loaded=loaded, config=config, builds=builds, context=context,
        kinds={name: kind for name, kind in kinds.items() if name in graph.convs},
        cuts=RandomCuts(
            graph=graph, slots=decide_unscored(graph, terms), round_to=terms.round_to, seed=context.seed
        ),
        images=ValidationImages.of(context.dataset, IMAGES),
        activation=inputs.activation, as_silu=timed_as_silu(loaded.model, exported & graph.convs.keys()),
        kept_float=inputs.kept_float,
    )  # fmt: skip
