"""The functions that the package itself offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.constants import ROOT

CALLABLE = "print([name for name in yolo_slim.__all__ if name[0] != '_' and not callable(getattr(yolo_slim, name))])"


@pytest.mark.parametrize("first", ["import yolo_slim.export.builds", "import yolo_slim; yolo_slim.export"])
def test_functions_stay_functions(first: str) -> None:
    """The subpackage ``export`` doesn't replace the function of that name, whatever is imported first."""
    code = f"import yolo_slim; {first}; {CALLABLE}; import yolo_slim.export.onnx; {CALLABLE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["[]", "[]"], done.stderr
