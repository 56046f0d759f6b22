"""A matrix of nightly cells: one ``nightly.yaml``, frozen and typed (docs/nightly.md)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from yolo_slim.config.strict import Fraction, Frozen, Positive

QUICKSTART = "quickstart"
"""In place of a path: the built-in example."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.+-]+", text):
        raise PydanticCustomError("name", "a name of letters, digits and . _ + -")
    return text


Name = Annotated[str, AfterValidator(_name)]


class NightlyTarget(Frozen):
    """One device."""

    profile: str = "host"
    """Device profile that the bundles are made for: a name of `yolo-slim targets`, or your own file."""
    host: str | None = None
    """Where the device is, as in `--host`; none: this machine."""


class NightlyTiming(Frozen):
    """How long a cell is timed. Tonight's bundle and the reference take turns; a turn of both is a round."""

    seconds: Annotated[float, Field(gt=0)] = 0.5
    """Least duration of one bundle in a round."""
    frames: Positive = 8
    """Least number of timed frames of one bundle in a round."""
    rounds: Annotated[list[Annotated[int, Field(ge=5)]], Field(min_length=1)] = [12, 24, 48, 96, 192]
    """After how many rounds the answer is looked for; the last number is the limit."""

    @field_validator("rounds")
    @classmethod
    def _grow(cls, value: list[int]) -> list[int]:
        """Refuse numbers that don't grow."""
        if sorted(set(value)) != value:
            raise PydanticCustomError("rounds", "numbers that grow, such as [12, 24, 48, 96, 192]")
        return value


class SpeedGate(Frozen):
    """When a cell became slower."""

    smallest: Fraction = 0.01
    """A change of latency that is smaller than this fraction is none."""
    tolerance: Fraction = 0.03
    """`same` means: surely within this fraction of the reference's latency."""


class AccuracyGate(Frozen):
    """When a cell became less accurate."""

    smallest: Fraction = 0.001
    """A change of mAP50-95 that is smaller than this is none; .001 is a tenth of a point."""
    tolerance: Fraction = 0.01
    """`same` means: surely within this much of the baseline's mAP50-95."""
    resamples: Annotated[int, Field(ge=200)] = 1000
    """Number of random choices of the images."""


class NightlyGates(Frozen):
    """How sure an answer must be."""

    false_alarms: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """Probability that a night in which nothing changed calls any of its cells worse."""
    device_change: Fraction = 0.1
    """The reference's own latency has to move by this fraction, and by more than in earlier nights, to say so."""
    speed: SpeedGate = SpeedGate()
    """When a cell became slower."""
    accuracy: AccuracyGate = AccuracyGate()
    """When a cell became less accurate."""


class NightlyConfig(Frozen):
    """The matrix: every model on every data set with every group of settings on every device."""

    project: str = "runs/nightly"
    """Folder of everything that the nights write."""
    history: str | None = None
    """File of the history; none: `history.sqlite` in the project's folder."""
    models: Annotated[dict[Name, str], Field(min_length=1)]
    """Name of a model to its trained checkpoint; `quickstart` is the built-in example's."""
    data: Annotated[dict[Name, str], Field(min_length=1)]
    """Name of a data set to its data.yaml; `quickstart` is the built-in example's."""
    settings: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)] = {"default": {}}
    """Name of a group to settings of a run, such as `prune.macs_removed: 0.5`."""
    targets: Annotated[dict[Name, NightlyTarget], Field(min_length=1)] = {"here": NightlyTarget()}
    """Name of a device to its profile and where it is."""
    only: list[str] = ["*"]
    """Patterns of cells to run, such as `*/ncnn-fp16`; a cell is model/data/settings/target/build."""
    timing: NightlyTiming = NightlyTiming()
    """How long a cell is timed."""
    gates: NightlyGates = NightlyGates()
    """How sure an answer must be."""
    keep_nights: Positive = 14
    """The bundles of this many nights are kept, besides those of the baselines."""
    mlflow: str | None = None
    """MLflow's address that gets a run a cell: a server, or a store such as `sqlite:///mlflow.db`; `$NAME` is an
    environment variable. Needs `pip install "yolo-slim[mlflow]"`."""
    webhook: str | None = None
    """Address that gets the night's summary as JSON (HTTP POST); `$NAME` is an environment variable."""

    @field_validator("settings", mode="before")
    @classmethod
    def _empty_is_a_group(cls, value: Any) -> Any:
        """Take a group without any setting, which YAML reads as nothing."""
        return {key: item or {} for key, item in value.items()} if isinstance(value, dict) else value
