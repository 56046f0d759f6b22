"""How many convolutions ONNX Runtime really runs as integers on an Arm processor."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.errors import SlimError

INTEGER_OPS = ("QLinearConv", "ConvInteger")
FLOAT_OPS = ("Conv", "FusedConv")


@dataclass(frozen=True, kw_only=True)
class Count:
    """Convolutions of an optimised graph."""

    integer: int
    float: int
    float_layers: tuple[str, ...]
    """Node names of the float ones."""


def integer_convolutions(onnx: Path) -> Count:
    """Count convolutions after ONNX Runtime's optimiser has done what it does on Arm.

    On Arm it fuses signed int8 activations. On x86 it does so only when ``session.qdqisint8allowed`` is set, as here.

    Raises:
        SlimError: ONNX Runtime can't load the file.
    """
    import onnx as onnx_package
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="yolo-slim-count-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        # ONNX Runtime shows its optimised graph only in a file.
        options.optimized_model_filepath = str(optimised)
        # Without this it warns that the file fits this machine alone, which nobody will run it on anyway.
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no public base
            raise SlimError(f"ONNX Runtime can't load {onnx}: {error}", remedy="Export it again.") from None
        nodes = onnx_package.load(str(optimised)).graph.node
    floats = tuple(node.name for node in nodes if node.op_type in FLOAT_OPS)
    return Count(integer=sum(node.op_type in INTEGER_OPS for node in nodes), float=len(floats), float_layers=floats)


def require_integer(onnx: Path, layers: int) -> None:
    """Raise unless ONNX Runtime on Arm runs every quantized convolution as integers.

    Raises:
        SlimError: with the layers that would run in float.
    """
    count = integer_convolutions(onnx)
    if count.integer != layers:
        raise SlimError(
            f"Asked for {layers} int8 convolutions, but ONNX Runtime would run {count.integer} as integers on Arm.",
            culprits=count.float_layers,
            remedy="Try the onnxruntime version of constraints.txt, and report the model if it stays.",
        )
