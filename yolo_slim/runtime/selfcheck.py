"""The bundle's own test: images with the detections expected, compared on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolo_slim.backends import RuntimeFacts
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.runtime.decode import Detections
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.machine_check import unmet
from yolo_slim.runtime.sources import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "selfcheck"
EXPECTED = "expected.json"
MIN_IOU = 0.9
"""A detection is the expected one from this IoU on: fp16 moves a box by a few pixels at most."""
MAX_SCORE_DIFFERENCE = 0.05
"""Largest difference of score. Detections this close to the score threshold may be missing or new."""


@dataclass(frozen=True, kw_only=True)
class ImageCheck:
    """How one image compared."""

    file: str
    """Image of the bundle."""
    expected: int
    """Detections expected."""
    found: int
    """Detections found."""
    matched: int
    """Pairs of the same class within the tolerances."""
    problems: tuple[str, ...]
    """Detections missing or unexpected; empty: passed."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """How a bundle's detections compared with those of the workstation."""

    runtime: RuntimeFacts
    """What really ran."""
    images: tuple[ImageCheck, ...]
    """One per image."""
    min_iou: float = MIN_IOU
    """Tolerance."""
    max_score_difference: float = MAX_SCORE_DIFFERENCE
    """Tolerance."""
    unmet_requirements: tuple[str, ...] = ()
    """What the bundle requires and this machine isn't: a likely cause where detections differ."""

    @property
    def is_passed(self) -> bool:
        """Whether no image has a problem."""
        return not any(image.problems for image in self.images)

    def to_json(self) -> dict[str, object]:
        """The answer of ``check --json``."""
        return {**asdict(self), "runtime": self.runtime.to_json(), "passed": self.is_passed}

    def as_text(self) -> str:
        """One line an image, then the verdict."""
        lines = []
        for image in self.images:
            verdict = "differs" if image.problems else "ok"
            lines.append(f"{image.file}: {image.matched} of {image.expected} expected, {image.found} found, {verdict}")
            lines += [f"  - {problem}" for problem in image.problems]
        lines += [f"NOT AS REQUIRED: {line}" for line in self.unmet_requirements]
        tolerance = f"IoU at least {self.min_iou}, score within {self.max_score_difference}"
        return "\n".join([*lines, f"self-check {'passed' if self.is_passed else 'FAILED'} ({tolerance})"])


def make_selfcheck(folder: Path, images: Sequence[Path], detector: Detector) -> None:
    """Write ``selfcheck/`` into a bundle folder: the images as PNG and what ``detector`` finds in them.

    Call :func:`yolo_slim.bundle.write_bundle_json` afterwards, so that the new files are listed.
    """
    if not images:
        raise SlimError("A self-check needs at least one image.", remedy="Give images of the validation split.")
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    entries = []
    for number, path in enumerate(images, start=1):
        image = read_image(path, convert_channels=True)
        # PNG is lossless: the device sees the very pixels that the expected detections come from.
        (target / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        entries.append({"file": f"{number}.png", **_to_json(detector.detect(image))})
    # The threshold is stored, because the check has to detect with the one that these detections were made with.
    write_json(target / EXPECTED, {"conf": detector.bundle.spec.conf, "images": entries})


def check(bundle: Bundle, threads: int | None = None) -> CheckReport:
    """Run a bundle on its own images and compare.

    Raises:
        SlimError: the bundle has no self-check, or can't be loaded.
    """
    folder = bundle.folder / FOLDER
    # Looked up in bundle.json, not on the disk: only the files that it lists were verified.
    if f"{FOLDER}/{EXPECTED}" not in bundle.spec.files:
        raise SlimError(f"The bundle {bundle.folder} has no self-check.", remedy="Build the bundle again.")
    expected = read_json(folder / EXPECTED)
    with Detector(bundle, threads) as detector:
        checks = [_check_image(detector, folder, entry, expected["conf"]) for entry in expected["images"]]
        return CheckReport(runtime=detector.describe(), images=tuple(checks), unmet_requirements=unmet(bundle.spec))


def _check_image(detector: Detector, folder: Path, entry: JsonObject, conf: float) -> ImageCheck:
    found = detector.detect(read_image(folder / entry["file"]), conf=conf)
    return compare(entry["file"], _from_json(entry), found, conf)


def compare(file: str, expected: Detections, found: Detections, conf: float) -> ImageCheck:
    """Pair detections greedily, best expected score first, and list what has no partner."""
    # Best score first, so that a faint detection can't take the partner of a sure one.
    free = list(range(len(found)))
    missing = []
    for index in range(len(expected)):
        partner = _partner(expected, index, found, free)
        if partner is None:
            missing.append(index)
        else:
            free.remove(partner)
    # Closer to the threshold, a detection may be on either side of it within the tolerance.
    certain = conf + MAX_SCORE_DIFFERENCE
    problems = [f"missing: {_line(expected, index)}" for index in missing if expected.scores[index] > certain]
    problems += [f"unexpected: {_line(found, index)}" for index in free if found.scores[index] > certain]
    matched = len(expected) - len(missing)
    return ImageCheck(file=file, expected=len(expected), found=len(found), matched=matched, problems=tuple(problems))


def _partner(expected: Detections, index: int, found: Detections, free: list[int]) -> int | None:
    """The unpaired detection of the same class that overlaps most, if it is within the tolerances."""
    candidates = [
        other
        for other in free
        if found.class_ids[other] == expected.class_ids[index]
        and abs(float(found.scores[other] - expected.scores[index])) <= MAX_SCORE_DIFFERENCE
    ]
    if not candidates:
        return None
    ious = [box_iou(expected.boxes[index], found.boxes[other]) for other in candidates]
    best = int(np.argmax(ious))
    return candidates[best] if ious[best] >= MIN_IOU else None


def box_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of two xyxy boxes."""
    width, height = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    inter = float(width * height)
    union = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - inter
    return inter / union if union > 0 else 0.0


def _line(detections: Detections, index: int) -> str:
    box = ", ".join(f"{value:.1f}" for value in detections.boxes[index])
    return f"class {detections.class_ids[index]}, score {detections.scores[index]:.3f}, box ({box})"


def _to_json(detections: Detections) -> dict[str, object]:
    return {
        "boxes": [[round(value, 2) for value in box] for box in detections.boxes.tolist()],
        "scores": [round(score, 5) for score in detections.scores.tolist()],
        "class_ids": detections.class_ids.tolist(),
    }


def _from_json(entry: JsonObject) -> Detections:
    return Detections(
        boxes=np.array(entry["boxes"], np.float32).reshape(-1, 4),
        scores=np.array(entry["scores"], np.float32),
        class_ids=np.array(entry["class_ids"], np.int64),
    )
