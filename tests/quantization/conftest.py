"""One exported detector and its calibration inputs, which all tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def exported(trained: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shipped yolo11n as an ONNX file of 128 px."""
    from yolo_slim.config.run import ExportConfig
    from yolo_slim.stages import export
    from yolo_slim.stages.context import Context

    context = Context.load(signs, imgsz=128)
    return export.run(trained, ExportConfig(parity_images=2), tmp_path_factory.mktemp("exported"), context).onnx


@pytest.fixture(scope="session")
def blobs(signs: Path) -> list[np.ndarray]:
    """Return 8 scenes as inputs (1, 3, 128, 128)."""
    from yolo_slim.datasets.description import load_dataset
    from yolo_slim.quantization.inputs import blobs

    return [blob.copy() for blob in blobs(load_dataset(signs).splits["train"][:8], 128)]
