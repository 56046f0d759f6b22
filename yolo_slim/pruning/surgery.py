"""The cut: narrow the weights of a stock Ultralytics model in place, so that every class stays Ultralytics' own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.pruning.plan import LayerCut, PrunePlan


def apply_plan(model: nn.Module, plan: PrunePlan) -> None:
    """Remove from ``model`` what the plan does not keep.

    Raises:
        SlimError: a layer of the plan is missing from the model or has another width; the model is untouched then.
    """
    modules = dict(model.named_modules())
    _check(modules, plan)
    for name, cut in plan.layers.items():
        _cut_conv(modules[name], cut)
    for name, cut in plan.norms.items():
        _cut_norm(modules[name], cut)
    for module in modules.values():
        _update_split_width(module)


def _check(modules: dict[str, nn.Module], plan: PrunePlan) -> None:
    """Raise unless the plan was made for a model of these layers and widths."""
    wrong = []
    for name, cut in [*plan.layers.items(), *plan.norms.items()]:
        module = modules.get(name)
        width = getattr(module, "out_channels", getattr(module, "num_features", None))
        if width != cut.outputs_before:
            wrong.append(
                f"{name}: the plan expects {cut.outputs_before} channels, the model has {width or 'no such layer'}"
            )
    if wrong:
        raise SlimError(
            "The prune plan was made for another model.", culprits=wrong, remedy="Make a plan for this model."
        )


def _rows(indices: Iterable[int]) -> torch.Tensor:
    """Return an index tensor."""
    return torch.tensor(list(indices), dtype=torch.long)


def _cut_conv(conv: nn.Module, cut: LayerCut) -> None:
    """Keep a convolution's wanted outputs and inputs."""
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight.detach()[_rows(cut.outputs)]
    if cut.inputs is not None:
        weight = weight[:, _rows(cut.inputs)]
        conv.in_channels = len(cut.inputs)
    elif conv.groups == conv.out_channels and conv.groups > 1:
        conv.groups = conv.in_channels = len(cut.outputs)
    conv.out_channels = len(cut.outputs)
    conv.weight = nn.Parameter(weight.clone(), requires_grad=conv.weight.requires_grad)
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.detach()[_rows(cut.outputs)].clone(), requires_grad=conv.bias.requires_grad)


def _cut_norm(norm: nn.Module, cut: LayerCut) -> None:
    """Keep a normalisation's wanted channels; its eps and momentum stay Ultralytics' own."""
    assert isinstance(norm, nn.BatchNorm2d)
    rows = _rows(cut.outputs)
    norm.weight = nn.Parameter(norm.weight.detach()[rows].clone(), requires_grad=norm.weight.requires_grad)
    norm.bias = nn.Parameter(norm.bias.detach()[rows].clone(), requires_grad=norm.bias.requires_grad)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean = norm.running_mean[rows].clone()
    norm.running_var = norm.running_var[rows].clone()
    norm.num_features = len(cut.outputs)


def _update_split_width(module: nn.Module) -> None:
    """Set the hidden width ``c`` of blocks that split their first convolution's output in halves."""
    conv = getattr(getattr(module, "cv1", None), "conv", None)
    if isinstance(getattr(module, "c", None), int) and isinstance(conv, nn.Conv2d):
        module.c = conv.out_channels // 2  # type: ignore[assignment]


@torch.no_grad()
def reestimate_batchnorm(model: nn.Module, images: Iterable[torch.Tensor]) -> None:
    """Replace the running statistics by plain averages over ``images``, batches (N, 3, H, W) float32 in [0, 1].

    Removing input channels shifts every later layer's mean and variance (FACTS of every pruning paper; here it is the
    difference between a usable and an unusable network before training).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in images:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
