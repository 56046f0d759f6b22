"""Run the whole chain on several checkpoints of one data set and print control against slim as a Markdown table.

    python scripts/bench_recovery.py --data ../shared/data/hardhat/data.yaml --imgsz 320 --epochs 10 \
        ../shared/models/hardhat/yolov8n.pt ../shared/models/hardhat/yolo11n.pt ../shared/models/hardhat/yolo26n.pt

Each run lives in runs/slim/hardhat-MODEL-...: a killed one goes on. The table is made from the runs' result.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import yolo_slim
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json


class Lines:
    """Progress as plain lines."""

    def step(self, text: str, done: int, total: int) -> None:
        """Say nothing of single steps."""

    def say(self, text: str) -> None:
        """Print."""
        print(text, file=sys.stderr, flush=True)


def marked(found: dict[str, Any], key: str, pattern: str, unit: str = "") -> str:
    """Return a figure of a timing, marked where the timing doesn't count."""
    return format(found[key], pattern) + unit + ("" if found["valid"] else " (invalid)")


def rows(result: dict[str, Any], name: str) -> list[str]:
    """Return the table's lines for one run."""
    ladder = {rung["rung"]: rung for rung in result["ladder"]}
    builds = {build["name"]: build for build in result["builds"]}
    lines = []
    for model, rung in (("control", "control"), ("slim", "recovered")):
        size = result["size"][model]
        fps = [marked(builds[f"{model}/{key}"]["bench"], "fps", ".1f") for key in ("onnxruntime-fp32", "ncnn-fp16")]
        lines.append(
            f"| {name} {model} | {ladder[rung]['map50_95']:.3f} | {size['params'] / 1e6:.2f} | "
            f"{size['macs'] / 1e9:.3f} | {fps[0]} | {fps[1]} |"
        )
    drop = ladder["recovered"]["drop"] * 100
    ratios = {f"{row['runtime']}-{row['precision']}": row for row in result["speedups"]}
    gain = [
        f"{marked(ratios[key], 'ratio', '.2f', 'x')} ({ratios[key]['lowest']:.2f} to {ratios[key]['highest']:.2f})"
        for key in ("onnxruntime-fp32", "ncnn-fp16")
    ]
    pruned = ladder["pruned"]["map50_95"]
    lines.append(
        f"| {name} difference (pruned, untrained: {pruned:.3f}) | {-drop:+.2f} points | | | {gain[0]} | {gain[1]} |"
    )
    return lines


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--prune", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = ["| | mAP50-95 | M params | GMACs | ONNX Runtime FPS | NCNN FPS |", "|---|---|---|---|---|---|"]
    try:
        for model in options.models:
            outcome = yolo_slim.run(
                model,
                options.data,
                target="host",
                imgsz=options.imgsz,
                prune=options.prune,
                epochs=options.epochs,
                name=f"{options.data.parent.name}-{model.stem}",
                command=shlex.join(["python", "scripts/bench_recovery.py", *sys.argv[1:]]),
                progress=Lines(),
            )
            result = read_json(outcome.result)
            text += rows(result, model.stem)
    except SlimError as error:
        sys.exit(f"error: {error}")
    machine = result["machine"]
    text += [
        "",
        f"{result['measured_at']}, {machine['model']}, {machine['cores']} cores, {result['data']['images']} "
        f"{result['data']['split']} images; " + ", ".join(f"{k} {v}" for k, v in result["versions"].items()),
    ]
    print("\n".join(text))
    if options.out:
        options.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
