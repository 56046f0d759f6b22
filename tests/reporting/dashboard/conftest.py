"""A dashboard of generated nights, written once."""

from __future__ import annotations

import pytest

from tests.helpers.dashboards import LESS_ACCURATE, NIGHTS, SLOWER, Written
from tests.helpers.histories import Planted, cells, write_history, write_images
from tests.helpers.results import complete_result
from yolo_slim.history.store import History
from yolo_slim.reporting.dashboard.board import read
from yolo_slim.reporting.dashboard.site import write_dashboard


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Return the dashboard of five cells: one becomes slower, one loses accuracy."""
    folder = tmp_path_factory.mktemp("nights")
    path, planted = folder / "history.sqlite", [
        Planted(SLOWER, latency=0.06, cells=lambda cell: cell.build == "ncnn-fp16"),
        Planted(LESS_ACCURATE, map50_95=-0.02, cells=lambda cell: cell.build.endswith("int8")),
    ]  # fmt: skip
    images, result = write_images(folder / "pictures", 4), complete_result().to_json()
    write_history(path, nights=NIGHTS, cells=cells(5), planted=planted, images=images, result=result)
    with History.open(path) as history:
        return Written(path, read(history), write_dashboard(history, folder / "site"), folder / "site")
