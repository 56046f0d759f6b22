"""The whole chain, and the only place that knows the order of its stages.

A run lives in one folder (``runs/slim/NAME``). Finished stages are kept, stale ones run again, a killed one goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_slim.config import targets
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import RunConfig
from yolo_slim.datasets.check import check_dataset
from yolo_slim.datasets.description import Dataset, digest, load_dataset
from yolo_slim.datasets.labels import has_labels
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.models import checkpoint
from yolo_slim.progress import Progress, Silent
from yolo_slim.quantization import calibration as calibrations
from yolo_slim.stages import build, export, prune, quantize, recover, validate
from yolo_slim.training.arguments import RecoverInputs, check_overrides, check_teacher, require_device, teacher_of
from yolo_slim.workspace.folder import claim, default_name, locked, require_own


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run produced."""

    folder: Path
    verdict: str
    """``pass``, ``fail`` or ``unproven``."""
    result: Path
    """``result.json``."""
    report: Path
    """``report.html``."""
    bundle: Path | None
    """The winning bundle's .tar.gz; None when no build is inside the accuracy budget."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A checked configuration in its folder."""

    config: RunConfig
    folder: Path
    profile: Profile
    dataset: Dataset
    data_digest: str
    command: str = ""
    progress: Progress = field(default_factory=Silent)

    @property
    def model(self) -> Path:
        """Return the user's checkpoint."""
        return Path(self.config.model)

    @property
    def data(self) -> Path:
        """Return the user's data set description."""
        return Path(self.config.data)


def run(
    config: RunConfig,
    *,
    project: Path = Path("runs/slim"),
    name: str | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Prune, recover, export, build and validate.

    Raises:
        SlimError: anything wrong with the inputs, found before the first stage; or with the folder.
    """
    folder = project / (name or default_name(config))
    listener = progress or Silent()
    prepared = prepare(config, folder, command=command, progress=listener)
    _require_calibration(prepared)
    with locked(folder, require_own), os_errors_explained(folder):
        claim(folder, config, command)
        return _chain(prepared)


def prepare(
    config: RunConfig,
    folder: Path,
    *,
    command: str,
    progress: Progress,
    tasks: Sequence[str] = checkpoint.DETECTION,
) -> Run:
    """Check every input at once: profile, model, stride, data set; nothing is written.

    ``tasks`` are those that the caller's stages handle: the whole chain handles detection alone.
    """
    profile = targets.load(config.target)
    loaded = checkpoint.load(Path(config.model), tasks)
    checkpoint.require_float(loaded)
    checkpoint.require_imgsz(loaded, config.imgsz)
    checkpoint.require_end2end(loaded, asked=config.export.end2end)
    check_overrides(config.recover.overrides)
    require_device(config.recover.device)
    check_teacher(config.recover, loaded)
    config = _with_multiple(profile, config)
    dataset = load_dataset(Path(config.data))
    check_dataset(
        dataset,
        model_names=loaded.names,
        task=loaded.task,
        progress=lambda done, total: progress.step("check the data", done, total),
    )
    validate.choose_split(dataset, config.validate_)
    return Run(
        config=config,
        folder=folder,
        profile=profile,
        dataset=dataset,
        data_digest=digest(dataset),
        command=command,
        progress=progress,
    )


def _require_calibration(run: Run) -> None:
    """Raise where int8 can't be calibrated on the data: better now than after hours of training."""
    if "int8" in build.precisions_needed(run.profile):
        config, wanted = run.config, run.config.quantize
        calibrations.choose(
            run.dataset, count=wanted.images, check=wanted.check_images, imgsz=config.imgsz, seed=config.seed
        )


def _with_multiple(profile: Profile, config: RunConfig) -> RunConfig:
    """Return the configuration with the target's channel multiple in place; raise where widths would not fit it."""
    round_to = config.prune.round_to or profile.channel_multiple
    if round_to % profile.channel_multiple:
        raise SlimError(
            f"prune.round_to {round_to} is not a multiple of {profile.name}'s channel_multiple "
            f"{profile.channel_multiple}.",
            remedy=f"Set prune.round_to to {profile.channel_multiple}, or change the profile.",
        )
    return config.model_copy(update={"prune": config.prune.model_copy(update={"round_to": round_to})})


def _chain(this: Run) -> Outcome:
    """Run the stages in order; each keeps what is already done."""
    config, folder, tell = this.config, this.folder, this.progress
    common: dict[str, Any] = {"imgsz": config.imgsz, "data_digest": this.data_digest, "progress": tell}
    pruned = prune.run(
        prune.PruneInputs(model=this.model, data=this.data),
        config.prune,
        folder / "prune",
        seed=config.seed,
        end2end=config.export.end2end,
        training=config.recover,
        **common,
    )
    recovered = recover.run(
        RecoverInputs(weights=pruned.weights, teacher=teacher_of(config.recover, this.model), data=this.data),
        config.recover,
        folder / "recover",
        seed=config.seed,
        end2end=config.export.end2end,
        **common,
    )
    models = _Models(this, common)
    control = models.built("control", this.model, None)
    slim = models.built("slim", recovered.weights, control.calibration)
    outputs = validate.run(
        validate.ValidateInputs(
            control=this.model,
            data=this.data,
            pruned=pruned.weights,
            recovered=recovered.weights,
            onnx=slim.onnx,
            layer_errors=slim.layer_errors,
            bundles=control.bundles | slim.bundles,
            skipped=control.skipped | slim.skipped,
            preflight=slim.preflight,
        ),
        config.validate_,
        this.profile,
        folder / "validate",
        name=folder.name,
        command=this.command,
        **common,
    )
    return Outcome(
        folder=folder,
        verdict=outputs.verdict,
        result=outputs.result,
        report=outputs.report,
        bundle=None if outputs.bundle is None else build.archive_of(outputs.bundle),
    )


def carried(this: Run, start: Path, kind: str, *, seed: int | None) -> Built:
    """Take weights the way of all: recovery (none where ``seed`` is None), export, the graphs needed, bundles."""
    common: dict[str, Any] = {
        "imgsz": this.config.imgsz, "data_digest": this.data_digest, "progress": this.progress
    }  # fmt: skip
    weights = start
    if seed is not None:
        weights = recover.run(
            RecoverInputs(weights=start, teacher=this.model, data=this.data),
            this.config.recover,
            this.folder / "recover",
            seed=seed,
            end2end=this.config.export.end2end,
            **common,
        ).weights
    return _Models(this, common).built(kind, weights, None)


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of one model's weights; bundles and reasons under ``KIND/RUNTIME-PRECISION``."""

    weights: Path
    onnx: Path
    calibration: Path | None
    layer_errors: Path | None
    bundles: dict[str, Path]
    skipped: dict[str, str]
    preflight: dict[str, Any]


@dataclass(frozen=True)
class _Models:
    """The stages that control and slim weights go through alike: export, quantize, build."""

    run: Run
    common: dict[str, Any]

    def built(self, kind: str, weights: Path, calibration: Path | None) -> Built:
        """Return everything made from weights; ``calibration`` is shared by all graphs of a run."""
        run, folder = self.run, self.run.folder
        exported = export.run(
            export.ExportInputs(weights=weights, data=run.data),
            run.config.export,
            folder / "export" / kind,
            **self.common,
        )
        quantized = self._quantized(exported, folder / "quantize" / kind, calibration)
        built = build.run(
            build.BuildInputs(
                onnx=exported.onnx,
                images=selfcheck_images(run.dataset),
                graphs=quantized.graphs if quantized else {},
            ),
            run.profile,
            folder / "build" / kind,
            name=f"{run.model.stem}-{kind}",
            progress=run.progress,
        )
        return Built(
            weights=weights,
            onnx=exported.onnx,
            calibration=quantized.calibration if quantized else None,
            layer_errors=quantized.layer_errors if quantized else None,
            bundles={f"{kind}/{key}": path for key, path in built.bundles.items()},
            skipped={f"{kind}/{key}": reason for key, reason in built.skipped.items()},
            preflight=built.preflight,
        )

    def _quantized(
        self, exported: export.ExportOutputs, folder: Path, calibration: Path | None
    ) -> quantize.QuantizeOutputs | None:
        """Return the graphs of the precisions that the profile's builds need, None where fp32 is enough."""
        wanted = build.precisions_needed(self.run.profile)
        if not wanted:
            return None
        return quantize.run(
            quantize.QuantizeInputs(
                onnx=exported.onnx, trained=exported.trained_int8, data=self.run.data, calibration=calibration
            ),
            self.run.config.quantize,
            folder,
            seed=self.run.config.seed,
            precisions=wanted,
            **self.common,
        )


def selfcheck_images(dataset: Dataset) -> list[Path]:
    """Return the validation images of the self-check: the first with labels.

    Raises:
        SlimError: there are none.
    """
    images = dataset.splits.get("val", [])
    if not images:
        raise SlimError(
            f"{dataset.yaml}: no validation images for the bundle's self-check.",
            culprits=dataset.problems.get("val", ()),
            remedy="Add a split 'val'.",
        )
    labelled = [path for path in images[:200] if has_labels(path)]
    return (labelled or images)[: build.SELFCHECK_IMAGES]
