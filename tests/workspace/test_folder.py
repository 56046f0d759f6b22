"""Whose a folder is: a user's files stay safe, one process writes at a time, and old layouts are named."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from yolo_slim.errors import MachineError, SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.workspace.folder import COMPARISON, RUN, STAGE, Owner, claimed, read_owner, stage_claimed

MINE = Owner(kind=RUN, identity={"model_sha256": "a", "data": "d", "target": "rpi5"}, record={"command": "x"})


def test_claim_is_written(tmp_path: Path) -> None:
    """A claimed folder says what it is for; the same owner claims it again, with a new record."""
    with claimed(tmp_path / "run", MINE) as before:
        assert before is None
    with claimed(tmp_path / "run", Owner(kind=RUN, identity=MINE.identity, record={"command": "y"})) as before:
        assert before == MINE
    assert read_json(tmp_path / "run" / "folder.json")["record"] == {"command": "y"}


@pytest.mark.parametrize("file", ["thesis.txt", "pruned.pt"])
def test_somebody_elses_files(tmp_path: Path, file: str) -> None:
    """A folder with files and without folder.json is left alone, and gets no lock."""
    (tmp_path / file).write_text("years of work")
    for claim in (claimed(tmp_path, MINE), stage_claimed(tmp_path, "prune")):
        with pytest.raises(SlimError, match="files that yolo_slim didn't write") as caught, claim:
            pass
        assert caught.value.culprits == (file,)
    assert [item.name for item in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("mark", ["run.json", "manifest.json"])
def test_old_layout(tmp_path: Path, mark: str) -> None:
    """A folder of an earlier layout is named as such, and stays as it is."""
    (tmp_path / mark).write_text("{}")
    (tmp_path / ".lock").write_text("pid 1")
    with pytest.raises(SlimError, match="made by an earlier version of yolo_slim"), claimed(tmp_path, MINE):
        pass
    assert sorted(item.name for item in tmp_path.iterdir()) == [".lock", mark]


def test_another_owner(tmp_path: Path) -> None:
    """Another model's results aren't mixed in; every difference is named with both values."""
    with claimed(tmp_path, MINE):
        pass
    other = Owner(kind=RUN, identity={**MINE.identity, "model_sha256": "b"})
    with pytest.raises(SlimError, match="contains the results of another run") as caught, claimed(tmp_path, other):
        pass
    assert caught.value.culprits == ("model_sha256: a there, b now",)
    assert read_owner(tmp_path) == MINE


def test_another_kind(tmp_path: Path) -> None:
    """A comparison's folder is no run's and no stage's."""
    with claimed(tmp_path, Owner(kind=COMPARISON, identity={})):
        pass
    with pytest.raises(SlimError, match="contains a comparison, not a run"), claimed(tmp_path, MINE):
        pass
    with pytest.raises(SlimError, match="contains a comparison, not one stage"), stage_claimed(tmp_path, "prune"):
        pass


def test_two_processes(tmp_path: Path) -> None:
    """While one process writes, another is refused and told which; a lock whose process died is free."""
    with claimed(tmp_path, MINE):
        pass
    (tmp_path / ".lock").write_text("pid 4711")
    with (tmp_path / ".lock").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(MachineError, match=r"another process \(pid 4711\)"), claimed(tmp_path, MINE):
            pass
    with claimed(tmp_path, MINE):
        pass


def refuse(folder: Path | None) -> None:
    """Raise, after a first result in ``folder``."""
    if folder:
        (folder / "prune").mkdir()
    raise SlimError("too few images")


def test_refused_before_anything_was_written(tmp_path: Path) -> None:
    """A refusal leaves no new folder behind; one that was there before, or has results, stays."""
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine", "used"):
        with pytest.raises(SlimError, match="too few images"), claimed(tmp_path / name, MINE):
            refuse(tmp_path / "used" if name == "used" else None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "used"]


def test_damaged_claim(tmp_path: Path) -> None:
    """A damaged folder.json is no permission to write."""
    (tmp_path / "folder.json").write_text("{")
    with pytest.raises(SlimError, match="unknown whose folder this is"), claimed(tmp_path, MINE):
        pass


def test_newer_claim(tmp_path: Path) -> None:
    """A folder of a newer yolo_slim is refused as such, also where its keys are unknown here."""
    write_json(tmp_path / "folder.json", {"schema": 99, "kind": RUN, "devices": []})
    with pytest.raises(SlimError, match="made by a newer yolo_slim"), claimed(tmp_path, MINE):
        pass


def test_stage_in_a_run(tmp_path: Path) -> None:
    """A stage run alone into its place in a run locks that run; other places in a run are refused."""
    with claimed(tmp_path, MINE), pytest.raises(MachineError), stage_claimed(tmp_path / "recover", "recover"):
        pass
    with stage_claimed(tmp_path / "recover", "recover"):
        pass
    with pytest.raises(SlimError, match="lies inside the run"), stage_claimed(tmp_path / "notes", "recover"):
        pass


def test_stage_on_its_own(tmp_path: Path) -> None:
    """A stage's own folder is that stage's only."""
    with stage_claimed(tmp_path / "a", "prune"):
        pass
    assert read_owner(tmp_path / "a") == Owner(kind=STAGE, identity={"stage": "prune"})
    with pytest.raises(SlimError, match="stage: prune there, export now"), stage_claimed(tmp_path / "a", "export"):
        pass


def test_stage_whose_results_are_one_models(tmp_path: Path) -> None:
    """Where a stage names its model, another model's folder is refused as such; the same model's is claimed again."""
    for _ in range(2):
        with stage_claimed(tmp_path, "block-costs", model_sha256="a"):
            pass
    other = stage_claimed(tmp_path, "block-costs", model_sha256="b")
    with pytest.raises(SlimError, match="contains the results of another model") as caught, other:
        pass
    assert caught.value.culprits == ("model_sha256: a there, b now",)
    with pytest.raises(SlimError, match="contains the results of another stage"), stage_claimed(tmp_path, "prune"):
        pass


def test_loser_of_two_first_calls_leaves_the_folder(tmp_path: Path) -> None:
    """A call that finds a new folder locked by another one doesn't remove what that one has just written."""
    folder = tmp_path / "new"
    with claimed(folder, MINE):
        with pytest.raises(MachineError), claimed(folder, MINE):
            pass
        assert read_owner(folder) == MINE
    assert read_owner(folder) == MINE


@pytest.mark.parametrize("value", [{"schema": "2", "kind": RUN}, {"kind": RUN, "identity": []}, {"unknown": 1}])
def test_claims_of_wrong_types(tmp_path: Path, value: dict[str, object]) -> None:
    """A folder.json with values that none has is damaged, and no traceback."""
    write_json(tmp_path / "folder.json", value)
    with pytest.raises(SlimError, match="unknown whose folder this is"), claimed(tmp_path, MINE):
        pass


def test_stage_of_another_models_run(tmp_path: Path) -> None:
    """A stage of a run is written for that run's model alone."""
    with claimed(tmp_path, MINE):
        pass
    with stage_claimed(tmp_path / "prune", "prune", run_model="a"):
        pass
    with pytest.raises(SlimError, match="which is of another model") as caught:
        stage_claimed(tmp_path / "prune", "prune", run_model="b").__enter__()
    assert caught.value.culprits == ("model_sha256: a there, b now",)
