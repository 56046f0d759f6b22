"""Fixtures: a tiny bundle, a copy of it to spoil, images and the command line in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import tiny_detector

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
