"""Label files, read as Ultralytics reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yolo_slim.datasets.labels import read_labels


def test_labels(tmp_path: Path) -> None:
    """Polygons become boxes, repeated rows are dropped, a missing file is a background."""
    path = tmp_path / "a.txt"
    path.write_text("1 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    assert read_labels(path).tolist() == [[1, 0.5, 0.5, 0.2, 0.4]]
    path.write_text("0 0.1 0.1 0.3 0.1 0.3 0.5\n")
    assert np.allclose(read_labels(path), [[0, 0.2, 0.3, 0.2, 0.4]])
    assert read_labels(tmp_path / "none.txt").shape == (0, 5)
