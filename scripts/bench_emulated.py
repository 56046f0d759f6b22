"""Try the bundles of trained models on the emulated Raspberry Pis, against this machine, and print a Markdown table.

    python scripts/bench_emulated.py --data ../shared/data/hardhat/data.yaml ../shared/models/hardhat/*.pt

Of every model there is the control's fp32 bundle, and every bundle of the pruned network, which isn't trained again:
what is compared is one bundle on two machines, and not two networks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from yolo_slim.build_key import BuildKey
from yolo_slim.config.record import read_record
from yolo_slim.config.run import EmulateConfig, ExportConfig, PruneConfig, QuantizeConfig, RecoverConfig, ValidateConfig
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import Root, require_root
from yolo_slim.files import read_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.emulated import Emulated, EmulatedBuild
from yolo_slim.stages import build, emulate, export, prune, quantize
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

HEAD = (
    "| model | build | processor | both find | one finds | score differs by | lowest IoU | mAP50-95 there | here | "
    "memory MB | seconds |"
)


def main() -> None:
    """Build, emulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--targets", nargs="+", default=["rpi5", "rpi4"])
    options = parser.parse_args()
    root = require_root(next(iter(PROCESSORS)))
    print(HEAD)
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for weights in options.models:
        with tempfile.TemporaryDirectory() as name:
            bundles = built(weights, Path(name), Context.load(options.data, "rpi5", imgsz=options.imgsz))
            for target in options.targets:
                rows = emulated(bundles, Path(name) / target, options, target)
                for row in rows:
                    print(as_row(weights.stem, target, row), flush=True)
    print(f"\n{about(root, options.images, options.imgsz)}")


def built(weights: Path, folder: Path, context: Context) -> dict[BuildKey, Path]:
    """Build the control's and the pruned network's bundles for a Raspberry Pi 5; a Pi 4 has the same builds."""
    cut = prune.run(
        prune.PruneInputs(model=weights, training=RecoverConfig()), PruneConfig(steps=1), folder / "prune", context
    ).weights
    found: dict[BuildKey, Path] = {}
    for model, start in (("control", weights), ("slim", cut)):
        graph = export.run(start, ExportConfig(parity_images=2), folder / model / "export", context).onnx
        config = QuantizeConfig(images=64, check_images=0, scan_images=4, parity_images=2)
        inputs = quantize.QuantizeInputs(onnx=graph)
        graphs = quantize.run(inputs, config, folder / model / "quantize", context, precisions=["int8"]).graphs
        parts = build.BuildInputs(onnx=graph, graphs=graphs, images=selfcheck_images(context.dataset))
        bundles = build.run(parts, folder / model / "build", context, name=f"{weights.stem}-{model}").bundles
        found |= {BuildKey.parse(f"{model}/{name}"): path for name, path in bundles.items()}
    return found


def emulated(
    bundles: dict[BuildKey, Path], folder: Path, options: argparse.Namespace, target: str
) -> Sequence[EmulatedBuild]:
    """Emulate the bundles on a target's processor."""
    context = Context.load(options.data, target, imgsz=options.imgsz)
    config = EmulateConfig(mode="always", images=options.images)
    path = emulate.run(bundles, config, ValidateConfig(), folder, context)
    assert path is not None
    return read_record(Emulated, read_json(path), str(path), "").builds


def as_row(model: str, target: str, found: EmulatedBuild) -> str:
    """One bundle as a row; a problem takes the place of its figures."""
    start = f"| {model} | {found.key} | {PROCESSORS[f'{target}-emulated'].label} |"
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


def about(root: Root, images: int, imgsz: int) -> str:
    """Say how the table was made."""
    facts = root.facts
    made = ", ".join(f"{package} {version}" for package, version in versions().items())
    return (
        f"`python {' '.join(sys.argv)}`: {images} images, {imgsz} px, {date.today().isoformat()}, {device_model()}, "
        f"{cores()} cores; QEMU {facts.qemu_version}, {facts.source}, Python {facts.python}, "
        f"{', '.join(facts.wheels)}; "
        f"the system takes {facts.size_mb:.0f} MB and was prepared in {facts.seconds:.0f} s; {made}"
    )


if __name__ == "__main__":
    main()
