"""Three example nights: the quickstart here and on an emulated Pi, the third night worse.

    python -m scripts.nightly_example --work runs/nightly-example --out docs/nightly-example

Everything is run for real. Before the second night a commit changes a text alone; before the third one somebody trains
the weights on, on labels whose classes were shuffled by mistake. The emulated Pi has to be prepared (yolo-slim device
prepare). A stopped call goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.nightly_repository import HISTORY, Repository, in_turn, matrix, train_on_shuffled_labels
from yolo_slim.history.store import History
from yolo_slim.reporting.dashboard.site import write_dashboard

TARGETS = {"here": {"profile": "host"}, "pi": {"profile": "pi.yaml", "host": "rpi5-emulated"}}
NCNN = [{"runtime": "ncnn", "precisions": ["fp16"]}]
"""The only build for the Pi: an emulated image takes long."""
TIMING = {"seconds": 0.3, "rounds": [12, 24]}


def describe(repository: Repository) -> None:
    """Commit a change that decides nothing."""
    (repository.folder / "README.md").write_text("Traffic signs, on this machine and on a Pi.\n", encoding="utf-8")
    repository.commit("Say what the detector is for")


def spoil(repository: Repository) -> None:
    """Commit weights that were trained on shuffled labels."""
    train_on_shuffled_labels(repository)
    repository.commit("Train one more epoch")


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
    in_turn(repository, [lambda: None, lambda: describe(repository), lambda: spoil(repository)])
    with History.open(repository.folder / HISTORY) as history:
        print(write_dashboard(history, options.out))


if __name__ == "__main__":
    main()
