"""A device that measures nothing: it answers from memory, and notes what it was asked."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from tests.helpers.results import SUSTAINED, bench_of, make_bench
from yolo_slim.bundle import read_spec
from yolo_slim.config.profile import Profile
from yolo_slim.datasets.labels import LabelFormat
from yolo_slim.devices.answers import Bench, DeviceFacts, SelfCheck
from yolo_slim.devices.base import BenchSettings, Device, Placed
from yolo_slim.devices.local import LocalDevice
from yolo_slim.files import read_json
from yolo_slim.measuring.truth import read_truth
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import StageTimes
from yolo_slim.runtime.infer import ImageDetections
from yolo_slim.runtime.layers import LayerTimes
from yolo_slim.runtime.load import Load
from yolo_slim.runtime.paired import Paired
from yolo_slim.runtime.sustained import Sustained


class UnloadedDevice(LocalDevice):
    """The machine at hand; what else runs on it, which a test can't choose, spoils no paired timing."""

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Time, and drop the reasons against it."""
        return replace(
            super().time_paired(before, after, images, rounds=rounds, frames=frames, max_celsius=max_celsius),
            invalid_reasons=(),
        )


NO_TIME = StageTimes(pre_ms=0.0, infer_ms=0.0, post_ms=0.0, total_ms=0.0)


BENCHED_MS = make_bench(50.0, 1).stages.infer.p50_ms
"""Inference of every invented timing."""


class FakeDevice:
    """A board far away that sees exactly what the labels say."""

    name, is_here = "board at 10.0.0.7", False

    def __init__(
        self,
        *,
        model: str = "Example Board",
        is_target: bool = True,
        invalid_reasons: tuple[str, ...] = (),
        load: Load | None = None,
        sustained: Sustained = SUSTAINED,
    ) -> None:
        self.model, self.answer, self.invalid_reasons = model, is_target, invalid_reasons
        self.load, self.sustained = load, sustained
        self.runtimes: dict[str, str] = {}
        self.asked: list[str] = []
        self.repeats: list[int] = []
        self.breakdowns: list[bool] = []
        self.limits: set[float | None] = set()

    def facts(self) -> DeviceFacts:
        """Say what the machine is."""
        about = {"model": self.model, "arch": "aarch64", "cores": 4, "runtimes": self.runtimes}
        return DeviceFacts.model_validate(about)

    def is_target(self, profile: Profile) -> bool:
        """Answer as it was told at the beginning."""
        return self.answer

    def put(self, bundle: Path) -> Placed:
        """Note the bundle."""
        self.asked.append("put")
        return Placed(spec=read_spec(bundle), path=f"/far/away/{bundle.name}")

    def build(self, placed: Placed) -> None:
        """Note it."""
        self.asked.append("build")

    def tune(self, placed: Placed, images: Path) -> str:
        """Note the bundle."""
        self.asked.append("tune")
        return "2 threads, 1.10 times as fast as untuned"

    def check(self, placed: Placed) -> SelfCheck:
        """Pass."""
        self.asked.append("check")
        return SelfCheck(images=(), unmet_requirements=(), passed=True)

    def infer(self, placed: Placed, images: Path, *, candidates: bool = False) -> list[ImageDetections]:
        """Read the labels beside the images."""
        del candidates  # labels have none
        self.asked.append("infer")
        return [_seen(path) for path in sorted(images.iterdir())]

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Invent a timing."""
        self.asked.append("bench")
        self.limits.add(settings.max_celsius)
        self.repeats.append(settings.repeats)
        self.breakdowns.append(settings.breakdown)
        if not settings.minutes:
            return make_bench(50.0, 1, invalid_reasons=self.invalid_reasons, load=self.load)
        self.asked.append(f"sustained {settings.minutes:g} min of {placed.build}")
        reasons = self.invalid_reasons + self.sustained.invalid_reasons
        return make_bench(50.0, 1, invalid_reasons=reasons, load=self.load, sustained=self.sustained)

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Invent a gain."""
        self.asked.append("time_paired")
        self.limits.add(max_celsius)
        return Paired(before=(2.0,) * rounds, after=(1.0,) * rounds, threads=4)

    def close(self) -> None:
        """Note it."""
        self.asked.append("close")


def _seen(image: Path) -> ImageDetections:
    truth = read_truth(image, LabelFormat(task="detect", classes=1000))
    found = Detections(
        boxes=truth.boxes.astype(np.float32),
        scores=np.full(len(truth.class_ids), 0.9, np.float32),
        class_ids=truth.class_ids,
    )
    return ImageDetections(file=image.name, image_hw=(1, 1), detections=found, times=NO_TIME)


class ModelledDevice(FakeDevice):
    """A board whose layers take what a formula says: it computes 32 output channels at once."""

    BLOCK = 32
    """A layer of one channel more than a multiple of this takes as long as the next multiple."""

    def __init__(
        self, *, network_factor: float = 1.0, invalid_reasons: tuple[str, ...] = (), scale: float | None = None
    ) -> None:
        super().__init__(model="Modelled Board", invalid_reasons=invalid_reasons)
        self.network_factor = network_factor
        """What a network takes in units of its layers."""
        self.scale = scale
        """Milliseconds of a benched network's inference in units of the formula; None: every bench takes 50 ms."""
        self._folders: dict[str, Path] = {}
        self._unit: dict[str, float] = {}

    def put(self, bundle: Path) -> Placed:
        """Remember where the bundle is; networks of a comparison have bundles of one name."""
        placed = replace(super().put(bundle), path=f"/far/away{bundle.absolute()}")
        self._folders[placed.path] = bundle
        return placed

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Compute what a network takes, and 2 ms of pre- and post-processing."""
        found = super().bench(placed, images, settings)
        if self.scale is None:
            return found
        stages = {
            "pre": 1.0,
            "infer": self.scale * self.network_ms(self._folders[placed.path] / "model.onnx"),
            "post": 1.0,
        }
        samples = {stage: np.full(20, ms) for stage, ms in {**stages, "total": sum(stages.values())}.items()}
        return bench_of(samples, invalid_reasons=self.invalid_reasons, load=self.load)

    def time_layers(self, layers: Path, *, max_celsius: float | None = None) -> LayerTimes:
        """Compute what every layer takes."""
        self.asked.append("layers")
        self.limits.add(max_celsius)
        ms = {}
        for one in read_json(layers)["graphs"]:
            graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(base64.b64decode(one["graph"])))
            ms[one["name"]] = self._ms(graph)
        return LayerTimes(ms=ms, threads=4, invalid_reasons=self.invalid_reasons)

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Compute what both networks take."""
        self.asked.append("time_paired")
        self.limits.add(max_celsius)
        first, second = (self.network_ms(self._folders[one.path] / "model.onnx") for one in (before, after))
        # In milliseconds of the bench: without a scale, the unpruned network, which comes first, takes what it says.
        unit = self.scale or self._unit.setdefault("ms", BENCHED_MS / first)
        return Paired(
            before=(unit * first,) * rounds, after=(unit * second,) * rounds, threads=4,
            invalid_reasons=self.invalid_reasons,
        )  # fmt: skip

    def network_ms(self, graph: Path) -> float:
        """What the network of an ONNX file takes."""
        return self.network_factor * self._ms(onnx.shape_inference.infer_shapes(onnx.load(graph)))

    def _ms(self, graph: onnx.ModelProto) -> float:
        """Add up the convolutions of a graph."""
        shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in (*graph.graph.value_info, *graph.graph.output)
        }
        weights = {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer} | shapes
        total = 0.0
        for node in graph.graph.node:
            if node.op_type == "Conv":
                outputs, inputs, *kernel = weights[node.input[1]]
                height, width = shapes[node.output[0]][2:]
                blocks = -(-outputs // self.BLOCK) * self.BLOCK
                total += 1e-6 * blocks * inputs * np.prod(kernel) * height * width
        return float(total)


class BackedDevice(ModelledDevice):
    """A real device that does all that is asked. The times are a formula's, because others disturb the real ones."""

    BLOCK = 8

    def __init__(self, device: Device) -> None:
        super().__init__(scale=1.0)
        self.device, self.name, self.is_here = device, device.name, device.is_here
        self._placed: dict[str, Placed] = {}

    def facts(self) -> DeviceFacts:
        """Ask the device."""
        return self.device.facts()

    def is_target(self, profile: Profile) -> bool:
        """Ask the device."""
        return self.device.is_target(profile)

    def put(self, bundle: Path) -> Placed:
        """Bring the bundle there."""
        placed = super().put(bundle)
        self._placed[placed.path] = self.device.put(bundle)
        return placed

    def bench(self, placed: Placed, images: Path, settings: BenchSettings) -> Bench:
        """Time the network there, and compute what it takes."""
        assert self.device.bench(self._placed[placed.path], images, settings).queries >= settings.queries
        return super().bench(placed, images, settings)

    def time_layers(self, layers: Path, *, max_celsius: float | None = None) -> LayerTimes:
        """Time every layer there, and compute what it takes."""
        found, computed = self.device.time_layers(layers), super().time_layers(layers, max_celsius=max_celsius)
        assert found.ms.keys() == computed.ms.keys()
        return computed

    def time_paired(
        self, before: Placed, after: Placed, images: Path, *, rounds: int, frames: int, max_celsius: float | None = None
    ) -> Paired:
        """Time both networks there, and compute what they take."""
        first, second = (self._placed[one.path] for one in (before, after))
        assert len(self.device.time_paired(first, second, images, rounds=rounds, frames=frames).after) == rounds
        return super().time_paired(before, after, images, rounds=rounds, frames=frames, max_celsius=max_celsius)

    def close(self) -> None:
        """End the connection."""
        self.device.close()
        super().close()
