"""Try the bundles of finished runs on the emulated Raspberry Pis, against this machine: docs/benchmarks/emulated.md.

    python -m scripts.bench_emulated runs/slim/yolov8n runs/slim/yolo11n --images 8 --out record.json

Of every run there is the control's fp32 bundle, and every bundle of the slim model. The images are those of the run.
Prints a Markdown table; the record is written after every run and processor.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from yolo_slim.build_key import BuildKey
from yolo_slim.bundle import read_spec
from yolo_slim.config.record import read_record
from yolo_slim.config.run import EmulateConfig, ValidateConfig
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import Root, require_root
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.emulated import Emulated, EmulatedBuild
from yolo_slim.stages import emulate
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

COLUMNS = (
    "model", "build", "processor", "both find", "one finds", "suppressed", "score differs by", "lowest IoU",
    "sides apart, px", "mAP50-95 there", "here", "memory MB", "seconds", "status",
)  # fmt: skip


def main() -> None:
    """Emulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--targets", nargs="+", default=["rpi5", "rpi4"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record = {"images": options.images, **about(require_root(next(iter(PROCESSORS)))), "rows": []}
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for run in options.runs:
        for target in options.targets:
            with tempfile.TemporaryDirectory() as folder:
                for row in emulated(run, Path(folder), options.images, target):
                    record["rows"].append({"model": run.name, "target": target, **row.to_json()})
                    print(as_row(run.name, target, row), flush=True)
            write_json(options.out, record)


def emulated(run: Path, folder: Path, images: int, target: str) -> Sequence[EmulatedBuild]:
    """Try a run's bundles on a target's processor."""
    bundles = {
        BuildKey.parse(f"{path.parents[1].name}/{path.parent.name}"): path.parent
        for path in sorted(run.glob("build/*/*/bundle.json"))
    }
    data = Path(read_json(run / "folder.json")["identity"]["data"])
    imgsz = read_spec(next(iter(bundles.values()))).imgsz[0]
    context = Context.load(data, target, imgsz=imgsz)
    path = emulate.run(bundles, EmulateConfig(mode="always", images=images), ValidateConfig(), folder, context)
    assert path is not None
    return read_record(Emulated, read_json(path), str(path), "").builds


def as_row(run: str, target: str, found: EmulatedBuild) -> str:
    """One bundle as a row."""
    figures = (
        (found.largest_score_difference, ".4f"), (found.lowest_iou, ".4f"), (found.largest_shift_px, ".1f"),
        (found.map50_95, ".4f"), (found.workstation_map50_95, ".4f"), (found.peak_memory_mb, ".0f"),
        (found.seconds, ".0f"),
    )  # fmt: skip
    cells = [
        run, str(found.key), PROCESSORS[f"{target}-emulated"].label,
        str(found.matched), str(found.unmatched), str(found.suppressed),
        *("-" if value is None else format(value, spec) for value, spec in figures),
        "; ".join((found.status, *found.problems)),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def about(root: Root) -> JsonObject:
    """How the table was made."""
    facts = root.facts
    system = {
        "qemu": facts.qemu_version, "source": facts.source, "python": facts.python, "wheels": list(facts.wheels),
        "size_mb": facts.size_mb, "prepared_in_seconds": facts.seconds,
    }  # fmt: skip
    machine = {"model": device_model(), "cores": cores()}
    return {"date": str(date.today()), "machine": machine, "versions": versions(), "emulated": system}


if __name__ == "__main__":
    main()
