"""The folder of a run: the user's own files and other results stay as they are."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

from tests.helpers.cli import refused, run_cli


def test_folder_that_cannot_be_written(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A project path below a file can't be a folder."""
    (tmp_path / "runs").write_text("a file")
    assert "can't be written" in refused(trained, signs, tmp_path)
    assert (tmp_path / "runs").read_text() == "a file"


def test_folder_in_use(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A folder that another process writes to is left alone."""
    folder = tmp_path / "runs" / "busy"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "being written by another process" in refused(trained, signs, tmp_path, "--name", "busy")


def test_folder_of_someone_else(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A folder with other files is refused and keeps them."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(trained, signs, tmp_path, "--name", "mine")
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert [item.name for item in folder.iterdir()] == ["thesis.txt"]
    given = ["compare", "--model", str(trained), "--data", str(signs), "--imgsz", "64", "--project", str(folder.parent)]
    code, _, err = run_cli(*given, "--name", "mine")
    assert (code, "thesis.txt" in err) == (2, True)
    assert [item.name for item in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").rename(folder / ".lock")
    assert ".lock" in refused(trained, signs, tmp_path, "--name", "mine")
    assert (folder / ".lock").read_text() == "years of work"


def test_a_refused_stage_leaves_nothing(trained: Path, signs: Path, tmp_path: Path) -> None:
    """Where nothing was written, no folder stays behind; one that was there before does."""
    (tmp_path / "mine").mkdir()
    for out in ("new", "mine"):
        given = ["prune", str(trained), "--data", str(signs), "--imgsz", "64", "--set", 'prune.protect=["*"]']
        code, _, err = run_cli(*given, "--out", str(tmp_path / out))
        assert (code, "protect less (prune.protect)" in err) == (2, True), err
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]


def test_disk_full(trained: Path, signs: Path, tmp_path: Path) -> None:
    """On a full disk the message says so and no half file takes a whole one's name."""
    small = tmp_path / "runs"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        quick = ["--set", "prune.criterion=l2", "--set", "prune.steps=1", "--set", "prune.bn_images=8"]
        assert "disk is full" in refused(trained, signs, tmp_path, "--prune", "0.2", *quick)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("mark", ["run.json", "manifest.json"])
@pytest.mark.parametrize("command", ["run", "compare"])
def test_folder_of_an_earlier_version(trained: Path, signs: Path, tmp_path: Path, command: str, mark: str) -> None:
    """A folder of the layout before folder.json is named as such, with the way on, and stays as it is."""
    folder = tmp_path / "runs" / "old"
    (folder / "prune").mkdir(parents=True)
    for file, text in ((mark, "{}"), (".lock", "pid 1"), ("prune/pruned.pt", "weights")):
        (folder / file).write_text(text)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    given = ["--model", str(trained), "--data", str(signs), "--imgsz", "96", "--project", str(folder.parent)]
    code, _, err = run_cli(command, *given, "--name", "old")
    assert (code, "made by an earlier version of yolo_slim" in err, "Choose another NAME" in err) == (2, True, True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
