"""The bundle's own test: images with the detections expected, compared on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from yolo_slim.backends import Options, RuntimeFacts
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.files import JsonObject, read_json, write_json
from yolo_slim.runtime.boxes import box_iou
from yolo_slim.runtime.decode import VAL, Detections
from yolo_slim.runtime.detector import Detector
from yolo_slim.runtime.machine_check import unmet
from yolo_slim.runtime.sources import read_image
from yolo_slim.runtime.tolerances import (
    MAX_SCORE_DIFFERENCE,
    MAX_SHIFT,
    MIN_IOU,
    Answer,
    Tolerances,
    is_suppressed,
    max_score_difference,
    same_box,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "selfcheck"
EXPECTED = "expected.json"
_TURN_BACK = bytes.fromhex("ffe10022 457869660000 4d4d002a00000008 0001 0112 0003 00000001 00060000 00000000")
"""JPEG segment APP1 with EXIF data that has one tag: orientation 6, to be turned by 90 degrees clockwise."""


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
    suppressed: int = 0
    """Detections that one side computed too but doesn't show: its NMS kept another box of the object."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """How a bundle's detections compared with those of the workstation."""

    runtime: RuntimeFacts
    """What really ran."""
    images: tuple[ImageCheck, ...]
    """One per image."""
    compared: int
    """Detections that had to be found."""
    min_iou: float = MIN_IOU
    """Tolerance."""
    max_shift: float = MAX_SHIFT
    """Tolerance, pixels of the input."""
    max_score_difference: float = MAX_SCORE_DIFFERENCE
    """Tolerance."""
    unmet_requirements: tuple[str, ...] = ()
    """What the bundle requires and this machine isn't: a likely cause where detections differ."""

    @property
    def is_passed(self) -> bool:
        """Whether something was compared, and no image has a problem."""
        return self.compared > 0 and not any(image.problems for image in self.images)

    def to_json(self) -> dict[str, object]:
        """The answer of ``check --json``."""
        return {**asdict(self), "runtime": self.runtime.to_json(), "passed": self.is_passed}

    def as_text(self) -> str:
        """One line an image, then the verdict."""
        lines = []
        for image in self.images:
            verdict = "differs" if image.problems else "ok"
            suppressed = f", {image.suppressed} suppressed by NMS on one side" if image.suppressed else ""
            found = f"{image.matched} of {image.expected} expected, {image.found} found{suppressed}"
            lines.append(f"{image.file}: {found}, {verdict}")
            lines += [f"  - {problem}" for problem in image.problems]
        lines += [f"NOT AS REQUIRED: {line}" for line in self.unmet_requirements]
        if not self.compared:
            lines.append("NOTHING WAS COMPARED: the model found nothing in these images when the bundle was built")
        box = f"IoU at least {self.min_iou} or sides within {self.max_shift:g} pixels of the input"
        tolerance = f"{box}, score within {self.max_score_difference}"
        return "\n".join([*lines, f"self-check {'passed' if self.is_passed else 'FAILED'} ({tolerance})"])


def make_selfcheck(folder: Path, candidates: Sequence[Path], detector: Detector, count: int = 3) -> int:
    """Write ``selfcheck/`` into a bundle folder: pictures, and what ``detector`` finds in them.

    Call :func:`yolo_slim.bundle.write_bundle_json` afterwards, so that the new files are listed.

    Args:
        folder: the bundle's folder.
        candidates: images to try, until something is found in ``count`` of them.
        detector: the bundle's detector.
        count: most images to keep.

    Returns:
        How many detections a device must find; 0: nothing is found in any candidate, and :func:`check` will fail.
    """
    if not candidates:
        raise SlimError("A self-check needs at least one image.", remedy="Give images of the validation split.")
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    chosen, conf = _choose(candidates, detector, count)
    pictures = chosen if len(chosen) > 1 else chosen * 2
    # The last one is turned: a device whose OpenCV ignores EXIF data must not pass.
    names = [f"{number}{'.jpg' if number == len(pictures) else '.png'}" for number in range(1, len(pictures) + 1)]
    entries = [_entry(path, target / name, detector, conf) for path, name in zip(pictures, names, strict=True)]
    # The threshold is stored, because the check has to detect with the one that these detections were made with.
    write_json(target / EXPECTED, {"conf": conf, "images": entries})
    return _compared(entries, conf, max_score_difference(detector.bundle.spec.precision))


def _entry(source: Path, file: Path, detector: Detector, conf: float) -> JsonObject:
    """Write one picture, and say what is expected in it."""
    image = read_image(source, convert_channels=True)
    content = _turned_jpeg(image) if file.suffix == ".jpg" else cv2.imencode(".png", image)[1].tobytes()
    file.write_bytes(content)
    # PNG is lossless. Decoders of JPEG may differ by a grey level, which moves a score by .005 (yolo11n), a tenth of
    # MAX_SCORE_DIFFERENCE. What the encoder lost is lost on both sides, because the written file is read here.
    found = detector.detect(read_image(file), conf=conf)
    entry = {"file": file.name, "image_hw": list(image.shape[:2]), **_to_json(found)}
    candidates = detector.candidates()
    if candidates is None:
        return entry
    near = _near(candidates, conf, max_score_difference(detector.bundle.spec.precision))
    return {**entry, "candidates": _to_json(near)}


def _near(candidates: Detections, conf: float, most: float) -> Detections:
    """The candidates that a detection of another machine may be; the others would only make the file larger."""
    enough = candidates.scores >= conf - most
    return Detections(
        boxes=candidates.boxes[enough], scores=candidates.scores[enough], class_ids=candidates.class_ids[enough]
    )


def _choose(candidates: Sequence[Path], detector: Detector, count: int) -> tuple[list[Path], float]:
    """The first images in which something is surely found, and the score threshold that it is found with.

    The threshold is the bundle's. For a weak model, whose best score isn't surely above it, it is lowered until the
    best detection is. Otherwise nothing would be compared.
    """
    usual, most = detector.bundle.spec.conf, max_score_difference(detector.bundle.spec.precision)
    best: dict[Path, float] = {}
    sure: list[Path] = []
    for path in candidates:
        found = detector.detect(read_image(path, convert_channels=True), conf=min(usual, VAL.conf))
        best[path] = float(found.scores[0]) if len(found) else 0.0
        sure += [path] if best[path] > usual + most else []
        if len(sure) == count:
            break
    if sure:
        return sure, usual
    weak = sorted(best, key=lambda path: -best[path])[:count]
    return weak, min(usual, max(best[weak[0]] - 2 * most, VAL.conf))


def _compared(entries: Sequence[JsonObject], conf: float, most: float) -> int:
    """How many expected detections a device must find: those whose scores are surely above the threshold."""
    return sum(score > conf + most for entry in entries for score in entry["scores"])


def _turned_jpeg(image: NDArray[np.uint8]) -> bytes:
    """A JPEG that is stored turned by 90 degrees, with the EXIF orientation that turns it back."""
    stored = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    # Colours of full resolution, because decoders differ most in how they scale colours up.
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    jpeg = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 95, *sampling])[1].tobytes()
    return jpeg[:2] + _TURN_BACK + jpeg[2:]


def check(bundle: Bundle, threads: int | None = None, options: Options | None = None) -> CheckReport:
    """Run a bundle on its own images and compare; ``threads`` and ``options`` as of :class:`Detector`.

    Raises:
        SlimError: the bundle has no self-check, or can't be loaded.
    """
    folder = bundle.folder / FOLDER
    # Looked up in bundle.json, not on the disk: only the files that it lists were verified.
    if f"{FOLDER}/{EXPECTED}" not in bundle.spec.files:
        raise SlimError(f"The bundle {bundle.folder} has no self-check.", remedy="Build the bundle again.")
    expected = read_json(folder / EXPECTED)
    most = max_score_difference(bundle.spec.precision)
    with Detector(bundle, threads, options) as detector:
        return CheckReport(
            images=tuple(_check_image(detector, folder, entry, expected["conf"]) for entry in expected["images"]),
            compared=_compared(expected["images"], expected["conf"], most),
            max_score_difference=most,
            runtime=detector.describe(),
            unmet_requirements=unmet(bundle.spec),
        )


def _check_image(detector: Detector, folder: Path, entry: JsonObject, conf: float) -> ImageCheck:
    image, file, wanted = read_image(folder / entry["file"]), entry["file"], _from_json(entry)
    found = detector.detect(image, conf=conf)
    size = list(image.shape[:2])
    # Bundles of earlier versions have neither sizes nor candidates.
    if size == entry.get("image_hw", size):
        spec, candidates = detector.bundle.spec, entry.get("candidates")
        expected = Answer(detections=wanted, candidates=candidates and _from_json(candidates))
        answer = Answer(detections=found, candidates=detector.candidates())
        tolerances = Tolerances(
            score=max_score_difference(spec.precision), nms_iou=spec.iou, image_hw=size, imgsz=spec.imgsz
        )
        return compare(file, expected, answer, conf, tolerances)
    turned = f"read as {size[1]}x{size[0]} px: OpenCV {cv2.__version__} of this device turns images in another way"
    return ImageCheck(file=file, expected=len(wanted), found=len(found), matched=0, problems=(turned,))


def compare(file: str, expected: Answer, found: Answer, conf: float, tolerances: Tolerances) -> ImageCheck:
    """Pair detections greedily, best expected score first, and list what has no partner.

    What NMS suppressed on one side, because it kept another box of the object, is no problem.

    Args:
        file: name of the image.
        expected: what the workstation found.
        found: what this machine found.
        conf: score threshold of both.
        tolerances: how far equal detections may be apart.
    """
    wanted, seen = expected.detections, found.detections
    # Best score first, so that a faint detection can't take the partner of a sure one.
    free = list(range(len(seen)))
    missing = []
    for index in range(len(wanted)):
        partner = _partner(wanted, index, seen, free, tolerances)
        if partner is None:
            missing.append(index)
        else:
            free.remove(partner)
    # Closer to the threshold, a detection may be on either side of it within the tolerance.
    certain = conf + tolerances.score
    problems, suppressed = [], 0
    for word, one, indices, other in (("missing", wanted, missing, found), ("unexpected", seen, free, expected)):
        sure = [index for index in indices if one.scores[index] > certain]
        apart = [index for index in sure if not is_suppressed(one, index, other, tolerances)]
        problems += [f"{word}: {_line(one, index)}" for index in apart]
        suppressed += len(sure) - len(apart)
    return ImageCheck(
        file=file, expected=len(wanted), found=len(seen), matched=len(wanted) - len(missing),
        problems=tuple(problems), suppressed=suppressed,
    )  # fmt: skip


def _partner(
    expected: Detections, index: int, found: Detections, free: list[int], tolerances: Tolerances
) -> int | None:
    """The unpaired detection of the same class that overlaps most, if it is within the tolerances."""
    candidates = [
        other
        for other in free
        if found.class_ids[other] == expected.class_ids[index]
        and abs(float(found.scores[other] - expected.scores[index])) <= tolerances.score
    ]
    if not candidates:
        return None
    ious = [box_iou(expected.boxes[index], found.boxes[other]) for other in candidates]
    best = candidates[int(np.argmax(ious))]
    return best if same_box(expected.boxes[index], found.boxes[best], tolerances.pixel) else None


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
