"""The measured table of block costs: the content of ``block_costs.json``. Imports no torch.

Pruning reads a part of it, which may be written by hand: see :mod:`yolo_slim.pruning.block_costs`.
"""

from __future__ import annotations

from pathlib import Path

from yolo_slim.config.record import Record, read_record
from yolo_slim.devices.answers import DeviceFacts
from yolo_slim.errors import SlimError
from yolo_slim.files import read_json, write_json
from yolo_slim.measuring.rounds import quartiles
from yolo_slim.runtime.paired import Paired

SCHEMA = 1
"""Version of block_costs.json."""
KIND, FORMER_KIND = "block_costs", "sensitivity"
"""Value of the key ``kind``, and what earlier versions wrote there."""
MEASURE_AGAIN = "Measure the model again with `yolo-slim block-costs`."


class RoundMs(Record):
    """The rounds of one paired timing: median milliseconds of an image in each."""

    control: tuple[float, ...]
    """The unpruned network."""
    cut: tuple[float, ...]
    """The network without some channels of one block, in the same rounds."""

    @classmethod
    def of(cls, timing: Paired) -> RoundMs:
        """Take the rounds of a device's answer."""
        return cls(control=timing.before, cut=timing.after)

    @property
    def gains(self) -> list[float]:
        """Milliseconds saved in every round."""
        return [before - after for before, after in zip(self.control, self.cut, strict=True)]

    @property
    def middle_half(self) -> tuple[float, float]:
        """The quartiles of the gains.

        On a shared machine one round in twenty-five is off by tens of milliseconds, so smallest and largest say little.
        """
        low, _, high = quartiles(self.gains)
        return low, high


class Unpruned(Record):
    """The unpruned network's figures, with which every cut network is compared."""

    model_sha256: str
    """SHA-256 of the checkpoint."""
    map50_95_trained: float
    """mAP50-95 with the statistics of its training."""
    map50_95: float
    """mAP50-95 with statistics re-estimated as those of the cut networks are."""
    macs: int
    """Multiply-accumulates of the fused graph for one image."""
    params: int
    """Parameters of the fused graph."""


class MeasuredBlock(Record):
    """One row of the table: a block that was narrowed alone."""

    name: str
    """``model.4``, or a branch of the head: ``model.22.cv2``."""
    map_cost: float
    """mAP50-95 lost, as a fraction: .01 is one point."""
    ms_gain: float
    """Milliseconds saved per image: the median of the rounds' differences."""
    ms_gain_lowest: float
    """Smallest difference of a round."""
    ms_gain_highest: float
    """Largest difference of a round."""
    ms_control: float
    """Median of the unpruned network's rounds."""
    ms_cut: float
    """Median of the cut network's rounds."""
    round_ms: RoundMs
    """The rounds behind these figures."""
    invalid_reasons: tuple[str, ...]
    """Why the timing doesn't count: the machine was throttled or busy. Empty: it counts."""
    threads: int
    """Inference threads of both networks."""
    map50_95: float
    """mAP50-95 of the cut network."""
    macs_saved: float
    """Fraction of the network's MACs that went."""
    params_saved: float
    """Fraction of its parameters that went."""
    channels: int
    """Channels of the block's layers that could give some up."""
    channels_kept: int
    """Those of them that stayed."""
    layers: tuple[str, ...]
    """The layers that stand for the block's decisions."""
    seconds: float
    """Duration of the measurement."""


class ScoredData(Record):
    """The images that mAP was measured on."""

    yaml: str
    """File name of the data set's description."""
    split: str
    """Its images that were used."""
    images: int
    """Number of images."""


class BlockCostTable(Record):
    """Every block of one model, and how they were measured."""

    model_sha256: str
    """SHA-256 of the checkpoint."""
    removed: float
    """Fraction of its channels that each block lost, alone."""
    criterion: str
    """How the channels were scored."""
    imgsz: int
    """Input side, pixels."""
    target: str
    """Name of the device profile."""
    runtime: str
    """What was timed: ``onnxruntime fp32``."""
    is_measured_on_target: bool
    """Whether the milliseconds are those of the target. Where false, the gains there are unproven."""
    machine: DeviceFacts
    """What was timed on."""
    ms_of: str = "inference of one image, median of the rounds' differences"
    """What the milliseconds are."""
    measured_at: str
    """UTC, ISO 8601."""
    command: str
    """Command line."""
    versions: dict[str, str]
    """Packages of the workstation."""
    data: ScoredData
    """The images that mAP was measured on."""
    control: Unpruned
    """What every block is compared with."""
    blocks: tuple[MeasuredBlock, ...]
    """The rows, in the network's order."""

    @property
    def invalid_reasons(self) -> list[str]:
        """Why some timings don't count; empty where all do."""
        return sorted({reason for row in self.blocks for reason in row.invalid_reasons})

    @property
    def threads(self) -> list[int]:
        """Numbers of inference threads that occur."""
        return sorted({row.threads for row in self.blocks})

    def to_json(self) -> dict[str, object]:
        """The content of ``block_costs.json``."""
        return {"schema": SCHEMA, "kind": KIND, **super().to_json()}

    @classmethod
    def from_json(cls, value: object, source: str) -> BlockCostTable:
        """Read what :meth:`to_json` made.

        Raises:
            SlimError: another file, a table of an earlier version, or a damaged one.
        """
        require_present_kind(value, source)
        if not isinstance(value, dict) or (value.get("schema"), value.get("kind")) != (SCHEMA, KIND):
            raise SlimError(f"{source}: not a table of block costs of schema {SCHEMA}.", remedy=MEASURE_AGAIN)
        content = {key: item for key, item in value.items() if key not in ("schema", "kind")}
        return read_record(cls, content, source, MEASURE_AGAIN)

    def save(self, path: Path) -> None:
        """Write the table, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> BlockCostTable:
        """Read a measured table."""
        return cls.from_json(read_json(path), str(path))


def require_present_kind(value: object, source: str) -> None:
    """Refuse a table that was measured before it got its present name.

    Raises:
        SlimError: such a table.
    """
    if isinstance(value, dict) and value.get("kind") == FORMER_KIND:
        raise SlimError(
            f'{source}: an earlier version of yolo_slim measured this table (kind "{FORMER_KIND}", now "{KIND}").',
            remedy=MEASURE_AGAIN,
        )
