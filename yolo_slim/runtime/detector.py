"""The detector: image in, detections out. Host, device, validation and camera all use this one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_slim.backends import Options, backend, require_options
from yolo_slim.bundle import Bundle, open_bundle
from yolo_slim.errors import SlimError
from yolo_slim.runtime import tuned
from yolo_slim.runtime.decode import CANDIDATES, VAL, Detections, Thresholds, decode
from yolo_slim.runtime.letterbox import Letterbox

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from yolo_slim.backends import RuntimeFacts
    from yolo_slim.runtime.letterbox import Geometry

__all__ = ["MODES", "Detections", "Detector", "StageTimes"]

MODES = ("predict", "val")


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """Wall time of one frame, milliseconds."""

    pre_ms: float
    """Image to model input."""
    infer_ms: float
    """Model input to raw output."""
    post_ms: float
    """Raw output to detections."""
    total_ms: float
    """End to end."""


class Detector:
    """A bundle, loaded and ready. Not for use from several threads at once.

    Without ``threads`` it runs with those that were tuned on this machine, else with the bundle's, at most one a core.
    Without ``options`` the tuned ones are used; none at all are ``{}``.
    """

    def __init__(self, bundle: Bundle | Path | str, threads: int | None = None, options: Options | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        spec = self.bundle.spec
        self.tuning = tuned.load(self.bundle) if options is None else tuned.NOT_TUNED
        setting = self.tuning.setting or tuned.Setting(threads=tuned.usual_threads(spec), options=options or {})
        self.threads = setting.threads if threads is None else threads
        self.options = dict(setting.options)
        require_options(spec.runtime, self.options)
        # ONNX Runtime reads 0 as its own choice, so a result would state a number of threads that didn't run.
        if self.threads < 1:
            raise SlimError(f"threads must be at least 1, got {self.threads}.", remedy="Give the number of cores.")
        self._session = backend(spec.runtime).open(self.bundle.folder, spec, self.threads, **self.options)
        self._letterbox = Letterbox(spec.imgsz)
        self._last: tuple[NDArray[np.float32], Geometry] | None = None

    def detect(
        self, image_bgr: Any, conf: float | None = None, iou: float | None = None, mode: str = "predict"
    ) -> Detections:
        """Find the objects in one image.

        Args:
            image_bgr: (H, W, 3) uint8, BGR.
            conf: score threshold; None takes the bundle's, or .001 in ``val``.
            iou: NMS threshold; None takes the bundle's, or .7 in ``val``.
            mode: ``predict``: a box's best class; ``val``: every class, as mAP needs it.

        Raises:
            SlimError: the image isn't (H, W, 3) uint8, or the mode is unknown.
        """
        return self.timed(image_bgr, conf, iou, mode)[0]

    def timed(
        self, image_bgr: Any, conf: float | None = None, iou: float | None = None, mode: str = "predict"
    ) -> tuple[Detections, StageTimes]:
        """Find the objects in one image, and time each stage; arguments as of :meth:`detect`."""
        thresholds = self.thresholds(conf, iou, mode)
        # Four readings of one clock: the stages add up to the total exactly.
        start = time.perf_counter_ns()
        blob, geometry = self._letterbox(image_bgr)
        ready = time.perf_counter_ns()
        raw = self._session.infer(blob)
        inferred = time.perf_counter_ns()
        detections = decode(raw, self.bundle.spec.layout, geometry, thresholds)
        done = time.perf_counter_ns()
        self._last = raw, geometry
        return detections, StageTimes(
            pre_ms=(ready - start) / 1e6,
            infer_ms=(inferred - ready) / 1e6,
            post_ms=(done - inferred) / 1e6,
            total_ms=(done - start) / 1e6,
        )

    def candidates(self) -> Detections | None:
        """What NMS chose from in the image that was detected last: every class of a box with a score above .001.

        None: the network has no NMS (layout ``end2end``).

        Raises:
            SlimError: nothing was detected yet.
        """
        if self._last is None:
            raise SlimError("Nothing was detected yet.", remedy="Detect in an image first.")
        if self.bundle.spec.layout == "end2end":
            return None
        raw, geometry = self._last
        return decode(raw, self.bundle.spec.layout, geometry, CANDIDATES)

    def thresholds(self, conf: float | None = None, iou: float | None = None, mode: str = "predict") -> Thresholds:
        """The thresholds of a mode, those that are given instead of the mode's own."""
        if mode not in MODES:
            raise SlimError(f"Unknown mode '{mode}'.", remedy=f"Choose one of: {', '.join(MODES)}.")
        spec = self.bundle.spec
        usual = VAL if mode == "val" else Thresholds(conf=spec.conf, iou=spec.iou, max_det=spec.max_det)
        return replace(usual, conf=usual.conf if conf is None else conf, iou=usual.iou if iou is None else iou)

    def describe(self) -> RuntimeFacts:
        """What really runs: runtime, version, provider, threads, precision; and whether it was tuned here."""
        facts = self._session.describe()
        return replace(facts, details={**facts.details, "tuned": str(self.tuning)})

    def close(self) -> None:
        """Free the model."""
        self._session.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
