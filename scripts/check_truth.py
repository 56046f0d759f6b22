"""Compare our mAP with `yolo val rect=False` on random small data sets of every form that Ultralytics reads.

    python -m scripts.check_truth --sets 200 --out docs/benchmarks/records/truth.json

Prints the worst difference, and how many sets the data check refused. Exits 1 where a difference is above .002, or
where other sets are refused than those with labels or images that Ultralytics leaves out or devices read otherwise.

Pictures have sizes that scale to whole pixels, because `yolo val` rounds a side up and we to the nearest, as predict
and devices do. With `--any-size` they don't: the differences show what that makes of a few images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from tests.helpers import truth_sets
from tests.helpers.truth_parity import Referee
from yolo_slim.datasets import quickstart
from yolo_slim.files import JsonObject, write_json
from yolo_slim.machine import describe_machine
from yolo_slim.workspace.job import versions

TOLERANCE = 0.002


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first set")
    parser.add_argument("--any-size", action="store_true", help="sides that don't scale to whole pixels")
    parser.add_argument("--out", type=Path, help="JSON file for the record")
    options = parser.parse_args()
    began = time.perf_counter()
    found = compare(range(options.first, options.first + options.sets), any_size=options.any_size)
    print(
        f"{found['sets']} sets, {found['scored']} scored, worst difference {found['worst']:.5f}, "
        f"{found['refused']} refused, {len(found['unexpected'])} not as expected, {time.perf_counter() - began:.0f} s"
    )
    if options.out:
        facts = {"date": str(date.today()), "machine": describe_machine(), "versions": versions()}
        write_json(options.out, {**facts, "tolerance": TOLERANCE, **found})
    sys.exit(1 if found["unexpected"] else 0)


def compare(seeds: range, *, any_size: bool) -> JsonObject:
    """Score the sets of these seeds in both ways."""
    referee = Referee(quickstart.default_model())
    differences, refused, unexpected = [], 0, []
    with tempfile.TemporaryDirectory() as name:
        pool = truth_sets.scenes(Path(name) / "scenes")
        for seed in seeds:
            made = truth_sets.make(pool, Path(name) / f"{seed}", seed, any_size=any_size)
            ours = referee.ours(made.yaml)
            if ours is None:
                refused += 1
            else:
                differences.append(abs(ours - referee.theirs(made.yaml)))
            too_far = ours is not None and not any_size and not differences[-1] <= TOLERANCE
            if too_far or (ours is None) != made.is_corrupt:
                unexpected.append(made.about)
                print(f"{made.about}: ours {ours}, {differences[-1] if too_far else 'unexpected'}", flush=True)
    return {
        "any_size": any_size, "sets": len(seeds), "scored": len(differences), "refused": refused,
        "worst": max(differences, default=0.0), "median": median(differences) if differences else 0.0,
        "above_tolerance": sum(not one <= TOLERANCE for one in differences), "unexpected": unexpected,
    }  # fmt: skip


if __name__ == "__main__":
    main()
