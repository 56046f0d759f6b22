"""Is hotcoco's ``compare`` paired, and equal to our comparison of two mAPs? (docs/adr/0010-nights.md)

    python -m scripts.bench_hotcoco --hotcoco FOLDER --out record.json

FOLDER is where ``pip install --target FOLDER hotcoco`` put it. Images with objects of three classes are generated,
and a detector that finds most of them; a second one finds 2 % fewer of the first one's. How much the difference of
their mAPs really varies is seen on data sets of the same generator; both bootstraps estimate it from one data set.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_slim.files import JsonObject, write_json
from yolo_slim.history.statistics import resampled_changes
from yolo_slim.machine import cores, device_model
from yolo_slim.measuring.matches import Matches
from yolo_slim.measuring.truth import Truth
from yolo_slim.runtime.decode import Detections
from yolo_slim.workspace.job import versions

IMAGES, CLASSES, SIDE = 400, 3, 320
FOUND, KEPT = 0.85, 0.98
"""Share of the objects that the first detector finds, and of its detections that the second one has too."""
RESAMPLES = 300


@dataclass(frozen=True)
class Generated:
    """One data set with the detections of two detectors."""

    truths: list[Truth]
    first: list[Detections]
    second: list[Detections]


def generate(seed: int) -> Generated:
    """Draw a data set."""
    rng = np.random.default_rng(seed)
    truths = [_truth(rng) for _ in range(IMAGES)]
    first = [_detections(rng, truth) for truth in truths]
    second = [_chosen(one, rng.random(len(one)) < KEPT) for one in first]
    return Generated(truths, first, second)


def _truth(rng: np.random.Generator) -> Truth:
    count = rng.poisson(4)
    corner, size = rng.uniform(0, 250, (count, 2)), rng.uniform(15, 70, (count, 2))
    return Truth(boxes=np.hstack([corner, corner + size]), class_ids=rng.integers(0, CLASSES, count))


def _detections(rng: np.random.Generator, truth: Truth) -> Detections:
    """Most objects, a little beside their place, and some that aren't there."""
    found = rng.random(len(truth.class_ids)) < FOUND
    boxes = truth.boxes[found]
    width = boxes[:, 2:3] - boxes[:, 0:1]
    boxes = boxes + rng.normal(0, 0.04, boxes.shape) * width
    wrong = _truth(rng).boxes[:2]
    return Detections(
        boxes=np.concatenate([boxes, wrong]).astype(np.float32),
        scores=np.concatenate([rng.uniform(0.3, 1, len(boxes)), rng.uniform(0.01, 0.7, len(wrong))]).astype(np.float32),
        class_ids=np.concatenate([truth.class_ids[found], rng.integers(0, CLASSES, len(wrong))]),
    )


def _chosen(one: Detections, rows: NDArray[np.bool_]) -> Detections:
    return Detections(boxes=one.boxes[rows], scores=one.scores[rows], class_ids=one.class_ids[rows])


def matches(truths: list[Truth], detections: list[Detections]) -> Matches:
    """Score by our own scorer."""
    return Matches.of([Path(f"{number}.jpg") for number in range(IMAGES)], truths, detections)


def of_hotcoco(hotcoco: Any, made: Generated, folder: Path) -> JsonObject:
    """What ``compare`` says of both detectors, and of the first one against itself."""
    write_json(folder / "truth.json", _coco(made.truths))
    truth = hotcoco.COCO(str(folder / "truth.json"))

    def evaluated(detections: list[Detections]) -> Any:
        rows = [{**row, "score": score} for row, score in zip(_rows(detections), _scores(detections), strict=True)]
        write_json(folder / "found.json", rows)
        evaluation = hotcoco.COCOeval(truth, truth.load_res(str(folder / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation

    first = evaluated(made.first)
    found = hotcoco.compare(first, evaluated(made.second), n_bootstrap=RESAMPLES)
    itself = hotcoco.compare(first, evaluated(made.first), n_bootstrap=RESAMPLES)
    return {
        "map50_95": found["metrics_a"]["AP"],
        "change": found["deltas"]["AP"],
        "error": found["ci"]["AP"]["std_err"],
        "error_of_equal": itself["ci"]["AP"]["std_err"],
    }


def _rows(sets: list[Any]) -> list[JsonObject]:
    return [
        {"image_id": image, "category_id": int(class_id), "bbox": [x, y, right - x, bottom - y]}
        for image, one in enumerate(sets)
        for (x, y, right, bottom), class_id in zip(one.boxes.tolist(), one.class_ids, strict=True)
    ]


def _scores(sets: list[Detections]) -> list[float]:
    return [float(score) for one in sets for score in one.scores]


def _coco(truths: list[Truth]) -> JsonObject:
    rows = [
        {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
        for number, row in enumerate(_rows(truths), 1)
    ]
    images = [{"id": image, "width": SIDE, "height": SIDE, "file_name": f"{image}.jpg"} for image in range(IMAGES)]
    return {"images": images, "annotations": rows, "categories": [{"id": i, "name": str(i)} for i in range(CLASSES)]}


def of_ours(made: Generated) -> JsonObject:
    """The same by our own comparison; and the error of two choices of images that aren't the same."""
    first, second = matches(made.truths, made.first), matches(made.truths, made.second)
    rng = np.random.default_rng(1)
    chosen = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=(RESAMPLES, 2))
    unpaired = [second.map50_95(two) - first.map50_95(one) for one, two in chosen]
    return {
        "map50_95": first.map50_95(),
        "change": second.map50_95() - first.map50_95(),
        "error": float(np.std(resampled_changes(first, second, RESAMPLES, 0), ddof=1)),
        "unpaired_error": float(np.std(unpaired, ddof=1)),
    }


def change(seed: int) -> float:
    """The difference of the mAPs on another data set."""
    made = generate(seed)
    return matches(made.truths, made.second).map50_95() - matches(made.truths, made.first).map50_95()


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hotcoco", type=Path, required=True, help="folder that hotcoco is installed in")
    parser.add_argument("--sets", type=int, default=8, help="data sets that both estimate the error from")
    parser.add_argument("--true-sets", type=int, default=100, help="data sets that show the true error")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sys.path.append(str(options.hotcoco))
    hotcoco = importlib.import_module("hotcoco")
    with tempfile.TemporaryDirectory() as folder:
        made = [generate(seed) for seed in range(options.sets)]
        theirs = [of_hotcoco(hotcoco, one, Path(folder)) for one in made]
    ours = [of_ours(one) for one in made]
    found = {
        "hotcoco": theirs,
        "ours": ours,
        "true_error": float(np.std([change(1000 + seed) for seed in range(options.true_sets)], ddof=1)),
    }
    made_by = {"date": str(date.today()), "machine": f"{device_model()}, {cores()} cores"}
    how = {"hotcoco": hotcoco.__version__, **versions()}
    write_json(options.out, {**found, **made_by, "versions": how, "true_sets": options.true_sets})
    for name, values in {"hotcoco": theirs, "ours": ours}.items():
        print(name, {key: float(np.mean([one[key] for one in values])) for key in values[0]})
    print("true error", found["true_error"])


if __name__ == "__main__":
    main()
