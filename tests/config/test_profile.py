"""What a profile asks of the device, and the profiles that contradict themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from yolo_slim.config import targets
from yolo_slim.errors import SlimError
from yolo_slim.machine import jetpack_of

NANO = "jetson-orin-nano"


def changed(tmp_path: Path, name: str, **changes: object) -> Path:
    """Write a profile of the package with other values, as a user's own file."""
    values = yaml.safe_load((targets.profiles_folder() / f"{name}.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**values, "name": "mine", **changes}))
    return path


def refusal(path: Path) -> str:
    """What loading a profile says."""
    with pytest.raises(SlimError) as caught:
        targets.load(str(path))
    return str(caught.value)


def test_requirements_of_a_jetson() -> None:
    """A TensorRT bundle requires everything that the profile says of the device."""
    asked = targets.load(NANO).requirements("tensorrt")
    assert asked.to_json() == {
        "arch": "aarch64",
        "device_model": "Jetson Orin Nano",
        "power_mode": "MAXN_SUPER",
        "packages": {"tensorrt": ">=8.6", "pycuda": ">=2025.1"},
        "memory_gb": (4, 8),
        "sm": "8.7",
        "l4t": {"36.3": "6.0", "36.4": "6.2", "39.2": "7.2"},
    }


@pytest.mark.parametrize(
    ("runtime", "packages"),
    [("ncnn", {"ncnn": ">=1.0.20240820"}), ("onnxruntime", {"onnxruntime": ">=1.18"})],
)
def test_a_bundle_requires_only_its_own_runtime(runtime: str, packages: dict[str, str]) -> None:
    """An NCNN bundle doesn't need ONNX Runtime on the device, nor a GPU."""
    asked = targets.load("rpi5").requirements(runtime)
    assert asked.packages == packages
    assert asked.sm is None


def test_packages_of_no_runtime_are_required_of_all(tmp_path: Path) -> None:
    """A profile may ask for any package."""
    profile = targets.load(str(changed(tmp_path, "rpi5", sdk={"numpy": ">=1.24", "ncnn": ">=1"})))
    assert profile.requirements("onnxruntime").packages == {"numpy": ">=1.24"}


def test_this_workstation_requires_nothing() -> None:
    """The host target takes any machine."""
    assert targets.load("host").requirements("ncnn").to_json() == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"power_mode": "MAXN_SPUER"}, "power_modes with power_mode MAXN_SPUER among them"),
        ({"sdk": {"tensorrt": "8.6 or newer"}}, "sdk.tensorrt: got '8.6 or newer'"),
        ({"device_model": "Jetson ("}, "device_model: got 'Jetson ('; expected: a regular expression"),
        ({"host": "jetson.local"}, "host: unknown key"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """A power mode that the module lacks, a version that can't be compared, a broken pattern, a removed key."""
    assert message in refusal(changed(tmp_path, NANO, **changes))


@pytest.mark.parametrize("target", targets.names())
def test_jetpacks_are_those_that_the_device_reports(target: str) -> None:
    """The device names the same JetPack for a Jetson Linux release as the profile."""
    jetson = targets.load(target).jetson
    for pack in [] if jetson is None else jetson.jetpacks:
        assert pack.jetpack in str(jetpack_of(pack.l4t))
