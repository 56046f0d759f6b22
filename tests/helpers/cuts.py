"""Random scores and cuts, and whether a cut is exact: compared with the masked network, layer by layer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.config.run import PruneConfig
from yolo_slim.models.macs import exported_layers
from yolo_slim.pruning.decisions import decide, make_terms
from yolo_slim.pruning.groups import trace_channels
from yolo_slim.pruning.magnitude import label_count
from yolo_slim.pruning.plan import PrunePlan, make_plan
from yolo_slim.pruning.pruner import Ranked
from yolo_slim.pruning.surgery import apply_plan

TOLERANCE = 1e-5
"""Share of a layer's largest output by which an exact cut may be off: sums of fewer numbers round differently."""
Written = dict[str, list[torch.Tensor]]
"""What every layer of a plan writes, run by run, and under no name what the network answers."""


def ranked(model: torch.nn.Module, config: PruneConfig) -> Ranked:
    """Return a network with random scores at 64 px."""
    graph = trace_channels(model, 64)
    terms = make_terms(model, graph, config, exported_layers(model, end2end=False), {})
    scores = np.random.default_rng(0).random(label_count(graph))
    return Ranked(graph=graph, scores=scores, terms=terms, slots=decide(graph, scores, terms))


def random_plan(model: nn.Module, seed: int = 3) -> PrunePlan:
    """Return a plan that drops about half of every space that isn't frozen, equal counts where tied."""
    graph = trace_channels(model, 64)
    rng = np.random.default_rng(seed)
    kept: set[int] = set()
    for members in graph.tied:
        width = len(graph.spaces[members[0]].channels)
        stays = width if graph.spaces[members[0]].frozen else max(1, width // 2)
        for i in members:
            kept.update(rng.permutation(graph.spaces[i].channels)[:stays].tolist())
    return make_plan(graph, kept, "0", {})


def masked(model: nn.Module, plan: PrunePlan, *, outputs: bool = False) -> nn.Module:
    """Return a copy with the weights set to zero that read a removed channel, or (wrongly) those that write one."""
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        cut = plan.layers.get(name)
        if cut is None or (cut.inputs is None and not outputs):
            continue
        before, kept = (cut.outputs_before, cut.outputs) if outputs else (cut.inputs_before, cut.inputs)
        gone = sorted(set(range(before or 0)) - set(kept or ()))
        (by_output(module) if outputs else by_output(module).transpose(0, 1))[gone] = 0
    return model


def by_output(module: nn.Module) -> torch.Tensor:
    """Return a view of a layer's weight of shape (Cout, Cin, ...)."""
    weight: torch.Tensor = module.weight.data  # type: ignore[assignment]
    return weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight


def written(model: nn.Module, plan: PrunePlan) -> Written:
    """Return what the layers write for a fixed image, in the branches that only training reads too."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found: Written = {name: [] for name in plan.layers}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found[name].append(out.clone()))
        for name, module in model.named_modules()
        if name in found
    ]
    branches = [module for module in model.model[-1].modules() if list(module.children())]  # type: ignore[index, union-attr]
    for module in branches:
        module.training = True
    with torch.no_grad():
        found[""] = list(tensors(model(image)))
    model.eval()
    for hook in hooks:
        hook.remove()
    return found


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested outputs, the head's inputs aside."""
    if isinstance(value, dict):
        value = [inner for key, inner in value.items() if key != "feats"]
    return [leaf for inner in value for leaf in tensors(inner)] if isinstance(value, (list, tuple)) else [value]


def distance(ours: Written, theirs: Written, plan: PrunePlan) -> float:
    """Return the largest difference between a cut network's layers and an uncut one's, of the channels that stay.

    Every layer counts as a share of its own largest value, so that what follows it can't hide it: in a network of
    random weights a whole layer may be wrong without a change in the answers.
    """
    shares = []
    for name, found in ours.items():
        for got, wanted in zip(found, theirs[name], strict=True):
            stays = wanted[:, list(plan.layers[name].outputs)] if name else wanted
            assert got.shape == stays.shape, name
            shares.append(float((got - stays).abs().max() / stays.abs().max().clamp(min=1e-6)))
        assert found, f"{name} didn't run"
    return max(shares)


def assert_exact(model: nn.Module) -> tuple[nn.Module, PrunePlan]:
    """Check that every layer of the cut network computes what the masked one's does; return it with its plan."""
    plan, cut = random_plan(model), copy.deepcopy(model)
    apply_plan(cut, plan)
    assert distance(written(cut, plan), written(masked(model, plan), plan), plan) < TOLERANCE
    return cut, plan
