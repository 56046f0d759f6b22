"""The picture in a window on the device's own screen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2

from yolo_slim.child_process import own_environment
from yolo_slim.errors import SlimError
from yolo_slim.runtime.camera.draw import draw_age, picture
from yolo_slim.runtime.camera.live import Live

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.runtime.camera.frame import Shown

TITLE = "yolo_slim camera (q: end)"
WAIT_S = 0.1
"""The window answers to keys at least so often."""
PROBE_S = 30.0
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1); cv2.destroyAllWindows()"
_END_KEYS = (ord("q"), 27)
_OTHERWISE = "Leave --display out: the page shows the picture in a browser."

Render = Callable[["Shown"], "NDArray[np.uint8]"]
"""Makes the picture of a shown frame."""


def require_window() -> None:
    """Refuse where no window can be opened.

    Raises:
        SlimError: OpenCV without windows, no screen, or a screen that doesn't answer.
    """
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise SlimError(
            f"This OpenCV ({cv2.__version__}) can't open windows: it is a headless build.",
            remedy=f"Install opencv-python instead of opencv-python-headless. {_OTHERWISE}",
            topic="no-window-opens",
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        remedy = f"Start it on the device's own desktop, or over ssh with DISPLAY=:0. {_OTHERWISE}"
        raise SlimError("There is no screen here: DISPLAY isn't set.", remedy=remedy, topic="no-window-opens")
    problem = _probe()
    if problem:
        raise SlimError(f"No window can be opened: {problem}", remedy=f"Check DISPLAY. {_OTHERWISE}")


def run_window(live: Live, render: Render | None = None, *, wait_s: float = WAIT_S) -> None:
    """Show the camera until it ends, the window is closed, or q or Esc is pressed. For the main thread.

    Args:
        live: the running camera; its slot ``shown`` is emptied here.
        render: makes the picture; None: boxes, and bundles side by side.
        wait_s: longest wait for a new frame; an old one is then drawn with its age.
    """
    render = render or _renderer(live)
    latest: NDArray[np.uint8] | None = None
    # Qt's own window would hide the picture's pixels behind toolbars.
    cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)
    try:
        while not live.wait(0) and not _is_ended():
            shown = live.shown.take(wait_s)
            latest = render(shown) if shown is not None else latest
            if latest is not None:
                cv2.imshow(TITLE, draw_age(latest, live.age_s or 0.0, live.freshness))
    finally:
        cv2.destroyAllWindows()


def _renderer(live: Live) -> Render:
    def render(shown: Shown) -> NDArray[np.uint8]:
        return picture(shown, {name: live.names(name) for name in shown.answers})

    return render


def _is_ended() -> bool:
    """Whether the user pressed a key that ends, or closed the window."""
    key = cv2.waitKey(1)
    return (key != -1 and key & 0xFF in _END_KEYS) or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1


def _probe() -> str:
    """Why a window can't be opened; empty: it can."""
    # In a process of its own: Qt ends the whole program where the screen doesn't answer.
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], env=own_environment(), capture_output=True, text=True, timeout=PROBE_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "the screen doesn't answer."
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[0] if lines else f"exit code {done.returncode}.")
