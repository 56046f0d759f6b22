"""Which layers int8 hurts: each is quantized alone, and what that does to the detections is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.quantization.graph import layer_name
from yolo_slim.quantization.ranges import open_session

SCHEMA = 1
LEAST_SCORE = 0.01
"""Candidates below this in both outputs don't matter to mAP."""
NEAR_WORST = 0.5
"""A layer with at least this share of the largest error is bad."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution."""

    node: str
    """Name in the graph."""
    layer: str
    """Name in the checkpoint."""
    error: float
    """Of the detections when this layer alone is int8, see :func:`output_error`."""
    kept_float: bool = False


def scan(
    model: Any,
    layers: Sequence[str],
    make: Callable[[Sequence[str]], Any],
    blobs: Sequence[Floats],
    *,
    layout: str,
    tick: Callable[[int], object],
) -> list[Layer]:
    """Return every layer's error, in the graph's order.

    Args:
        model: float ``ModelProto``.
        layers: names of convolutions.
        make: from the names of layers to the graph in which those are int8.
        blobs: inputs (1, 3, h, w).
        layout: ``one2many`` or ``end2end``.
        tick: called with the number of layers that are done.
    """
    name = model.graph.input[0].name
    session = open_session(model)
    wanted = [session.run(None, {name: blob})[0] for blob in blobs]
    found = []
    for done, node in enumerate(layers, 1):
        session = open_session(make([node]))
        got = [session.run(None, {name: blob})[0] for blob in blobs]
        errors = [output_error(a, b, layout=layout) for a, b in zip(wanted, got, strict=True)]
        found.append(Layer(node=node, layer=layer_name(node), error=float(np.mean(errors))))
        tick(done)
    return found


def output_error(wanted: Floats, got: Floats, *, layout: str) -> float:
    """Return how far a raw output is from another: the mean of score change + (1 - IoU), weighted by score.

    A candidate weighs as much as its better score in either output, so that lost and invented objects count alike and
    the background hardly does.

    Args:
        wanted: (1, 4 + classes, anchors), or (1, 300, 6) of an end2end graph.
        got: the same of the other graph.
        layout: ``one2many`` or ``end2end``.
    """
    if layout == "end2end":
        return (_rows_error(wanted[0], got[0]) + _rows_error(got[0], wanted[0])) / 2
    scores = np.maximum(wanted[0, 4:], got[0, 4:]).max(axis=0)
    seen = scores > LEAST_SCORE
    if not seen.any():
        return 0.0
    a, b = wanted[0][:, seen], got[0][:, seen]
    moved = np.abs(a[4:] - b[4:]).max(axis=0)
    off = 1 - _iou(_corners(a[:4].T), _corners(b[:4].T))
    return float(np.average(moved + off, weights=scores[seen]))


def float_layers(layers: Sequence[Layer], count: int) -> list[str]:
    """Return the node names of the most sensitive layers, the worst first."""
    ranked = sorted(layers, key=lambda layer: (-layer.error, layer.node))
    return [layer.node for layer in ranked[:count]]


def search(
    layers: Sequence[Layer], most: int, drop: Callable[[list[str]], float], budget: float
) -> list[dict[str, Any]]:
    """Keep 0, 1, 2, 4, ... layers in float until the drop is inside the budget; return the trials, the chosen one last.

    When even ``most`` layers don't get there, that many stay float: mAP on few images is too noisy to tell which of two
    failures is the better one.

    Args:
        layers: what :func:`scan` returned.
        most: the largest number that may stay float.
        drop: from the names of float nodes to the mAP50-95 lost.
        budget: the drop that is good enough.
    """
    counts = [0, *(2**k for k in range(most.bit_length()) if 2**k < most), most] if most else [0]
    trials: list[dict[str, Any]] = []
    for count in counts:
        kept = float_layers(layers, count)
        trials.append({"float_layers": len(kept), "map50_95_drop": drop(kept)})
        if trials[-1]["map50_95_drop"] <= budget:
            break
    return trials


def save(path: Path, layers: Sequence[Layer], kept: Sequence[str], trials: Sequence[dict[str, Any]]) -> None:
    """Write ``layer_errors.json``: the layers, most sensitive first, and the trials."""
    marked = [replace(layer, kept_float=layer.node in kept) for layer in layers]
    ranked = sorted(enumerate(marked), key=lambda item: (-item[1].error, item[0]))
    rows = [{**asdict(layer), "position": position} for position, layer in ranked]
    write_json(path, {"schema": SCHEMA, "trials": list(trials), "layers": rows})


def first_bad_layer(path: Path) -> str | None:
    """Return the first int8 layer in the graph whose error is near the worst one's; None if all are float.

    Raises:
        SlimError: not a ``layer_errors.json``.
    """
    try:
        value = read_json(path)
        rows = [row for row in value["layers"] if not row["kept_float"]]
        worst = max((row["error"] for row in rows), default=0.0)
        bad = [row for row in rows if row["error"] >= NEAR_WORST * worst]
        return str(min(bad, key=lambda row: row["position"])["layer"]) if bad else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlimError(
            f"{path} isn't a layer_errors file: {error!r}", remedy="Run the quantize stage again."
        ) from None


def _rows_error(wanted: Floats, got: Floats) -> float:
    """Return the error of the rows of one end2end output against the best match of their class in the other."""
    rows = wanted[wanted[:, 4] > LEAST_SCORE]
    if not len(rows):
        return 0.0
    same = rows[:, None, 5] == got[None, :, 5]
    iou = np.where(same, _iou(rows[:, None, :4], got[None, :, :4]), 0.0)
    best = iou.argmax(axis=1)
    overlap = iou[np.arange(len(rows)), best]
    moved = np.where(overlap > 0, np.abs(rows[:, 4] - got[best, 4]), rows[:, 4])
    return float(np.average(moved + 1 - overlap, weights=rows[:, 4]))


def _corners(xywh: Floats) -> Floats:
    """Return (N, 4) corner boxes for (N, 4) centre boxes."""
    half = xywh[:, 2:] / 2
    return np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)


def _iou(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return the overlap of corner boxes (..., 4), broadcast against each other."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    inside = np.clip(high - low, 0, None).astype(np.float64).prod(axis=-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).astype(np.float64).prod(axis=-1) for box in (a, b)]
    return np.asarray(inside / np.maximum(areas[0] + areas[1] - inside, 1e-9))
