"""The ``tune`` command: which threads and options of its runtime are fastest for a bundle on this machine.

Every timing is a process of its own. The present best and its rivals are timed in the same rounds, one right after the
other. A rival is only better if it was faster in every round: with seven rounds, chance alone does that once in 128
times. It must also win :data:`MIN_GAIN`, so that a setting is changed for a reason, and pass the bundle's self-check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from yolo_slim.backends import options_of
from yolo_slim.bundle import Bundle
from yolo_slim.errors import SlimError
from yolo_slim.machine import cores
from yolo_slim.runtime import tuned
from yolo_slim.runtime.bench_text import invalid_lines
from yolo_slim.runtime.tuned import Setting

ROUNDS = 7
MIN_GAIN = 1.02
"""A rival must be so many times as fast, in the median of the rounds."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One timing of one setting."""

    p50_ms: float
    """Median end-to-end latency, milliseconds."""
    invalid_reasons: tuple[str, ...] = ()
    """Why it doesn't count."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One rival against the best setting at that time."""

    setting: str
    """The rival."""
    against: str
    """The best setting at that time."""
    ratios: tuple[float, ...]
    """How many times as fast the rival was, round by round; after a lost round it isn't timed any more."""
    is_better: bool
    """Whether the rounds say that it is faster, and its detections are right."""
    note: str
    """Why a fast one wasn't taken; empty: nothing to say."""

    @property
    def ratio(self) -> float:
        """Median of the rounds."""
        return float(np.median(self.ratios))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What tuning found."""

    usual: Setting
    """How the bundle ran before."""
    best: Setting
    """How it runs fastest."""
    gain: float
    """How many times as fast the best one is as the usual one, by the trials that led to it; 1: nothing was better."""
    trials: tuple[Trial, ...]
    """Every rival that was timed."""
    invalid_reasons: tuple[str, ...]
    """Why nothing can be said: other programs were busy, or the device throttled."""
    finished_at: str
    """UTC, ISO 8601."""

    def to_json(self) -> dict[str, object]:
        """The answer of ``tune --json``, and what the file says besides the setting."""
        return {
            "usual": str(self.usual),
            "best": str(self.best),
            "gain": self.gain,
            "trials": [{**vars(trial), "ratio": trial.ratio} for trial in self.trials],
            "invalid_reasons": list(self.invalid_reasons),
            "finished_at": self.finished_at,
        }

    def as_text(self) -> str:
        """A line for every rival, then the best setting."""
        lines = [_line(trial) for trial in self.trials]
        if self.invalid_reasons:
            lines.append("nothing was stored: the timings don't count")
        elif self.best == self.usual:
            lines.append(f"nothing is faster than {self.usual}")
        else:
            lines.append(f"{self.best}: {self.gain:.2f} times as fast as {self.usual}; stored in {tuned.FILE}")
        return "\n".join(lines + invalid_lines(self.invalid_reasons))


@dataclass(kw_only=True)
class Tuner:
    """Finds the best setting of one bundle."""

    usual: Setting
    options: Mapping[str, Sequence[Any]]
    """Options of the runtime with their values, the usual one first."""
    time_once: Callable[[Setting], Timed]
    """Times a setting in a new process."""
    is_right: Callable[[Setting], bool]
    """Whether the self-check passes with a setting."""
    on_step: Callable[[str], object]
    most_threads: int
    trials: list[Trial] = field(default_factory=list)
    invalid_reasons: list[str] = field(default_factory=list)

    def run(self) -> Report:
        """Try other numbers of threads, then one option after the other; a timing that doesn't count ends it."""
        best, gain = self.usual, 1.0
        for family in ("threads", *self.options):
            rivals = [one for one in self._rivals(best, family) if one != best]
            found = self._fastest(best, rivals) if rivals and not self.invalid_reasons else None
            if found is not None:
                best, gain = found[0], gain * found[1]
        stands = not self.invalid_reasons
        return Report(
            usual=self.usual,
            best=best if stands else self.usual,
            gain=gain if stands else 1.0,
            trials=tuple(self.trials),
            invalid_reasons=tuple(dict.fromkeys(self.invalid_reasons)),
            finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _rivals(self, best: Setting, family: str) -> Iterator[Setting]:
        if family == "threads":
            yield from (replace(best, threads=count) for count in range(1, self.most_threads + 1))
            return
        for value in self.options[family][1:]:
            yield replace(best, options={**best.options, family: value})

    def _fastest(self, best: Setting, rivals: Sequence[Setting]) -> tuple[Setting, float] | None:
        """The fastest of the rivals that beat the present best, with its gain."""
        ratios = self._rounds(best, rivals)
        if self.invalid_reasons:
            return None
        order = sorted(range(len(rivals)), key=lambda index: -float(np.median(ratios[index])))
        winner: tuple[Setting, float] | None = None
        for index in order:
            trial = self._judged(best, rivals[index], ratios[index], is_wanted=winner is None)
            self.trials.append(trial)
            if trial.is_better:
                winner = rivals[index], trial.ratio
        return winner

    def _rounds(self, best: Setting, rivals: Sequence[Setting]) -> list[list[float]]:
        """The ratios of every rival, until it loses a round."""
        ratios: list[list[float]] = [[] for _ in rivals]
        for number in range(ROUNDS):
            left = [index for index, values in enumerate(ratios) if min(values, default=2.0) > 1.0]
            if not left:
                break
            self.on_step(f"tune: round {number + 1} of {ROUNDS}: {'; '.join(str(rivals[index]) for index in left)}")
            times = self._round(best, {index: rivals[index] for index in left}, is_reversed=number % 2 == 1)
            if times is None:
                break
            for index in left:
                ratios[index].append(times[None] / times[index])
        return ratios

    def _round(
        self, best: Setting, rivals: Mapping[int, Setting], *, is_reversed: bool
    ) -> dict[int | None, float] | None:
        """Milliseconds of the best (None) and its rivals; every other round goes through them in the other order."""
        order: list[tuple[int | None, Setting]] = [(None, best), *rivals.items()]
        times: dict[int | None, float] = {}
        for key, setting in reversed(order) if is_reversed else order:
            timed = self._timed(setting, is_rival=key is not None)
            self.invalid_reasons += timed.invalid_reasons
            if timed.invalid_reasons:
                return None
            times[key] = timed.p50_ms
        return times

    def _timed(self, setting: Setting, *, is_rival: bool) -> Timed:
        """Time a setting; a rival that doesn't run has lost."""
        try:
            return self.time_once(setting)
        except SlimError:
            if not is_rival:
                raise
            return Timed(p50_ms=float("inf"))

    def _detects(self, rival: Setting) -> bool:
        """Whether the self-check passes with a rival; one that can't run it doesn't."""
        try:
            return self.is_right(rival)
        except SlimError:
            return False

    def _judged(self, best: Setting, rival: Setting, ratios: Sequence[float], *, is_wanted: bool) -> Trial:
        """Whether the rounds and the self-check say that a rival is better."""
        is_faster = len(ratios) == ROUNDS and min(ratios) > 1.0 and float(np.median(ratios)) >= MIN_GAIN
        note = ""
        if is_faster and not is_wanted:
            note = "another one was faster still"
        elif is_faster and not self._detects(rival):
            note = "its detections aren't those of the workstation"
        return Trial(
            setting=str(rival),
            against=str(best),
            ratios=tuple(ratios),
            is_better=is_faster and not note,
            note=note,
        )


def tune(
    bundle: Bundle,
    time_once: Callable[[Setting], Timed],
    is_right: Callable[[Setting], bool],
    on_step: Callable[[str], object],
) -> Report:
    """Find the best setting of a bundle here, and store it beside the model.

    Raises:
        SlimError: its runtime has nothing to tune, or the folder can't be written.
    """
    spec = bundle.spec
    options = options_of(spec.runtime)
    if not options:
        raise SlimError(
            f"{spec.runtime} has no options to tune.",
            remedy="Tune bundles of ONNX Runtime, NCNN or another runtime of the CPU.",
        )
    usual = Setting(threads=tuned.usual_threads(spec), options={})
    report = Tuner(
        usual=usual, options=options, time_once=time_once, is_right=is_right, on_step=on_step, most_threads=cores()
    ).run()
    if not report.invalid_reasons:
        tuned.save(bundle, report.best, report.to_json())
    return report


def _line(trial: Trial) -> str:
    low, high = min(trial.ratios), max(trial.ratios)
    verdict = "better" if trial.is_better else trial.note or "not better"
    return f"{trial.setting}: {trial.ratio:.2f} times as fast ({low:.2f} to {high:.2f}), {verdict}"
