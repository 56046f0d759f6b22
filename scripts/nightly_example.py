"""The three nights of docs/nightly-example: the quickstart here and on an emulated Pi, the second night worse.

    python -m scripts.nightly_example --work runs/nightly-example --out docs/nightly-example

Everything is run for real. Before the second night somebody trains the weights on, on labels whose classes were
shuffled by mistake; before the third one the commit is taken back. The emulated Pi has to be prepared (yolo-slim device
prepare). A stopped call goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from scripts.nightly_repository import HISTORY, WEIGHTS, Repository, in_turn, matrix, train_on_shuffled_labels
from yolo_slim.datasets import quickstart
from yolo_slim.history.store import History
from yolo_slim.reporting.dashboard.site import write_dashboard

TARGETS = {"here": {"profile": "host"}, "pi": {"profile": "pi.yaml", "host": "rpi5-emulated"}}
NCNN = [{"runtime": "ncnn", "precisions": ["fp16"]}]
"""The only build for the Pi: an emulated image takes long."""
TIMING = {"seconds": 0.3, "rounds": [12, 24, 48]}


def spoil(repository: Repository) -> None:
    """Commit weights that were trained on shuffled labels."""
    train_on_shuffled_labels(repository)
    repository.commit("Train two more epochs")


def repair(repository: Repository) -> None:
    """Take that commit back."""
    shutil.copyfile(quickstart.default_model(), repository.folder / WEIGHTS)
    repository.commit('Revert "Train two more epochs": its labels were shuffled')


def main() -> None:
    """Run what isn't run yet, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/nightly-example"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    repository = Repository(options.work.absolute())
    repository.folder.mkdir(parents=True, exist_ok=True)
    repository.write_profile("pi", "rpi5", runtimes=NCNN)
    repository.begin(matrix(TARGETS, timing=TIMING))
    in_turn(repository, [lambda: None, lambda: spoil(repository), lambda: repair(repository)])
    with History.open(repository.folder / HISTORY) as history:
        print(write_dashboard(history, options.out))


if __name__ == "__main__":
    main()
