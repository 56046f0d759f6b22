"""What every layer of an NCNN network takes.

NCNN's wheel times no layers. Its extractor computes only what an output still needs and keeps what it has computed, so
asking one extractor for every layer's output in the order of the file runs each layer once, as in an inference. The
outputs stay in NCNN's own layout (type 1). None is kept, so layers still work in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from yolo_slim.backends import Operation, OperationTimes
from yolo_slim.errors import SlimError

WARMUP = 5
"""First frames that don't count; of fewer frames, the last one counts."""
OWN_LAYOUT = 1
"""Argument of an extraction that leaves a tensor as NCNN arranges it."""
_MULTIPLY = "0=2"
"""Parameter of a BinaryOp that multiplies."""


def time_layers(
    net: Any, lines: Sequence[list[str]], input_name: str, image: Any, infer: Callable[[], object], frames: int
) -> OperationTimes:
    """Time every layer, and whole inferences in turns with them.

    Args:
        net: the loaded network.
        lines: the layers of its .param file, split into words.
        input_name: name of its input.
        image: its input.
        infer: runs the whole network.
        frames: how often.
    """
    layers = [line for line in lines if line[0] != "Input"]
    whole, single = [], []
    for _ in range(frames):
        start = time.perf_counter_ns()
        infer()
        whole.append((time.perf_counter_ns() - start) / 1e6)
        extractor = net.create_extractor()
        extractor.input(input_name, image)
        single.append([_time(extractor, layer) for layer in layers])
    counted = single[WARMUP:] or single[-1:]
    times = [median(values) for values in zip(*counted, strict=True)]
    return OperationTimes(operations=operations_of(layers, times), frame_ms=median(whole[WARMUP:] or whole[-1:]))


def _time(extractor: Any, layer: list[str]) -> float:
    """Milliseconds until a layer's first output is there; the others come with it."""
    output = layer[4 + int(layer[2])]
    start = time.perf_counter_ns()
    status, _ = extractor.extract(output, OWN_LAYOUT)
    took = (time.perf_counter_ns() - start) / 1e6
    if status != 0:
        raise SlimError(f"NCNN failed to compute the layer {layer[1]} (status {status}).")
    return took


def operations_of(layers: Sequence[list[str]], times: Sequence[float]) -> tuple[Operation, ...]:
    """Name the layers; ``BinaryOp`` alone doesn't say whether it adds or multiplies."""
    end = _last_convolution(layers)
    return tuple(
        Operation(kind=_kind(layer), name=layer[1], ms=ms, is_decoding=index > end)
        for index, (layer, ms) in enumerate(zip(layers, times, strict=True))
    )


def _kind(layer: list[str]) -> str:
    return "BinaryOp mul" if layer[0] == "BinaryOp" and _MULTIPLY in layer else layer[0]


def _last_convolution(layers: Sequence[list[str]]) -> int:
    """Index of the last convolution; the one after a softmax is the DFL's mean and belongs to the decoding."""
    kinds = ["", *(layer[0] for layer in layers)]
    found = [i for i, kind in enumerate(kinds[1:]) if kind.startswith("Convolution") and kinds[i] != "Softmax"]
    return max(found, default=len(layers))
