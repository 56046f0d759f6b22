"""The cut: narrow the weights of a stock Ultralytics model in place, so that every class stays Ultralytics' own."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.pruning.block_rules import update_attributes
from yolo_slim.pruning.plan import LayerCut, PrunePlan
from yolo_slim.pruning.tracing import training_branches


def apply_plan(model: nn.Module, plan: PrunePlan) -> None:
    """Remove from ``model`` what the plan does not keep.

    Raises:
        SlimError: a layer of the plan is missing from the model or has another width; the model is untouched then.
    """
    modules = dict(model.named_modules())
    # Before the first change: half a cut would be a broken network.
    _require_widths(model, modules, plan)
    for name, cut in plan.layers.items():
        cut_layer(modules[name], cut)
    for name, cut in plan.norms.items():
        if name in modules:
            cut_norm(modules[name], cut)
        else:
            # Not a normalisation but a parameter with one value a channel: the ``gamma`` of A2C2f.
            owner, _, attribute = name.rpartition(".")
            setattr(modules[owner], attribute, _kept(getattr(modules[owner], attribute), _rows(cut.outputs)))
    # After all cuts: a block's attributes follow from the widths of convolutions inside it.
    for name, module in modules.items():
        inner = plan.layers.get(f"{name}.conv")
        update_attributes(module, None if inner is None else inner.outputs)


def _require_widths(model: nn.Module, modules: dict[str, nn.Module], plan: PrunePlan) -> None:
    """Raise unless the plan was made for a model of these layers and widths."""
    parameters = dict(model.named_parameters())
    wrong = []
    for name, cut in [*plan.layers.items(), *plan.norms.items()]:
        width = len(parameters[name]) if name in parameters else _width(modules.get(name))
        if width != cut.outputs_before:
            wrong.append(
                f"{name}: the plan expects {cut.outputs_before} channels, the model has {width or 'no such layer'}"
            )
    if wrong:
        raise SlimError(
            "The prune plan was made for another model.", culprits=wrong, remedy="Make a plan for this model."
        )


def _width(module: nn.Module | None) -> int | None:
    """Channels that a layer or normalisation writes."""
    for attribute in ("out_channels", "num_features", "out_features"):
        if isinstance(getattr(module, attribute, None), int):
            return int(getattr(module, attribute))
    return None


def _rows(indices: Iterable[int]) -> torch.Tensor:
    return torch.tensor(list(indices), dtype=torch.long)


def _kept(parameter: torch.Tensor, rows: torch.Tensor, dim: int = 0) -> nn.Parameter:
    """A new parameter with only these rows along ``dim``."""
    return nn.Parameter(parameter.detach().index_select(dim, rows).clone(), requires_grad=parameter.requires_grad)


def cut_layer(layer: nn.Module, cut: LayerCut) -> None:
    """Keep the wanted outputs and inputs of a convolution, transposed convolution or linear layer."""
    assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    # Weights are (Cout, Cin / groups, kh, kw), of a transposed convolution (Cin, Cout / groups, kh, kw).
    outputs, inputs = (1, 0) if isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1 else (0, 1)
    layer.weight = _kept(layer.weight, _rows(cut.outputs), outputs)
    if layer.bias is not None:
        layer.bias = _kept(layer.bias, _rows(cut.outputs))
    if cut.inputs is not None:
        layer.weight = _kept(layer.weight, _rows(cut.inputs), inputs)
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = layer.weight.shape[1], len(cut.outputs)
        return
    if cut.inputs is not None:
        layer.in_channels = len(cut.inputs)
    elif 1 < layer.groups == layer.in_channels == layer.out_channels:
        layer.groups = layer.in_channels = len(cut.outputs)
    layer.out_channels = len(cut.outputs)


def cut_norm(norm: nn.Module, cut: LayerCut) -> None:
    """Keep a normalisation's wanted channels; its eps and momentum stay Ultralytics' own."""
    assert isinstance(norm, nn.BatchNorm2d)
    rows = _rows(cut.outputs)
    if norm.affine:
        norm.weight, norm.bias = _kept(norm.weight, rows), _kept(norm.bias, rows)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean = norm.running_mean[rows].clone()
        norm.running_var = norm.running_var[rows].clone()
    norm.num_features = len(cut.outputs)


@torch.no_grad()
def reestimate_batchnorm(model: nn.Module, images: Iterable[torch.Tensor]) -> None:
    """Replace the running statistics by averages over ``images``, batches (N, 3, H, W) float32 in [0, 1].

    Removing input channels shifts every later layer's mean and variance (as every pruning paper says; here it is the
    difference between a usable and an unusable network before training). Every image counts the same, whatever the size
    of its batch; the variances are those within the batches. Layers that the network doesn't run keep their statistics.
    """
    # Channels last is a third faster on a CPU; a copy, because the model is saved in the layout of its own tensors.
    copied = copy.deepcopy(model).to(memory_format=torch.channels_last)
    norms, copies = _norms(model), _norms(copied)
    for norm in copies:
        norm.reset_running_stats()
        norm.train()
    seen = 0
    for batch in images:
        seen += len(batch)
        for norm in copies:
            # A momentum of n / seen makes torch's running average the plain mean over all images so far.
            norm.momentum = len(batch) / seen
        with training_branches(copied):
            copied(batch.contiguous(memory_format=torch.channels_last))
    # What never ran has counted no batch; its fresh statistics, 0 and 1, would be wrong.
    for norm, found in zip(norms, copies, strict=True):
        if found.num_batches_tracked:
            norm.load_state_dict(found.state_dict())


def _norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
