"""One line of JSON for every shown frame, whatever the disk does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.helpers.constants import ROOT
from tests.helpers.shown_frames import CONTEXT, detections, shown
from tests.helpers.waiting import wait_until
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.outputs import worker
from yolo_slim.runtime.camera.outputs.jsonl import JsonLines, JsonlSettings
from yolo_slim.runtime.camera.outputs.worker import Faults, Worker

TWO = detections([(1, 2, 3, 4), (10.06, 20, 30, 40)], [0.91234, 0.5], [0, 7])


def write(target: Path | str, count: int, said: list[str], **settings: float) -> JsonLines:
    """Let some frames through and close."""
    lines = JsonLines(JsonlSettings(target=str(target), **settings), CONTEXT, said.append)  # type: ignore[arg-type]
    for index in range(count):
        lines.shown(shown(TWO, time.monotonic(), track_ids=(3, 0), sequence=index))
    lines.close()
    return lines


def test_a_line_says_everything_about_a_frame(tmp_path: Path) -> None:
    """Its time is the clock's when the frame was captured; a box without a track has none."""
    write(tmp_path / "new" / "out.jsonl", 2, [])
    first, second = map(json.loads, (tmp_path / "new/out.jsonl").read_text().splitlines())
    age_s = time.time() - datetime.fromisoformat(first.pop("time").replace("Z", "+00:00")).timestamp()
    assert 0 <= age_s < 20
    assert first == {
        "schema": 1,
        "sequence": 0,
        "frame": 0,
        "source": "hall",
        "size": [200, 100],
        "latency_ms": 40.0,
        "counts": {"person": 1, "7": 1},
        "detections": [
            {"class_id": 0, "class": "person", "score": 0.9123, "box": [1.0, 2.0, 3.0, 4.0], "track": 3},
            {"class_id": 7, "class": "7", "score": 0.5, "box": [10.1, 20.0, 30.0, 40.0], "track": None},
        ],
    }
    assert (second["sequence"], second["frame"]) == (1, 2)


def test_counts_of_lines_stand_in_every_line(tmp_path: Path) -> None:
    """What is counted is asked for with every frame."""
    lines = JsonLines(JsonlSettings(target=str(tmp_path / "a")), CONTEXT, print, lambda: {"lines": {"door": 1}})
    lines.shown(shown(TWO, 0.0))
    lines.close()
    assert json.loads((tmp_path / "a").read_text())["lines"] == {"door": 1}


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """A dash writes there, line by line."""
    write("-", 3, [])
    assert [json.loads(line)["sequence"] for line in capsys.readouterr().out.splitlines()] == [0, 1, 2]


def test_files_are_rotated_by_size(tmp_path: Path) -> None:
    """The newest lines are in the file, older ones behind it, the oldest gone; each file is small and complete."""
    path = tmp_path / "out.jsonl"
    write(path, 60, [], rotate_mb=0.004, kept=2)
    files = [path, tmp_path / "out.jsonl.1", tmp_path / "out.jsonl.2"]
    assert sorted(tmp_path.iterdir()) == files
    assert all(file.stat().st_size <= 4000 for file in files)
    found = [json.loads(line)["sequence"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert found == list(range(found[0], 60))
    assert found[0] > 0


def test_a_file_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Lines are appended, and what is there counts for the size."""
    path = tmp_path / "out.jsonl"
    write(path, 2, [])
    write(path, 3, [])
    assert len(path.read_text().splitlines()) == 5
    write(path, 1, [], rotate_mb=0.001)
    assert len(path.read_text().splitlines()) == 1


def test_a_full_disk_is_said_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines are counted, and written again when there is room."""
    monkeypatch.setattr(worker, "CALM_S", 0.0)
    path, said = tmp_path / "out.jsonl", list[str]()
    path.symlink_to("/dev/full")
    lines = JsonLines(JsonlSettings(target=str(path)), CONTEXT, said.append)
    for index in range(5):
        lines.shown(shown(TWO, 0.0, sequence=index))
    wait_until(lambda: lines.faults.lost == 5)
    path.unlink()
    lines.shown(shown(TWO, 0.0, sequence=5))
    lines.close()
    assert [json.loads(line)["sequence"] for line in path.read_text().splitlines()] == [5]
    assert said == [
        f"JSON lines: The disk is full: writing to {path} failed. The camera goes on, and tries again.",
        "JSON lines: works again; 5 lost.",
    ]


PART = """
import json, resource, sys
from tests.helpers.shown_frames import CONTEXT, detections, shown
from yolo_slim.runtime.camera.outputs import worker
from yolo_slim.runtime.camera.outputs.jsonl import JsonLines, JsonlSettings
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
lines = JsonLines(JsonlSettings(target=sys.argv[1]), CONTEXT, print)
for index in range(20):
    lines.shown(shown(detections([(1, 2, 3, 4)]), 0.0, sequence=index))
lines.close()
print(lines.faults.lost)
"""


def test_a_disk_that_takes_a_part_of_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    """The part is cut off: every line of the file can be read."""
    path = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", PART, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    text = path.read_text()
    assert text.endswith("\n")
    written = [json.loads(line)["sequence"] for line in text.splitlines()]
    assert 0 < len(written) < 20
    assert int(done.stdout.split()[-1]) == 20 - len(written)


@pytest.mark.parametrize("kind", ["folder", "below a file"])
def test_a_file_that_cannot_be_written_is_refused_at_the_start(kind: str, tmp_path: Path) -> None:
    """With a message, before the camera opens."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SlimError, match=r"folder"):
        write(tmp_path if kind == "folder" else tmp_path / "file" / "out.jsonl", 0, [])


def test_a_slow_disk_does_not_stop_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that hangs keeps no frame waiting: what finds no room is lost, counted, and said once."""
    monkeypatch.setattr(worker, "CALM_S", 0.0)
    gate, said = threading.Event(), list[str]()
    faults = Faults("slow", said.append)
    slow: Worker[int] = Worker(lambda _: gate.wait(60), faults, room=3)
    for item in range(50):
        slow.put(item)
    assert faults.lost >= 46
    assert said == ["slow: It is too slow for the frames. The camera goes on, and tries again."]
    gate.set()
    slow.close()
    assert said[1:] == [f"slow: works again; {faults.lost} lost."]


def test_a_fault_that_comes_and_goes_is_said_once() -> None:
    """On a full disk short lines fit and long ones don't: not two messages for each of them."""
    said: list[str] = []
    faults = Faults("disk", said.append)
    for _ in range(50):
        faults.lose("It is full.")
        faults.works()
    assert faults.lost == 50
    assert said == ["disk: It is full. The camera goes on, and tries again."]


def test_closing_finishes_what_is_left_but_does_not_wait_for_ever() -> None:
    """A hanging disk doesn't keep the camera from ending."""
    done: list[int] = []
    quick: Worker[int] = Worker(done.append, Faults("x", print), room=10)
    for item in range(5):
        quick.put(item)
    quick.close()
    assert done == list(range(5))
    gate = threading.Event()
    stuck: Worker[int] = Worker(lambda _: done.append(gate.wait(60)), Faults("x", print), room=10)
    stuck.put(1)
    stuck.close(timeout_s=0.1)
    assert done == list(range(5))
    gate.set()


def test_a_frame_that_makes_no_line_is_counted(tmp_path: Path) -> None:
    """An error in one frame's results is no reason to end."""
    said: list[str] = []
    lines = JsonLines(JsonlSettings(target=str(tmp_path / "a")), CONTEXT, said.append)
    lines.shown(shown(TWO, 0.0, track_ids=(1, 2, 3)))
    lines.shown(shown(TWO, 0.0))
    lines.close()
    assert lines.faults.lost == 1
    assert len((tmp_path / "a").read_text().splitlines()) == 1
    assert "ValueError" in said[0]
