"""The one way to run a stage: what is up to date is skipped, what is stale is made again, and each says why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.workspace import job as jobs
from yolo_slim.workspace.job import Job, Made, read_manifest
from yolo_slim.workspace.up_to_date import NotUpToDate, run_once


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a job is run, and what it said."""

    network: str = ""
    retrain: bool = False
    only_check: bool = False
    said: list[str] = field(default_factory=list)

    @property
    def progress(self) -> Options:
        """Listen to itself."""
        return self

    def step(self, text: str, done: int, total: int) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)


@dataclass
class Work:
    """A stage that writes one file and counts its calls."""

    folder: Path
    calls: int = 0

    def job(self, **changes: object) -> Job:
        """Describe the stage's job."""
        given = {
            "stage": "export", "folder": self.folder, "settings": {"imgsz": 320}, "inputs": {"weights": "a" * 64},
            "revision": 1, "packages": ("numpy",),
        }  # fmt: skip
        return Job(**{**given, **changes})  # type: ignore[arg-type]

    def run(self, job: Job, options: Options, *, is_training: bool = False, lasting: bool = True) -> Options:
        """Run it; return what it said."""

        def make(_: None) -> Made:
            self.calls += 1
            (self.folder / "out.bin").write_bytes(b"result")
            return Made(outputs=[self.folder / "out.bin"], facts={"n": self.calls}, is_lasting=lasting)

        run_once(job, make, options, check=lambda: None, is_training=is_training)
        return options


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Make a stage with a folder of its own."""
    return Work(tmp_path / "export")


def test_up_to_date_is_skipped(work: Work) -> None:
    """The same job twice is made once, and the second call says so."""
    work.run(work.job(), Options())
    assert work.run(work.job(), Options()).said == ["export: up to date, skipped"]
    assert work.run(work.job(), Options(network="slim")).said == ["export (slim): up to date, skipped"]
    assert work.calls == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"settings": {"imgsz": 640}}, "export: stale, made again: imgsz 320 -> 640"),
        ({"inputs": {"weights": "b" * 64}}, f"export: stale, made again: weights {'a' * 12} -> {'b' * 12}"),
        ({"revision": 2}, "export: stale, made again: this stage's own revision 1 -> 2"),
        ({"settings": {"imgsz": 320, "opset": 17}}, "export: stale, made again: opset not set -> 17"),
    ],
)
def test_stale_says_what_changed(work: Work, changes: dict[str, object], line: str) -> None:
    """Whatever decides the result and changed is named in one line, with both values."""
    work.run(work.job(), Options())
    assert work.run(work.job(**changes), Options()).said == [line]
    assert work.calls == 2


def test_package_update(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update of a package a cheap stage is made again; a package that decides nothing changes nothing."""
    work.run(work.job(), Options())
    monkeypatch.setattr(jobs, "version", lambda package: {"numpy": "9.9"}.get(package, "1.0"))
    assert work.run(work.job(packages=()), Options()).said[0].startswith("export: stale, made again: numpy")
    said = work.run(work.job(), Options()).said
    assert said == ["export: stale, made again: numpy not set -> 9.9"]
    assert work.calls == 3


def test_finished_training_survives_an_update(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that only a version made stale is kept and named; --retrain and another setting train again."""
    work.run(work.job(), Options(), is_training=True)
    monkeypatch.setattr(jobs, "version", lambda _: "9.9")
    kept = work.run(work.job(), Options(), is_training=True).said
    assert len(kept) == 1
    assert kept[0].startswith("export: kept although numpy ")
    assert kept[0].endswith("-> 9.9; --retrain trains again")
    assert work.calls == 1
    work.run(work.job(), Options(retrain=True), is_training=True)
    assert work.calls == 2
    work.run(work.job(settings={"imgsz": 640}), Options(), is_training=True)
    assert work.calls == 3


def test_damaged_training_is_not_kept(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training whose file was changed is made again, whatever the versions say."""
    work.run(work.job(), Options(), is_training=True)
    (work.folder / "out.bin").write_bytes(b"cut off")
    monkeypatch.setattr(jobs, "version", lambda _: "9.9")
    work.run(work.job(), Options(), is_training=True)
    assert work.calls == 2


def test_changed_output_is_stale(work: Work) -> None:
    """A file that was changed or removed since is named, and made again."""
    work.run(work.job(), Options())
    (work.folder / "out.bin").write_bytes(b"changed")
    assert work.run(work.job(), Options()).said == ["export: stale, made again: out.bin complete -> changed"]
    (work.folder / "out.bin").unlink()
    assert work.run(work.job(), Options()).said == ["export: stale, made again: out.bin complete -> missing"]


def test_only_check_makes_nothing(work: Work) -> None:
    """Asked to check alone, a stale or missing result raises, and nothing is written."""
    with pytest.raises(NotUpToDate):
        work.run(work.job(), Options(only_check=True))
    assert not work.folder.exists()
    work.run(work.job(), Options())
    work.run(work.job(), Options(only_check=True))
    with pytest.raises(NotUpToDate):
        work.run(work.job(revision=2), Options(only_check=True))
    assert work.calls == 1


def test_result_that_does_not_last(work: Work) -> None:
    """What was measured on a throttled machine is there to be read, and measured again by the next call."""
    work.run(work.job(), Options(), lasting=False)
    assert read_manifest(work.folder) is None
    assert (work.folder / "out.bin").is_file()
    work.run(work.job(), Options())
    assert work.calls == 2


def test_inputs_have_digests(work: Work) -> None:
    """An input whose content is unknown is a programming error: its change would pass unnoticed."""
    with pytest.raises(ValueError, match="inputs without a digest: data"):
        work.job(inputs={"weights": "a" * 64, "data": ""})


def test_refusal_leaves_the_earlier_result(work: Work) -> None:
    """What the check refuses leaves the manifest of the earlier result in place."""
    work.run(work.job(), Options())
    before = (work.folder / "manifest.json").read_bytes()

    def refuse() -> None:
        raise SlimError("no")

    with pytest.raises(SlimError, match="no"):
        run_once(work.job(revision=2), lambda _: Made(outputs=[]), Options(), check=refuse)
    assert (work.folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("damage", [{"schema": 1}, {"more": 1}, {"stage": None}])
def test_manifests_that_do_not_count(work: Work, damage: dict[str, object]) -> None:
    """A manifest of another schema, or with keys that this one doesn't know, is no proof of a result."""
    work.run(work.job(), Options())
    value = read_json(work.folder / "manifest.json")
    write_json(work.folder / "manifest.json", {**value, **damage})
    work.run(work.job(), Options())
    assert work.calls == 2


def test_killed_before_the_end(work: Work) -> None:
    """A stage that dies while it makes its result leaves no manifest."""
    work.run(work.job(), Options())

    def die(_: None) -> Made:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_once(replace(work.job(), revision=2), die, Options(), check=lambda: None)
    assert read_manifest(work.folder) is None
