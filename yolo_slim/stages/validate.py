"""Weights and bundles -> result.json, report.html, verdict: the accuracy ladder, speed, the gates of a profile."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolo_slim.backends import engine_builder
from yolo_slim.bundle import open_bundle, read_spec
from yolo_slim.config.run import ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.devices import local
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.machine import cores, describe_machine, device_model
from yolo_slim.measuring import rounds as timing
from yolo_slim.measuring.accuracy import Accuracy, Truth, read_truth, score
from yolo_slim.measuring.predict import detect_all, onnx_infer, torch_infer
from yolo_slim.models import checkpoint
from yolo_slim.models.size import conv_widths, measure
from yolo_slim.models.ultralytics import use_all_cores
from yolo_slim.quantization.graph import layout_of
from yolo_slim.quantization.layer_errors import first_bad_layer
from yolo_slim.reporting.html import Example, write_report
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.draw import draw
from yolo_slim.runtime.sources import read_image
from yolo_slim.stages.context import Context
from yolo_slim.verdict import gates
from yolo_slim.workspace.job import Job, Made, content, run_once, versions

RESULT_SCHEMA = 1
EXAMPLES = 4
EXAMPLE_CONF = 0.25


@dataclass(frozen=True, kw_only=True)
class ValidateInputs:
    """What the stage reads; a rung without its file is left out."""

    control: Path
    """The unpruned checkpoint."""
    bundles: Mapping[str, Path]
    """``control/RUNTIME-PRECISION`` and ``slim/RUNTIME-PRECISION`` to a bundle folder."""
    pruned: Path | None = None
    recovered: Path | None = None
    onnx: Path | None = None
    layer_errors: Path | None = None
    """``layer_errors.json`` of the slim int8 graph, to name the layer to look at when int8 fails."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Builds that weren't possible, with the reason."""
    preflight: Mapping[str, Any] = field(default_factory=dict)
    """``runtime-precision`` to what was checked ahead of a build that only the device can finish."""


@dataclass(frozen=True, kw_only=True)
class ValidateOutputs:
    """What the stage wrote."""

    result: Path
    """``result.json``, see docs/result.md."""
    report: Path
    """``report.html``."""
    verdict: str
    """``pass``, ``fail`` or ``unproven``."""
    bundle: Path | None
    """The winning bundle."""


REVISION = 1
"""Raised when equal inputs are scored, timed or judged otherwise."""
PACKAGES = ("torch", "ultralytics", "onnxruntime", "ncnn", "numpy", "opencv-python")
"""Packages that run the networks and count their mAP."""


def run(
    inputs: ValidateInputs, config: ValidateConfig, folder: Path, context: Context, *, name: str
) -> ValidateOutputs:
    """Measure accuracy and speed, judge by the profile, write ``result.json`` and ``report.html``.

    An up-to-date result of this machine is used again, timings included, unless one of them doesn't count.
    """
    files = {"control": inputs.control, "pruned": inputs.pruned, "recovered": inputs.recovered, "onnx": inputs.onnx}
    files["layer_errors"] = inputs.layer_errors
    digests = {key: content(path) for key, path in files.items() if path}
    digests |= {key: content(bundle / "bundle.json") for key, bundle in inputs.bundles.items()}
    here = {"machine": device_model(), "is_target": local.is_device(context.profile)}
    settings = {**config.model_dump(), "profile": context.profile.model_dump(), "imgsz": context.imgsz, "name": name}
    job = Job(
        stage="validate",
        folder=folder,
        settings={**settings, **here},
        inputs={**digests, "data": context.dataset.digest},
        revision=REVISION,
        packages=PACKAGES,
    )
    result, report = folder / "result.json", folder / "report.html"

    def make(_: None) -> Made:
        use_all_cores()
        measured = _Measurement(inputs, config, context, folder)
        value = measured.result(name, context.command)
        write_report(report, value, measured.examples())
        write_json(result, value)
        return Made(outputs=[result, report], is_lasting=_all_timings_count(value))

    run_once(job, make, context, check=lambda: None)
    value = read_json(result)
    best = next((build["name"] for build in value["builds"] if build["winner"]), None)
    return ValidateOutputs(
        result=result,
        report=report,
        verdict=value["verdict"]["status"],
        bundle=inputs.bundles[best] if best else None,
    )


def _all_timings_count(value: dict[str, Any]) -> bool:
    """Tell whether nothing of a result was measured hot or throttled."""
    return all(build["bench"] is None or build["bench"]["valid"] for build in value["builds"])


def choose_split(dataset: Dataset, config: ValidateConfig) -> str:
    """Return the split that mAP is measured on; ``auto`` passes over a test split without labels.

    Raises:
        SlimError: the split has no images or isn't whole, or what would be scored has no labels: every drop would be
            zero.
    """
    split = config.split if config.split != "auto" else ("test" if _has_labels(dataset, "test") else "val")
    if not dataset.has(split) or dataset.problems.get(split):
        what = "isn't whole" if dataset.has(split) else "has no images"
        raise SlimError(
            f"{dataset.yaml}: the split '{split}' {what}.",
            culprits=dataset.problems.get(split, ()),
            remedy="Correct it, or choose validate.split: val.",
        )
    if not _has_labels(dataset, split, config.max_images):
        scored = len(dataset.splits[split][: config.max_images or None])
        raise SlimError(
            f"{dataset.yaml}: none of the {scored} images of '{split}' that would be scored has a label.",
            remedy="Choose another validate.split, or more validate.max_images (0: all).",
        )
    return split


def passed_over(dataset: Dataset, split: str) -> list[str]:
    """Return what to say where another split than the test split was taken though the data set names one."""
    if "test" not in dataset.splits or split == "test":
        return []
    why = "; ".join(dataset.problems.get("test", ())) or f"it has no {'labels' if dataset.has('test') else 'images'}"
    return [f"the test split was passed over ({why}): mAP is that of {split}"]


def _has_labels(dataset: Dataset, split: str, most: int = 0) -> bool:
    """Tell whether one of the first images of a split, 0 for all, has a label."""
    images = dataset.splits.get(split, [])[: most or None]
    return bool(images) and (dataset.in_class_folders or any(has_labels(image) for image in images))


class _Measurement:
    """One validation: everything is measured on the same images, in one run."""

    def __init__(self, inputs: ValidateInputs, config: ValidateConfig, context: Context, out: Path) -> None:
        self.inputs, self.config, self.profile = inputs, config, context.profile
        self.imgsz, self.progress = context.imgsz, context.progress
        self.control = checkpoint.load(inputs.control)
        dataset = self.dataset = context.dataset
        self.split = choose_split(dataset, config)
        self.images = dataset.splits[self.split][: config.max_images or None]
        chosen = Dataset(yaml=dataset.yaml, root=dataset.root, names=dataset.names, splits={self.split: self.images})
        out.mkdir(parents=True, exist_ok=True)
        links = write_absolute_yaml(chosen, out / "data.yaml")
        self.folder = links.with_name("data_links") / "images" / self.split
        self.truths: list[Truth] = [read_truth(path) for path in self.images]
        self.detections: dict[str, list[Detections]] = {}
        self.notes = [f"{key} was not built: {reason}" for key, reason in inputs.skipped.items()]
        if config.split == "auto":
            self.notes += passed_over(dataset, self.split)

    def result(self, name: str, command: str) -> dict[str, Any]:
        """Measure everything and return the JSON value of ``result.json``."""
        ladder = self._ladder()
        builds = self._builds()
        control = ladder[0]["map50_95"]
        proven = local.is_device(self.profile)
        budget = self.profile.budget
        best = gates.winner(
            builds,
            control=control,
            max_drop=budget.max_map50_95_drop,
            on_device=proven,
            failed=[rung["rung"] for rung in ladder if rung["status"] == "fail"],
        )
        for build in builds:
            build["winner"] = build is best
        drop = None if best is None else control - best["map50_95"]
        if best is None and (slim := [b for b in builds if b["model"] == "slim"]):
            drop = min(control - b["map50_95"] for b in slim)
        if not proven:
            self.notes.append(f"speed on {self.profile.name} is unproven, so the profile's first choice is the winner")
        missing = "" if proven else f"this machine is no {self.profile.name}; run the bundle there"
        self.notes += self._remarks(ladder, builds)
        others = {gates.build_rung(b) for b in builds if best and b["model"] == "slim"}
        others -= {gates.build_rung(best)} if best else set()
        found = gates.rung_gates(ladder, others) + gates.device_gates(budget, best, drop, missing)
        return {
            "schema": RESULT_SCHEMA,
            "name": name,
            "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": command,
            "target": {"name": self.profile.name, "description": self.profile.description, "is_this_machine": proven},
            "imgsz": self.imgsz,
            "data": {
                "yaml": self.dataset.yaml.name,
                "split": self.split,
                "images": len(self.images),
                "boxes": sum(len(truth.class_ids) for truth in self.truths),
                "names": {str(key): text for key, text in self.control.names.items()},
            },
            "verdict": {
                "status": gates.verdict(found, proven=proven),
                "gates": [item.to_json() for item in found],
            },
            **self._sizes(),
            "ladder": ladder,
            "builds": builds,
            "speedups": timing.speedups(builds),
            "preflight": dict(self.inputs.preflight),
            "machine": describe_machine(),
            "versions": versions(),
            "notes": self.notes,
        }

    def examples(self) -> list[Example]:
        """Return the images with the most objects, as the control and the slim model see them."""
        slim = next((key for key in ("recovered", "pruned") if key in self.detections), "control")
        order = np.argsort([-len(truth.class_ids) for truth in self.truths], kind="stable")[:EXAMPLES]
        return [
            Example(
                file=self.images[i].name,
                truth=len(self.truths[i].class_ids),
                control=self._drawn("control", i),
                slim=self._drawn(slim, i),
            )
            for i in order.tolist()
        ]

    def _drawn(self, rung: str, index: int) -> Any:
        """Return one image with what a rung sees at the usual threshold."""
        found = self.detections[rung][index]
        seen = _one_class_per_box(found, EXAMPLE_CONF)
        image = read_image(self.images[index], convert_channels=True)
        drawn = draw(image, seen, self.control.names)
        scale = min(1.0, 640 / max(drawn.shape[:2]))
        return cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    def _ladder(self) -> list[dict[str, Any]]:
        """Return the rungs in order, each against the one that it came from."""
        end2end = self._layout() == "end2end"
        rungs: list[tuple[str, str, str | None]] = [("control", "PyTorch control", None)]
        for key, path, label in (
            ("control", self.inputs.control, ""),
            ("pruned", self.inputs.pruned, "PyTorch pruned, not trained"),
            ("recovered", self.inputs.recovered, "PyTorch recovered"),
        ):
            if path:
                infer = torch_infer(checkpoint.load(path).model, end2end=end2end)
                self._detect(key, infer, end2end)
                rungs += [(key, label, "control")] if label else []
        last = "recovered" if self.inputs.recovered else "pruned" if self.inputs.pruned else "control"
        if self.inputs.onnx:
            self._detect("onnx", onnx_infer(self.inputs.onnx), end2end)
            rungs.append(("onnx", "ONNX in ONNX Runtime", last))
            last = "onnx"
        for key, folder in self.inputs.bundles.items():
            self._detect_bundle(key, folder, end2end)
            if key.startswith("slim/"):
                rungs.append((key.removeprefix("slim/"), self._label(key), last))
        return self._scored(rungs)

    def _detect_bundle(self, key: str, folder: Path, end2end: bool) -> None:
        """Fill in a bundle's detections: its own where it runs here, those of its graph where only the device can."""
        if not self._runs_here(key):
            self._detect(key, onnx_infer(open_bundle(folder).model_path("onnx")), end2end)
            return
        self.progress.step(f"validate: detect with {key}", 0, 1)
        if engine_builder(read_spec(folder).runtime):
            local.build(folder)
        answers = local.infer(folder, self.folder, cores())
        self.detections[key] = [answer.detections for answer in answers]
        self.progress.step(f"validate: detect with {key}", 1, 1)

    def _runs_here(self, key: str) -> bool:
        """Tell whether a bundle can run on this machine: an engine is built and run on its device only."""
        return not engine_builder(read_spec(self.inputs.bundles[key]).runtime) or local.is_device(self.profile)

    def _label(self, key: str) -> str:
        """Return a bundle's rung for people."""
        name = key.removeprefix("slim/")
        return f"bundle {name}" if self._runs_here(key) else f"graph of {name} in ONNX Runtime"

    def _remarks(self, ladder: list[dict[str, Any]], builds: list[dict[str, Any]]) -> list[str]:
        """Return what the reader must know of builds that are out, stand-ins, and speeds that mislead."""
        keys = {gates.build_rung(build) for build in builds}
        remarks = lost_by_recovery({rung["rung"]: rung["map50_95"] for rung in ladder})
        remarks += [self._why_out(rung) for rung in ladder if rung["status"] == "fail" and rung["rung"] in keys]
        absent = sorted({b["runtime"] for b in builds if not self._runs_here(b["name"])})
        remarks += [
            f"accuracy of {runtime} builds is that of their graph in ONNX Runtime; the engine's own is unproven"
            for runtime in absent
        ]
        if any(b["runtime"] == "onnxruntime" and b["precision"] == "int8" and b["bench"] for b in builds):
            arch = platform.machine()
            if arch != "aarch64":
                remarks.append(f"onnxruntime-int8 isn't fused on {arch}: its speed here says nothing of an Arm device")
        return remarks

    def _why_out(self, rung: dict[str, Any]) -> str:
        """Return why a build is out, with the class that lost most and, for int8, the layer to look at first."""
        text = (
            f"{rung['rung']} is out: it lost {rung['drop']:.4f} against {rung['against']}, {rung['budget']:.4f} allowed"
        )
        if rung["worst_class"]:
            text += f"; most in class {rung['worst_class']['name']} ({rung['worst_class']['drop']:+.4f})"
        layer = first_bad_layer(self.inputs.layer_errors) if self.inputs.layer_errors else None
        if layer and rung["rung"].endswith("int8"):
            text += f"; the first layer to look at is {layer}"
        return text

    def _layout(self) -> str:
        """Return the output layout of what is validated."""
        if self.inputs.onnx:
            return layout_of(self.inputs.onnx).layout
        specs = [open_bundle(folder).spec.layout for folder in self.inputs.bundles.values()]
        return specs[0] if specs else "one2many"

    def _detect(self, key: str, infer: Any, end2end: bool) -> None:
        """Fill in one rung's detections."""
        self.detections[key] = detect_all(
            self.images,
            infer,
            layout="end2end" if end2end else "one2many",
            imgsz=self.imgsz,
            progress=self.progress,
            text=f"validate: detect with {key}",
        )

    def _scored(self, rungs: list[tuple[str, str, str | None]]) -> list[dict[str, Any]]:
        """Return the rungs with their mAP, drop and status."""
        scores: dict[str, Accuracy] = {}
        ladder = []
        for rung, label, against in rungs:
            key = rung if rung in self.detections else f"slim/{rung}"
            scores[rung] = accuracy = self._accuracy(key)
            drop = None if against is None else scores[against].map50_95 - accuracy.map50_95
            # A bundle's own budget is for what building cost; against the control the pruning is in its drop too.
            whole = key.startswith("slim/") and against == "control"
            budget = None if against is None or whole else gates.rung_budget(rung, self.profile.rungs)
            status = "info" if budget is None or drop is None else "pass" if drop <= budget else "fail"
            ladder.append(
                {
                    "rung": rung,
                    "label": label,
                    "map50_95": accuracy.map50_95,
                    "map50": accuracy.map50,
                    "against": against,
                    "drop": drop,
                    "budget": budget,
                    "status": status,
                    "per_class": accuracy.per_class,
                    "worst_class": None
                    if against is None
                    else gates.worst_class(scores[against].per_class, accuracy.per_class),
                    "where": "this machine",
                }
            )
        return ladder

    def _accuracy(self, key: str) -> Accuracy:
        return score(self.truths, self.detections[key], self.control.names)

    def _builds(self) -> list[dict[str, Any]]:
        """Return every bundle with accuracy and speed, the profile's first choice first."""
        wanted = [f"{c.runtime}-{precision}" for c in self.profile.runtimes for precision in c.precisions]
        rank = {key: place for place, key in enumerate(wanted)}
        order = sorted(self.inputs.bundles, key=lambda key: (rank.get(key.split("/")[1], len(rank)), key))
        timings = self._timings(order)
        return [self._build(key, timings.get(key)) for key in order]

    def _timings(self, order: list[str]) -> dict[str, Any]:
        """Return the timing of every bundle that runs here, in rounds in which each has its turn."""
        return timing.in_turns(
            [key for key in order if self._runs_here(key)],
            self.config.rounds,
            lambda key: local.bench_turn(
                self.inputs.bundles[key], self.folder, self.config, local.most_celsius(self.profile)
            ),
            lambda done, total: self.progress.step("validate: time the bundles in turns", done, total),
        )

    def _build(self, key: str, bench: Any) -> dict[str, Any]:
        """Return one bundle's accuracy, size and speed."""
        spec, accuracy = read_spec(self.inputs.bundles[key]), self._accuracy(key)
        return {
            "name": key,
            "model": key.split("/")[0],
            "runtime": spec.runtime,
            "precision": spec.precision,
            "map50_95": accuracy.map50_95,
            "map50": accuracy.map50,
            "size_mb": sum(spec.files[file]["size_bytes"] for file in spec.model.values()) / 1e6,
            "winner": False,
            "bench": bench,
        }

    def _sizes(self) -> dict[str, Any]:
        """Return parameters, MACs and widths of the control and the slim weights."""
        end2end = self._layout() == "end2end"
        path = self.inputs.recovered or self.inputs.pruned
        slim = checkpoint.load(path).model if path else self.control.model
        before, after = conv_widths(self.control.model), conv_widths(slim)
        return {
            "size": {
                "control": measure(self.control.model, self.imgsz, end2end=end2end).to_json(),
                "slim": measure(slim, self.imgsz, end2end=end2end).to_json(),
            },
            "widths": [{"layer": k, "before": w, "after": after[k]} for k, w in before.items() if k in after],
        }


def lost_by_recovery(scores: Mapping[str, float]) -> list[str]:
    """Return what to say where the trained network scores below the cut it was trained from.

    Args:
        scores: mAP50-95 of the rungs ``pruned`` and ``recovered``, where there are such.
    """
    pruned, recovered = scores.get("pruned"), scores.get("recovered")
    if pruned is None or recovered is None or recovered >= pruned:
        return []
    fact = f"the recovery cost mAP: {recovered:.4f} after it, {pruned:.4f} before"
    return [f"{fact}; train more epochs (EPOCHS, --epochs), or at a lower lr0"]


def _one_class_per_box(found: Detections, conf: float) -> Detections:
    """Return the detections above a score, without second classes of the same box."""
    kept: list[int] = []
    for i in np.flatnonzero(found.scores > conf).tolist():
        if not any(np.array_equal(found.boxes[i], found.boxes[j]) for j in kept):
            kept.append(i)
    return Detections(boxes=found.boxes[kept], scores=found.scores[kept], class_ids=found.class_ids[kept])
