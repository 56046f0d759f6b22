"""Try the bundles of finished runs on the emulated Raspberry Pis, against this machine, and print a Markdown table.

    python scripts/bench_emulated.py runs/slim/quickstart-rpi5 runs/slim/yolov8n-rpi5-320-50 --images 8

Of every run there is the control's fp32 bundle, and every bundle of the slim model. The images are those of the run.
"""

from __future__ import annotations

import argparse
import sys
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
from yolo_slim.files import read_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.emulated import Emulated, EmulatedBuild
from yolo_slim.stages import emulate
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

HEAD = (
    "| run | build | processor | both find | one finds | score differs by | lowest IoU | mAP50-95 there | here | "
    "memory MB | seconds |"
)


def main() -> None:
    """Emulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--targets", nargs="+", default=["rpi5", "rpi4"])
    options = parser.parse_args()
    root = require_root(next(iter(PROCESSORS)))
    print(HEAD)
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for run in options.runs:
        for target in options.targets:
            with tempfile.TemporaryDirectory() as folder:
                for row in emulated(run, Path(folder), options.images, target):
                    print(as_row(run.name, target, row), flush=True)
    print(f"\n{about(root, options.images)}")


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
    """One bundle as a row; a problem takes the place of its figures."""
    start = f"| {run} | {found.key} | {PROCESSORS[f'{target}-emulated'].label} |"
    if found.problems:
        return f"{start} {found.status}: {'; '.join(found.problems)} |"
    score, iou = found.largest_score_difference, found.lowest_iou
    figures = [
        str(found.matched),
        str(found.unmatched),
        "-" if score is None else f"{score:.4f}",
        "-" if iou is None else f"{iou:.4f}",
        f"{found.map50_95:.4f}",
        f"{found.workstation_map50_95:.4f}",
        "-" if found.peak_memory_mb is None else f"{found.peak_memory_mb:.0f}",
        f"{found.seconds:.0f}",
    ]
    return f"{start} {' | '.join(figures)} |"


def about(root: Root, images: int) -> str:
    """Say how the table was made."""
    facts = root.facts
    made = ", ".join(f"{package} {version}" for package, version in versions().items())
    return (
        f"`python {' '.join(sys.argv)}`: {images} images, {date.today().isoformat()}, {device_model()}, "
        f"{cores()} cores; QEMU {facts.qemu_version}, {facts.source}, Python {facts.python}, "
        f"{', '.join(facts.wheels)}; "
        f"the system takes {facts.size_mb:.0f} MB and was prepared in {facts.seconds:.0f} s; {made}"
    )


if __name__ == "__main__":
    main()
