"""The unpruned network's int8 bundle -> unpruned.json: what a frame of it takes, and what int8 loses.

No cut is made for int8 unless it is named (docs/latency.md). But where the unpruned network reaches a budget in int8,
nothing has to be cut.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from yolo_slim.build_key import BuildName
from yolo_slim.config.record import Record, read_record
from yolo_slim.config.run import LatencyConfig
from yolo_slim.devices.base import BenchSettings, celsius_limit, identity
from yolo_slim.files import read_json, write_json
from yolo_slim.runtime.arguments import REPEATS
from yolo_slim.runtime.paired import IMAGES
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

BUILD = BuildName("onnxruntime", "int8")
"""The build that is timed; MNN makes an int8 of its own, whose loss isn't measured before the end."""
QUERIES = 64
"""Least number of timed frames."""
REVISION = 1
"""Raised when equal bundles are timed otherwise."""
PACKAGES = ("onnxruntime",)
"""Packages that run the bundles."""
FILE = "unpruned.json"


@dataclass(frozen=True, kw_only=True)
class UnprunedInputs:
    """What the stage reads."""

    bundle: Path
    """The unpruned network's int8 bundle."""
    layer_errors: Path
    """``layer_errors.json`` of its int8 graph, whose last trial says what int8 loses."""


class Unpruned(Record):
    """The bundle: ``unpruned.json``."""

    frame_ms: float
    """Median milliseconds of a frame, end to end."""
    map50_95_drop: float | None
    """mAP50-95 that int8 loses on training images that it wasn't calibrated on; null: not measured."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count."""

    def why_not(self, budget_ms: float, max_drop: float) -> str:
        """Why the network has to be cut all the same; empty: it needn't be."""
        if self.invalid_reasons:
            return f"the timing doesn't count: {'; '.join(self.invalid_reasons)}"
        if self.frame_ms > budget_ms:
            return f"the budget is {budget_ms:.2f} ms"
        if self.map50_95_drop is None:
            return "what int8 loses wasn't measured"
        if self.map50_95_drop > max_drop:
            return f"int8 loses {self.map50_95_drop:.4f} mAP50-95, quantize.max_drop is {max_drop:g}"
        return ""


def run(inputs: UnprunedInputs, config: LatencyConfig, folder: Path, context: Context) -> Unpruned:
    """Time the bundle on the device, or read what was timed before."""
    path = folder / FILE
    job = Job(
        stage="unpruned",
        folder=folder,
        settings={"control_seconds": config.control_seconds, "queries": QUERIES, **identity(context.device)},
        inputs={
            "bundle": content(inputs.bundle / "bundle.json"), "layer_errors": content(inputs.layer_errors),
            "data": context.dataset.digest,
        },
        revision=REVISION,
        packages=PACKAGES,
    )  # fmt: skip

    def make(_: None) -> Made:
        found = _timed(inputs, config, context)
        write_json(path, found.to_json())
        return Made(outputs=[path], is_lasting=not found.invalid_reasons)

    run_once(job, make, context, check=lambda: None)
    return read_record(Unpruned, read_json(path), str(path), "Run it again.")


def _timed(inputs: UnprunedInputs, config: LatencyConfig, context: Context) -> Unpruned:
    """Time it as the latency table times the float one."""
    # It loads torch, which a call without work must not.
    from yolo_slim.measuring.validation_images import ValidationImages

    limit = celsius_limit(context.device, context.profile)
    settings = BenchSettings(
        seconds=config.control_seconds, queries=QUERIES, repeats=REPEATS, max_celsius=limit
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="yolo-slim-unpruned-") as folder:
        images = ValidationImages.of(context.dataset, IMAGES).link_timed(Path(folder) / "images")
        bench = context.device.bench(context.device.put(inputs.bundle), images, settings)
    return Unpruned(
        frame_ms=bench.stages.total.p50_ms,
        map50_95_drop=drop_in(inputs.layer_errors),
        invalid_reasons=bench.invalid_reasons,
    )


def drop_in(layer_errors: Path) -> float | None:
    """What int8 lost in its last trial, with the layers float that stayed float; None: there was none."""
    trials = read_json(layer_errors)["trials"]
    return float(trials[-1]["map50_95_drop"]) if trials else None
