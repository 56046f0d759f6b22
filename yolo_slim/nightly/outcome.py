"""What a finished night says."""

from __future__ import annotations

from dataclasses import dataclass

from yolo_slim.errors import EXIT_FAIL, EXIT_OK, EXIT_UNPROVEN
from yolo_slim.history.device_changes import DeviceChange, device_changes
from yolo_slim.history.rows import Night, Run

ALARMS = ("worse", "failed")
UNANSWERED = ("unknown", "incomparable", "excluded", "missing")


@dataclass(frozen=True, kw_only=True)
class NightOutcome:
    """A finished night."""

    night: Night
    runs: tuple[Run, ...]
    """Its cells, judged."""

    @property
    def exit_code(self) -> int:
        """1: a cell is worse or failed. 3: some cell has no answer. 0: every cell has one, or it is the first night."""
        found = {run.judgement.status for run in self.runs if run.judgement}
        return EXIT_FAIL if found & set(ALARMS) else EXIT_UNPROVEN if found & set(UNANSWERED) else EXIT_OK

    @property
    def devices(self) -> list[DeviceChange]:
        """The devices that changed."""
        return device_changes(self.runs)
