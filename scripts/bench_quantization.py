"""Compare fp32, fp16 and int8 graphs of the same weights, and Ultralytics' own int8 recipe, on the same images.

    python scripts/bench_quantization.py --data ../shared/data/hardhat/data.yaml ../shared/models/hardhat/*.pt

Every figure is mAP50-95 of the graph in ONNX Runtime on this machine, which computes int8 exactly as a Pi does, through
our own pre- and post-processing. Ultralytics' recipe gets the same float graph and the same calibration images. What is
measured stays in ``runs/bench/quantization.json``: a run that was stopped goes on, another adds its rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from yolo_slim.config.run import ExportConfig, QuantizeConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.files import merge_json, read_json, sha256
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import read_truths, score
from yolo_slim.measuring.predict import detect_all, onnx_infer
from yolo_slim.models.ultralytics import prepare_ultralytics, use_all_cores
from yolo_slim.progress import Silent
from yolo_slim.quantization import calibration_file, graph
from yolo_slim.quantization.inputs import blobs
from yolo_slim.quantization.integer import integer_convolutions
from yolo_slim.stages import export, quantize
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import require_manifest, versions

ROWS = ("fp32", "fp16", "int8", "int8-tensorrt", "int8 Ultralytics")


def main() -> None:
    """Measure what is missing and print a Markdown table."""
    options = _options()
    prepare_ultralytics()
    use_all_cores()
    dataset = load_dataset(options.data)
    kept: dict[str, Any] = read_json(_store(options)) if _store(options).is_file() else {}
    for weights in options.models:
        bench = _Bench(weights, dataset, options)
        for row in ROWS:
            key = f"{bench.key}/{row}"
            if key not in kept:
                kept = merge_json(_store(options), {key: bench.measure(row)})
    _print(options, dataset, kept)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--end2end", action="store_true")
    parser.add_argument("--images", type=int, default=QuantizeConfig().images, help="calibration images")
    parser.add_argument("--ranges", default=QuantizeConfig().ranges)
    parser.add_argument("--max-float-layers", type=int, default=QuantizeConfig().max_float_layers)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    return parser.parse_args()


def _store(options: argparse.Namespace) -> Path:
    return Path(options.out) / "quantization.json"


class _Bench:
    """One checkpoint; its graphs are made when the first row needs them, and kept."""

    def __init__(self, weights: Path, dataset: Dataset, options: argparse.Namespace) -> None:
        self.options, self.dataset, self.weights = options, dataset, weights
        recipe = f"{options.images}-{options.ranges}-{options.max_float_layers}"
        head = "-end2end" if options.end2end else ""
        data = f"{options.data.parent.name}-{dataset.digest[:8]}"
        self.name = f"{data}-{weights.stem}{head}-{options.imgsz}-{recipe}-{sha256(weights)[:8]}"
        self.key = f"{self.name}/{options.split}"
        self.folder = Path(options.out) / "quantization" / self.name
        self.layout = "end2end" if options.end2end else "one2many"

    def measure(self, row: str) -> dict[str, Any]:
        """Return a row's figures."""
        path = self.graph(row)
        images = self.dataset.splits[self.options.split]
        found = detect_all(
            images, onnx_infer(path), layout=self.layout, imgsz=self.options.imgsz, progress=Silent(), text=""
        )
        accuracy = score(read_truths(images, self.dataset.label_format()), found, self.dataset.names)
        count = integer_convolutions(path)
        print(f"{self.name} {row}: {accuracy.map50_95:.4f}", file=sys.stderr, flush=True)
        return {
            "map50_95": accuracy.map50_95,
            "map50": accuracy.map50,
            "per_class": accuracy.per_class,
            "images": len(images),
            "integer": count.integer,
            "float": count.float,
            "mb": path.stat().st_size / 1e6,
            "made": {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", **versions()},
        }

    def graph(self, row: str) -> Path:
        """Return a row's graph."""
        config = ExportConfig(end2end=self.options.end2end, parity_images=2)
        context = Context.load(self.options.data, imgsz=self.options.imgsz)
        exported = export.run(self.weights, config, self.folder / "export", context).onnx
        if row == "fp32":
            return exported
        made = self._quantized(exported)
        if row in made.graphs:
            return made.graphs[row]
        assert made.calibration is not None
        return _theirs(exported, made.calibration, self.dataset, self.folder / "ultralytics.onnx")

    def _quantized(self, exported: Path) -> quantize.QuantizeOutputs:
        options = self.options
        config = QuantizeConfig(images=options.images, ranges=options.ranges, max_float_layers=options.max_float_layers)
        inputs = quantize.QuantizeInputs(onnx=exported)
        made = quantize.run(inputs, config, self.folder / "quantize", Context.load(options.data, imgsz=options.imgsz))
        print(
            f"{self.name}: {require_manifest(self.folder / 'quantize', 'quantize').seconds} s",
            file=sys.stderr,
            flush=True,
        )
        return made


def _theirs(exported: Path, frozen: Path, dataset: Dataset, out: Path) -> Path:
    """Return Ultralytics' int8 graph of the same float graph and calibration images."""
    from ultralytics.utils.export.onnx import onnx_int8_quantize

    imgsz = int(read_json(frozen)["imgsz"])
    images = calibration_file.load(frozen, dataset, imgsz=imgsz).images
    copied: Callable[[Any], Any] = lambda blob: blob.copy()  # noqa: E731
    onnx_int8_quantize(str(exported), str(out), _Again(images, imgsz), copied)
    graph.load(out)
    return out


class _Again:
    """The calibration inputs, as often as they are asked for."""

    def __init__(self, images: Any, imgsz: int) -> None:
        self.images, self.imgsz = images, imgsz

    def __iter__(self) -> Any:
        return blobs(self.images, self.imgsz)


def _print(options: argparse.Namespace, dataset: Dataset, kept: dict[str, Any]) -> None:
    """Print the rows of this call, and where and with what each was measured."""
    made: dict[str, None] = {}
    print("| weights | graph | mAP50-95 | against fp32, points | integer convolutions | float | MB |")
    print("|---|---|---|---|---|---|---|")
    for weights in options.models:
        bench = _Bench(weights, dataset, options)
        base = kept[f"{bench.key}/fp32"]["map50_95"]
        for row in ROWS:
            found = kept[f"{bench.key}/{row}"]
            change = "" if row == "fp32" else f"{100 * (found['map50_95'] - base):+.2f}"
            cells = [weights.stem, row, f"{found['map50_95']:.4f}", change, found["integer"], found["float"]]
            print(f"| {' | '.join(map(str, cells))} | {found['mb']:.1f} |")
            told = [value if key in ("date", "machine") else f"{key} {value}" for key, value in found["made"].items()]
            made[f"{found['images']} {options.split} images, {', '.join(told)}"] = None
    print(f"\n`python scripts/bench_quantization.py {' '.join(sys.argv[1:])}`, {options.imgsz} px:")
    print("\n".join(made))


if __name__ == "__main__":
    main()
