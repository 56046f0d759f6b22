"""Nights through the command line, with invented bundles and an invented device."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers import tiny_data
from tests.helpers.cli import run_cli
from tests.helpers.nights import (
    BUILDS,
    IMAGES,
    NightDevice,
    history_of,
    new_weights,
    run_night,
    runs_of,
    statuses,
    write_matrix,
)
from yolo_slim.history.store import History


def test_first_night_then_an_equal_one(matrix: Path, device: NightDevice) -> None:
    """The first night makes the baselines; the next one, in which nothing changed, is the same."""
    code, out, err = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (0, ["first", "first"]), err
    assert "2 first" in out
    device.here = 1.05
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (0, ["same", "same"])
    with History.open(history_of(matrix)) as history:
        assert [one.night for one in history.baselines()] == [1, 1]
        run = history.runs(night=2)[0]
        timing = history.timing(run)
        assert timing is not None
        assert timing.reference is not None
        assert len(timing.candidate.round_p50_ms) == len(timing.reference.round_p50_ms) >= 12
        assert len(timing.candidate.samples_ms.total) == 3 * len(timing.candidate.round_p50_ms)


def test_slower_weights_are_worse(matrix: Path, device: NightDevice) -> None:
    """Four per cent more latency is an alarm that names the weights; the slower device beside it is none."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.here = {"second weights": 1.04}, 1.08
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (1, ["worse", "worse"])
    assert "speed worse: latency +" in out
    assert "weights: " in out
    speed = runs_of(matrix, 2)[0].judgement
    assert speed is not None
    assert speed.speed is not None
    assert speed.speed.lowest < 0.04 < speed.speed.highest
    assert speed.accuracy is not None
    assert speed.accuracy.answer == "same"


def test_faster_weights_are_better(matrix: Path, device: NightDevice) -> None:
    """A gain is said, and doesn't move the baseline."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 0.9}
    assert run_night(matrix, device)[0] == 0
    assert statuses(matrix, 2) == ["better", "better"]
    assert {one.reference for one in runs_of(matrix, 2)} == {one.uid for one in runs_of(matrix, 1)}


def test_blind_weights_are_worse(matrix: Path, device: NightDevice) -> None:
    """Half the images without any detection are an alarm of accuracy, with the images in `diff`."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.blind = {"second weights": IMAGES // 2}
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (1, ["worse", "worse"])
    assert "accuracy worse: mAP50-95 -" in out
    code, out, _ = run_cli("nightly", "diff", "1", "2", "--history", str(history_of(matrix)))
    assert code == 0
    assert "0.995 -> 0.000" in out
    assert "weights: " in out


def test_changed_device_is_told_apart(matrix: Path, device: NightDevice) -> None:
    """A device that became a third slower is named; the cells are the same, because both bundles are slower."""
    run_night(matrix, device)
    device.here, device.facts_now["python"] = 1.33, "3.12"
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (0, ["same", "same"])
    assert "the device changed: the reference itself is 3" in out
    judged = runs_of(matrix, 2)[0].judgement
    assert judged is not None
    assert judged.device_changed
    assert "python: 3.11 -> 3.12" in judged.moved


def test_timings_that_do_not_count(matrix: Path, device: NightDevice) -> None:
    """A throttled night says nothing of speed, shows why, and raises no alarm."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower, device.reasons = {"second weights": 1.5}, ("throttled during the run",)
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (3, ["excluded", "excluded"])
    assert "throttled during the run" in out


def test_another_device_under_the_same_name(matrix: Path, device: NightDevice) -> None:
    """Another board's timings aren't compared with the baseline's; its accuracy is."""
    run_night(matrix, device)
    device.facts_now["model"] = "Other Board"
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (3, ["excluded", "excluded"])
    assert "model Example Board there, Other Board now" in out


def test_device_that_is_missing(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """One device that doesn't answer leaves its cells without an answer; the other's are measured."""
    targets = {"here": {"profile": "host"}, "away": {"profile": "host", "host": "gone"}}
    matrix = write_matrix(tmp_path, shapes, targets=targets)
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (3, ["missing", "missing", "first", "first"])
    assert "doesn't answer" in out


def test_failing_cells_do_not_stop_the_rest(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """A chain that can't be made and a bundle that can't be run are recorded; the remaining cell is measured."""
    (tmp_path / "other.pt").write_text("bad weights")
    matrix = write_matrix(tmp_path, shapes, models={"bad": "other.pt", "m": "best.pt"})
    (tmp_path / "best.pt").write_text("first weights")
    device.broken = "ncnn-fp16"
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (1, ["failed", "failed", "failed", "first"])
    assert "is no checkpoint" in out
    assert "The bundle failed on the board" in out


def test_surprises_are_errors_of_their_cell(matrix: Path, device: NightDevice) -> None:
    """An error that nobody foresaw leaves its traceback in a file, and the night goes on."""

    def surprise() -> None:
        raise RuntimeError("of the device")

    device.on_bench = surprise
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (1, ["failed", "failed"])
    assert "RuntimeError: of the device" in out
    (log, _) = sorted((matrix.parent / "runs/nightly/errors").iterdir())
    assert "Traceback" in log.read_text()


def test_changed_data_are_not_compared(
    matrix: Path, device: NightDevice, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Other labels under the same name: no answer, until somebody blesses a new baseline."""
    data = tiny_data.make(tmp_path_factory.mktemp("own"), "detect", images=4)
    write_matrix(matrix.parent, data)
    run_night(matrix, device)
    (label,) = (data.parent / "labels/val").glob("*0.txt")
    label.write_text("")
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (3, ["incomparable", "incomparable"])
    assert "other images or labels" in out
    code, out, _ = run_cli("nightly", "bless", "--reason", "relabelled", "--history", str(history_of(matrix)))
    assert code == 0
    assert out.count("baseline: night 2") == 2
    run_night(matrix, device)
    assert statuses(matrix, 3) == ["same", "same"]


def test_renamed_profile(matrix: Path, device: NightDevice, shapes: Path) -> None:
    """A target with another profile is another thing under the same name."""
    run_night(matrix, device)
    own = Path("targets/host.yaml").read_text().replace("name: host", "name: mine")
    (matrix.parent / "mine.yaml").write_text(own)
    write_matrix(matrix.parent, shapes, targets={"here": {"profile": "mine.yaml"}})
    code, out, _ = run_night(matrix, device)
    assert code == 3
    assert "another profile" in out


def test_baseline_whose_bundle_is_gone(matrix: Path, device: NightDevice) -> None:
    """Speed can't be compared, and that is said; accuracy still is."""
    run_night(matrix, device)
    for bundle in (matrix.parent / "runs/nightly/bundles").iterdir():
        (bundle / "bundle.json").unlink()
    new_weights(matrix, "second weights")
    device.blind = {"second weights": IMAGES // 2}
    code, out, _ = run_night(matrix, device)
    assert (code, statuses(matrix, 2)) == (1, ["worse", "worse"])
    assert "the baseline's bundle is gone" in out


def test_killed_between_measuring_and_recording(matrix: Path, device: NightDevice) -> None:
    """The next call resumes the night: recorded cells stay, the lost one is measured again, none is there twice."""
    benches = iter(range(100))

    def stop() -> None:
        # The first cell of the first night takes 12 rounds.
        if next(benches) >= 14:
            raise KeyboardInterrupt

    device.on_bench = stop
    assert run_night(matrix, device)[0] == 130
    assert statuses(matrix, 1) == ["not judged"]
    device.on_bench = lambda: None
    code, _, err = run_night(matrix, device)
    assert (code, statuses(matrix, 1)) == (0, ["first", "first"])
    assert "resumed: 1 cells are recorded" in err
    with History.open(history_of(matrix)) as history:
        assert [night.number for night in history.nights()] == [1]


def test_new_night_instead_of_resuming(matrix: Path, device: NightDevice) -> None:
    """With --new, and with another matrix, an interrupted night is left as it is."""

    def stop() -> None:
        raise KeyboardInterrupt

    device.on_bench = stop
    run_night(matrix, device)
    device.on_bench = lambda: None
    run_night(matrix, device, "--new")
    with History.open(history_of(matrix)) as history:
        assert [night.ended_at is not None for night in history.nights()] == [False, True]


def test_two_nights_at_once(matrix: Path, device: NightDevice) -> None:
    """The second call is refused, names the first one's process, and changes nothing."""
    seen = []

    def second() -> None:
        if not seen:
            seen.append(run_cli("nightly", str(matrix)))

    device.on_bench = second
    assert run_night(matrix, device)[0] == 0
    ((code, _, err),) = seen
    assert code == 2
    assert "another process (pid " in err
    assert statuses(matrix, 1) == ["first", "first"]


def test_against_a_branch(matrix: Path, device: NightDevice) -> None:
    """Without a night of that branch there is nothing to compare with."""
    run_night(matrix, device)
    code, _, err = run_night(matrix, device, "--against", "main")
    assert code == 2
    assert "No night of the branch main" in err


def test_only_patterns(tmp_path: Path, shapes: Path, device: NightDevice) -> None:
    """`only` leaves the other cells out; patterns that leave none are refused with an example."""
    matrix = write_matrix(tmp_path, shapes, only=["*/ncnn-*"])
    run_night(matrix, device)
    assert [run.cell.name for run in runs_of(matrix, 1)] == ["m/d/s/here/ncnn-fp16"]
    code, _, err = run_night(write_matrix(tmp_path, shapes, only=["x"]), device)
    assert code == 2
    assert "m/d/s/here/onnxruntime-fp32" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modles": {}}, "modles: unknown key. Did you mean 'models'?"),
        ({"models": {"m": "missing.pt"}}, "models.m: "),
        ({"models": {"a/b": "best.pt"}}, "a name of letters"),
        ({"settings": {"s": {"prune.stpes": 2}}}, "Did you mean 'steps'?"),
        ({"targets": {"t": {"profile": "rpi6"}}}, "Unknown target 'rpi6'"),
        ({"timing": {"rounds": [24, 12]}}, "numbers that grow"),
        ({"gates": {"false_alarms": 0.9}}, "gates.false_alarms"),
    ],
)
def test_typing_errors(
    changes: dict[str, object], said: str, tmp_path: Path, shapes: Path, device: NightDevice
) -> None:
    """Each is named before anything runs, and nothing is written."""
    matrix = write_matrix(tmp_path, shapes, **changes)
    code, _, err = run_night(matrix, device)
    assert code == 2
    assert said in err
    assert not (tmp_path / "runs").exists()


def test_files_of_a_night(matrix: Path, device: NightDevice) -> None:
    """Markdown, JUnit XML, Prometheus text and JSON say the same."""
    run_night(matrix, device)
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.2}
    run_night(matrix, device)
    folder = matrix.parent / "runs/nightly/nights/0002"
    assert "| **worse** | m/d/s/here/ncnn-fp16 |" in (folder / "summary.md").read_text()
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "2", "0")
    assert {case.get("name") for case in suite.iter("testcase")} == set(BUILDS)
    metrics = (folder / "metrics.prom").read_text()
    assert 'yolo_slim_nightly_worse{model="m",data="d",settings="s",target="here",build="ncnn-fp16"} 1' in metrics
    value = json.loads((folder / "night.json").read_text())
    assert (value["exit_code"], len(value["runs"])) == (1, 2)


def test_looking_back(matrix: Path, device: NightDevice) -> None:
    """log, show and a cell's log print what was recorded; unknown nights and cells are refused."""
    run_night(matrix, device)
    run_night(matrix, device)
    where = ("--history", str(history_of(matrix)))
    assert [line.split()[0] for line in run_cli("nightly", "log", *where)[1].splitlines()] == ["1", "2"]
    assert len(run_cli("nightly", "log", "--cell", "*/ncnn-fp16", *where)[1].splitlines()) == 2
    assert "same" in run_cli("nightly", "show", "2", *where)[1]
    assert "python: 3.11" in run_cli("nightly", "show", "2", "*/ncnn-fp16", *where)[1]
    for refused in (
        ("show", "7"),
        ("show", "1", "nothing"),
        ("diff", "1", "9"),
        ("bless", "--night", "9", "--reason", "r"),
    ):
        code, _, err = run_cli("nightly", *refused, *where)
        assert (code, "Traceback" in err) == (2, False)
    code, _, err = run_cli("nightly", "bless", "--reason", " ", *where)
    assert (code, "reason is empty" in err) == (2, True)


def test_example_is_a_valid_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `init` writes is read without a complaint, and isn't overwritten."""
    from yolo_slim.nightly import matrix as matrices

    monkeypatch.chdir(tmp_path)
    assert run_cli("nightly", "init")[0] == 0
    assert len(matrices.load(tmp_path / "nightly.yaml").cells) == 2
    assert run_cli("nightly", "init")[0] == 2
