"""A night in MLflow: a run a cell, with its parameters, the metrics of every rung, and its result as an artefact.

MLflow is a copy for those who look there: nothing is ever read back from it.
"""

from __future__ import annotations

import importlib
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from yolo_slim.errors import SlimError
from yolo_slim.history.rows import Run
from yolo_slim.history.store import History
from yolo_slim.system_libraries import extra_line

if TYPE_CHECKING:
    from yolo_slim.nightly.outcome import NightOutcome

EXPERIMENT = "yolo_slim nightly"
UID = "yolo_slim.run"
"""Tag with the run's ``uid`` in the history: the same run is never logged twice."""
BATCH = 100
"""Most parameters that MLflow takes at once."""
LONGEST = 500
"""Characters of a value that every MLflow server takes."""


def require_mlflow() -> None:
    """Refuse before the first cell what could only fail after the last one.

    Raises:
        SlimError: MLflow isn't installed.
    """
    # MLflow reports its use to its makers unless it is told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        importlib.import_module("mlflow")
    except ImportError as error:
        remedy = f"Install it: {extra_line('mlflow')}; or remove `mlflow` from the matrix."
        raise SlimError(f"The matrix logs to MLflow, which can't be imported ({error}).", remedy=remedy) from error


def log_night(address: str, history: History, outcome: NightOutcome, summary: str) -> str:
    """Log the cells of a night; the answer says what was done, or what went wrong.

    Args:
        address: tracking server or store, as ``MLFLOW_TRACKING_URI`` has it; ``$NAME`` is an environment variable.
        history: has the results.
        outcome: the night.
        summary: its summary as Markdown.
    """
    from mlflow import MlflowClient

    try:
        client = MlflowClient(os.path.expandvars(address))
        experiment = _experiment(client)
        new = [run for run in outcome.runs if not _is_logged(client, experiment, run)]
        for run in new:
            _log(client, experiment, history, outcome, run, summary)
    # A copy that fails must not spoil the night, whatever the client's libraries raise. Their texts quote the address,
    # which may contain a password, so only what the server calls the error is shown.
    except Exception as error:
        code = getattr(error, "error_code", None)
        return f"nightly: not logged to MLflow: {type(error).__name__}{f' ({code})' if code else ''}"
    return f"nightly: logged to MLflow: {len(new)} runs"


def parameters(run: Run) -> dict[str, str]:
    """What decided a run: the cell's names, its settings and the digests of what it read."""
    digests = run.digests.to_json() if run.digests else {}
    found = {**run.cell.to_json(), **run.settings, **{f"sha256.{key}": value for key, value in digests.items()}}
    return {key: str(value)[:LONGEST] for key, value in found.items() if value is not None}


def metrics(history: History, run: Run) -> dict[str, float]:
    """The figures of a run: measured on the device, compared with the baseline, and of every rung of the ladder."""
    found: dict[str, float | None] = {}
    if run.measurement:
        speed, accuracy = run.measurement.shown_speed, run.measurement.accuracy
        found |= {"map50_95": accuracy.map50_95, "map50": accuracy.map50, "size_mb": run.measurement.size_mb}
        found["peak_memory_mb"] = run.measurement.peak_memory_mb
        if speed:
            found |= {"p50_ms": speed.p50_ms, "p90_ms": speed.p90_ms, "p99_ms": speed.p99_ms, "fps": speed.fps}
            found["reference_p50_ms"] = speed.reference_p50_ms
    if run.judgement:
        compared = {"latency_change": run.judgement.speed, "map50_95_change": run.judgement.accuracy}
        found |= {name: one.change for name, one in compared.items() if one}
    result = history.result(run)
    for rung in result.ladder if result else ():
        found |= {f"rung.{rung.rung}.map50_95": rung.map50_95, f"rung.{rung.rung}.drop": rung.drop}
    return {key: float(value) for key, value in found.items() if value is not None}


def _experiment(client: Any) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id if found else client.create_experiment(EXPERIMENT))


def _is_logged(client: Any, experiment: str, run: Run) -> bool:
    # A run that wasn't ended was cut off, and is logged again.
    ended = f"tags.`{UID}` = '{run.uid}' and attributes.status = 'FINISHED'"
    return bool(client.search_runs([experiment], ended, max_results=1))


def _log(client: Any, experiment: str, history: History, outcome: NightOutcome, run: Run, summary: str) -> None:
    """Write one cell."""
    from mlflow.entities import Metric, Param

    begun = int(datetime.fromisoformat(run.recorded_at).timestamp() * 1000)
    made = client.create_run(
        experiment, start_time=begun, tags=_tags(outcome, run), run_name=f"night {run.night}: {run.cell.name}"
    )
    uid = made.info.run_id
    figures = [Metric(key, value, begun, run.night) for key, value in metrics(history, run).items()]
    client.log_batch(uid, metrics=figures)
    settings = [Param(key, value) for key, value in parameters(run).items()]
    for start in range(0, len(settings), BATCH):
        client.log_batch(uid, params=settings[start : start + BATCH])
    result = history.result(run)
    if result:
        client.log_dict(uid, result.to_json(), "result.json")
    client.log_dict(uid, run.shown_json(), "run.json")
    client.log_text(uid, summary, "summary.md")
    client.set_terminated(uid, "FINISHED")


def _tags(outcome: NightOutcome, run: Run) -> dict[str, str]:
    source = outcome.night.source
    found = {
        UID: run.uid,
        "yolo_slim.night": str(run.night),
        "yolo_slim.kind": outcome.night.kind,
        "yolo_slim.answer": run.judgement.status if run.judgement else run.state,
        "yolo_slim.reason": run.judgement.reason if run.judgement else run.error,
        "mlflow.source.git.commit": source.commit,
        "mlflow.source.git.branch": source.branch,
    }
    return {key: value[:LONGEST] for key, value in found.items() if value}
