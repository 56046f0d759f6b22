from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT
from yolo_slim.devices import device_wheel

FILES = [
    path
    for pattern in device_wheel.MODULES
    for path in sorted((ROOT / "yolo_slim").glob(pattern))
    if path.suffix == ".py"
]
"""What the wheel in a bundle contains."""
BLOCKED = {
    *("torch", "torchvision", "torch_pruning", "ultralytics"),
    *("onnx", "onnxslim", "onnxruntime", "ncnn", "pnnx", "tensorrt", "tensorrt_rtx", "pycuda", "MNN"),
    *("pydantic", "yaml", "click", "rich", "psutil", "pycocotools", "matplotlib", "jinja2"),
    *("scipy", "pandas", "PIL", "requests", "aiohttp", "paho"),
}
BARE = f"""
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocker())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_bare(*names: str) -> subprocess.CompletedProcess[str]:
    """Import modules in a process where only the standard library, NumPy and OpenCV are to be had."""
    command = [sys.executable, "-c", BARE, *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_device_half_imports_bare() -> None:
    """Every module that runs on a device imports with NumPy and OpenCV alone."""
    names = [module_name(path) for path in FILES]
    assert {"yolo_slim.runtime.__main__", "yolo_slim.backends.ncnn"} <= set(names)
    done = import_bare(*names)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["onnxruntime", "onnx.helper", "yaml", "torch"])
def test_blocker_blocks(name: str) -> None:
    """Negative control: what is blocked can't be imported there, and can be here."""
    assert f"blocked: {name.split('.')[0]}" in import_bare(name).stderr
    available = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, timeout=60, check=False)
    assert available.returncode == 0


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_syntax_is_python_310(path: Path) -> None:
    """A Jetson's Python 3.10 can parse every module of the device half."""
    assert ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10)).body


def test_older_syntax_check_bites() -> None:
    """Negative control: syntax newer than 3.10 is found."""
    with pytest.raises(SyntaxError):
        ast.parse("try: pass\nexcept* ValueError: pass", feature_version=(3, 10))
