"""Make, train, build and score the networks of a comparison, one cell after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from yolo_slim import pipeline
from yolo_slim.build_key import BuildName
from yolo_slim.comparison import folder as folders
from yolo_slim.comparison.device import Meter
from yolo_slim.comparison.equal_latency import AtBudget
from yolo_slim.comparison.frontier import OURS
from yolo_slim.comparison.imported import Imported
from yolo_slim.comparison.methods import CONTROL, METHODS, Method
from yolo_slim.comparison.networks import Cell, Network
from yolo_slim.comparison.starts import Place, Setting, Start, StartFailed
from yolo_slim.config.run import RunConfig
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.models import checkpoint
from yolo_slim.models.activation import ACTIVATIONS, exchange
from yolo_slim.models.macs import conv_widths, measure
from yolo_slim.preparation import Run
from yolo_slim.sweep.executors import Finished, run_here
from yolo_slim.training.exchange import EXCHANGED


class NotPossible(SlimError):
    """There is no such network, so the method isn't a rival at this size."""


class Measurements:
    """The measurements of one call, in the comparison's folder."""

    def __init__(
        self,
        run: Run,
        runtimes: tuple[str, ...],
        imported: Mapping[Cell, Imported],
        meter: Meter,
        at_budget: AtBudget | None = None,
    ) -> None:
        self.run, self.runtimes, self.imported, self.meter = run, runtimes, imported, meter
        self.setting = Setting(run, at_budget)

    def require_sizes(self, cells: Sequence[Cell]) -> None:
        """Prune ours to every size, so that one which can't be reached is found before the first training."""
        for cell in {cell.removed: cell for cell in cells if cell.method == OURS}.values():
            self.start(METHODS[OURS], cell)

    def measure_all(self, cells: Sequence[Cell]) -> list[Network]:
        """Measure the cells in their order; every measured one is recorded before the next one starts."""
        networks: list[Network] = []

        def work(cell: Cell) -> Network:
            self.run.context.progress.say(f"compare: {cell.name} ({len(networks) + 1} of {len(cells)})")
            return self.measure(cell)

        def done(finished: Finished[Cell, Network]) -> None:
            networks.append(finished.result or self._missing(finished))
            folders.remember(self.run.folder, networks, self.runtimes)

        # Without ours or the control there is nothing to compare.
        run_here(cells, work, required=lambda cell: cell.method in (OURS, CONTROL), done=done)
        return networks

    def measure(self, cell: Cell) -> Network:
        """Make one network and measure its accuracy.

        Raises:
            NotPossible: there is no such network.
            MachineError: the machine stopped it.
            SlimError: there is such a network, but it failed.
        """
        method = METHODS[cell.method]
        try:
            start = self.start(method, cell)
        except (MachineError, StartFailed):
            raise
        except SlimError as error:
            raise error.as_kind(NotPossible) from error
        return self.build_and_score(method, cell, start)

    def start(self, method: Method, cell: Cell) -> Start:
        """Make what a method begins with."""
        folder = self._before_training(method, cell) / "start"
        return method.make(Place(setting=self.setting, folder=folder, removed=cell.removed, seed=max(cell.seed, 0)))

    def build_and_score(self, method: Method, cell: Cell, start: Start) -> Network:
        """Train, export, build and score one start; an imported network is only built, to be timed."""
        known = self.imported.get(cell)
        folder = self._before_training(method, cell) / "untrained" if known else self.run.folder / cell.name
        # An untrained cut belongs to no seed, so all seeds of a method share its bundles.
        config = training_of(method, self.run.config).model_copy(update={"imgsz": start.imgsz})
        seed = cell.seed if method.trained and not known else None
        context = replace(self.run.context, imgsz=start.imgsz)
        this = replace(self.run, config=config, folder=folder, context=context)
        weights = _untrained(start.weights, config.recover.activation, folder) if known else start.weights
        built = pipeline.trained_and_built(this, weights, method.name, seed=seed)
        model = checkpoint.load(built.weights).model
        size = measure(model, start.imgsz, end2end=self.setting.end2end)
        bundles = {key: _bundle(built, key) for key in self.runtimes}
        made = folders.training_in(folder) if method.trained and not known else None
        return Network(
            cell=cell,
            imgsz=start.imgsz,
            implementation=start.implementation,
            macs=size.macs,
            params=size.params,
            # With the input side, which decides the speed as the widths do.
            widths=(start.imgsz, *conv_widths(model).values()),
            bundles=bundles,
            scores=known.scores if known else self.meter.score_all(bundles, folder),
            made=known.made if known else made,
            imported=known is not None,
            trained_macs=known.macs if known else size.macs,
        )

    def _missing(self, finished: Finished[Cell, Network]) -> Network:
        """Record a cell without a network."""
        cell, error = finished.cell, finished.error
        assert error is not None  # The executor gives a result or an error.
        failed = not isinstance(error, NotPossible)
        self.run.context.progress.say(
            f"compare: {cell.name}: {'not measured' if failed else 'not possible'}: {error.fact}"
        )
        return Network.missing(cell, error.fact, failed=failed)

    def _before_training(self, method: Method, cell: Cell) -> Path:
        """Folder of what exists before training; seeds share it unless the start is random."""
        own = self.run.folder / cell.name
        return own if method.seeded else own.parent


def training_of(method: Method, config: RunConfig) -> RunConfig:
    """Settings of a method's training: without distillation where it would learn from itself."""
    if method.distilled:
        return config
    return config.model_copy(update={"recover": config.recover.model_copy(update={"distill": 0.0})})


def _untrained(weights: Path, activation: str, folder: Path) -> Path:
    """The cut that is timed for an imported network: with its activation, which decides the speed as the shape does."""
    if activation not in ACTIVATIONS:
        return weights
    loaded = checkpoint.load(weights)
    exchange(loaded.model, activation)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / EXCHANGED, loaded, loaded.model)
    return folder / EXCHANGED


def _bundle(built: pipeline.Built, key: str) -> Path:
    """Find a network's bundle.

    Raises:
        SlimError: it couldn't be built.
    """
    name = BuildName.parse(key)
    if name not in built.bundles:
        raise SlimError(
            f"{key} can't be compared here: {built.skipped.get(name, 'it was not built')}.",
            remedy="Leave it out of --runtimes.",
        )
    return built.bundles[name]
