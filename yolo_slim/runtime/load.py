"""Whether a timing had its cores to itself: what other programs, a quota or the hypervisor took during it.

Counters of the kernel are read before and after the timing; what they mean is said by pure functions. A counter that a
machine doesn't have is None and judges nothing. Standard library and NumPy alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo_slim import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

OTHERS_SHARE = 0.05
"""Others may use this share of the cores. Measured on two: at most .01 alone, .3 to .6 beside one busy process."""
SPARE_SHARE = 0.25
"""And this share of the cores that the run leaves idle; more of them slows memory and clocks for all."""
WAITING_SHARE = 0.05
"""The run's threads may wait this share of the time for a core. Measured: at most .005 alone, .07 to .4 beside one."""
STOPPED_SHARE = 0.01
"""A quota may stop the run for this share of the time."""
SLOWER = 1.10
"""The reference kernel may take so many times as long after the run. Measured on a machine at rest: up to 1.05."""
TICKS_S = 0.05
"""/proc/stat counts in ticks of 10 ms. The busy time of a core may be wrong by a few, whatever the run's length."""
WAITING_TICKS_S = 0.02
"""One timer interrupt or scheduler slice isn't contention, however short the run is."""
REST_S = 0.1
"""How long other processes are looked at before and after a timing, while this one rests; a tick is .1 cores then."""
NAMED, LEAST_NAMED = 3, 0.05
"""So many of the other programs are named at most, from this number of cores on."""
REFERENCE_RUNS = 7
"""The fastest of so many counts: the others may have been interrupted."""


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What the kernel counted until one moment, seconds. None: this machine doesn't say."""

    wall_s: float
    own_s: float
    """CPU time of this process, all threads."""
    busy_s: float | None
    """CPU time of all processes on the cores that this one may use."""
    stolen_s: float | None
    """Time that the hypervisor gave these cores to another machine."""
    waiting_s: float | None
    """Time that this process's threads were ready, but had no core."""
    stalled_s: float | None
    """Time in which any process of the machine waited for a core (pressure stall information)."""
    stopped_s: float | None
    """Time that a quota (cgroup) stopped this process's group."""
    preemptions: int
    """Times that this process had to give up a core."""
    programs: Mapping[tuple[int, int], tuple[str, float]] = field(default_factory=dict)
    """Name of every other process that can be seen, and its CPU time on any core; by its number and its start, because
    numbers are used again and names change."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What else used the cores during a timing. Null: the machine doesn't say. Of several rounds: the busiest one."""

    seconds: float
    """Duration, seconds."""
    cores: int
    """Cores that the process could use."""
    threads: int
    """Inference threads."""
    own_cores: float
    """Cores that the process itself used, on average. Threads that wait by spinning count as using one."""
    other_cores: float | None
    """Those of these cores that other processes used, on average."""
    stolen_cores: float | None
    """Those of these cores that a hypervisor gave to other machines, on average."""
    waiting_share: float | None
    """Share of the time that an inference thread waited for a core."""
    stalled_share: float | None
    """Share of the time in which any process of the machine waited for a core. Only recorded, never judged."""
    stopped_share: float | None
    """Share of the time that a quota (cgroup) stopped the process."""
    preemptions: int
    """Times that the process had to give up a core. Only recorded, never judged."""
    reference_before_ms: float | None
    """Time of a fixed computation on one core before the timing, milliseconds; null: not measured."""
    reference_after_ms: float | None
    """The same after it."""
    other_cores_before: float | None = None
    """Cores that other processes used just before the timing, while this one rested (to .1). Only recorded."""
    other_cores_after: float | None = None
    """The same just after it."""
    programs: tuple[str, ...] = ()
    """The other programs that used most CPU time, on any core, such as ``python3 1.0``. One that ended during the
    timing isn't named. Inside a container only the container's programs are."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The beginning of a timing."""

    counters: Counters
    reference_ms: float | None
    other_cores: float | None = None
    """Cores that other processes used before it."""


def start(*, with_reference: bool = True) -> Start:
    """Read the counters before a timing; ``with_reference``: look at others and time the reference kernel before."""
    if not with_reference:
        return Start(counters=read_counters(), reference_ms=None)
    others, reference = other_cores_at_rest(), reference_ms()
    return Start(counters=read_counters(), reference_ms=reference, other_cores=others)


def load_since(begin: Start, threads: int) -> Load:
    """What else used the cores since :func:`start`, in a timing with so many inference threads."""
    counters = read_counters()
    if begin.reference_ms is None:
        return between(begin.counters, counters, threads=threads)
    load = between(begin.counters, counters, threads=threads, reference=(begin.reference_ms, reference_ms()))
    return replace(load, other_cores_before=begin.other_cores, other_cores_after=other_cores_at_rest())


def other_cores_at_rest() -> float | None:
    """How many cores other processes use, while this one waits for :data:`REST_S`; None: the machine doesn't say."""
    before = read_counters(programs=False)
    time.sleep(REST_S)
    return between(before, read_counters(programs=False), threads=1).other_cores


def between(
    before: Counters, after: Counters, *, threads: int, reference: tuple[float | None, float | None] = (None, None)
) -> Load:
    """Compare two readings; ``reference``: milliseconds of the reference kernel at both."""
    seconds = max(after.wall_s - before.wall_s, 1e-9)
    own = after.own_s - before.own_s
    busy = _grown(before.busy_s, after.busy_s)

    def share(first: float | None, second: float | None, of: int = 1) -> float | None:
        grown = _grown(first, second)
        return None if grown is None else grown / seconds / of

    return Load(
        seconds=seconds,
        cores=machine.cores(),
        threads=threads,
        own_cores=own / seconds,
        other_cores=None if busy is None else max(0.0, busy - own) / seconds,
        stolen_cores=share(before.stolen_s, after.stolen_s),
        waiting_share=share(before.waiting_s, after.waiting_s, threads),
        stalled_share=share(before.stalled_s, after.stalled_s),
        stopped_share=share(before.stopped_s, after.stopped_s),
        preemptions=after.preemptions - before.preemptions,
        reference_before_ms=reference[0],
        reference_after_ms=reference[1],
        programs=_busiest_programs(before.programs, after.programs, seconds),
    )


def _busiest_programs(
    before: Mapping[tuple[int, int], tuple[str, float]],
    after: Mapping[tuple[int, int], tuple[str, float]],
    seconds: float,
) -> tuple[str, ...]:
    """Name the programs whose processes used most CPU time between two readings."""
    cores: dict[str, float] = {}
    for process, (name, used) in after.items():
        cores[name] = cores.get(name, 0.0) + (used - before.get(process, ("", 0.0))[1]) / seconds
    most = sorted(cores, key=lambda name: -cores[name])[:NAMED]
    return tuple(f"{name} {cores[name]:.1f}" for name in most if cores[name] >= LEAST_NAMED)


def busy_reasons(load: Load) -> list[str]:
    """Why a timing doesn't count: others had the cores that it needed, or the machine became slower."""
    return [*taken_reasons(load), *slower_reasons(load)]


def taken_reasons(load: Load) -> list[str]:
    """How others had the cores that a timing needed."""
    reasons = []
    taken = ((load.other_cores, "processes", load.programs), (load.stolen_cores, "virtual machines", ()))
    for cores, who, names in taken:
        if cores is not None and cores > allowed_cores(load):
            named = f" ({', '.join(names)})" if names else ""
            reasons.append(f"other {who} used {cores:.1f} of {load.cores} cores during the run{named}")
    # Threads that outnumber the cores wait for each other, on a quiet machine too.
    if load.threads <= load.cores and _is_above(load.waiting_share, WAITING_SHARE, WAITING_TICKS_S / load.seconds):
        reasons.append(f"its threads waited for a core {load.waiting_share:.0%} of the time")
    if _is_above(load.stopped_share, STOPPED_SHARE):
        # The kernel adds up the time of every core that it stopped.
        reasons.append(f"a CPU quota (cgroup) stopped it {min(load.stopped_share or 0.0, 1.0):.0%} of the time")
    return reasons


def slower_reasons(load: Load) -> list[str]:
    """Whether the machine became slower during a timing, by the reference kernel."""
    slower = (load.reference_after_ms or 0.0) / (load.reference_before_ms or 1.0)
    if slower <= SLOWER:
        return []
    return [f"the machine became slower: a fixed computation took {slower:.2f} times as long after the run"]


def allowed_cores(load: Load) -> float:
    """How many cores others may use before a timing doesn't count."""
    spare = max(0, load.cores - load.threads)
    return OTHERS_SHARE * load.cores + SPARE_SHARE * spare + TICKS_S * load.cores / load.seconds


def busiest(loads: Iterable[Load]) -> Load | None:
    """The load with most reasons against it, of equal ones that in which others used most; None where there is none."""
    return max(loads, key=lambda load: (len(busy_reasons(load)), load.other_cores or 0.0), default=None)


def reference_ms() -> float:
    """Time of a fixed computation on one core, milliseconds: a machine that slowed down takes longer."""
    data, samples = _reference_data(), []
    for _ in range(REFERENCE_RUNS):
        begin = time.perf_counter_ns()
        np.sort(data, kind="stable")  # no BLAS thread has a part in it
        samples.append((time.perf_counter_ns() - begin) / 1e6)
    return min(samples)


def read_counters(*, programs: bool = True) -> Counters:
    """Read everything at this moment; ``programs``: also every process of the machine."""
    busy, stolen = _core_seconds()
    return Counters(
        wall_s=time.perf_counter(),
        own_s=time.process_time(),
        busy_s=busy,
        stolen_s=stolen,
        waiting_s=waiting_seconds(),
        stalled_s=_stalled_seconds(),
        stopped_s=_stopped_seconds(),
        preemptions=_preemptions(),
        programs=_programs() if programs else {},
    )


@cache
def _reference_data() -> NDArray[np.float64]:
    return np.random.default_rng(0).random(2**16)


def _grown(before: float | None, after: float | None) -> float | None:
    """How much a counter grew; one of a thread that ended is gone, which must not count as negative."""
    return None if before is None or after is None else max(0.0, after - before)


def _is_above(share: float | None, limit: float, slack: float = 0.0) -> bool:
    return share is not None and share > limit + slack


def _core_seconds() -> tuple[float | None, float | None]:
    """Busy and stolen seconds of the cores that this process may use (proc_stat(5)); both None without the file."""
    # In a container the file is the host's. Its other cores are no concern of ours, so only our own count.
    own = {f"cpu{core}" for core in machine.own_cores()}
    rows = [line.split() for line in _lines("proc/stat")]
    cores = [[int(value) for value in row[1:]] for row in rows if row and row[0] in own]
    if not cores or not any(sum(core) for core in cores):  # some sandboxes fill it with zeros
        return None, None
    per_second = os.sysconf("SC_CLK_TCK")
    # user, nice, system, idle, iowait, irq, softirq, steal; guests count in user already.
    busy = sum(sum(core[:3]) + sum(core[5:7]) for core in cores)
    return busy / per_second, sum(core[7] for core in cores if len(core) > 7) / per_second


def _programs() -> dict[tuple[int, int], tuple[str, float]]:
    """Name and CPU seconds of every other process (proc_pid_stat(5)); one that ended meanwhile is left out."""
    found, per_second = {}, os.sysconf("SC_CLK_TCK")
    for path in (machine.ROOT / "proc").glob("[0-9]*/stat"):
        # The name stands in parentheses, and may contain some.
        name, _, rest = "".join(_read(path)).partition("(")[2].rpartition(")")
        fields = rest.split()
        if len(fields) > 19 and int(path.parent.name) != os.getpid():
            used = int(fields[11]) + int(fields[12])
            found[int(path.parent.name), int(fields[19])] = name, used / per_second
    return found


def waiting_seconds() -> float | None:
    """Seconds that the threads of this process waited on a run queue (sched-stats in the kernel's documentation)."""
    files = sorted((machine.ROOT / "proc/self/task").glob("*/schedstat"))
    values = [lines[0].split() for path in files if (lines := _read(path))]
    return sum(int(value[1]) for value in values) / 1e9 if values else None


def _stalled_seconds() -> float | None:
    """Total of the line ``some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS``."""
    totals = [line.rpartition("total=")[2] for line in _lines("proc/pressure/cpu") if line.startswith("some ")]
    return int(totals[0]) / 1e6 if totals else None


def _stopped_seconds() -> float | None:
    """Time that the quota of this process's cgroup stopped it; microseconds in version 2, nanoseconds in version 1."""
    groups = [line.split(":", 2)[1:] for line in _lines("proc/self/cgroup")]
    for controllers, path in groups:
        folder = {"": ".", "cpu": "cpu", "cpu,cpuacct": "cpu,cpuacct"}.get(controllers)
        # Inside a container the group is mounted as the root, whatever its path outside.
        for place in (path.strip("/"), "") if folder else ():
            for line in _lines(f"sys/fs/cgroup/{folder}/{place}/cpu.stat"):
                name, _, value = line.partition(" ")
                if name in ("throttled_usec", "throttled_time"):
                    return int(value) / (1e6 if name == "throttled_usec" else 1e9)
    return None


def _preemptions() -> int:
    import resource  # Unix alone has it

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _lines(path: str) -> list[str]:
    return _read(machine.ROOT / path)


def _read(path: Path) -> list[str]:
    try:
        # The name of a process is cut off after 15 bytes, also inside a character.
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
