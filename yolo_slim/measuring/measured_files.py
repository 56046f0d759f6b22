"""A file for every network that was measured, so that an interrupted measurement resumes with the missing ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from yolo_slim.config.record import Record, read_record
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.measuring.block_costs import MEASURE_AGAIN, MeasuredBlock
from yolo_slim.workspace.job import Job

CONTROL = "control"
"""File of the unpruned network, beside those of the blocks."""
Kind = TypeVar("Kind", bound=Record)


@dataclass(frozen=True, kw_only=True)
class MeasuredFiles:
    """What was measured for one job, a file for every network."""

    job: Job
    name: str = "blocks"
    """Of the folder, below the job's."""

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.job.folder / self.name

    def read(self, kind: type[Kind], name: str) -> Kind | None:
        """Read a measurement; None where there is none, or one of another job."""
        path = self.folder / f"{name}.json"
        try:
            value = read_json(path)
            if value.pop("fingerprint") != self.job.fingerprint:
                return None
            return read_record(kind, value, str(path), MEASURE_AGAIN)
        except (OSError, ValueError, AttributeError, KeyError, SlimError):
            # Whatever is wrong with a file, measuring its network again mends it.
            return None

    def write(self, name: str, value: Record) -> None:
        """Keep a measurement."""
        self.folder.mkdir(exist_ok=True)
        write_json(self.folder / f"{name}.json", {"fingerprint": self.job.fingerprint, **value.to_json()})

    def read_block(self, name: str) -> MeasuredBlock | None:
        """Read a block's measurement, unless its timing doesn't count."""
        found = self.read(MeasuredBlock, name)
        # Measured again when the measurement resumes: the machine may be cooler then.
        return None if found is None or found.invalid_reasons else found
