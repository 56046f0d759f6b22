"""Compare our mAP with `yolo val rect=False` on random small data sets of every form that Ultralytics reads.

    python -m scripts.check_truth --sets 200

Prints the worst difference, and how many sets the data check refused. Exits 1 where a difference is above .002, or
where another set is refused than those with labels that Ultralytics leaves out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers import truth_sets
from tests.helpers.truth_parity import Referee
from yolo_slim.datasets import quickstart

TOLERANCE = 0.002


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first set")
    options = parser.parse_args()
    referee, began = Referee(quickstart.default_model()), time.perf_counter()
    worst, refused, wrong = 0.0, 0, []
    with tempfile.TemporaryDirectory() as name:
        pool = truth_sets.scenes(Path(name) / "scenes")
        for seed in range(options.first, options.first + options.sets):
            made = truth_sets.make(pool, Path(name) / f"{seed}", seed)
            ours = referee.ours(made.yaml)
            difference = 0.0 if ours is None else ours - referee.theirs(made.yaml)
            refused += ours is None
            worst = max(worst, difference, -difference, key=abs)
            if abs(difference) > TOLERANCE or (ours is None) != made.is_corrupt:
                wrong.append(made.about)
                print(f"{made.about}: ours {ours}, {difference:+.4f} from theirs", flush=True)
    print(f"{options.sets} sets, worst difference {abs(worst):.5f}, {refused} refused, {len(wrong)} not as expected,")
    print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
