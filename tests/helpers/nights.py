"""Nights without a training: a chain that makes tiny bundles at once, and a device that is as fast as it is told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml

from tests.helpers.cli import run_cli
from tests.helpers.devices import FakeDevice
from tests.helpers.results import bench_of, complete_result
from yolo_slim.build_key import SLIM, BuildName
from yolo_slim.bundle import BUNDLE_JSON, BundleSpec, write_bundle_json
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.answers import Bench, DeviceFacts
from yolo_slim.devices.base import BenchSettings, Placed
from yolo_slim.devices.ssh.match import require_target
from yolo_slim.errors import DeviceGone, SlimError
from yolo_slim.history.rows import Run
from yolo_slim.history.store import History
from yolo_slim.nightly import chain, devices
from yolo_slim.nightly.chain import Chain
from yolo_slim.nightly.matrix import Plan
from yolo_slim.runtime.infer import ImageDetections

BUILDS = ("onnxruntime-fp32", "ncnn-fp16")
ROUNDS = [12, 16]
IMAGES = 24


def write_matrix(folder: Path, data: Path, /, **changes: Any) -> Path:
    """Write weights and a matrix of two cells beside a data set; ``changes`` replace its keys."""
    weights = folder / "best.pt"
    if not weights.exists():
        weights.write_bytes(b"first weights")
    matrix = {
        "models": {"m": weights.name},
        "data": {"d": str(data)},
        "settings": {"s": {"imgsz": 64}},
        "targets": {"here": {"profile": "host"}},
        "timing": {"seconds": 0.1, "frames": 2, "rounds": ROUNDS},
        "gates": {"accuracy": {"resamples": 200}},
    }
    path = folder / "nightly.yaml"
    path.write_text(yaml.safe_dump(matrix | changes))
    return path


class NightDevice(FakeDevice):
    """Answers by the weights that a bundle was made of."""

    def __init__(self) -> None:
        super().__init__()
        self.slower: dict[str, float] = {}
        """Weights to the factor of their latency; 1 where they aren't named."""
        self.blind: dict[str, int] = {}
        """Weights to the number of images in which they find nothing."""
        self.here = 1.0
        """Factor of every latency: the device's own."""
        self.reasons: tuple[str, ...] = ()
        """Why no timing counts."""
        self.facts_now = {"model": "Example Board", "arch": "aarch64", "cores": 4, "python": "3.11"}
        self.refused: dict[str, str] = {}
        """Weights to the step of their bundles that fails on the device: ``put`` or ``bench``."""
        self.is_gone = False
        """It doesn't answer when it is opened."""
        self.is_checked = False
        """Compare it with a target's profile when it is opened, as a device over SSH is."""
        self.broken: str | None = None
        """Build that can't be run."""
        self.on_bench: Callable[[], object] = lambda: None
        self.on_make: Callable[[], object] = lambda: None
        """Called before a chain's bundles are made."""
        self.numbers = count()

    def facts(self) -> DeviceFacts:
        """Say what the machine is now."""
        return DeviceFacts.model_validate(self.facts_now)

    def put(self, bundle: Path) -> Placed:
        """Take a bundle, unless its weights are refused."""
        placed = super().put(bundle)
        self._require(placed, "put")
        return placed

    def _require(self, placed: Placed, step: str) -> None:
        if self.refused.get(_weights(placed.spec)) == step:
            raise SlimError(f"The bundle failed on the board: {step}.", culprits=["undefined symbol"])

    def infer(self, placed: Placed, images: Path, *, candidates: bool = False) -> list[ImageDetections]:
        """See everything but in the images that these weights are blind for."""
        if str(placed.build) == self.broken:
            raise SlimError("The bundle failed on the board.")
        found = super().infer(placed, images, candidates=candidates)
        blind = self.blind.get(_weights(placed.spec), 0)
        nothing = replace(found[0].detections, boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32),
                          class_ids=np.zeros(0, np.int64))  # fmt: skip
        return [replace(one, detections=nothing) if i < blind else one for i, one in enumerate(found)]

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Invent a round with one per cent of noise."""
        self.on_bench()
        self._require(placed, "bench")
        noise = np.random.default_rng(next(self.numbers)).normal(0, 0.01)
        ms = 20 * self.here * self.slower.get(_weights(placed.spec), 1.0) * float(np.exp(noise))
        samples = {"pre": [0.1 * ms] * 3, "infer": [0.8 * ms] * 3, "post": [0.1 * ms] * 3, "total": [ms] * 3}
        return bench_of(samples, machine=self.facts(), invalid_reasons=self.reasons)


def _weights(spec: BundleSpec) -> str:
    return str(spec.provenance["weights"])


def make_chain(plan: Plan, project: Path, *, data: str, **_: Any) -> Chain:
    """Make bundles that only name their weights."""
    weights = Path(plan.config.model).read_text()
    if weights.startswith("bad"):
        raise SlimError(f"{plan.config.model} is no checkpoint.", remedy="Give another one.")
    folder = project / f"{plan.model}-{weights.split()[0]}-{plan.target}"
    for build in plan.builds:
        _write_bundle(folder / "build" / SLIM / str(build), build, weights)
    return Chain(plan=plan, folder=folder, result=complete_result(), skipped={}, data=data)


def _write_bundle(folder: Path, build: BuildName, weights: str) -> None:
    # A night that was killed may have left half of it.
    if (folder / BUNDLE_JSON).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_text(weights)
    spec = BundleSpec(
        name="tiny", target="host", runtime=build.runtime, precision=build.precision, imgsz=(64, 64), stride=8,
        names={0: "disc"}, layout="one2many", threads=1, model={"onnx": "model.onnx"}, input_name="images",
        output_name="output0", files={}, provenance={"weights": weights},
    )  # fmt: skip
    write_bundle_json(folder, spec)


@contextmanager
def fake_nights(device: NightDevice, hosts: Mapping[str, NightDevice] | None = None) -> Iterator[None]:
    """Nights in this process make tiny bundles and reach this device, wherever a target says it is; or its host's."""

    def connect(config: DeviceConfig, profile: Profile) -> NightDevice:
        found = (hosts or {}).get(config.host or "", device)
        if config.host == "gone" or found.is_gone:
            raise DeviceGone(f"The device {config.host} doesn't answer.", remedy="Switch it on.")
        if found.is_checked:
            require_target(str(config.host), found.facts(), profile)
        return found

    def make(plan: Plan, project: Path, *, data: str, **_: Any) -> Chain:
        device.on_make()
        return make_chain(plan, project, data=data)

    with patch.object(chain, "make", make), patch.object(devices, "connect", connect):
        yield


def run_night(
    matrix: Path, device: NightDevice, *more: str, hosts: Mapping[str, NightDevice] | None = None
) -> tuple[int, str, str]:
    """Run a night through the command line: exit code, output, errors."""
    with fake_nights(device, hosts):
        return run_cli("nightly", str(matrix), *more)


def git(folder: Path, *words: str) -> None:
    """Run git in a repository, without anybody's settings."""
    settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *settings, *words], check=True, capture_output=True)


def history_of(matrix: Path) -> Path:
    """Where a matrix's history is."""
    return matrix.parent / "runs/nightly/history.sqlite"


def runs_of(matrix: Path, night: int) -> list[Run]:
    """The recorded cells of a night."""
    with History.open(history_of(matrix)) as history:
        return history.runs(night=night)


def statuses(matrix: Path, night: int) -> list[str]:
    """The answers of a night's cells."""
    return [run.judgement.status if run.judgement else "not judged" for run in runs_of(matrix, night)]


def new_weights(matrix: Path, text: str) -> None:
    """Put other weights in the place of the model's."""
    (matrix.parent / "best.pt").write_text(text)
