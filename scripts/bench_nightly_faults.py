"""Faults that are injected for real: does the night find each of them, and nothing else?

    python -m scripts.bench_nightly_faults --work runs/nightly-faults --out docs/benchmarks/records/nightly_faults.json

The quickstart's nights are run on this machine: unchanged, with a slower backend (one thread), with a coarser
calibration, with weights that were trained on shuffled labels, and with a stressed machine, which must not alarm. A
stopped call goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from scripts.nightly_repository import SETTINGS, WEIGHTS, Repository, matrix, train_on_shuffled_labels
from yolo_slim.child_process import busy_processes
from yolo_slim.datasets import quickstart
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.workspace.job import versions

BUILDS = [{"runtime": "onnxruntime", "precisions": ["fp32", "int8"]}]
TIMING = {"seconds": 0.3, "rounds": [12, 24, 48]}
COARSE: dict[str, Any] = {"quantize.images": 32, "quantize.ranges": "max", "quantize.check_images": 0}
CELLS = {"fp32": "onnxruntime-fp32", "int8": "onnxruntime-int8"}


@dataclass(frozen=True)
class Fault:
    """What is done before a night, and which of its cells have to become worse."""

    name: str
    do: Callable[[Repository], None]
    worse: tuple[str, ...] = ()
    busy: int = 0
    """Processes that compute for nothing during the night."""


def one_thread(repository: Repository) -> None:
    """Run the bundles on one thread instead of two."""
    _write(repository, threads=1)


def coarse(repository: Repository) -> None:
    """Calibrate on few images, take the largest value, and check nothing."""
    _write(repository, **COARSE)


def repaired(repository: Repository) -> None:
    """Bring everything back to what it was in the first night."""
    shutil.copyfile(quickstart.default_model(), repository.folder / WEIGHTS)
    _write(repository)


def _write(repository: Repository, threads: int = 2, **settings: Any) -> None:
    repository.write_profile("own", "host", runtimes=BUILDS, threads=threads)
    found = matrix({"here": {"profile": "own.yaml"}}, timing=TIMING)
    repository.write_matrix({**found, "settings": {"half": {**SETTINGS, **settings}}})


FAULTS = (
    Fault("first night", repaired),
    Fault("nothing changed", repaired),
    Fault("one thread instead of two", one_thread, worse=("fp32", "int8")),
    Fault("coarser calibration", coarse, worse=("int8",)),
    Fault("trained on shuffled labels", train_on_shuffled_labels, worse=("fp32", "int8")),
    Fault("stressed machine", repaired, busy=2),
)


def run(repository: Repository, fault: Fault, number: int) -> JsonObject:
    """Run one night, unless it was run, and say what it found."""
    if repository.ended_nights() < number:
        if number > 1:
            repaired(repository)
        fault.do(repository)
        repository.commit(fault.name)
        with busy_processes(fault.busy):
            repository.run()
    found = {run.cell.build: run.judgement for run in repository.runs(number)}
    return {
        "fault": fault.name,
        "expected_worse": [CELLS[name] for name in fault.worse],
        "found": {name: {"answer": one.status, "reason": one.reason} for name, one in found.items() if one},
    }


def main() -> None:
    """Inject every fault and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/nightly-faults"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    repository = Repository(options.work.absolute())
    repository.folder.mkdir(parents=True, exist_ok=True)
    repository.write_profile("own", "host", runtimes=BUILDS)
    repository.begin(matrix({"here": {"profile": "own.yaml"}}, timing=TIMING))
    nights = [run(repository, fault, number) for number, fault in enumerate(FAULTS, 1)]
    made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", "versions": versions()}
    write_json(options.out, {**made, "nights": nights})
    for night in nights:
        print(night["fault"], {name: one["answer"] for name, one in night["found"].items()})


if __name__ == "__main__":
    main()
