"""Nights and runs as lines for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from yolo_slim.files import JsonObject
from yolo_slim.history.difference import Difference
from yolo_slim.history.exchange import Imported
from yolo_slim.history.rows import NIGHT, Judgement, Night, Run, Source
from yolo_slim.history.store import History


def night_log(history: History, nights: Sequence[Night]) -> list[JsonObject]:
    """A row for every night: when, which code, and how many cells have which answer."""
    rows = []
    for night in nights:
        counts = Counter(_status(run.judgement) for run in history.runs(night=night.number))
        shown = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        state = "" if night.ended_at else "  interrupted or running"
        kind = ("" if night.kind == NIGHT else f"  {night.kind}") + ("  imported" if night.imported else "")
        text = f"{night.number:>4}  {night.started_at[:16]}  {_commit(night.source)}  {shown}{kind}{state}"
        rows.append({"night": night.to_json(), "answers": dict(counts), "text": text})
    return rows


def cell_log(history: History, nights: Sequence[Night], pattern: str) -> list[JsonObject]:
    """A row for every night of the cells that match a pattern."""
    shown = {night.number for night in nights}
    runs = [run for run in history.runs() if run.night in shown and fnmatchcase(run.cell.name, pattern)]
    return [{"run": run.to_json(), "text": f"{run.night:>4}  {run_text(run, complete=False)}"} for run in runs]


def import_text(done: Imported, last: Sequence[Night]) -> str:
    """What an import added, and what it left as it was."""
    added = done.added
    lines = [f"added: {added['night']} nights, {added['run']} runs, {added['baseline']} baselines"]
    if done.kept:
        lines.append(f"kept: this history's own baselines of {len(done.kept)} cells; the file has others:")
        lines += [f"  {one.cell}: night {one.night}, {one.reason}" for one in done.kept]
        lines.append("To take the file's baselines: the same command with --take-baselines")
    lines += [f"the last night is night {night.number}, begun {night.started_at}" for night in last]
    return "\n".join(lines)


def run_text(run: Run, *, complete: bool) -> str:
    """One run: a line, or everything that was recorded of it."""
    found = run.judgement
    line = f"{_status(found):<12} {run.cell.name}{_figures(run)}"
    if not complete:
        return line
    lines = [line, *([f"  {found.reason}"] if found else [])]
    lines += [f"  since the baseline: {moved}" for moved in (found.moved if found else ())]
    own = {f"workstation's {key}": value for key, value in run.workstation.items()}
    digests = run.digests.model_dump(exclude_none=True) if run.digests else {}
    facts = {**digests, **own, **run.environment, **run.settings}
    return "\n".join(lines + [f"  {key}: {value}" for key, value in facts.items()])


def difference_text(found: Difference) -> str:
    """One cell in two nights."""
    before, after = found.before.measurement, found.after.measurement
    lines = [f"{found.after.cell.name}: night {found.before.night} -> {found.after.night}"]
    if before and after:
        lines.append(f"  mAP50-95 {before.accuracy.map50_95:.4f} -> {after.accuracy.map50_95:.4f}")
    if before and after and before.shown_speed and after.shown_speed:
        lines.append(
            f"  FPS {before.shown_speed.fps:.1f} -> {after.shown_speed.fps:.1f} "
            "(of two nights: only timings in turns tell a bundle from its device)"
        )
    lines += [f"  {found.moved.incomparable}"] if found.moved.incomparable else []
    lines += [f"  {text}" for text in found.moved.texts] or ["  nothing else differs"]
    images = [f"    {name}: {first:.3f} -> {second:.3f}" for name, first, second in found.worse_images]
    return "\n".join([*lines, *(["  images that got worse, mAP50-95:", *images] if images else [])])


def _status(found: Judgement | None) -> str:
    return found.status if found else "not judged"


def _figures(run: Run) -> str:
    if run.measurement is None:
        return f"  {(run.error or '').partition(chr(10))[0]}"
    change = run.judgement.speed.change if run.judgement and run.judgement.speed else None
    beside = "" if change is None else f", latency {change:+.1%} beside the reference"
    return f"  {run.measurement.figures_text}{beside}"


def _commit(source: Source) -> str:
    if source.commit is None:
        return "no repository"
    return f"{source.commit[:10]}{'+' if source.dirty else ' '}"
