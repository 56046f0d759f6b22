"""A timing counts only where the machine had its cores for it: what the counters mean, and one real competitor."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.results import BUSY, QUIET
from tests.helpers.tiny_detector import scene
from yolo_slim import machine
from yolo_slim.child_process import busy_processes
from yolo_slim.machine import own_cores
from yolo_slim.runtime import bench as timing
from yolo_slim.runtime.bench import BenchResult, bench, repeated
from yolo_slim.runtime.bench_text import as_text
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.load import Counters, Load, between, busiest, busy_reasons, load_since, read_counters, start

UNKNOWN = replace(
    QUIET, other_cores=None, stolen_cores=None, waiting_share=None, stalled_share=None, stopped_share=None,
    reference_before_ms=None, reference_after_ms=None,
)  # fmt: skip
ZERO = Counters(
    wall_s=0.0, own_s=0.0, busy_s=0.0, stolen_s=0.0, waiting_s=0.0, stalled_s=0.0, stopped_s=0.0, preemptions=0
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"other_cores": 1.9}, "other processes used 1.9 of 4 cores during the run"),
        ({"stolen_cores": 0.5}, "other virtual machines used 0.5 of 4 cores during the run"),
        ({"waiting_share": 0.2}, "its threads waited for a core 20% of the time"),
        ({"stopped_share": 0.3}, "a CPU quota (cgroup) stopped it 30% of the time"),
        (
            {"reference_after_ms": 6.0},
            "the machine became slower: a fixed computation took 1.20 times as long after the run",
        ),
    ],
    ids=["other processes", "hypervisor", "run queue", "quota", "slower"],
)
def test_each_disturbance_has_its_reason(changes: dict[str, float], reason: str) -> None:
    """A quiet run counts; every kind of disturbance alone makes it invalid, in plain words."""
    assert busy_reasons(QUIET) == []
    assert busy_reasons(replace(QUIET, **changes)) == [reason]


def test_what_a_machine_does_not_say_judges_nothing() -> None:
    """A kernel without these counters makes no run invalid, and pressure of other cores alone doesn't either."""
    assert busy_reasons(UNKNOWN) == []
    assert busy_reasons(replace(QUIET, stalled_share=1.0, preemptions=9000)) == []


def test_idle_cores_may_be_used_by_others() -> None:
    """Others may use a quarter of the cores that the run leaves free; one busy core of two is too much."""
    server = replace(QUIET, cores=64, threads=2, other_cores=6.0)
    assert busy_reasons(server) == []
    assert busy_reasons(replace(server, threads=64)) != []
    assert busy_reasons(replace(QUIET, cores=2, threads=1, other_cores=1.0)) != []
    assert busy_reasons(replace(QUIET, cores=4, threads=3, other_cores=1.0)) != []


def test_too_many_threads_wait_for_each_other() -> None:
    """Waiting proves no other program where the run has more threads than cores."""
    assert busy_reasons(replace(QUIET, cores=2, threads=4, waiting_share=0.5, other_cores=0.0)) == []


def test_ticks_of_a_short_run_prove_nothing() -> None:
    """The kernel counts in ticks: a few of them are no load in a tenth of a second, as many a second are one."""
    assert busy_reasons(replace(QUIET, seconds=0.1, other_cores=0.9)) == []
    assert busy_reasons(replace(QUIET, seconds=10.0, other_cores=0.9)) != []


def test_counters_become_cores() -> None:
    """Own time is no load of others, a counter that is missing stays unknown, and none becomes negative."""
    after = Counters(
        wall_s=2.0, own_s=3.0, busy_s=3.5, stolen_s=0.2, waiting_s=0.4, stalled_s=1.0, stopped_s=0.1, preemptions=7
    )
    found = between(ZERO, after, threads=2, reference=(5.0, 6.0))
    assert (found.own_cores, found.other_cores, found.stolen_cores) == (1.5, 0.25, 0.1)
    assert (found.waiting_share, found.stalled_share, found.stopped_share) == pytest.approx((0.1, 0.5, 0.05))
    assert (found.preemptions, found.reference_before_ms, found.reference_after_ms) == (7, 5.0, 6.0)
    assert between(ZERO, replace(after, busy_s=2.9, waiting_s=None), threads=2).other_cores == 0.0
    assert between(replace(ZERO, busy_s=None), after, threads=2).other_cores is None
    assert between(replace(ZERO, waiting_s=9.0), after, threads=2).waiting_share == 0.0


def test_busiest_programs_are_named() -> None:
    """Processes of one name count together, three are named, and what hardly ran, ended or was renamed adds nothing."""
    was = {(7, 1): ("chromium", 100.0), (8, 1): ("chromium", 50.0), (9, 1): ("cron", 3.0), (11, 1): ("gone", 40.0)}
    now = {
        (7, 1): ("chromium", 105.0), (8, 1): ("chromium", 54.0), (9, 1): ("renamed", 3.1), (10, 9): ("python3", 14.0),
        (11, 9): ("new", 2.0), (12, 9): ("fourth", 1.0),
    }  # fmt: skip
    before, after = replace(ZERO, programs=was), replace(ZERO, wall_s=10.0, busy_s=26.0, programs=now)
    found = between(before, after, threads=1)
    assert found.programs == ("python3 1.4", "chromium 0.9", "new 0.2")
    reasons = busy_reasons(replace(found, cores=4))
    assert reasons == ["other processes used 2.6 of 4 cores during the run (python3 1.4, chromium 0.9, new 0.2)"]


def write(root: Path, files: dict[str, str]) -> None:
    """Write files of the kernel below another root."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def stat(ticks: int) -> str:
    """Return a /proc/stat in which every core was used for so many ticks, and stolen for 10."""
    lines = [f"cpu{core} {ticks} 1 2 99999 5 3 4 10 0 0" for core in range(max(own_cores()) + 1)]
    return "\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *lines, "cpu999 5000 0 0 0 0 0 0 0 0 0", "ctxt 1"])


def test_the_kernels_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy ticks of our own cores, run queues of all threads, pressure, and the quota of our group are added up."""
    write(
        tmp_path,
        {
            "proc/stat": stat(90),
            "proc/self/task/10/schedstat": "500 2000000000 9\n",
            "proc/self/task/11/schedstat": "500 1000000000 9\n",
            "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0 total=9\n",
            "proc/self/cgroup": "0::/box/a\n",
            "sys/fs/cgroup/box/a/cpu.stat": "usage_usec 7\nthrottled_usec 250000\n",
            "proc/77/stat": f"77 (a (b) c) R {' '.join(['1'] * 10)} 150 50 0 0 20 0 1 0 4242\n",
            "proc/78/stat": "",
            f"proc/{os.getpid()}/stat": f"1 (pytest) R {' '.join(['1'] * 10)} 150 50 0 0 20 0 1 0 4242\n",
        },
    )
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    found, cores = read_counters(), len(own_cores())
    assert found.busy_s == pytest.approx(cores * 1.0)
    assert found.stolen_s == pytest.approx(cores * 0.1)
    assert (found.waiting_s, found.stalled_s, found.stopped_s) == (3.0, 1.5, 0.25)
    assert found.programs == {(77, 4242): ("a (b) c", 2.0)}
    # The kernel cuts names off after 15 bytes.
    (tmp_path / "proc/78/stat").write_bytes(b"78 (caf\xc3) R " + b"1 " * 18 + b"9\n")
    assert set(read_counters().programs) == {(77, 4242), (78, 9)}
    assert read_counters(programs=False).programs == {}
    write(tmp_path, {"proc/self/cgroup": "3:cpu,cpuacct:/a\n1:name=x:/b\n"})
    write(tmp_path, {"sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_throttled 3\nthrottled_time 500000000\n"})
    assert read_counters().stopped_s == 0.5


def test_a_machine_without_these_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known there, and nothing fails; zeros of a sandbox are no knowledge."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    found = read_counters()
    assert {found.busy_s, found.stolen_s, found.waiting_s, found.stalled_s, found.stopped_s} == {None}
    write(tmp_path, {"proc/stat": "\n".join(f"cpu{core} 0 0 0 0 0 0 0 0 0 0" for core in own_cores())})
    assert read_counters().busy_s is None


def test_what_ran_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are looked at while this process rests, before the reference kernel and after it; both are recorded."""
    looks = iter((0.3, 1.7))
    monkeypatch.setattr("yolo_slim.runtime.load.other_cores_at_rest", lambda: next(looks))
    found = load_since(start(), 1)
    assert (found.other_cores_before, found.other_cores_after) == (0.3, 1.7)
    assert found.reference_before_ms is not None
    assert found.reference_after_ms is not None
    plain = load_since(start(with_reference=False), 1)
    assert (plain.other_cores_before, plain.reference_before_ms) == (None, None)


def test_the_busiest_round_is_shown() -> None:
    """A round that doesn't count stands for all; of those that count, the one in which others used most."""
    slower = replace(QUIET, other_cores=0.0, reference_after_ms=9.0)
    assert busiest([QUIET, slower]) == slower
    assert busiest([QUIET, replace(QUIET, other_cores=0.1)]) == replace(QUIET, other_cores=0.1)
    assert busiest([]) is None


def one_bench(bundle: Path, monkeypatch: pytest.MonkeyPatch, load: Load) -> BenchResult:
    """Time a bundle beside an invented load."""
    monkeypatch.setattr(timing, "load_since", lambda _start, _threads: load)
    with Detector(bundle) as detector:
        return bench(detector, [scene()], warmup=1, min_seconds=0.01, min_queries=2)


def test_a_busy_machines_timing_is_invalid(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load and the reason are in the result and in its text, every sample is kept; a quiet run is valid."""
    quiet, busy = (one_bench(tiny_bundle, monkeypatch, load) for load in (QUIET, BUSY))
    assert quiet.is_valid
    assert not busy.is_valid
    assert (quiet.is_disturbed, busy.is_disturbed) == (False, True)
    assert busy.to_json()["load"]["other_cores"] == 2.9
    assert len(busy.samples_ms["total"]) == busy.queries
    assert "INVALID: other processes used 2.9 of 4 cores during the run" in as_text(busy).splitlines()
    assert "time again" in as_text(busy).splitlines()[-1]


@pytest.mark.parametrize(("loads", "timings"), [((QUIET,), 1), ((BUSY, QUIET), 2), ((BUSY,) * 5, 3)])
def test_a_disturbed_timing_is_repeated(
    loads: tuple[Load, ...], timings: int, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is repeated after a pause until the machine is quiet, at most twice; then the last one is the answer."""
    left, pauses, found = iter(loads), list[float](), list[BenchResult]()

    def time_once() -> BenchResult:
        found.append(one_bench(tiny_bundle, monkeypatch, next(left)))
        return found[-1]

    assert repeated(time_once, 2, pauses.append) is found[-1]
    assert len(found) == timings
    assert pauses == [timing.PAUSE_S] * (timings - 1)


def measured(seconds: float) -> Load:
    """Work on one core for a while."""
    begin, end = start(with_reference=False), time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return load_since(begin, len(own_cores()))


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="only Linux counts what other processes use")
def test_real_competitors_are_seen() -> None:
    """Two busy processes a core are noticed, and most of the cores is theirs."""
    found: Any = None
    with busy_processes(2 * len(own_cores())):
        for _ in range(5):  # on a crowded machine they may start late
            found = measured(0.6)
            if found.other_cores is None or found.other_cores > 0.5 * found.cores:
                break
    if found.other_cores is None:
        pytest.skip("this kernel doesn't say what other processes use")
    assert found.other_cores > 0.5 * found.cores
    assert any("other processes used" in reason for reason in busy_reasons(found))
