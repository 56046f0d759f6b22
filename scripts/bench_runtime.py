"""Time our detector against the bare runtime and Ultralytics' own prediction, on the same file, threads and frames.

    python scripts/bench_runtime.py ../shared/models/hardhat/yolov8n.pt --data ../shared/data/hardhat/data.yaml

Everything runs in one process; every contender gets all frames in each round, in turning order, so that a noisy machine
hits all of them alike. Reported are medians, and the medians of the per-round ratios.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yolo_slim.build_key import BuildName
from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets.description import load_dataset
from yolo_slim.files import write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image
from yolo_slim.stages import build, export
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions


def bare_session(onnx: Path, threads: int) -> Any:
    """Return an ONNX Runtime session without anything around it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])


def ncnn_folder(bundle: Path, onnx: Path, folder: Path) -> Path:
    """Return our NCNN files laid out as Ultralytics wants them, so that both run the same network."""
    import onnx as onnx_package

    folder.mkdir()
    for file in ("model.ncnn.param", "model.ncnn.bin"):
        shutil.copyfile(bundle / file, folder / file)
    props = {item.key: item.value for item in onnx_package.load(str(onnx)).metadata_props}
    literal = {
        key: ast.literal_eval(props[key]) for key in ("stride", "imgsz", "names", "batch", "args") if key in props
    }
    about = {"task": props["task"], "end2end": False, "channels": 3, **literal}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    return folder


def time_all(contenders: dict[str, Callable[[Any], Any]], frames: list[Any], rounds: int) -> dict[str, np.ndarray]:
    """Return the median milliseconds of every round, (rounds,) for each contender.

    A round gives every contender all frames in one block, after a pause and three frames that don't count: the idle
    threads of one runtime spin for a while and would slow the next one down.
    """
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            time.sleep(0.3)
            samples = []
            for frame in [*frames[:3], *frames]:
                start = time.perf_counter_ns()
                contenders[name](frame)
                samples.append((time.perf_counter_ns() - start) / 1e6)
            medians[name].append(float(np.median(samples[3:])))
    return {name: np.array(values) for name, values in medians.items()}


def shield() -> None:
    """Give every thread of this process the scheduler's real-time class; the runtimes' threads exist by now."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(1))


def unshield() -> None:
    """Give every thread its usual class back."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def main() -> None:
    """Build, measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shield", action="store_true", help="keep other programs away (root)")
    parser.add_argument("--out", type=Path, help="record to write, JSON")
    options = parser.parse_args()
    if options.threads != cores():
        parser.error(f"Ultralytics uses every core ({cores()}) and can't be told otherwise: give that many threads")
    prepare_ultralytics()
    dataset = load_dataset(options.data)
    frames = [read_image(path, convert_channels=True) for path in dataset.splits["val"][: options.frames]]
    against = "against bare ONNX Runtime | against it with the bundle's graph"
    print(f"| imgsz | contender | median ms | {against} | Ultralytics on the same file takes |")
    print("|---|---|---|---|---|---|")
    rounds_ms: dict[str, object] = {}
    for imgsz in options.imgsz:
        with tempfile.TemporaryDirectory() as folder:
            rounds_ms[str(imgsz)] = measure(options, Path(folder), dataset, frames, imgsz)
    if options.out:
        about_run = {
            "command": " ".join(sys.argv),
            "date": str(date.today()),
            "machine": device_model(),
            "cores": cores(),
        }
        write_json(options.out, {**about_run, "versions": versions(), "frames": len(frames), "rounds_ms": rounds_ms})
    about = ", ".join(f"{key} {value}" for key, value in versions().items())
    print(
        f"\n`python scripts/bench_runtime.py {' '.join(sys.argv[1:])}`: {len(frames)} frames x {options.rounds} rounds,"
    )
    print(f"{options.threads} threads, {date.today()}, {device_model()}, {cores()} cores; {about}")


def measure(
    options: argparse.Namespace, folder: Path, dataset: Any, frames: list[Any], imgsz: int
) -> dict[str, list[float]]:
    """Print the rows of one input size; the answer is the median of every round, milliseconds."""
    from ultralytics import YOLO

    context = Context.load(options.data, imgsz=imgsz)
    onnx = export.run(options.model, ExportConfig(), folder / "export", context).onnx
    images = selfcheck_images(dataset)
    built = build.run(build.BuildInputs(onnx=onnx, images=images), folder / "b", context, name="t")
    theirs = ncnn_folder(built.bundles[BuildName("ncnn", "fp16")], onnx, folder / "model_ncnn_model")
    ours = {str(key): Detector(path, options.threads) for key, path in built.bundles.items()}
    session = bare_session(onnx, options.threads)
    graph = built.bundles[BuildName("onnxruntime", "fp32")] / "model.onnx"
    bundled = bare_session(graph, options.threads)
    blob = Letterbox((imgsz, imgsz))(frames[0])[0].copy()
    name = session.get_inputs()[0].name
    yolo = {"ORT": YOLO(onnx, task="detect"), "NCNN": YOLO(theirs, task="detect")}
    if options.shield:
        shield()
    samples = time_all(
        {
            "bare ONNX Runtime session": lambda _: session.run(None, {name: blob}),
            "bare session, the bundle's graph": lambda _: bundled.run(None, {name: blob}),
            "yolo_slim onnxruntime-fp32": ours["onnxruntime-fp32"].detect,
            "YOLO('model.onnx')": lambda frame: yolo["ORT"](frame, imgsz=imgsz, verbose=False),
            "yolo_slim ncnn-fp16": ours["ncnn-fp16"].detect,
            "YOLO('..._ncnn_model')": lambda frame: yolo["NCNN"](frame, imgsz=imgsz, verbose=False),
        },
        frames,
        options.rounds,
    )
    unshield()
    bare = samples["bare ONNX Runtime session"]
    own = samples["bare session, the bundle's graph"]
    rivals = {"yolo_slim onnxruntime-fp32": "YOLO('model.onnx')", "yolo_slim ncnn-fp16": "YOLO('..._ncnn_model')"}
    for contender, values in samples.items():
        gain = f"{np.median(samples[rivals[contender]] / values):.2f}x as long" if contender in rivals else ""
        against = f"{np.median(values / bare):.3f} | {np.median(values / own):.3f}"
        print(f"| {imgsz} | {contender} | {np.median(values):.2f} | {against} | {gain} |", flush=True)
    return {contender: values.tolist() for contender, values in samples.items()}


if __name__ == "__main__":
    main()
