"""The ``infer`` command: detections of many images with their times, for the workstation to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.machine import describe_machine, peak_memory_mb
from yolo_slim.runtime.decode import Detections, Thresholds
from yolo_slim.runtime.detector import Detector, StageTimes
from yolo_slim.runtime.sources import read_image

DETECTIONS_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ImageDetections:
    """One image's answer."""

    file: str
    """Path as given, or relative to the folder of images."""
    image_hw: tuple[int, int]
    """Height and width, pixels."""
    detections: Detections
    """What was found."""
    times: StageTimes
    """How long it took."""
    candidates: Detections | None = None
    """What NMS chose from; None: not asked for."""


def infer_folder(
    bundle: Bundle | Detector,
    image_paths: Sequence[Path],
    mode: str = "val",
    root: Path | None = None,
    *,
    candidates: bool = False,
) -> list[ImageDetections]:
    """Detect in image files, in their order.

    Grey and transparent images are converted as Ultralytics' own data loader does: scores must be comparable.

    Args:
        bundle: a bundle, or a detector to reuse.
        image_paths: the files.
        mode: ``val`` (conf .001, every class) or ``predict``.
        root: names are relative to it; None keeps the paths as given.
        candidates: add what NMS chose from.
    """
    # A detector that is given stays open: it is the caller's.
    if isinstance(bundle, Detector):
        return [_infer(bundle, path, mode, root, candidates) for path in image_paths]
    with Detector(bundle) as detector:
        return [_infer(detector, path, mode, root, candidates) for path in image_paths]


def save_detections(path: Path, images: Sequence[ImageDetections], detector: Detector, mode: str) -> None:
    """Write detections as JSON for the workstation."""
    write_json(path, detections_to_json(images, detector, mode, detector.thresholds(mode=mode)))


def detections_to_json(
    images: Sequence[ImageDetections], detector: Detector, mode: str, thresholds: Thresholds
) -> dict[str, object]:
    """Many images' answers, and what made them, for a JSON file."""
    spec = detector.bundle.spec
    return {
        "schema": DETECTIONS_SCHEMA,
        "mode": mode,
        "thresholds": asdict(thresholds),
        "bundle": spec.name,
        "names": {str(key): name for key, name in sorted(spec.names.items())},
        "runtime": detector.describe().to_json(),
        "machine": describe_machine(),
        "peak_memory_mb": peak_memory_mb(),
        "images": [image_to_json(image) for image in images],
    }


def load_detections(path: Path) -> list[ImageDetections]:
    """Read a file written by :func:`save_detections`.

    Raises:
        SlimError: damaged, or written by another version.
    """
    try:
        value = read_json(path)
    except ValueError as error:
        raise _incomplete(str(path), error) from None
    return detections_from_json(value, str(path))


def detections_from_json(value: JsonObject, source: str) -> list[ImageDetections]:
    """Read what :func:`detections_to_json` made.

    Args:
        value: the JSON value.
        source: what people call it, for messages.

    Raises:
        SlimError: damaged, or written by another version.
    """
    try:
        if value["schema"] != DETECTIONS_SCHEMA:
            fact = f"{source} has schema {value['schema']}, expected {DETECTIONS_SCHEMA}."
            raise SlimError(fact, remedy="Use the same yolo_slim on the device and here.")
        return [_from_json(item) for item in value["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _incomplete(source, error) from None


def _incomplete(source: str, error: Exception) -> SlimError:
    return SlimError(f"{source} isn't a complete list of detections: {error}", remedy="Infer again.")


def image_to_json(image: ImageDetections) -> dict[str, object]:
    """One image's answer; all digits of its float32 numbers, so that mAP can't differ."""
    before_nms = {} if image.candidates is None else {"candidates": _to_json(image.candidates)}
    return {
        "file": image.file,
        "image_hw": list(image.image_hw),
        **_to_json(image.detections),
        **before_nms,
        "times_ms": {key.removesuffix("_ms"): value for key, value in asdict(image.times).items()},
    }


def _to_json(found: Detections) -> JsonObject:
    return {
        "boxes": [_exact(box) for box in found.boxes.tolist()],
        "scores": _exact(found.scores.tolist()),
        "class_ids": found.class_ids.tolist(),
    }


def _exact(values: list[float]) -> list[float]:
    # Nine digits are the fewest that surely give a float32 back (IEEE 754).
    return [float(f"{value:.9g}") for value in values]


def _infer(detector: Detector, path: Path, mode: str, root: Path | None, candidates: bool) -> ImageDetections:
    image = read_image(path, convert_channels=True)
    detections, times = detector.timed(image, mode=mode)
    name = (path if root is None else path.relative_to(root)).as_posix()
    before_nms = detector.candidates() if candidates else None
    size = (image.shape[0], image.shape[1])
    return ImageDetections(file=name, image_hw=size, detections=detections, times=times, candidates=before_nms)


def _from_json(item: JsonObject) -> ImageDetections:
    times = StageTimes(**{f"{key}_ms": value for key, value in item["times_ms"].items()})
    height, width = item["image_hw"]
    return ImageDetections(
        file=item["file"],
        image_hw=(height, width),
        detections=_read(item),
        times=times,
        candidates=_read(item["candidates"]) if "candidates" in item else None,
    )


def _read(item: JsonObject) -> Detections:
    return Detections(
        boxes=np.array(item["boxes"], np.float32).reshape(-1, 4),
        scores=np.array(item["scores"], np.float32),
        class_ids=np.array(item["class_ids"], np.int64),
    )
