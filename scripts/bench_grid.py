"""Compare settings of pruning and recovery on one data set, cell by cell; figures are kept, so the grid can grow.

    python scripts/bench_grid.py criteria yolov8n.pt yolo11n.pt yolo26n.pt --data data.yaml --shares .3 .5 .7
    python scripts/bench_grid.py ablations --data data.yaml --epochs 5 yolo11n.pt

``criteria`` scores every criterion's cut without any training; ``ablations`` changes one setting of the defaults at a
time, before training and, with --epochs, after it. mAP50-95 of the PyTorch weights on --split (val: settings are chosen
on it; test is for the result). Figures are in docs/benchmarks/records/grid.json, which grows from machine to machine;
networks in ``--out``. After an interruption, the same call resumes at the cell that was running.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import yolo_slim
from yolo_slim.errors import SlimError
from yolo_slim.models.ultralytics import prepare_ultralytics, use_all_cores
from yolo_slim.sweep.settings_grid import GridRequest, Recipe, Settings, SettingsCell, SettingsGrid, require_split

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
    "head rate .5": {"prune.head_rate": 0.5},
    "head like the rest": {"prune.head_rate": 1.0},
    "one shot": {"prune.steps": 1},
    "six steps": {"prune.steps": 6},
    "one epoch of them after each step": {"prune.recover_epochs_between": 1},
    "batch gradients (hessian)": {"prune.criterion": "hessian"},
    "isomorphic": {"prune.scope": "isomorphic"},
    "uniform": {"prune.scope": "uniform"},
}
GRIDS = {"criteria": CRITERIA, "ablations": ABLATIONS}
STORE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "records" / "grid.json"


def main() -> None:
    """Measure what is missing and print Markdown tables."""
    request = _request()
    prepare_ultralytics()
    use_all_cores()
    request.out.mkdir(parents=True, exist_ok=True)
    grid = SettingsGrid(request, Recipe(prune=_pruner(request), recover=_recoverer(request)))
    grid.run(_say)
    _print(grid)


def _request() -> GridRequest:
    """Read the command line."""
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
    options = vars(parser.parse_args())
    every = GRIDS[options.pop("grid")]
    wanted = options.pop("rows") or list(every)
    if unknown := [row for row in wanted if row not in every]:
        parser.error(f"no such rows: {', '.join(unknown)}; there are: {', '.join(every)}")
    try:
        require_split(options["data"], options["split"])
    except SlimError as error:
        parser.error(str(error))
    several: dict[str, Any] = {key: tuple(options.pop(key)) for key in ("models", "shares", "seeds")}
    rows = {row: settings for row, settings in every.items() if row in wanted}
    return GridRequest(rows=rows, data=options.pop("data").resolve(), **several, **options)


def _pruner(request: GridRequest) -> Any:
    """Prune by a cell's settings."""

    def prune(cell: SettingsCell, out: Path) -> Path:
        how: dict[str, Any] = {"imgsz": request.imgsz, "prune": cell.share, "settings": cell.cut}
        return yolo_slim.prune(cell.model, request.data, out, **how).weights

    return prune


def _recoverer(request: GridRequest) -> Any:
    """Recover by a cell's settings."""

    def recover(cell: SettingsCell, pruned: Path, out: Path) -> Path:
        how: dict[str, Any] = {"imgsz": request.imgsz, "epochs": cell.epochs_left, "settings": cell.training}
        return yolo_slim.recover(pruned, cell.model, request.data, out, **how).weights

    return recover


def _say(cell: SettingsCell, found: str) -> None:
    """Print a finished cell."""
    print(f"{cell.model.stem} {cell.row} {cell.share:g}, {cell.epochs} epochs: {found}", file=sys.stderr, flush=True)


def _print(grid: SettingsGrid) -> None:
    """Print a table for every checkpoint, and where its figures come from."""
    request = grid.request
    for model in request.models:
        print(f"\n{model.stem}, control {grid.store.figures[grid.control(model)]['map50_95']:.3f}\n")
        titles = [_title(column) for column in grid.columns()]
        print(f"| | {' | '.join(titles)} |\n|---{'|---' * len(titles)}|")
        for row in grid.rows:
            print(f"| {row} | {' | '.join(_figure(maps) for maps in grid.maps(model, row))} |")
    print(f"\n`python scripts/bench_grid.py {shlex.join(sys.argv[1:])}`: mAP50-95 of")
    print(f"{len(grid.images)} {request.split} images, {request.imgsz} px, seeds {list(request.seeds)},")
    print("\n".join(grid.origins()))


def _title(column: dict[str, Any]) -> str:
    """Head of a column."""
    title = f"{column['share']:.0%} removed"
    return f"{title}, {column['epochs']} epochs" if column["epochs"] else title


def _figure(maps: list[float] | None) -> str:
    """The mean over the seeds, and their range where there are several."""
    if not maps:
        return "-" if maps is None else "not possible"
    mean = sum(maps) / len(maps)
    return f"{mean:.3f}" if len(maps) == 1 else f"{mean:.3f} ({min(maps):.3f} to {max(maps):.3f})"


if __name__ == "__main__":
    main()
