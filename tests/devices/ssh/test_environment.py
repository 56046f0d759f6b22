"""The environment that a device gets: what it needs, which wheels fit, and an install without a network."""

from __future__ import annotations

import ensurepip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.listeners import Remembers
from yolo_slim.config import targets
from yolo_slim.devices.ssh.address import Address
from yolo_slim.devices.ssh.packages import Needs, needs_of, platform_tags
from yolo_slim.devices.ssh.session import Session
from yolo_slim.devices.ssh.shell import SshShell
from yolo_slim.errors import SlimError

Staged = Callable[..., Address]
ABOUT = {"arch": "aarch64", "libc": ["glibc", "2.36"], "host": "pi", "python": "3.11.2"}


def test_needs_of_a_pi() -> None:
    """Each runtime brings its package with the profile's version, and all need NumPy and OpenCV."""
    needs = needs_of(["onnxruntime", "ncnn"], targets.load("rpi5").sdk, "3.11.2")
    assert dict(needs.modules) == {
        "numpy": "numpy>=1.24",
        "cv2": "opencv-python-headless>=4.8",
        "ncnn": "ncnn>=1.0.20240820",
        "onnxruntime": "onnxruntime>=1.18",
    }
    assert not needs.sees_system


def test_a_module_may_have_another_name_than_its_runtime() -> None:
    """MNN's package is called by capitals."""
    assert needs_of(["mnn"], {"MNN": ">=3.6"}, "3.11.2").modules["MNN"] == "MNN>=3.6"


def test_needs_of_a_jetson() -> None:
    """TensorRT is the system's, so the environment sees the system's packages."""
    needs = needs_of(["tensorrt"], targets.load("jetson-orin-nano").sdk, "3.10.12")
    assert needs.sees_system
    assert set(needs.modules) == {"numpy", "cv2", "pycuda.driver"}


def test_another_python_is_another_environment() -> None:
    """An environment of a Python that was replaced isn't used."""
    old, new = (needs_of(["ncnn"], {}, python) for python in ("3.11.2", "3.13.1"))
    assert old.key != new.key
    assert old.key == needs_of(["ncnn"], {}, "3.11.2").key


def test_platforms_of_a_device() -> None:
    """The wheels of a device's C library and of every older one fit."""
    tags = platform_tags(ABOUT)
    assert tags[0] == "manylinux_2_36_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} < set(tags)
    assert "manylinux_2_39_aarch64" not in tags
    with pytest.raises(SlimError, match="no glibc"):
        platform_tags({**ABOUT, "libc": ["", ""]})


def wheel(folder: Path, package: str, module: str) -> None:
    """Write a package that contains one empty module."""
    info = f"{package}-9.0.dist-info"
    with zipfile.ZipFile(folder / f"{package}-9.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{module}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def collected(cache: Path, needs: Needs, arch: str) -> None:
    """Write the wheels that an earlier download left."""
    folder = cache / f"{needs.key}-{arch}"
    folder.mkdir(parents=True)
    (bundled,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    shutil.copy(bundled, folder)
    for package, module in [("numpy", "numpy"), ("opencv_python_headless", "cv2"), ("onnxruntime", "onnxruntime")]:
        wheel(folder, package, module)


def test_install_without_a_network(staged: Staged, tmp_path: Path) -> None:
    """A device without network and without pip gets its environment from wheels that are sent; later it is there."""
    address = staged("import importlib.util; importlib.util.find_spec = lambda *_: None")
    said = []
    for _ in range(2):
        listener = Remembers()
        session = Session(address=address, progress=listener)
        shell = SshShell(session, versions={}, offline=True, cache=tmp_path / "cache")
        try:
            shell.open()
            needs = needs_of(["onnxruntime"], {}, shell.about["python"])
            if not (tmp_path / "cache").exists():
                collected(tmp_path / "cache", needs, shell.about["arch"])
            shell.prepare(frozenset(["onnxruntime"]))
        finally:
            shell.close()
        said.append("first contact" in listener.said)
    assert said == [True, False]
    folder = Path(address.folder)
    (installed,) = folder.glob("env/*/lib/python3*/site-packages")
    assert {"cv2.py", "numpy.py", "onnxruntime.py"} <= {path.name for path in installed.iterdir()}
    # What only the installation needed is gone.
    assert not list(folder.glob("wheels/*"))


def test_an_unfinished_environment_is_made_again(staged: Staged, tmp_path: Path) -> None:
    """A folder without its mark is no environment."""
    address = staged("import importlib.util; importlib.util.find_spec = lambda *_: None")
    shell = SshShell(Session(address=address), versions={})
    try:
        shell.open()
        key = needs_of(["onnxruntime"], {}, shell.about["python"]).key
        half = Path(address.folder) / "env" / key / "bin/python"
        half.parent.mkdir(parents=True)
        half.write_text("half")
        with pytest.raises(SlimError, match="no pip"):
            shell.prepare(frozenset(["onnxruntime"]))
    finally:
        shell.close()
    assert not half.exists()
