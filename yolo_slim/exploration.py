"""Choose the input side for a frame rate: `yolo-slim run --target-fps 30 --imgsz auto`.

A smaller input needs less of a cut, and the unpruned network may be fast enough in float or in int8. Every other side
is pruned to the budget on the device, in the float build that loses least, and trained for one epoch; the better half
is trained for a few more. The side with the highest validation mAP wins; test images have no part in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from yolo_slim import latency_tables, pipeline, uncut
from yolo_slim.config.record import read_record
from yolo_slim.config.run import ExportConfig, RunConfig
from yolo_slim.devices.base import identity
from yolo_slim.errors import SlimError, os_errors_explained
from yolo_slim.files import fitted_name, read_json, write_json
from yolo_slim.input_check import require_calibration, require_good_inputs
from yolo_slim.measuring.latency import LatencyOutputs, LatencyTable
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.measuring.sides import Candidate, Sides
from yolo_slim.preparation import Run, amount_of, named_build, prepared
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.latency_budget import limit_of
from yolo_slim.pruning.latency_limits import LEAST_SIDE, sides_at
from yolo_slim.pruning.outputs import PruneOutputs
from yolo_slim.pruning.unreachable import Unreachable
from yolo_slim.reporting.sides import text
from yolo_slim.stages import prune, recover, unpruned
from yolo_slim.stages.context import Context
from yolo_slim.training.settings import TRAINING_PACKAGES, settings_of, teacher_of
from yolo_slim.workspace.folder import stage_claimed
from yolo_slim.workspace.job import Job, Made, content
from yolo_slim.workspace.up_to_date import run_once

SHARES = (1.0, 0.8, 0.65, 0.5)
"""Sides that are tried, in units of the largest."""
FIRST_EPOCHS = 1
STAGE, FILE = "sides", "sides.json"
REVISION = 2
"""Raised when the same inputs are compared otherwise."""


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A side that reaches the budget."""

    this: Run
    candidate: Candidate
    weights: Path
    """What is trained, or the unpruned checkpoint."""
    int8_drop: float = 0.0
    """mAP50-95 that the unpruned network loses in int8, where it needs int8 to reach the budget or int8 is named."""

    @property
    def is_pruned(self) -> bool:
        """Whether anything was cut."""
        return self.candidate.macs_removed != 0


def frame_ms_of(config: RunConfig) -> float:
    """The milliseconds of a frame that an input side is chosen for.

    Raises:
        SlimError: none are asked for.
    """
    if config.prune.frame_ms is None:
        raise SlimError(
            "--imgsz auto needs a frame rate, for which it chooses the input side.",
            remedy="Give --target-fps or --latency-ms with it, or give --imgsz in pixels.",
        )
    return config.prune.frame_ms


def choose_side(
    config: RunConfig, *, project: Path, command: str = "", progress: Progress | None = None, retrain: bool = False
) -> tuple[int, Path]:
    """Find the best input side for a budget in milliseconds.

    Args:
        config: of the run; its ``imgsz`` is the largest side.
        project: folder of all runs.
        command: command line, for the record.
        progress: listener.
        retrain: train again what only an update of a package made stale.

    Returns:
        The side, and ``sides.json``, which has the figures of all.

    Raises:
        SlimError: the budget isn't in milliseconds, or no side reaches it.
    """
    frame_ms_of(config)
    listener = progress or Silent()
    folder = project / _name(config)
    path = folder / FILE
    with stage_claimed(folder, STAGE, model_sha256=content(Path(config.model))), os_errors_explained(folder):
        this = prepared(config, folder, command=command, progress=listener, retrain=retrain, runs_bundles=True)
        with closing(this.context.device):
            run_once(
                _job(this), lambda _: _made(this, project, path), this.context,
                check=lambda: _require_possible(this), is_training=True,
            )  # fmt: skip
    sides = read_record(Sides, read_json(path), str(path), "Remove it, and run again.")
    listener.say(f"{text(sides)}\nsides: {sides.why}; {path}")
    return sides.winner, path


def _require_possible(this: Run) -> None:
    """Refuse what the run would refuse, before hours of trainings."""
    latency_tables.require_measurable(this)
    require_good_inputs(this)
    require_calibration(this)


def _job(this: Run) -> Job:
    """What decides the side. Not the timings: another answer would leave the training at the first side unused."""
    config, context = this.config, this.context
    settings = {
        "prune": context.recorded(config.prune), "latency": config.latency.model_dump(),
        "quantize": config.quantize.model_dump(),
        "training": settings_of(config.recover), "target": context.profile.name, "threads": context.profile.threads,
        "builds": list(map(str, context.profile.builds)), **identity(context.device),
    }  # fmt: skip
    inputs = {
        "model": content(this.model), "data": context.dataset.digest,
        "teacher": content(teacher_of(config.recover, this.model)),
    }  # fmt: skip
    return Job(
        stage=STAGE, folder=this.folder, settings=settings, inputs=inputs, revision=REVISION, packages=TRAINING_PACKAGES
    )


def _made(this: Run, project: Path, path: Path) -> Made:
    """Try the sides and write what was found."""
    budget, epochs = this.config.prune.frame_ms, this.config.latency.explore_epochs
    assert budget is not None  # choose_side() refuses a run without one.
    tried, lost = _all_cut(this, project)
    candidates = _compared(tried, epochs)
    sides = Sides(
        asked_ms=budget, first_epochs=FIRST_EPOCHS, epochs=epochs, winner=candidates[0].imgsz,
        candidates=tuple(sorted([*candidates, *lost], key=lambda one: -one.imgsz)),
    )  # fmt: skip
    write_json(path, sides.to_json())
    return Made(outputs=[path])


def _compared(tried: Sequence[_Tried], epochs: int) -> list[Candidate]:
    """Train the sides for one epoch and the better half for ``epochs``; the winner comes first."""
    if len(tried) == 1:
        return [tried[0].candidate.model_copy(update={"reason": "won: no other side reaches the budget"})]
    scored = [_scored(one, FIRST_EPOCHS, first=True) for one in tried]
    first = sorted(scored, key=lambda one: -(one.candidate.map50_95_first or 0))
    kept = -(-len(first) // 2)
    final = [_scored(one, epochs, first=False).candidate for one in first[:kept]]
    return [*judged(final, epochs), *stopped([one.candidate for one in first[kept:]], kept)]


def judged(final: Sequence[Candidate], epochs: int) -> list[Candidate]:
    """Say of the sides that were trained to the end why one won and the others didn't; the winner comes first."""
    ranked = sorted(final, key=lambda one: -(one.map50_95 or 0))
    best, others = ranked[0], ranked[1:]
    score = f"mAP50-95 {best.map50_95 or 0:.4f} after {epochs} epoch{'s' * (epochs > 1)}"
    if others:
        lead = (best.map50_95 or 0) - (others[0].map50_95 or 0)
        why = f"won: the highest mAP, {score}, {lead:.4f} above {others[0].imgsz} px"
    else:
        why = f"won: the only one that was trained to the end, {score}"
    beaten = [
        one.model_copy(update={"reason": f"{(best.map50_95 or 0) - (one.map50_95 or 0):.4f} below {best.imgsz} px"})
        for one in others
    ]
    return [best.model_copy(update={"reason": why}), *beaten]


def stopped(behind: Sequence[Candidate], kept: int) -> list[Candidate]:
    """Say of the others why their training ended early."""
    better = f"{kept} {'was' if kept == 1 else 'were'} better"
    epochs = "one epoch" if FIRST_EPOCHS == 1 else f"{FIRST_EPOCHS} epochs"
    return [one.model_copy(update={"reason": f"stopped after {epochs}: {better}"}) for one in behind]


def sides_of(largest: int, stride: int) -> list[int]:
    """The sides that are tried, the largest first: multiples of the network's largest stride."""
    found = sides_at(largest, SHARES, stride)
    return sorted({side for side in found if side >= LEAST_SIDE} | {largest}, reverse=True)


def _name(config: RunConfig) -> str:
    """Name the folder of the search."""
    after = f"-{Path(config.target).stem}-{amount_of(config.prune)}{named_build(config)}-{STAGE}"
    return fitted_name(Path(config.model).stem.replace("'", ""), after=after)


def _all_cut(this: Run, project: Path) -> tuple[list[_Tried], list[Candidate]]:
    """Cut at every side; sides that can't reach the budget are lost.

    Raises:
        SlimError: none can.
    """
    from yolo_slim.models import checkpoint  # here, because it imports torch, which an up-to-date search doesn't need

    tried: list[_Tried] = []
    lost: list[Candidate] = []
    for side in sides_of(this.config.imgsz, checkpoint.load(this.model).stride):
        this.context.progress.say(f"sides: {side} px")
        one = _at(this, side)
        tables = latency_tables.for_budget(one, project, pipeline.kept_float(one))
        assert tables is not None
        try:
            tried.append(_cut(one, tables))
        except Unreachable as error:
            lost.append(_unreached(side, error, tables))
        except uncut.LosesTooMuch as error:
            lost.append(_too_lossy(side, error, tables))
    if not tried:
        raise _unreached_by_all(lost, this.config)
    return tried, lost


def _at(this: Run, side: int) -> Run:
    """The same run at an input side, in a folder of its own."""
    return Run(
        config=this.config.model_copy(update={"imgsz": side}), folder=this.folder / str(side),
        context=replace(this.context, imgsz=side),
    )  # fmt: skip


def _unreached(side: int, error: Unreachable, tables: LatencyOutputs) -> Candidate:
    """A side at which no cut reaches the budget."""
    if error.measured_ms is not None:
        why = f": the fastest cut took {error.measured_ms:.2f} ms"
    elif error.predicted_ms is not None:
        why = f": pruned as far as possible it is predicted to take {error.predicted_ms:.2f} ms"
    else:
        why = ""
    return Candidate(
        imgsz=side, unpruned_ms=_fastest_unpruned(tables).control_frame_ms, predicted_ms=error.predicted_ms,
        measured_ms=error.measured_ms, reason=f"the budget can't be reached{why}",
    )  # fmt: skip


def _too_lossy(side: int, error: SlimError, tables: LatencyOutputs) -> Candidate:
    """A side at which the unpruned network is fast enough in int8, and loses too much there."""
    fastest = _fastest_unpruned(tables)
    return Candidate(
        imgsz=side, build=str(fastest.build), unpruned_ms=fastest.control_frame_ms, reason=error.fact.rstrip(".")
    )  # fmt: skip


def _unreached_by_all(lost: Sequence[Candidate], config: RunConfig) -> SlimError:
    """The error of a budget that no cut at any side reaches."""
    name, value = config.prune.budget
    smallest = [ms for one in lost if (ms := one.measured_ms or one.predicted_ms) is not None]
    remedy = f"Set prune.{name} {limit_of(name, min(smallest))}." if smallest else "Ask for less."
    return Unreachable(
        f"No input side reaches {value:g} {'FPS' if name == 'target_fps' else 'ms a frame'} by pruning.",
        culprits=[f"{one.imgsz} px: {one.reason}" for one in lost],
        remedy=remedy,
        topic="the-frame-rate-cant-be-reached",
    )


def _fastest_unpruned(tables: LatencyOutputs) -> LatencyTable:
    """The table of the build in which the unpruned network is fastest."""
    return min((LatencyTable.load(path) for path in tables.tables.values()), key=lambda one: one.control_frame_ms)


def _cut(this: Run, tables: LatencyOutputs) -> _Tried:
    """Prune one side to the budget, where there is anything to prune."""
    side = this.context.imgsz
    inputs = prune.PruneInputs(
        model=this.model, training=this.config.recover, latency=tables, timing=this.config.latency
    )

    def cut_at(context: Context) -> PruneOutputs:
        return prune.run(inputs, this.config.prune, this.folder / "prune", context, recovery=_training(this))

    if uncut.is_enough(this, tables, cut_at, pipeline.in_int8(this)):
        return _unpruned(this, tables)
    outputs = cut_at(this.context)
    cut = LatencyCut.model_validate_json(outputs.latency.read_text(encoding="utf-8"))
    macs = read_json(outputs.widths)
    candidate = Candidate(
        imgsz=side, build=str(cut.build), unpruned_ms=cut.unpruned_ms, measured_ms=cut.measured_ms,
        predicted_ms=cut.cuts[cut.kept].predicted_ms, macs_removed=1 - macs["slim"]["macs"] / macs["control"]["macs"],
    )  # fmt: skip
    return _Tried(this=this, candidate=candidate, weights=outputs.weights, int8_drop=pipeline.int8_drop(this) or 0.0)


def _unpruned(this: Run, tables: LatencyOutputs) -> _Tried:
    """The unpruned network, which reaches the budget: in float, else in int8."""
    found = None if latency_tables.reached_unpruned(this, tables) else pipeline.unpruned_in_int8(this)
    # Near the budget a table that was measured again may say otherwise; the answer that nothing is cut stays.
    if found is None or found.why_not(frame_ms_of(this.config), this.config.quantize.max_drop):
        best = _fastest_unpruned(tables)
        build, frame_ms, drop = best.build, best.control_frame_ms, pipeline.int8_drop(this) or 0.0
    else:
        build, frame_ms, drop = unpruned.BUILD, found.frame_ms, found.map50_95_drop or 0.0
    candidate = Candidate(
        imgsz=this.context.imgsz, build=str(build), unpruned_ms=frame_ms, measured_ms=frame_ms, macs_removed=0.0
    )  # fmt: skip
    return _Tried(this=this, candidate=candidate, weights=this.model, int8_drop=drop)


def _training(this: Run, epochs: int = FIRST_EPOCHS) -> Path:
    """Folder of a side's training."""
    return this.folder / f"recover-{epochs}"


def _scored(one: _Tried, epochs: int, *, first: bool) -> _Tried:
    """Train a side for some epochs and score it on the validation images."""
    this, weights = one.this, one.weights
    if one.is_pruned or this.config.recover.activation != "none":
        inputs = recover.RecoverInputs(weights=weights, teacher=teacher_of(this.config.recover, this.model))
        config = this.config.recover.model_copy(update={"epochs": epochs})
        weights = recover.run(inputs, config, _training(this, epochs), this.context).weights
    found = map_on_val(weights, this) - one.int8_drop
    this.context.progress.say(f"sides: {this.context.imgsz} px: val mAP50-95 {found:.4f}")
    key = "map50_95_first" if first else "map50_95"
    return replace(one, candidate=one.candidate.model_copy(update={key: found}))


def map_on_val(weights: Path, this: Run) -> float:
    """The mAP50-95 of weights on the validation images, at the run's side."""
    from yolo_slim.export.onnx import export_onnx
    from yolo_slim.measuring.validation_images import ValidationImages
    from yolo_slim.models.ultralytics import log_to

    with tempfile.TemporaryDirectory(prefix="yolo-slim-side-") as folder:
        onnx = Path(folder) / "model.onnx"
        with log_to(Path(folder) / "export.log"):
            export_onnx(weights, ExportConfig(end2end=this.context.end2end), this.context.imgsz, onnx)
        return ValidationImages.of(this.context.dataset, 0).map50_95(onnx)
