"""Compare settings of pruning and recovery on one data set, cell by cell; what is measured stays, so the grid can grow.

    python scripts/bench_grid.py criteria yolov8n.pt yolo11n.pt yolo26n.pt --data data.yaml --shares .3 .5 .7
    python scripts/bench_grid.py ablations --data data.yaml --epochs 5 yolo11n.pt

``criteria`` scores every criterion's cut without any training; ``ablations`` changes one setting of the defaults at a
time, before training and, with --epochs, after it. mAP50-95 of the PyTorch weights on --split (val: settings are chosen
on it; test is for the result). Figures are in docs/benchmarks/records/grid.json, which grows from machine to machine;
networks in ``--out``. A killed call goes on with the next cell.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yolo_slim
from yolo_slim.config.run import PruneConfig, RecoverConfig
from yolo_slim.datasets.description import digest, load_dataset
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import merge_json, read_json, sha256, sha256_json
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.accuracy import read_truth, score
from yolo_slim.measuring.predict import detect_all, torch_infer
from yolo_slim.models import checkpoint
from yolo_slim.models.size import measure
from yolo_slim.models.ultralytics import prepare_ultralytics, use_all_cores
from yolo_slim.progress import Silent
from yolo_slim.training.arguments import DEFAULTS
from yolo_slim.workspace.job import versions

Settings = dict[str, Any]

CRITERIA: dict[str, Settings] = {
    **{name: {"prune.criterion": name} for name in ("fisher", "hessian", "taylor", "lamp", "random")},
    # Magnitudes of layers of other scales can't be ranked together as they are.
    **{name: {"prune.criterion": name, "prune.normalize": "mean"} for name in ("l1", "l2", "bn", "fpgm")},
    "l2, not normalized": {"prune.criterion": "l2"},
    "l2, uniform": {"prune.criterion": "l2", "prune.scope": "uniform"},
    "random, uniform": {"prune.criterion": "random", "prune.scope": "uniform"},
}
ABLATIONS: dict[str, Settings] = {
    "defaults": {},
    "distillation off": {"recover.distill": 0.0},
    "distillation 1": {"recover.distill": 1.0},
    "distillation 6": {"recover.distill": 6.0},
    "Ultralytics' feature distillation": {"recover.distill_on": "features", "recover.distill": 6.0},
    "lr0 .0005": {"recover.overrides.lr0": 0.0005},
    "lr0 .002": {"recover.overrides.lr0": 0.002},
    "no warm-up": {"recover.overrides.warmup_epochs": 0.0},
    "linear decay": {"recover.overrides.cos_lr": False},
    "SGD, lr0 .01": {"recover.overrides.optimizer": "SGD", "recover.overrides.lr0": 0.01},
    "statistics not re-estimated": {"prune.bn_images": 0},
    "head untouched": {"prune.head_rate": 0.0},
    "head gentleness .5": {"prune.head_rate": 0.5},
    "head like the rest": {"prune.head_rate": 1.0},
    "one shot": {"prune.steps": 1},
    "six steps": {"prune.steps": 6},
    "one epoch of them after each round": {"prune.recover_epochs_between": 1},
    "batch gradients (hessian)": {"prune.criterion": "hessian"},
    "isomorphic": {"prune.scope": "isomorphic"},
    "uniform": {"prune.scope": "uniform"},
}
TRAINING = ("recover.", "prune.recover_epochs_between")
"""Settings that say nothing of a cut before any training."""
GRIDS = {"criteria": CRITERIA, "ablations": ABLATIONS}
STORE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "records" / "grid.json"


def main() -> None:
    """Measure what is missing and print Markdown tables."""
    options = _options()
    prepare_ultralytics()
    use_all_cores()
    options.out.mkdir(parents=True, exist_ok=True)
    grid = _Grid(options)
    for cell in grid.cells():
        grid.fill(cell)
    grid.print()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=list(GRIDS))
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--split", default="val")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5], help="fractions of the MACs to remove")
    parser.add_argument("--epochs", type=int, default=0, help="recovery; 0: none")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the networks")
    parser.add_argument("--store", type=Path, default=STORE, help="JSON file of the figures")
    options = parser.parse_args()
    unknown = [row for row in options.rows or [] if row not in GRIDS[options.grid]]
    if unknown:
        parser.error(f"no such rows: {', '.join(unknown)}; there are: {', '.join(GRIDS[options.grid])}")
    if not load_dataset(options.data).has(options.split):
        parser.error(f"{options.data} has no split {options.split}")
    options.data = options.data.resolve()
    return options


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One figure."""

    model: Path
    row: str
    settings: Settings
    share: float
    seed: int
    epochs: int

    @property
    def cut(self) -> Settings:
        """Return the settings of the pruned network."""
        return self._of("prune.")

    @property
    def training(self) -> Settings:
        """Return the settings of its recovery."""
        return self._of("recover.")

    @property
    def cut_digest(self) -> str:
        """Return a digest of what decides the pruned network, defaults included: they may change."""
        return _short({"defaults": PruneConfig().model_dump(), **self.cut})

    @property
    def training_digest(self) -> str:
        """Return a digest of what decides its recovery."""
        from yolo_slim.training.precision import has_bfloat16

        defaults = {**RecoverConfig().model_dump(), **DEFAULTS, "bfloat16": has_bfloat16()}
        return _short({"defaults": defaults, **self.training})

    @property
    def epochs_left(self) -> int:
        """Return the epochs after the last cut: those between the steps count too, so that all rows train equally."""
        between = self.settings.get("prune.recover_epochs_between", 0)
        return self.epochs - between * (PruneConfig().steps - 1) if self.epochs else 0

    def _of(self, start: str) -> Settings:
        return {**{k: v for k, v in self.settings.items() if k.startswith(start)}, "seed": self.seed}


class _Grid:
    """The cells of a call and what is known of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.store = options.store
        self.kept: dict[str, Any] = read_json(self.store) if self.store.is_file() else {}
        self.failed: dict[str, str] = {}
        self.dataset = load_dataset(options.data)
        self.images = self.dataset.splits[options.split]
        self.truths = [read_truth(image) for image in self.images]
        self.digests = {model: sha256(model)[:8] for model in options.models}
        self.data = f"{options.data.parent.name}-{digest(self.dataset)[:8]}"

    def rows(self) -> dict[str, Settings]:
        """Return the rows asked for; without training those that change the cut alone."""
        every, trains = GRIDS[self.options.grid], self.options.epochs > 0
        rows = {k: v for k, v in every.items() if k in (self.options.rows or every)}
        return {k: v for k, v in rows.items() if trains or not any(key.startswith(TRAINING) for key in v)}

    def cells(self) -> Iterator[_Cell]:
        """Yield the cells, all of one seed before the next."""
        options = self.options
        for seed in options.seeds:
            for model in options.models:
                for row, settings in self.rows().items():
                    for share in options.shares:
                        trains = "prune.recover_epochs_between" in settings
                        for epochs in [options.epochs] if trains else sorted({0, options.epochs}):
                            yield _Cell(model=model, row=row, settings=settings, share=share, seed=seed, epochs=epochs)

    def key(self, cell: _Cell) -> str:
        """Return a cell's name in the store."""
        trained = f"{cell.epochs_left}ep-{cell.training_digest}" if cell.epochs else "0ep"
        return f"{self.folder(cell).name}/{trained}/{self.options.split}"

    def folder(self, cell: _Cell) -> Path:
        """Return where a cell's pruned network lives."""
        options = self.options
        name = f"{self.data}-{cell.model.stem}-{self.digests[cell.model]}-{options.imgsz}"
        return Path(options.out) / "grid" / f"{name}-{cell.share:g}-{cell.cut_digest}"

    def fill(self, cell: _Cell) -> None:
        """Measure a cell unless it is known."""
        key, control = self.key(cell), self.control(cell.model)
        self._known(control, lambda: self._scored(cell.model))
        try:
            self._known(key, lambda: self._scored(self._weights(cell)))
        except SlimError as error:
            if isinstance(error, MachineError):
                raise
            self.failed[key] = error.fact
        found = self.failed.get(key) or f"{self.kept[key]['map50_95']:.4f}"
        print(
            f"{cell.model.stem} {cell.row} {cell.share:g}, {cell.epochs} epochs: {found}", file=sys.stderr, flush=True
        )

    def control(self, model: Path) -> str:
        """Return the name of the unpruned network in the store."""
        return f"{self.data}-{model.stem}-{self.digests[model]}-{self.options.imgsz}/{self.options.split}"

    def _known(self, key: str, make: Callable[[], Any]) -> None:
        if key not in self.kept:
            self.kept = merge_json(self.store, {key: make()})

    def _weights(self, cell: _Cell) -> Path:
        """Return a cell's checkpoint."""
        options, folder = self.options, self.folder(cell)
        pruned = yolo_slim.prune(
            cell.model, options.data, folder / "prune", imgsz=options.imgsz, prune=cell.share, settings=cell.cut
        ).weights
        if not cell.epochs:
            return pruned
        return yolo_slim.recover(
            pruned,
            cell.model,
            options.data,
            folder / f"recover-{cell.epochs_left}-{cell.training_digest}",
            imgsz=options.imgsz,
            epochs=cell.epochs_left,
            settings=cell.training,
        ).weights

    def _scored(self, weights: Path) -> dict[str, Any]:
        """Return the figures of a checkpoint."""
        model = checkpoint.load(weights).model
        infer = torch_infer(model, end2end=False)
        found = detect_all(self.images, infer, layout="one2many", imgsz=self.options.imgsz, progress=Silent(), text="")
        size = measure(model, self.options.imgsz, end2end=False)
        accuracy = score(self.truths, found, self.dataset.names)
        return {"map50_95": accuracy.map50_95, "macs": size.macs, "params": size.params, "made": _here()}

    def print(self) -> None:
        """Print a table for every checkpoint."""
        options = self.options
        for model in options.models:
            control = self.kept[self.control(model)]
            shares = [f"{share:.0%} removed" for share in options.shares]
            titles = [f"{title}, {e} epochs" if e else title for title in shares for e in sorted({0, options.epochs})]
            print(f"\n{model.stem}, control {control['map50_95']:.3f}\n")
            print(f"| | {' | '.join(titles)} |\n|---{'|---' * len(titles)}|")
            for row in self.rows():
                print(f"| {row} | {' | '.join(self._row(model, row))} |")
        print(f"\n`python scripts/bench_grid.py {shlex.join(sys.argv[1:])}`: mAP50-95 of")
        print(f"{len(self.images)} {options.split} images, {options.imgsz} px, seeds {options.seeds},")
        keys = [self.key(cell) for cell in self.cells()] + [self.control(model) for model in options.models]
        print("\n".join(sorted({_made(self.kept[key]) for key in keys if key in self.kept})))

    def _row(self, model: Path, row: str) -> list[str]:
        """Return a row's figures: the mean over the seeds, and their range where there are several."""
        texts: dict[tuple[float, int], list[float]] = {}
        for cell in self.cells():
            if (cell.model, cell.row) == (model, row):
                found = self.kept.get(self.key(cell))
                texts.setdefault((cell.share, cell.epochs), []).extend([found["map50_95"]] if found else [])
        asked = [(share, epochs) for share in self.options.shares for epochs in sorted({0, self.options.epochs})]
        return [_spread(texts[key]) if texts.get(key) else "-" if key not in texts else "not possible" for key in asked]


def _spread(values: list[float]) -> str:
    """Return the mean of one figure's seeds, with their range."""
    mean = sum(values) / len(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ({min(values):.3f} to {max(values):.3f})"


def _here() -> dict[str, str]:
    """Return when and by what a cell is measured."""
    return {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", **versions()}


def _made(cell: dict[str, Any]) -> str:
    """Return a cell's record as a line."""
    made = cell.get("made") or {"date": cell["date"]}
    return ", ".join(value if key in ("date", "machine") else f"{key} {value}" for key, value in made.items())


def _short(settings: Settings) -> str:
    return sha256_json(settings)[:8]


if __name__ == "__main__":
    main()
