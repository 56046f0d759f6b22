"""Two bundles timed in turns: what is compared is the same round, whatever the machine does in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.results import BUSY, QUIET
from yolo_slim.backends import RuntimeFacts
from yolo_slim.bundle import open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.runtime import paired
from yolo_slim.runtime.load import busy_reasons
from yolo_slim.runtime.paired import WARMUP, Paired, pair_bundles, precision_of, time_paired


class _Named:
    """A session that notes its name for every frame."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def infer(self, blob: Any) -> Any:
        self.seen.append(self.name)
        return blob

    def describe(self) -> RuntimeFacts:
        return RuntimeFacts(runtime="none", versions={}, provider="", threads=3, precision="fp32")

    def close(self) -> None:
        pass


def test_order_alternates() -> None:
    """Both networks run the same frames in every round, and the one that begins changes."""
    seen: list[str] = []
    found = time_paired(_Named("a", seen), _Named("b", seen), [np.zeros(1, np.float32)], rounds=2, frames=2)
    frames = WARMUP + 2
    assert seen == ["a"] * frames + ["b"] * 2 * frames + ["a"] * frames
    assert len(found.before) == len(found.after) == 2
    assert found.threads == 3
    assert Paired.from_json(found.to_json()) == found


def test_a_busy_machines_gain_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other programs used is named among the reasons, and a quiet machine has none."""
    for load, reasons in ((BUSY, tuple(busy_reasons(BUSY))), (QUIET, ())):
        monkeypatch.setattr(paired, "load_since", lambda _start, _threads, load=load: load)
        found = time_paired(_Named("a", []), _Named("b", []), [np.zeros(1, np.float32)], rounds=1, frames=1)
        assert found.invalid_reasons == reasons
    assert busy_reasons(BUSY)


def test_gain_ignores_a_machine_that_slows_down() -> None:
    """The difference is taken round by round, so minutes that are slower for both hide nothing."""
    found = Paired(before=(10.0, 10.0, 31.0), after=(9.0, 9.0, 30.0), threads=1).to_json()
    assert (found["ms_gain"], found["ms_gain_lowest"], found["ms_gain_highest"]) == (1.0, 1.0, 1.0)
    assert np.mean([10.0, 10.0, 31.0]) - np.median([9.0, 9.0, 30.0]) > 7


@pytest.mark.parametrize("change", [{"threads": 3}, {"imgsz": (32, 32)}])
def test_unequal_bundles_are_refused(own_bundle: Path, change: dict[str, Any]) -> None:
    """Two bundles with other threads or another input differ in more than their network."""
    bundle = open_bundle(own_bundle)
    other = replace(bundle, spec=replace(bundle.spec, **change))
    with pytest.raises(SlimError, match="different"):
        pair_bundles(bundle, other, [np.zeros((8, 8, 3), np.uint8)], rounds=1, frames=1)


def test_runtimes_that_can_be_timed() -> None:
    """ONNX Runtime is timed in fp32, NCNN in what it has; an engine or an unknown name is refused."""
    assert precision_of("onnxruntime") == "fp32"
    assert precision_of("ncnn") == "fp16"
    with pytest.raises(SlimError, match="on the device"):
        precision_of("tensorrt")
    with pytest.raises(SlimError, match="Did you mean 'onnxruntime'"):
        precision_of("onnxruntim")
