"""How often accuracy alarms without a change, and whether half a point of mAP is caught, by the size of the data set.

    python scripts/bench_nightly_accuracy.py history.sqlite --cells CELL CELL --out record.json

The detections are real: two cells of one night that scored the same images, as two networks that are equally good.
For each comparison a data set is drawn from these images, with replacement, and a coin decides for every image which
network's detections are the reference's and which are tonight's: then neither is better. Half a point is lost by
removing right detections at random. The same is done with one network on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_slim.config.nightly import NightlyConfig
from yolo_slim.files import JsonObject, write_json
from yolo_slim.history.judge import accuracy_rule
from yolo_slim.history.statistics import compare_accuracy
from yolo_slim.history.store import History
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.matches import Matches
from yolo_slim.workspace.job import versions

CONFIG = NightlyConfig(models={"m": "m"}, data={"d": "d"})
COMPARISONS = 40
"""Of a night of twenty cells: an alarm has to stand against the strictest of them."""
STEPS = 20
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """The detections of one network, findable by image."""

    matches: Matches

    def rows(self, image: int) -> Index:
        """Numbers of an image's detections."""
        return np.flatnonzero(self.matches.image == image)

    def labels(self, image: int) -> Index:
        """Numbers of an image's labels."""
        return np.flatnonzero(self.matches.label_image == image)


def drawn(pools: Sequence[Pool], images: Index, sides: Index) -> Matches:
    """A data set of copies of images, each with the detections of the network that its side names."""
    chosen = [(pools[side].matches, pools[side].rows(image)) for image, side in zip(images, sides, strict=True)]
    labels = [pools[0].labels(image) for image in images]
    first, place = pools[0].matches, np.arange(len(images))
    return Matches(
        files=tuple(map(str, images)),
        image=np.repeat(place, [len(rows) for _, rows in chosen]),
        boxes=np.concatenate([one.boxes[rows] for one, rows in chosen]),
        scores=np.concatenate([one.scores[rows] for one, rows in chosen]),
        class_ids=np.concatenate([one.class_ids[rows] for one, rows in chosen]),
        correct=np.concatenate([one.correct[rows] for one, rows in chosen]),
        label_image=np.repeat(place, [len(rows) for rows in labels]),
        label_class=np.concatenate([first.label_class[rows] for rows in labels]),
    )


def without(matches: Matches, share: float, rng: np.random.Generator) -> Matches:
    """The detections without a share of the right ones."""
    kept = ~(matches.correct.any(axis=1) & (rng.random(len(matches.image)) < share))
    names = ("image", "boxes", "scores", "class_ids", "correct")
    return replace(matches, **{name: getattr(matches, name)[kept] for name in names})


def share_of(matches: Matches, lost: float) -> float:
    """Which share of the right detections is worth so much mAP50-95, on all images."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = matches.map50_95() - without(matches, middle, np.random.default_rng(0)).map50_95()
        low, high = (middle, high) if found < lost else (low, middle)
    return high


def alarms(pools: Sequence[Pool], images: int, comparisons: int, share: float, resamples: int) -> int:
    """How many comparisons call tonight's worse."""
    rng, count = np.random.default_rng(0), pools[0].matches.images
    rule = replace(accuracy_rule(CONFIG), resamples=resamples)
    found = 0
    for _ in range(comparisons):
        chosen, coin = rng.integers(0, count, images), rng.integers(0, 2, images)
        reference = drawn(pools, chosen, coin)
        tonight = without(drawn(pools, chosen, 1 - coin), share, rng)
        p_worse = compare_accuracy(reference, tonight, rule).p_worse
        found += p_worse <= CONFIG.gates.false_alarms / COMPARISONS
    return found


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("history", type=Path)
    parser.add_argument("--night", type=int, default=1)
    parser.add_argument("--cells", nargs=2, required=True, help="names of cells that scored the same images")
    parser.add_argument("--images", type=int, nargs="+", default=[120, 500, 2000])
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--lost", type=float, default=0.005, help="of mAP50-95")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with History.open(options.history) as history:
        runs = [history.runs(night=options.night, cell=name)[0] for name in options.cells]
        pools = [Pool(found) for run in runs if (found := history.matches(run))]
    share = share_of(pools[0].matches, options.lost)
    rows: list[JsonObject] = []
    for images in options.images:
        for name, pair in {"one network": [pools[0]] * 2, "two networks": pools}.items():
            count = [alarms(pair, images, options.comparisons, one, options.resamples) for one in (0.0, share)]
            rows.append({"images": images, "pair": name, "false_alarms": count[0], "caught": count[1]})
            print(rows[-1], flush=True)
    how = {"comparisons": options.comparisons, "resamples": options.resamples, "lost": options.lost}
    about = {"pool_images": pools[0].matches.images, "map50_95": [one.matches.map50_95() for one in pools]}
    made = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores", "versions": versions()}
    write_json(options.out, {**made, **how, **about, "rows": rows})


if __name__ == "__main__":
    main()
