"""A grid of settings of pruning and recovery: mAP50-95 of the PyTorch weights for every row, model, size and seed.

What makes a network is given by the caller (:class:`Recipe`), because a sweep knows cells and figures, not the order of
the stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.errors import SlimError
from yolo_slim.files import fitted_name, sha256, sha256_json
from yolo_slim.sweep.executors import Finished, run_here
from yolo_slim.sweep.figures import figures_of, origin
from yolo_slim.sweep.grid import Store, product
from yolo_slim.training.defaults import DEFAULTS
from yolo_slim.training.precision import has_bfloat16

Settings = Mapping[str, Any]
"""Dotted keys of docs/configuration.md and their values."""
BETWEEN, STEPS = "prune.recover_epochs_between", "prune.steps"
TRAINING = ("recover.", BETWEEN)
"""Settings that change nothing about a cut without training."""


@dataclass(frozen=True, kw_only=True)
class GridRequest:
    """What a grid measures, and where its networks and figures are."""

    rows: Mapping[str, Settings]
    """Name of a row to the settings that differ from the defaults."""
    models: tuple[Path, ...]
    data: Path
    """data.yaml."""
    split: str = "val"
    """Split of the data whose images score."""
    imgsz: int = 320
    """Input side in pixels."""
    shares: tuple[float, ...] = (0.5,)
    """Fractions of the MACs to remove."""
    epochs: int = 0
    """Epochs of recovery; 0 measures the cuts alone."""
    seeds: tuple[int, ...] = (0,)
    out: Path
    """Folder of the networks."""
    store: Path
    """JSON file of the figures."""

    @property
    def trainings(self) -> list[int]:
        """Epochs of the columns: every share is measured before training, and after it where there is any."""
        return sorted({0, self.epochs})


@dataclass(frozen=True, kw_only=True)
class SettingsCell:
    """One figure of the grid."""

    base: str
    """What all cells of one model and data set share."""
    split: str
    model: Path
    row: str
    settings: Settings
    share: float
    seed: int
    epochs: int

    @property
    def folder(self) -> str:
        """Folder of its pruned network; cells that differ in training share it."""
        return f"{self.base}-{self.share:g}-{self.cut_digest}"

    @property
    def name(self) -> str:
        """Key of its figures in the store."""
        trained = f"{self.epochs_left}ep-{self.training_digest}" if self.epochs else "0ep"
        return f"{self.folder}/{trained}/{self.split}"

    @property
    def cut(self) -> Settings:
        """Settings that decide the pruned network."""
        return self._section("prune.")

    @property
    def training(self) -> Settings:
        """Settings that decide its recovery."""
        return self._section("recover.")

    @property
    def cut_digest(self) -> str:
        """Digest of what decides the pruned network; the defaults are part of it, because they may change."""
        training = self.training if self.settings.get(BETWEEN) else {}
        return _digest({"defaults": PruneConfig().recorded(), **training, **self.cut})

    @property
    def training_digest(self) -> str:
        """Digest of what decides its recovery."""
        # Whether a training is in bfloat16 depends on the processor, and changes the weights.
        defaults = {**RecoverConfig().model_dump(), **DEFAULTS, "bfloat16": has_bfloat16()}
        return _digest({"defaults": defaults, **self.training})

    @property
    def epochs_left(self) -> int:
        """Epochs after the last cut; those between the steps count too, so that all rows train equally long."""
        between = self.settings.get(BETWEEN, 0)
        steps = self.settings.get(STEPS, PruneConfig().steps)
        return self.epochs - between * (steps - 1) if self.epochs else 0

    def _section(self, start: str) -> Settings:
        return {**{key: value for key, value in self.settings.items() if key.startswith(start)}, "seed": self.seed}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the network of a cell is made: a checkpoint into a folder."""

    prune: Callable[[SettingsCell, Path], Path]
    recover: Callable[[SettingsCell, Path, Path], Path]
    """Of a cell and its pruned checkpoint."""


class SettingsGrid:
    """The cells of a request, and what is known about them."""

    def __init__(self, request: GridRequest, recipe: Recipe) -> None:
        self.request, self.recipe = request, recipe
        self.store = Store(request.store)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set that scores."""
        return load_dataset(self.request.data)

    @cached_property
    def images(self) -> list[Path]:
        """The images that score."""
        return list(self.dataset.splits[self.request.split])

    @cached_property
    def bases(self) -> dict[Path, str]:
        """Model to the beginning of its cells' names: the content of data and weights, and the input side."""
        data = f"{self.request.data.parent.name}-{self.dataset.digest[:8]}"
        imgsz = self.request.imgsz
        return {
            model: fitted_name(model.stem, before=f"{data}-", after=f"-{sha256(model)[:8]}-{imgsz}")
            for model in self.request.models
        }

    @property
    def rows(self) -> dict[str, Settings]:
        """The rows to measure; without training only those that change the cut."""
        trains = self.request.epochs > 0
        changes_training = {row: any(key.startswith(TRAINING) for key in of) for row, of in self.request.rows.items()}
        return {row: of for row, of in self.request.rows.items() if trains or not changes_training[row]}

    def cells(self) -> Iterator[SettingsCell]:
        """Yield all cells, those of one seed before the next seed's: an interrupted grid has complete seeds."""
        request = self.request
        axes = {"seed": request.seeds, "model": request.models, "row": self.rows, "share": request.shares}
        for values in product(**axes, epochs=request.trainings):
            settings = self.rows[values["row"]]
            # Its cut contains training, so there is no network without any.
            if values["epochs"] or BETWEEN not in settings:
                yield SettingsCell(base=self.bases[values["model"]], split=request.split, settings=settings, **values)

    def control(self, model: Path) -> str:
        """Key of the unpruned network's figures in the store."""
        return f"{self.bases[model]}/{self.request.split}"

    def run(self, done: Callable[[SettingsCell, str], None] = lambda *_: None) -> None:
        """Measure every cell that isn't known; ``done`` gets each cell with its mAP50-95 or the reason for none."""

        def finished(of: Finished[SettingsCell, float]) -> None:
            done(of.cell, of.error.fact if of.error else f"{of.result:.4f}")

        for model in self.request.models:
            self.store.once(self.control(model), partial(self._score, model))
        run_here(list(self.cells()), self._once, done=finished)

    def _once(self, cell: SettingsCell) -> float:
        """mAP50-95 of a cell; it is measured only where it isn't known."""
        return float(self.store.once(cell.name, partial(self._measure, cell))["map50_95"])

    def maps(self, model: Path, row: str) -> list[list[float] | None]:
        """mAP50-95 of a row's columns over the seeds; None for a column that the row doesn't have."""
        found: dict[tuple[float, int], list[float]] = {}
        for cell in self.cells():
            if (cell.model, cell.row) == (model, row):
                known = self.store.figures.get(cell.name)
                found.setdefault((cell.share, cell.epochs), []).extend([known["map50_95"]] if known else [])
        return [found.get((of["share"], of["epochs"])) for of in self.columns()]

    def columns(self) -> Iterator[dict[str, Any]]:
        """Yield share and epochs of every column of the tables."""
        return product(share=self.request.shares, epochs=self.request.trainings)

    def origins(self) -> list[str]:
        """When, where and by which versions the figures were measured, a line for each combination."""
        names = [cell.name for cell in self.cells()] + [self.control(model) for model in self.request.models]
        return sorted({origin(self.store.figures[name]) for name in names if name in self.store.figures})

    def _measure(self, cell: SettingsCell) -> dict[str, Any]:
        """Make the network of a cell and score it."""
        folder = self.request.out / "grid" / cell.folder
        weights = self.recipe.prune(cell, folder / "prune")
        if cell.epochs:
            # Trainings from one cut lie side by side, so the name says what decides them.
            out = folder / f"recover-{cell.epochs_left}-{cell.training_digest}"
            weights = self.recipe.recover(cell, weights, out)
        return self._score(weights)

    def _score(self, weights: Path) -> dict[str, Any]:
        """Figures of a checkpoint."""
        return figures_of(weights, self.images, dataset=self.dataset, imgsz=self.request.imgsz)


def require_split(data: Path, split: str) -> None:
    """Check that the images that are to score exist.

    Raises:
        SlimError: the data set has no such split.
    """
    if not load_dataset(data).has(split):
        raise SlimError(f"{data} has no split {split}.", remedy="Choose another split (--split).")


def _digest(settings: Settings) -> str:
    return sha256_json(settings)[:8]
