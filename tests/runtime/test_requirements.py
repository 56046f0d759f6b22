"""What a bundle requires of the device: versions, the data in bundle.json, and the comparison with a machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from yolo_slim.bundle import BUNDLE_JSON, open_bundle, read_spec, write_bundle_json
from yolo_slim.config import targets
from yolo_slim.errors import SlimError
from yolo_slim.machine import power_mode
from yolo_slim.requirements import Requirements, satisfies
from yolo_slim.runtime import __main__ as device
from yolo_slim.runtime.machine_check import Found, compare, compare_with_machine

VERSIONS = ("1.7", "1.7.0", "1.7.1", "1.18.0", "2", "2.0.0", "1.7rc1", "2.0.0.dev3", "1.7.post1", "1.7+cu12", "2026.1")
VERSIONS += ("1.0.20240820", "10.3.0", "10.16.1.11", "9.9")
SPECIFIERS = [f"{operator}{version}" for operator in (">=", "<=", "==", "!=", ">", "<") for version in ("1.7", "2.0.0")]
SPECIFIERS += [">=1.18", ">=1.0.20240820", ">=1.7, <2", ">=8.6,<11,!=10.2.0", ">= 10.3"]

NANO = Found(
    arch="aarch64",
    device_model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    power_mode="MAXN_SUPER",
    packages={"tensorrt": "10.3.0", "pycuda": "2026.1"},
    memory_gb=7.4,
    sm="8.7",
    l4t="36.4.3",
)


@pytest.mark.parametrize("specifier", SPECIFIERS)
def test_versions_compare_as_in_pep_440(specifier: str) -> None:
    """The device's own comparison equals that of the packaging library, which a device may not have."""
    theirs = {version: SpecifierSet(specifier).contains(version, prereleases=True) for version in VERSIONS}
    assert {version: satisfies(version, specifier) for version in VERSIONS} == theirs


def test_a_version_that_is_no_version_satisfies_nothing() -> None:
    """A package that doesn't say its version is not taken for a new one."""
    assert not satisfies("unknown", ">=0")


@pytest.mark.parametrize("target", targets.names())
def test_json_round_trip(target: str) -> None:
    """What a profile requires survives bundle.json."""
    asked = targets.load(target).requirements("tensorrt")
    assert Requirements.from_json(json.loads(json.dumps(asked.to_json()))) == asked


def differing(found: Found, target: str = "jetson-orin-nano") -> dict[str, bool | None]:
    """The requirements of a TensorRT bundle that aren't met, with False for surely."""
    asked = targets.load(target).requirements("tensorrt")
    return {item.name: item.is_met for item in compare(asked, found) if item.is_met is not True}


def test_the_right_device_meets_all() -> None:
    """An Orin Nano as its profile describes it."""
    assert differing(NANO) == {}


@pytest.mark.parametrize("l4t", ["36.3.0", "36.4.7", "36.5.0", "39.2"])
def test_every_release_of_a_jetpack_serves(l4t: str) -> None:
    """JetPack 6.2 came with Jetson Linux 36.4 and 36.5; the profile names the first."""
    assert differing(replace(NANO, l4t=l4t)) == {}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"arch": "x86_64"}, "arch"),
        ({"device_model": "NVIDIA Jetson Orin NX"}, "device"),
        ({"power_mode": "15W"}, "power mode"),
        ({"packages": {"tensorrt": "8.5.2", "pycuda": "2026.1"}}, "tensorrt"),
        ({"packages": {"tensorrt": "10.3.0"}}, "pycuda"),
        ({"memory_gb": 14.8}, "memory"),
        ({"memory_gb": 5.5}, "memory"),
        ({"sm": "7.2"}, "GPU's SM"),
        ({"l4t": "36.40"}, "Jetson Linux"),
        ({"l4t": "35.6"}, "Jetson Linux"),
    ],
)
def test_every_difference_is_named(change: dict[str, object], name: str) -> None:
    """One thing that is otherwise is the one requirement that isn't met."""
    assert differing(replace(NANO, **change)) == {name: False}


def test_what_a_machine_does_not_say_is_unknown() -> None:
    """Without nvpmodel, Jetson Linux or a usable GPU nothing is claimed; a package that isn't there isn't there."""
    silent = replace(NANO, power_mode=None, memory_gb=None, sm=None, l4t=None, packages={})
    assert differing(silent) == {
        **dict.fromkeys(("power mode", "memory", "GPU's SM", "Jetson Linux")),
        "tensorrt": False,
        "pycuda": False,
    }


def requiring(bundle: Path, **asked: object) -> Path:
    """Write other requirements into a bundle."""
    write_bundle_json(bundle, replace(read_spec(bundle), requires=Requirements(**asked)))
    return bundle


def test_doctor_compares(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Doctor shows wanted and found for each requirement, and exits with 1 where one isn't met."""
    requiring(own_bundle, arch="riscv64", packages={"onnxruntime": ">=1.0", "numpy": "<1"})
    assert device.main(["doctor", str(own_bundle)]) == 1
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("requires")]
    assert lines[0].startswith("arch: required riscv64, found ")
    assert [line.rpartition(": ")[2] for line in lines] == ["NOT MET", "ok", "NOT MET"]
    assert device.main(["doctor", str(own_bundle), "--json", "-"]) == 1
    value = json.loads(capsys.readouterr().out)["bundle"]
    assert value["runs"] is True
    assert value["requirements"][2]["wanted"] == "<1"
    assert [item["ok"] for item in value["requirements"]] == [False, True, False]


def test_doctor_is_content(own_bundle: Path) -> None:
    """Requirements that are met, or that the machine doesn't say, are no reason to exit with 1."""
    requiring(own_bundle, packages={"onnxruntime": ">=1.0"}, l4t={"36.4": "6.2"})
    assert device.main(["doctor", str(own_bundle), "--quiet"]) == 0


@pytest.mark.usefixtures("unloaded")
def test_bench_and_check_name_what_is_not_met(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A timing in another power mode, or with another package, says so in its text and in its record."""
    requiring(own_bundle, packages={"onnxruntime": "<1"})
    quick = ["--seconds", "0.01", "--queries", "2"]
    for command in (["bench", str(own_bundle), *quick], ["check", str(own_bundle)]):
        assert device.main(command) == 0
        assert "NOT AS REQUIRED: onnxruntime: required <1, found " in capsys.readouterr().out
        assert device.main([*command, "--json", "-"]) == 0
        value = json.loads(capsys.readouterr().out)
        (line,) = value.get("machine", value)["unmet_requirements"]
        assert line.startswith("onnxruntime: required <1")


@pytest.mark.usefixtures("unloaded")
def test_nothing_required_nothing_recorded(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle without requirements has a timing without them."""
    assert device.main(["bench", str(tiny_bundle), "--seconds", "0.01", "--queries", "2", "--json", "-"]) == 0
    assert "unmet_requirements" not in json.loads(capsys.readouterr().out)["machine"]


def test_impossible_requirements_are_refused(own_bundle: Path) -> None:
    """Every problem is named: unknown keys, patterns and versions that nothing could compare."""
    path = own_bundle / BUNDLE_JSON
    asked = {"device_model": "(", "packages": {"ncnn": "new"}, "memory_gb": [0], "sm": 8.7, "powermode": "MAXN"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "requires": asked}))
    with pytest.raises(SlimError) as caught:
        open_bundle(own_bundle)
    assert len(caught.value.culprits) == len(asked)
    assert "Did you mean 'power_mode'?" in str(caught.value)


def test_on_a_jetson(jetson: Path, own_bundle: Path) -> None:
    """What is compared is read from the machine: model, memory, Jetson Linux and power mode."""
    asked = replace(targets.load("jetson-orin-nano").requirements("ncnn"), arch="any", packages={})
    spec = replace(read_spec(own_bundle), requires=asked)
    assert {item.name: item.found for item in compare_with_machine(spec)} == {
        "device": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "memory": "7.3 GB",
        "Jetson Linux": "36.4.3",
        "power mode": power_mode(),
    }
    assert all(item.is_met for item in compare_with_machine(spec))


def test_governor_of_another_device(own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Raspberry Pi the power mode is the governor of its cores."""
    (tmp_path / "sys/devices/system/cpu/cpu0/cpufreq").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").write_text("ondemand\n")
    monkeypatch.setattr("yolo_slim.machine.ROOT", tmp_path)
    spec = replace(read_spec(own_bundle), requires=Requirements(power_mode="performance"))
    (item,) = compare_with_machine(spec)
    assert (item.found, item.is_met) == ("ondemand", False)
