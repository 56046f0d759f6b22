"""Measure latency tables: single convolutions over a grid of widths, then whole networks that were cut at random."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import numpy as np

from yolo_slim.backends import backend
from yolo_slim.backends.layers import LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.config.record import Record
from yolo_slim.config.run import LatencyConfig
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.measuring.latency import (
    Fit,
    LatencyTable,
    LayerGrid,
    TimedNetwork,
    fitted,
    grid_from,
    layers_of_grid,
)
from yolo_slim.measuring.layer_graphs import name_of, write
from yolo_slim.measuring.measured_files import MeasuredFiles
from yolo_slim.measuring.validation_images import ValidationImages
from yolo_slim.models import checkpoint
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import Terms, decide_unscored, make_terms
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.groups import ChannelGraph, trace_channels
from yolo_slim.pruning.latency import largest_widths, make_latency_model
from yolo_slim.pruning.magnitude import label_count
from yolo_slim.pruning.plan import kept_labels, make_plan
from yolo_slim.pruning.slots import Slot, round_up, widths_of
from yolo_slim.pruning.surgery import apply_plan
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.stages.context import Context
from yolo_slim.stages.latency import LatencyInputs
from yolo_slim.stages.network_meter import NetworkMeter, can_be_repeated
from yolo_slim.workspace.job import Job, versions

LEAST_CUT, MOST_CUT, SPREAD = 0.1, 0.7, 0.25
"""Share of its channels that a layer of the random networks loses: from the mildest to the hardest network, and how far
a single layer is from its network's share."""
NO_FIT = Fit(per_layer_ms=1.0, per_mb=0.0, constant_ms=0.0)


class ControlTime(Record):
    """The unpruned network."""

    control_ms: float
    """Median inference, milliseconds."""
    overhead_ms: float
    """Median pre- and post-processing."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count."""


class NetworkTime(Record):
    """A network that was cut at random."""

    ratio: float
    """Its inference in units of the unpruned network's: median of the rounds."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count."""


@dataclass(frozen=True, kw_only=True)
class LatencyMeter:
    """Measures the tables of one network."""

    job: Job
    loaded: checkpoint.Checkpoint
    config: LatencyConfig
    builds: Sequence[BuildName]
    context: Context
    graph: ChannelGraph
    slots: list[Slot]
    terms: Terms
    images: ValidationImages

    def measure(self) -> list[LatencyTable]:
        """Measure everything; what the same job measured before is read."""
        began = time.monotonic()
        with _scratch() as scratch:
            meter = self._meter(scratch)
            onnx = meter.export(self.loaded.model, scratch / "control.onnx")
            placed = {build: meter.place(onnx, build) for build in self.builds}
            controls = {build: self._control(meter, build, placed[build]) for build in self.builds}
            layers_began = time.monotonic()
            grids = {build: self._grids(build, scratch) for build in self.builds}
            layer_seconds = (time.monotonic() - layers_began) / len(self.builds)
            networks = self._networks(meter, placed, controls, grids, scratch)
        seconds = (time.monotonic() - began) / len(self.builds)
        return [
            self._table(build, controls[build], grids[build], networks[build], layer_seconds, seconds)
            for build in self.builds
        ]

    def _table(
        self,
        build: BuildName,
        control: ControlTime,
        grids: Sequence[LayerGrid],
        networks: Sequence[TimedNetwork],
        layer_seconds: float,
        seconds: float,
    ) -> LatencyTable:
        """Put a build's measurements together."""
        context = self.context
        reasons = list(control.invalid_reasons)
        reasons += [reason for grid in grids for reason in grid.invalid_reasons]
        reasons += [reason for network in networks for reason in network.invalid_reasons]
        table = LatencyTable(
            model_sha256=self.loaded.sha256,
            imgsz=context.imgsz,
            target=context.profile.name,
            build=build,
            threads=context.profile.threads,
            machine=context.device.facts(),
            is_measured_on_target=context.device.is_target(context.profile),
            measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=context.command,
            versions={**versions(), **backend(build.runtime).versions()},
            control_ms=control.control_ms,
            overhead_ms=control.overhead_ms,
            grids=tuple(grids),
            networks=tuple(networks),
            fit=fitted([one for one in networks if one.role == "fit"]),
            layer_seconds=round(layer_seconds, 1),
            seconds=round(seconds, 1),
            invalid_reasons=tuple(sorted(set(reasons))),
        )
        context.progress.say(
            f"latency: {build}: unpruned {table.control_ms:.2f} ms of inference and {table.overhead_ms:.2f} ms of pre- "
            f"and post-processing; the table's error: {table.error}"
        )
        return table

    @property
    def _files(self) -> MeasuredFiles:
        return MeasuredFiles(job=self.job, name="parts")

    def _meter(self, scratch: Path) -> NetworkMeter:
        return NetworkMeter(
            loaded=self.loaded,
            rounds=self.config.rounds,
            frames=self.config.frames,
            context=self.context,
            images=self.images.link_timed(scratch / "images"),
            log=self.job.folder / "export.log",
        )

    def _control(self, meter: NetworkMeter, build: BuildName, placed: Placed) -> ControlTime:
        """Time the unpruned network end to end."""
        name = f"{build}-control"
        found = self._files.read(ControlTime, name)
        if found is not None and not found.invalid_reasons:
            return found
        settings = BenchSettings(seconds=self.config.control_seconds, queries=64, repeats=REPEATS)
        bench = self.context.device.bench(placed, meter.images, settings)
        infer = bench.stages.infer.p50_ms
        timed = ControlTime(
            control_ms=infer,
            overhead_ms=max(bench.stages.total.p50_ms - infer, 0.0),
            invalid_reasons=bench.invalid_reasons,
        )
        self._files.write(name, timed)
        return timed

    @cached_property
    def kinds(self) -> dict[str, LayerKind]:
        """The kind of every convolution by its name."""
        found = layer_kinds(self.loaded.model, self.context.imgsz, self.terms.exported)
        return {name: kind for name, kind in found.items() if name in self.graph.convs}

    def _grids(self, build: BuildName, scratch: Path) -> list[LayerGrid]:
        """Time every kind of convolution over its widths."""
        largest = largest_widths(self.graph, self.slots, self.kinds)
        grids = []
        for done, (kind, widths) in enumerate(sorted(largest.items())):
            self.context.progress.step(f"latency: convolutions in {build}", done, len(largest))
            grids.append(self._grid(build, kind, widths, done, scratch))
        self.context.progress.step(f"latency: convolutions in {build}", len(largest), len(largest))
        return grids

    def _grid(
        self, build: BuildName, kind: LayerKind, widths: tuple[int, int], number: int, scratch: Path
    ) -> LayerGrid:
        """Time one kind; a timing that other programs disturbed is repeated."""
        name = f"{build}-layer-{number:02d}"
        before = self._files.read(LayerGrid, name)
        if before is not None and before.kind == kind and not before.invalid_reasons:
            return before
        layers = layers_of_grid(kind, *widths)
        file = scratch / f"{name}.json"
        write(file, layers, build, self.context.profile.threads)
        for _ in range(REPEATS + 1):
            times = self.context.device.time_layers(file)
            if not can_be_repeated(times.invalid_reasons):
                break
        ms = {(layer.inputs, layer.outputs): times.ms[name_of(layer)] for layer in layers}
        found = grid_from(kind, *widths, ms, times.invalid_reasons)
        self._files.write(name, found)
        return found

    def _networks(
        self,
        meter: NetworkMeter,
        placed: dict[BuildName, Placed],
        controls: dict[BuildName, ControlTime],
        grids: dict[BuildName, list[LayerGrid]],
        scratch: Path,
    ) -> dict[BuildName, list[TimedNetwork]]:
        """Time the unpruned network and networks that were cut at random."""
        full = widths_of(self.slots)
        found = {
            build: [self._network("unpruned", "fit", grids[build], build, full, controls[build].control_ms)]
            for build in self.builds
        }
        count = self.config.networks + self.config.checks
        for index in range(count):
            self.context.progress.step("latency: networks", index, count)
            keep = self._random_widths(index)
            onnx: Path | None = None
            for build in self.builds:
                name = f"{build}-network-{index:02d}"
                timed = self._files.read(NetworkTime, name)
                if timed is None or timed.invalid_reasons:
                    onnx = onnx or self._exported(meter, keep, scratch / f"network-{index:02d}.onnx")
                    timed = self._timed(meter, placed[build], meter.place(onnx, build))
                    self._files.write(name, timed)
                role = "fit" if index < self.config.networks else "check"
                ms = controls[build].control_ms * timed.ratio
                network = self._network(f"random {index}", role, grids[build], build, keep, ms)
                found[build].append(network.model_copy(update={"invalid_reasons": timed.invalid_reasons}))
        self.context.progress.step("latency: networks", count, count)
        return found

    def _timed(self, meter: NetworkMeter, unpruned: Placed, cut: Placed) -> NetworkTime:
        """Time one network in turns with the unpruned one; a timing that other programs disturbed is repeated."""
        for _ in range(REPEATS + 1):
            pair = meter.compare(unpruned, cut)
            if not can_be_repeated(pair.invalid_reasons):
                break
        ratio = float(np.median(np.divide(pair.after, pair.before)))
        return NetworkTime(ratio=ratio, invalid_reasons=pair.invalid_reasons)

    def _network(
        self, name: str, role: str, grids: Sequence[LayerGrid], build: BuildName, keep: np.ndarray, ms: float
    ) -> TimedNetwork:
        """Describe a network by what its convolutions take alone."""
        table = self._models(grids, build)
        model = make_latency_model(self.graph, self.slots, self.kinds, table, Goal(removed=0.0))
        layers_ms, moved = model.features(keep)
        return TimedNetwork(name=name, layers_ms=layers_ms, moved_mb=moved, ms=ms, role=role)

    def _models(self, grids: Sequence[LayerGrid], build: BuildName) -> LatencyTable:
        """A table of convolutions alone, before anything is fitted."""
        return LatencyTable(
            model_sha256="", imgsz=self.context.imgsz, target="", build=build, threads=1,
            machine=self.context.device.facts(), is_measured_on_target=False, measured_at="", command="", versions={},
            control_ms=0.0, overhead_ms=0.0, grids=tuple(grids), networks=(), fit=NO_FIT, layer_seconds=0.0,
            seconds=0.0,
        )  # fmt: skip

    def _random_widths(self, index: int) -> np.ndarray:
        """Kept channels of every slot of one random network, shape (slots,)."""
        rng = np.random.default_rng([self.context.seed, index])
        # Those that the line is fitted to, and those that check it, go evenly from mild to hard.
        first = 0 if index < self.config.networks else self.config.networks
        count = self.config.checks if first else self.config.networks
        level = LEAST_CUT + (MOST_CUT - LEAST_CUT) * (index - first) / (count - 1)
        keep = widths_of(self.slots)
        for i, slot in enumerate(self.slots):
            share = float(np.clip(level + rng.uniform(-SPREAD, SPREAD), 0.0, 0.9))
            wanted = round_up(max(int(slot.width * (1 - share)), 1), slot.multiple(self.terms.round_to))
            keep[i] = max(min(wanted, slot.width), slot.floor)
        return keep

    def _exported(self, meter: NetworkMeter, keep: np.ndarray, onnx: Path) -> Path:
        """Cut a copy of the network, whichever channels go, and export it."""
        scores = np.random.default_rng(0).random(label_count(self.graph))
        plan = make_plan(self.graph, kept_labels(self.graph, self.slots, keep, scores), "", {})
        cut = copy.deepcopy(self.loaded.model)
        apply_plan(cut, plan)
        return meter.export(cut, onnx)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of what is exported and forgotten."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-latency-") as folder:
        yield Path(folder)


def latency_meter(
    job: Job, inputs: LatencyInputs, config: LatencyConfig, builds: Sequence[BuildName], context: Context
) -> LatencyMeter:
    """Load what is measured.

    Raises:
        SlimError: an unusable checkpoint, or layers that no table has.
    """
    loaded = checkpoint.load(inputs.model)
    checkpoint.require_imgsz(loaded, context.imgsz)
    checkpoint.require_end2end(loaded, asked=context.end2end)
    graph = trace_channels(loaded.model, context.imgsz)
    exported = exported_layers(loaded.model, end2end=context.end2end)
    terms = make_terms(loaded.model, graph, inputs.pruning, exported, {})
    meter = LatencyMeter(
        job=job, loaded=loaded, config=config, builds=builds, context=context, graph=graph,
        slots=decide_unscored(graph, terms), terms=replace(terms), images=ValidationImages.of(context.dataset, 8),
    )  # fmt: skip
    # Now, before anything is measured: a layer that no table has ends the call.
    _ = meter.kinds
    return meter
