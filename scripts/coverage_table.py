"""Prune every family, task and size, and let plain Ultralytics load, validate and export the result.

    python -m scripts.coverage_table --sizes n                       # docs/coverage.md
    python -m scripts.coverage_table --sizes s m l x --families yolo11 yolo12 --tasks detect

Each row runs in a process of its own and is kept in ``--store``; a row that is there isn't run again.
Networks have random weights and channels are scored by l2, so nothing is downloaded or trained: the table shows what
can be cut, saved and used, and what it costs, not what accuracy is left. Seconds are CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from tests.helpers import tiny_data
from tests.helpers.bare_process import BareUltralytics
from tests.helpers.constants import ROOT
from yolo_slim.files import merge_json, read_json, write_json, write_text
from yolo_slim.machine import device_model, peak_memory_mb
from yolo_slim.models.ultralytics import prepare_ultralytics
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions

SIZES = "n s m l x".split()  # noqa: SIM905
FAMILIES = {
    "yolov5": (SIZES, ["detect"]),
    "yolov8": (SIZES, list(tiny_data.SUFFIX)),
    "yolov9": (["t", "s", "m", "c", "e"], ["detect", "segment"]),
    "yolov10": (["n", "s", "m", "b", "l", "x"], ["detect"]),
    "yolo11": (SIZES, list(tiny_data.SUFFIX)),
    "yolo12": (SIZES, list(tiny_data.SUFFIX)),
    "yolo26": (SIZES, list(tiny_data.SUFFIX)),
}
"""Sizes and tasks that ultralytics 8.4.190 has a yaml for."""
LIKE = {"t": "n", "c": "l", "b": "m", "e": "x"}
"""Letters of other families' sizes among n to x."""
COLUMNS = "network;task;params, M;GMACs;trace, s;trace, MB;prune, s;prune, MB;loads;validates;exports".split(";")  # noqa: SIM905


def rows(families: list[str], tasks: list[str], sizes: list[str]) -> list[tuple[str, str]]:
    """Return the wanted networks and tasks, small ones first."""
    found = [
        (SIZES.index(LIKE.get(size, size)), f"{family}{size}", task)
        for family in families
        for size in FAMILIES[family][0]
        for task in FAMILIES[family][1]
        if LIKE.get(size, size) in sizes and task in tasks
        if family != "yolov9" or task == "detect" or size in ("c", "e")
    ]
    return [(network, task) for _, network, task in sorted(found, key=lambda row: row[0])]


def measure_row(network: str, task: str, imgsz: int, out: Path) -> None:
    """Trace, prune and hand over one network; write its row."""
    prepare_ultralytics()
    from yolo_slim.config.run import PruneConfig
    from yolo_slim.pruning.groups import trace_channels
    from yolo_slim.stages import prune

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_data.network(network, task)
        before = peak_memory_mb() or 0
        start = time.process_time()
        graph = trace_channels(model, imgsz)
        traced, trace_mb = time.process_time() - start, (peak_memory_mb() or 0) - before
        path = tiny_data.save(model, folder / f"{network}.pt")
        del model
        data = tiny_data.make(folder / "data", task)
        config = PruneConfig(macs_removed=0.5, criterion="l2", steps=1, images=8, bn_images=8)
        start = time.process_time()
        outputs = prune.run(prune.PruneInputs(model=path), config, folder / "out", Context.load(data, imgsz=imgsz))
        row = {
            "network": network,
            "task": task,
            "imgsz": imgsz,
            "trace_s": traced,
            "trace_mb": trace_mb,
            "prune_s": time.process_time() - start,
            "prune_mb": peak_memory_mb() or 0,
            "kept": graph.blocks_kept(),
            **{key: read_json(outputs.widths)[key] for key in ("control", "slim")},
            **_bare(data, imgsz, outputs.weights),
            "versions": versions(),
            "machine": device_model(),
            "date": date.today().isoformat(),
        }
    write_json(out, row)


def _bare(data: Path, imgsz: int, weights: Path) -> dict[str, Any]:
    """Return what plain Ultralytics manages with the pruned file, in a process without yolo_slim."""
    ultralytics = BareUltralytics(weights.parent)
    try:
        (found,) = ultralytics.use(data, imgsz, weights)
    except RuntimeError as error:
        return {"error": str(error)[-500:]}
    finally:
        ultralytics.stop()
    return {key: value for key, value in found.items() if key != "file"}


def table(found: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *(_cells(row) for row in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    """Return a row's cells."""
    if "failed" in row:
        return [row["network"], row["task"], row["failed"], *[""] * 8]
    control, slim = row["control"], row["slim"]
    return [
        row["network"],
        row["task"],
        f"{control['params'] / 1e6:.2f} → {slim['params'] / 1e6:.2f}",
        f"{control['macs'] / 1e9:.2f} → {slim['macs'] / 1e9:.2f}",
        f"{row['trace_s']:.1f}",
        f"{row['trace_mb']:.0f}",
        f"{row['prune_s']:.1f}",
        f"{row['prune_mb']:.0f}",
        *("yes" if row.get(key) else "no" for key in ("loads", "validates", "exports")),
    ]


def run_row(network: str, task: str, imgsz: int, store: Path) -> dict[str, Any]:
    """Return a row, a kept one if there is any, else from a process of its own."""
    key = key_of(network, task, imgsz)
    if key not in stored(store):
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "row.json"
            arguments = ["--row", network, task, str(out), "--imgsz", str(imgsz)]
            command = [sys.executable, "-m", "scripts.coverage_table", *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["killed"])[-1]
                return {"network": network, "task": task, "failed": f"failed: {last[:200]}"}
            merge_json(store, {key: read_json(out)})
    return dict(stored(store)[key])


def stored(store: Path) -> dict[str, Any]:
    """Return all rows that are kept."""
    return dict(read_json(store)) if store.is_file() else {}


def key_of(network: str, task: str, imgsz: int) -> str:
    """Return a row's name in the store."""
    return f"{network}-{task}-{imgsz}"


def main() -> None:
    """Run the missing rows and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--tasks", nargs="+", choices=list(tiny_data.SUFFIX), default=list(tiny_data.SUFFIX))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["n"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--store", type=Path, default=ROOT / "docs" / "benchmarks" / "records" / "coverage.json")
    parser.add_argument("--write", type=Path, help="replace the table in this Markdown file, below its line '## Table'")
    parser.add_argument("--kept-only", action="store_true", help="leave out the rows that haven't been run")
    parser.add_argument("--row", nargs=3, metavar=("NETWORK", "TASK", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        network, task, out = options.row
        measure_row(network, task, options.imgsz, Path(out))
        return
    found = []
    for network, task in rows(options.families, options.tasks, options.sizes):
        if options.kept_only and key_of(network, task, options.imgsz) not in stored(options.store):
            continue
        found.append(run_row(network, task, options.imgsz, options.store))
        print(table(found[-1:]).splitlines()[-1], flush=True)
    if options.write:
        text = options.write.read_text(encoding="utf-8").partition("## Table")[0]
        write_text(options.write, f"{text}## Table\n\n{_provenance(found)}\n\n{table(found)}")


def _provenance(found: list[dict[str, Any]]) -> str:
    """Return machine, versions and dates of the rows that ran."""
    ran = [row for row in found if "failed" not in row]
    days = sorted({row["date"] for row in ran})
    used = {f"{name} {version}" for row in ran for name, version in row["versions"].items()}
    sides = {str(row["imgsz"]) for row in ran}
    machines = {str(row["machine"]) for row in ran}
    return (
        f"{', '.join(sorted(sides))} px; {', '.join(sorted(machines))}; {', '.join(sorted(used))}; {' to '.join(days)}."
    )


if __name__ == "__main__":
    main()
