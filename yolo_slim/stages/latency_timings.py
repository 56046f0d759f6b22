"""What a latency table is made of while it is measured: timings of the unpruned network and of cut ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo_slim.config.record import Record
from yolo_slim.devices.base import Placed
from yolo_slim.measuring.latency import TimedNetwork
from yolo_slim.measuring.layer_grids import LayerGrid
from yolo_slim.measuring.rounds import one_of_a_kind
from yolo_slim.stages.network_meter import ANOTHER_SPEED, is_usual

USUAL_OF = 3
"""Timings from which on it is known what the unpruned network usually takes."""


class ControlTime(Record):
    """The unpruned network."""

    control_ms: float
    """Median inference, milliseconds."""
    overhead_ms: float
    """Median pre- and post-processing."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count."""


class NetworkTime(Record):
    """A network that was cut."""

    widths: tuple[int, ...]
    """Kept channels of every slot: a search finds others when layers were timed anew, or for another build."""
    ratio: float
    """Its inference in units of the unpruned network's: median of the rounds."""
    unpruned_ms: float
    """Median inference of the unpruned network in the same rounds, milliseconds."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count."""


@dataclass(kw_only=True)
class Measured:
    """What one build took so far."""

    placed: Placed
    """The unpruned network on the device."""
    control: ControlTime
    grids: list[LayerGrid]
    networks: list[TimedNetwork]
    unpruned: list[float]
    """What the unpruned network took beside every other one, milliseconds."""

    @property
    def usual_ms(self) -> float | None:
        """What the unpruned network usually takes beside another one, milliseconds; None: too few timings yet."""
        return float(np.median(self.unpruned)) if len(self.unpruned) >= USUAL_OF else None

    def judged(self, timed: NetworkTime) -> NetworkTime:
        """Say so where a network was timed at another speed than most."""
        if timed.invalid_reasons or is_usual(timed.unpruned_ms, self.usual_ms):
            return timed
        return timed.model_copy(update={"invalid_reasons": (ANOTHER_SPEED,)})

    @property
    def invalid_reasons(self) -> tuple[str, ...]:
        """Why some of it doesn't count."""
        parts: list[ControlTime | LayerGrid | TimedNetwork] = [self.control, *self.grids, *self.networks]
        return tuple(one_of_a_kind(sorted({reason for part in parts for reason in part.invalid_reasons})))


def network_name(index: int) -> str:
    """Name of a network's files."""
    return f"network-{index:02d}"
