"""How much each channel matters, as one score a channel: higher means keep.

``fisher``: the mean over images of (sum over a channel's activations of a * dL/da) squared, summed first over every
convolution that reads the channel; Molchanov et al. 2019 (Taylor first order on gates) with the coupled channels of
Liu et al. 2021 (Group Fisher Pruning). ``hessian``: sum of (w * dL/dw)^2 with the squared gradient of a batch standing
for the Hessian's diagonal, as torch-pruning's ``GroupHessianImportance``. ``taylor``: sum of |w * dL/dw| with the
gradient of all images together. Scores without data are in :mod:`yolo_slim.pruning.magnitude`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.pruning.groups import ChannelGraph
from yolo_slim.pruning.magnitude import Scores, label_count, magnitude, summed, weighted
from yolo_slim.training.batches import Batch

DATA_CRITERIA = ("fisher", "hessian", "taylor")
"""Criteria that need gradients on images."""
MIN_IMAGES = 16
"""Training images below which gradients say more about the choice of images than about the channels."""
LOSS_ARGUMENTS = ("box", "cls", "dfl", "pose", "kobj", "rle", "angle", "overlap_mask")
"""Training arguments that the criteria of all tasks read."""


def score(
    model: nn.Module, graph: ChannelGraph, criterion: str, batches: Callable[[], Iterable[Batch]], seed: int
) -> Scores:
    """Score every label by a criterion of :class:`~yolo_slim.config.run.PruneConfig`."""
    if criterion == "random":
        return np.random.default_rng(seed).random(label_count(graph))
    if criterion not in DATA_CRITERIA:
        return magnitude(model, graph, criterion)
    with gradients_enabled(model, weights=criterion != "fisher"):
        if criterion == "fisher":
            return _fisher(model, graph, batches())
        return _weight_gradient(model, graph, batches(), squared=criterion == "hessian")


def require_images(criterion: str | None, images: int) -> None:
    """Raise where a data set has too few training images for a criterion, or for the statistics alone (None)."""
    wanted = MIN_IMAGES if criterion in DATA_CRITERIA else 1
    if images < wanted:
        who = f"criterion {criterion} needs" if criterion else "the batch-normalisation statistics need"
        raise SlimError(
            f"The training split has {images} images; {who} at least {wanted}.",
            remedy="Add training images"
            + (", or choose prune.criterion: lamp, which needs none to score." if images else "."),
        )


@contextmanager
def with_criterion(model: nn.Module, *, end2end: bool = False) -> Iterator[None]:
    """Let a model compute its own loss: Ultralytics' criterion reads gains from ``model.args``.

    Checkpoints have these as a plain dictionary, or not at all; afterwards the model has what it had.
    """
    from ultralytics.cfg import get_cfg

    saved = model.__dict__.get("args")
    known = saved if isinstance(saved, dict) else getattr(saved, "__dict__", {})
    model.args = get_cfg(overrides={key: known[key] for key in LOSS_ARGUMENTS if key in known})
    # Ultralytics makes a criterion only where there is none; an existing one would keep its own gains.
    model.criterion = None  # type: ignore[assignment]
    if end2end:
        # A fresh criterion weighs the one-to-one head's loss a quarter of the other's, which alone reaches the
        # backbone: that head, the one that is exported, would seem to matter less than the rest.
        model.criterion = model.init_criterion()  # type: ignore[operator]
        model.criterion.o2m = model.criterion.o2o = 1.0  # type: ignore[union-attr]
    try:
        yield
    finally:
        model.criterion = None  # type: ignore[assignment]
        if saved is not None:
            model.args = saved


@contextmanager
def gradients_enabled(model: nn.Module, *, weights: bool) -> Iterator[None]:
    """Let a model compute losses and gradients; batch-normalisation statistics stay as they are.

    ``weights``: with gradients of the weights. Gates need those of activations alone, which saves a third of the work.
    """
    model.requires_grad_(weights)
    # Only in training mode does a head return what the loss reads.
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        model.eval()


def losses(model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[torch.Tensor, int]]:
    """The task's own loss of every batch, summed over its images, with the number of images."""
    for batch in batches:
        loss, _ = model(batch)
        # Sums make the batch size irrelevant: the same images score the same in any batches.
        # A classifier's loss is a mean over the images, every other task's is a sum.
        total = loss.sum() if loss.ndim else loss * len(batch["img"])
        if not torch.isfinite(total):
            raise SlimError(
                "The loss on the training images is not a finite number, so channels can't be scored.",
                remedy="Check the checkpoint with `yolo val`, or choose prune.criterion: lamp, which needs no data.",
            )
        yield total, len(batch["img"])


def _fisher(model: nn.Module, graph: ChannelGraph, batches: Iterable[Batch]) -> Scores:
    """Mean squared per-image gate gradient of every label.

    A gate is a factor of 1 on a channel; its gradient is the sum of activation times gradient over all positions.
    """
    size = label_count(graph)
    total, images = np.zeros(size), 0
    gates: dict[str, np.ndarray] = {}
    with _gate_hooks(model, graph, gates):
        for loss, count in losses(model, batches):
            gates.clear()
            loss.backward()  # type: ignore[no-untyped-call]
            of_images = np.zeros((count, size))
            for name, gradient in gates.items():
                # Not `+=`: it would count a repeated label (an attention head's) once.
                np.add.at(of_images.T, graph.convs[name].inputs, gradient.T)
            total += (of_images**2).sum(axis=0)
            images += count
            model.zero_grad(set_to_none=True)
    return total / max(images, 1)


@contextmanager
def _gate_hooks(model: nn.Module, graph: ChannelGraph, gates: dict[str, np.ndarray]) -> Iterator[None]:
    """Fill ``gates`` in every backward pass: convolution name to the sum of a * dL/da, shape (images, Cin)."""

    def hook(name: str) -> Callable[..., Any]:
        def forward(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            activation = args[0].detach()
            # A view of its own, so that the gradient is of this reader and not the sum over all readers.
            # Weights have no gradients here, so the graph begins at the image's gate.
            own = args[0].view_as(args[0]) if args[0].requires_grad else args[0].detach().requires_grad_(True)

            def backward(gradient: torch.Tensor) -> None:
                product = torch.einsum("nc...,nc...->nc", activation, gradient).double().numpy()
                # A layer that runs twice has one gate for both runs.
                gates[name] = gates[name] + product if name in gates else product

            own.register_hook(backward)  # type: ignore[no-untyped-call]
            return (own,)

        return forward

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_pre_hook(hook(name)) for name in graph.convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _weight_gradient(model: nn.Module, graph: ChannelGraph, batches: Iterable[Batch], *, squared: bool) -> Scores:
    """Sum over reading and writing weights of (w * dL/dw)^2, or of its absolute value."""
    sums = {name: torch.zeros_like(module.weight) for name, module in weighted(model, graph)}
    for loss, _ in losses(model, batches):
        loss.backward()  # type: ignore[no-untyped-call]
        for name, module in weighted(model, graph):
            if module.weight.grad is not None:
                sums[name] += module.weight.grad**2 if squared else module.weight.grad
        model.zero_grad(set_to_none=True)
    # taylor multiplies once by the gradient of all images; hessian sums squared gradients batch by batch.
    values = {
        name: (module.weight.detach() ** 2 * sums[name] if squared else (module.weight.detach() * sums[name]).abs())
        for name, module in weighted(model, graph)
    }
    return summed(graph, values)
