"""Names that are made of a user's own; files and folders that two threads write at once."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from yolo_slim.api import make_config
from yolo_slim.errors import SlimError, explain_os_error
from yolo_slim.files import MOST_NAME_BYTES, fitted_name, fresh_folder, named, write_atomic, write_text
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


def test_refusals_name_what_the_user_knows(tmp_path: Path) -> None:
    """Neither a file nor a folder that can't be made is called by its temporary sibling's name."""
    with pytest.raises(FileNotFoundError) as missing:
        write_text(tmp_path / "no" / "a.txt", "x")
    assert missing.value.filename == str(tmp_path / "no" / "a.txt")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as wrong, fresh_folder(tmp_path / "file" / "a"):
        pass
    assert wrong.value.filename == str(tmp_path / "file" / "a")
    with pytest.raises(FileNotFoundError) as inside, fresh_folder(tmp_path / "a") as new:
        (new / "b" / "c").touch()
    assert inside.value.filename == str(tmp_path / "a" / "b" / "c")
    with pytest.raises(FileNotFoundError) as other, fresh_folder(tmp_path / "a"):
        (tmp_path / "z" / "c").touch()
    assert other.value.filename == str(tmp_path / "z" / "c")


def test_folder_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written beside . or .. is named after the folder that it stands for; the root has no name."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    assert [named(Path(given)).name for given in (".", "b/..", "..", "", "b", "../c")] == [
        "a", "a", tmp_path.name, "a", "b", "c",
    ]  # fmt: skip
    with pytest.raises(SlimError, match="the root of the file system"):
        named(Path("/"))
    with fresh_folder(Path("b/..") / "b") as new:
        (new / "c").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c"]
    with pytest.raises(IsADirectoryError):
        write_text(Path(), "x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "c"]


def test_two_threads_make_one_folder(tmp_path: Path) -> None:
    """Each writes into a folder of its own; what the first one put there stays where it is as good."""
    meet, folder = threading.Barrier(2), tmp_path / "made"

    def make(text: str) -> None:
        with fresh_folder(folder, stays=Path.is_dir) as new:
            (new / "a.txt").write_text(text)
            meet.wait(10)
            assert (new / "a.txt").read_text() == text

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, ["same", "other"]))
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (folder / "a.txt").read_text() in {"same", "other"}


def test_a_made_folder_replaces_what_must_not_stay(tmp_path: Path) -> None:
    """Negative control: an older folder goes; one that stays is left alone."""
    folder = tmp_path / "made"
    for stays in (False, True):
        folder.mkdir(exist_ok=True)
        with fresh_folder(folder, stays=[_never, Path.is_dir][stays]) as new:
            (new / "a.txt").write_text("3" if stays else "2")
        assert (folder / "a.txt").read_text() == "2"


@pytest.mark.parametrize("stays", [False, True])
def test_another_process_makes_the_folder_first(stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder appears between the look and the move: it stays where it is as good, and is replaced where not."""
    folder, move, calls = tmp_path / "made", Path.replace, []

    def replaced(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 1:
            folder.mkdir()
            (folder / "a.txt").write_text("theirs")
        return move(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    with fresh_folder(folder, stays=[_never, Path.is_dir][stays]) as new:
        (new / "a.txt").write_text("ours")
    assert (folder / "a.txt").read_text() == ("theirs" if stays else "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    """A reader sees one of the two contents, whole."""
    meet, path = threading.Barrier(2), tmp_path / "a.txt"

    def write(temporary: Path, text: str) -> None:
        temporary.write_text(text)
        meet.wait(10)
        assert temporary.read_text() == text

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda text: write_atomic(path, lambda to: write(to, text)), ["aa", "bb"]))
    assert path.read_text() in {"aa", "bb"}
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def _never(_: Path) -> bool:
    return False
