"""Fixtures: a tiny bundle, a copy of it to spoil, images and the command line in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from tests.helpers import tiny_detector

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025\n"
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an onnxruntime bundle; don't change it."""
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_detector.build_bundle(
        tiny_detector.write_onnx(folder / "tiny.onnx"), folder / "bundle", "onnxruntime"
    ).folder


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return an image of 128 x 192 with a red and a blue square."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), tiny_detector.scene(128, 192))
    return path


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Return a function that runs the device's command line in a process of its own, in ``tmp_path``."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "yolo_slim.runtime", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no timing of this process be judged by what else runs on the machine, which a test can't choose."""
    monkeypatch.setattr("yolo_slim.runtime.bench.busy_reasons", lambda _: [])


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a Jetson's files and its nvpmodel on PATH."""
    files = {
        "etc/nv_tegra_release": RELEASE,
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/meminfo": "MemTotal:        7620000 kB\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
        "sys/class/hwmon/hwmon0/oc1_event_cnt": "2\n",
        "sys/class/hwmon/hwmon0/oc3_event_cnt": "1\n",
        "sys/class/thermal/thermal_zone0/temp": "51234\n",
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "3\n",
        "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
        "sys/class/thermal/cooling_device1/cur_state": "0\n",
        "bin/nvpmodel": "#!/bin/sh\nprintf 'NV Power Mode: MAXN_SUPER\\n2\\n'\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin/nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr("yolo_slim.machine.ROOT", tmp_path)
    return tmp_path
