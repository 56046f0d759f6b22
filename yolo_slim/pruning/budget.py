"""The budget of a prune: which share of what must go, and whether it went."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from yolo_slim.config.run import PruneConfig
from yolo_slim.errors import SlimError
from yolo_slim.models.macs import Size
from yolo_slim.pruning.goal import Goal
from yolo_slim.pruning.latency import MILLISECONDS

MAX_ERROR = 0.03
"""Largest distance between what was asked for and got, as a share of the unpruned network."""
SIZE_MARGIN = 0.995
"""Share of the size that is planned for: what isn't weights depends a little on the widths."""


OnnxBytes = Callable[[Path], int]
"""From a checkpoint to the size of its fp32 ONNX file, exported as the export stage does."""


def make_goal(config: PruneConfig, before: Size, model: Path, onnx_bytes: OnnxBytes) -> Goal:
    """Express the budget as a share of the unpruned network.

    Raises:
        SlimError: a file size that the unpruned network has already, or that no network could have.
    """
    budget, value = config.budget
    if config.frame_ms is not None:
        # The share follows from the device's table; until that is known nothing is asked.
        return Goal(removed=0.0, what=MILLISECONDS, setting=f"prune.{budget}")
    if budget == "macs_removed":
        return Goal(removed=value)
    if budget == "params_removed":
        return Goal(removed=value, what="parameters", setting="prune.params_removed")
    size = onnx_bytes(model)
    # A cut removes fp32 weights of 4 bytes; the rest (graph, names, metadata) is taken as constant.
    wanted, rest = value * 1e6, size - 4 * before.params
    if size <= wanted:
        raise SlimError(
            f"The ONNX file has {size / 1e6:.2f} MB unpruned, no more than prune.max_size_mb {value:g}.",
            remedy=f"Set prune.max_size_mb below {size / 1e6:.2f}, or choose another budget.",
        )
    left = (wanted * SIZE_MARGIN - rest) / 4
    if left <= 0:
        raise SlimError(
            f"prune.max_size_mb {value:g} leaves no space for weights: the graph alone has {rest / 1e6:.2f} MB.",
            remedy=f"Set prune.max_size_mb {_above(rest)}.",
        )

    def limit(most: float) -> str:
        """Return the size of what is left where the share ``most`` goes."""
        return _above(4 * before.params * (1 - most) + rest)

    return Goal(removed=1 - left / before.params, what="parameters", setting="prune.max_size_mb", limit=limit)


def _above(size_bytes: float) -> str:
    """Return where the budget must be for a file of so many bytes to be planned for, rounded up."""
    return f"above {math.ceil(size_bytes / SIZE_MARGIN / 1e4) / 100:.2f}"


def require_goal(goal: Goal, before: Size, after: Size) -> None:
    """Raise unless the cost fell, and to what was asked."""
    ratio = after.macs / before.macs if goal.what == "MACs" else after.params / before.params
    got = 1 - ratio
    # Milliseconds were measured, cut by cut; what is counted here only tells whether anything went.
    if goal.what == MILLISECONDS and after.macs < before.macs:
        return
    if got <= 0 or goal.what == MILLISECONDS:
        raise SlimError(
            f"The {goal.what} did not fall: nothing was pruned.",
            remedy=f"Remove more ({goal.setting}), or lower prune.round_to as far as the target's "
            "channel_multiple allows.",
            topic="nothing-was-pruned",
        )
    # Measured on the fused graph, so an error of the cost model that planned the cut shows here too.
    # Not `>`: NaN is near nothing.
    if not abs(got - goal.removed) <= MAX_ERROR:
        raise SlimError(
            f"Asked to remove {goal.removed:.1%} of the {goal.what}, but this removes {got:.1%}: more than "
            f"{MAX_ERROR:.0%} apart.",
            remedy=f"Give another {goal.setting}, or set prune.scope: global. Widths are multiples of prune.round_to; "
            "it can be as low as the target's channel_multiple (8 for all but host; a profile of your own may say 4).",
        )


def require_size(config: PruneConfig, weights: Path, onnx_bytes: OnnxBytes) -> None:
    """Raise where the pruned network's ONNX file is larger than the budget, if that is one of size."""
    if config.max_size_mb is None:
        return
    size = onnx_bytes(weights) / 1e6
    # The file is size - max_size_mb too large, so the remedy asks for that much less.
    if size > config.max_size_mb:
        raise SlimError(
            f"The pruned ONNX file has {size:.3f} MB, above prune.max_size_mb {config.max_size_mb:g}.",
            remedy=f"Set prune.max_size_mb to {config.max_size_mb * 2 - size:.2f}.",
        )
