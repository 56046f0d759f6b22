"""What a checkpoint must hold is asked when it is read, by every stage: names, strides, channels, finite weights."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import ClassificationModel, DetectionModel

from tests.helpers.cli import refused, run_cli
from yolo_slim.errors import SlimError
from yolo_slim.models import checkpoint

Change = Callable[[Any], object]


def changed(source: Path, path: Path, change: Change) -> Path:
    """Write the same checkpoint with a change of its network."""
    content = torch.load(source, weights_only=False)
    change(content["model"])
    torch.save(content, path)
    return path


def with_map(source: Path, path: Path, metrics: object) -> Path:
    """Write the same checkpoint with what its training measured."""
    torch.save({**torch.load(source, weights_only=False), "train_metrics": metrics}, path)
    return path


def number_by_text(model: Any) -> None:
    """Write class ids as text."""
    model.names = {str(number): name for number, name in model.names.items()}


def forget_stride(model: Any) -> None:
    """Remove what older files don't have."""
    del model.stride


def list_stride(model: Any) -> None:
    """Keep the strides in a list."""
    model.stride = model.stride.tolist()


def test_older_forms_are_read(trained: Path, tmp_path: Path) -> None:
    """A list of names, ids as text and a missing stride mean what Ultralytics takes them for."""
    plain = checkpoint.load(trained)

    def older(model: Any) -> None:
        model.names = list(model.names.values())
        forget_stride(model)

    loaded = checkpoint.load(changed(trained, tmp_path / "list.pt", older))
    assert (loaded.names, loaded.stride) == (plain.names, plain.stride)
    as_text = changed(trained, tmp_path / "text.pt", number_by_text)
    assert checkpoint.load(as_text).names == plain.names
    assert checkpoint.load(changed(trained, tmp_path / "strides.pt", list_stride)).stride == plain.stride


def test_classifier_without_stride(tmp_path: Path) -> None:
    """A classifier places no boxes: it needs no stride."""
    model = ClassificationModel("yolo11n-cls.yaml", nc=3, verbose=False)
    forget_stride(model)
    torch.save({"model": model, "train_args": {}}, tmp_path / "cls.pt")
    assert checkpoint.load(tmp_path / "cls.pt", ("classify",)).stride == 32


def set_stride(model: Any, value: object) -> None:
    """Change the strides that boxes are placed with."""
    forget_stride(model)
    model.model[-1].stride = value


def set_weight(model: Any, value: float) -> None:
    """Change one weight of the first convolution."""
    model.model[0].conv.weight.data[0, 0, 0, 0] = value


def set_variance(model: Any, value: float) -> None:
    """Change the variances of two channels."""
    model.model[0].bn.running_var[:2] = value


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda m: set_stride(m, torch.zeros(3)), ["has no stride"]),
        (lambda m: set_stride(m, None), ["has no stride"]),
        (lambda m: m.names.pop(7), ["names lists 7 classes, the head has 8"]),
        (lambda m: m.names.update({8: "more"}), ["names lists 9 classes, the head has 8"]),
        (lambda m: setattr(m.model[-1], "nc", 9), ["names lists 8 classes, the head has 9"]),
        (lambda m: m.names.update({3: " \t"}), [r"class 3 has the name ' \t'"]),
        (lambda m: m.names.update({3: "", 5: ""}), ["class 3 has the name ''", "class 5 has the name ''"]),
        (lambda m: setattr(m, "names", None), ["got None; expected a mapping"]),
        (lambda m: setattr(m, "names", {"a": "b"}), ["got {'a': 'b'}; expected a mapping"]),
        (lambda m: setattr(m, "names", {i + 1: str(i) for i in range(8)}), ["expected 0 to 7 without gaps"]),
        (lambda m: set_weight(m, math.nan), ["model.0.conv.weight: 1 of 432 values are NaN or infinite"]),
        (lambda m: set_weight(m, math.inf), ["model.0.conv.weight: 1 of 432 values are NaN or infinite"]),
        (lambda m: set_weight(m.float(), -math.inf), ["model.0.conv.weight: 1 of 432"]),
        (lambda m: set_variance(m, math.nan), ["model.0.bn.running_var: 2 of 16 values are NaN"]),
        (lambda m: set_variance(m, -0.5), ["model.0.bn.running_var: 2 of 16 variances are negative"]),
    ],
)
def test_unsound_networks_are_refused(trained: Path, tmp_path: Path, change: Change, parts: list[str]) -> None:
    """Each is named at the door, with the layers or classes, by a command that would only read the file."""
    code, out, err = run_cli("show", str(changed(trained, tmp_path / "bad.pt", change)))
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert not [part for part in ["bad.pt", *parts] if part not in err], err


def test_chain_refuses_unsound_networks(trained: Path, signs: Path, tmp_path: Path) -> None:
    """The chain refuses before anything is made; a value that is only large passes (negative control)."""
    bad = changed(trained, tmp_path / "nan.pt", lambda m: set_weight(m, math.nan))
    assert "model.0.conv.weight" in refused(bad, signs, tmp_path)
    checkpoint.load(changed(trained, tmp_path / "large.pt", lambda m: set_weight(m, 60000.0)))


def test_what_a_stage_wrote_is_checked(trained: Path, tmp_path: Path) -> None:
    """Weights that a stage of ours wrote pass through the same door."""
    loaded = checkpoint.load(trained)
    set_weight(loaded.model, math.nan)
    checkpoint.save(tmp_path / "pruned.pt", loaded, loaded.model)
    with pytest.raises(SlimError, match=r"pruned\.pt has weights that are no numbers"):
        checkpoint.load(tmp_path / "pruned.pt")


@pytest.mark.parametrize("key", ["channels", "ch", None])
def test_one_channel(tmp_path: Path, key: str | None) -> None:
    """A network of grey images is refused whatever its description says: the first convolution's weights decide."""
    model = DetectionModel("yolov8n.yaml", ch=1, nc=2, verbose=False)
    model.yaml.pop("channels")
    if key:
        model.yaml[key] = 1
    torch.save({"model": model, "train_args": {}}, tmp_path / "grey.pt")
    code, _, err = run_cli("show", str(tmp_path / "grey.pt"))
    assert (code, "takes images of 1 channel;" in err) == (2, True), err


def test_description_of_other_channels(trained: Path, tmp_path: Path) -> None:
    """Ultralytics' exporter believes the description, so one that contradicts the weights is refused too."""
    path = changed(trained, tmp_path / "four.pt", lambda m: m.yaml.update(channels=4))
    code, _, err = run_cli("show", str(path))
    assert (code, "takes images of 4 channels;" in err) == (2, True), err


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"metrics/mAP50-95(B)": 0.5, "fitness": 0.5}, 0.5),
        ({"metrics/mAP50-95(B)": np.float64(0.25)}, 0.25),
        ({"metrics/mAP50-95(B)": math.nan}, None),
        ({"metrics/mAP50-95(B)": "0.5"}, None),
        ({"metrics/mAP50(B)": 0.5}, None),
        (None, None),
        ([0.5], None),
    ],
)
def test_map_of_the_training(trained: Path, tmp_path: Path, metrics: object, expected: float | None) -> None:
    """What the training of a checkpoint measured is told where it is a number, and is None elsewhere."""
    assert checkpoint.load(with_map(trained, tmp_path / "best.pt", metrics)).trained_map50_95 == expected


def test_metrics_stay_with_their_weights(trained: Path, tmp_path: Path) -> None:
    """Other weights don't inherit a figure; those that a training left have that training's own."""
    original = checkpoint.load(with_map(trained, tmp_path / "a.pt", {"metrics/mAP50-95(B)": 0.5}))
    checkpoint.save(tmp_path / "pruned.pt", original, original.model)
    assert checkpoint.load(tmp_path / "pruned.pt").trained_map50_95 is None
    trainer = {"metrics/mAP50-95(B)": np.float64(0.75), "fitness": math.nan}
    left = checkpoint.load(with_map(trained, tmp_path / "b.pt", trainer))
    checkpoint.save(tmp_path / "recovered.pt", original, left.model, left)
    recovered = checkpoint.load(tmp_path / "recovered.pt")
    assert recovered.metadata["train_metrics"] == {"metrics/mAP50-95(B)": 0.75}
    assert type(recovered.trained_map50_95) is float


def test_metadata_of_any_kind(trained: Path, tmp_path: Path) -> None:
    """Training arguments that aren't a mapping, as of older files, don't matter to the weights."""
    loaded = checkpoint.load(trained)
    for args, expected in ((torch.zeros(2), {}), ("epochs=3", {}), (argparse.Namespace(imgsz=160), {"imgsz": 160})):
        older = replace(loaded, metadata={**loaded.metadata, "train_args": args})
        checkpoint.save(tmp_path / "saved.pt", older, loaded.model)
        assert checkpoint.load(tmp_path / "saved.pt").metadata["train_args"] == expected


@pytest.mark.parametrize("value", [{"model": torch.nn.Linear(2, 2)}, {"model": 3}, {"model": DetectionModel}, [1], {}])
def test_other_files_of_torch(tmp_path: Path, value: object) -> None:
    """Whatever torch can save, and what isn't a detector's checkpoint, is one message."""
    torch.save(value, tmp_path / "other.pt")
    code, _, err = run_cli("show", str(tmp_path / "other.pt"))
    assert (code, "not an Ultralytics checkpoint" in err) == (2, True), err
