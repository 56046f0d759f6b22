"""install.sh of a Jetson bundle: what it does, in which order, and how it stops."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from yolo_slim.backends import extra_files
from yolo_slim.bundle import BundleSpec, read_spec

PYTHON = """#!/bin/bash
# A python3 that notes what it is asked and fails where FAIL matches it.
echo "python $*" >>"$LOG"
[[ -n "${FAIL:-}" && "$*" == *"$FAIL"* ]] && exit 1
if [[ "$*" == *" venv "* ]]; then
  mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python"
fi
exit 0
"""
UNAME = '#!/bin/sh\necho "${MACHINE:-aarch64}"\n'


@pytest.fixture
def run(make_bundle: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """Return a function that runs a bundle's script among fake programs: exit code, errors, what was asked."""
    bundle = make_bundle("int8")
    for name, text in extra_files(read_spec(bundle)).items():
        (bundle / name).write_text(text)
    (bundle / "yolo_slim-0.1.0-py3-none-any.whl").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "cuda/include").mkdir(parents=True)
    (tmp_path / "cuda/include/cuda.h").touch()
    for name, text in {"python3": PYTHON, "uname": UNAME}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    log = tmp_path / "log"

    def script(**variables: str) -> tuple[int, str, list[str]]:
        log.write_text("")
        paths = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": paths, "LOG": str(log), "CUDA": str(tmp_path / "cuda"), **variables}
        command = ["bash", str(bundle / "install.sh")]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stderr, log.read_text().splitlines()

    return script


def test_order(run: Callable[..., tuple[int, str, list[str]]]) -> None:
    """One command makes the environment, installs, builds, checks and times, in this order."""
    code, errors, asked = run()
    assert (code, errors) == (0, "")
    steps = [line for line in asked if " -c " not in line]
    assert steps == [
        "python -m venv --system-site-packages .venv",
        "python -m pip install --quiet ./yolo_slim-0.1.0-py3-none-any.whl",
        "python -m yolo_slim.runtime build .",
        "python -m yolo_slim.runtime check .",
        "python -m yolo_slim.runtime bench . --json bench.json",
    ]


def test_second_run_keeps_the_environment(run: Callable[..., tuple[int, str, list[str]]]) -> None:
    """Running it again makes no second environment."""
    run()
    assert not any(" venv " in line for line in run()[2])


def test_half_made_environment_is_made_again(run: Callable[..., tuple[int, str, list[str]]]) -> None:
    """Where python3-venv was missing, the first try leaves a Python without pip; the next one doesn't take it."""
    run()
    asked = run(FAIL="import pip, tensorrt")[2]
    assert "python -m venv --system-site-packages .venv" in asked


def test_own_environment_is_left_alone(run: Callable[..., tuple[int, str, list[str]]], tmp_path: Path) -> None:
    """A user's own VENV that can't serve is named; one that isn't there yet is made."""
    own = str(tmp_path / "own")
    assert f"python -m venv --system-site-packages {own}" in run(VENV=own)[2]
    code, errors, asked = run(VENV=own, FAIL="import pip, tensorrt")
    assert (code, "leave VENV out" in errors, any(" venv " in line for line in asked)) == (1, True, False)


def test_missing_pycuda_is_compiled(run: Callable[..., tuple[int, str, list[str]]]) -> None:
    """PyCUDA is installed only where it is missing, pinned."""
    asked = run(FAIL="import pycuda")[2]
    assert any(line.startswith("python -m pip install --quiet pycuda==") for line in asked)


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("import tensorrt", "sudo apt install python3-libnvinfer"),
        ("sys.version_info", "JetPack 6.0 or newer"),
        ("venv", "sudo apt install python3-venv"),
        ("./yolo_slim-", "wheel of this folder can't be installed"),
        ("runtime build", "engine/build.log"),
        ("runtime check", "detections differ"),
        ("runtime bench", "the timing doesn't count"),
    ],
)
def test_stops_at_the_first_failure(run: Callable[..., tuple[int, str, list[str]]], failing: str, message: str) -> None:
    """Whatever fails is the last thing tried, with one line that says what to do, and exit code 1."""
    code, errors, asked = run(FAIL=failing)
    assert code == 1
    assert failing in asked[-1]
    (line,) = errors.splitlines()
    assert line.startswith("install.sh: ")
    assert message in line


def test_other_machine(run: Callable[..., tuple[int, str, list[str]]]) -> None:
    """On another machine than a Jetson nothing is tried."""
    code, errors, asked = run(MACHINE="x86_64")
    assert (code, asked) == (1, [])
    assert "this machine is x86_64" in errors


def test_without_cuda_toolkit(run: Callable[..., tuple[int, str, list[str]]], tmp_path: Path) -> None:
    """Without CUDA's headers PyCUDA isn't even tried and the package to install is named."""
    code, errors, asked = run(FAIL="import pycuda", CUDA=str(tmp_path / "nothing"))
    assert code == 1
    assert "sudo apt install nvidia-jetpack" in errors
    assert not any("pip install --quiet pycuda" in line for line in asked)


def test_names_are_harmless(make_bundle: Callable[..., Path]) -> None:
    """A bundle's name can't smuggle commands into the script."""
    from dataclasses import replace

    spec: BundleSpec = replace(read_spec(make_bundle()), name='x"; touch /tmp/evil; $(id) `id`')
    (text,) = extra_files(spec).values()
    assert "touch /tmp" not in text
    assert "$(id)" not in text


def test_other_runtimes_have_no_extra_files(make_bundle: Callable[..., Path]) -> None:
    """Only TensorRT bundles contain a script."""
    from dataclasses import replace

    assert extra_files(replace(read_spec(make_bundle()), runtime="ncnn")) == {}


def test_syntax(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    """Bash parses the script, and shellcheck has nothing to say where it is installed."""
    script = tmp_path / "install.sh"
    script.write_text(extra_files(read_spec(make_bundle()))["install.sh"])
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("bash -n passed; needs shellcheck for the rest")
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_wheel_contains_the_backend(tmp_path: Path) -> None:
    """The wheel in a bundle has every module of the TensorRT backend."""
    from yolo_slim.devices import device_wheel

    names = zipfile.ZipFile(device_wheel.write(tmp_path)).namelist()
    sources = Path(device_wheel.__file__).parents[1] / "backends" / "tensorrt"
    wanted = {f"yolo_slim/backends/tensorrt/{path.name}" for path in sources.glob("*.py")}
    assert len(wanted) == 8
    assert wanted | {"yolo_slim/runtime/build_engine.py"} <= set(names)
