"""Small comparisons: their command line, and networks and results that were never measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_slim import preparation
from yolo_slim.api import make_config
from yolo_slim.comparison.methods import METHODS
from yolo_slim.comparison.networks import NOTHING_RANDOM, Cell, Network, timed_key
from yolo_slim.comparison.result import (
    About,
    CompareResult,
    Entry,
    ModelFile,
    Score,
    Scored,
    SharedTraining,
    Target,
    Timing,
    Training,
    load,
)
from yolo_slim.comparison.summary import summarize
from yolo_slim.files import write_json
from yolo_slim.progress import Silent

KEY = "onnxruntime-fp32"
TRAINING = Training(machine="a", versions={"torch": "2"}, mixed_precision=False, finished_at="2026-01-01", seconds=1)
QUICK = ["--set", "validate.min_seconds=0.2", "--set", "validate.min_queries=8", "--set", "validate.rounds=2"]
QUICK += ["--set", "validate.busy=mark"]  # a machine that runs tests is busy; its timings are kept, marked invalid
QUICK += ["--set", "prune.steps=1", "--set", "prune.images=8", "--set", "prune.bn_images=8"]
QUICK += ["--set", "export.parity_images=2", "--train", "workers=0", "--device", "cpu"]


def command(model: Path, data: Path, project: Path, *more: str) -> list[str]:
    """Return the command line of a small comparison."""
    given = ["--model", str(model), "--data", str(data), "--project", str(project), "--name", "small"]
    return ["compare", *given, "--imgsz", "96", "--epochs", "1", "--prune", "0.4", *QUICK, *more]


def entries(folder: Path) -> dict[str, Entry]:
    """Return the methods of a comparison's result by name."""
    return {entry.method: entry for entry in load(folder / "compare.json").methods}


def prepared(model: Path, data: Path, folder: Path, **settings: Any) -> preparation.Run:
    """Return a checked run at 64 px with few images for the statistics."""
    quick = {"prune.bn_images": 8, "prune.images": 8, "prune.round_to": 16, **settings}
    config = make_config(model, data, imgsz=64, target="host", settings=quick)
    return preparation.prepared(config, folder, progress=Silent())


def score(map50_95: float) -> Score:
    """Return an accuracy."""
    return Score(map50_95=map50_95, map50=map50_95 + 0.1)


def network(method: str, removed: float = 0.5, seed: int = 0, *, maps: Mapping[str, float], **changes: Any) -> Network:
    """Return a network that was measured: a bundle for every runtime of ``maps``, whose values are its accuracies."""
    seed = seed if METHODS[method].trained else NOTHING_RANDOM
    values: dict[str, Any] = {
        "cell": Cell(method=method, removed=removed if METHODS[method].sized else 0.0, seed=seed),
        "imgsz": 96,
        "implementation": "made",
        "macs": 50 if METHODS[method].sized else 100,
        "params": 1,
        "bundles": {key: Path(key) for key in maps},
        "scores": {key: score(found) for key, found in maps.items()},
    }
    return Network(**{**values, **changes})


def seeds(method: str, maps: Sequence[float], removed: float = 0.5, **changes: Any) -> list[Network]:
    """Return a method's networks at one size, one for every seed."""
    return [network(method, removed, seed, maps={KEY: found}, **changes) for seed, found in enumerate(maps)]


def bench(ms: float, **changes: Any) -> Timing:
    """Return a timing of five rounds."""
    rounds = tuple(ms * share for share in (0.99, 0.995, 1, 1.005, 1.01))
    values: dict[str, Any] = {
        "fps": 1000 / ms,
        "mean_ms": ms,
        "p50_ms": ms,
        "p90_ms": 1.1 * ms,
        "p99_ms": 1.2 * ms,
        "round_p50_ms": rounds,
        "round_network_p50_ms": rounds,
        "queries": 300,
        "seconds": 10.0,
        "valid": True,
        "invalid_reasons": (),
        "runtime": {"version": "1.0", "provider": "CPU", "threads": 4},
        "measured_at": "2026-01-02T03:04:05+00:00",
    }
    return Timing(**{**values, **changes})


def timings(networks: Sequence[Network], by_method: Mapping[str, Timing]) -> dict[str, Timing]:
    """Return the timings of networks whose methods are given."""
    return {timed_key(one, key): by_method[one.cell.method] for one in networks for key in one.bundles}


def about(*runtimes: str, distill: float = 0.0, settings: Mapping[str, Any] | None = None) -> About:
    """Return what a comparison at 320 px is about."""
    return About(
        name="hardhat",
        command="yolo-slim compare --model best.pt",
        model=ModelFile(file="best.pt", sha256="0" * 64),
        target=Target(name="host", description="this machine", is_this_machine=True),
        data=Scored(yaml="data.yaml", split="test", images=200),
        settings=settings or {},
        imgsz=320,
        training=SharedTraining(epochs=10, batch=16, distill=distill, overrides={}, images_seen=10000),
        runtimes=runtimes or (KEY,),
        machine={"model": "Example Board", "cores": 4},
    )


def write_result(path: Path, networks: Sequence[Network], settings: Mapping[str, Any]) -> CompareResult:
    """Write the ``compare.json`` of networks, a control added, and return its content."""
    control = network("control", maps={key: 0.6 for one in networks for key in one.bundles})
    result = summarize(about(*control.bundles, settings=settings), [*networks, control], {})
    write_json(path, result.to_json())
    return result
