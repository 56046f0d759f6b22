"""Smaller models of a network's family: Ultralytics' own scales of it, such as yolov8n of a yolov8s."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from yolo_slim.models.ultralytics import prepare_ultralytics

SCALES = "tnsmbclex"
"""Ultralytics' letters for the scales of all families, the smallest first."""
NAME = re.compile(rf"(yolov?\d+)([{SCALES}])(-.+)?")
"""Name of a model's yaml: family, scale and variant (``yolov8s-ghost``)."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A network among the models of its family."""

    name: str
    """Of the network: ``yolov8s``."""
    smaller: Mapping[str, Callable[[], nn.Module]]
    """Name of each smaller model to what builds it, without trained weights and for the same classes; the largest
    first. Empty: it is the smallest."""


def family_of(model: nn.Module) -> Family | None:
    """The family of an Ultralytics detector; None: its yaml is none of Ultralytics'."""
    yaml: Mapping[str, Any] = getattr(model, "yaml", {})
    name = Path(str(yaml.get("yaml_file", ""))).stem
    found = NAME.fullmatch(name)
    if found is None:
        return None
    family, scale, variant = found[1], found[2], found[3] or ""
    known = _scaled(yaml) if len(yaml.get("scales") or {}) > 1 else _stock(family, variant)
    if scale not in known:
        return None
    below = [letter for letter in reversed(SCALES[: SCALES.index(scale)]) if letter in known]
    return Family(
        name=name, smaller={f"{family}{letter}{variant}": _builder(known[letter], yaml) for letter in below}
    )  # fmt: skip


def _scaled(yaml: Mapping[str, Any]) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """The scales that a yaml has itself, each as the yaml of that scale."""
    return {letter: lambda letter=letter: {**yaml, "scale": letter} for letter in yaml["scales"]}  # type: ignore[misc]


def _stock(family: str, variant: str) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """The scales of a family that has a yaml for each (yolov9, yolov10)."""
    prepare_ultralytics()
    from ultralytics import cfg
    from ultralytics.nn.tasks import yaml_model_load

    files = (Path(cfg.__file__).parent / "models").rglob(f"{family}?{variant}.yaml")
    letters = {path.stem.removesuffix(variant)[-1]: path for path in files}
    return {letter: lambda path=path: yaml_model_load(path) for letter, path in letters.items()}  # type: ignore[misc]


def _builder(described: Callable[[], Mapping[str, Any]], yaml: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Build a network of a yaml for the classes and channels of another one."""

    def build() -> nn.Module:
        from ultralytics.nn.tasks import DetectionModel

        same = {key: yaml[key] for key in ("nc", "channels", "activation") if key in yaml}
        return (
            DetectionModel({**described(), **same}, ch=yaml.get("channels", 3), verbose=False)
            .eval()
            .requires_grad_(False)
        )

    return build
