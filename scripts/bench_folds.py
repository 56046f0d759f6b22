"""What a cheaper pre- and post-processing could gain: its steps, timed as they are and as they would be.

    python scripts/bench_folds.py --out docs/benchmarks/records/folds.json

Processor time of one thread, because these steps run on one, and because other programs don't disturb it. A step that
is folded into the graph isn't free there. What the graph then costs more is left out, so a gain is an upper limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np

from yolo_slim.files import write_json
from yolo_slim.machine import cores, device_model
from yolo_slim.runtime.decode import Thresholds, decode
from yolo_slim.runtime.letterbox import Letterbox, fit
from yolo_slim.workspace.job import versions

SIZES = ((320, (416, 416)), (640, (480, 640)), (640, (1080, 1920)))
"""Input side and size of the frame, pixels."""
OUTPUTS = ((4, 2100), (4, 8400), (80, 8400))
"""Classes and anchors."""
REPEATS = 200


def median_ms(work: Callable[[], object]) -> float:
    """Median processor time of a step, milliseconds."""
    samples = []
    for _ in range(REPEATS):
        start = time.process_time_ns()
        work()
        samples.append((time.process_time_ns() - start) / 1e6)
    return float(np.median(samples))


def _copied(planes: list[np.ndarray], floats: list[np.ndarray]) -> None:
    """Copy every plane as floats."""
    for plane, place in zip(planes, floats, strict=True):
        np.copyto(place, plane)


def pre(imgsz: int, frame_hw: tuple[int, int]) -> dict[str, float]:
    """Pre-processing of one frame size: the whole, its last steps, and what other libraries take for those."""
    frame = np.random.default_rng(0).integers(0, 255, (*frame_hw, 3), np.uint8)
    letterbox, geometry = Letterbox((imgsz, imgsz)), fit(frame_hw, (imgsz, imgsz))
    height, width = geometry.resized_hw
    rows, columns = slice(geometry.top, geometry.top + height), slice(geometry.left, geometry.left + width)
    resized = cv2.resize(frame, (width, height))
    planes = [np.ascontiguousarray(plane) for plane in cv2.split(resized)]
    table = np.arange(256, dtype=np.float32) / np.float32(255)
    floats = [np.empty((3, imgsz, imgsz), np.float32)[c, rows, columns] for c in range(3)]
    padded = np.full((imgsz, imgsz, 3), 114, np.uint8)
    return {
        "whole": median_ms(lambda: letterbox(frame)),
        "to float in [0, 1]": median_ms(lambda: [cv2.LUT(p, table, f) for p, f in zip(planes, floats, strict=True)]),
        "to float (division folded)": median_ms(lambda: _copied(planes, floats)),
        "split into planes": median_ms(lambda: cv2.split(resized, planes)),
        "copy of bytes (division, order and float folded)": median_ms(
            lambda: np.copyto(padded[rows, columns], resized)
        ),
        "cv2.dnn.blobFromImage": median_ms(lambda: cv2.dnn.blobFromImage(padded, 1 / 255, swapRB=True)),
        "ncnn.Mat.from_pixels": median_ms(lambda: from_pixels(padded)),
    }


def from_pixels(image: np.ndarray) -> object:
    """A letterboxed image as NCNN makes its own input of it."""
    import ncnn

    blob = ncnn.Mat.from_pixels(image, ncnn.Mat.PixelType.PIXEL_BGR2RGB, image.shape[1], image.shape[0])
    blob.substract_mean_normalize([], [1 / 255] * 3)
    return blob


def post(classes: int, anchors: int) -> float:
    """Post-processing of an output in which 40 anchors score above the threshold."""
    rng = np.random.default_rng(0)
    raw = rng.random((1, 4 + classes, anchors), np.float32) * np.float32(0.24)
    raw[0, :4] *= 400
    raw[0, 4, :40] = 0.5
    return median_ms(lambda: decode(raw, "one2many", fit((480, 640), (640, 640)), Thresholds()))


def main() -> None:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="record to write, JSON")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    found = {f"{imgsz} px of {h} x {w}": pre(imgsz, (h, w)) for imgsz, (h, w) in SIZES}
    steps = list(next(iter(found.values())))
    print(f"| input, frame | {' | '.join(steps)} |\n|---|{'---|' * len(steps)}")
    for name, row in found.items():
        print(f"| {name} | {' | '.join(f'{row[step]:.3f}' for step in steps)} |")
    after = {f"{classes} classes, {anchors} anchors": post(classes, anchors) for classes, anchors in OUTPUTS}
    print("\n| output | post-processing ms |\n|---|---|")
    for name, ms in after.items():
        print(f"| {name} | {ms:.3f} |")
    if options.out:
        about = {
            "command": f"python {' '.join(sys.argv)}",
            "date": str(date.today()),
            "machine": device_model(),
            "cores": cores(),
        }
        write_json(options.out, {**about, "versions": versions(), "pre_ms": found, "post_ms": after})


if __name__ == "__main__":
    main()
