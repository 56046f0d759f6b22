"""Nights in MLflow: what is logged, once, and what happens without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.nights import NightDevice, new_weights, run_night, statuses, write_matrix


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder as MLflow's store."""
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    # Its makers want a database; that needs the full package.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def logged(store: str) -> list[Any]:
    """All runs of the experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("yolo_slim nightly")
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)


def test_a_night_is_logged(tmp_path: Path, shapes: Path, device: NightDevice, store: str) -> None:
    """A run a cell has its settings, the metrics of every rung, its answer and its files."""
    from mlflow import MlflowClient

    matrix = write_matrix(tmp_path, shapes, mlflow=store)
    assert run_night(matrix, device)[0] == 0
    new_weights(matrix, "second weights")
    device.slower = {"second weights": 1.1}
    _, _, err = run_night(matrix, device)
    assert "logged to MLflow: 2 runs" in err
    runs = logged(store)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    last = runs[-1]
    assert last.info.run_name.startswith("night 2: m/d/s/here/")
    assert last.data.tags["yolo_slim.answer"] == "worse"
    assert (last.data.params["imgsz"], last.data.params["target"]) == ("64", "here")
    assert last.data.metrics["latency_change"] == pytest.approx(0.1, abs=0.02)
    assert {"rung.control.map50_95", "rung.pruned.map50_95", "rung.recovered.drop"} <= set(last.data.metrics)
    files = {one.path for one in MlflowClient(store).list_artifacts(last.info.run_id)}
    assert files == {"result.json", "run.json", "summary.md"}


def test_a_night_is_logged_once(tmp_path: Path, shapes: Path, device: NightDevice, store: str) -> None:
    """Writing a night's files again adds no run."""
    from yolo_slim.history.store import History
    from yolo_slim.nightly.matrix import load
    from yolo_slim.nightly.mlflow_runs import log_night
    from yolo_slim.nightly.outcome import NightOutcome

    matrix = write_matrix(tmp_path, shapes, mlflow=store)
    run_night(matrix, device)
    with History.open(load(matrix).history) as history:
        outcome = NightOutcome(night=history.nights()[0], runs=tuple(history.runs()))
        assert log_night(store, history, outcome, "") == "nightly: logged to MLflow: 0 runs"
    assert len(logged(store)) == 2


@pytest.mark.parametrize(
    "address",
    ["http://bob:PASSWORD@127.0.0.1:9", "http://bob:PASSWORD@[::1", "postgresql://bob:PASSWORD@127.0.0.1:9/x"],
)
def test_server_that_cannot_be_used(
    address: str, tmp_path: Path, shapes: Path, device: NightDevice, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a warning without the address and its password, and the night is whole."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("TRACKING", address)
    matrix = write_matrix(tmp_path, shapes, mlflow="$TRACKING")
    code, out, err = run_night(matrix, device)
    assert (code, "not logged to MLflow" in err, "Traceback" in err) == (0, True, False), err
    assert not [text for text in ("PASSWORD", "bob", "127.0.0.1") if text in out + err]
    assert statuses(matrix, 1) == ["first", "first"]


def test_text_of_the_client_names_the_password(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception that the warning is made of contains the whole address, so that not showing it is a choice."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException, match="bob:PASSWORD"):
        MlflowClient("http://bob:PASSWORD@127.0.0.1:9").get_experiment_by_name("any")


def test_without_the_extra(tmp_path: Path, shapes: Path, device: NightDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before the first cell, with the line to type."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    matrix = write_matrix(tmp_path, shapes, mlflow="http://localhost:1")
    code, _, err = run_night(matrix, device)
    assert (code, "'yolo-slim[mlflow]'; or" in err, "Traceback" in err) == (2, True, False), err
    assert not (tmp_path / "runs/nightly/history.sqlite").exists()
