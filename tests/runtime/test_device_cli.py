from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.tiny_detector import save_scene, scene
from yolo_slim.bundle import pack
from yolo_slim.runtime import __main__ as device
from yolo_slim.runtime.__main__ import main
from yolo_slim.runtime.bench import BenchResult
from yolo_slim.runtime.infer import load_detections

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def write_video(path: Path, frames: int = 5) -> Path:
    """Write a short video of 96 x 64 at 10 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    for _ in range(frames):
        writer.write(scene(64, 96))
    writer.release()
    return path


def assert_one_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Assert exit code 2, silence on standard output, and one message without a traceback."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.splitlines()) <= 4
    for part in parts:
        assert part in done.stderr


def test_doctor(cli: Cli, tiny_bundle: Path) -> None:
    """Command doctor names the machine and the runtimes, and runs the bundle."""
    done = cli("doctor", tiny_bundle)
    assert done.returncode == 0, done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["fine"].startswith("opencv, onnxruntime")
    assert "missing" not in facts
    assert facts["bundle"] == "tiny: onnxruntime fp32 64x64, built for host"
    assert done.stdout.splitlines()[-1].split() == ["would", "run", "yes,", "on", "CPUExecutionProvider"]
    assert {"machine", "memory", "versions", "clocks", "onnxruntime", "ncnn", "mnn"} <= facts.keys()


def test_doctor_without_the_runtime(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the bundle's runtime doctor says how to install it and exits 1."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert device.main(["doctor", str(tiny_bundle)]) == 1
    assert "would run    no: onnxruntime can't be imported" in capsys.readouterr().out


def test_doctor_on_a_bare_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without OpenCV and any runtime doctor says what is missing and what to do, and exits 1; JSON has the same."""
    for module in ("cv2", "onnxruntime", "ncnn", "tensorrt", "MNN"):
        monkeypatch.setitem(sys.modules, module, None)
    assert device.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split(maxsplit=1)[0] for line in lines] == ["fine", "missing", "to", "missing", "to"]
    assert lines[0].endswith("nothing that a bundle needs")
    assert "cv2 isn't installed" in lines[1]
    assert lines[2].endswith("pip install opencv-python-headless")
    assert "pip install onnxruntime, or ncnn" in lines[4]
    assert device.main(["doctor", "--json", "-"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_check(cli: Cli, tiny_bundle: Path) -> None:
    """Command check passes on a fresh bundle, image by image."""
    done = cli("check", tiny_bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1.png: 2 of 2 expected, 2 found, ok",
        "2.jpg: 2 of 2 expected, 2 found, ok",
        "self-check passed (IoU at least 0.9 or sides within 2 pixels of the input, score within 0.05)",
    ]


def test_check_fails(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A runtime that computes something else makes check exit 1."""
    from yolo_slim.backends.onnxruntime import OrtSession

    infer = OrtSession.infer
    monkeypatch.setattr(OrtSession, "infer", lambda self, blob: infer(self, blob) * np.float32(0.9))
    assert device.main(["check", str(tiny_bundle)]) == 1
    assert "self-check FAILED" in capsys.readouterr().out


def test_bench(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """Command bench prints a line a stage and keeps every sample in its JSON file."""
    done = cli("bench", tiny_bundle, "--seconds", "0.01", "--queries", "8", "--threads", "1", "--json", "bench.json")
    value = json.loads((tmp_path / "bench.json").read_text())
    assert done.returncode == (0 if value["valid"] else 1), done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:6]] == ["pre", "infer", "post", "total"]
    assert value["queries"] == len(value["samples_ms"]["total"]) >= 8
    assert value["images"] == 2


def test_bench_on_images(cli: Cli, tiny_bundle: Path, photo: Path) -> None:
    """--images replaces the bundle's own, --json - prints JSON and nothing else."""
    done = cli("bench", tiny_bundle, "--images", photo, "--seconds", "0.01", "--queries", "2", "--json", "-")
    assert json.loads(done.stdout)["images"] == 1


def test_throttled_bench_exits_1(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A timing that doesn't count says so and exits 1."""
    monkeypatch.setattr(BenchResult, "is_valid", False)
    assert device.main(["bench", str(tiny_bundle), "--seconds", "0.01", "--queries", "2"]) == 1


def test_detect_image(cli: Cli, tiny_bundle: Path, photo: Path, tmp_path: Path) -> None:
    """Command detect writes the annotated image and the detections into a new numbered folder each time."""
    first, second = cli("detect", tiny_bundle, photo), cli("detect", tiny_bundle, photo)
    assert first.stdout.splitlines()[-1] == "2 detections in 1 frames, written to runs/detect"
    assert second.stdout.splitlines()[-1] == "2 detections in 1 frames, written to runs/detect-2"
    for folder in ("runs/detect", "runs/detect-2"):
        drawn = cv2.imread(str(tmp_path / folder / "photo.png"))
        assert drawn.shape == (128, 192, 3)
        assert (drawn != cv2.imread(str(photo))).any()
        assert load_detections(tmp_path / folder / "detections.json")[0].file == "photo.png"


def test_detect_folder(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """A folder keeps its shape; --conf and --quiet work; --json also writes the answer elsewhere."""
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/a.png"):
        cv2.imwrite(str(tmp_path / "in" / name), scene())
    done = cli("detect", tiny_bundle, "in", "--out", "out", "--conf", "0.999", "--quiet", "--json", "answer.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out/a.jpg").is_file()
    assert (tmp_path / "out/sub/a.png").is_file()
    value = json.loads((tmp_path / "answer.json").read_text())
    assert value == json.loads((tmp_path / "out/detections.json").read_text())
    assert [(image["file"], image["scores"]) for image in value["images"]] == [("a.jpg", []), ("sub/a.png", [])]
    assert value["thresholds"]["conf"] == 0.999


def test_detect_video(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """A video becomes an annotated video of as many frames, with the rate and size it had."""
    write_video(tmp_path / "clip.mp4")
    done = cli("detect", tiny_bundle, "clip.mp4", "--out", "out")
    assert done.returncode == 0, done.stderr
    capture = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    properties = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    assert [capture.get(key) for key in properties] == [5, 10, 96, 64]
    images = load_detections(tmp_path / "out/detections.json")
    assert [image.file for image in images] == [f"clip_{index:06d}" for index in range(1, 6)]
    assert all(len(image.detections) >= 2 for image in images)


def test_detect_names_what_it_skips(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """A damaged image doesn't stop the others: it is named on the terminal and in the JSON, and the exit code is 1."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        save_scene(tmp_path / "in" / name)
    (tmp_path / "in/d.heic").write_bytes(b"")
    left_out = ".heic files: 1 (d.heic)"
    done = cli("detect", tiny_bundle, "in", "--out", "whole")
    assert (done.returncode, done.stderr) == (0, f"left out: {left_out}\n")
    (tmp_path / "in/b.jpg").write_bytes(b"")
    unreadable = "in/b.jpg is an empty file, not an image. Replace or remove the file."
    done = cli("detect", tiny_bundle, "in", "--out", "out", "--json", "-")
    assert (done.returncode, done.stderr) == (1, f"left out: {left_out}\nUNREADABLE: {unreadable}\n")
    value = json.loads(done.stdout)
    assert [image["file"] for image in value["images"]] == ["a.jpg", "c.jpg"]
    assert (value["left_out"], value["unreadable"]) == ([left_out], [unreadable])
    quiet = cli("detect", tiny_bundle, "in", "--out", "quiet", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (1, "", f"UNREADABLE: {unreadable}\n")


def test_detect_damaged_video(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """A video with lost frames is annotated past them, and the exit code is 1."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 211.222, (96, 64))
    for _ in range(9):
        writer.write(scene(64, 96))
    writer.release()
    content = bytearray((tmp_path / "clip.avi").read_bytes())
    frame = content.index(b"\xff\xd8", len(content) // 2)
    end = content.index(b"00dc", frame)
    content[frame:end] = bytes(end - frame)
    (tmp_path / "clip.avi").write_bytes(content)
    done = cli("detect", tiny_bundle, "clip.avi", "--out", "out")
    assert done.returncode == 1
    assert done.stderr.startswith("UNREADABLE: clip.avi: 1 of 9 frames can't be read")
    capture = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), round(capture.get(cv2.CAP_PROP_FPS), 2)) == (8, 211.22)


def test_detect_overwrites_nothing(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """Images whose names differ in the suffix alone all get an annotated copy of their name."""
    names = ["a.JPG", "a.Png", "a.jpg", "a.png"]
    for name in names:
        save_scene(tmp_path / "in" / name)
    assert cli("detect", tiny_bundle, "in", "--out", "out").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "detections.json"]


def test_disk_that_ignores_case(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output's disk takes two names for one file, the second picture gets a number."""
    for name in ("a.JPG", "a.jpg"):
        save_scene(tmp_path / "in" / name)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: exists(self) or exists(self.with_suffix(self.suffix.upper())))
    assert device.main(["detect", str(tiny_bundle), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.jpg", "a.JPG", "detections.json"]


@pytest.mark.parametrize("source", ["rtsp://127.0.0.1/a", "http://127.0.0.1/a.jpg", "0", "/dev/video0"])
def test_streams_and_cameras(cli: Cli, tiny_bundle: Path, source: str) -> None:
    """An address or a camera as a source is refused as what it is, spelled as it was given."""
    for command in (["detect", tiny_bundle, source], ["bench", tiny_bundle, "--images", source]):
        done = cli(*command)
        assert done.returncode == 2
        assert f"{source} is a stream or a camera, expected a file or a folder." in done.stderr
        assert f"ffmpeg -i {'/dev/video0' if source == '0' else source} -t" in done.stderr


def test_a_file_may_be_called_0(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """Negative control: a number that is the name of a folder is that folder."""
    save_scene(tmp_path / "0/a.png")
    assert cli("detect", tiny_bundle, "0").returncode == 0


def test_other_commands_name_what_they_leave_out(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """Commands infer, bench and pair walk through folders as detect does, and say what they leave out."""
    save_scene(tmp_path / "in/a.png")
    (tmp_path / "in/._a.png").write_bytes(b"")
    for command in (
        ["infer", tiny_bundle, "in", "--out", "a.json"],
        ["bench", tiny_bundle, "--images", "in", "--seconds", "0.01", "--queries", "2"],
        ["pair", tiny_bundle, tiny_bundle, "--images", "in", "--rounds", "1"],
    ):
        done = cli(*command)
        assert (done.returncode, done.stderr) == (0, "left out: hidden files and folders: 1 (._a.png)\n")


def test_infer(cli: Cli, tiny_bundle: Path, photo: Path, tmp_path: Path) -> None:
    """Command infer writes val detections, from an archive too, in a folder that didn't exist."""
    pack(tiny_bundle, tmp_path / "tiny.tar.gz")
    done = cli("infer", "tiny.tar.gz", photo, "--out", "new/answer.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "new/answer.json").read_text())["mode"] == "val"
    assert len(load_detections(tmp_path / "new/answer.json")[0].detections) > 4


@pytest.mark.parametrize("channels", [1, 4])
def test_channels(cli: Cli, tiny_bundle: Path, tmp_path: Path, channels: int) -> None:
    """A grey or transparent image is refused with the option that converts it, and the option works."""
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((64, 64, channels), np.uint8))
    assert_one_error(cli("detect", tiny_bundle, "image.png"), f"{channels} channel", "--convert-channels")
    assert cli("detect", tiny_bundle, "image.png", "--convert-channels").returncode == 0


def test_truncated_jpeg(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    """A cut off JPEG is one message that names the file."""
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), scene(200, 200))
    path.write_bytes(path.read_bytes()[:-200])
    for command in (("detect",), ("infer", "--out", "a.json")):
        assert_one_error(cli(command[0], tiny_bundle, path, *command[1:]), "photo.jpg", "cut off")


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_empty_video(cli: Cli, tiny_bundle: Path, tmp_path: Path, content: bytes) -> None:
    """A video without a frame is one message; OpenCV's own complaints don't reach the terminal."""
    (tmp_path / "empty.mp4").write_bytes(content)
    assert_one_error(cli("detect", tiny_bundle, "empty.mp4"), "no readable frame", "empty.mp4")


def test_spoiled_bundle(cli: Cli, own_bundle: Path, photo: Path) -> None:
    """Every command refuses a changed bundle with the file's name."""
    (own_bundle / "model.onnx").write_bytes(b"nothing")
    for command in (["doctor"], ["check"], ["bench"], ["detect", photo], ["infer", photo, "--out", "a.json"]):
        assert_one_error(cli(command[0], own_bundle, *command[1:]), "model.onnx: 7 bytes", "Copy the bundle")


def test_bad_input(cli: Cli, tiny_bundle: Path, photo: Path, tmp_path: Path) -> None:
    """Wrong paths and wrong commands exit with 2 and leave no empty folder."""
    assert_one_error(cli("check", "nothing"), "File not found: nothing (BUNDLE)")
    assert_one_error(cli("detect", tiny_bundle, "nothing"), "File not found: nothing (SOURCE)")
    assert not (tmp_path / "runs/detect").exists()
    (tmp_path / "clip.mp4").touch()
    assert_one_error(cli("infer", tiny_bundle, "clip.mp4", "--out", "a.json"), "infer takes images")
    assert_one_error(cli("detect", tiny_bundle, photo, "--out", photo / "out"), "Not a directory")
    assert_one_error(cli("infer", tiny_bundle, photo, "--out", tmp_path), "A folder where a file is wanted")
    for wrong in (
        ["bench", tiny_bundle, "--repeat", "-1"],
        ["bench", tiny_bundle, "--queries", "0"],
        ["detect", tiny_bundle, "x", "--conf", "2"],
        ["fly"],
        [],
    ):
        done = cli(*wrong)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_full_disk(
    tiny_bundle: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk is one message that names a remedy of this command line."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "a.json"))

    monkeypatch.setattr("yolo_slim.runtime.infer.write_json", full)
    assert device.main(["infer", str(tiny_bundle), str(photo), "--out", str(tmp_path / "a.json")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: The disk is full")
    assert "--out" in message
    assert "--project" not in message


@pytest.mark.parametrize("names_a_file", [True, False])
def test_answer_on_a_full_disk(
    names_a_file: bool, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What was measured is printed, as text and as JSON, where its file can't be written any more."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device", *([str(tmp_path / "x")] if names_a_file else []))

    out = tmp_path / "check.json"
    monkeypatch.setattr("yolo_slim.files.os.fsync", full)
    assert device.main(["check", str(tiny_bundle), "--json", str(out)]) == 2
    shown, errors = capsys.readouterr()
    text, brace, value = shown.partition("{\n")
    assert "self-check passed" in text
    assert json.loads(brace + value)["passed"] is True
    named = tmp_path / "x" if names_a_file else out
    assert errors.startswith(f"error: The disk is full: writing to {named} failed.\n")
    assert list(tmp_path.iterdir()) == []


def test_images_on_a_full_disk(
    tiny_bundle: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system names no file where a disk fills up within one: that is one message too."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert device.main(["detect", str(tiny_bundle), str(photo), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: The disk is full")
    assert str(tmp_path / "out") in err


@pytest.mark.parametrize(
    ("given", "written"), [(".", "here-2"), ("..", "above-2"), ("new/..", "here-2"), ("../here", "here-2")]
)
def test_detect_beside_the_working_folder(
    given: str, written: str, tiny_bundle: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is given as . or .. exists already: the new one beside it has its name and a number."""
    here = tmp_path / "above" / "here"
    (here / "new").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert device.main(["detect", str(tiny_bundle), str(photo), "--out", given]) == 0
    (found,) = tmp_path.rglob("detections.json")
    expected = (tmp_path if written == "above-2" else here.parent) / written
    assert (found.parent.resolve(), list(here.iterdir())) == (expected.resolve(), [here / "new"])


def test_missing_opencv(
    tiny_bundle: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without OpenCV the command says what to install."""

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    monkeypatch.setattr("yolo_slim.runtime.selfcheck.check", missing)
    assert device.main(["check", str(tiny_bundle)]) == 2
    assert "pip install opencv-python-headless" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child")
def test_interrupt(tiny_bundle: Path, tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and no traceback."""
    command = [sys.executable, "-m", "yolo_slim.runtime", "bench", str(tiny_bundle), "--seconds", "30"]
    root = str(Path(__file__).resolve().parents[2])
    # A program that a shell starts in the background ignores the signal, and so would its children.
    running = subprocess.Popen(
        command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    # Not earlier: a signal that arrives while modules are imported can get lost in one of their callbacks.
    maps, deadline = Path(f"/proc/{running.pid}/maps"), time.monotonic() + 60
    while "onnxruntime" not in maps.read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=25)
    assert (running.returncode, errors) == (130, "interrupted\n")


@pytest.mark.parametrize("text", ["x", "0", "1.5"])
def test_a_number_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the option and what it takes, never a function of ours."""
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "bundle", "--queries", text])
    assert f"error: --queries: got {text}, expected a positive integer" in capsys.readouterr().err


def test_answer_in_the_folder_of_the_pictures(
    tiny_bundle: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command makes that folder itself, so it need not be there; another missing folder is refused (control)."""
    out = tmp_path / "out"
    given = ["detect", str(tiny_bundle), str(photo), "--out", str(out), "--json"]
    assert device.main([*given, str(tmp_path / "other" / "found.json")]) == 2
    assert device.main([*given, str(out / "found.json")]) == 0, capsys.readouterr().err
    assert json.loads((out / "found.json").read_text())
