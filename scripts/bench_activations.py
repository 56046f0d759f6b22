"""Time SiLU, Hardswish and ReLU in one network and its cut, in turns, and score networks that were recovered with them.

    python scripts/bench_activations.py best.pt --cut pruned.pt --out docs/benchmarks/records/activations.json
    python scripts/bench_activations.py --recovered relu=recovered.pt --data data.yaml --imgsz 320 --out FILE

The first form needs no training: the activations are exchanged in the weights as they are, because the shape alone
decides the speed. It times the bare runtimes, without letterbox and NMS: ONNX Runtime in fp32, in int8 with integer
convolutions as on Arm (``session.qdqisint8allowed``), and NCNN. The second form adds mAP to the same file. ``--work``
keeps what was built, for another call.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from yolo_slim.backends import Built, backend
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.config.run import ExportConfig, QuantizeConfig, ValidateConfig
from yolo_slim.devices.local import LocalDevice
from yolo_slim.export.onnx import export_onnx
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import score
from yolo_slim.measuring.images import scored_images
from yolo_slim.measuring.rounds import round_ratios
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import ACTIVATIONS, exchange
from yolo_slim.quantization import graph, qdq
from yolo_slim.quantization.integer import integer_convolutions
from yolo_slim.quantization.ranges import collect, observers, ranges_of
from yolo_slim.stages import build, export, quantize
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

SILU = "silu"
NAMES = (SILU, *sorted(ACTIVATIONS))
PAUSE_S = 0.2
"""Before a contender runs: the idle threads of one runtime spin for a while and would slow the next one down."""
RUNTIMES = ("onnxruntime-fp32", "onnxruntime-int8", "ncnn-fp16")
Infer = Callable[[Any], object]


@dataclass(frozen=True, order=True)
class Contender:
    """One network in one runtime."""

    runtime: str
    network: str
    imgsz: int
    activation: str


class Files:
    """The graphs of one network at one side, made where they are missing."""

    def __init__(self, weights: Path, network: str, imgsz: int, activation: str, work: Path) -> None:
        self.folder = work / f"{network}-{imgsz}-{activation}"
        self.imgsz = imgsz
        self.folder.mkdir(parents=True, exist_ok=True)
        self._weights, self._activation = weights, activation

    @property
    def onnx(self) -> Path:
        """The float graph."""
        path = self.folder / "model.onnx"
        if not path.exists():
            loaded = checkpoint.load(self._weights)
            if self._activation != SILU:
                exchange(loaded.model, self._activation)
            exchanged = self.folder / "exchanged.pt"
            checkpoint.save(exchanged, loaded, loaded.model)
            export_onnx(exchanged, ExportConfig(), self.imgsz, path)
        return path

    @property
    def int8(self) -> Path:
        """Every layer in int8 that may be, with ranges of two random images: the shape alone matters."""
        path = self.folder / "model-int8.onnx"
        if not path.exists():
            model = graph.load(self.onnx)
            layers = graph.parts(model).body
            statistics = observers(model, layers)
            collect(model, statistics, [blob_of(self.imgsz, seed) for seed in (1, 2)], lambda _: None)
            graph.save(qdq.quantize(model, layers, ranges_of(statistics, "max", graph.never_negative(model))), path)
        return path

    @property
    def ncnn(self) -> Built:
        """NCNN's files."""
        found = self.folder / "ncnn.json"
        if not found.exists():
            made = backend("ncnn").build(
                self.onnx, self.folder, precision="fp16", imgsz=(self.imgsz, self.imgsz)
            )  # fmt: skip
            write_json(found, vars(made))
        return Built(**read_json(found))


def blob_of(imgsz: int, seed: int = 0) -> Any:
    """A random image as a runtime's input."""
    return np.random.default_rng(seed).random((1, 3, imgsz, imgsz), np.float32)


def session(onnx: Path) -> Any:
    """An ONNX Runtime session that makes integer convolutions of signed int8, as on Arm."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])


def opened(runtime: str, files: Files) -> Infer:
    """Open a network in a runtime."""
    if runtime == "ncnn-fp16":
        made: Any = SimpleNamespace(**vars(files.ncnn))
        return backend("ncnn").open(files.folder, made, cores()).infer
    loaded = session(files.int8 if runtime == "onnxruntime-int8" else files.onnx)
    return lambda blob: loaded.run(None, {"images": blob})


def time_all(contenders: Mapping[Contender, Infer], rounds: int, seconds: float) -> dict[Contender, list[float]]:
    """The median milliseconds of every contender in every round, in turns; every other round goes backwards."""
    medians: dict[Contender, list[float]] = {key: [] for key in contenders}
    for index in range(rounds):
        keys = list(contenders)
        for key in keys if index % 2 else reversed(keys):
            time.sleep(PAUSE_S)
            medians[key].append(block(contenders[key], blob_of(key.imgsz), seconds))
        print(f"round {index + 1} of {rounds}: load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return medians


def block(infer: Infer, blob: Any, seconds: float) -> float:
    """The median milliseconds of a block of inferences; the first three don't count."""
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 8 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        infer(blob)
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(samples[3:]))


def timings(networks: Mapping[str, Path], sides: Sequence[int], work: Path, options: argparse.Namespace) -> JsonObject:
    """Build and time everything."""
    files: dict[tuple[str, int, str], Files] = {}
    contenders: dict[Contender, Infer] = {}
    for network, weights in networks.items():
        for imgsz in sides:
            for name in NAMES:
                one = files[(network, imgsz, name)] = Files(weights, network, imgsz, name, work)
                for runtime in RUNTIMES:
                    contenders[Contender(runtime, network, imgsz, name)] = opened(runtime, one)
                print(f"built {network} {imgsz} {name}", file=sys.stderr, flush=True)
    ordered = {key: contenders[key] for key in sorted(contenders)}
    medians = time_all(ordered, options.rounds, options.seconds)
    rows = [row(key, medians) for key in medians]
    graphs = [arm_graph(network, name, files[(network, sides[0], name)]) for network in networks for name in NAMES]
    return {"rounds": options.rounds, "seconds": options.seconds, "timings": rows, "int8_graphs": graphs}


def row(key: Contender, medians: Mapping[Contender, list[float]]) -> JsonObject:
    """The figures of one contender; the ratio says how many times as fast as SiLU it is."""
    ratios = round_ratios(medians[replace(key, activation=SILU)], medians[key], valid=True)
    return {
        **vars(key), "ms": float(np.median(medians[key])),
        "times_as_fast_as_silu": [ratios.ratio, ratios.lowest, ratios.highest], "round_ms": medians[key],
    }  # fmt: skip


def arm_graph(network: str, activation: str, files: Files) -> JsonObject:
    """What is left of an int8 graph after the optimiser for Arm: integer convolutions, and passes over floats."""
    count = integer_convolutions(files.int8)
    operators = Counter(optimised_operators(files.int8))
    kinds = ("QuantizeLinear", "DequantizeLinear", "Sigmoid", "HardSigmoid", "HardSwish", "Mul")
    return {
        "network": network, "activation": activation, "integer": count.integer, "float": count.float,
        "operators": {kind: operators[kind] for kind in kinds},
    }  # fmt: skip


def optimised_operators(onnx: Path) -> list[str]:
    """Operators of the graph without the layouts of one processor, which only x86 has."""
    import onnx as onnx_package
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx_package.load(options.optimized_model_filepath).graph.node]


def accuracy(weights: Path, options: argparse.Namespace, folder: Path) -> JsonObject:
    """The mAP of one recovered network in every build."""
    context = Context.load(options.data, imgsz=options.imgsz)
    in_cpu = ["fp32"] if options.float_only else ["fp32", "int8"]
    choices = [
        RuntimeChoice.model_validate({"runtime": "onnxruntime", "precisions": in_cpu}),
        RuntimeChoice(runtime="ncnn", precisions=["fp16"]),
    ]
    context = replace(context, profile=context.profile.model_copy(update={"runtimes": choices}))
    onnx = export.run(weights, ExportConfig(), folder / "export", context).onnx
    graphs: Mapping[str, Path] = {}
    if not options.float_only:
        inputs = quantize.QuantizeInputs(onnx=onnx)
        graphs = quantize.run(inputs, QuantizeConfig(), folder / "quantize", context, precisions=["int8"]).graphs
    source = build.BuildInputs(onnx=onnx, images=selfcheck_images(context.dataset), graphs=graphs)
    bundles = build.run(source, folder / "build", context, name=weights.stem).bundles
    images = scored_images(context.dataset, ValidateConfig(), folder / "scored")
    device, found = LocalDevice(), {}
    for key, bundle in bundles.items():
        answers = device.infer(device.put(bundle), images.folder)
        result = score(images.truths, [answer.detections for answer in answers], context.dataset.names)
        found[str(key)] = result.map50_95
    return {"map50_95": found, "images": len(images.paths), "split": images.split}


def without_folder(word: str) -> str:
    """A word of the command line without the folders of this machine."""
    name, _, path = word.rpartition("=")
    return "=".join([*([name] if name else []), Path(path).name]) if Path(path).is_absolute() else word


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--cut", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--recovered", action="append", default=[], metavar="ACTIVATION=FILE")
    parser.add_argument("--float-only", action="store_true", help="score no int8 build")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    about = {
        "date": str(date.today()), "machine": device_model(), "cores": cores(), "versions": versions(),
        "command": f"python scripts/bench_activations.py {' '.join(map(without_folder, sys.argv[1:]))}",
    }  # fmt: skip
    record = read_json(options.out) if options.out.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        if options.model:
            networks = {"control": options.model, **({"cut": options.cut} if options.cut else {})}
            record["speed"] = {**about, **timings(networks, options.sides, work, options)}
        for name, path in (text.split("=", 1) for text in options.recovered):
            scores = accuracy(Path(path), options, work / f"recovered-{name}")
            record.setdefault("accuracy", {})[name] = {**about, **scores}
    write_json(options.out, record)


if __name__ == "__main__":
    main()
