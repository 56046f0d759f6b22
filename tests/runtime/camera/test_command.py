"""The camera command as its user runs it: options, outputs, the page, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.constants import ROOT
from yolo_slim.runtime.__main__ import main
from yolo_slim.runtime.camera.arguments import class_ids
from yolo_slim.runtime.camera.frame import Answer, Frame, Shown
from yolo_slim.runtime.camera.outputs.record import Context, class_counts, distinct
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import StageTimes

FRAMES = 5


def camera(*options: str) -> int:
    """Run the command in this process."""
    return main(["camera", *options])


@contextmanager
def running(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A camera with a page in a process of its own, and the page's address."""
    command = [sys.executable, "-m", "yolo_slim.runtime", "camera", str(bundle), "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            lines = iter(process.stderr.readline, "")
            link = next((found[1] for line in lines if (found := re.search(r"Page: (\S+)", line))), "")
            assert link
            yield process, link.rstrip("/")
        finally:
            process.kill()


def ask(url: str) -> bytes:
    """Get a page."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return bytes(answer.read())


def wait_for_frames(url: str) -> None:
    """Wait until the camera is live: the link is printed before its first frame."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        with suppress(urllib.error.HTTPError):
            ask(f"{url}/health")
            return
        time.sleep(0.2)


def tell(url: str, command: str, value: object) -> None:
    """Send a command as the page does."""
    body = json.dumps({"command": command, "value": value}).encode()
    headers = {"Content-Type": "application/json", "Origin": url}
    urllib.request.urlopen(urllib.request.Request(f"{url}/api/command", body, headers), timeout=20).close()


def test_scene_without_a_page(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a camera the scene runs; it ends after the frames that were asked for, with a summary."""
    lines = tmp_path / "out.jsonl"
    assert camera(str(tiny_bundle), "--no-page", "--max-frames", str(FRAMES), "--jsonl", str(lines)) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == FRAMES
    assert [row["sequence"] for row in rows] == list(range(len(rows)))
    assert {"detections", "counts", "lines", "zones", "source"} <= set(rows[0])
    assert "frames shown in" in capsys.readouterr().err


def test_a_video_ends_by_itself(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that isn't looped ends the camera; the control gets the same frames."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
    for index in range(10):
        writer.write(np.full((64, 96, 3), index * 20, np.uint8))
    writer.release()
    assert camera(str(tiny_bundle), "--no-page", "--source", str(path), "--control", str(tiny_bundle)) == 0
    said = capsys.readouterr().err
    assert re.search(r"^control: [\d.]+ ms a frame .* enough for [\d.]+ FPS", said, re.MULTILINE)


@pytest.mark.parametrize(("cores", "options", "threads"), [(4, [], 1), (1, [], 1), (4, ["--threads", "3"], 3)])
def test_threads(
    cores: int,
    options: list[str],
    threads: int,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One core is left to the camera, at least one and no more than the bundle's are used; an option decides."""
    monkeypatch.setattr("yolo_slim.runtime.camera.command.cores", lambda: cores)
    assert camera(str(tiny_bundle), "--no-page", "--max-frames", "1", *options) == 0
    assert f"threads {threads}\n" in capsys.readouterr().err


def test_quiet(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --quiet and lines to standard output, nothing else is printed."""
    assert camera(str(tiny_bundle), "--no-page", "--max-frames", "2", "--quiet", "--jsonl", "-") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [json.loads(line)["sequence"] for line in printed.out.splitlines()] == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--conf", "2"], "--conf: got 2.0; expected 0 to 1"),
        (["--duration", "nan"], "--duration: got nan; expected more than 0"),
        (["--port", "70000"], "--port: got 70000"),
        (["--listen", "0.0.0.0"], "--listen needs the page; --no-page serves none"),
        (["--clip-on", "x"], "--clip-on needs --clips"),
        (["--classes", "no-such-class"], "the bundle has no such class"),
        (["--source", "nowhere.mp4"], "nowhere.mp4"),
        (["--rotate", "45"], "rotate: got 45; expected 0, 90, 180, 270"),
        (["--source", "rtsp://127.0.0.1:9/x"], "127.0.0.1:9"),
        (["--source", "/dev/video99"], "/dev/video99"),
        (["--mqtt", "http://x"], "It needs mqtt://"),
    ],
)
def test_bad_input(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    options: list[str], message: str,
) -> None:  # fmt: skip
    """One clear message, exit code 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert camera(str(tiny_bundle), "--no-page", *options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_bundle_and_port_in_use(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle is needed, and a port that another program has is named."""
    assert camera("--source", "scene") == 2
    assert "No bundle was given" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert camera(str(tiny_bundle), "--port", str(port)) == 2
    assert str(port) in capsys.readouterr().err


def test_cameras_and_service(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--list needs no bundle; the unit runs the command as it was typed."""
    assert camera("--list") == 0
    assert capsys.readouterr().out
    assert camera(str(tiny_bundle), "--source", "0", "--print-service") == 0
    unit = capsys.readouterr().out
    assert f"camera {tiny_bundle} --source 0\n" in unit
    assert "--print-service" not in unit


def test_page_commands_and_sigterm(tiny_bundle: Path, tmp_path: Path) -> None:
    """The page shows the camera, changes it at once, saves lines; SIGTERM ends everything with a summary."""
    zones = tmp_path / "zones.json"
    line = {"name": "gate", "kind": "line", "points": [[0.5, 0.1], [0.5, 0.9]]}
    with running(tiny_bundle, "--track", "--zones", str(zones)) as (process, url):
        assert b"<canvas" in ask(url)
        wait_for_frames(url)
        assert ask(f"{url}/snapshot.jpg")[:2] == b"\xff\xd8"
        tell(url, "conf", 0.9)
        tell(url, "zones", [line])
        assert json.loads(zones.read_text())["lines"][0]["name"] == "gate"
        assert json.loads(ask(f"{url}/api/stats"))["counts"]["gate"] == {"in": 0, "out": 0}
        assert b"yolo_slim_camera_fps" in ask(f"{url}/metrics")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "frames shown in" in said
        assert "Traceback" not in said


def test_two_classes_of_one_name() -> None:
    """Each is counted by itself; on the command line the name means both, the number one."""
    names = distinct({0: "bolt", 1: "bolt", 2: "nut"})
    assert names == {0: "bolt (0)", 1: "bolt (1)", 2: "nut"}
    assert class_ids("bolt", names, "--classes") == {0, 1}
    assert class_ids("1,nut", names, "--classes") == {1, 2}
    found = Detections(boxes=np.zeros((2, 4), np.float32), scores=np.ones(2, np.float32), class_ids=np.array([0, 1]))
    times = StageTimes(pre_ms=1.0, infer_ms=1.0, post_ms=1.0, total_ms=3.0)
    frame = Frame(image=np.zeros((4, 4, 3), np.uint8), index=0, captured_s=0.0)
    shown = Shown(frame=frame, answers={"slim": Answer(detections=found, times=times)}, sequence=0, ready_s=0.0)
    assert class_counts(shown, Context(source="scene", names=names)) == {"bolt (0)": 1, "bolt (1)": 1}
