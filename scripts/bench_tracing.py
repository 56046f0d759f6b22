"""Where torch-pruning's dependency tracing explodes, beside one pass of ours.

    python scripts/bench_tracing.py yolo11n yolo12n

Builds Ultralytics networks from their yaml and asks torch-pruning for the group of one convolution after the other,
up to the first that takes more than ``--seconds``. Prints a Markdown table: ours and theirs, and how long the list of
indices was at that group's start and at its longest. docs/adr/0001-channel-labels.md says what that means.
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.pruning.groups import trace_channels


class OutOfTime(Exception):
    """A group took too long."""


def explosion(model: nn.Module, imgsz: int, seconds: int) -> tuple[float, str]:
    """Return the seconds that torch-pruning's graph took, and the first group that doesn't end, in words."""
    import torch_pruning as tp
    from torch_pruning.dependency.group import Group

    model.requires_grad_(True)
    started = time.perf_counter()
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, 3, imgsz, imgsz))
    built, longest, add = time.perf_counter() - started, [0], Group.add_dep

    def noted(self: Any, dep: Any, idxs: Any) -> Any:
        longest[0] = max(longest[0], len(idxs))
        return add(self, dep, idxs)

    def stop(*_: Any) -> None:
        raise OutOfTime

    Group.add_dep = noted
    signal.signal(signal.SIGALRM, stop)
    try:
        for name, layer in model.named_modules():
            if not isinstance(layer, nn.Conv2d) or layer.groups > 1:
                continue
            longest[0], width = 0, layer.out_channels
            signal.alarm(seconds)
            try:
                graph.get_pruning_group(layer, tp.prune_conv_out_channels, list(range(width)))
            except OutOfTime:
                return built, f"`{name}`: not in {seconds} s; {width} indices became {longest[0]}"
            except Exception as error:
                return built, f"`{name}`: {type(error).__name__}"
            finally:
                signal.alarm(0)
    finally:
        Group.add_dep = add
    return built, "every group ended"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("networks", nargs="+", help="Ultralytics yaml names, such as yolo11n")
    parser.add_argument("--imgsz", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=20, help="after which a group counts as not ending")
    given = parser.parse_args()
    prepare_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    print("| network | our trace, s | torch-pruning's graph, s | its groups |\n| --- | --- | --- | --- |")
    for network in given.networks:
        model = DetectionModel(f"{Path(network).stem}.yaml", verbose=False).eval()
        started = time.perf_counter()
        trace_channels(model, given.imgsz)
        ours = time.perf_counter() - started
        theirs, groups = explosion(model, given.imgsz, given.seconds)
        print(f"| {network} | {ours:.1f} | {theirs:.1f} | {groups} |", flush=True)


if __name__ == "__main__":
    main()
