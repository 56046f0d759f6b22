"""OpenCV's VideoCapture as a feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolo_slim.runtime.camera.frame import SourceLost

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CaptureFeed:
    """Frames of an open ``cv2.VideoCapture``. Its own time limit, not :meth:`interrupt`, ends a blocked read."""

    def __init__(self, name: str, capture: Any) -> None:
        self._name = name
        self._capture = capture

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 BGR.

        Raises:
            SourceLost: the camera is gone, the stream broke, or its time limit passed.
        """
        is_frame, image = self._capture.read()
        if not is_frame:
            raise SourceLost(f"{self._name} gives no more frames: it was stopped or the connection broke.")
        return image

    def interrupt(self) -> None:
        """Nothing: releasing a capture that another thread reads crashes the process."""

    def close(self) -> None:
        """Free the camera or the connection."""
        self._capture.release()
