"""One comparison: every arm at every size and seed goes the same way, then all are timed together and judged.

It lives in one folder (``runs/compare/NAME``). What is finished is kept, a killed comparison goes on, and another call
with more arms, sizes or seeds adds them to those that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from yolo_slim import pipeline
from yolo_slim.comparison import summary
from yolo_slim.comparison.arms import ARMS, CONTROL, AnotherTime, Arm, Place, Setting, Start, require_arms
from yolo_slim.comparison.cells import Cell, Measured, representative, representatives, timed_key
from yolo_slim.comparison.earlier import Earlier, differences, read, take_over
from yolo_slim.comparison.frontier import OURS
from yolo_slim.config.profile import RuntimeChoice
from yolo_slim.config.run import RunConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.datasets.links import write_absolute_yaml
from yolo_slim.devices import local
from yolo_slim.errors import MachineError, SlimError, did_you_mean, os_errors_explained
from yolo_slim.files import flat, read_json, sha256, write_json, write_text
from yolo_slim.machine import cores, describe_machine, device_model
from yolo_slim.measuring import rounds as timing
from yolo_slim.measuring.accuracy import read_truth, score
from yolo_slim.models import checkpoint
from yolo_slim.models.size import conv_widths, measure
from yolo_slim.pipeline import Run
from yolo_slim.progress import Progress, Silent
from yolo_slim.pruning.block_costs import load_block_costs
from yolo_slim.reporting.comparison_html import render
from yolo_slim.reporting.comparison_text import markdown
from yolo_slim.stages.validate import choose_split
from yolo_slim.version import __version__
from yolo_slim.workspace.folder import LOCK, RUN_JSON, locked, read_run
from yolo_slim.workspace.job import Job, read_manifest, versions

RUNTIMES = ("onnxruntime-fp32", "ncnn-fp16")
"""Builds that can be compared: those made from the fp32 graph, so that no quantization comes between."""
KIND = "comparison"
TIMING_SCHEMA = 2
"""Of timing.json; one of another is measured again."""
OUTPUTS = ("compare.json", "compare.html", "compare.md")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a comparison produced."""

    folder: Path
    status: str
    """``won``, ``lost`` or ``undecided``."""
    verdict: str
    """The same in plain words."""
    result: Path
    """``compare.json``, see docs/compare.md."""
    report: Path
    """``compare.html``."""
    table: Path
    """``compare.md``."""


def run(
    config: RunConfig,
    *,
    arms: Sequence[str],
    removed: Sequence[float],
    seeds: Sequence[int],
    runtimes: Sequence[str] = RUNTIMES[:1],
    project: Path = Path("runs/compare"),
    name: str | None = None,
    measured: Sequence[Path] = (),
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Compare pruning with its rivals.

    Args:
        config: settings of ours, and of the training that all arms share.
        arms: names of :data:`~yolo_slim.comparison.arms.ARMS`; ours and the control always take part.
        removed: shares of the control's MACs to remove.
        seeds: seeds of the training, the random criterion and random weights.
        runtimes: builds to compare; the first one decides the verdict.
        project: folder of all comparisons.
        name: name of this one.
        measured: ``compare.json`` files whose trained networks take part without being trained again.
        command: command line, for the record.
        progress: listener.

    Raises:
        SlimError: anything wrong with the inputs, found before the first training; or with the folder.
    """
    chosen, listener = require_arms(arms), progress or Silent()
    _require_seeds(seeds)
    _require_shares(removed)
    _require_runtimes(runtimes)
    config = fair(config)
    if config.prune.block_costs:
        load_block_costs(Path(config.prune.block_costs), sha256(Path(config.model)), config.imgsz)
    folder = project / (name or default_name(config))
    prepared = pipeline.prepare(config, folder, command=command, progress=listener)
    wanted = list(_cells(chosen, removed, seeds))
    settings = settings_of(prepared)
    with locked(folder, partial(_require_own, settings=settings)), os_errors_explained(folder):
        networks = [one for path in measured for one in read(path, settings)]
        before = _claim(folder, settings)
        earlier = take_over(folder, networks)
        grid, runtimes = _joined(before, [*wanted, *earlier], runtimes)
        profile = prepared.profile.model_copy(update={"runtimes": [_choice(key) for key in runtimes]})
        return _Comparison(replace(prepared, profile=profile), runtimes, earlier).outcome(grid)


def default_name(config: RunConfig) -> str:
    """Return a comparison's name from its weights, target and input side."""
    return f"{Path(config.model).stem}-{Path(config.target).stem}-{config.imgsz}"


def fair(config: RunConfig) -> RunConfig:
    """Return the settings with a training that is equally long for every arm.

    Raises:
        SlimError: settings under which ours would train longer than its rivals, or cut to another budget.
    """
    problems = [
        f"prune.{key}: {getattr(config.prune, key)}; only ours would train so much longer"
        for key in ("sparse_epochs", "recover_epochs_between")
        if getattr(config.prune, key)
    ]
    if config.recover.teacher:
        problems.append("recover.teacher: the control teaches every arm")
    if "time" in config.recover.overrides:
        problems.append("--train time: smaller networks would get more epochs")
    if config.recover.overrides.get("freeze"):
        problems.append("--train freeze: the layers of a network from random weights would stay random")
    fraction = config.recover.overrides.get("fraction", 1.0)
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
        problems.append(
            f"--train fraction: {fraction}; a comparison takes a share of the images, above 0 and at most 1"
        )
    if config.prune.budget[0] != "macs_removed":
        problems.append(f"prune.{config.prune.budget[0]}: the arms are compared at equal MACs")
    if problems:
        raise SlimError(
            "These settings would make the comparison unfair.", culprits=problems, remedy="Leave them at their default."
        )
    recover = config.recover.model_copy(update={"patience": config.recover.epochs})
    prune = config.prune.model_copy(update={"macs_removed": None})
    return config.model_copy(update={"recover": recover, "prune": prune})


def _require_seeds(seeds: Sequence[int]) -> None:
    """Raise without seeds, or for negative ones."""
    if not seeds or min(seeds) < 0:
        raise SlimError(
            f"No training can be made with the seeds {list(seeds)}.",
            remedy="Give how many (--seeds 3), or the seeds themselves, 0 or more (--seeds 0 1 2).",
        )


def _require_shares(removed: Sequence[float]) -> None:
    """Raise for sizes that aren't a share of the MACs."""
    wrong = [f"{share:g}" for share in removed if not 0 < share < 1]
    if wrong or not removed:
        raise SlimError(
            "Some sizes aren't a share of the MACs.", culprits=wrong, remedy="Give fractions, such as --prune 0.3 0.5."
        )


def _require_runtimes(runtimes: Sequence[str]) -> None:
    """Raise for builds that can't be compared."""
    unknown = [f"{key}: can't be compared.{did_you_mean(key, RUNTIMES)}" for key in runtimes if key not in RUNTIMES]
    if unknown or not runtimes:
        raise SlimError("Some builds can't be compared.", culprits=unknown, remedy=f"Possible: {', '.join(RUNTIMES)}.")


def _choice(key: str) -> RuntimeChoice:
    """Return a profile's entry for one build."""
    runtime, precision = key.rsplit("-", 1)
    return RuntimeChoice.model_validate({"runtime": runtime, "precisions": [precision]})


def _cells(arms: Iterable[str], removed: Sequence[float], seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield the networks that arms, sizes and seeds ask for."""
    for arm in (ARMS[name] for name in arms):
        for share in removed if arm.sized else [0.0]:
            for seed in dict.fromkeys(seeds) if arm.trained else [-1]:
                yield Cell(arm=arm.name, removed=share, seed=seed)


def settings_of(prepared: Run) -> dict[str, Any]:
    """Return what must be the same for two networks to stand in one comparison: model, data and settings."""
    settings = prepared.config.model_dump(
        by_alias=True, exclude={"validate_", "quantize", "block_costs", "model", "data"}
    )
    # Where a training runs decides nothing but its duration.
    settings["recover"].pop("device")
    settings["validate"] = prepared.config.validate_.model_dump(include={"split", "max_images"})
    if prepared.config.prune.block_costs:
        settings["prune"]["block_costs"] = sha256(Path(prepared.config.prune.block_costs))
    return {"model_sha256": sha256(prepared.model), "data_digest": prepared.data_digest, **flat(settings)}


def _require_own(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise where a folder holds another comparison, or something else."""
    if found := read_run(folder):
        _require_same(folder, found, settings)
    elif foreign := [item.name for item in folder.glob("*") if item.name != LOCK and item.suffix != ".tmp"]:
        raise SlimError(
            f"{folder} holds files that are not a comparison's.",
            culprits=sorted(foreign),
            remedy="Choose another NAME.",
        )


def _claim(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Record whose folder it is, before anything else is written there; return what earlier calls measured."""
    found = read_run(folder)
    before = {key: found.get(key, []) for key in ("runtimes", "cells")}
    write_json(folder / RUN_JSON, {"schema": 1, "kind": KIND, "yolo_slim": __version__, "settings": settings, **before})
    return before


def _joined(before: Mapping[str, Any], wanted: Iterable[Cell], runtimes: Iterable[str]) -> tuple[list[Cell], list[str]]:
    """Return all cells in the order of the tables, those that earlier calls measured included, and all runtimes."""
    grid = {Cell(**cell) for cell in before["cells"]} | set(wanted)
    names = list(ARMS)
    cells = sorted(grid, key=lambda cell: (names.index(cell.arm), cell.removed, cell.seed))
    return cells, list(dict.fromkeys([*before["runtimes"], *runtimes]))


def _remember(folder: Path, measured: Sequence[Measured], runtimes: Sequence[str]) -> None:
    """Record what was measured, so that the next call has it in its tables; what failed has to be asked for again."""
    path = folder / RUN_JSON
    found = read_json(path)
    cells = [one.cell for one in measured if one.start]
    cells += [cell for cell in (Cell(**cell) for cell in found["cells"]) if cell not in cells]
    write_json(path, {**found, "runtimes": list(runtimes), "cells": [vars(cell) for cell in cells]})


def _require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise where a folder holds another comparison, or a run."""
    if found.get("kind") != KIND:
        differing = ["it is a run, no comparison"]
    else:
        differing = differences(found.get("settings", {}), wanted)
        if (version := found.get("yolo_slim", __version__)) != __version__:
            raise SlimError(
                f"{folder} was trained by another version of yolo_slim, which may train otherwise.",
                culprits=[f"yolo_slim: {version} there, {__version__} now"],
                remedy="Nothing was touched. Choose another NAME and take over what is finished there: "
                f"--measured {folder / OUTPUTS[0]}; or go on with that version.",
            )
    if differing:
        raise SlimError(
            f"{folder} holds another comparison.",
            culprits=differing,
            remedy="Choose another NAME, or give the same settings to add arms, sizes or seeds.",
        )


def _training_of(arm: Arm, config: RunConfig) -> dict[str, Any]:
    """Return what of a run's settings is another training than the others' for an arm."""
    return {} if arm.distilled else {"recover": config.recover.model_copy(update={"distill": 0.0})}


class _Comparison:
    """One call: everything is made, measured and judged in the comparison's folder."""

    def __init__(self, run: Run, runtimes: Sequence[str], earlier: Mapping[Cell, Earlier]) -> None:
        self.run, self.runtimes, self.earlier = run, runtimes, earlier
        self.folder, self.progress = run.folder, run.progress
        self.setting = Setting(run)
        dataset = load_dataset(run.data)
        self.split = choose_split(dataset, run.config.validate_)
        self.images = dataset.splits[self.split][: run.config.validate_.max_images or None]
        self.train_images = len(dataset.splits["train"])
        chosen = Dataset(yaml=dataset.yaml, root=dataset.root, names=dataset.names, splits={self.split: self.images})
        (self.folder / "data").mkdir(exist_ok=True)
        links = write_absolute_yaml(chosen, self.folder / "data" / "data.yaml")
        self.links = links.with_name("data_links") / "images" / self.split

    def outcome(self, cells: Sequence[Cell]) -> Outcome:
        """Measure all cells, time them together, judge and write everything."""
        # A size that ours can't reach is found before the first training.
        for cell in {cell.removed: cell for cell in cells if cell.arm == OURS}.values():
            self._start(ARMS[OURS], cell)
        measured = []
        for done, cell in enumerate(cells, 1):
            self.progress.say(f"compare: {cell.folder} ({done} of {len(cells)})")
            measured.append(self._measure(cell))
            _remember(self.folder, measured, self.runtimes)
        value = self._value(measured, self._timings(measured))
        result, report, table = (self.folder / name for name in OUTPUTS)
        write_text(report, render(value))
        write_text(table, markdown(value))
        write_json(result, value)
        verdict = value["verdict"]
        return Outcome(
            folder=self.folder,
            status=verdict["status"],
            verdict=verdict["text"],
            result=result,
            report=report,
            table=table,
        )

    def _measure(self, cell: Cell) -> Measured:
        """Make one network, take it the way of all, and score its bundles."""
        arm, start = ARMS[cell.arm], None
        try:
            start = self._start(arm, cell)
            return self._carried(arm, cell, start)
        except SlimError as error:
            if arm.name in (OURS, CONTROL) or isinstance(error, MachineError):
                raise
            failed = start is not None or isinstance(error, AnotherTime)
            told = "not measured" if failed else "not possible"
            self.progress.say(f"compare: {cell.folder}: {told}: {error.fact}")
            return Measured(cell=cell, start=None, reason=error.fact, failed=failed)

    def _carried(self, arm: Arm, cell: Cell, start: Start) -> Measured:
        """Take one start the way of all, and score its bundles; what was trained earlier is built to be timed."""
        known = self.earlier.get(cell)
        config = self.run.config.model_copy(update={"imgsz": start.imgsz, **_training_of(arm, self.run.config)})
        folder = self._shared(arm, cell) / "untrained" if known else self.folder / cell.folder
        own = replace(self.run, config=config, folder=folder)
        built = pipeline.carried(own, start.weights, arm.name, seed=cell.seed if arm.trained and not known else None)
        model = checkpoint.load(built.weights).model
        size = measure(model, start.imgsz, end2end=self.setting.end2end)
        bundles = {key: _bundle(built, arm.name, key) for key in self.runtimes}
        return Measured(
            cell=cell,
            start=start,
            macs=size.macs,
            params=size.params,
            widths=(start.imgsz, *conv_widths(model).values()),
            bundles=bundles,
            scores=known.scores if known else self._scores(bundles, folder),
            made=known.made if known else _made(folder) if arm.trained else None,
            taken_over=known is not None,
            trained_macs=(known.macs if known else 0) or size.macs,
        )

    def _scores(self, bundles: Mapping[str, Path], folder: Path) -> dict[str, Any]:
        """Return the mAP of every bundle's own detections."""
        return {key: self._scored(bundle, folder / "score" / key) for key, bundle in bundles.items()}

    def _start(self, arm: Arm, cell: Cell) -> Start:
        """Return what an arm begins with."""
        folder = self._shared(arm, cell) / "start"
        return arm.make(Place(setting=self.setting, folder=folder, removed=cell.removed, seed=max(cell.seed, 0)))

    def _shared(self, arm: Arm, cell: Cell) -> Path:
        """Return the folder of what a cell is before training; seeds share it where it isn't random."""
        own = self.folder / cell.folder
        return own if arm.seeded else own.parent

    def _scored(self, bundle: Path, folder: Path) -> dict[str, float]:
        """Return the mAP of a bundle's own detections."""
        limits = {"split": self.split, "images": len(self.images)}
        inputs = {"bundle": sha256(bundle / "bundle.json"), "data": self.run.data_digest}
        job = Job(stage="compare-score", folder=folder, config=limits, inputs=inputs)
        out = folder / "score.json"
        if not job.is_done():
            job.begin()
            self.progress.step(f"compare: detect with {bundle.name}", 0, 1)
            answers = local.infer(bundle, self.links, cores())
            truths = [read_truth(path) for path in self.images]
            found = score(truths, [answer.detections for answer in answers], self.setting.control.names)
            write_json(out, {"map50_95": found.map50_95, "map50": found.map50, "per_class": found.per_class})
            job.finish([out])
            self.progress.step(f"compare: detect with {bundle.name}", 1, 1)
        value: dict[str, float] = read_json(out)
        return value

    def _timings(self, measured: Sequence[Measured]) -> dict[str, Any]:
        """Return the timings of all networks that differ in shape, taken in one go, by cell and runtime."""
        bundles = {
            timed_key(one, key): bundle
            for one in representatives(measured)
            for key, bundle in (one.bundles or {}).items()
        }
        config = self.run.config.validate_
        how = config.model_dump(include={"min_seconds", "min_queries", "rounds"})
        digests = {key: sha256(bundle / "bundle.json") for key, bundle in bundles.items()}
        # Figures of another machine or runtime version would stand under this one's name.
        here = {"machine": device_model(), "threads": cores(), "versions": versions()}
        settings = {**how, **here, "schema": TIMING_SCHEMA}
        job = Job(stage="compare-timing", folder=self.folder / "timing", config=settings, inputs=digests)
        out = job.folder / "timing.json"
        if not job.is_done():
            job.begin()
            celsius = local.most_celsius(self.run.profile)
            found = timing.in_turns(
                list(bundles),
                config.rounds,
                lambda key: local.bench_turn(bundles[key], self.links, config, celsius),
                lambda done, total: self.progress.step("compare: time the bundles in turns", done, total),
            )
            write_json(out, found)
            if not all(one["valid"] for one in found.values()):
                # What a throttled machine measured is told, but the next call measures again.
                return found
            job.finish([out])
        value: dict[str, Any] = read_json(out)
        return value

    def _value(self, measured: Sequence[Measured], timings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON value of ``compare.json``."""
        return summary.value(self._about(), [_row(one, measured) for one in measured], timings)

    def _about(self) -> dict[str, Any]:
        """Return what is compared on what."""
        run = self.run
        training = run.config.recover.model_dump(include={"epochs", "batch", "distill", "overrides"})
        share = float(training["overrides"].get("fraction", 1.0))
        return {
            "name": self.folder.name,
            "command": run.command,
            "model": {"file": run.model.name, "sha256": self.setting.control.sha256},
            "target": {
                "name": run.profile.name,
                "description": run.profile.description,
                "is_this_machine": local.is_device(run.profile),
            },
            "data": {"yaml": run.data.name, "split": self.split, "images": len(self.images)},
            "settings": settings_of(run),
            "imgsz": run.config.imgsz,
            "training": {**training, "images_seen": training["epochs"] * round(share * self.train_images)},
            "runtimes": list(self.runtimes),
            "machine": describe_machine(),
        }


def _row(one: Measured, measured: Sequence[Measured]) -> summary.Row:
    """Return one network's row of the result."""
    return summary.Row(
        arm=one.cell.arm,
        removed=one.cell.removed,
        seed=one.cell.seed,
        reason=one.reason,
        failed=one.failed,
        imgsz=one.start.imgsz if one.start else None,
        implementation=one.start.implementation if one.start else "",
        macs=one.macs,
        params=one.params,
        scores=one.scores or {},
        timed={key: timed_key(representative(one, measured), key) for key in one.bundles or {}},
        folder=one.cell.folder.as_posix(),
        made=one.made,
        taken_over=one.taken_over,
        trained_macs=one.trained_macs,
        timed_untrained=bool(one.start) and representative(one, measured).taken_over,
    )


def _made(folder: Path) -> dict[str, Any]:
    """Return where, when and how a network was trained."""
    manifest = read_manifest(folder / "recover")
    return {
        "machine": manifest["machine"]["model"],
        **{key: manifest[key] for key in ("finished_at", "mixed_precision", "versions")},
        # A training that was killed and went on knows its last part alone.
        "seconds": None if manifest["resumed"] else manifest["seconds"],
    }


def _bundle(built: pipeline.Built, arm: str, key: str) -> Path:
    """Return a network's bundle.

    Raises:
        SlimError: it wasn't possible.
    """
    name = f"{arm}/{key}"
    if name not in built.bundles:
        raise SlimError(
            f"{key} can't be compared here: {built.skipped.get(name, 'it was not built')}.",
            remedy="Leave it out of --runtimes.",
        )
    return built.bundles[name]
