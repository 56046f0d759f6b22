"""Time bundles alone and beside a process that keeps one core busy, with several settings of their threads.

    python scripts/bench_contention.py --rounds 5 --out docs/benchmarks/records/contention.json

Without bundles, those of the quickstart's model are built. Every setting has a turn in each round, in a process of its
own; reported are medians of the turns. ``--shield`` (root) keeps other users of a shared machine away: alone, a turn
runs in real time; beside the busy process, both are in one session of the highest priority.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median

from yolo_slim.bundle import read_spec
from yolo_slim.child_process import busy_processes, own_environment
from yolo_slim.config.run import ExportConfig
from yolo_slim.datasets import quickstart
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, device_model, own_cores
from yolo_slim.runtime.__main__ import main as device_command
from yolo_slim.stages import build, export
from yolo_slim.stages.build import selfcheck_images
from yolo_slim.stages.context import Context
from yolo_slim.workspace.job import versions


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a runtime's threads."""

    runtime: str
    name: str
    fewer_threads: int = 0
    """So many threads fewer than cores."""
    environment: dict[str, str] = field(default_factory=dict)


OWN = {"GOMP_SPINCOUNT": "300000"}
"""What GNU OpenMP does without yolo_slim."""
SETTINGS = (
    Setting(runtime="ncnn", name="spin 300000 (GNU OpenMP's own)", environment=OWN),
    *(
        Setting(runtime="ncnn", name=f"spin {count}", environment={"GOMP_SPINCOUNT": str(count)})
        for count in (10000, 3000, 1000)
    ),
    Setting(runtime="ncnn", name="no spin (OMP_WAIT_POLICY=passive)", environment={"OMP_WAIT_POLICY": "passive"}),
    Setting(
        runtime="ncnn",
        name="spin 3000, each thread bound to a core",
        environment={"GOMP_SPINCOUNT": "3000", "OMP_PROC_BIND": "true"},
    ),
    Setting(runtime="ncnn", name="one thread fewer", fewer_threads=1),
    Setting(runtime="onnxruntime", name="its own"),
    Setting(runtime="onnxruntime", name="one thread fewer", fewer_threads=1),
)
TURN = "turn"
"""First argument of the process of one turn."""
PAUSE_S = 1.0
"""Rest for the other users of a shared machine between two turns."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One timing."""

    fps: float
    p50_ms: float
    p99_ms: float
    own_cores: float
    other_cores: float | None
    """Cores that all other processes used, the competing one included."""


def run_turn(count: int, shield: bool, arguments: list[str]) -> int:
    """Run one command of the device beside so many busy processes, in this process."""
    if shield and count:
        # Linux groups processes by session, so a priority inside the session alone would change nothing.
        Path("/proc/self/autogroup").write_text("-20", encoding="utf-8")
    elif shield:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with busy_processes(count, core=max(own_cores())):
        return device_command(arguments)


def time_once(bundle: Path, setting: Setting, count: int, options: argparse.Namespace) -> Turn:
    """Time a bundle by the device's own command."""
    threads = max(1, cores() - setting.fewer_threads)
    given = ["--threads", str(threads), "--seconds", str(options.seconds), "--queries", "4", "--repeat", "0"]
    command = [sys.executable, __file__, TURN, str(count), str(int(options.shield))]
    done = subprocess.run(
        [*command, "bench", str(bundle), *given, "--json", "-"],
        env={**own_environment(), **setting.environment},
        start_new_session=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    total, load = found["stages"]["total"], found["load"]
    return Turn(
        # Frames by time, not by the median: a frame that takes a second counts.
        fps=found["queries"] / found["seconds"],
        p50_ms=total["p50_ms"], p99_ms=total["p99_ms"],
        own_cores=load["own_cores"], other_cores=load["other_cores"],
    )  # fmt: skip


def quickstart_bundles(folder: Path) -> list[Path]:
    """Build the bundles of the quickstart's model."""
    data = quickstart.generate(folder / "data", counts={"train": 8, "val": 8, "test": 8}, imgsz=320)
    context = Context.load(data, imgsz=320)
    graph = export.run(quickstart.default_model(), ExportConfig(parity_images=2), folder / "export", context).onnx
    inputs = build.BuildInputs(onnx=graph, images=selfcheck_images(context.dataset))
    return list(build.run(inputs, folder / "build", context, name="quickstart").bundles.values())


def measure(bundles: list[Path], options: argparse.Namespace) -> list[JsonObject]:
    """Give every setting its turns; one row for each setting and number of competing processes."""
    by_runtime = {read_spec(bundle).runtime: bundle for bundle in bundles}
    plan = [(count, one) for count in options.competitors for one in SETTINGS if one.runtime in by_runtime]
    turns: dict[int, list[Turn]] = {index: [] for index in range(len(plan))}
    for number in range(options.rounds):
        # Every other round in the opposite order, against a drift inside the rounds.
        for index in list(turns)[:: 1 if number % 2 == 0 else -1]:
            count, setting = plan[index]
            time.sleep(PAUSE_S)
            turns[index].append(time_once(by_runtime[setting.runtime], setting, count, options))
    return [_row(count, setting, turns[index]) for index, (count, setting) in enumerate(plan)]


def _row(count: int, setting: Setting, turns: list[Turn]) -> JsonObject:
    """The medians of a setting's turns, and the turns."""
    values = [asdict(turn) for turn in turns]
    medians = {key: median(turn[key] or 0.0 for turn in values) for key in values[0]}
    return {"competitors": count, **asdict(setting), "median": medians, "turns": values}


def table(rows: list[JsonObject]) -> str:
    """A Markdown table."""
    lines = ["| busy processes | runtime | its threads | FPS | p50 ms | p99 ms | other cores |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        found = row["median"]
        figures = f"{found['fps']:.1f} | {found['p50_ms']:.1f} | {found['p99_ms']:.1f} | {found['other_cores']:.2f}"
        lines.append(f"| {row['competitors']} | {row['runtime']} | {row['name']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--competitors", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--shield", action="store_true")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.bundles or quickstart_bundles(Path(folder)), options)
    print(table(rows))
    record = {
        "date": str(date.today()),
        "note": options.note,
        "machine": device_model(),
        "cores": cores(),
        "load_average": os.getloadavg(),
        "command": f"python scripts/bench_contention.py {' '.join(sys.argv[1:])}",
        "versions": versions(),
        "rows": rows,
    }
    if options.out:
        write_json(options.out, record)


if __name__ == "__main__":
    if sys.argv[1:2] == [TURN]:
        sys.exit(run_turn(int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4:]))
    main()
