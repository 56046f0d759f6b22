"""A git repository whose nights are run for real (scripts/nightly_example.py)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo_slim.child_process import own_environment
from yolo_slim.datasets import quickstart
from yolo_slim.history.rows import Run
from yolo_slim.history.store import History

PROFILES = Path(__file__).parents[1] / "targets"
WEIGHTS, MATRIX, HISTORY = "best.pt", "nightly.yaml", "runs/nightly/history.sqlite"
SETTINGS = {
    "imgsz": 160,
    "prune.macs_removed": 0.5,
    "prune.steps": 1,
    "prune.images": 16,
    "prune.bn_images": 32,
    "recover.epochs": 1,
    "recover.overrides": {"workers": 0, "fraction": 0.5},
    "validate.min_seconds": 1,
    "validate.rounds": 2,
    "validate.busy": "mark",
    "emulate.mode": "never",
}
"""Those of ``yolo-slim nightly init``, on fewer images. The nights emulate, not the chain."""


@dataclass(frozen=True)
class Repository:
    """A folder with weights, a matrix and the nights of both, under git."""

    folder: Path

    @property
    def data(self) -> Path:
        """The quickstart's data.yaml."""
        return self.folder / "data" / "quickstart" / "data.yaml"

    @property
    def is_begun(self) -> bool:
        """Whether it was made before."""
        return (self.folder / ".git").is_dir()

    def begin(self, matrix: Mapping[str, Any]) -> None:
        """Make the repository; one that is there is used on."""
        if self.is_begun:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        quickstart.default_data(self.folder / "data")
        shutil.copyfile(quickstart.default_model(), self.folder / WEIGHTS)
        self.write_matrix(matrix)
        (self.folder / ".gitignore").write_text("runs/\ndata/\ntrained/\n", encoding="utf-8")
        self._git("init", "-q", "-b", "main")
        self.commit("The detector as it was shipped")

    def write_matrix(self, matrix: Mapping[str, Any]) -> None:
        """Write nightly.yaml."""
        text = yaml.safe_dump(dict(matrix), sort_keys=False)
        (self.folder / MATRIX).write_text(text, encoding="utf-8")

    def write_profile(self, name: str, like: str, **changes: Any) -> str:
        """Write a device profile of the repository's own: a shipped one with other values."""
        values = yaml.safe_load((PROFILES / f"{like}.yaml").read_text(encoding="utf-8"))
        text = yaml.safe_dump({**values, "name": name, **changes}, sort_keys=False)
        (self.folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        return f"{name}.yaml"

    def commit(self, subject: str) -> None:
        """Commit everything that changed; the same subject twice is one commit."""
        self._git("add", "-A")
        if self._git("status", "--porcelain"):
            self._git("commit", "-q", "-m", subject)

    def run(self) -> int:
        """Run a night, or what an interrupted one has left; the exit code is the command's."""
        command = [sys.executable, "-m", "yolo_slim.cli", "nightly", MATRIX]
        return subprocess.run(command, cwd=self.folder, env=own_environment()).returncode

    def ended_nights(self) -> int:
        """How many nights came to their end."""
        if not (self.folder / HISTORY).is_file():
            return 0
        with History.open(self.folder / HISTORY) as history:
            return sum(night.ended_at is not None for night in history.nights())

    def runs(self, night: int) -> list[Run]:
        """The cells of a night."""
        with History.open(self.folder / HISTORY) as history:
            return history.runs(night=night)

    def _git(self, *words: str) -> str:
        settings = ["-c", "user.name=yolo_slim", "-c", "user.email=yolo_slim@localhost", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(self.folder), *settings, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def matrix(targets: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The quickstart's model and data on some targets."""
    return {
        "models": {"signs": WEIGHTS},
        "data": {"signs": "data/quickstart/data.yaml"},
        "settings": {"half": dict(SETTINGS)},
        "targets": dict(targets),
        **more,
    }


def train_on_shuffled_labels(repository: Repository, epochs: int = 1) -> None:
    """Train the weights on, on labels whose classes were shuffled, and put them in the place of the good ones."""
    from yolo_slim.models.ultralytics import prepare_ultralytics

    prepare_ultralytics()
    from ultralytics import YOLO

    folder = repository.folder / "trained"
    trained = folder / "train" / "weights" / "last.pt"
    data = _shuffled(repository.data, folder / "shuffled")
    if not trained.is_file():
        YOLO(quickstart.default_model()).train(
            data=str(data), epochs=epochs, imgsz=160, batch=16, optimizer="AdamW", lr0=0.002, warmup_epochs=0,
            workers=0, seed=0, plots=False, val=False, device="cpu", amp=False, project=str(folder), name="train",
            exist_ok=True,
        )  # fmt: skip
    shutil.copyfile(trained, repository.folder / WEIGHTS)


def _shuffled(data: Path, folder: Path) -> Path:
    """A copy of a data set in which every object of the training split has the next object's class."""
    shutil.copytree(data.parent, folder, dirs_exist_ok=True)
    for stale in folder.rglob("*.cache"):
        stale.unlink()
    files = sorted((folder / "labels" / "train").glob("*.txt"))
    rows = [[line.split() for line in path.read_text().splitlines()] for path in files]
    classes = [row[0] for one in rows for row in one]
    following = iter([*classes[1:], classes[0]])
    for path, one in zip(files, rows, strict=True):
        path.write_text("".join(" ".join([next(following), *row[1:]]) + "\n" for row in one))
    found = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({**found, "path": str(folder)}))
    return folder / "data.yaml"


def in_turn(repository: Repository, nights: list[Callable[[], None]]) -> None:
    """Run nights that aren't run yet, each after its change; a call that was stopped goes on where it was."""
    for number, change in enumerate(nights, 1):
        if repository.ended_nights() < number:
            change()
            repository.run()
