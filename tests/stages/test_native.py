"""What we write are plain Ultralytics checkpoints: no yolo_slim needed to validate and export them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import FAMILIES
from yolo_slim import checkpoint
from yolo_slim.config import PruneConfig, RecoverConfig
from yolo_slim.data import load_dataset, write_absolute_yaml
from yolo_slim.stages import prune, recover

BARE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("yolo_slim", "torch_pruning"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from ultralytics import YOLO
for weights in sys.argv[2:]:
    model = YOLO(weights)
    model.val(data=sys.argv[1], imgsz=64, batch=8, plots=False, workers=0, verbose=False, project=sys.argv[1] + "_val")
    exported = YOLO(weights).export(format="onnx", imgsz=64, simplify=False)
    print("EXPORTED", exported)
try:
    import yolo_slim
except ImportError:
    print("BLOCKED")
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_bare_ultralytics(family: str, untrained: Callable[[str], Path], signs: Path, tmp_path: Path) -> None:
    """Training keeps the widths, and YOLO(x).val() and .export() work on pruned.pt and recovered.pt on their own."""
    model = untrained(family)
    pruned = prune.run(
        prune.PruneInputs(model=model, data=signs),
        PruneConfig(macs_removed=0.5, rounds=1, images=4, bn_images=8),
        tmp_path / "prune",
        imgsz=64,
    )
    recovered = recover.run(
        recover.RecoverInputs(weights=pruned.weights, teacher=model, data=signs),
        RecoverConfig(epochs=1, device="cpu", overrides={"workers": 0}),
        tmp_path / "recover",
        imgsz=64,
    )
    before, after = checkpoint.load(pruned.weights).model, checkpoint.load(recovered.weights).model
    assert prune.conv_widths(before) == prune.conv_widths(after) != prune.conv_widths(checkpoint.load(model).model)
    data = write_absolute_yaml(load_dataset(signs), tmp_path / "data.yaml")
    command = [sys.executable, "-c", BARE, str(data), str(pruned.weights), str(recovered.weights)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("EXPORTED") == 2
    assert "BLOCKED" in done.stdout
