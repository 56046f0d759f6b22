"""What a terminal shows while a command works."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import pytest

from tests.helpers.waiting import wait_until
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
                listener.remind()
            listener.say("recover: epoch 1")
            now[0] += 20
            listener.step("recover: train", 5, 5)
            listener.remind()
        lines = ["latest step: recover: train, 1 of 5", "latest step: recover: train, 3 of 5", "recover: epoch 1"]
        assert capsys.readouterr().err.splitlines() == ([] if quiet else lines)


@pytest.mark.parametrize(
    ("done", "total", "line"),
    [
        (2, 5, "latest step: build, 2 of 5"),
        (0, 1, "latest step: build"),
        (1, 1, "latest step: build"),
        (5, 5, "latest step: build, 5 of 5"),
        (None, None, None),
    ],
)
def test_what_a_log_says_of_the_last_step(
    done: int | None, total: int | None, line: str | None,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A step of one part has no counter, a finished one isn't called running, and without a step nothing is said."""
    now = [0.0]
    monkeypatch.setattr("yolo_slim.cli.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    with listening(quiet=False) as listener:
        if done is not None and total is not None:
            listener.step("build", done, total)
        now[0] = 29.0
        assert listener.remind() == 1.0
        now[0] = 31.0
        assert listener.remind() == 30.0
    assert capsys.readouterr().err.splitlines() == ([line] if line else [])


def test_one_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that reports nothing for long is said again by itself, and never after the command ended."""
    monkeypatch.setattr("yolo_slim.cli.progress.SILENT_S", 0.001)
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    before = set(threading.enumerate())

    def interrupted() -> None:
        with listening(quiet=False) as listener:
            listener.step("export: model.onnx", 0, 2)
            wait_until(lambda: shown.getvalue().count("\n") > 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(shown.getvalue().splitlines()) == {"latest step: export: model.onnx, 0 of 2"}
    assert set(threading.enumerate()) <= before
