"""Real networks on both emulated processors, against this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.listeners import Remembers
from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.run import EmulateConfig, ExportConfig, ValidateConfig
from yolo_slim.devices.base import Placed
from yolo_slim.devices.emulated.device import EmulatedDevice, open_emulated
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import find_root, require_root
from yolo_slim.devices.emulated.shell import EmulatedShell
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.measuring.agreement import agreement, shown, threshold
from yolo_slim.measuring.emulated import Emulation
from yolo_slim.measuring.images import sample, scored_images
from yolo_slim.runtime.tolerances import Tolerances, max_score_difference
from yolo_slim.stages import build, emulate, export, quantize
from yolo_slim.stages.context import Context

pytestmark = pytest.mark.skipif(find_root() is None, reason="needs the emulated system: yolo-slim device prepare")
IMGSZ = 64
TRAINED = "yolo11n"
"""The family that the shipped weights are of; the others have random ones, and no int8 bundle."""
CASES = [
    ("yolov8n", "ncnn-fp16", "rpi5-emulated"),
    ("yolo11n", "onnxruntime-int8", "rpi4-emulated"),
    ("yolo11n", "onnxruntime-int8", "rpi5-emulated"),
    ("yolo11n", "ncnn-fp16", "rpi4-emulated"),
    ("yolo26n", "onnxruntime-fp32", "rpi4-emulated"),
]
"""Family, build and processor; an emulated start takes seconds, so not every one with every other."""
Bundles = Callable[[str], dict[str, Path]]


@pytest.fixture(scope="module")
def bundles(
    example_graphs: Path, untrained: Callable[[str], Path], signs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundles:
    """Return a function from a family to its bundles for a Raspberry Pi, by their names."""
    made: dict[str, dict[str, Path]] = {}

    def make(family: str) -> dict[str, Path]:
        if family not in made:
            made[family] = built(family, tmp_path_factory.mktemp(family))
        return made[family]

    def built(family: str, out: Path) -> dict[str, Path]:
        # The profile of the host has the builds of a Pi but int8.
        context = Context.load(signs, "rpi5" if family == TRAINED else "host", imgsz=IMGSZ)
        graph, graphs = example_graphs / "onnx" / "model.onnx", quantize.finished_in(example_graphs / "quantize").graphs
        if family != TRAINED:
            graph = export.run(untrained(family), ExportConfig(parity_images=1), out / "export", context).onnx
            graphs = {}
        parts = build.BuildInputs(onnx=graph, graphs=graphs, images=build.selfcheck_images(context.dataset))
        found = build.run(parts, out / "build", context, name=family).bundles
        return {str(name): path for name, path in found.items()}

    return make


@pytest.mark.parametrize(("family", "name", "processor"), CASES)
def test_finds_what_this_machine_finds(family: str, name: str, processor: str, bundles: Bundles, images: Path) -> None:
    """A bundle detects the same there, within the tolerances of its precision, and says what ran."""
    bundle, device, here = bundles(family)[name], open_emulated(processor), LocalDevice()
    there = device.infer_measured(device.put(bundle), images)
    device.close()
    answers = here.infer(here.put(bundle), images, candidates=True)
    own, most = [shown(one) for one in answers], max_score_difference(name.partition("-")[2])
    limits = [Tolerances(score=most, nms_iou=0.7, image_hw=one.image_hw, imgsz=(IMGSZ, IMGSZ)) for one in answers]
    found = agreement(own, [shown(one) for one in there.images], threshold(own, 0.25), limits)
    assert found.problems(most) == []
    assert found.matched > 0
    assert there.runtime.runtime == name.partition("-")[0]
    assert there.peak_memory_mb is not None


def test_wrong_features_end_in_an_illegal_instruction(bundles: Bundles, images: Path) -> None:
    """Negative control: told of a Cortex-A76's int8 product, ONNX Runtime uses it, and a Cortex-A72 has none."""
    processor = replace(PROCESSORS["rpi5-emulated"], cpu="cortex-a72")
    device = EmulatedDevice(EmulatedShell(processor, require_root(processor.name)))
    with pytest.raises(SlimError, match="SIGILL ended the bundle on rpi5-emulated"):
        device.infer(device.put(bundles(TRAINED)["onnxruntime-int8"]), images)


class OtherWeights(LocalDevice):
    """The machine at hand, with another bundle than it was given."""

    def __init__(self, bundle: Path) -> None:
        super().__init__()
        self.bundle = bundle

    def put(self, bundle: Path) -> Placed:
        """Take the other bundle."""
        return super().put(self.bundle)


def test_stage_proves_and_is_done_once(bundles: Bundles, signs: Path, tmp_path: Path) -> None:
    """It writes what agreed and how much memory it took, and the second call does nothing."""
    said = Remembers()
    context = Context.load(signs, "rpi5", imgsz=IMGSZ, progress=said)
    given = {BuildKey("slim", BuildName("ncnn", "fp16")): bundles(TRAINED)["ncnn-fp16"]}
    for _ in range(2):
        path = emulate.run(given, EmulateConfig(images=2), ValidateConfig(), tmp_path, context)
    assert path is not None
    value = read_json(path)
    (found,) = value["builds"]
    assert (found["status"], found["self_check"], found["unmatched"]) == ("pass", True, 0)
    assert found["peak_memory_mb"] > 0
    assert len(value["images"]) == 2
    assert "emulate: up to date, skipped" in said.said


def test_other_weights_fail(bundles: Bundles, signs: Path, tmp_path: Path) -> None:
    """Negative control: where the device has other weights than this machine, the comparison fails."""
    context = Context.load(signs, "rpi5", imgsz=IMGSZ)
    few = sample(context.dataset, ValidateConfig(), 2)
    images = scored_images(few, ValidateConfig(), tmp_path)
    other = OtherWeights(bundles(TRAINED)["ncnn-fp16"])
    emulation = Emulation(
        device=open_emulated("rpi4-emulated"), workstation=other, images=images, names=few.names, progress=Remembers()
    )
    key = BuildKey("slim", BuildName("onnxruntime", "fp32"))
    (found,) = emulation.measure({key: bundles("yolov8n")[str(key.build)]})
    assert found.status == "fail"
    assert found.problems
