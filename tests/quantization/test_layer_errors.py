"""Layer errors, how many layers stay float because of them, and the layer that is named when a gate fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo_slim.errors import SlimError
from yolo_slim.files import read_json
from yolo_slim.quantization import graph, layer_errors, qdq
from yolo_slim.quantization.distance import output_error
from yolo_slim.quantization.float_layers import Trial, choose_float_layers
from yolo_slim.quantization.layer_errors import LayerError, first_bad_layer, measure_layer_errors
from yolo_slim.quantization.ranges import collect, observers, ranges_of


def raw(*columns: tuple[float, ...]) -> np.ndarray:
    """Return a raw output (1, 4 + 1, anchors) from (x, y, w, h, score) a candidate."""
    return np.array(columns, np.float32).T[None]


def layers(*errors: float) -> list[LayerError]:
    """Return layers named a, b, c, ... with these errors."""
    return [
        LayerError(node=f"/{name}/Conv", layer=name, error=error)
        for name, error in zip("abcdefgh", errors, strict=False)
    ]


def test_equal_outputs_have_no_error() -> None:
    """The same output is 0 away, and so are changes among candidates that score below .01."""
    a = raw((10, 10, 4, 4, 0.9), (50, 50, 8, 8, 0.001))
    b = raw((10, 10, 4, 4, 0.9), (20, 20, 2, 2, 0.002))
    assert output_error(a, a, layout="one2many") == 0
    assert output_error(a, b, layout="one2many") == 0


def test_lost_and_invented_objects_count_alike() -> None:
    """An object that vanishes costs what one costs that appears, and a moved box costs what its IoU lost."""
    there, gone = raw((10, 10, 4, 4, 0.9)), raw((10, 10, 4, 4, 0.0))
    assert output_error(there, gone, layout="one2many") == pytest.approx(0.9)
    assert output_error(gone, there, layout="one2many") == pytest.approx(0.9)
    moved = raw((12, 10, 4, 4, 0.9))
    assert output_error(there, moved, layout="one2many") == pytest.approx(1 - 1 / 3)


def test_end2end_rows_may_change_places() -> None:
    """Two end2end outputs with the same objects in another order are equal; another class is another object."""
    rows = np.array([[0, 0, 8, 8, 0.9, 0], [20, 20, 40, 40, 0.8, 1]], np.float32)
    assert output_error(rows[None], rows[None, ::-1], layout="end2end") == 0
    other = rows.copy()
    other[:, 5] = 2
    assert output_error(rows[None], other[None], layout="end2end") > 1.5


def test_search_stops_inside_the_budget() -> None:
    """The layers with the largest errors stay float, 1, 2, 4 of them, until the drop is small enough, and no more."""
    asked: list[list[str]] = []

    def drop(kept: list[str]) -> float:
        asked.append(kept)
        return 0.01 / (1 + len(kept))

    kept, trials = choose_float_layers(layers(0.1, 0.5, 0.3, 0.2), 4, drop, budget=0.004)
    assert asked == [[], ["/b/Conv"], ["/b/Conv", "/c/Conv"]]
    assert kept == asked[-1]
    assert trials[-1] == Trial(float_layers=2, map50_95_drop=0.01 / 3)


def test_search_spends_everything_when_nothing_is_good() -> None:
    """Without a trial inside the budget as many layers as allowed stay float; with none allowed there is one trial."""
    drops = {0: 0.03, 1: 0.01, 2: 0.02, 3: 0.015}
    kept, trials = choose_float_layers(layers(0.1, 0.5, 0.3, 0.2), 3, lambda kept: drops[len(kept)], budget=0.001)
    assert [trial.float_layers for trial in trials] == [0, 1, 2, 3]
    assert kept == ["/b/Conv", "/c/Conv", "/d/Conv"]
    assert len(choose_float_layers(layers(0.1), 0, lambda _: 0.5, budget=0.001)[1]) == 1


def test_first_bad_layer(tmp_path: Path) -> None:
    """Of the int8 layers near the worst error the first in the graph is named; float ones don't count."""
    path = tmp_path / "layer_errors.json"
    layer_errors.save(path, layers(0.9, 0.1, 0.3, 0.5), ["/a/Conv"], [])
    assert first_bad_layer(path) == "c"
    assert read_json(path)["layers"][0] == {
        **{"node": "/a/Conv", "layer": "a", "error": 0.9, "kept_float": True, "position": 0}
    }
    layer_errors.save(path, layers(0.9), ["/a/Conv"], [])
    assert first_bad_layer(path) is None
    path.write_text("{}")
    with pytest.raises(SlimError, match="isn't a layer_errors file"):
        first_bad_layer(path)


def test_a_ruined_layer_is_found(exported: Path, blobs: list[np.ndarray]) -> None:
    """A layer whose range is far too small has clearly the largest error."""
    model: Any = graph.load(exported)
    some = graph.parts(model).body[::8]
    statistics = observers(model, some)
    collect(model, statistics, blobs[:4], lambda _: None)
    ranges = ranges_of(statistics, "mse")
    ruined = some[3]
    read = graph.nodes_named(model, [ruined])[0].input[0]
    ranges[read] = ranges[read] / 100
    make = partial(qdq.quantize, model, ranges=ranges)
    found = measure_layer_errors(model, some, make, blobs[:4], layout="one2many", tick=lambda _: None)
    ranked = sorted(found, key=lambda layer: -layer.error)
    assert ranked[0].node == ruined
    assert ranked[0].error > 1.5 * ranked[1].error
