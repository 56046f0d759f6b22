"""Plain torch-pruning, as most tutorials use it: group L2 magnitude, one ratio for every layer, one shot.

torch-pruning can't trace stock YOLO blocks (``chunk``, attention). For the cut, every block that splits channels writes
its halves with two convolutions, and attention is out of the graph, so its channels stay. After the cut the halves are
merged, and every class is Ultralytics' own again. Batch-normalisation statistics stay what they were.

The search runs in a process of its own (``python -m yolo_slim.comparison.uniform_l2``) with a limit of time and memory,
because tracing can hang or use up the machine's memory.
"""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch_pruning
from torch import nn
from ultralytics.nn.modules import block

from yolo_slim.child_process import own_environment
from yolo_slim.comparison.narrow import HALVED, nearest
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.macs import measure
from yolo_slim.models.ultralytics import use_all_cores
from yolo_slim.pruning.block_rules import update_attributes
from yolo_slim.pruning.plan import LayerCut
from yolo_slim.pruning.surgery import cut_layer, cut_norm

SECONDS = 600.0
"""Time that the search may take, seconds."""
MEMORY_GB = 16.0
"""Address space of its process, 10^9 bytes; torch alone reserves several."""
STEPS = 9
"""Halvings of the ratio's interval."""
MAX_RATIO = 0.95
ATTENTION = (block.Attention, block.AAttn)
AROUND_ATTENTION = (block.PSABlock, block.ABlock)
"""Blocks that add to what an attention reads; they aren't cut, because attention isn't."""


@dataclass(frozen=True, kw_only=True)
class PlainTask:
    """What is cut, and to how much."""

    model: str
    out: str
    macs: float
    """MACs of the fused graph to reach."""
    imgsz: int
    end2end: bool
    round_to: int


AGAIN = "Try again on a free machine, or leave uniform-l2 out of --methods."
OUT_OF_MEMORY = ("MemoryError", "allocate memory", "bad_alloc")
"""What a process writes that had too little memory; one that the system killed writes nothing."""


def run_apart(task: PlainTask, *, seconds: float = SECONDS, memory_gb: float = MEMORY_GB) -> float:
    """Cut in a process of its own; return the ratio that torch-pruning was given.

    Raises:
        MachineError: it took more time or memory than it may.
        SlimError: it failed, with torch-pruning's own words.
    """
    command = [sys.executable, "-m", "yolo_slim.comparison.uniform_l2", json.dumps(asdict(task)), str(memory_gb)]
    try:
        done = subprocess.run(
            command, env=own_environment(), capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"torch-pruning took more than {seconds:.0f} s on this network.", remedy=AGAIN) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        # A negative status is a signal, which the kernel sends when memory is short.
        if done.returncode < 0 or any(text in done.stderr for text in OUT_OF_MEMORY):
            raise MachineError(
                f"torch-pruning had too little memory ({memory_gb:g} GB at most): {last[:200]}", remedy=AGAIN
            )
        raise SlimError(f"torch-pruning failed on this network: {last[:200]}")
    # Only the last line is ours: libraries may print before it.
    return float(json.loads(done.stdout.strip().splitlines()[-1])["ratio"])


def cut(task: PlainTask) -> float:
    """Write the network whose MACs come nearest to the task's; return the ratio that leads to it."""
    loaded = checkpoint.load(Path(task.model))
    use_all_cores()

    def pruned(kept: float) -> nn.Module:
        model = copy.deepcopy(loaded.model)
        prune(model, 1 - kept, task.round_to, loaded.stride)
        return model

    def macs(kept: float) -> float:
        return measure(pruned(kept), task.imgsz, end2end=task.end2end).macs

    # Searched by the share that is kept: nearest() needs a cost that grows.
    kept = nearest(macs, task.macs, low=1 - MAX_RATIO, high=1.0, steps=STEPS)
    checkpoint.save(Path(task.out), loaded, pruned(kept))
    return 1 - kept


def prune(model: Any, ratio: float, round_to: int, stride: int) -> None:
    """Cut a stock detection network in place with torch-pruning.

    Args:
        model: unfused, in float32 and evaluation mode.
        ratio: share of its channels that every layer loses.
        round_to: widths stay multiples of this.
        stride: largest stride, pixels.

    Raises:
        SlimError: the two halves of a block are no longer equal.
    """
    with taken_apart(model) as kept:
        model.requires_grad_(True)  # without gradients torch-pruning finds no dependencies and cuts nothing
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            torch.zeros(1, int(model.yaml.get("channels", 3)), 2 * stride, 2 * stride),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            global_pruning=False,
            pruning_ratio=ratio,
            round_to=round_to,
            ignored_layers=[*kept, *_answers(model.model[-1])],
            forward_fn=forward,
        )
        pruner.step()
        model.requires_grad_(False)
    # Blocks keep counts of channels in attributes, which torch-pruning doesn't know.
    for module in model.modules():
        update_attributes(module, None)


def forward(model: Any, image: torch.Tensor) -> list[torch.Tensor]:
    """Compute what all branches of the head write for an image, without decoding."""
    x: Any = image
    outputs: list[Any] = []
    for layer in model.model[:-1]:
        x = layer(_inputs(layer, x, outputs))
        outputs.append(x if layer.i in model.save else None)
    levels = _inputs(model.model[-1], x, outputs)
    return [convs(level) for branch in _branches(model.model[-1]) for convs, level in zip(branch, levels, strict=True)]


def _inputs(layer: Any, x: Any, outputs: list[Any]) -> Any:
    """What a layer reads: the last output, an earlier one, or several."""
    if layer.f == -1:
        return x
    return outputs[layer.f] if isinstance(layer.f, int) else [x if j == -1 else outputs[j] for j in layer.f]


def _branches(head: Any) -> list[Any]:
    """The branches of a detection head: lists of convolutions, one a level."""
    found = (getattr(head, name, None) for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"))
    return [branch for branch in found if branch is not None]


def _answers(head: Any) -> list[nn.Module]:
    """The layers that write the network's answers."""
    return [convs[-1] for branch in _branches(head) for convs in branch]


@contextmanager
def taken_apart(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Give splitting blocks two convolutions and take attention out; put both back as stock blocks.

    Yields:
        The layers that must not be cut, because attention needs their channels.
    """
    attentions = [(name, m) for name, m in model.named_modules() if isinstance(m, ATTENTION)]
    blocks = [(name, m) for name, m in model.named_modules() if isinstance(m, HALVED)]
    kept = [m for m in model.modules() if isinstance(m, AROUND_ATTENTION)]
    halves = {name: Halves(module) for name, module in blocks}
    for name, half in halves.items():
        if any(other.startswith(f"{name}.") for other, _ in attentions):
            kept += [half.first, half.second]
    for name, _ in attentions:
        _put(model, name, nn.Identity())
    for name, half in halves.items():
        # After the attentions are out: a block's direct children are copied, so later changes wouldn't reach the copy.
        half.adopt(model.get_submodule(name))
        _put(model, name, half)
    try:
        yield kept
    finally:
        # Blocks first: an attention that is a block's own child (PSA's) has to go back into the stock block.
        for name, module in [*blocks, *attentions]:
            _put(model, name, module)
    for name, module in blocks:
        halves[name].merge_into(module.cv1, name)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Set a submodule, with what Ultralytics' forward reads of a layer."""
    old = model.get_submodule(name)
    for attribute in ("i", "f", "type", "np"):
        if hasattr(old, attribute):
            setattr(module, attribute, getattr(old, attribute))
    owner, _, last = name.rpartition(".")
    model.get_submodule(owner).add_module(last, module)


class Halves(nn.Module):
    """A splitting block whose halves have a convolution each."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        half = stock.cv1.conv.out_channels // 2
        self.kind = type(stock)
        self.first = _part(stock.cv1, range(half))
        self.second = _part(stock.cv1, range(half, 2 * half))

    def adopt(self, stock: nn.Module) -> None:
        """Use the stock block's other layers."""
        for name, child in stock.named_children():
            if name != "cv1":
                self.add_module(name, child)

    def forward(self, x: torch.Tensor) -> Any:
        """Compute what the stock block does (ultralytics 8.4.190, nn/modules/block.py)."""
        this: Any = self
        a, b = self.first(x), self.second(x)
        if issubclass(self.kind, block.C2PSA):
            return this.cv2(torch.cat((a, this.m(b)), 1))
        if issubclass(self.kind, block.PSA):
            b = b + this.attn(b)
            return this.cv2(torch.cat((a, b + this.ffn(b)), 1))
        if issubclass(self.kind, block.C2):
            return this.cv2(torch.cat((this.m(a), b), 1))
        elan = issubclass(self.kind, block.RepNCSPELAN4)
        y = [a, b]
        for inner in [this.cv2, this.cv3] if elan else this.m:
            y.append(inner(y[-1]))
        return (this.cv4 if elan else this.cv2)(torch.cat(y, 1))

    def merge_into(self, conv: Any, name: str) -> None:
        """Write both halves into the stock block's first convolution."""
        first: Any = self.first
        second: Any = self.second
        counts = [part.conv.out_channels for part in (first, second)]
        if counts[0] != counts[1]:
            raise SlimError(f"torch-pruning left {name} with halves of {counts[0]} and {counts[1]} channels.")
        _join(conv.conv, first.conv, second.conv)
        _join(conv.bn, first.bn, second.bn)
        conv.conv.in_channels, conv.conv.out_channels = first.conv.in_channels, sum(counts)
        conv.bn.num_features = sum(counts)


def _part(conv: Any, rows: range) -> nn.Module:
    """Copy a stock convolution with some of its outputs."""
    part = copy.deepcopy(conv)
    wanted = LayerCut(outputs=tuple(rows), outputs_before=conv.conv.out_channels)
    cut_layer(part.conv, wanted)
    cut_norm(part.bn, wanted)
    return nn.Module.train(part, conv.training)


def _join(into: nn.Module, first: nn.Module, second: nn.Module) -> None:
    """Concatenate the outputs of two layers' parameters and statistics."""
    for name, _ in list(into.named_parameters()):
        values = torch.cat([getattr(first, name), getattr(second, name)]).detach().clone()
        setattr(into, name, nn.Parameter(values, requires_grad=False))
    for name in ("running_mean", "running_var"):
        if hasattr(into, name):
            setattr(into, name, torch.cat([getattr(first, name), getattr(second, name)]).clone())


def main() -> None:
    """Do the task in the first argument within the memory of the second one; print the answer."""
    limit = int(float(sys.argv[2]) * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"ratio": cut(PlainTask(**json.loads(sys.argv[1])))}))


if __name__ == "__main__":
    main()
