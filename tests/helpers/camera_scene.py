"""A camera without a camera: rendered frames with known boxes, at a steady rate, and a page that can steer them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.frame import Answer, Frame, Shown
from yolo_slim.runtime.camera.hub import Hub
from yolo_slim.runtime.camera.page_commands import CameraCommand, SetClasses, SetConf, SetPaused, SetZones
from yolo_slim.runtime.camera.server_settings import Callbacks
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import StageTimes
from yolo_slim.runtime.draw import draw

NAMES = {0: "red", 1: "blue"}
SCORES = (0.9, 0.4)
COLORS = ((0, 0, 230), (230, 60, 0))
Paint = Callable[[np.ndarray, int], None]


def draw_slim(shown: Shown) -> np.ndarray:
    """Draw what the slim bundle found."""
    answer = shown.answers.get("slim")
    return shown.frame.image.copy() if answer is None else draw(shown.frame.image, answer.detections, NAMES)


def render(index: int, width: int, height: int) -> np.ndarray:
    """A grey room with a red box that moves and a blue one that stays; (height, width, 3) uint8 BGR."""
    image = np.linspace(60, 150, height, dtype=np.uint8)[:, None, None].repeat(width, 1).repeat(3, 2)
    for (left, top, right, bottom), color in zip(boxes(index, width, height).tolist(), COLORS, strict=True):
        cv2.rectangle(image, (round(left), round(top)), (round(right), round(bottom)), color, cv2.FILLED)
    return image


def boxes(index: int, width: int, height: int) -> np.ndarray:
    """(2, 4) xyxy of the red and the blue box."""
    x = 0.1 + 0.3 * (1 + np.sin(index / 20))
    shares = np.array([[x, 0.2, x + 0.15, 0.5], [0.75, 0.6, 0.9, 0.9]], np.float32)
    return shares * np.array([width, height, width, height], np.float32)


def make_shown(index: int, *, size: tuple[int, int] = (640, 360), conf: float = 0.25, control: bool = False) -> Shown:
    """One shown frame; ``size``: (width, height)."""
    captured = time.monotonic()
    slim = Answer(detections=_found(index, size, conf, None), times=_times(8.0))
    answers = {"slim": slim} | ({"control": Answer(detections=slim.detections, times=_times(16.0))} if control else {})
    frame = Frame(image=render(index, *size), index=index, captured_s=captured)
    return Shown(frame=frame, answers=answers, sequence=index, ready_s=time.monotonic())


def _times(infer_ms: float) -> StageTimes:
    return StageTimes(pre_ms=1.0, infer_ms=infer_ms, post_ms=1.0, total_ms=infer_ms + 2)


def _found(index: int, size: tuple[int, int], conf: float, classes: tuple[int, ...] | None) -> Detections:
    kept = [i for i in (0, 1) if SCORES[i] > conf and (classes is None or i in classes)]
    ids = np.array(kept, np.int64)
    return Detections(boxes=boxes(index, *size)[ids], scores=np.array(SCORES, np.float32)[ids], class_ids=ids)


@dataclass(kw_only=True)
class SceneCamera:
    """Gives its hub rendered frames, in a thread of its own, and obeys the page."""

    fps: float = 30.0
    size: tuple[int, int] = (640, 360)
    source: str = "a rendered scene"
    control: bool = False
    paint: Paint | None = None
    """Changes each frame's image."""
    conf: float = 0.25
    classes: tuple[int, ...] | None = None
    is_paused: bool = False
    zones: list[dict[str, Any]] = field(default_factory=list)
    state: str = "live"
    reason: str = ""
    shown: int = 0
    commands: list[CameraCommand] = field(default_factory=list)
    clip: Path | None = None

    def __post_init__(self) -> None:
        self.hub = Hub(draw_slim)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SceneCamera:
        self.hub.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(5)
        self.hub.stop()

    def callbacks(self) -> Callbacks:
        """What the server needs."""
        path = self.clip
        clip = None if path is None else lambda: path
        return Callbacks(
            about=self.about, stats=self.stats, command=self.obey, metrics=lambda: "camera_fps 30\n", clip=clip
        )

    def about(self) -> dict[str, Any]:
        """What the page shows of the camera."""
        return {
            "source": self.source,
            "bundles": ["slim", "control"] if self.control else ["slim"],
            "names": NAMES,
            "conf": self.conf,
            "classes": self.classes,
            "paused": self.is_paused,
            "zones": self.zones,
        }

    def stats(self) -> dict[str, Any]:
        """Figures like those of a real camera."""
        wave = np.sin(time.monotonic())
        return {
            "fps": self.fps + 0.4 * wave,
            "source_fps": self.fps,
            "latency_ms": {"p50": 21 + 2 * wave, "p99": 34.0},
            "infer_ms": {"p50": 8.0},
            "dropped": 0,
            "queue_age_ms": 2.0,
            "age_s": self.hub.age_s,
            "state": "paused" if self.is_paused else self.state,
            "reason": self.reason,
            "celsius": 58 + 3 * wave,
            "throttled": False,
            "rss_mb": 180.0,
            "counts": {zone["name"]: {"in": 3, "out": 1} for zone in self.zones},
        }

    def obey(self, command: CameraCommand) -> None:
        """Carry out a command of the page."""
        self.commands.append(command)
        if isinstance(command, SetConf):
            self.conf = command.conf
        elif isinstance(command, SetClasses):
            self.classes = command.class_ids
        elif isinstance(command, SetPaused):
            self.is_paused = command.is_paused
        elif isinstance(command, SetZones):
            if any(zone.name == "forbidden" for zone in command.zones):
                raise SlimError("This name is taken.")
            self.zones = [{"name": one.name, "kind": one.kind, "points": list(one.points)} for one in command.zones]

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            due = max(due + 1 / self.fps, time.monotonic())
            self._stopped.wait(due - time.monotonic())
            if not self.is_paused and self.state == "live":
                self._show()

    def _show(self) -> None:
        captured = time.monotonic()
        image = render(self.shown, *self.size)
        if self.paint is not None:
            self.paint(image, self.shown)
        found = _found(self.shown, self.size, self.conf, self.classes)
        answers = {"slim": Answer(detections=found, times=_times(8.0))}
        if self.control:
            answers["control"] = Answer(detections=found, times=_times(16.0))
        frame = Frame(image=image, index=self.shown, captured_s=captured)
        self.hub.shown(Shown(frame=frame, answers=answers, sequence=self.shown, ready_s=time.monotonic()))
        self.shown += 1
