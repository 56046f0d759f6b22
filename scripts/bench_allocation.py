"""Which search loses least score at equal predicted milliseconds: docs/benchmarks/latency.md.

    python scripts/bench_allocation.py MODEL DATA --imgsz 320 --out record.json

The greedy search by three exponents of the saved milliseconds, looking one and four steps ahead; and what a
multiple-choice knapsack still improves. A convolution's cost depends on two widths, so the knapsack is solved again and
again around its last answer, with the costs there (scipy.optimize.milp).
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from yolo_slim import latency_tables, preparation
from yolo_slim.cli.progress import listening
from yolo_slim.config.run import PruneConfig, RunConfig
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import describe_machine
from yolo_slim.pruning.allocation import Problem, allocate_global
from yolo_slim.pruning.outputs import outputs_in
from yolo_slim.pruning.unreachable import Unreachable
from yolo_slim.pruning.work import PruneWork, load_prunable
from yolo_slim.stages.latency_choice import goals_of
from yolo_slim.stages.prune_source import source_of
from yolo_slim.workspace.job import versions

SHARES = (0.85, 0.7, 0.55)
"""Of the unpruned network's inference that stays."""
EXPONENTS, AHEAD = (0.5, 0.75, 1.0), (1, 4)
AROUND = 2
"""Steps up and down that the knapsack may choose between."""
MOST_SOLUTIONS = 8


def main() -> None:
    """Search, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--target", default="host")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = RunConfig(
        model=str(options.model), data=str(options.data), target=options.target, imgsz=options.imgsz,
        prune=PruneConfig(macs_removed=None, latency_ms=1000.0),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, listening(quiet=False) as listener:
        this = preparation.prepared(config, Path(folder) / "run", progress=listener, runs_bundles=True)
        rows = _searched(this, Path(folder))
    for row in rows:
        print(row)
    made = {"model": options.model.name, "imgsz": options.imgsz, "date": str(date.today())}
    made |= {"target": this.context.profile.name, "threads": this.context.profile.threads}
    write_json(options.out, {**made, "machine": describe_machine(), "versions": versions(), "rows": rows})


def _searched(this: preparation.Run, folder: Path) -> list[JsonObject]:
    """Score the channels once, then search for every build and budget."""
    tables = latency_tables.measured(this, folder / "tables").tables
    loaded = load_prunable(this.model, this.context.imgsz)
    source = source_of(loaded, this.config.prune, folder, this.context)
    pruner, _ = PruneWork.of(source, outputs_in(folder), this.context.progress).begun()
    ranked = pruner.rank(loaded.model, 0)
    rows = []
    for build, goal in goals_of(loaded, this.config.prune, tables, this.context, "none").items():
        cost = goal.model(ranked.graph, ranked.slots)
        for share in SHARES:
            target = share * goal.table.control_ms
            problem = Problem(slots=ranked.slots, cost=cost, target=target, round_to=ranked.terms.round_to)
            rows.append({"build": str(build), "share": share, **_row(problem)})
    return rows


def _row(problem: Problem) -> JsonObject:
    """The comparison at one budget, or why there is none."""
    try:
        return _compared(problem)
    except Unreachable as error:
        return {"unreachable": str(error)}


def _compared(problem: Problem) -> JsonObject:
    """The score lost by every search, in units of the least."""
    kept = {
        f"exponent {exponent:g}, {ahead} ahead": allocate_global(problem, per_mac=exponent, reach=ahead)
        for exponent in EXPONENTS
        for ahead in AHEAD
    }
    best = min(kept.values(), key=lambda keep: _loss(problem, keep))
    lost = {name: _loss(problem, keep) for name, keep in kept.items()}
    lost["knapsack around the best"] = _loss(problem, _refined(problem, best))
    least = min(lost.values())
    return {name: round(value / least, 3) for name, value in lost.items()}


def _loss(problem: Problem, keep: np.ndarray) -> float:
    """The score of the channels that go."""
    return float(
        sum(slot.unit_scores[: slot.width - int(k)].sum() for slot, k in zip(problem.slots, keep, strict=True))
    )


def _refined(problem: Problem, keep: np.ndarray) -> np.ndarray:
    """Solve the knapsack around an answer until it finds no better one that keeps the budget."""
    for _ in range(MOST_SOLUTIONS):
        found = _solved(problem, keep)
        if found is None or not problem.is_met(found) or _loss(problem, found) >= _loss(problem, keep):
            break
        keep = found
    return keep


def _solved(problem: Problem, keep: np.ndarray) -> np.ndarray | None:
    """One knapsack: a width for every slot, costs as they are while the others stay."""
    now, choices = problem.cost.total(keep), []
    for i, slot in enumerate(problem.slots):
        step = slot.multiple(problem.round_to)
        near = [w for w in range(step, slot.width + 1, step) if w >= slot.floor and abs(w - keep[i]) <= AROUND * step]
        for width in {int(keep[i]), *near}:
            other = keep.copy()
            other[i] = width
            choices.append((i, width, problem.cost.total(other) - now, slot.unit_scores[: slot.width - width].sum()))
    rows = np.zeros((len(keep) + 1, len(choices)))
    for column, (slot_index, _, ms, _) in enumerate(choices):
        rows[slot_index, column], rows[-1, column] = 1, ms
    losses = np.array([loss for *_, loss in choices])
    limits = LinearConstraint(
        rows, [*np.ones(len(keep)), -np.inf], [*np.ones(len(keep)), problem.target - now]
    )  # fmt: skip
    found = milp(losses / losses.max(), constraints=limits, integrality=np.ones(len(losses)), bounds=Bounds(0, 1))
    if found.x is None:
        return None
    chosen = keep.copy()
    for slot_index, width in (choices[int(column)][:2] for column in np.flatnonzero(found.x > 0.5)):
        chosen[slot_index] = width
    return chosen


if __name__ == "__main__":
    main()
