"""model.onnx -> int8 and fp16 graphs, and the calibration and layer_errors files that explain the int8 one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.config.run import QuantizeConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import write_atomic
from yolo_slim.measuring.accuracy import read_truth, score
from yolo_slim.progress import Progress
from yolo_slim.quantization import calibration as calibrations
from yolo_slim.quantization import carried, fp16, qdq
from yolo_slim.quantization import graph as graphs
from yolo_slim.quantization import layer_errors as layer_errors
from yolo_slim.quantization.calibration import Calibration
from yolo_slim.quantization.graph import layout_of
from yolo_slim.quantization.integer import integer_convolutions
from yolo_slim.quantization.ranges import Observer, collect, open_session
from yolo_slim.runtime.decode import VAL, decode
from yolo_slim.runtime.letterbox import Letterbox
from yolo_slim.runtime.sources import read_image
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content, require_manifest, run_once

REVISION = 1
"""Raised when equal graphs are quantized otherwise."""
PACKAGES = ("onnx", "onnxruntime", "numpy", "opencv-python", "ultralytics")
"""Packages that compute ranges and graphs; Ultralytics counts the mAP that decides what stays float."""
PRECISIONS = ("int8", "fp16")
TENSORRT_INT8 = "int8-tensorrt"
MEAN_IMAGES = 64
"""Calibration images on which the mean errors are measured that the biases make up for."""
Make = Callable[..., Any]
"""From the names of layers (and ``outputs=``) to the graph in which those are int8."""


@dataclass(frozen=True, kw_only=True)
class QuantizeInputs:
    """What the stage reads."""

    onnx: Path
    """Exported graph, float; or with Q/DQ nodes from quantization-aware training, which are carried through."""
    trained: Path | None = None
    """Export of the same weights with those nodes (``model-qat.onnx``), where ``onnx`` is the float one."""
    calibration: Path | None = None
    """An earlier ``calibration.json``, so that several graphs share one; absent: a new one is made."""


@dataclass(frozen=True, kw_only=True)
class QuantizeOutputs:
    """What the stage wrote."""

    graphs: dict[str, Path]
    """``int8`` (ONNX Runtime), ``int8-tensorrt`` and ``fp16`` to the graph, as far as they were asked for."""
    calibration: Path | None
    """``calibration.json``; None without int8."""
    layer_errors: Path | None
    """``layer_errors.json``; None without int8, or when the graph came quantized."""


def run(
    inputs: QuantizeInputs,
    config: QuantizeConfig,
    folder: Path,
    context: Context,
    *,
    precisions: Sequence[str] = PRECISIONS,
) -> QuantizeOutputs:
    """Make the graphs of every precision.

    Raises:
        SlimError: not an exported graph or one of another size, an unknown precision, no or bad calibration images, or
            no images, or an int8 graph whose convolutions ONNX Runtime wouldn't run as integers.
    """
    job = job_of(inputs, config, folder, context, precisions)

    def check() -> _Work:
        return _checked(inputs, config, context, precisions)

    manifest = run_once(job, lambda work: _made(work, folder), context, check=check)
    return written_in(folder, manifest.outputs)


def job_of(
    inputs: QuantizeInputs, config: QuantizeConfig, folder: Path, context: Context, precisions: Sequence[str]
) -> Job:
    """Say what decides the stage's result."""
    files = {"onnx": inputs.onnx, "trained": inputs.trained, "calibration": inputs.calibration}
    return Job(
        stage="quantize",
        folder=folder,
        settings={
            **config.model_dump(), "imgsz": context.imgsz, "seed": context.seed, "precisions": sorted(precisions),
        },
        inputs={
            **{role: content(path) for role, path in files.items() if path}, "data": context.dataset.digest,
        },
        revision=REVISION,
        packages=PACKAGES,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What was read and checked before the first graph is made."""

    inputs: QuantizeInputs
    config: QuantizeConfig
    context: Context
    outputs: Callable[[Path], QuantizeOutputs]
    model: Any
    trained: Any
    layout: str
    images: list[Path]
    calibration: Calibration | None


def _checked(inputs: QuantizeInputs, config: QuantizeConfig, context: Context, precisions: Sequence[str]) -> _Work:
    """Refuse what can't be quantized."""
    about = layout_of(inputs.onnx)
    _require(about, context.imgsz, precisions)
    model = graphs.load(inputs.onnx)
    if "int8" in precisions:
        _require_trained(inputs, model)
    trained = _trained(inputs, about) or model
    dataset = context.dataset
    images = _judging(dataset, config)
    calibration = _calibration(inputs, config, dataset, context.imgsz, context.seed) if "int8" in precisions else None
    return _Work(
        inputs=inputs,
        config=config,
        context=context,
        outputs=partial(expected_outputs, precisions=precisions, quantized=graphs.is_quantized(trained)),
        model=model,
        trained=trained,
        layout=about["layout"],
        images=images,
        calibration=calibration,
    )


def _made(work: _Work, folder: Path) -> Made:
    """Make and measure the graphs."""
    outputs, context, inputs = work.outputs(folder), work.context, work.inputs
    if outputs.calibration and work.calibration:
        _freeze(inputs.calibration, work.calibration, context.dataset, outputs.calibration)
        _Int8(work.config, work.trained, work.layout, context.dataset, work.calibration, context.progress).write(
            outputs
        )
    if "fp16" in outputs.graphs:
        graphs.save(fp16.convert(work.model), outputs.graphs["fp16"])
    facts = _measure(inputs.onnx, outputs, work.images, work.layout, context.imgsz)
    files = [*outputs.graphs.values(), *[path for path in (outputs.calibration, outputs.layer_errors) if path]]
    distances = [f"{name} {found['error']:.3f}" for name, found in facts["parity"].items()]
    context.progress.say(f"quantize: distance to fp32: {', '.join(distances)}")
    return Made(outputs=files, facts=facts)


def written_in(folder: Path, files: Collection[str]) -> QuantizeOutputs:
    """Say what a finished stage wrote, from the files that its manifest lists."""
    graphs = {name: f"model-{name}.onnx" for name in ("int8", TENSORRT_INT8, "fp16")}
    others = {name: folder / f"{name}.json" for name in ("calibration", "layer_errors")}
    there = {name: path if path.name in files else None for name, path in others.items()}
    return QuantizeOutputs(graphs={name: folder / file for name, file in graphs.items() if file in files}, **there)


def expected_outputs(out_dir: Path, precisions: Sequence[str], *, quantized: bool = False) -> QuantizeOutputs:
    """Return the paths that the stage writes for some precisions."""
    int8 = "int8" in precisions
    names = [*(["int8", TENSORRT_INT8] if int8 else []), *(["fp16"] if "fp16" in precisions else [])]
    return QuantizeOutputs(
        graphs={name: out_dir / f"model-{name}.onnx" for name in names},
        calibration=out_dir / "calibration.json" if int8 else None,
        layer_errors=out_dir / "layer_errors.json" if int8 and not quantized else None,
    )


def _require(about: dict[str, Any], imgsz: int, precisions: Sequence[str]) -> None:
    """Raise unless the graph has the run's input size and every precision is known."""
    if about["imgsz"] != (imgsz, imgsz):
        height, width = about["imgsz"]
        raise SlimError(
            f"The graph takes {height}x{width} px, the run {imgsz}x{imgsz}: activation ranges differ between sizes.",
            remedy=f"Export it at imgsz {imgsz}, or set IMGSZ to the graph's.",
        )
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise SlimError(
            f"The quantize stage makes {' and '.join(PRECISIONS)}, not {', '.join(unknown) or 'nothing'}.",
            remedy="Build fp32 from the export itself.",
        )


def _require_trained(inputs: QuantizeInputs, model: Any) -> None:
    """Raise where a float graph's weights were trained quantized and the graph with their ranges wasn't given."""
    props = {item.key: item.value for item in model.metadata_props}
    if graphs.TRAINED_KEY in props and inputs.trained is None:
        raise SlimError(
            f"{inputs.onnx} comes from quantization-aware training; without its ranges int8 would be calibrated anew.",
            remedy=f"Give them with --trained {inputs.onnx.with_name(props[graphs.TRAINED_KEY])}.",
        )


def _trained(inputs: QuantizeInputs, about: dict[str, Any]) -> Any:
    """Return the graph of quantization-aware training, None where there is none.

    Raises:
        SlimError: a graph without Q/DQ nodes, or of another size or layout than the float one.
    """
    if inputs.trained is None:
        return None
    other, model = layout_of(inputs.trained), graphs.load(inputs.trained)
    same = all(other[key] == about[key] for key in ("imgsz", "layout", "names"))
    if not graphs.is_quantized(model) or not same:
        fact = "has another size, layout or classes than" if graphs.is_quantized(model) else "has no Q/DQ nodes, as"
        raise SlimError(
            f"{inputs.trained} {fact} {inputs.onnx}.",
            remedy="Give the model-qat.onnx that the export stage wrote beside the float graph.",
        )
    return model


def _calibration(
    inputs: QuantizeInputs, config: QuantizeConfig, dataset: Dataset, imgsz: int, seed: int
) -> Calibration:
    """Return the given calibration, verified, or a new choice."""
    if inputs.calibration:
        return calibrations.load(inputs.calibration, dataset, imgsz=imgsz)
    return calibrations.choose(dataset, count=config.images, check=config.check_images, imgsz=imgsz, seed=seed)


def _freeze(given: Path | None, calibration: Calibration, dataset: Dataset, path: Path) -> None:
    """Write ``calibration.json``: a given one as it is, so that every target's has the same bytes."""
    if given is None:
        calibrations.save(calibration, dataset, path)
    elif given.resolve() != path.resolve():
        write_atomic(path, lambda temporary: shutil.copyfile(given, temporary))


@dataclass(frozen=True)
class _Int8:
    """The int8 graphs of one export."""

    config: QuantizeConfig
    model: Any
    layout: str
    dataset: Dataset
    calibration: Calibration
    progress: Progress

    def write(self, outputs: QuantizeOutputs) -> None:
        """Write both int8 graphs, and ``layer_errors.json`` unless the graph came quantized."""
        layers, make = self._carried() if graphs.is_quantized(self.model) else self._calibrated(outputs.layer_errors)
        for name, pairs_after in (("int8", True), (TENSORRT_INT8, False)):
            made = make(layers, outputs=pairs_after)
            _require_portable(made)
            graphs.save(made, outputs.graphs[name])
        _require_integer(outputs.graphs["int8"], len(layers))

    def _carried(self) -> tuple[Sequence[str], Make]:
        """Return the layers of a graph that came quantized, and how it is written anew."""
        taken = carried.take_apart(self.model)
        ranges = self._ranges(taken.model, taken.layers) | taken.inputs
        return taken.layers, partial(qdq.quantize, taken.model, ranges=ranges, weight_scales=taken.weight_scales)

    def _calibrated(self, report: Path | None) -> tuple[Sequence[str], Make]:
        """Return the layers that become int8, and how; write what was found of each."""
        layers = graphs.parts(self.model).body
        ranges = self._ranges(self.model, layers)
        means = qdq.input_means(self.model, layers, ranges)
        self._collect(self.model, means, self.calibration.images[:MEAN_IMAGES], "quantize: mean errors")
        shifts = qdq.bias_shifts(self.model, layers, means)
        make = partial(qdq.quantize, self.model, ranges=ranges, shifts=shifts)
        return self._without_sensitive(layers, make, report), make

    def _ranges(self, model: Any, layers: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return the ranges of the layers' tensors over the calibration images."""
        statistics = qdq.observers(model, layers)
        self._collect(model, statistics, self.calibration.images, "quantize: activation ranges")
        return qdq.ranges_of(statistics, self.config.ranges)

    def _collect(self, model: Any, tensors: Mapping[str, Observer], images: Sequence[Path], text: str) -> None:
        """Show what the tensors hold on some images."""
        collect(model, tensors, calibrations.blobs(images, self.calibration.imgsz), self._tick(text, len(images)))

    def _without_sensitive(self, layers: Sequence[str], make: Make, report: Path | None) -> tuple[str, ...]:
        """Return the layers that become int8, and write what was found."""
        images = self.calibration.images[: self.config.scan_images]
        found = layer_errors.scan(
            self.model,
            layers,
            make,
            [blob.copy() for blob in calibrations.blobs(images, self.calibration.imgsz)],
            layout=self.layout,
            tick=self._tick("quantize: each layer's own error", len(layers)),
        )
        trials = self._trials(found, layers, make)
        kept = layer_errors.float_layers(found, trials[-1]["float_layers"] if trials else 0)
        if report:
            layer_errors.save(report, found, kept, trials)
        self.progress.say(f"quantize: {len(layers) - len(kept)} layers int8, {len(kept)} sensitive ones stay float")
        return tuple(layer for layer in layers if layer not in kept)

    def _trials(self, found: Sequence[layer_errors.Layer], layers: Sequence[str], make: Make) -> list[dict[str, Any]]:
        """Return how much mAP int8 costs with more and more sensitive layers in float."""
        images = self.calibration.check
        if not images:
            return []
        self.progress.say(f"quantize: trying mAP on {len(images)} training images outside the calibration")
        judge = _Judge(images, self.dataset, self.layout, self.calibration.imgsz)
        control = judge(self.model)

        def drop(kept: list[str]) -> float:
            return round(control - judge(make([layer for layer in layers if layer not in kept])), 5)

        most = min(self.config.max_float_layers, len(layers) - 1)
        return layer_errors.search(found, most, drop, self.config.max_drop)

    def _tick(self, text: str, total: int) -> Callable[[int], None]:
        return lambda done: self.progress.step(text, done, total)


class _Judge:
    """mAP50-95 of graphs on images that are read once."""

    def __init__(self, images: Sequence[Path], dataset: Dataset, layout: str, imgsz: int) -> None:
        letterbox = Letterbox((imgsz, imgsz))
        found = (letterbox(read_image(path, convert_channels=True)) for path in images)
        self._prepared = [(blob.copy(), geometry) for blob, geometry in found]
        self._truths = [read_truth(path) for path in images]
        self._names, self._layout = dataset.names, layout

    def __call__(self, model: Any) -> float:
        """Return the mAP50-95 of a ``ModelProto``."""
        session = open_session(model)
        name = session.get_inputs()[0].name
        found = [decode(session.run(None, {name: blob})[0], self._layout, geo, VAL) for blob, geo in self._prepared]
        return score(self._truths, found, self._names).map50_95


def _require_portable(model: Any) -> None:
    """Raise when TensorRT would refuse an int8 graph."""
    culprits = qdq.blockers(model)
    if culprits:
        raise SlimError(
            "TensorRT would refuse the int8 graph.",
            culprits=culprits,
            remedy="Try the onnxruntime version of constraints.txt.",
        )


def _require_integer(onnx: Path, layers: int) -> None:
    """Raise unless ONNX Runtime on Arm runs every quantized convolution as integers."""
    count = integer_convolutions(onnx)
    if count.integer != layers:
        raise SlimError(
            f"Asked for {layers} int8 convolutions, ONNX Runtime would run {count.integer} as integers on Arm.",
            culprits=count.float_layers,
            remedy="Try the onnxruntime version of constraints.txt, and report the model if it stays.",
        )


def _judging(dataset: Dataset, config: QuantizeConfig) -> list[Path]:
    """Return the images on which the graphs' distance to fp32 is told."""
    images = (dataset.splits.get("val") or dataset.splits.get("train") or [])[: config.parity_images]
    if not images:
        raise SlimError(
            f"{dataset.yaml}: no images to compare the graphs with fp32 on.",
            culprits=[problem for split in ("val", "train") for problem in dataset.problems.get(split, ())],
            remedy="Give a data set with validation or training images.",
        )
    return images


def _measure(onnx: Path, outputs: QuantizeOutputs, images: list[Path], layout: str, imgsz: int) -> dict[str, Any]:
    """Return each graph's distance to fp32 on images, and its integer convolutions."""
    blobs = [blob.copy() for blob in calibrations.blobs(images, imgsz)]
    wanted = _outputs(onnx, blobs)
    parity = {}
    for name, path in outputs.graphs.items():
        errors = [
            layer_errors.output_error(a, b, layout=layout) for a, b in zip(wanted, _outputs(path, blobs), strict=True)
        ]
        parity[name] = {"images": len(images), "error": float(np.mean(errors)), "worst": float(np.max(errors))}
    extra: dict[str, Any] = {"parity": parity}
    if "int8" in outputs.graphs:
        extra["convolutions"] = asdict(integer_convolutions(outputs.graphs["int8"]))
    return extra


def _outputs(onnx: Path, blobs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return the raw outputs of a graph."""
    session = open_session(graphs.load(onnx))
    name = session.get_inputs()[0].name
    return [session.run(None, {name: blob})[0] for blob in blobs]


def finished_in(folder: Path) -> QuantizeOutputs:
    """Say what a finished stage left in its folder.

    Raises:
        SlimError: no finished quantize stage there.
    """
    return written_in(folder, require_manifest(folder, "quantize").outputs)
