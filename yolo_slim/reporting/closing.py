"""The last words of a summary: what was won, what is proven, and what to do next. Pure functions."""

from __future__ import annotations

from yolo_slim.build_key import BuildName
from yolo_slim.reporting.facts import number
from yolo_slim.verdict.control import CLASSES_GATE, CONTROL_GATE
from yolo_slim.verdict.emulated import proof
from yolo_slim.verdict.result import RECOVERED, Build, Gate, Result

SPEED_GATES = ("min_fps", "max_p99_ms")
ACCURACY_GATES = ("max_map50_95_drop", f"rung:{RECOVERED}")
PROOFS = {
    CONTROL_GATE: "take a better model or label more images: with this control no loss could be seen",
    CLASSES_GATE: "label images of the classes that have none, score more images (validate.max_images: 0 is all), or "
    "take these classes out of data and model",
}
"""Gates that stay unproven however often a run is measured, with what proves them."""


def closing(result: Result) -> list[tuple[str, str]]:
    """Three names and a plain sentence each."""
    return [("Won" if result.best else "Result", _won(result)), ("Proven", _proven(result)), ("Next", _next(result))]


def _won(result: Result) -> str:
    """What the winner computes, how fast it is and what it lost."""
    removed = f"{_removed(result):.0%} of the MACs are gone"
    best = result.best
    if best is None:
        return f"{removed}, but no build is inside the accuracy budget."
    gain, rung = result.speedup(best), result.slim_rung
    where = f" on {rung.where}" if rung else ""
    faster = f"{gain.ratio:.2f} times as fast as the control{where}" if gain and gain.valid else "of unknown speed"
    return f"{removed}. {best.key.build} is {faster}, and {_accuracy(result, best)}."


def _accuracy(result: Result, best: Build) -> str:
    """What the winner's mAP is against the control's, in points."""
    control = result.control_rung
    if control is None or best.map50_95 is None:
        return "its mAP50-95 was not measured"
    points = 100 * (best.map50_95 - control.map50_95)
    change = "keeps its" if abs(points) < 0.05 else f"{'gains' if points > 0 else 'loses'} {abs(points):.1f} points of"
    return f"{change} mAP50-95 ({number(control.map50_95)} -> {number(best.map50_95)})"


def _removed(result: Result) -> float:
    """The fraction of the multiply-accumulates that the slim network has no more."""
    return 1 - result.size.slim.macs / result.size.control.macs


def _proven(result: Result) -> str:
    """What was measured where, and what wasn't."""
    data, target, emulated = result.data, result.target, result.emulated
    accuracy = f"accuracy on {data.images} {data.split} images"
    if target.is_measured:
        timed = result.best and result.best.valid_bench
        return f"{accuracy}{' and speed' if timed else ''}, on {target.name}{'' if timed else '; speed is not'}."
    there = f"; the same detections on an emulated {emulated.processor}" if emulated and proof(result) else ""
    return f"{accuracy}{there}. Not proven: speed on {target.name}."


def _next(result: Result) -> str:
    """What to type or to change."""
    failed = [gate for gate in result.verdict.gates if gate.status == "fail"]
    if failed:
        return _repair(failed, result)
    unproven = {gate.name for gate in result.verdict.gates if gate.status == "unproven"}
    ways = [way for name, way in PROOFS.items() if name in unproven]
    if not result.target.is_measured:
        ways.append(
            "give the same command with --host [user@]ADDRESS (make: HOST=), or run "
            "`python -m yolo_slim.runtime bench BUNDLE` on the device"
        )
    elif unproven - set(PROOFS):
        ways.append("see above what is not measured; then give the same command again")
    return f"{'; '.join(ways) or 'run `python -m yolo_slim.runtime check BUNDLE` on the device'}."


def _named_loser(result: Result) -> BuildName | None:
    """The build that ``latency.runtime`` named and that another one won against; None: there is no such build."""
    cut = result.latency
    is_lost = cut is not None and cut.named == str(cut.build) and result.winner and result.winner.build != cut.build
    return cut.build if cut is not None and is_lost else None


def _repair(failed: list[Gate], result: Result) -> str:
    """What changes the gates that failed; --prune is refused beside a budget in milliseconds."""
    names = {gate.name for gate in failed}
    is_cut = _removed(result) > 0
    # Only a budget in milliseconds leaves a network uncut.
    in_ms = result.latency is not None or not is_cut
    if names & set(ACCURACY_GATES):
        if not is_cut:
            return "nothing was cut, so the build lost it: leave its precision out of the target's runtimes."
        less = "ask for a lower --target-fps (a longer --latency-ms)" if in_ms else "remove less (PRUNE=, --prune)"
        return f"train longer (EPOCHS=, --epochs) or {less}."
    if names & set(SPEED_GATES):
        if (lost := _named_loser(result)) is not None:
            return f"{lost}, for which the cut was made, didn't win: the report says why. Leave latency.runtime out."
        more = "ask for a higher --target-fps (a shorter --latency-ms)" if in_ms else "remove more (PRUNE=, --prune)"
        return f"{more} or make the input smaller (IMGSZ=, --imgsz)."
    return f"look at {failed[0].name} in the report; docs/troubleshooting.md#gates has what changes each gate."
