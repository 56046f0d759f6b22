"""What every stage of one call shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_slim.config import targets
from yolo_slim.config.profile import Profile
from yolo_slim.config.run import PruneConfig
from yolo_slim.datasets.description import Dataset, load_dataset
from yolo_slim.devices.base import Device
from yolo_slim.devices.local import LocalDevice
from yolo_slim.files import JsonObject
from yolo_slim.progress import Progress, Silent


@dataclass(frozen=True, kw_only=True)
class Context:
    """The data, the target and the settings that all stages read, and how the call was made."""

    dataset: Dataset
    profile: Profile
    imgsz: int
    """Input side, pixels."""
    seed: int = 0
    """Seed of every random choice."""
    end2end: bool = False
    """The one-to-one head of yolov10 and yolo26 is exported, so it is the one that is scored and trained for."""
    command: str = ""
    """Command line, for the record."""
    progress: Progress = field(default_factory=Silent)
    device: Device = field(default_factory=LocalDevice)
    """Runs and times the bundles."""
    network: str = ""
    """Whose files a stage makes, for messages, where it runs for several networks: control, slim."""
    retrain: bool = False
    """Train again what only an update of a package made stale."""
    only_check: bool = False
    """Make nothing: raise :class:`~yolo_slim.workspace.up_to_date.NotUpToDate` at the first stage that is stale."""

    @classmethod
    def load(cls, data: Path, target: str = "host", *, imgsz: int, **others: Any) -> Context:
        """Read a data set's description and a target's profile; ``others`` are further fields."""
        return cls(dataset=load_dataset(data), profile=targets.load(target), imgsz=imgsz, **others)

    def recorded(self, config: PruneConfig) -> JsonObject:
        """Put together what a prune plan records of its settings."""
        return {**config.recorded(), "imgsz": self.imgsz, "seed": self.seed, "end2end": self.end2end}
