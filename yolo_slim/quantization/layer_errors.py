"""Layer errors: every layer is made int8 alone, and the change of the network's output is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.graph import layer_name
from yolo_slim.quantization.session import Blob, raw_outputs

if TYPE_CHECKING:
    from yolo_slim.quantization.float_layers import Trial

SCHEMA = 1
ROW = ("node", "layer", "error", "kept_float", "position")
"""What the file says of a layer."""
NEAR_WORST = 0.5
"""A layer with at least this share of the largest error is bad."""


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """The layer error of one convolution."""

    node: str
    """Name in the graph."""
    layer: str
    """Name in the checkpoint."""
    error: float
    """Mean :func:`yolo_slim.quantization.distance.output_error` when this layer alone is int8."""
    kept_float: bool = False


def measure_layer_errors(
    model: Any,
    layers: Sequence[str],
    quantize: Callable[[Sequence[str]], Any],
    blobs: Sequence[Blob],
    *,
    layout: str,
    tick: Callable[[int], object],
) -> list[LayerError]:
    """Measure every layer's error, in the graph's order.

    Args:
        model: float ``ModelProto``.
        layers: names of convolutions.
        quantize: makes the graph in which the given layers are int8.
        blobs: inputs (1, 3, h, w).
        layout: ``one2many`` or ``end2end``.
        tick: called with the number of layers that are done.
    """
    expected = raw_outputs(model, blobs)
    found = []
    for done, node in enumerate(layers, 1):
        got = raw_outputs(quantize([node]), blobs)
        errors = [output_error(a, b, layout=layout) for a, b in zip(expected, got, strict=True)]
        found.append(LayerError(node=node, layer=layer_name(node), error=float(np.mean(errors))))
        tick(done)
    return found


def save(path: Path, layers: Sequence[LayerError], kept: Sequence[str], trials: Sequence[Trial]) -> None:
    """Write ``layer_errors.json``: the layers, largest error first, and the trials."""
    marked = [replace(layer, kept_float=layer.node in kept) for layer in layers]
    # The position in the graph is stored, because sorting by error loses it.
    ranked = sorted(enumerate(marked), key=lambda item: (-item[1].error, item[0]))
    rows = [{**asdict(layer), "position": position} for position, layer in ranked]
    write_json(path, {"schema": SCHEMA, "trials": [asdict(trial) for trial in trials], "layers": rows})


def kept_float(path: Path) -> tuple[str, ...]:
    """The nodes that stayed float, in the order of the graph.

    Raises:
        SlimError: not a ``layer_errors.json``.
    """
    rows = sorted(_rows(path), key=lambda row: row["position"])
    return tuple(str(row["node"]) for row in rows if row["kept_float"])


def first_bad_layer(path: Path) -> str | None:
    """The first int8 layer of the graph whose error is near the largest; None if all are float.

    Errors of later layers may only follow from it, so it is the one to look at.

    Raises:
        SlimError: not a ``layer_errors.json``.
    """
    rows = [row for row in _rows(path) if not row["kept_float"]]
    worst = max((row["error"] for row in rows), default=0.0)
    bad = [row for row in rows if row["error"] >= NEAR_WORST * worst]
    return str(min(bad, key=lambda row: row["position"])["layer"]) if bad else None


def _rows(path: Path) -> list[Any]:
    """The layers of a ``layer_errors.json``, each with every key.

    Raises:
        SlimError: another file.
    """
    try:
        return [{key: row[key] for key in ROW} for row in read_json(path)["layers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlimError(
            f"{path} isn't a layer_errors file: {error!r}", remedy="Run the quantize stage again."
        ) from None
