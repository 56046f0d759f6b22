"""What a network must be before anything is made of it: named classes, strides, three channels, finite weights.

Older checkpoints are brought to today's form first, as Ultralytics' own reader does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_slim.errors import SlimError
from yolo_slim.models.class_names import name_problems


def modernise(model: nn.Module) -> None:
    """Change what older Ultralytics versions stored in another form: names in a list, no ``stride`` of the model.

    What can't be understood stays as it is; :func:`require_sound` refuses it.
    """
    names = getattr(model, "names", None)
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if isinstance(names, Mapping) and all(str(key).isdecimal() for key in names):
        # As in Ultralytics: ids may be text, and names of other types become text.
        model.names = {int(key): str(name) for key, name in names.items()}  # type: ignore[assignment]
    stride = getattr(model, "stride", None)
    strides = _strides(stride) or _strides_of_head(_head(model))
    if strides and not isinstance(stride, torch.Tensor):
        model.stride = torch.tensor(strides)


def require_sound(path: Path, model: nn.Module) -> None:
    """Raise for a network that later stages would fail on, or that can't detect anything.

    Raises:
        SlimError: no strides, other images than three-channel ones, class names that are missing, empty or not as many
            as the head's outputs, or weights that aren't finite.
    """
    _require_strides(path, model)
    _require_three_channels(path, model)
    _require_names(path, model)
    _require_finite(path, model)


def _head(model: nn.Module) -> Any:
    """The last layer, which makes the outputs."""
    return model.model[-1]  # type: ignore[index]


def _strides_of_head(head: Any) -> list[float]:
    """The strides that boxes are placed with; a classifier places none, and Ultralytics gives it 1."""
    return _strides(head.stride) if hasattr(head, "stride") else [1.0]


def _strides(value: Any) -> list[float]:
    """The pixels of each level's cell; empty where they are missing or impossible."""
    try:
        found = torch.as_tensor(value, dtype=torch.float32).flatten().tolist()
    except (TypeError, ValueError, RuntimeError):
        return []
    return found if all(math.isfinite(stride) and stride >= 1 for stride in found) else []


def _require_strides(path: Path, model: nn.Module) -> None:
    if _strides_of_head(_head(model)) and _strides(getattr(model, "stride", None)):
        return
    raise SlimError(
        f"{path} has no stride: how many pixels a cell of each output stands for is missing or impossible.",
        remedy="Give the checkpoint as Ultralytics' training saved it (weights/best.pt).",
    )


def _require_three_channels(path: Path, model: nn.Module) -> None:
    first = _read_by_first_layer(model)
    described = getattr(model, "yaml", None)
    # The weights are the fact; Ultralytics' exporter believes the description (an earlier version called it `ch`).
    said = described.get("channels", first) if isinstance(described, Mapping) else first
    channels = first if first != 3 else said
    if channels != 3:
        raise SlimError(
            f"{path} takes images of {channels} channel{'s' * (channels != 1)}; "
            "yolo_slim reads three, blue, green and red.",
            remedy="Train a model on three-channel images (grey images count: they are read as three equal channels).",
        )


def _read_by_first_layer(model: nn.Module) -> int:
    """How many channels the first layer's weights read; 3 where it is none of Ultralytics' usual ones."""
    layer = next(iter(_layers(model)), None)
    convolution = next((part for part in layer.modules() if isinstance(part, nn.Conv2d)), None) if layer else None
    # Focus puts four neighbouring pixels on top of each other before it convolves.
    pixels = {"Conv": 1, "Focus": 4}.get(type(layer).__name__)
    return int(convolution.weight.shape[1]) // pixels if convolution and pixels else 3


def _layers(model: nn.Module) -> Iterable[nn.Module]:
    layers = getattr(model, "model", None)
    return layers if isinstance(layers, nn.Sequential) else ()


def _require_names(path: Path, model: nn.Module) -> None:
    names, outputs = getattr(model, "names", None), _outputs(_head(model))
    if not isinstance(names, Mapping) or not all(isinstance(key, int) for key in names):
        problems = [f"names: got {names!r}; expected a mapping of class id to name"]
    else:
        problems = name_problems(names)
        problems += [f"names lists {len(names)} classes, the head has {n}" for n in outputs if n != len(names)]
    if problems:
        raise SlimError(
            f"{path}: its class names can't be used.",
            culprits=problems,
            remedy="Name every class in the data.yaml and train again, or correct `names` of the model in the file: "
            "torch.load(FILE, weights_only=False), then torch.save.",
        )


def _outputs(head: Any) -> list[Any]:
    """How many classes a head scores: what it says, and what its weights say where that differs."""
    linear, branches = getattr(head, "linear", None), getattr(head, "cv3", None)
    layers = [linear] if linear is not None else list(branches[0].modules()) if branches else []
    rows = [layer.weight.shape[0] for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)][-1:]
    said = [head.nc] if hasattr(head, "nc") else []
    return list(dict.fromkeys(said + rows))


def _require_finite(path: Path, model: nn.Module) -> None:
    if culprits := list(_bad_values(model)):
        raise SlimError(
            f"{path} has weights that are no numbers to compute with.",
            culprits=culprits,
            remedy="The training diverged, or half precision overflowed, or the file was damaged. "
            "Give the checkpoint of an earlier epoch, or train again.",
        )


def _bad_values(model: nn.Module) -> Iterator[str]:
    """Each weight or statistic that holds NaN, infinity or a negative variance, and how many of them."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point() or not value.numel():
            continue
        # In float32, as every stage computes.
        value = value.float()
        # A NaN makes both of them NaN. Asking every value takes ten times as long.
        least, most = value.aminmax()
        if not torch.isfinite(torch.stack([least, most])).all():
            yield f"{name}: {int((~torch.isfinite(value)).sum())} of {value.numel()} values are NaN or infinite"
        elif name.endswith("running_var") and least < 0:
            yield f"{name}: {int((value < 0).sum())} of {value.numel()} variances are negative"
