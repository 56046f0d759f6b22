"""A run and its device: opened before the first stage, told apart from others, and always given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.devices import FakeDevice
from tests.helpers.sshd import free_port
from yolo_slim import preparation
from yolo_slim.config import targets
from yolo_slim.config.run import DeviceConfig
from yolo_slim.devices.base import identity
from yolo_slim.devices.connect import connect
from yolo_slim.devices.local import LocalDevice


@pytest.fixture(autouse=True)
def no_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the user's own devices out."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_without_a_name_it_is_this_machine() -> None:
    """No host: the machine at hand."""
    assert isinstance(connect(DeviceConfig(), targets.load("rpi5")), LocalDevice)


def test_boards_of_one_model_are_told_apart() -> None:
    """What holds on one device alone names it; of this machine, the model is enough."""
    first, second = FakeDevice(), FakeDevice()
    second.name = "board at 10.0.0.8"
    assert identity(first) != identity(second)
    assert list(identity(LocalDevice())) == ["machine"]


def arguments(model: Path, data: Path, project: Path) -> list[str]:
    """Return the command of a run."""
    return ["run", "--model", str(model), "--data", str(data), "--project", str(project), "--name", "one"]


def test_a_device_that_is_away_ends_the_run_at_once(trained: Path, signs: Path, tmp_path: Path) -> None:
    """It is refused before the first stage, and nothing is written."""
    given = arguments(trained, signs, tmp_path / "runs")
    code, _, errors = run_cli(*given, "--host", f"127.0.0.1:{free_port()}", "--target", "rpi5")
    assert code == 2
    assert "refuses SSH" in errors
    assert not (tmp_path / "runs").exists()


def test_a_device_is_given_back_after_an_error(
    trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is refused closes its device."""
    device = FakeDevice()
    monkeypatch.setattr(preparation, "connect", lambda *_: device)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/foreign").write_text("")
    code, _, errors = run_cli(*arguments(trained, signs, tmp_path))
    assert code == 2
    assert "didn't write" in errors
    assert device.asked == ["close"]


def test_flags_of_a_file_hold(tmp_path: Path, trained: Path, signs: Path) -> None:
    """An option that isn't given leaves the file's value as it is."""
    config = tmp_path / "run.yaml"
    config.write_text(f"device: {{host: 'no address', any_device: true}}\nmodel: {trained}\ndata: {signs}\n")
    code, _, errors = run_cli("run", "--config", str(config), "--project", str(tmp_path / "runs"))
    assert code == 2
    assert "Not an address" in errors
