"""Exchange a network's SiLU for an activation that runtimes compute together with the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from yolo_slim.errors import SlimError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardswish": nn.Hardswish}
"""Values of ``recover.activation`` that exchange, and torch's own modules for them."""
OF_A_BLOCK = "act"
"""Attribute in which Ultralytics' blocks keep the activation of their output."""


def require_exchangeable(model: nn.Module, name: str) -> None:
    """Refuse a network in which a value of ``recover.activation`` can't replace anything.

    Raises:
        SlimError: the network has neither SiLU nor the activation.
    """
    if name not in ACTIVATIONS or any(_blocks_with(model, (nn.SiLU, ACTIVATIONS[name]))):
        return
    raise SlimError(
        f"recover.activation: {name} exchanges SiLU, but the network has no SiLU.",
        culprits=[f"its activations: {', '.join(activations(model)) or 'none'}"],
        remedy="Leave recover.activation at none.",
    )


def activations(model: nn.Module) -> list[str]:
    """The activations of a network's blocks, by the names of torch's classes."""
    return sorted({type(block.act).__name__ for block in _blocks_with(model, nn.Module)} - {"Identity"})


def exchange(model: nn.Module, name: str) -> int:
    """Put an activation of :data:`ACTIVATIONS` where a block has SiLU, and count these blocks.

    Attention, DFL, and what only a loss computes (the flow of a pose head) have no such blocks and stay as they are.
    The network's yaml names the activation too, so that Ultralytics builds the same network from it.
    """
    kind = ACTIVATIONS[name]
    blocks, activation = list(_blocks_with(model, nn.SiLU)), kind()
    for block in blocks:
        block.act = activation
    yaml: dict[str, Any] = model.yaml  # type: ignore[assignment]
    model.yaml = {**yaml, "activation": f"torch.nn.{kind.__name__}()"}  # type: ignore[assignment]
    return len(blocks)


def with_activation(model: nn.Module, name: str) -> nn.Module:
    """A copy with a value of ``recover.activation``, as a recovery trains it; with ``none`` the network itself."""
    if name not in ACTIVATIONS:
        return model
    copied = copy.deepcopy(model)
    exchange(copied, name)
    return copied


def _blocks_with(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> Iterator[Any]:
    """Yield the blocks whose activation is of one of these kinds."""
    return (block for block in model.modules() if isinstance(getattr(block, OF_A_BLOCK, None), kinds))
