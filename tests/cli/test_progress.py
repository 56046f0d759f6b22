"""What a terminal shows while a command works."""

from __future__ import annotations

import io

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
