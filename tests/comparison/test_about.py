"""What a comparison says of the device that measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.comparisons import prepared
from tests.helpers.devices import FakeDevice
from yolo_slim.comparison.about import about, settings_of
from yolo_slim.comparison.device import Meter


@pytest.mark.parametrize("is_target", [True, False])
def test_machine_is_the_device(trained: Path, signs: Path, tmp_path: Path, is_target: bool) -> None:
    """The device that scores and times is named, not the machine that prunes and trains."""
    run = prepared(trained, signs, tmp_path)
    device = FakeDevice(model="Example Board", is_target=is_target)
    run = replace(run, context=replace(run.context, device=device))
    settings = settings_of(run.config, run.context.dataset.digest)
    found = about(run, settings, ("onnxruntime-fp32",), Meter.of(run))
    assert (found.machine["model"], found.machine["cores"]) == ("Example Board", 4)
    assert found.target.is_this_machine == is_target
