"""Names that are made of a user's own."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from yolo_slim.api import make_config
from yolo_slim.errors import explain_os_error
from yolo_slim.files import MOST_NAME_BYTES, fitted_name
from yolo_slim.preparation import default_name


@pytest.mark.parametrize("text", ["a" * 255, "ä" * 127, "日本" * 42, "x" + "😀" * 63], ids=[*"1234"])
def test_long_names_are_shortened(text: str) -> None:
    """A name of the most bytes that a file may have keeps its beginning, in whole characters."""
    name = fitted_name(text, before="000001_", after=".jpg")
    kept = name.removeprefix("000001_").removesuffix(".jpg")
    assert text.startswith(kept)
    assert MOST_NAME_BYTES - 4 < len(os.fsencode(name)) <= MOST_NAME_BYTES


def test_short_names_stay() -> None:
    """Negative control: whatever fits is unchanged, blanks and signs included."""
    for text in ("a", "best (1)", "ä" * 96, ""):
        assert fitted_name(text, before="000001_") == f"000001_{text}"


def test_run_of_a_model_with_a_long_name() -> None:
    """The run's folder keeps what tells it from other runs of the same weights."""
    config = make_config(f"{'m' * 252}.pt", "data.yaml", target="rpi5", imgsz=320)
    assert default_name(config) == f"{'m' * (MOST_NAME_BYTES - 12)}-rpi5-320-50"


def test_name_that_no_file_may_have(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A name or a path over the file system's limit is one message."""
    deep = tmp_path / "/".join(["d" * 200] * 21)
    for model, more in ((tmp_path / f"{'m' * 300}.pt", []), (deep / "best.pt", []), (trained, ["--name", "n" * 300])):
        given = ["--model", str(model), "--data", str(signs), "--project", str(tmp_path / "runs"), "--imgsz", "96"]
        code, out, err = run_cli("run", *given, *more)
        assert (code, "too long for the file system" in err, "Traceback" in out + err) == (2, True, False), err
        assert len(err) < 400


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed image of the user isn't called a folder of results that can't be written."""
    (tmp_path / "a.jpg").write_bytes(b"")
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a.jpg"))
    explained = explain_os_error(error, tmp_path)
    assert explained is not None
    assert "can't be written" in explained.fact
    monkeypatch.setattr(os, "access", lambda _, mode: mode == os.F_OK)
    explained = explain_os_error(error, tmp_path)
    assert explained is not None
    assert explained.fact == f"This can't be read: {tmp_path / 'a.jpg'} (Permission denied)."
