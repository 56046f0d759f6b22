"""What kind of convolution each layer of a network is, found while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from yolo_slim.backends.layers import LayerKind
from yolo_slim.errors import SlimError
from yolo_slim.models.activation import OF_A_BLOCK

NAMES = {nn.SiLU: "silu", nn.ReLU: "relu", nn.Hardswish: "hardswish", nn.Identity: "none"}
"""Activation modules to their names."""


def layer_kinds(model: nn.Module, imgsz: int, exported: frozenset[str]) -> Mapping[str, LayerKind]:
    """Say what kind every convolution of the exported graph is.

    Args:
        model: an unfused Ultralytics model; it isn't changed.
        imgsz: input side, pixels.
        exported: names of the convolutions that the fused graph has.

    Raises:
        SlimError: layers that no latency table has: transposed, dilated or grouped convolutions, linear layers.
    """
    modules = {name: module for name, module in model.named_modules() if name in exported}
    if unknown := [f"{name} ({_described(module)})" for name, module in modules.items() if not _is_known(module)]:
        raise SlimError(
            "The network has layers that a latency table can't have.",
            culprits=unknown,
            remedy="Prune it to MACs with --prune.",
            topic="the-frame-rate-cant-be-timed",
        )
    sizes: dict[str, tuple[int, int]] = {}
    with ExitStack() as stack, torch.no_grad():
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(_noting(sizes, name)).remove)
        was_training = model.training
        stack.callback(model.train, was_training)
        channels = int(getattr(model, "yaml", {}).get("channels", 3))
        model.eval()(torch.zeros(1, channels, imgsz, imgsz, dtype=next(model.parameters()).dtype))
    parents = dict(model.named_modules())
    return {name: _kind(modules[name], _following(parents, name), size) for name, size in sizes.items()}


def timed_as_silu(model: nn.Module, exported: Iterable[str]) -> tuple[str, ...]:
    """Activations after convolutions that a table has no name for: their layers are timed with SiLU.

    Both are a pass over the tensor, so they cost about as much; where a runtime computes one of them together with its
    convolution, they don't.
    """
    modules = dict(model.named_modules())
    found = [_following(modules, name) for name in exported]
    return tuple(sorted({type(act).__name__ for act in found if act is not None and type(act) not in NAMES}))


def _noting(sizes: dict[str, tuple[int, int]], name: str) -> Any:
    """A hook that notes the size of a layer's input."""

    def note(_: nn.Module, args: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        height, width = args[0].shape[2:]
        sizes[name] = (int(height), int(width))

    return note


def _is_known(module: nn.Module) -> bool:
    """Whether a table can have the layer."""
    return (
        isinstance(module, nn.Conv2d)
        and module.dilation == (1, 1)
        and (module.groups == 1 or _is_depthwise(module))
        and not isinstance(module.padding, str)
    )


def _is_depthwise(module: nn.Conv2d) -> bool:
    return module.groups > 1 and module.groups == module.in_channels == module.out_channels


def _described(module: nn.Module) -> str:
    """The layer for people."""
    if isinstance(module, nn.Conv2d):
        return f"convolution with {module.groups} groups and dilation {module.dilation[0]}"
    return type(module).__name__


def _following(modules: Mapping[str, nn.Module], name: str) -> nn.Module | None:
    """The activation after a convolution."""
    # RepConv (yolov9): the layer `m.conv1.conv` stands for all of `m`, whose activation follows.
    owner = name.rsplit(".", 2)[0] if name.endswith(".conv1.conv") else name.rpartition(".")[0]
    found = getattr(modules.get(owner), OF_A_BLOCK, None) if name.endswith(".conv") else None
    return found if isinstance(found, nn.Module) else None


def _kind(module: Any, follows: nn.Module | None, size: tuple[int, int]) -> LayerKind:
    return LayerKind(
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        depthwise=_is_depthwise(module),
        size=size,
        # One without a name is told by timed_as_silu().
        activation="none" if follows is None else NAMES.get(type(follows), "silu"),
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    height, width = values
    return height, width
