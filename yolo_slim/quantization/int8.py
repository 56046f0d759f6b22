"""The int8 graphs of one export: measure ranges, choose the layers that stay float, write and check both graphs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.progress import Progress
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization import layer_errors, qdq
from yolo_slim.quantization.bias_correction import bias_shifts, input_means
from yolo_slim.quantization.calibration import Calibration
from yolo_slim.quantization.files import INT8, TENSORRT_INT8
from yolo_slim.quantization.float_layers import Trial, choose_float_layers
from yolo_slim.quantization.inputs import blobs
from yolo_slim.quantization.integer import require_integer
from yolo_slim.quantization.qat_graph import read_qat_graph
from yolo_slim.quantization.ranges import Observer, Statistics, collect, observers, ranges_of
from yolo_slim.quantization.session import Blob

MEAN_IMAGES = 64
"""Calibration images for the bias correction: means need fewer than ranges."""


def for_timing(model: Any, images: Iterable[Blob], *, outputs: bool, kept_float: Collection[str] = ()) -> Any:
    """Copy a float graph with its layers in int8: as fast as a calibrated one, and useless otherwise.

    Args:
        model: float ``ModelProto``; it isn't changed.
        images: inputs (1, 3, h, w) that ranges are measured on; at least one.
        outputs: see :func:`yolo_slim.quantization.qdq.quantize`; for ONNX Runtime.
        kept_float: names of convolutions that stay float, besides those that always do.
    """
    layers = [layer for layer in graphs.parts(model).body if layer not in kept_float]
    statistics = observers(model, layers)
    collect(model, statistics, images, lambda _: None)
    ranges = ranges_of(statistics, "max", qdq.unsigned_in(model, outputs=outputs))
    return qdq.quantize(model, layers, ranges, outputs=outputs)


class Quantize(Protocol):
    """Copies the graph with the named layers in int8; see :func:`yolo_slim.quantization.qdq.quantize`."""

    def __call__(self, layers: Sequence[str], *, outputs: bool = True) -> Any:
        """Make the graph."""


@dataclass(frozen=True, kw_only=True)
class Int8Writer:
    """Makes the int8 graphs of one exported graph."""

    model: Any
    """``ModelProto``: float, or with the Q/DQ nodes of quantization-aware training."""
    layout: str
    """``one2many`` or ``end2end``."""
    dataset: Dataset
    """What the calibration images are of."""
    calibration: Calibration
    config: QuantizeConfig
    progress: Progress

    def write(self, paths: Mapping[str, Path], errors_file: Path | None) -> None:
        """Write both int8 graphs, and for a float graph ``layer_errors.json``.

        Raises:
            SlimError: a graph that TensorRT would refuse, or that ONNX Runtime would partly run in float.
        """
        is_qat = graphs.is_quantized(self.model)
        layers, quantize = self._trained() if is_qat else self._calibrated(errors_file)
        for name, outputs in ((INT8, True), (TENSORRT_INT8, False)):
            made = quantize(layers, outputs=outputs)
            if name == TENSORRT_INT8:
                qdq.require_portable(made)
            graphs.save(made, paths[name])
        # Not of TensorRT's graph: without Q/DQ pairs after the convolutions ONNX Runtime runs none as integers.
        require_integer(paths[INT8], len(layers))

    def _trained(self) -> tuple[Sequence[str], Quantize]:
        """The int8 layers of a graph from quantization-aware training, with its ranges and codes."""
        qat = read_qat_graph(self.model)
        # Training has no ranges for what the convolutions write: only those are measured here.
        statistics = self._statistics(qat.model, qat.layers)
        ranges = ranges_of(statistics, self.config.ranges) | qat.input_ranges
        return qat.layers, partial(qdq.quantize, qat.model, ranges=ranges, weight_scales=qat.weight_scales)

    def _calibrated(self, errors_file: Path | None) -> tuple[Sequence[str], Quantize]:
        """The int8 layers of a float graph, with ranges of the calibration images."""
        layers = graphs.parts(self.model).body
        statistics = self._statistics(self.model, layers)
        # With the corrected biases, so that layer errors and trials are those of the graphs that are written.
        made = {True: self._corrected(layers, statistics, outputs=True)}
        # The two graphs differ in their codes, and so in ranges and biases, only where ReLU wrote something.
        is_equal = not graphs.never_negative(self.model)
        made[False] = made[True] if is_equal else self._corrected(layers, statistics, outputs=False)

        def quantize(layers: Sequence[str], *, outputs: bool = True) -> Any:
            return made[outputs](self.model, layers, outputs=outputs)

        kept = self._float_layers(layers, partial(made[True], qdq.with_shapes(self.model)), errors_file)
        return tuple(layer for layer in layers if layer not in kept), quantize

    def _corrected(self, layers: Sequence[str], statistics: Statistics, *, outputs: bool) -> Callable[..., Any]:
        """Choose ranges and biases for the codes of one of the graphs: :func:`qdq.quantize` with them."""
        unsigned = qdq.unsigned_in(self.model, outputs=outputs)
        ranges = ranges_of(statistics, self.config.ranges, unsigned)
        means = input_means(self.model, layers, ranges, unsigned)
        self._collect(self.model, means, self.calibration.images[:MEAN_IMAGES], "quantize: mean errors")
        shifts = bias_shifts(self.model, layers, means)
        return partial(qdq.quantize, ranges=ranges, shifts=shifts)

    def _statistics(self, model: Any, layers: Sequence[str]) -> Statistics:
        """Measure what the ranges follow from."""
        statistics = observers(model, layers)
        self._collect(model, statistics, self.calibration.images, "quantize: activation ranges")
        return statistics

    def _collect(self, model: Any, tensors: Mapping[str, Observer], images: Sequence[Path], text: str) -> None:
        collect(model, tensors, blobs(images, self.calibration.imgsz), self._tick(text, len(images)))

    def _float_layers(self, layers: Sequence[str], quantize: Quantize, errors_file: Path | None) -> list[str]:
        """Choose the layers that stay float, and write the layer errors."""
        images = self.calibration.images[: self.config.scan_images]
        errors = layer_errors.measure_layer_errors(
            self.model,
            layers,
            quantize,
            # The blobs share one buffer.
            [blob.copy() for blob in blobs(images, self.calibration.imgsz)],
            layout=self.layout,
            tick=self._tick("quantize: each layer's own error", len(layers)),
        )
        kept, trials = self._trials(errors, layers, quantize)
        if errors_file:
            layer_errors.save(errors_file, errors, kept, trials)
        self.progress.say(
            f"quantize: {len(layers) - len(kept)} layers int8, {len(kept)} with the largest errors stay float"
        )
        return kept

    def _trials(
        self, errors: Sequence[layer_errors.LayerError], layers: Sequence[str], quantize: Quantize
    ) -> tuple[list[str], list[Trial]]:
        """Layers that stay float, and the mAP lost with more and more of them; none without check images."""
        # Loads torch, which graphs from quantization-aware training don't need.
        from yolo_slim.quantization.trial_map import TrialMap

        images = self.calibration.check
        if not images:
            return [], []
        self.progress.say(f"quantize: measuring mAP on {len(images)} training images outside the calibration")
        judge = TrialMap(images, self.dataset, layout=self.layout, imgsz=self.calibration.imgsz)
        control = judge.map50_95(self.model)

        # Rounded, so that the budget is compared with the number that layer_errors.json shows.
        def drop(kept: list[str]) -> float:
            return round(control - judge.map50_95(quantize([layer for layer in layers if layer not in kept])), 5)

        # One layer at least is int8: without any the graph would be a float one with another name.
        most = min(self.config.max_float_layers, len(layers) - 1)
        return choose_float_layers(errors, most, drop, self.config.max_drop)

    def _tick(self, text: str, total: int) -> Callable[[int], None]:
        return lambda done: self.progress.step(text, done, total)
