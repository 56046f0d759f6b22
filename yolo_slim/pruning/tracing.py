"""One forward pass of a network on an image whose channels have labels.

:mod:`yolo_slim.pruning.function_rules` says what torch functions do to labels. Blocks whose forward can't be followed
call by call, but is known, have a rule in :mod:`yolo_slim.pruning.block_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.pruning.function_rules import follow
from yolo_slim.pruning.labels import LabelledTensor, flat, follow_calls, label
from yolo_slim.pruning.trace import ANSWER, IMAGE, WEIGHTED, Trace

Rule = Callable[[Trace, nn.Module, Any], Any]
"""From the trace, a block and its labelled input to its labelled output."""


@dataclass(frozen=True)
class BlockRules:
    """What is known of blocks whose forward can't be followed call by call."""

    forwards: Mapping[type[nn.Module], Rule]
    splitters: tuple[type[nn.Module], ...]
    """See :attr:`~yolo_slim.pruning.trace.Trace.splitters`."""


def trace_model(model: nn.Module, imgsz: int, rules: BlockRules) -> Trace:
    """Run a model on one image of ``imgsz`` x ``imgsz`` pixels and record what happens to its channels.

    Only shapes matter, so the pass runs on tensors without memory (torch's ``meta`` device). A model that mixes in
    tensors of its own, which have memory, fails there and runs on the CPU.
    """
    try:
        with _without_memory(model):
            return _trace_on(torch.device("meta"), model, imgsz, rules)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return _trace_on(torch.device("cpu"), model, imgsz, rules)


def _trace_on(device: torch.device, model: nn.Module, imgsz: int, rules: BlockRules) -> Trace:
    layers = list(model.model)  # type: ignore[arg-type]
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    # Weights are found by identity, so their names are made here, where the twins are in place.
    trace = Trace(names=_weight_names(model), head=f"model.{len(layers) - 1}", splitters=rules.splitters)
    image = label(torch.zeros(1, channels, imgsz, imgsz, device=device), trace.labels.new(channels))
    trace.freeze(image, IMAGE)
    training = model.training
    # In training mode batch normalisations would update their statistics by this image.
    model.eval()
    try:
        with (
            torch.no_grad(),
            follow_calls(partial(follow, trace)),
            _modules_noted(model, trace),
            _ruled(model, trace, rules.forwards),
            # The head alone: in training mode it answers with raw outputs and decodes no boxes.
            training_branches(layers[-1]),
        ):
            trace.freeze(_answers(model(image)), ANSWER)
    finally:
        model.train(training)
    return trace


@contextmanager
def _without_memory(model: nn.Module) -> Iterator[None]:
    """Put tensors without memory in the place of all parameters and buffers."""
    saved = [(m, dict(m._parameters), dict(m._buffers)) for m in model.modules()]
    twins: dict[int, torch.Tensor] = {}

    def twin(tensor: torch.Tensor | None) -> Any:
        if tensor is None:
            return None
        # One tensor that two modules share has one twin, so that sharing is still seen.
        if id(tensor) not in twins:
            empty = torch.empty_like(tensor, device="meta")
            is_parameter = isinstance(tensor, nn.Parameter)
            twins[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
        return twins[id(tensor)]

    try:
        for module, parameters, buffers in saved:
            module._parameters.update({name: twin(tensor) for name, tensor in parameters.items()})
            module._buffers.update({name: twin(tensor) for name, tensor in buffers.items()})
        yield
    finally:
        for module, parameters, buffers in saved:
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _answers(output: Any) -> list[Any]:
    """A network's outputs without ``feats``: Ultralytics passes the head's inputs on there, for their shapes alone."""
    if isinstance(output, dict):
        return [_answers(value) for key, value in output.items() if key != "feats"]
    return [_answers(item) for item in output] if isinstance(output, (list, tuple)) else [output]


@contextmanager
def training_branches(model: nn.Module) -> Iterator[None]:
    """Let a network in evaluation mode run the branches that only training reads; its layers stay as they are."""
    # Ultralytics' heads ask ``self.training``. Modules without children (batch norms, dropouts) must not see it.
    inner = [module for module in model.modules() if any(True for _ in module.children())]
    for module in inner:
        module.training = True
    try:
        yield
    finally:
        for module in inner:
            module.training = False


@contextmanager
def _modules_noted(model: nn.Module, trace: Trace) -> Iterator[None]:
    """Let the trace know which modules are running and have run."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                enter = module.register_forward_pre_hook(lambda m, _, name=name: trace.running.append((name, m)))
                leave = module.register_forward_hook(partial(_leave, trace), with_kwargs=True, always_call=True)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
        yield


def _leave(trace: Trace, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    """Note that the innermost module has run, and whether it has lost the labels."""
    name, _ = trace.running.pop()
    trace.ran.add(name)
    # Only where labelled tensors went in and none came out: a new tensor (torch.zeros) that was written into.
    given = any(isinstance(item, LabelledTensor) for item in flat([args, kwargs]))
    answers = [item for item in flat(output) if isinstance(item, torch.Tensor)]
    if not given or not answers or any(isinstance(item, LabelledTensor) for item in answers):
        return
    # The innermost is the culprit; the modules around it only pass its result on.
    if not any(inner.startswith(f"{name}.") for inner, _ in trace.lost):
        trace.lost.append((name, module))


@contextmanager
def _ruled(model: nn.Module, trace: Trace, forwards: Mapping[type[nn.Module], Rule]) -> Iterator[None]:
    """Let blocks of exactly the ruled classes run by their rule; a subclass may have another forward."""
    # An instance with a forward of its own doesn't run the class's, and the clean-up below would delete it.
    ruled = [m for m in model.modules() if type(m) in forwards and "forward" not in vars(m)]
    for module in ruled:
        module.forward = partial(forwards[type(module)], trace, module)
    try:
        yield
    finally:
        for module in ruled:
            del module.__dict__["forward"]


def _weight_names(model: nn.Module) -> dict[int, str]:
    """Map the identity of every weight that can be cut to its module's name.

    Raises:
        SlimError: two modules share one weight, so that cutting one would leave the other behind.
    """
    names: dict[int, str] = {}
    shared = []
    # named_modules() lists a module that is used twice once, so two names mean two modules.
    for name, module in model.named_modules():
        if isinstance(module, WEIGHTED) and isinstance(module.weight, nn.Parameter):
            if id(module.weight) in names:
                shared.append(f"{names[id(module.weight)]} and {name} ({type(module).__name__})")
            names[id(module.weight)] = name
    if shared:
        raise SlimError(
            "Some modules share one weight, so neither can be cut alone.",
            culprits=shared,
            remedy="Use the same module twice instead of two modules with one weight.",
        )
    return names
