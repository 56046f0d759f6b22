"""The machine at hand as the device: the bundle runs in a process of its own, by the device's own commands."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from yolo_slim.bundle import read_spec
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import ValidateConfig
from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json
from yolo_slim.machine import cores, device_model
from yolo_slim.runtime.infer import ImageDetections, load_detections


def is_device(profile: Profile) -> bool:
    """Tell whether this machine is the profile's device."""
    arch = profile.arch in ("any", platform.machine())
    return arch and (profile.device_model is None or re.search(profile.device_model, device_model()) is not None)


def most_celsius(profile: Profile) -> float | None:
    """Return the temperature above which a timing here doesn't count; a device's limit is no other machine's."""
    return profile.thermal.max_celsius if is_device(profile) else None


def build(bundle: Path) -> None:
    """Let the device finish a bundle's model, see ``python -m yolo_slim.runtime build``."""
    _run("build", str(bundle))


def infer(bundle: Path, images: Path, threads: int) -> list[ImageDetections]:
    """Return the detections in a folder of images, sorted by name, with every score above .001."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-infer-") as folder:
        out = Path(folder) / "detections.json"
        _run("infer", str(bundle), str(images), "--out", str(out), "--quiet", "--threads", str(threads))
        return load_detections(out)


def bench(bundle: Path, images: Path, *, seconds: float, queries: int, threads: int, celsius: float | None) -> Any:
    """Return the JSON value of one timing, see :class:`yolo_slim.runtime.bench.BenchResult`."""
    with tempfile.TemporaryDirectory(prefix="yolo-slim-bench-") as folder:
        out = Path(folder) / "bench.json"
        limits = [] if celsius is None else ["--max-celsius", str(celsius)]
        arguments = ["--images", str(images), "--seconds", str(seconds), "--queries", str(queries), "--quiet"]
        _run("bench", str(bundle), *arguments, "--threads", str(threads), *limits, "--json", str(out), allowed=(0, 1))
        return read_json(out)


def bench_turn(bundle: Path, images: Path, config: ValidateConfig, celsius: float | None) -> Any:
    """Return the JSON value of one of ``config.rounds`` timings, which share the frames and seconds."""
    return bench(
        bundle,
        images,
        seconds=config.min_seconds / config.rounds,
        queries=-(-config.min_queries // config.rounds),
        threads=min(read_spec(bundle).threads, cores()),
        celsius=celsius,
    )


def own_environment() -> dict[str, str]:
    """Return the environment of a process of its own that imports this very yolo_slim and may use every core."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    environment.pop("OMP_NUM_THREADS", None)
    return environment


def _run(*arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Run the device's command line here."""
    command = [sys.executable, "-m", "yolo_slim.runtime", *arguments]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, check=False)
    if done.returncode not in allowed:
        # A process that the system killed, mostly for memory, says nothing of the bundle.
        kind = MachineError if done.returncode < 0 else SlimError
        raise kind(
            f"The bundle failed here: `python -m yolo_slim.runtime {shlex.join(arguments)}` "
            f"ended with status {done.returncode}.",
            culprits=done.stderr.strip().splitlines()[-6:],
            remedy="Run that command yourself to see more.",
        )
