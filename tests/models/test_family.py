"""The smaller models of a network's family, by its yaml or by Ultralytics' files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo_slim.models import checkpoint
from yolo_slim.models.family import family_of
from yolo_slim.models.macs import measure


@pytest.mark.parametrize(
    ("name", "smaller"),
    [
        ("yolov8s", ["yolov8n"]),
        ("yolov9s", ["yolov9t"]),
        ("yolov10s", ["yolov10n"]),
        ("yolo11n", []),
        ("yolov9t", []),
    ],
)
def test_smaller_models(name: str, smaller: list[str], untrained: Callable[[str], Path]) -> None:
    """They have fewer MACs, and the network's own classes."""
    model: Any = checkpoint.load(untrained(name)).model
    found = family_of(model)
    assert found is not None
    assert (found.name, list(found.smaller)) == (name, smaller)
    for build in found.smaller.values():
        other: Any = build()
        assert other.model[-1].nc == model.model[-1].nc != 80
        assert measure(other, 64).macs < 0.6 * measure(model, 64).macs


@pytest.mark.parametrize("yaml_file", ["", "mine.yaml", "yolov8.yaml", "yolov8q.yaml", "resnet50s.yaml"])
def test_unknown_family(yaml_file: str, small: Path) -> None:
    """A yaml that isn't Ultralytics' says nothing of smaller models; one of a known name does (control)."""
    model: Any = checkpoint.load(small).model
    model.yaml |= {"yaml_file": yaml_file}
    assert family_of(model) is None
    model.yaml |= {"yaml_file": "yolov8s.yaml", "scales": {"n": [1.0, 0.5, 1024], "s": [1.0, 1.0, 1024]}}
    assert family_of(model) is not None
