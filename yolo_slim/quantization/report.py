"""What the quantize stage reports of its graphs: their distance to fp32, and how much of int8 runs as integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_slim.datasets.description import Dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.files import INT8
from yolo_slim.quantization.inputs import blobs
from yolo_slim.quantization.integer import Count, integer_convolutions
from yolo_slim.quantization.session import raw_outputs


@dataclass(frozen=True, kw_only=True)
class Distance:
    """One graph's distance to fp32."""

    images: int
    error: float
    """Mean :func:`yolo_slim.quantization.distance.output_error` of the images."""
    worst: float
    """Largest one."""


@dataclass(frozen=True, kw_only=True)
class GraphsReport:
    """All graphs of one export."""

    distances: dict[str, Distance]
    """By the names of :mod:`yolo_slim.quantization.files`."""
    convolutions: Count | None
    """Of the int8 graph for ONNX Runtime; None without one."""

    def to_json(self) -> JsonObject:
        """As the stage's manifest has it."""
        value: dict[str, Any] = {"parity": {name: asdict(found) for name, found in self.distances.items()}}
        return value | ({"convolutions": asdict(self.convolutions)} if self.convolutions else {})

    def __str__(self) -> str:
        return ", ".join(f"{name} {found.error:.3f}" for name, found in self.distances.items())


def measure_graphs(
    onnx: Path, others: Mapping[str, Path], images: Sequence[Path], *, layout: str, imgsz: int
) -> GraphsReport:
    """Compare every other graph with the float one on the same images, and count the int8 graph's convolutions."""
    # The blobs share one buffer, and every graph gets all of them.
    inputs = [blob.copy() for blob in blobs(images, imgsz)]
    expected = raw_outputs(graphs.load(onnx), inputs)
    found = {}
    for name, path in others.items():
        got = raw_outputs(graphs.load(path), inputs)
        errors = [output_error(a, b, layout=layout) for a, b in zip(expected, got, strict=True)]
        found[name] = Distance(images=len(images), error=float(np.mean(errors)), worst=float(np.max(errors)))
    return GraphsReport(distances=found, convolutions=integer_convolutions(others[INT8]) if INT8 in others else None)


def images_to_compare(dataset: Dataset, count: int) -> list[Path]:
    """The images for :func:`measure_graphs`.

    Raises:
        SlimError: neither validation nor training images.
    """
    images = dataset.comparison_images(count)
    if not images:
        raise SlimError(
            f"{dataset.yaml}: no images on which the graphs can be compared with fp32.",
            culprits=[problem for split in ("val", "train") for problem in dataset.problems.get(split, ())],
            remedy="Give a data set with validation or training images.",
        )
    return images
