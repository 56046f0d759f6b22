"""Move Hardswish into the convolutions of a text .param file.

NCNN computes some activations together with a convolution. pnnx moves ReLU there itself; Hardswish it leaves as a layer
of its own, which reads and writes the whole tensor once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from yolo_slim.backends.ncnn.layer import FUSED

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")
HARDSWISH = "HardSwish"
ACTIVATION_TYPE, ACTIVATION_PARAMS = "9", "-23310"
"""Keys of a convolution; -23300 marks an array, so the second one is key 10."""
USUAL = {"0": "0.2", "1": "0.5"}
"""NCNN's own slope and offset of a HardSwish layer, which a file leaves out."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One line of a .param file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, str]
    """Key to value as they are written."""

    @classmethod
    def parse(cls, line: str) -> Layer:
        """Read a line: kind, name, number of inputs and of outputs, their names, settings."""
        kind, name, inputs, outputs, *rest = line.split()
        first, last = int(inputs), int(inputs) + int(outputs)
        settings = dict(word.split("=", 1) for word in rest[last:])
        return cls(
            kind=kind, name=name, inputs=tuple(rest[:first]), outputs=tuple(rest[first:last]), settings=settings
        )  # fmt: skip

    def __str__(self) -> str:
        words = [f"{self.kind:<24}", f"{self.name:<24}", str(len(self.inputs)), str(len(self.outputs))]
        return " ".join([*words, *self.inputs, *self.outputs, *(f"{k}={v}" for k, v in self.settings.items())])


def fuse_hardswish(param: str) -> str:
    """Give a .param file in which every Hardswish behind a convolution is part of the convolution.

    In such a file one layer reads each tensor, so the convolution's own output is read nowhere else. A file without
    such a Hardswish is returned as it is.
    """
    magic, _, *lines = param.splitlines()
    layers = [Layer.parse(line) for line in lines if line.strip()]
    writers = {name: layer for layer in layers for name in layer.outputs}
    fused: dict[str, Layer] = {}
    for layer in layers:
        before = writers.get(layer.inputs[0]) if layer.kind == HARDSWISH else None
        if before and before.kind in CONVOLUTIONS and before.settings.get(ACTIVATION_TYPE, "0") == "0":
            fused[before.name] = _with_hardswish(before, layer)
    if not fused:
        return param
    gone = {layer.outputs for layer in fused.values()}
    kept = [fused.get(layer.name, layer) for layer in layers if not (layer.kind == HARDSWISH and layer.outputs in gone)]
    tensors = {name for layer in kept for name in layer.outputs}
    return "\n".join([magic, f"{len(kept)} {len(tensors)}", *map(str, kept)]) + "\n"


def _with_hardswish(convolution: Layer, hardswish: Layer) -> Layer:
    """The convolution that also computes the Hardswish behind it."""
    slope, offset = ({**USUAL, **hardswish.settings}[key] for key in ("0", "1"))
    activation = {ACTIVATION_TYPE: str(FUSED["hardswish"]), ACTIVATION_PARAMS: f"2,{slope},{offset}"}
    return replace(convolution, outputs=hardswish.outputs, settings={**convolution.settings, **activation})
