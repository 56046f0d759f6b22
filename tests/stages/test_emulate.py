"""When the emulate stage runs, and what it says where it doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.helpers.devices import FakeDevice
from tests.helpers.listeners import Remembers
from yolo_slim.build_key import BuildKey
from yolo_slim.config import targets
from yolo_slim.config.run import EmulateConfig, ValidateConfig
from yolo_slim.datasets.description import Dataset
from yolo_slim.errors import SlimError
from yolo_slim.measuring.emulated import emulated_keys
from yolo_slim.stages import emulate
from yolo_slim.stages.context import Context

NO_IMAGES = Dataset(yaml=Path("data.yaml"), root=Path(), names={0: "a"}, splits={})


@pytest.fixture(autouse=True)
def unprepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no system be prepared."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def said(target: str, mode: Literal["auto", "always", "never"], tmp_path: Path, *, is_target: bool = False) -> str:
    """Return what the stage says of a target that it doesn't emulate."""
    progress = Remembers()
    context = Context(
        dataset=NO_IMAGES, profile=targets.load(target), imgsz=64, progress=progress,
        device=FakeDevice(is_target=is_target),
    )  # fmt: skip
    assert emulate.run({}, EmulateConfig(mode=mode), ValidateConfig(), tmp_path / "emulate", context) is None
    assert not (tmp_path / "emulate").exists()
    return progress.said


def test_preparation_is_offered(tmp_path: Path) -> None:
    """A Pi that isn't there and isn't prepared: one line with the command."""
    line = said("rpi4", "auto", tmp_path)
    assert line.count("\n") == 1
    assert "`yolo-slim device prepare`" in line
    assert "Cortex-A72" in line


def test_nothing_to_say(tmp_path: Path) -> None:
    """Never, on the board itself, and for a target without an emulated processor, nothing is said."""
    assert said("rpi5", "never", tmp_path) == ""
    assert said("rpi5", "auto", tmp_path, is_target=True) == ""
    assert said("jetson-orin-nano", "auto", tmp_path) == ""


def test_always_is_refused_where_it_is_impossible() -> None:
    """Before the first stage: a target without an emulated processor, and one that isn't prepared."""
    always = EmulateConfig(mode="always")
    with pytest.raises(SlimError, match="no emulated device stands for host"):
        emulate.require_ready(always, targets.load("host"))
    with pytest.raises(SlimError, match="rpi5-emulated isn't prepared"):
        emulate.require_ready(always, targets.load("rpi5"))
    emulate.require_ready(EmulateConfig(), targets.load("rpi5"))


def test_which_bundles_are_emulated() -> None:
    """All slim ones, and of the control the fp32 one."""
    names = ("control/ncnn-fp16", "control/onnxruntime-fp32", "slim/ncnn-fp16", "slim/onnxruntime-int8")
    bundles = {BuildKey.parse(name): Path(name) for name in names}
    assert [str(key) for key in emulated_keys(bundles)] == list(names[1:])
