"""Whether a smaller model of the network's family reaches a budget in milliseconds, by the network's latency table."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.models.activation import with_activation
from yolo_slim.models.family import family_of
from yolo_slim.models.layer_kinds import layer_kinds
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import decide_unscored, make_terms
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.latency_budget import LatencyGoal
from yolo_slim.pruning.latency_limits import InFamily, SmallestCut
from yolo_slim.pruning.slots import widths_of
from yolo_slim.pruning.work import Source


def in_family(source: Source, activation: str, goal: LatencyGoal) -> InFamily | None:
    """The largest smaller model that can be pruned to a budget by an estimate; where none can, the smallest one.

    Args:
        source: what is pruned, and how.
        activation: ``recover.activation``.
        goal: the budget, in the build that reaches it most nearly.

    Returns:
        Without figures where the network is the smallest, or the table has no layers like the other's. None: the
        network is of no known family.
    """
    family = family_of(source.loaded.model)
    if family is None:
        return None
    found = InFamily(name=family.name)
    for name, build in family.smaller.items():
        try:
            found = _estimated(
                source, with_activation(build(), activation), goal, InFamily(name=family.name, smaller=name)
            )
        except SlimError:
            found = replace(found, smaller=found.smaller or name)
        if found.is_enough(goal):
            break
    return found


def _estimated(source: Source, model: nn.Module, goal: LatencyGoal, named: InFamily) -> InFamily:
    """What a model takes at full width, and at its narrowest, by the table of another one's layers.

    Raises:
        SlimError: it has kinds of layers that the table hasn't.
    """
    imgsz, end2end = source.settings["imgsz"], source.settings["end2end"]
    exported = exported_layers(model, end2end=end2end)
    goal = replace(goal, kinds=layer_kinds(model, imgsz, exported))
    graph = trace_channels(model, imgsz)
    slots = decide_unscored(graph, make_terms(model, graph, source.config, exported, {}))
    cost = goal.model(graph, slots)
    return replace(
        named, unpruned_ms=goal.frame_of(cost.total(widths_of(slots))),
        smallest_ms=SmallestCut.of(goal, cost, slots).frame_ms,
    )  # fmt: skip
