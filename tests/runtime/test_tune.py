"""The search for threads and options: what it claims, what it keeps, and where that is used. No timing decides here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from yolo_slim.backends import options_of
from yolo_slim.bundle import open_bundle, pack
from yolo_slim.errors import SlimError
from yolo_slim.runtime import __main__ as device
from yolo_slim.runtime import tune_process, tuned
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.tune import ROUNDS, Report, Timed, Tuner, tune
from yolo_slim.runtime.tuned import Setting

OPTIONS: dict[str, tuple[Any, ...]] = {"spinning": (True, False), "block": (0, 4, 8)}
Milliseconds = Callable[[Setting, int], float]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


class Machine:
    """Times settings as a test says, and notes each."""

    def __init__(self, milliseconds: Milliseconds, wrong: str = "", busy_after: int = 10**6) -> None:
        self.milliseconds, self.wrong, self.busy_after = milliseconds, wrong, busy_after
        self.timed: list[str] = []
        self.crashes = False
        """The wrong setting's self-check ends with an error."""

    def time_once(self, setting: Setting) -> Timed:
        """Take as long as the test says; busy after so many timings."""
        self.timed.append(str(setting))
        reasons = ("other processes used 1.4 of 2 cores",) if len(self.timed) > self.busy_after else ()
        return Timed(p50_ms=self.milliseconds(setting, self.timed.count(str(setting))), invalid_reasons=reasons)

    def is_right(self, setting: Setting) -> bool:
        """Pass, but for one setting."""
        if self.crashes and str(setting) == self.wrong:
            raise SlimError("The bundle failed.", remedy="Look at it.")
        return str(setting) != self.wrong

    def tune(self, threads: int = 2, most: int = 4) -> Report:
        """Search."""
        return Tuner(
            usual=Setting(threads=threads, options={}),
            options=OPTIONS,
            time_once=self.time_once,
            is_right=self.is_right,
            on_step=lambda _: None,
            most_threads=most,
        ).run()


def by_threads(times: Mapping[int, float], **options: float) -> Milliseconds:
    """Milliseconds by number of threads, times a factor for each option that isn't the usual one."""

    def milliseconds(setting: Setting, _: int) -> float:
        found = times[setting.threads]
        for key in setting.options:
            found *= options.get(key, 1.0)
        return found

    return milliseconds


def test_the_fastest_wins() -> None:
    """Threads first, then every option with these threads; the gain is that of all steps together."""
    found = Machine(by_threads({1: 30.0, 2: 20.0, 3: 12.0, 4: 16.0}, spinning=0.8, block=1.3)).tune()
    assert found.best == Setting(threads=3, options={"spinning": False})
    assert found.gain == pytest.approx(20 / 12 / 0.8)
    assert str(found.best) == "3 threads, spinning off"
    better = {trial.setting: trial.is_better for trial in found.trials}
    assert better == {
        "1 thread": False, "3 threads": True, "4 threads": False, "3 threads, spinning off": True,
        "3 threads, spinning off, block 4": False, "3 threads, spinning off, block 8": False,
    }  # fmt: skip
    assert next(trial for trial in found.trials if trial.setting == "4 threads").note == "another one was faster still"


def test_nothing_is_claimed_within_the_noise() -> None:
    """A rival that loses one round of seven, or wins by less than two percent, isn't better."""

    def noisy(setting: Setting, time: int) -> float:
        return 20.0 if setting.threads == 2 and not setting.options else 21.0 if time == 5 else 15.0

    def hardly(setting: Setting, _: int) -> float:
        return 20.0 if setting.threads == 2 and not setting.options else 19.8

    for milliseconds in (noisy, hardly):
        found = Machine(milliseconds).tune()
        assert found.best == found.usual
        assert (found.gain, [trial.is_better for trial in found.trials]) == (1.0, [False] * len(found.trials))
        assert f"nothing is faster than {found.usual}" in found.as_text()


def test_a_lost_round_ends_a_trial() -> None:
    """A rival that can't win any more costs no further time; the present best is timed in every round that is left."""
    machine = Machine(by_threads({1: 30.0, 2: 20.0, 3: 30.0, 4: 30.0}))
    found = machine.tune()
    assert {setting: machine.timed.count(setting) for setting in ("1 thread", "3 threads", "4 threads")} == {
        "1 thread": 1, "3 threads": 1, "4 threads": 1,
    }  # fmt: skip
    # Equal times are no win: each option is out after its first round.
    assert machine.timed.count("2 threads") == 3
    assert all(len(trial.ratios) == 1 for trial in found.trials)


def test_both_orders_are_timed() -> None:
    """A drift inside the rounds would favour what always comes first."""
    machine = Machine(by_threads({1: 10.0, 2: 20.0}))
    machine.tune(most=2)
    assert machine.timed[: 2 * ROUNDS] == ["2 threads", "1 thread", "1 thread", "2 threads"] * (ROUNDS // 2) + [
        "2 threads", "1 thread",
    ]  # fmt: skip


@pytest.mark.parametrize("crashes", [False, True])
def test_wrong_detections_are_not_faster(crashes: bool) -> None:
    """A setting whose self-check fails, or ends with an error, isn't taken, however fast; the next one is asked."""
    machine = Machine(by_threads({1: 30.0, 2: 20.0, 3: 12.0, 4: 16.0}), wrong="3 threads")
    machine.crashes = crashes
    found = machine.tune()
    assert found.best.threads == 4
    assert {trial.note for trial in found.trials if trial.setting == "3 threads"} == {
        "its detections aren't those of the workstation"
    }


def test_a_rival_that_does_not_run_has_lost() -> None:
    """An option that breaks the runtime ends its own trial alone; a bundle that doesn't run at all is an error."""

    def broken(setting: Setting, _: int) -> float:
        if "spinning" in setting.options:
            raise SlimError("It crashed.")
        return 20.0

    assert Machine(broken).tune().best == Setting(threads=2, options={})

    def dead(*_: object) -> float:
        raise SlimError("It crashed.")

    with pytest.raises(SlimError, match="crashed"):
        Machine(dead).tune()


@pytest.mark.parametrize("after", [0, 5, 30])
def test_a_busy_machine_decides_nothing(after: int) -> None:
    """From the first timing that doesn't count on nothing is timed, and nothing claimed, not even what was found."""
    machine = Machine(by_threads({1: 30.0, 2: 20.0, 3: 12.0, 4: 16.0}, spinning=0.8), busy_after=after)
    found = machine.tune()
    assert len(machine.timed) == after + 1
    assert (found.best, found.gain) == (found.usual, 1.0)
    assert found.invalid_reasons == ("other processes used 1.4 of 2 cores",)
    assert "nothing was stored" in found.as_text()


def stored(bundle: Path, **changes: object) -> Path:
    """Tune a bundle without a timing, and spoil the file."""
    opened = open_bundle(bundle)
    path = tuned.save(opened, Setting(threads=1, options={"spinning": False}), {"gain": 1.5})
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_the_winner_is_stored_and_used(own_bundle: Path, tmp_path: Path) -> None:
    """The bundle stays whole and its archive as it was; the detector runs with it and says so; explicit words win."""
    before = pack_bytes(own_bundle, tmp_path / "a")
    machine = Machine(by_threads({count: 20.0 / count for count in range(1, 65)}, spinning=0.5))
    report = tune(open_bundle(own_bundle), machine.time_once, machine.is_right, lambda _: None)
    assert report.best.options["spinning"] is False
    assert pack_bytes(own_bundle, tmp_path / "b") == before
    with Detector(own_bundle) as detector:
        details = detector.describe().details
        assert (detector.threads, details["spinning"]) == (report.best.threads, False)
        assert details["tuned"] == str(report.best)
    with Detector(own_bundle, 1) as detector:
        assert (detector.threads, detector.describe().details["spinning"]) == (1, False)
    with Detector(own_bundle, options={}) as detector:
        assert detector.describe().details == {"tuned": "no"}


def pack_bytes(bundle: Path, folder: Path) -> bytes:
    """Return a bundle's archive."""
    folder.mkdir()
    pack(bundle, folder / "tiny.tar.gz")
    return (folder / "tiny.tar.gz").read_bytes()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tuned_for": {}}, "another machine, another number of cores, another version of the runtime, another model"),
        ({"schema": 2}, "another yolo_slim"),
        ({"threads": "two"}, "can't be read"),
        ({"options": {"warp": True}}, "can't be read"),
        ({"options": {"spinning": "fast"}}, "can't be read"),
        ({"threads": 0}, "another yolo_slim"),
    ],
)
def test_a_file_of_something_else_is_not_used(changes: dict[str, object], why: str, own_bundle: Path) -> None:
    """It is ignored, and doctor and the record of what ran say why and what to type."""
    stored(own_bundle, **changes)
    with Detector(own_bundle) as detector:
        text = str(detector.describe().details["tuned"])
        assert "spinning" not in detector.describe().details
    assert text.startswith("tuned.json isn't used")
    assert why in text
    assert "python -m yolo_slim.runtime tune" in text


def test_each_part_of_the_identity_counts(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another board, another runtime or another model: the setting isn't known to be good there."""
    stored(own_bundle)
    bundle = open_bundle(own_bundle)
    assert tuned.load(bundle).setting is not None
    for name, value in (("device_model", "Other"), ("cores", 99), ("package_version", "0.1")):
        with monkeypatch.context() as patch:
            patch.setattr(tuned, name, lambda *_, value=value: value)
            assert tuned.load(bundle).setting is None


def test_commands_show_it(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Doctor and bench name the setting, --untuned leaves it out, and tune keeps it unless forced."""
    stored(own_bundle)
    short = ["--seconds", "0.01", "--queries", "2", "--repeat", "0"]
    assert device.main(["doctor", str(own_bundle)]) == 0
    assert "tuned        1 thread, spinning off" in capsys.readouterr().out
    device.main(["bench", str(own_bundle), *short])
    assert "tuned: 1 thread, spinning off" in capsys.readouterr().out
    device.main(["bench", str(own_bundle), "--untuned", *short])
    assert "tuned" not in capsys.readouterr().out
    assert device.main(["tune", str(own_bundle)]) == 0
    assert capsys.readouterr().out.startswith("tuned already: 1 thread, spinning off")


@pytest.mark.parametrize(
    ("option", "words"),
    [("warp=on", ["warp", "spinning"]), ("spinning=fast", ["'fast'", "True, False"]), ("spinning", ["NAME=VALUE"])],
)
def test_wrong_options(option: str, words: list[str], cli: Cli, tiny_bundle: Path) -> None:
    """An option that isn't there, a value that isn't one, or none: one message with the right ones."""
    done = cli("bench", tiny_bundle, "--option", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["spinning=off", "graph=extended", "parallel=on", "pin=on"])
def test_options_change_no_detection(option: str, cli: Cli, tiny_bundle: Path) -> None:
    """Every option of ONNX Runtime passes the self-check, in a process of its own."""
    done = cli("check", tiny_bundle, "--option", option, "--threads", "2")
    assert done.returncode == 0, done.stderr


def test_a_process_a_timing(own_bundle: Path) -> None:
    """A timing and a check run with exactly the setting that was asked for, whatever was tuned before."""
    stored(own_bundle)
    run = tune_process.Processes(bundle=open_bundle(own_bundle), images=None, seconds=0.01)
    assert run.time_once(Setting(threads=1, options={"graph": "extended"})).p50_ms > 0
    assert run.is_right(Setting(threads=1, options={}))
    with pytest.raises(SlimError, match="doesn't run with 1 thread, warp 9"):
        run.time_once(Setting(threads=1, options={"warp": 9}))


def test_a_runtime_without_options(own_bundle: Path) -> None:
    """TensorRT's engine is what was built: there is nothing to tune."""
    bundle = open_bundle(own_bundle)
    other = type(bundle)(folder=bundle.folder, spec=type(bundle.spec)(**{**vars(bundle.spec), "runtime": "tensorrt"}))
    with pytest.raises(SlimError, match="no options to tune"):
        tune(other, lambda _: Timed(p50_ms=1.0), lambda _: True, lambda _: None)


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn"])
def test_options_are_typed_and_read_back(runtime: str) -> None:
    """What `tune` gives its processes is what they read."""
    for name, values in options_of(runtime).items():
        for value in values:
            assert tuned.parse_options(tuned.typed({name: value})) == {name: value}
