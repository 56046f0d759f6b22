"""The whole chain, and the only place that knows the order of its stages.

A run lives in one folder (``runs/slim/NAME``). Finished stages are kept, stale ones run again, a killed one goes on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_slim import checkpoint, targets
from yolo_slim.config import Profile, PruneConfig, RunConfig
from yolo_slim.data import Dataset, check_dataset, digest, has_labels, load_dataset
from yolo_slim.errors import MachineError, SlimError, os_errors_explained
from yolo_slim.files import read_json, sha256, write_json
from yolo_slim.manifest import read_manifest
from yolo_slim.progress import Progress, Silent
from yolo_slim.quantization import calibration as calibrations
from yolo_slim.stages import build, export, prune, quantize, recover, validate

STAGES = ("prune", "recover", "export", "quantize", "build", "validate")
RUN_JSON = "run.json"
LOCK = ".lock"


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


def default_name(config: RunConfig) -> str:
    """Return the run's name from what decides it: weights, target, input side and the share removed."""
    stem = Path(config.model).stem
    return f"{stem}-{Path(config.target).stem}-{config.imgsz}-{_amount(config.prune)}"


def _amount(config: PruneConfig) -> str:
    """Return what is removed, for a name: the share of the MACs, of the parameters (p), or the size left (mb)."""
    budget, value = config.budget
    percent = f"{value * 100:g}"
    return {"macs_removed": percent, "params_removed": f"p{percent}", "max_size_mb": f"{value:g}mb"}[budget]


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
    recover.check_overrides(config.recover.overrides)
    recover.require_device(config.recover.device)
    recover.check_teacher(config.recover, loaded)
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


@contextmanager
def locked(folder: Path, require: Callable[[Path], None] | None = None) -> Iterator[None]:
    """Hold a run's folder; the operating system lets go of it when the process dies, however it dies.

    ``require`` raises for a folder that isn't the caller's. It is asked before the lock, which would mark the folder as
    ours, and again with it.

    Raises:
        SlimError: what ``require`` raises; or the lock's name is taken by a file of somebody else.
        MachineError: another process holds it.
    """
    ask, made = require or (lambda _: None), not folder.exists()
    with os_errors_explained(folder):
        ask(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _require_lock(folder / LOCK)
        stream = (folder / LOCK).open("a+")
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise MachineError(
                f"{folder} is being written by another process ({stream.read().strip() or 'unknown'}).",
                remedy="Wait for it to finish, or choose another NAME.",
            ) from None
        stream.seek(0)
        stream.truncate()
        stream.write(f"pid {os.getpid()}")
        stream.flush()
        ask(folder)
        yield
    except SlimError:
        if made and [item.name for item in folder.iterdir()] == [LOCK]:
            # Refused before anything was written: it leaves nothing.
            (folder / LOCK).unlink()
            folder.rmdir()
        raise
    finally:
        stream.close()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a stage that runs alone, and the run that it is part of.

    Raises:
        SlimError: it holds files that yolo_slim didn't write.
        MachineError: another process holds it or its run.
    """
    with locked(folder.parent) if _is_part_of_run(folder) else nullcontext(), locked(folder, _require_stage):
        yield


def _is_part_of_run(folder: Path) -> bool:
    """Tell whether a folder is where a run has one of its stages."""
    return folder.name in STAGES and (folder.parent / RUN_JSON).is_file()


def _require_stage(folder: Path) -> None:
    """Raise where a folder holds files that no stage wrote; what was killed before its manifest has left its lock."""
    if (folder / RUN_JSON).exists():
        raise SlimError(
            f"{folder} holds a whole run or comparison, not one stage.",
            remedy="Choose a folder for its results alone (--out).",
        )
    found = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    # A run's stages are held by the lock of the run.
    if found and not read_manifest(folder) and not _is_lock(folder / LOCK) and not _is_part_of_run(folder):
        raise SlimError(
            f"{folder} holds files that are not yolo_slim's, which a stage could overwrite.",
            culprits=found,
            remedy="Choose a folder for its results alone (--out).",
        )


def _require_lock(path: Path) -> None:
    """Raise where a file of the lock's name is somebody else's."""
    if path.exists() and not _is_lock(path) and not (path.is_file() and path.stat().st_size == 0):
        raise SlimError(f"{path} is not a lock of yolo_slim.", remedy="Choose another NAME (for one stage: --out).")


def _is_lock(path: Path) -> bool:
    """Tell whether a file is one that :func:`locked` wrote."""
    return path.is_file() and path.read_bytes().startswith(b"pid ")


def require_own(folder: Path) -> None:
    """Ask whether a folder is a run's, or empty.

    Raises:
        SlimError: it holds files that are not a run's.
    """
    found = [path for path in folder.iterdir() if path.suffix != ".tmp"] if folder.is_dir() else []
    if foreign := sorted(path.name for path in found if path.name not in (*STAGES, RUN_JSON, LOCK)):
        raise SlimError(f"{folder} holds files that are not a run's.", culprits=foreign, remedy="Choose another NAME.")


def claim(folder: Path, config: RunConfig, command: str = "") -> None:
    """Record whose folder it is.

    Raises:
        SlimError: it holds the run of another model, data set or target.
    """
    identity = {
        "schema": 1,
        "model_sha256": sha256(Path(config.model)),
        "data": str(Path(config.data).resolve()),
        "target": targets.load(config.target).name,
    }
    found = read_run(folder)
    if found and (differing := _differences(found, identity)):
        raise SlimError(
            f"{folder} holds another run.",
            culprits=differing,
            remedy="Choose another NAME (for one stage: --out), or remove that folder yourself.",
        )
    write_json(folder / RUN_JSON, {**identity, "config": config.model_dump(by_alias=True), "command": command})


def read_run(folder: Path) -> dict[str, Any]:
    """Return what a folder's ``run.json`` says of the run or comparison in it, empty where there is none.

    Raises:
        SlimError: it is damaged.
    """
    path = folder / RUN_JSON
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SlimError(
            f"{path} is damaged, so nobody can tell whose folder it is.",
            remedy="Choose another NAME, or remove that folder yourself.",
        )
    return found


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [f"{key}: {found.get(key)} there, {value} now" for key, value in wanted.items() if found.get(key) != value]


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
        recover.RecoverInputs(
            weights=pruned.weights, teacher=recover.teacher_of(config.recover, this.model), data=this.data
        ),
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
            sensitivity=slim.sensitivity,
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
            recover.RecoverInputs(weights=start, teacher=this.model, data=this.data),
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
    sensitivity: Path | None
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
            sensitivity=quantized.sensitivity if quantized else None,
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
