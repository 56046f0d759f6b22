"""How far latency tables are off, and how often a first cut meets its budget: docs/benchmarks/latency.md.

    python scripts/bench_latency.py MODEL DATA --imgsz 320 --checks 30 --tries 5 --out record.json

The table is fitted to 8 networks and checked on ``--checks`` others. Each try prunes to another budget and times the
cut.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from yolo_slim import latency_tables, preparation
from yolo_slim.cli.progress import listening
from yolo_slim.config.run import LatencyConfig, PruneConfig, RunConfig
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import describe_machine
from yolo_slim.measuring.latency import LatencyTable
from yolo_slim.measuring.latency_cut import LatencyCut
from yolo_slim.stages import prune
from yolo_slim.workspace.job import versions


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--checks", type=int, default=30)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where tables are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, listening(quiet=False) as listener:
        folder = args.folder or Path(temporary)
        config = RunConfig(
            model=str(args.model), data=str(args.data), imgsz=args.imgsz, latency=LatencyConfig(checks=args.checks),
            prune=PruneConfig(macs_removed=None, latency_ms=1000.0),
        )  # fmt: skip
        this = preparation.prepared(config, folder / "run", progress=listener, runs_bundles=True)
        outputs = latency_tables.measured(this, folder / "tables")
        tables = {str(build): LatencyTable.load(path) for build, path in outputs.tables.items()}
        rows = {name: _errors(table) for name, table in tables.items()}
        for build, path in outputs.tables.items():
            rows[str(build)]["tries"] = [
                _try(this, outputs, build, path, share, Path(temporary))
                for share in np.linspace(0.85, 0.45, args.tries)
            ]
    record = {
        "model": args.model.name, "data": args.data.name, "imgsz": args.imgsz, "machine": describe_machine(),
        "versions": versions(), "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "builds": rows,
    }  # fmt: skip
    write_json(args.out, record)
    for name, row in rows.items():
        print(name, {key: value for key, value in row.items() if key not in ("tries", "networks")})
        for one in row["tries"]:
            print("  ", one)


def _errors(table: LatencyTable) -> JsonObject:
    """The table's errors on networks that it wasn't fitted to."""
    found = [one for one in table.networks if one.role == "check"]
    predicted = [table.fit.ms(one.layers_ms, one.moved_mb) for one in found]
    measured = [one.ms for one in found]
    return {
        "control_ms": table.control_ms, "overhead_ms": table.overhead_ms, "fit": table.fit.to_json(),
        "networks": [{"predicted_ms": p, "measured_ms": m} for p, m in zip(predicted, measured, strict=True)],
        "median_error": table.error.median, "worst_error": table.error.worst,
        "rank_correlation": float(spearmanr(predicted, measured).statistic), "layer_seconds": table.layer_seconds,
        "seconds": table.seconds, "invalid_reasons": list(table.invalid_reasons),
    }  # fmt: skip


def _try(this, outputs, build, path, share, folder: Path) -> JsonObject:  # type: ignore[no-untyped-def]
    """Prune to a share of the unpruned network's inference."""
    table = LatencyTable.load(path)
    budget = table.overhead_ms + float(share) * table.control_ms
    config = this.config.prune.model_copy(update={"latency_ms": budget})
    place = folder / f"{build}-{share:.3f}"
    only = type(outputs)(tables={build: path}, page=outputs.page, fingerprint=f"{outputs.fingerprint}-{share}")
    inputs = prune.PruneInputs(model=this.model, latency=only, loop=this.config.latency)
    found = LatencyCut.model_validate_json(prune.run(inputs, config, place, this.context).latency.read_text())
    return {
        "share": float(share), "budget_ms": budget, "cuts": [cut.to_json() for cut in found.cuts], "kept": found.kept,
        "first_off": found.cuts[0].measured_ms / budget - 1, "kept_off": found.measured_ms / budget - 1,
    }  # fmt: skip


if __name__ == "__main__":
    main()
