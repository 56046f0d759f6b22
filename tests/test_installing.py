"""What is installed: torch without CUDA where that can be had, few extras, and pages that say the sizes."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts import install_sizes, torch_build
from tests.helpers.constants import ROOT
from tests.helpers.wheels import make_wheel
from yolo_slim import prerequisites
from yolo_slim.prerequisites import nvidia_gpus

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PINS = torch_build.pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
CPU = {name: f"{version}+cpu" for name, version in PINS.items()}
RECORD = json.loads((ROOT / "docs/benchmarks/records/install.json").read_text(encoding="utf-8"))
Index = Callable[..., Path]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Return a function that makes a folder of wheels the only one that pip sees."""

    def fill(*wheels: tuple[str, str]) -> Path:
        folder = tmp_path / "wheels"
        folder.mkdir()
        for name, version in wheels:
            make_wheel(folder, name, version)
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        return folder

    return fill


def chosen(requirements: list[str], report: Path) -> dict[str, str]:
    """Return the versions that pip would install for requirements beside the pins of this repository."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command = [*pip, "--report", str(report), "-c", str(ROOT / "constraints.txt"), *requirements]
    subprocess.run(command, check=True, capture_output=True, text=True)
    found = [one["metadata"] for one in json.loads(report.read_text())["install"]]
    return {one["name"]: one["version"] for one in found}


@pytest.mark.parametrize(
    ("cpu", "wanted"), [(("torch", "torchvision"), CPU), (("torch",), PINS), (("torchvision",), PINS), ((), PINS)]
)
def test_both_without_cuda_or_none(cpu: tuple[str, ...], wanted: dict[str, str], index: Index, tmp_path: Path) -> None:
    """Torch without CUDA is taken with its torchvision alone, by pip itself, whatever else the index has."""
    index(*PINS.items(), *[(name, CPU[name]) for name in cpu])
    requirements, reason = torch_build.choose(PINS, torch_build.offered)
    assert chosen([*requirements, "torch", "torchvision"], tmp_path / "report.json") == wanted
    lacking = [f"{name} {CPU[name]}" for name in PINS if name not in cpu]
    assert [name for name in lacking if name not in reason] == []
    assert ("make TORCH_INDEX=URL" in reason) == bool(lacking)
    assert "\n" not in reason


def test_pip_alone_would_mix_them(index: Index, tmp_path: Path) -> None:
    """Negative control: without the choice pip takes a torch without CUDA beside a torchvision with it."""
    index(*PINS.items(), ("torch", CPU["torch"]))
    assert chosen(["torch", "torchvision"], tmp_path / "report.json") == {**PINS, "torch": CPU["torch"]}


def test_index_that_cannot_be_asked(index: Index) -> None:
    """An empty index, a failing one or an option that pip doesn't know offers nothing."""
    index()
    assert torch_build.offered("torch") == set()
    assert torch_build.offered("torch", ["--no-such-option"]) == set()


def test_gpu_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A device file, the driver's folder or nvidia-smi shows a GPU; an nvidia-smi that fails doesn't."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not torch_build.has_nvidia_gpu(tmp_path)
    for answer, wanted in (("echo 'GPU 0: Example'", True), ("echo failed; exit 9", False), ("exit 0", False)):
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        assert torch_build.has_nvidia_gpu(tmp_path) is wanted
    for name in ("dev/nvidia0", "proc/driver/nvidia/gpus/0000:01:00.0"):
        root = tmp_path / name.replace("/", "_")
        (root / name).mkdir(parents=True)
        assert torch_build.has_nvidia_gpu(root)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Example One (UUID: GPU-1)'\necho 'GPU 1: Two'\n")
    assert nvidia_gpus(tmp_path) == ["Example One", "Two"]
    monkeypatch.setattr(torch_build, "has_nvidia_gpu", lambda: True)
    assert torch_build.main() == 0
    assert capsys.readouterr() == ("", "NVIDIA GPU found: torch is installed with CUDA.\n")


def test_what_make_prints(index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout stand pip's requirements alone; the folder may also come as an option."""
    folder = index(*CPU.items())
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setattr(torch_build, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(torch_build.platform, "system", lambda: "Linux")
    torch_build.main(["--no-index", "--find-links", str(folder)])
    assert capsys.readouterr() == (
        " ".join(f"{name}=={version}" for name, version in CPU.items()) + "\n",
        "No NVIDIA GPU here: torch is installed without CUDA.\n",
    )
    monkeypatch.setattr(torch_build.platform, "system", lambda: "Darwin")
    assert (torch_build.main(), capsys.readouterr()) == (0, ("", ""))


def dry_run(*arguments: str) -> str:
    """Return what a goal would run in a new environment."""
    command = ["make", "-n", *arguments, "VENV=none"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_goals_install_what_they_need() -> None:
    """`make rpi` asks which torch fits and leaves TensorRT, QAT and developers' packages out; a named index wins."""
    assert "$(none/bin/python -m scripts.torch_build) -e '.[host,ssh,camera,mqtt,mnn,nightly]'" in dry_run("rpi")
    assert ",jetson]'" in dry_run("jetson")
    assert ",jetson,qat,mlflow,docs,dev]'" in dry_run("install")
    named = dry_run("rpi", "TORCH_INDEX=file:///packages")
    assert "--index-url file:///packages torch torchvision" in named
    assert "torch_build" not in named


def test_dockerfile_builds_from_a_folder_of_wheels(index: Index, tmp_path: Path) -> None:
    """Its command needs no network, fits the pins, and takes torch without CUDA where the folder has it."""
    pytest.importorskip("hatchling", reason="needs hatchling (extra dev)")
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]]
    here = [pin for pin in pins if not pin.marker or pin.marker.evaluate()]
    folder = index(*[(pin.name, str(pin.specifier)[2:]) for pin in here if pin.name not in PINS], *CPU.items())
    text = (ROOT / "Dockerfile").read_text()
    found = re.search(r"^RUN --mount=type=bind,target=/src,rw \\\n +(pip install .*?[^\\])\n", text, re.M | re.S)
    assert found
    assert not re.search(r"^(COPY|ADD) ", text, re.M), "a copy of the wheels would stay in a layer of the image"
    options = {"PIP_OPTIONS": f"--no-index --find-links {folder}", "PIP_REPORT": str(tmp_path / "report.json")}
    # Nothing is installed. `false` is how pip spells "no build isolation" in the environment.
    quiet = {"PIP_DRY_RUN": "1", "PIP_IGNORE_INSTALLED": "1", "PIP_NO_BUILD_ISOLATION": "false"}
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PIP_CONFIG_FILE": os.devnull, **options, **quiet}
    done = subprocess.run(["bash", "-c", found[1]], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    versions = {one["metadata"]["name"]: one["metadata"]["version"] for one in report["install"]}
    assert {"yolo-slim", "ultralytics", "asyncssh"} <= versions.keys()
    if not torch_build.has_nvidia_gpu():
        assert {name: versions[name] for name in CPU} == CPU
    assert not {"nvidia-modelopt", "tensorrt-rtx"} & versions.keys()


def test_sizes_of_this_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every package is in one part, and a goal is the sum of its packages."""
    install_sizes.main(["small=ssh", "large=ssh,dev", "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert record.keys() == RECORD.keys()
    packages = [name for part in record["parts"] for name in part["packages"]]
    assert len(packages) == len(set(packages))
    assert {"asyncssh", "cryptography"} <= set(packages)
    assert 0 < record["goals"]["small"]["mb"] < record["goals"]["large"]["mb"]
    assert "make small " in capsys.readouterr().out
    assert install_sizes.needed("pytest") >= {"pytest", "pluggy"}
    assert install_sizes.needed("no-such-package") == set()


def test_stated_sizes_are_the_record() -> None:
    """The sizes that make and the pages name are those of the record."""
    parts = {part["name"]: part["mb"] for part in RECORD["parts"]}
    rpi, everything = RECORD["goals"]["rpi"], RECORD["goals"]["install"]
    assert parts[install_sizes.CUDA] / 1000 == pytest.approx(prerequisites.CUDA_GB, abs=0.05)
    assert math.ceil(rpi["mb"] / 1000) == prerequisites.INSTALLED_GB
    page = (ROOT / "docs/installing.md").read_text(encoding="utf-8")
    for goal in RECORD["goals"].values():
        assert f"| {goal['mb'] / 1000:.1f} GB | {goal['without_cuda_mb'] / 1000:.1f} GB |" in page
    for name, mb in parts.items():
        assert f"| {name} | {mb} |" in page
    assert not any("modelopt" in name for name in RECORD["parts"][0]["packages"])
    assert everything["mb"] > rpi["mb"]


def test_named_pythons_are_those_of_the_page() -> None:
    """The package names exactly the Pythons of the page's table, and the oldest is its lowest bound."""
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    page = (ROOT / "docs/installing.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (3\.\d+) \|", page, re.M) == named
    assert f'requires-python = ">={named[0]}"' in PROJECT


def test_pins_fit_the_bounds() -> None:
    """No pin is a version that the package refuses; a bound that refuses one is found (negative control).

    The commands' types need click 8.5: an earlier one ends at the first import.
    """
    bounds = {one.name.lower(): one for one in map(Requirement, re.findall(r'"([A-Za-z][\w-]*>=[^"]+)"', PROJECT))}
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]]

    def refused(bounds: dict[str, Requirement]) -> list[str]:
        known = [pin for pin in pins if pin.name.lower() in bounds]
        assert len(known) > 20
        return [pin.name for pin in known if str(pin.specifier)[2:] not in bounds[pin.name.lower()].specifier]

    assert refused(bounds) == []
    assert refused({**bounds, "click": Requirement("click>=99")}) == ["click"]
    assert ["8.4.2" in bounds["click"].specifier, "8.5.0" in bounds["click"].specifier] == [False, True]


def test_every_python_has_one_pin_of_a_package() -> None:
    """A package with pins for several Pythons has exactly one for each of them."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]:
        pins.setdefault(Requirement(line).name, []).append(Requirement(line))
    for python in re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT):
        for name, several in pins.items():
            fitting = [pin for pin in several if not pin.marker or pin.marker.evaluate({"python_version": python})]
            assert len(fitting) == 1, (name, python)
    assert all(len(pins[name]) == 1 and not pins[name][0].marker for name in PINS)
