"""Export networks that were made of one checkpoint, and let the device time them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from yolo_slim.backends import engine_builder
from yolo_slim.build_key import BuildName
from yolo_slim.config.run import ExportConfig
from yolo_slim.devices.answers import NOT_ITS_SPEED
from yolo_slim.devices.base import Placed, celsius_limit
from yolo_slim.export.builds import FLOAT_GRAPH, graph_of
from yolo_slim.export.bundle_maker import BundleSource, make_timed_bundle
from yolo_slim.export.onnx import export_onnx
from yolo_slim.models import checkpoint
from yolo_slim.models.exported import layout_of
from yolo_slim.models.ultralytics import log_to
from yolo_slim.quantization import fp16, int8
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.files import FP16, INT8
from yolo_slim.quantization.inputs import blobs
from yolo_slim.runtime import bench
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.runtime.paired import Paired
from yolo_slim.stages.context import Context


class Timed(Protocol):
    """A timing."""

    @property
    def invalid_reasons(self) -> tuple[str, ...]:
        """Why it doesn't count; empty: it does."""


Timing = TypeVar("Timing", bound=Timed)


SAME_SPEED = 0.15
"""How far the unpruned network's time may be from what it usually takes in such a timing, as a share. Beyond it the
device runs at another clock, or shares its caches with other programs: there a cut saves another share of the time."""
ANOTHER_SPEED = "the device ran at another speed than in the other timings"
"""Why such a timing doesn't count."""
MOST_WAITS = 6
"""How often one timing waits for the usual speed."""


@dataclass
class Patience:
    """How often a table or a cut waits for the usual speed, in all."""

    waits: int = 40


def may_count_later(timed: Timed) -> bool:
    """Whether a timing doesn't count, and another one might; of an emulated device none ever counts."""
    return bool(timed.invalid_reasons) and NOT_ITS_SPEED not in timed.invalid_reasons


def until_it_counts(time_once: Callable[[], Timing], patience: Patience | None = None) -> Timing:
    """Time, and after a pause again: up to :data:`REPEATS` times while the device is busy or hot.

    While it runs at another speed, up to :data:`MOST_WAITS` times, as long as ``patience`` lasts.
    """
    found, repeats, waits = time_once(), 0, 0
    while may_count_later(found):
        if ANOTHER_SPEED not in found.invalid_reasons:
            repeats += 1
        elif patience and patience.waits:
            patience.waits, waits = patience.waits - 1, waits + 1
        else:
            break
        if repeats > REPEATS or waits > MOST_WAITS:
            break
        time.sleep(bench.PAUSE_S)
        found = time_once()
    return found


def is_usual(ms: float, usual_ms: float | None) -> bool:
    """Whether the unpruned network took about what it usually takes; None: nothing is known yet."""
    return usual_ms is None or abs(ms / usual_ms - 1) <= SAME_SPEED


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of networks that are exported, timed and forgotten."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-timed-") as folder:
        yield Path(folder)


@dataclass(frozen=True, kw_only=True)
class NetworkMeter:
    """Exports networks, and lets the device compare them with the unpruned one."""

    loaded: checkpoint.Checkpoint
    """Where the networks come from."""
    rounds: int
    """How often two networks are timed in turns."""
    frames: int
    """Timed frames of each in a round."""
    context: Context
    images: Path
    """Folder of the images that networks are timed on."""
    log: Path
    """Where the exporter's output goes."""
    kept_float: tuple[str, ...] = ()
    """Convolutions that stay float in an int8 build."""
    patience: Patience = field(default_factory=Patience)

    def export(self, model: nn.Module, onnx: Path) -> Path:
        """Export a network's fp32 graph as the export stage does."""
        weights = onnx.with_suffix(".pt")
        checkpoint.save(weights, self.loaded, model)
        with log_to(self.log):
            export_onnx(weights, ExportConfig(end2end=self.context.end2end), self.context.imgsz, onnx)
        return onnx

    def place(self, onnx: Path, build: BuildName) -> Placed:
        """Bring an fp32 graph to the device, as a bundle of a runtime and precision beside its file."""
        folder = onnx.with_name(f"{onnx.stem}-{build}-bundle")
        source = BundleSource(name=onnx.stem, exported=onnx, layout=layout_of(onnx), profile=self.context.profile)
        make_timed_bundle(source, build, self._graph(onnx, build), folder)
        placed = self.context.device.put(folder)
        if engine_builder(build.runtime):
            self.context.device.build(placed)
        return placed

    def _graph(self, onnx: Path, build: BuildName) -> Path:
        """The graph that a build starts from, made of the fp32 one beside it."""
        name = graph_of(build)
        if name == FLOAT_GRAPH:
            return onnx
        file = onnx.with_name(f"{onnx.stem}-{name}.onnx")
        if not file.is_file():
            model = graphs.load(onnx)
            made = fp16.convert(model) if name == FP16 else self._in_int8(model, outputs=name == INT8)
            graphs.save(made, file)
        return file

    def _in_int8(self, model: Any, *, outputs: bool) -> Any:
        """An int8 graph to be timed: its ranges are those of one image."""
        image = sorted(self.images.iterdir())[:1]
        found = blobs(image, self.context.imgsz)
        return int8.for_timing(model, found, outputs=outputs, kept_float=self.kept_float)

    def compare(self, first: Placed, second: Placed, usual_ms: float | None = None) -> Paired:
        """Time two networks in the same rounds; a timing that doesn't count is repeated.

        Args:
            first: the network that the other one is compared with.
            second: the other one.
            usual_ms: what the first one usually takes in such a timing.
        """
        return until_it_counts(lambda: self.compare_once(first, second, usual_ms), self.patience)

    def compare_once(self, first: Placed, second: Placed, usual_ms: float | None = None) -> Paired:
        """Time two networks in the same rounds, whether that counts or not; arguments as :meth:`compare`."""
        device, limit = self.context.device, celsius_limit(self.context.device, self.context.profile)
        pair = device.time_paired(
            first, second, self.images, rounds=self.rounds, frames=self.frames, max_celsius=limit
        )  # fmt: skip
        if is_usual(pair.ms_before, usual_ms):
            return pair
        self.context.progress.say(
            f"timing: {first.build}: the unpruned network takes {pair.ms_before:.2f} ms, usually {usual_ms:.2f} ms; "
            "it is timed again, or doesn't count"
        )
        return replace(pair, invalid_reasons=(*pair.invalid_reasons, ANOTHER_SPEED))
