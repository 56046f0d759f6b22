"""The folder of one stage: what --out may be, and what is safe where no folder is named."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.cli import run_cli
from tests.helpers.listeners import Remembers
from yolo_slim import api
from yolo_slim.config.run import RecoverConfig
from yolo_slim.errors import SlimError
from yolo_slim.files import sha256
from yolo_slim.preparation import owner_of
from yolo_slim.stages import export, recover
from yolo_slim.stages.context import Context
from yolo_slim.workspace.folder import COMPARISON, RUN, Owner, claimed
from yolo_slim.workspace.job import Job, Made


def claim(folder: Path, owner: Owner) -> None:
    """Leave a folder as a finished call of its owner does."""
    with claimed(folder, owner):
        pass


def finish(job: Job, output: str) -> None:
    """Leave a stage's folder as its finished job does, with one output."""
    job.begin()
    (job.folder / output).write_bytes(b"output")
    job.finish(Made(outputs=[job.folder / output]), seconds=1)


def bytes_in(folder: Path) -> dict[Path, bytes]:
    """Return the content of every file."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_place_of_another_model(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stage alone, without --out, doesn't write into another model's run of the same name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "slim" / f"{trained.stem}-host-64-50"
    claim(folder, Owner(kind=RUN, identity={"model_sha256": "another"}))
    before = bytes_in(folder)
    code, _, err = run_cli("prune", str(trained), "--data", str(signs), "--imgsz", "64")
    assert (code, "contains the results of another run" in err, "model_sha256: another there" in err) == (2, True, True)
    assert bytes_in(folder) == before
    assert {path.name for path in folder.iterdir()} == {"folder.json", ".lock"}


@pytest.mark.parametrize("command", ["prune", "recover", "export", "plan"])
def test_out_of_the_users_own(command: str, trained: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with files of the user's isn't taken as --out: not his data set, and nothing in it changes."""
    before = {path: path.read_bytes() for path in copied.parent.rglob("*") if path.is_file()}
    monkeypatch.chdir(copied.parent)
    given = {
        "recover": ["recover", str(trained), "--teacher", str(trained)],
        "plan": ["plan", "make", str(trained)],
    }.get(command, [command, str(trained)])
    code, _, err = run_cli(*given, "--data", "data.yaml", "--imgsz", "64", "--out", ".")
    assert (code, "contains files that yolo_slim didn't write" in err) == (2, True)
    assert {path: path.read_bytes() for path in copied.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("kind", "name"), [(RUN, "a run"), (COMPARISON, "a comparison")])
def test_out_of_a_whole_run(trained: Path, signs: Path, tmp_path: Path, kind: str, name: str) -> None:
    """The folder of a run or a comparison isn't one stage's."""
    claim(tmp_path, Owner(kind=kind, identity={"model_sha256": sha256(trained)}))
    before = bytes_in(tmp_path)
    with pytest.raises(SlimError, match=f"contains {name}, not one stage"):
        api.recover(trained, trained, signs, tmp_path, imgsz=64)
    assert bytes_in(tmp_path) == before


def test_out_of_another_stage(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A stage that is run alone doesn't write into the folder of another one."""
    claim(tmp_path, Owner(kind="stage", identity={"stage": "prune"}))
    with pytest.raises(SlimError, match="contains the results of another stage") as caught:
        api.recover(trained, trained, signs, tmp_path, imgsz=64)
    assert caught.value.culprits == ("stage: prune there, recover now",)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.json", ".lock"}


def test_out_of_an_earlier_version(trained: Path, signs: Path, tmp_path: Path) -> None:
    """A folder of the layout before folder.json is named as such, though a lock of ours lies in it."""
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / ".lock").write_text("pid 1")
    before = bytes_in(tmp_path)
    with pytest.raises(SlimError, match="made by an earlier version of yolo_slim"):
        api.recover(trained, trained, signs, tmp_path, imgsz=64)
    assert bytes_in(tmp_path) == before


def test_out_in_a_run(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage's own folder in a run that was killed is taken as --out, except while that run is working; no other."""
    seen: list[Path] = []
    monkeypatch.setattr(recover, "run", lambda *args, **_: seen.append(args[2]))
    run = tmp_path / "mine"
    claim(run, Owner(kind=RUN, identity={"model_sha256": sha256(trained)}))
    for name in ("recover", "notes"):
        (run / name / "train").mkdir(parents=True)
    api.recover(trained, trained, signs, run / "recover", imgsz=64)
    for name in ("notes", "prune", "recover/../notes"):
        with pytest.raises(SlimError, match="where the stage recover doesn't write"):
            api.recover(trained, trained, signs, run / name, imgsz=64)
    with (run / ".lock").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(SlimError, match="written by another process"):
            api.recover(trained, trained, signs, run / "recover", imgsz=64)
    other = tmp_path / "other.pt"
    other.write_bytes(b"another model")
    with pytest.raises(SlimError, match="which is of another model"):
        api.recover(trained, other, signs, run / "recover", imgsz=64)
    assert seen == [run / "recover"]
    assert {path.name for path in run.iterdir()} == {"folder.json", ".lock", "recover", "notes"}


def test_recovery_of_other_weights(
    trained: Path, untrained: Callable[[str], Path], signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's weights are recovered into that run by its own model; by a larger one, or from elsewhere, in no run."""
    seen: list[Path] = []
    monkeypatch.setattr(recover, "run", lambda *args, **_: seen.append(args[2].resolve()))
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs" / "slim"
    for share in (30, 50):
        folder = runs / f"{trained.stem}-host-64-{share}"
        claim(folder, owner_of(api.make_config(trained, signs, imgsz=64, prune=share / 100)))
        (folder / "prune").mkdir()
        (folder / "prune" / "pruned.pt").write_bytes(bytes([share]))
    own = runs / f"{trained.stem}-host-64-30"
    api.recover(own / "prune" / "pruned.pt", trained, signs, imgsz=64)
    with pytest.raises(SlimError, match="with other settings") as caught:
        api.recover(own / "prune" / "pruned.pt", trained, signs, imgsz=96)
    assert caught.value.culprits == ("imgsz: 64 there, 96 now",)
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    api.recover(other, trained, signs, imgsz=64)
    larger = untrained("yolo11n")
    api.recover(own / "prune" / "pruned.pt", larger, signs, imgsz=64)
    assert seen == [own / "recover", runs / "other-host-64-recover", runs / "pruned-host-64-recover"]
    assert not any(path.name.startswith(larger.stem) for path in runs.iterdir())


def test_finished_recovery_that_nobody_named(signs: Path, trained: Path, tmp_path: Path) -> None:
    """Without --out, a finished recovery isn't replaced by one of other settings; every difference is named."""
    context, folder, other = Context.load(signs, imgsz=64), tmp_path / "recover", tmp_path / "other.pt"
    other.write_bytes(b"other")
    before = recover.RecoverInputs(weights=other, teacher=trained)
    finish(recover.job_of(before, RecoverConfig(epochs=100), folder, context), "recovered.pt")
    kept = bytes_in(folder)
    inputs = recover.RecoverInputs(weights=trained, teacher=trained)
    with pytest.raises(SlimError, match="finished recovery with other settings or weights") as caught:
        recover.run(inputs, RecoverConfig(epochs=3), folder, context, replace=False)
    assert caught.value.culprits == ("epochs 100 -> 3", f"weights {sha256(other)[:12]} -> {sha256(trained)[:12]}")
    assert bytes_in(folder) == kept


def test_finished_recovery_of_another_version(
    signs: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of a package keeps a finished recovery and says so; --retrain that fails gives it back."""
    said, folder = Remembers(), tmp_path / "recover"
    context, config = Context.load(signs, imgsz=64, progress=said), RecoverConfig(epochs=3)
    inputs = recover.RecoverInputs(weights=trained, teacher=trained)
    finish(recover.job_of(inputs, config, folder, context), "recovered.pt")
    kept = bytes_in(folder)
    monkeypatch.setattr("yolo_slim.workspace.job.version", lambda package: "9.9" if package == "torch" else "1")
    recover.run(inputs, config, folder, context, replace=False)
    assert said.said.startswith("recover: kept although torch ")
    assert "-> 9.9" in said.said
    assert "--retrain trains again" in said.said

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("yolo_slim.training.recovery.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recover.run(inputs, config, folder, Context.load(signs, imgsz=64, retrain=True), replace=False)
    after = bytes_in(folder)
    assert {path: after[path] for path in kept} == kept


def test_export_of_other_weights(trained: Path, signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --out, weights of the same file name don't replace another network's export."""

    def exported(weights: Path, *given: object) -> Path:
        folder = given[1]
        assert isinstance(folder, Path)
        whose = {"weights": sha256(weights)}
        finish(Job(stage="export", folder=folder, settings={}, inputs=whose, revision=1, packages=()), "model.onnx")
        return folder

    monkeypatch.setattr(export, "run", exported)
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "recovered.pt").write_bytes(name.encode())
    folder = api.export("a/recovered.pt", signs, imgsz=64)
    assert isinstance(folder, Path)
    assert api.export("a/recovered.pt", signs, imgsz=64) == folder
    kept = bytes_in(folder)
    with pytest.raises(SlimError, match="export of other weights"):
        api.export("b/recovered.pt", signs, imgsz=64)
    assert bytes_in(folder) == kept
    assert api.export("b/recovered.pt", signs, folder, imgsz=64) == folder
