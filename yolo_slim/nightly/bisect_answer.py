"""What measuring a cell's two bundles again showed, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yolo_slim.devices.answers import NOT_ITS_SPEED
from yolo_slim.files import JsonObject
from yolo_slim.history.judge import sentence
from yolo_slim.history.moved import Moved
from yolo_slim.history.rows import Answer, Compared

CHANGED: tuple[Answer, ...] = ("worse", "better")
GONE = "the difference of that night does not come back"
SAME = "same"
MADE = ("commit", "weights", "settings", "data", "workstation")
"""Parts that decide a bundle."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How much one figure of the device itself moved between two nights."""

    change: float | None = None
    """Latency: a fraction. Accuracy: mAP50-95. None: not known."""
    is_changed: bool = False
    """Whether it is beyond noise."""
    unknown: str = ""
    """Why it isn't known; empty: it is."""


@dataclass(frozen=True, kw_only=True)
class MeasuredAgain:
    """Both bundles, measured now, and the device, as the records of both nights show it."""

    speed: Compared
    accuracy: Compared
    latency_shift: Shift
    """Of the reference that both nights timed."""
    accuracy_shift: Shift
    """Of a bundle now against its own night."""
    invalid_reasons: tuple[str, ...] = ()
    """Why the timing doesn't count; empty: it does."""

    @property
    def is_emulated(self) -> bool:
        """Whether timings say nothing of the device, so that accuracy alone answers."""
        return NOT_ITS_SPEED in self.invalid_reasons

    @property
    def differs(self) -> bool:
        """Whether the bundles themselves differ beyond noise."""
        return (self.speed.answer in CHANGED and not self.invalid_reasons) or self.accuracy.answer in CHANGED

    @property
    def is_same(self) -> bool:
        """Whether the bundles surely don't differ."""
        is_as_fast = self.is_emulated or (self.speed.answer == "same" and not self.invalid_reasons)
        return is_as_fast and self.accuracy.answer == "same"

    @property
    def device_moved(self) -> list[str]:
        """By how much the device moved, a text for every figure; empty: not beyond noise, or not known."""
        texts = {"reference's latency": self.latency_shift, "same bundle's mAP50-95": self.accuracy_shift}
        formats = ("+.1%", "+.4f")
        return [
            f"by {shift.change:{form}} of the {name}"
            for (name, shift), form in zip(texts.items(), formats, strict=True)
            if shift.is_changed and shift.change is not None
        ]

    @property
    def device_unknown(self) -> str:
        """Why it isn't known whether the device moved; empty: it is."""
        latency = "" if self.is_emulated else self.latency_shift.unknown
        return "; ".join(dict.fromkeys(filter(None, (latency, self.accuracy_shift.unknown))))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer for one cell."""

    cell: str
    moved: Moved | None = None
    """What is recorded of both nights and differs; None: one of them has no figures."""
    not_recorded: Mapping[str, str] = field(default_factory=dict)
    """Part to why the records don't tell whether it differs."""
    is_one_bundle: bool = False
    """Whether both nights have the same bundle."""
    measured: MeasuredAgain | None = None
    """None: it couldn't be measured again."""
    problem: str = ""
    """Why not."""

    @property
    def parts(self) -> dict[str, str]:
        """What differs between both nights, by part: commit, weights, settings, data, workstation, device."""
        moved = self.moved
        if moved is None:
            return {}
        lines = {
            "commit": moved.commit, "weights": moved.weights, "settings": moved.settings, "data": moved.data,
            "workstation": moved.workstation, "device": moved.environment,
        }  # fmt: skip
        return {part: "; ".join(found) or self.not_recorded.get(part, SAME) for part, found in lines.items()}

    @property
    def blamed(self) -> list[str]:
        """The parts that moved the cell; several of a bundle moved together."""
        found = self.measured
        if found is None or not self.is_answered:
            return []
        bundle = [part for part in MADE if getattr(self.moved, part)] if self._bundle_moved else []
        return [*bundle, *(["device"] if found.device_moved else [])]

    @property
    def is_answered(self) -> bool:
        """Whether anything could be said."""
        return not self._unknown

    @property
    def _unknown(self) -> str:
        """Why nothing can be said; empty: something can."""
        found = self.measured
        if found is None:
            return self.problem
        if self.is_one_bundle or found.differs or found.is_same:
            return ""
        if found.invalid_reasons and not found.is_emulated:
            return f"the timing doesn't count: {'; '.join(found.invalid_reasons)}"
        more = "images" if found.is_emulated else "timing.rounds"
        return f"the noise is larger than the difference; give more {more}"

    @property
    def _bundle_moved(self) -> bool:
        return self.measured is not None and self.measured.differs and not self.is_one_bundle

    @property
    def _moved(self) -> Moved:
        return self.moved or Moved()

    @property
    def conclusion(self) -> str:
        """One sentence: what moved the cell."""
        found = self.measured
        if found is None or self._unknown:
            return f"unknown: {self._unknown}"
        if self.is_one_bundle:
            return self._of_device(found, "both nights have the same bundle")
        if found.differs:
            return f"the bundle moved, and differs now too{self._made()}{self._device_too(found)}"
        return self._of_device(found, "the bundles are the same now")

    def _made(self) -> str:
        """What moved with the bundle, after a sentence about it."""
        if self._moved.made:
            return f": {'; '.join(self._moved.made)}"
        unsure = "; ".join(f"{part}: {why}" for part, why in self.not_recorded.items())
        return f"; nothing that is recorded of how it was made differs{f' ({unsure})' if unsure else ''}"

    def _of_device(self, found: MeasuredAgain, bundles: str) -> str:
        """What is left where no bundle moved."""
        if found.device_moved:
            return f"{bundles}, so the device moved, {self._device(found)}"
        if found.device_unknown:
            return f"{GONE}: {bundles}; whether the device moved isn't known: {found.device_unknown}"
        return f"{GONE}: {bundles}, and the device didn't move"

    def _device_too(self, found: MeasuredAgain) -> str:
        return f". The device moved too, {self._device(found)}" if found.device_moved else ""

    def _device(self, found: MeasuredAgain) -> str:
        what = "; ".join(self._moved.environment) or "nothing that is recorded of it differs"
        return f"{' and '.join(found.device_moved)}: {what}"

    def to_json(self) -> JsonObject:
        """Everything, for programs."""
        found = self.measured
        return {
            "conclusion": self.conclusion,
            "blamed": self.blamed,
            "differs": self.parts,
            "speed": found.speed.to_json() if found and not found.is_emulated else None,
            "accuracy": found.accuracy.to_json() if found else None,
            "device_change": found.latency_shift.change if found else None,
        }

    def text(self) -> str:
        """Everything, for people."""
        lines = [f"{self.cell}: {self.conclusion}"]
        if self.measured:
            lines += [] if self.measured.is_emulated else [f"  {sentence('speed', self.measured.speed)}"]
            lines.append(f"  {sentence('accuracy', self.measured.accuracy)}")
        return "\n".join([*lines, *(f"  {part}: {_told(part, text)}" for part, text in self.parts.items())])


def _told(part: str, text: str) -> str:
    """A part's differences without its own name before them."""
    return text.removeprefix(f"{part}: ").replace(f"{part}'s ", "")
