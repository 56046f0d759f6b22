"""Show what a timing's record says: several runs alone, then runs that other programs, a niced one or a quota disturb.

    python scripts/bench_record.py --out docs/benchmarks/records/bench.json

Without a bundle, that of the built-in example is made. ``--shield`` (root) keeps the other users of a shared machine
away: alone, a run has the scheduler's real-time class; disturbed, it and its competitor have the highest priority.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from pathlib import Path

from yolo_slim.child_process import busy_processes, own_environment
from yolo_slim.example_bundle import example_bundle
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, device_model, own_cores
from yolo_slim.runtime.__main__ import main as device_command
from yolo_slim.workspace.job import versions

CASE = "case"
"""First argument of the process of one case."""
CPU_GROUPS = Path("/sys/fs/cgroup/cpu")
"""Where cgroups of version 1 limit processors."""
QUOTA_US, PERIOD_US = 60_000, 100_000
MOST_SHARES = "262144"
"""The group's weight against the rest of a shared machine: the largest."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to disturb a run."""

    name: str
    busy: int = 0
    """Busy processes, all on one core."""
    nice: int = 0
    """Their niceness."""
    has_quota: bool = False
    """The run itself may use .6 cores."""


DISTURBED = (
    Case(name="beside a busy process", busy=1),
    Case(name="beside a busy process of niceness 19", busy=1, nice=19),
    Case(name="with a quota of .6 cores", has_quota=True),
)


@contextmanager
def quota(is_wanted: bool) -> Iterator[None]:
    """Put this process into a group that may use :data:`QUOTA_US` of every :data:`PERIOD_US` microseconds."""
    if not is_wanted:
        yield
        return
    group = CPU_GROUPS / f"yolo-slim-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US), encoding="utf-8")
        (group / "cpu.cfs_quota_us").write_text(str(QUOTA_US), encoding="utf-8")
        (group / "cpu.shares").write_text(MOST_SHARES, encoding="utf-8")
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        (CPU_GROUPS / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
        group.rmdir()


def run_case(case: Case, shield: bool, arguments: list[str]) -> int:
    """Run one command of the device, disturbed, in this process."""
    if shield and (case.busy or case.has_quota):
        # Linux groups processes by session, so a priority inside the session alone would change nothing.
        Path("/proc/self/autogroup").write_text("-20", encoding="utf-8")
    elif shield:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with quota(case.has_quota), busy_processes(case.busy, core=max(own_cores()), nice=case.nice):
        return device_command(arguments)


def record_of(case: Case, bundle: Path, options: argparse.Namespace) -> JsonObject:
    """Time a bundle by the device's own command, in a process and a session of its own."""
    given = ["--seconds", str(options.seconds), "--repeat", "0", "--minutes", str(options.minutes), "--json", "-"]
    command = [sys.executable, __file__, CASE, case.name, str(int(options.shield))]
    done = subprocess.run(
        [*command, "bench", str(bundle), *given],
        env=own_environment(), start_new_session=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    found: JsonObject = json.loads(done.stdout)
    return found


def row(name: str, record: JsonObject) -> str:
    """One line of the table."""
    spread, load, sustained = record["p50_spread_ms"], record["load"], record["sustained"]
    ms = f"{record['stages']['total']['p50_ms']:.2f} ({spread['lowest']:.2f} to {spread['highest']:.2f})"
    reference = f"{load['reference_before_ms']:.2f}, {load['reference_after_ms']:.2f}"
    others = "not readable" if load["other_cores"] is None else f"{load['other_cores']:.2f}"
    left = f"{sustained['retention']:.0%}" if sustained else "not asked for"
    start = f"{record['cold_start']['total_ms']:.0f}"
    verdict = "; ".join(record["invalid_reasons"]) or "valid"
    return f"| {name} | {ms} | {start} | {others} | {reference} | {left} | {verdict} |"


def agreement(records: Sequence[JsonObject]) -> str:
    """In how many pairs of runs that count one run's median is inside the other's spread."""
    valid = [record for record in records if record["valid"]]
    pairs = [(one["stages"]["total"]["p50_ms"], other["p50_spread_ms"]) for one, other in permutations(valid, 2)]
    inside = sum(spread["lowest"] <= p50 <= spread["highest"] for p50, spread in pairs)
    return (
        f"{len(valid)} of {len(records)} runs alone count; medians inside the other's spread: {inside} of {len(pairs)}"
    )


def without_samples(record: JsonObject) -> JsonObject:
    """A record without the single frames, which would be most of the file."""
    short = {key: value for key, value in record.items() if key != "samples_ms"}
    if short["sustained"]:
        short["sustained"] = {key: value for key, value in short["sustained"].items() if not key.endswith("t_ms")}
    return short


def main() -> None:
    """Run every case, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=1.0, help="duration of the sustained runs")
    parser.add_argument("--alone", type=int, default=2, help="number of undisturbed runs")
    parser.add_argument("--shield", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    alone = [Case(name=f"alone {number + 1}") for number in range(options.alone)]
    cases = [case for case in (*alone, *DISTURBED) if not case.has_quota or os.access(CPU_GROUPS, os.W_OK)]
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or example_bundle(Path(folder))
        found = {case.name: record_of(case, bundle, options) for case in cases}
    print("| run | p50 ms (spread) | first detection ms | cores of others | fixed computation ms | left | verdict |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(row(name, record) for name, record in found.items()))
    print(f"\n{agreement([found[case.name] for case in alone])}")
    value = {
        "date": str(date.today()),
        "machine": device_model(),
        "cores": cores(),
        "command": f"python scripts/bench_record.py {' '.join(sys.argv[1:])}",
        "versions": versions(),
        "runs": {name: without_samples(record) for name, record in found.items()},
    }
    if options.out:
        write_json(options.out, value)


if __name__ == "__main__":
    if sys.argv[1:2] == [CASE]:
        chosen = next((case for case in DISTURBED if case.name == sys.argv[2]), Case(name=sys.argv[2]))
        sys.exit(run_case(chosen, sys.argv[3] == "1", sys.argv[4:]))
    main()
