"""What a terminal shows while a command works."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from yolo_slim.cli.progress import listening


@pytest.mark.parametrize("text", ["build: ncnn-fp16 in /data[v2]/build", "no closing tag: [/v2]"])
def test_brackets_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Folders and values of users may contain what rich takes for markup."""
    shown = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr", shown)
    with listening(quiet=False) as listener:
        listener.step(text, 1, 2)
        listener.say(text)
    lines = shown.getvalue().splitlines()
    assert any(line.strip("\r").endswith(text) for line in lines)
    assert any(text in line and "1/2" in line for line in lines)


def test_long_steps_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A log has a line for every half minute of steps, and none where other lines were printed meanwhile."""
    now = [0.0]
    monkeypatch.setattr("yolo_slim.cli.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    for quiet in (False, True):
        now[0] = 0.0
        with listening(quiet=quiet) as listener:
            for done, seconds in enumerate((10, 25, 10, 25, 10)):
                now[0] += seconds
                listener.step("recover: train", done, 5)
            listener.say("recover: epoch 1")
            now[0] += 20
            listener.step("recover: train", 5, 5)
        expected = [] if quiet else ["recover: train: 1 of 5", "recover: train: 3 of 5", "recover: epoch 1"]
        assert capsys.readouterr().err.splitlines() == expected
