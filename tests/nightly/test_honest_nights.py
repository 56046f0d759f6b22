"""Nights whose cells, images or code aren't what they seem: none of them gets the answer of another."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers import tiny_data
from tests.helpers.cli import run_cli
from tests.helpers.constants import ROOT
from tests.helpers.nights import (
    IMAGES,
    ROUNDS,
    NightDevice,
    git,
    history_of,
    new_weights,
    run_night,
    runs_of,
    statuses,
    write_matrix,
)
from yolo_slim.devices.answers import NOT_ITS_SPEED
from yolo_slim.history.store import History
from yolo_slim.nightly.source import source_of


def interrupt(matrix: Path, device: NightDevice, *more: str) -> None:
    """Begin a night that ends while its first cell is timed."""

    def stop() -> None:
        raise KeyboardInterrupt

    device.on_bench = stop
    assert run_night(matrix, device, *more)[0] == 130
    device.on_bench = lambda: None


def repository(matrix: Path) -> None:
    """Put the weights into a git repository, on main."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(matrix.parent, "init", "-q", "-b", "main")
    git(matrix.parent, "add", "best.pt")
    git(matrix.parent, "commit", "-q", "-m", "first weights")


def test_other_scored_images_are_not_compared(matrix: Path, device: NightDevice, shapes: Path) -> None:
    """Fewer images of the same data set are other images: no answer, in the night and in `diff`."""
    run_night(matrix, device)
    write_matrix(matrix.parent, shapes, settings={"s": {"imgsz": 64, "validate.max_images": IMAGES // 2}})
    code, out, err = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (3, ["incomparable", "incomparable"]), err
    assert "other images are scored" in out
    code, out, err = run_cli("nightly", "diff", "1", "2", "--history", str(history_of(matrix)))
    assert (code, "other images are scored" in out) == (0, True), err


def test_interrupted_night_of_other_weights_is_not_resumed(matrix: Path, device: NightDevice) -> None:
    """One night's cells are all of the same weights."""
    interrupt(matrix, device)
    new_weights(matrix, "second weights")
    run_night(matrix, device)
    with History.open(history_of(matrix)) as history:
        assert [night.ended_at is not None for night in history.nights()] == [False, True]


def test_interrupted_night_of_other_data_is_not_resumed(
    tmp_path: Path, device: NightDevice, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One night's cells are all of the same images and labels."""
    data = tiny_data.make(tmp_path_factory.mktemp("own"), "detect", images=IMAGES)
    matrix = write_matrix(tmp_path, data)
    interrupt(matrix, device)
    label = next((data.parent / "labels").rglob("*.txt"))
    label.write_text("\n".join(label.read_text().splitlines()[:-1]))
    run_night(matrix, device)
    with History.open(history_of(matrix)) as history:
        assert [night.ended_at is not None for night in history.nights()] == [False, True]


def test_interrupted_night_with_another_own_profile_is_not_resumed(
    tmp_path: Path, shapes: Path, device: NightDevice
) -> None:
    """A profile that was edited in between is another device's, though its name is the same."""
    profile = tmp_path / "own.yaml"
    text = (ROOT / "targets/host.yaml").read_text().replace("name: host", "name: own")
    profile.write_text(text)
    matrix = write_matrix(tmp_path, shapes, targets={"here": {"profile": "own.yaml"}})
    interrupt(matrix, device)
    profile.write_text(text.replace("threads: 2", "threads: 1"))
    run_night(matrix, device)
    with History.open(history_of(matrix)) as history:
        assert [night.ended_at is not None for night in history.nights()] == [False, True]


def test_imported_night_that_runs_elsewhere_is_not_resumed(tmp_path: Path, matrix: Path, device: NightDevice) -> None:
    """Its own machine ends it; the same matrix here begins a night of its own."""
    interrupt(matrix, device)
    export = tmp_path / "all.jsonl"
    assert run_cli("nightly", "export", str(export), "--history", str(history_of(matrix)))[0] == 0
    history_of(matrix).unlink()
    assert run_cli("nightly", "import", str(export), "--history", str(history_of(matrix)))[0] == 0
    _, _, err = run_night(matrix, device)
    assert "is resumed" not in err
    with History.open(history_of(matrix)) as history:
        assert [night.ended_at is not None for night in history.nights()] == [False, True]


def test_rounds_end_where_none_can_count(matrix: Path, device: NightDevice) -> None:
    """An emulated device is timed once; a reason that every timing has isn't waited out; a busy device's may end."""
    run_night(matrix, device)
    for reason in (NOT_ITS_SPEED, "82 C, above 80 C"):
        device.reasons = (reason,)
        run_night(matrix, device)
    numbers = iter(range(10000))

    def busy() -> None:
        device.reasons = (f"busy {next(numbers)}",)

    device.on_bench = busy
    run_night(matrix, device)
    rounds = [runs_of(matrix, night)[0].measurement.speed.rounds for night in (2, 3, 4)]
    assert rounds == [1, ROUNDS[0], ROUNDS[-1]]


def test_interrupted_trial_of_another_commit_is_not_resumed(matrix: Path, device: NightDevice) -> None:
    """A second pull request doesn't get the cells of the first one, whose job was stopped."""
    repository(matrix)
    run_night(matrix, device)
    git(matrix.parent, "checkout", "-q", "-b", "first")
    interrupt(matrix, device, "--against", "main")
    git(matrix.parent, "checkout", "-q", "-b", "second")
    git(matrix.parent, "commit", "-q", "--allow-empty", "-m", "other code")
    run_night(matrix, device, "--against", "main")
    with History.open(history_of(matrix)) as history:
        assert [night.ended_at is not None for night in history.nights()] == [True, False, True]
        assert history.nights()[-1].source.subject == "other code"


def test_branch_of_a_detached_checkout(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitLab checks out a commit, not a branch, and names the branch beside it; another repository isn't meant."""
    repository(matrix)
    git(matrix.parent, "checkout", "-q", "--detach")
    commit = source_of(matrix.parent).commit
    assert commit is not None
    monkeypatch.setenv("CI_COMMIT_BRANCH", "main")
    monkeypatch.setenv("CI_COMMIT_SHA", "0" * 40)
    assert source_of(matrix.parent).branch is None
    monkeypatch.setenv("CI_COMMIT_SHA", commit)
    run_night(matrix, device)
    assert run_night(matrix, device, "--against", "main")[0] == 0
    assert statuses(matrix, 2) == ["same", "same"]


def test_trials_do_not_push_out_the_nights_bundles(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """However many pull requests a day has, the last night's bundle stays for the next one."""
    matrix = write_matrix(tmp_path, shapes, keep_nights=1)
    repository(matrix)
    for weights in ("first weights", "second weights"):
        new_weights(matrix, weights)
        run_night(matrix, device)
    for weights in ("third weights", "fourth weights"):
        new_weights(matrix, weights)
        run_night(matrix, device, "--against", "main")
    kept = {path.name for path in (tmp_path / "runs/nightly/bundles").iterdir()}
    assert kept >= {run.digests.bundle for run in runs_of(matrix, 2) if run.digests}
    assert statuses(matrix, 4) == ["same", "same"]


def test_trial_never_becomes_a_baseline(matrix: Path, device: NightDevice) -> None:
    """Not even when somebody asks for it."""
    repository(matrix)
    run_night(matrix, device)
    run_night(matrix, device, "--against", "main")
    where = ("--history", str(history_of(matrix)))
    code, _, err = run_cli("nightly", "bless", "--night", "2", "--reason", "r", *where)
    assert (code, "Night 2 is a trial" in err) == (2, True)


def test_first_night_on_a_busy_device_says_so(matrix: Path, device: NightDevice) -> None:
    """It becomes the baseline, and its own frames per second aren't shown as if they counted."""
    device.reasons = ("throttled during the run",)
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (0, ["first", "first"])
    assert "it now; the timing doesn't count: throttled during the run; later nights time this bundle again" in out


def test_colours_of_an_error_leave_the_junit_file_whole(matrix: Path, device: NightDevice) -> None:
    """A device's own words may have characters that XML doesn't allow."""

    def coloured() -> None:
        raise RuntimeError("\x1b[31mout of memory\x1b[0m")

    device.on_bench = coloured
    assert run_night(matrix, device)[0] == 1
    suite = ElementTree.parse(matrix.parent / "runs/nightly/nights/0001/junit.xml").getroot()
    assert "out of memory" in str(next(suite.iter("error")).get("message"))


def test_reasons_name_their_bundle(matrix: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two timings that don't count for different reasons, each has its own."""
    run_night(matrix, device)
    numbers = iter(range(1000))

    def busy() -> None:
        device.reasons = (f"busy {next(numbers) % 2}",)

    device.on_bench = busy
    _, out, _ = run_night(matrix, device)
    assert "the reference's: busy " in out
    assert "tonight's: busy " in out
