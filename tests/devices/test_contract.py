"""What every device promises, checked with each of them: see DEVICES in conftest.py."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from yolo_slim.backends.layers import Layer, LayerKind
from yolo_slim.build_key import BuildName
from yolo_slim.bundle import open_bundle, write_bundle_json
from yolo_slim.config import targets
from yolo_slim.devices.answers import NOT_ITS_SPEED, Bench
from yolo_slim.devices.base import BenchSettings, Device
from yolo_slim.devices.emulated.device import EmulatedDevice
from yolo_slim.devices.local import LocalDevice
from yolo_slim.errors import SlimError
from yolo_slim.measuring.layer_graphs import write
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.folders import find_images
from yolo_slim.runtime.infer import infer_folder

SHORT = BenchSettings(seconds=0.05, queries=6)


@pytest.fixture(scope="module")
def timed(device: Device, bundle: Path, images: Path) -> Bench:
    """Return a timing without anything else that can be asked for."""
    return device.bench(device.put(bundle), images, SHORT)


@pytest.fixture(scope="module")
def looked_at(device: Device, bundle: Path, images: Path) -> Bench:
    """Return a timing with a sustained run and a look at where the time goes."""
    return device.bench(device.put(bundle), images, replace(SHORT, minutes=0.005, breakdown=True))


def test_facts_name_the_machine(device: Device) -> None:
    """Model, architecture and cores are there, and the device has a name for people."""
    facts = device.facts()
    assert "not recorded" not in (facts.model, facts.arch)
    assert facts.cores is not None
    assert facts.cores >= 1
    assert device.name


def test_facts_have_the_versions_of_runtimes(device: Device) -> None:
    """They are those of the device's own packages, which decide what is timed there."""
    if isinstance(device, EmulatedDevice):  # what is timed there counts for nothing
        return
    # The devices of these tests share the tests' packages.
    assert device.facts().runtimes["onnxruntime"] == version("onnxruntime")


def test_is_target_compares_the_model(device: Device) -> None:
    """A profile that names another board isn't this device; one for any machine is, but of what is emulated none."""
    other = targets.load("host").model_copy(update={"device_model": "^No such board$"})
    assert device.is_target(targets.load("host")) != isinstance(device, EmulatedDevice)
    assert not device.is_target(other)


def test_put_reads_the_bundle(device: Device, bundle: Path, tmp_path: Path) -> None:
    """A placed bundle says what it is; a folder that is no bundle is refused."""
    placed = device.put(bundle)
    assert (placed.spec.name, placed.build) == ("tiny", BuildName("onnxruntime", "fp32"))
    with pytest.raises(SlimError, match="Not a bundle"):
        device.put(tmp_path)


def test_build_of_a_bundle_without_an_engine(device: Device, bundle: Path) -> None:
    """Nothing has to be built, so nothing fails and no file is added."""
    before = sorted(path.name for path in bundle.iterdir())
    device.build(device.put(bundle))
    assert sorted(path.name for path in bundle.iterdir()) == before


def test_check_passes(device: Device, bundle: Path) -> None:
    """The bundle's own images give the expected detections there."""
    report = device.check(device.put(bundle))
    assert report.passed
    assert len(report.images) == 2


def test_infer_answers_every_image_in_order(device: Device, bundle: Path, images: Path) -> None:
    """The detections are those of the detector in this process, to the last digit."""
    answers = device.infer(device.put(bundle), images)
    with Detector(bundle) as detector:
        expected = infer_folder(detector, find_images(images).images, "val", images)
    assert [answer.file for answer in answers] == ["0.png", "1.png", "2.png"]
    for answer, own in zip(answers, expected, strict=True):
        assert answer.detections.boxes.tolist() == own.detections.boxes.tolist()
        assert answer.detections.scores.tolist() == own.detections.scores.tolist()


def test_bench_keeps_every_sample(device: Device, timed: Bench) -> None:
    """The least number of frames is timed, no sample is lost, and the timing is one round of that machine."""
    assert timed.queries >= SHORT.queries
    assert timed.seconds >= SHORT.seconds
    assert {len(samples) for _, samples in timed.samples_ms} == {timed.queries}
    assert timed.stages == timed.samples_ms.latencies()
    assert timed.round_p50_ms == (timed.stages.total.p50_ms,)
    assert timed.machine.model == device.facts().model
    assert timed.runtime.runtime == "onnxruntime"


def test_bench_says_what_the_machine_did(timed: Bench) -> None:
    """The first detection of a new process, readings at both ends, and the reference kernel are in every timing."""
    assert timed.cold_start is not None
    assert timed.cold_start.total_ms >= timed.cold_start.load_ms + timed.cold_start.first_frame_ms
    assert timed.sensors is not None
    assert timed.sensors.readings >= 2
    assert timed.load is not None
    assert timed.load.reference_before_ms is not None
    assert timed.load.reference_after_ms is not None
    assert timed.p50_spread_ms is not None
    assert timed.p50_spread_ms.lowest <= timed.stages.total.p50_ms <= timed.p50_spread_ms.highest
    assert timed.sustained is None


def test_bench_runs_on_where_asked(device: Device, looked_at: Bench) -> None:
    """A sustained run of that length follows the timing."""
    found = looked_at.sustained
    if isinstance(device, EmulatedDevice):  # what an emulator does for minutes says nothing of the processor
        assert found is None
        return
    assert found is not None
    assert found.seconds >= 0.3
    assert found.retention == pytest.approx(found.last_fps / found.first_fps)


def test_two_bundles_are_timed_in_turns(device: Device, bundle: Path, images: Path, tmp_path: Path) -> None:
    """Both have one median in every round, also where they were made for it and have neither wheel nor self-check."""
    bare = shutil.copytree(bundle, tmp_path / "bare", ignore=shutil.ignore_patterns("*.whl", "selfcheck"))
    write_bundle_json(bare, open_bundle(bundle).spec)
    placed = device.put(bare)
    found = device.time_paired(placed, placed, images, rounds=3, frames=2)
    assert (len(found.before), len(found.after)) == (3, 3)
    assert min(found.before + found.after) > 0


@pytest.mark.parametrize("build", [BuildName("onnxruntime", "fp32"), BuildName("ncnn", "fp16")], ids=str)
def test_single_layers_are_timed(device: Device, bundle: Path, tmp_path: Path, build: BuildName) -> None:
    """Every layer of the file has a time there; what is emulated never counts."""
    kind = LayerKind(
        kernel=(3, 3), stride=(1, 1), padding=(1, 1), depthwise=False, size=(8, 8), activation="silu"
    )  # fmt: skip
    write(tmp_path / "layers.json", [Layer(kind=kind, inputs=8, outputs=width) for width in (8, 16)], build, 2)
    if build.runtime == "ncnn" and not isinstance(device, LocalDevice):
        pytest.skip("the environment there is made for the runtimes of the bundles that it was sent")
    device.put(bundle)
    found = device.time_layers(tmp_path / "layers.json")
    assert set(found.ms) == {"8-8", "8-16"}
    assert min(found.ms.values()) > 0
    assert not isinstance(device, EmulatedDevice) or NOT_ITS_SPEED in found.invalid_reasons


def test_a_damaged_bundle_is_refused(device: Device, bundle: Path, images: Path, tmp_path: Path) -> None:
    """What changed after it was built runs nowhere, and the message says which file."""
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    next(copy.glob("*.onnx")).write_bytes(b"no graph")
    # A device that is elsewhere refuses to send it, the machine at hand refuses to run it.
    with pytest.raises(SlimError) as refusal:
        device.infer(device.put(copy), images)
    assert any(".onnx" in culprit for culprit in refusal.value.culprits)


def test_bench_divides_where_asked(device: Device, timed: Bench, looked_at: Bench) -> None:
    """Where the time goes is looked at on the device, on request."""
    assert timed.breakdown is None
    found = looked_at.breakdown
    if isinstance(device, EmulatedDevice):  # where an emulator spends its time says nothing of the processor
        assert found is None
        return
    assert found is not None
    assert sum(found.shares.values()) == pytest.approx(1.0)
