"""Time a recovery's training step on this CPU: Ultralytics' way, channels last with a fused teacher, and in bfloat16.

    python scripts/bench_training.py --data ../shared/data/hardhat/data.yaml pruned.pt:best.pt other-pruned.pt:other.pt

A step is forward, loss, distillation and backward pass of 16 images, without loading, optimizer and validation. The
variants run in turns; medians, and ratios to the first one in the same turn with their smallest and largest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from yolo_slim.datasets.description import load_dataset
from yolo_slim.files import write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.models import checkpoint
from yolo_slim.models.ultralytics import prepare_ultralytics, use_all_cores
from yolo_slim.workspace.job import versions

STOCK = "float32, channels first"
"""As Ultralytics trains on a CPU."""


def steps(student: Path, teacher: Path, data: Path, imgsz: int) -> dict[str, Callable[[], None]]:
    """Return one training step of every variant."""
    import torch
    from ultralytics.cfg import get_cfg

    from yolo_slim.training.batches import batches, choose
    from yolo_slim.training.distill import distilled
    from yolo_slim.training.precision import Float32Criterion, fused

    dataset = load_dataset(data)
    batch = next(batches(choose(dataset.splits["train"], 16, 0), imgsz, 16, dataset.label_format()))

    def step(*, last: bool, mixed: bool) -> Callable[[], None]:
        model: Any = checkpoint.load(student).model.float().train().requires_grad_(True)
        model.args = get_cfg()
        guide = checkpoint.load(teacher, (checkpoint.load(student).task,)).model.float()
        if last:
            model, guide = (net.to(memory_format=torch.channels_last) for net in (model, fused(guide)))
        own = model.init_criterion()
        model.criterion = distilled(Float32Criterion(own) if mixed else own, guide, 3.0)

        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
                loss, _ = model(batch)
            loss.sum().backward()

        return run

    return {
        STOCK: step(last=False, mixed=False),
        "float32, channels last, fused teacher": step(last=True, mixed=False),
        "bfloat16, channels last, fused teacher": step(last=True, mixed=True),
    }


def timed(variants: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return every variant's seconds in every turn, after one that doesn't count."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn:
                found[name].append(time.perf_counter() - start)
    return found


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", help="pruned and unpruned checkpoint, with a colon between")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="record to write, JSON")
    options = parser.parse_args()
    prepare_ultralytics()
    from yolo_slim.training.precision import has_bfloat16

    use_all_cores()
    print("| network | step | seconds | ratio |\n|---|---|---|---|")
    seconds_by_network = {}
    for pair in options.pairs:
        student, _, teacher = pair.partition(":")
        found = timed(steps(Path(student), Path(teacher), options.data.resolve(), options.imgsz), options.rounds)
        seconds_by_network[Path(teacher).stem] = found
        for name, seconds in found.items():
            ratios = sorted(own / stock for own, stock in zip(seconds, found[STOCK], strict=True))
            spread = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"| {Path(teacher).stem} | {name} | {median(seconds):.2f} | {spread} |", flush=True)
    made = {"date": str(date.today()), "machine": device_model(), "cores": cores(), "versions": versions()}
    print(f"\n{made}, bfloat16 multiplied: {has_bfloat16()}")
    if options.out:
        record = {"imgsz": options.imgsz, "bfloat16_multiplied": has_bfloat16(), "seconds": seconds_by_network}
        write_json(options.out, {**made, **record})


if __name__ == "__main__":
    main()
