"""Time the prune stage and its peak memory, each model in a process of its own.

    python scripts/bench_prune.py --data ../shared/data/hardhat/data.yaml yolov8n yolo11n yolo26n yolov8s yolov8m \
        --out docs/benchmarks/records/prune.json

The networks are built from Ultralytics' own yaml files with random weights: speed and memory don't depend on training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from yolo_slim.config.run import PruneConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.files import read_json, write_json
from yolo_slim.machine import cores, device_model, peak_memory_mb
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

ROW = "row: "
"""Before the figures that the measuring process prints."""


def one(family: str, data: Path, imgsz: int) -> None:
    """Prune one network and print seconds, megabytes and the share of the MACs that went."""
    prepare_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from yolo_slim.stages import prune

    names = load_dataset(data).names
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{family}.pt"
        model = DetectionModel(f"{family}.yaml", nc=len(names), verbose=False)
        model.names = names
        torch.save({"model": model, "ema": None, "train_args": {}}, path)
        del model
        start = time.perf_counter()
        inputs = prune.PruneInputs(model=path)
        outputs = prune.run(inputs, PruneConfig(), Path(folder) / "out", Context.load(data, imgsz=imgsz))
        seconds = time.perf_counter() - start
        table = read_json(outputs.widths)
    removed = 1 - table["slim"]["macs"] / table["control"]["macs"]
    found = {"seconds": round(seconds, 2), "peak_memory_mb": peak_memory_mb(), "macs_removed": round(removed, 4)}
    print(ROW + json.dumps(found), flush=True)


def main() -> None:
    """Measure, print a Markdown table and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--here", action="store_true", help="measure the first one in this process")
    parser.add_argument("--out", type=Path, help="record to write, JSON")
    options = parser.parse_args()
    if options.here:
        one(options.families[0], options.data, options.imgsz)
        return
    print("| model | seconds | peak memory MB | MACs removed |\n|---|---|---|---|", flush=True)
    rows = {}
    for family in options.families:
        data = ["--data", str(options.data), "--imgsz", str(options.imgsz)]
        command = [sys.executable, __file__, family, *data, "--here"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = rows[family] = json.loads(said.partition(ROW)[2].partition("\n")[0])
        memory = row["peak_memory_mb"] or 0
        print(f"| {family} | {row['seconds']:.1f} | {memory:.0f} | {row['macs_removed']:.1%} |", flush=True)
    made = {"date": str(date.today()), "machine": device_model(), "cores": cores(), "versions": versions()}
    print(f"\n{made}")
    if options.out:
        write_json(options.out, {"imgsz": options.imgsz, **made, "models": rows})


if __name__ == "__main__":
    main()
