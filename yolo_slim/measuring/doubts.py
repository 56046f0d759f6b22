"""What sure detections of a network say against the labels. Pure functions.

Labels that were deleted, moved, mixed up or given other classes make every network's mAP lower alike, so that no loss
shows. A network that was trained for the objects finds them where they are, whatever the labels say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo_slim.measuring.truth import Truth
from yolo_slim.runtime.boxes import iou
from yolo_slim.runtime.decode import Detections

SURE = 0.5
"""Score from which on a detection is counted."""
SAME_PLACE = 0.3
"""IoU with a label, of any class, from which on both are of one object."""
FEWEST = 10
"""Sure detections below which nothing is said: their shares would be chance."""
LABELLED = 0.75
"""Smallest share of sure detections with a label: a detector misses more labels than it invents objects."""
SAME_CLASS = 0.75
"""Smallest share of a class's detections whose label has that class."""
OFFSET = 0.15
"""Largest median offset of labels from detections, in widths or heights of the labels."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Sure detections of all images and the labels at their places."""

    found: NDArray[np.int64]
    """(N,) class of each detection."""
    labelled: NDArray[np.int64]
    """(N,) class of the label at its place, its own where several are there; -1: there is none."""
    offsets: NDArray[np.float64]
    """(M, 2) of those with a label: from the detection's centre to the label's, in widths and heights of the label."""


def doubts(truths: Sequence[Truth], found: Sequence[Detections], names: Mapping[int, str]) -> list[str]:
    """Say where labels contradict what a network surely finds; empty: nothing, or there are too few detections.

    Args:
        truths: labels, image by image.
        found: detections in the same images.
        names: class names by number.
    """
    pairs = _paired(truths, found)
    if len(pairs.found) < FEWEST:
        return []
    return [*_unlabelled(pairs), *_moved(pairs), *_other_classes(pairs, names)]


def _unlabelled(pairs: Pairs) -> list[str]:
    """Name the share of detections at whose place nothing is labelled."""
    total, without = len(pairs.found), int((pairs.labelled < 0).sum())
    if without <= (1 - LABELLED) * total:
        return []
    return [
        f"{without} of {total} sure detections (score from {SURE:g}) have no label at their place: labels may be "
        "missing, or of other images"
    ]


def _moved(pairs: Pairs) -> list[str]:
    """Name a distance that labels have in common."""
    if len(pairs.offsets) < FEWEST:
        return []
    x, y = np.median(pairs.offsets, axis=0)
    if max(abs(x), abs(y)) <= OFFSET:
        return []
    return [
        f"labels lie {x:+.2f} widths and {y:+.2f} heights from the objects (median of {len(pairs.offsets)}): boxes or "
        "images may have been moved or cropped"
    ]


def _other_classes(pairs: Pairs, names: Mapping[int, str]) -> list[str]:
    """Name the classes of whose objects many are labelled as another one."""
    notes = []
    for class_id in sorted(set(pairs.found.tolist())):
        labels = pairs.labelled[(pairs.found == class_id) & (pairs.labelled >= 0)]
        others = Counter(labels[labels != class_id].tolist())
        if len(labels) >= FEWEST and others.total() > (1 - SAME_CLASS) * len(labels):
            text = f"{others.total()} of {len(labels)} objects found as class {class_id} {names.get(class_id, '')}"
            most = others.most_common(1)[0][0]
            other = f"{text.rstrip()} are labelled otherwise, mostly {most} {names.get(most, '')}"
            notes.append(f"{other.rstrip()}: classes may be swapped")
    return notes


def _paired(truths: Sequence[Truth], found: Sequence[Detections]) -> Pairs:
    """Find the label at the place of each sure detection."""
    classes, labels, offsets = [], [], []
    for truth, one in zip(truths, found, strict=True):
        sure = one.scores >= SURE
        boxes = one.boxes[sure].astype(np.float64)
        overlap = iou(boxes, truth.boxes)
        has = overlap.max(1, initial=0) >= SAME_PLACE
        # An object may be labelled in two classes: the detection's own comes first.
        own = (one.class_ids[sure][:, None] == truth.class_ids[None]) & (overlap >= SAME_PLACE)
        best = (overlap + own).argmax(1) if overlap.size else np.zeros(len(boxes), np.int64)
        classes.append(one.class_ids[sure])
        labels.append(np.where(has, truth.class_ids[best] if overlap.size else -1, -1))
        if has.any():
            partner = truth.boxes[best[has]]
            offsets.append((_centres(partner) - _centres(boxes[has])) / (partner[:, 2:] - partner[:, :2]))
    return Pairs(
        found=np.concatenate([np.zeros(0, np.int64), *classes]),
        labelled=np.concatenate([np.zeros(0, np.int64), *labels]),
        offsets=np.concatenate([np.zeros((0, 2)), *offsets]),
    )


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) centres of (N, 4) xyxy boxes."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2
