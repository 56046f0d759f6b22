"""The whole chain for a Jetson on a workstation: bundles, what is proven of them, and what is said to be unproven."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.cli import run_cli
from tests.helpers.constants import QUICK
from yolo_slim.files import read_json

pytestmark = pytest.mark.slow
BUILDS = ("tensorrt-fp16", "tensorrt-int8")


@pytest.fixture(scope="module")
def chain(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return the folder and exit code of a finished run."""
    project = tmp_path_factory.mktemp("project")
    given = ["--model", str(trained), "--data", str(signs), "--project", str(project), "--name", "jetson"]
    quick = [*QUICK, "--set", "quantize.images=32", "--set", "quantize.scan_images=2", "--device", "cpu"]
    code, _, err = run_cli(
        "run", *given, "--target", "jetson-orin-nano", "--imgsz", "96", "--prune", "0.3", "--epochs", "1", *quick
    )
    assert code in (1, 3), err
    return project / "jetson", code


@pytest.fixture(scope="module")
def result(chain: tuple[Path, int]) -> dict[str, Any]:
    """Return its result.json."""
    return dict(read_json(chain[0] / "validate" / "result.json"))


def test_no_jetson_no_pass(chain: tuple[Path, int], result: dict[str, Any]) -> None:
    """Without the device the verdict is never pass, and no speed is claimed."""
    assert result["verdict"]["status"] in ("fail", "unproven")
    assert not result["target"]["is_measured"]
    assert all(build["bench"] is None for build in result["builds"])
    speed = [gate for gate in result["verdict"]["gates"] if gate["name"] == "min_fps"]
    assert [gate["status"] for gate in speed] == ["unproven"]


def test_every_build_has_its_rung(result: dict[str, Any]) -> None:
    """fp16 and int8 are scored by their graphs here, which the rung says; fp16 costs next to nothing."""
    rungs = {rung["rung"]: rung for rung in result["ladder"]}
    assert list(rungs) == ["control", "pruned", "recovered", "onnx", *BUILDS]
    assert all("in ONNX Runtime" in rungs[name]["label"] for name in BUILDS)
    assert abs(rungs["tensorrt-fp16"]["drop"]) <= 0.003
    assert rungs["tensorrt-int8"]["worst_class"]["class_id"] in range(8)
    assert any("engine's own is unproven" in note for note in result["notes"])


def test_preflight_says_what_it_cannot_prove(result: dict[str, Any]) -> None:
    """Every build was checked ahead; latency and accuracy of an engine stay unproven."""
    for name in BUILDS:
        checks = {check["name"]: check["status"] for check in result["preflight"][name]["checks"]}
        assert "fail" not in checks.values()
        assert "unproven" in checks.values()


@pytest.mark.parametrize("name", BUILDS)
def test_bundle_has_all_that_the_device_needs(chain: tuple[Path, int], name: str) -> None:
    """The archive has graph, engine settings, requirements, provenance, self-check, wheel and a valid installer."""
    folder = chain[0] / "build" / "slim" / name
    spec = read_json(folder / "bundle.json")
    assert spec["engine"]["workspace_mb"] > 0
    assert spec["requires"]["sm"] == "8.7"
    assert spec["requires"]["packages"] == {"tensorrt": ">=8.6", "pycuda": ">=2025.1"}
    assert {"install.sh", "model.onnx", "selfcheck/expected.json"} <= spec["files"].keys()
    assert any(file.endswith(".whl") for file in spec["files"])
    assert ("calibration_sha256" in spec["provenance"]) == name.endswith("int8")
    subprocess.run(["bash", "-n", str(folder / "install.sh")], check=True)
    with tarfile.open(f"{folder}.tar.gz") as archive:
        assert f"{name}/install.sh" in archive.getnames()


def test_one_calibration_for_control_and_slim(chain: tuple[Path, int]) -> None:
    """Both graphs were calibrated on the same frozen images."""
    files = [chain[0] / "quantize" / kind / "calibration.json" for kind in ("control", "slim")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_too_few_calibration_images_are_found_before_training(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A target with int8 refuses a data set that can't calibrate it, before the first stage."""
    images = sorted((signs.parent / "images" / "train").iterdir())[:8]
    (tmp_path / "few.txt").write_text("\n".join(map(str, images)))
    content = yaml.safe_load(signs.read_text())
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({**content, "path": str(signs.parent), "train": str(tmp_path / "few.txt")}))
    given = ["--model", str(trained), "--data", str(data), "--project", str(tmp_path / "runs"), "--imgsz", "96"]
    code, _, err = run_cli("run", *given, "--target", "jetson-orin-nano")
    assert code == 2
    assert "8 training images to calibrate int8 on" in err
    assert not list((tmp_path / "runs").rglob("*.pt"))
