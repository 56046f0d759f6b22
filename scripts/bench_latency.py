"""How far latency tables are off, and how often a first cut meets its budget: docs/benchmarks/latency.md.

    python scripts/bench_latency.py MODEL DATA --imgsz 320 --out record.json

The table is fitted to as many networks as by default, and checked on ``--checks`` others. Each try prunes to another
budget and times the cut. How tables are fitted was chosen on other networks than those of ``--seed``. The record is
written after every try, so that an interruption loses none.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from yolo_slim import latency_tables, preparation
from yolo_slim.backends import backend
from yolo_slim.cli.progress import listening
from yolo_slim.config.run import LatencyConfig, PruneConfig, RunConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.machine import describe_machine
from yolo_slim.measuring.latency import LatencyOutputs, LatencyTable
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.preparation import Run
from yolo_slim.progress import Progress
from yolo_slim.stages import prune
from yolo_slim.workspace.job import versions

HARDEST, MILDEST = 0.45, 0.85
"""Shares of the unpruned network's inference that the budgets leave."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--target", default="host")
    parser.add_argument("--checks", type=int, default=30)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2027, help="of the random networks")
    parser.add_argument("--tables", type=Path, help="keep the tables here; what was measured there is used")
    parser.add_argument("--runtime", help="the only build, such as onnxruntime-int8")
    parser.add_argument("--count-layers", action="store_true", help="as for TensorRT, which can't time single layers")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.count_layers:
        for runtime in ("onnxruntime", "ncnn"):
            vars(backend(runtime)).pop("layer_graph")
    with tempfile.TemporaryDirectory() as folder, listening(quiet=False) as listener:
        _measure(options, Path(folder), listener)


def _measure(options: argparse.Namespace, folder: Path, listener: Progress) -> None:
    """Measure the tables, then try the budgets."""
    config = RunConfig(
        model=str(options.model), data=str(options.data), target=options.target, imgsz=options.imgsz,
        seed=options.seed, latency=LatencyConfig(checks=options.checks, runtime=options.runtime),
        prune=PruneConfig(macs_removed=None, latency_ms=1000.0),
    )  # fmt: skip
    this = preparation.prepared(config, folder / "run", progress=listener, runs_bundles=True)
    outputs = latency_tables.measured(this, options.tables or folder / "tables")
    tables = {str(build): LatencyTable.load(path) for build, path in outputs.tables.items()}
    rows = {name: _errors(table) | {"tries": []} for name, table in tables.items()}
    record = {
        "model": options.model.name, "data": options.data.name, "imgsz": options.imgsz, "seed": options.seed,
        "layers": "timed" if any(table.times_layers for table in tables.values()) else "counted",
        "target": this.context.profile.name, "threads": this.context.profile.threads,
        "machine": describe_machine(), "versions": versions(),
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "builds": rows,
    }  # fmt: skip
    write_json(options.out, record)
    for build, path in outputs.tables.items():
        only = LatencyOutputs(tables={build: path}, page=outputs.page, request=outputs.request)
        for share in np.linspace(MILDEST, HARDEST, options.tries):
            rows[str(build)]["tries"].append(_try(this, only, tables[str(build)], float(share), folder))
            write_json(options.out, record)


def _errors(table: LatencyTable) -> JsonObject:
    """The table's errors on networks that it wasn't fitted to."""
    found = [one for one in table.networks if one.role == "check"]
    predicted = [table.fit.ms(one.load) for one in found]
    measured = [one.ms for one in found]
    return {
        "control_ms": table.control_ms, "overhead_ms": table.overhead_ms, "fit": table.fit.to_json(),
        "networks": [{"predicted_ms": p, "measured_ms": m} for p, m in zip(predicted, measured, strict=True)],
        "median_error": table.error.median, "worst_error": table.error.worst,
        "rank_correlation": float(spearmanr(predicted, measured).statistic), "layer_seconds": table.layer_seconds,
        "seconds": table.seconds, "invalid_reasons": list(table.invalid_reasons),
    }  # fmt: skip


def _try(this: Run, only: LatencyOutputs, table: LatencyTable, share: float, folder: Path) -> JsonObject:
    """Prune to a share of the unpruned network's inference."""
    budget = table.overhead_ms + share * table.control_ms
    tried = {"share": share, "budget_ms": budget}
    config = this.config.prune.model_copy(update={"latency_ms": budget})
    inputs = prune.PruneInputs(
        model=this.model, latency=replace(only, request=f"{only.request}-{share}"), timing=this.config.latency
    )
    try:
        outputs = prune.run(inputs, config, folder / f"{table.build}-{share:.3f}", this.context)
    except SlimError as error:
        return {**tried, "missed": [error.fact, *error.culprits]}
    found, macs = LatencyCut.model_validate_json(outputs.latency.read_text()), read_json(outputs.widths)
    return {
        **tried, "cuts": [cut.to_json() for cut in found.cuts], "kept": found.kept,
        "first_off": found.cuts[0].measured_ms / found.cuts[0].predicted_ms - 1,
        "kept_off": found.measured_ms / budget - 1,
        "macs_removed": 1 - macs["slim"]["macs"] / macs["control"]["macs"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
