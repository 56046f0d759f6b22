"""What to say of a budget that can't be reached: how far it goes, which layers are in the way, what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.pruning.goal import Cost, Goal
from yolo_slim.pruning.slots import Slot, widths_of


class Unreachable(SlimError):
    """No cut reaches the budget."""

    def __init__(
        self, *args: Any, predicted_ms: float | None = None, measured_ms: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.predicted_ms = predicted_ms
        """Milliseconds of the narrowest network's frame by the latency table; None: the budget is of another kind."""
        self.measured_ms = measured_ms
        """The same of the fastest cut that was timed; None: none was."""


def unreachable(slots: list[Slot], cost: Cost, keep: np.ndarray, target: float) -> SlimError:
    """The error for a cost that may remain, ``target``, below that of the narrowest widths, ``keep``."""
    full = cost.total(widths_of(slots))
    most = 1 - cost.total(keep) / full
    at_least = np.array([min(k, slot.least or k) for slot, k in zip(slots, keep, strict=True)])
    wanted = f"Removing {1 - target / full:.0%} of the {cost.goal.what}"
    if cost.of_all and any(slot.head for slot in slots) and cost.total(at_least) <= target:
        setting = _setting_that_keeps_the_head(slots)
        with_head = 1 - cost.total(at_least) / full
        return Unreachable(
            f"{wanted} can't be reached without pruning the head further ({setting}): {most:.0%} can go with all other "
            f"layers at their floor, {with_head:.0%} with the head at its floor too.",
            culprits=_at_floor(slots, keep),
            remedy=f"Set {cost.goal.setting} {cost.goal.limit(most)}, or raise {setting}.",
            topic="the-cut-cant-be-reached",
        )
    return Unreachable(
        f"{wanted} would take layers below their floor; at most {most:.0%} can go with these settings.",
        culprits=_at_floor(slots, keep),
        remedy=_remedy(cost.goal, most, head_has_more=_head_has_more(slots, keep)),
        topic="the-cut-cant-be-reached",
    )


def _setting_that_keeps_the_head(slots: Sequence[Slot]) -> str:
    """The head's own ratio where it has one, which leaves its slots open; else its rate of 0, which closes them."""
    has_ratio = any(slot.head and slot.least and slot.floor < slot.width for slot in slots)
    return "prune.head_removed" if has_ratio else "prune.head_rate"


def _head_has_more(slots: Sequence[Slot], keep: np.ndarray) -> bool:
    """Whether the head stays above its floor because it gives up a smaller share than the rest."""
    return any(slot.head and not slot.least and k > slot.floor for slot, k in zip(slots, keep, strict=True))


def _remedy(goal: Goal, most: float, *, head_has_more: bool) -> str:
    """What to do where floors, and a head that gives up less than the rest, let the share ``most`` go."""
    ways = ["lower prune.min_width or prune.min_share", "protect less (prune.protect)"]
    ways += ["raise prune.head_rate"] if head_has_more else []
    others = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return f"Set {goal.setting} {goal.limit(most)}, or {others}" if most >= 0.01 else f"{others[0].upper()}{others[1:]}"


def _at_floor(slots: Sequence[Slot], keep: np.ndarray) -> list[str]:
    """The slots that are at their floor, the widest first."""
    return [
        f"{slot.name} ({slot.width} channels, floor {slot.floor})"
        for slot, k in sorted(zip(slots, keep, strict=True), key=lambda pair: -pair[0].width)
        if 0 < slot.floor < slot.width and k <= slot.floor
    ]
