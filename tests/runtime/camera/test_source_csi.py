"""CSI cameras through programs and a module that stand for the vendors' and write real frames."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from yolo_slim import machine
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Source, SourceLost
from yolo_slim.runtime.camera.sources import SourceOptions, list_cameras, open_source, parse_source

SIZE = (64, 48)
BLUE = (255, 0, 0)
PREAMBLE = """#!{python}
import os, sys, time
print(os.getpid(), *sys.argv[1:], sep="\\n", file=open({log!r}, "w"))
"""
ARGUS = """
print("GST_ARGUS: Creating output stream", flush=True)
print("GST_ARGUS: setup complete", file=sys.stderr, flush=True)
while True:
    os.write(3, bytes([255, 0, 0, 9]) * (64 * 48))
    time.sleep(.01)
"""
RPICAM = """
print("[0:00] INFO Camera", file=sys.stderr, flush=True)
out = sys.stdout.buffer
while True:
    out.write(bytes([29]) * (64 * 48) + bytes([255]) * (32 * 24) + bytes([107]) * (32 * 24))
    out.flush()
    time.sleep(.01)
"""
BROKEN = """
print("ERROR: *** no cameras available ***", file=sys.stderr)
sys.exit(255)
"""
SILENT = "time.sleep(60)\n"
PICAMERA2 = """
import numpy as np
log = []
class Picamera2:
    def __init__(self, number):
        [None, None][number]
        log.append(number)
    @staticmethod
    def global_camera_info():
        found = [{"Num": 0, "Model": "imx708", "Id": "/base/soc/i2c/imx708"}]
        return found + [{"Num": 1, "Model": "Webcam", "Id": "/base/usb@1"}]
    def create_video_configuration(self, **wishes):
        return wishes
    def configure(self, wishes):
        self.wishes = wishes
        log.append(wishes)
    def start(self):
        log.append("start")
    def capture_array(self, name):
        width, height = self.wishes["main"]["size"]
        return np.full((height, width, 3), (255, 0, 0), np.uint8)
    def stop(self):
        log.append("stop")
    def close(self):
        log.append("close")
"""


class Programs:
    """A folder of stand-in programs that is all that PATH has, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, body: str) -> None:
        """Install a program."""
        path = self.folder / name
        path.write_text(PREAMBLE.format(python=sys.executable, log=str(self.folder / f"{name}.log")) + body)
        path.chmod(0o755)

    def called(self, name: str) -> tuple[int, list[str]]:
        """Return the process and the arguments of the last call."""
        process, *arguments = (self.folder / f"{name}.log").read_text().splitlines()
        return int(process), arguments


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Return an empty PATH, but for the shell, on a machine of no known kind."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    return Programs(folder)


@pytest.fixture
def on_jetson(tmp_path: Path) -> None:
    """Let the machine say that it is a Jetson."""
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_text("NVIDIA Jetson Orin Nano\0")


def opened(**options: object) -> Source:
    """Open the first CSI camera."""
    return open_source(parse_source("csi", SourceOptions(**{"size": SIZE, **options})))


def is_running(process: int) -> bool:
    """Whether a process exists and hasn't ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_jetson(programs: Programs, on_jetson: None) -> None:
    """Frames come from Argus through GStreamer, whatever its libraries print; the program ends with the source."""
    programs.add("gst-launch-1.0", ARGUS)
    source = opened(rate=15, exposure_ms=5)
    for _ in range(3):
        assert np.all(source.read() == BLUE)
    assert (source.read().shape, source.name, source.is_live) == ((48, 64, 3), "csi:0", True)
    process, arguments = programs.called("gst-launch-1.0")
    assert arguments[:4] == ["-q", "nvarguscamerasrc", "sensor-id=0", "exposuretimerange=5000000 5000000"]
    assert "video/x-raw(memory:NVMM),width=64,height=48,framerate=15000/1000" in arguments
    assert is_running(process)
    source.close()
    assert not is_running(process)


@pytest.mark.parametrize("program", ["rpicam-vid", "libcamera-vid"])
def test_pi_program(programs: Programs, program: str) -> None:
    """Without picamera2 the Pi's own program gives the frames, under its new name or its old one."""
    programs.add(program, RPICAM)
    source = opened(exposure_ms=5)
    blue, green, red = source.read()[20, 20].tolist()
    assert (blue > 200, green < 40, red < 40) == (True, True, True)
    process, arguments = programs.called(program)
    assert arguments[arguments.index("--shutter") + 1] == "5000"
    source.close()
    assert not is_running(process)


def test_pi_size(programs: Programs) -> None:
    """A width whose rows would be padded is refused, with one that works."""
    programs.add("rpicam-vid", RPICAM)
    with pytest.raises(SlimError, match="Ask for 128x100"):
        opened(size=(100, 99))


def test_picamera2(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picamera2 module comes before programs; colours need no change; it is stopped at the end."""
    (tmp_path / "picamera2.py").write_text(PICAMERA2)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    programs.add("rpicam-vid", BROKEN)
    source = opened(rate=20, exposure_ms=5)
    assert np.all(source.read() == BLUE)
    source.close()
    log = sys.modules.pop("picamera2").log
    controls = {"FrameRate": 20, "ExposureTime": 5000}
    assert log == [0, {"main": {"size": SIZE, "format": "RGB888"}, "controls": controls}, "start", "stop", "close"]
    assert [(found.source, found.name) for found in list_cameras()] == [("csi:0", "imx708")]
    with pytest.raises(SourceLost, match="csi:5 can't be opened by picamera2: IndexError"):
        open_source(parse_source("csi:5", SourceOptions()))
    del sys.modules["picamera2"]


def test_nothing_installed(programs: Programs) -> None:
    """Where nothing can take pictures, it says what to install on which board."""
    with pytest.raises(SlimError, match="Nothing here can take pictures") as caught:
        opened()
    assert ["apt install" in line for line in caught.value.culprits] == [True, True]
    assert not isinstance(caught.value, SourceLost)


def test_program_that_fails(programs: Programs, on_jetson: None) -> None:
    """What the program says of its end is passed on."""
    programs.add("gst-launch-1.0", BROKEN)
    with pytest.raises(SourceLost, match=r"gst-launch-1\.0 ended with exit code 255") as caught:
        opened()
    assert caught.value.culprits == ("ERROR: *** no cameras available ***",)
    assert "nvargus-daemon" in caught.value.remedy


def test_program_that_is_silent(programs: Programs, on_jetson: None) -> None:
    """A program that gives nothing is ended after the time limit."""
    programs.add("gst-launch-1.0", SILENT)
    with pytest.raises(SourceLost, match=r"csi:0 gave no frame for 0.5 s"):
        opened(open_limit_s=0.5)
    assert not is_running(programs.called("gst-launch-1.0")[0])


def test_program_that_stops(programs: Programs, on_jetson: None) -> None:
    """A program that ends later is a lost source; it can be opened again."""
    programs.add("gst-launch-1.0", ARGUS.replace("while True", "for _ in range(5)"))
    for _ in range(2):
        source = opened()
        with pytest.raises(SourceLost, match="ended with exit code 0"):
            [source.read() for _ in range(10)]
        source.close()


def test_list_by_program(programs: Programs) -> None:
    """Without picamera2 the Pi's own program lists the cameras."""
    listing = "Available cameras\n0 : imx219 [3280x2464 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx219@10)\n"
    programs.add("rpicam-hello", f"print({listing!r})\n")
    assert [(found.source, found.name) for found in list_cameras()] == [("csi:0", "imx219")]
