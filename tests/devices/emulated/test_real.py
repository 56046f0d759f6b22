"""Real networks on both emulated processors, against this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.constants import FAMILIES
from tests.helpers.listeners import Remembers
from yolo_slim.build_key import BuildKey, BuildName
from yolo_slim.config.run import EmulateConfig, ExportConfig, PruneConfig, QuantizeConfig, RecoverConfig, ValidateConfig
from yolo_slim.devices.base import Placed
from yolo_slim.devices.emulated.device import EmulatedDevice, open_emulated
from yolo_slim.devices.emulated.processors import PROCESSORS
from yolo_slim.devices.emulated.root import find_root
from yolo_slim.devices.emulated.shell import EmulatedShell
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.measuring.agreement import agreement, threshold
from yolo_slim.measuring.emulated import Emulation
from yolo_slim.measuring.images import sample, scored_images
from yolo_slim.stages import build, emulate, export, prune, quantize
from yolo_slim.stages.context import Context

pytestmark = pytest.mark.skipif(find_root() is None, reason="needs the emulated system: yolo-slim device prepare")
IMGSZ = 64
PRUNED = "yolo11n"
"""The family whose pruned network is tried; of the others the unpruned one."""
BUILDS = ("onnxruntime-fp32", "onnxruntime-int8", "ncnn-fp16")
Bundles = Callable[[str], dict[str, Path]]


@pytest.fixture(scope="module")
def bundles(
    trained: Path, untrained: Callable[[str], Path], signs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundles:
    """Return a function from a family to its bundles for a Raspberry Pi 5, by their names."""
    made: dict[str, dict[str, Path]] = {}

    def make(family: str) -> dict[str, Path]:
        if family not in made:
            weights = trained if family == PRUNED else untrained(family)
            made[family] = built(weights, Context.load(signs, "rpi5", imgsz=IMGSZ), tmp_path_factory.mktemp(family))
        return made[family]

    def built(weights: Path, context: Context, out: Path) -> dict[str, Path]:
        if weights == trained:
            given = prune.PruneInputs(model=weights, training=RecoverConfig())
            cut = PruneConfig(macs_removed=0.3, steps=1, images=4, bn_images=8, round_to=8)
            weights = prune.run(given, cut, out / "prune", context).weights
        graph = export.run(weights, ExportConfig(parity_images=1), out / "export", context).onnx
        config = QuantizeConfig(images=32, scan_images=1, check_images=0, parity_images=1)
        inputs = quantize.QuantizeInputs(onnx=graph)
        graphs = quantize.run(inputs, config, out / "quantize", context, precisions=["int8"]).graphs
        parts = build.BuildInputs(onnx=graph, graphs=graphs, images=build.selfcheck_images(context.dataset))
        found = build.run(parts, out / "build", context, name=weights.stem).bundles
        return {str(name): path for name, path in found.items()}

    return make


@pytest.fixture(scope="module", params=list(PROCESSORS))
def device(request: pytest.FixtureRequest) -> Iterator[EmulatedDevice]:
    """Return both emulated devices."""
    found = open_emulated(request.param)
    yield found
    found.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BUILDS)
def test_finds_what_this_machine_finds(
    name: str, family: str, device: EmulatedDevice, bundles: Bundles, images: Path
) -> None:
    """Every runtime and precision of three families detects the same there, within its tolerances."""
    # Half of the table, each family and each build on both processors: an emulated start takes seconds.
    if (BUILDS.index(name) + FAMILIES.index(family) + list(PROCESSORS).index(device.name)) % 2:
        pytest.skip("on the other processor")
    bundle = bundles(family)[name]
    there = device.infer_measured(device.put(bundle), images)
    here = LocalDevice()
    own = [one.detections for one in here.infer(here.put(bundle), images)]
    answers = [one.detections for one in there.images]
    found = agreement(own, answers, threshold(own, 0.25))
    assert found.problems(name.partition("-")[2]) == []
    assert found.matched > 0
    assert there.runtime.runtime == name.partition("-")[0]
    assert there.peak_memory_mb is not None


def test_wrong_features_end_in_an_illegal_instruction(bundles: Bundles, images: Path) -> None:
    """Negative control: told of a Cortex-A76's int8 product, ONNX Runtime uses it, and a Cortex-A72 has none."""
    root = find_root()
    assert root is not None
    device = EmulatedDevice(EmulatedShell(replace(PROCESSORS["rpi5-emulated"], cpu="cortex-a72"), root))
    with pytest.raises(SlimError, match="SIGILL ended the bundle on rpi5-emulated"):
        device.infer(device.put(bundles(PRUNED)["onnxruntime-int8"]), images)


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
    given = {BuildKey("slim", BuildName("ncnn", "fp16")): bundles(PRUNED)["ncnn-fp16"]}
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
    other = OtherWeights(bundles(PRUNED)["ncnn-fp16"])
    emulation = Emulation(
        device=open_emulated("rpi4-emulated"), workstation=other, images=images, names=few.names, progress=Remembers()
    )
    key = BuildKey("slim", BuildName("onnxruntime", "fp32"))
    (found,) = emulation.measure({key: bundles("yolov8n")[str(key.build)]})
    assert found.status == "fail"
    assert found.problems
