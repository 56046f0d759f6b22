"""The latency table: interpolation between timed widths, the line through whole networks, and its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.latency_tables import KIND, grid, network, table
from yolo_slim.backends.layers import LayerKind
from yolo_slim.errors import SlimError
from yolo_slim.files import write_json
from yolo_slim.measuring.latency import LatencyTable, fitted, unlike_network
from yolo_slim.measuring.layer_grids import (
    coarse_widths,
    computed_grid,
    fine_widths,
    grid_of,
    layers_of_grid,
    moved_mb,
    weights_mb,
)


@pytest.mark.parametrize("largest", [3, 8, 24, 80, 144, 384])
def test_grid_reaches_the_largest_width(largest: int) -> None:
    """The largest width is timed itself, and no width twice."""
    widths = [*coarse_widths(largest), *fine_widths(largest)]
    assert max(widths) == largest
    assert len(widths) == len(set(widths))


def test_timed_widths_are_exact() -> None:
    """At every timed pair the table gives what was timed."""
    found = grid(lambda i, o: 0.1 + i * o * 1e-4)
    for layer in layers_of_grid(KIND, 128, 128):
        ms = found.ms_at(np.array([float(layer.inputs)]), np.array([float(layer.outputs)]))
        assert ms[0] == pytest.approx(0.1 + layer.inputs * layer.outputs * 1e-4)


def test_between_timed_widths() -> None:
    """A cost that grows evenly with both widths is met everywhere, to a hundredth."""
    found = grid(lambda i, o: i * o * 1e-4)
    inputs, outputs = np.meshgrid(np.arange(8.0, 129.0, 4), np.arange(8.0, 129.0, 4))
    assert found.ms_at(inputs, outputs) == pytest.approx(inputs * outputs * 1e-4, rel=0.01)


def test_steps_of_a_runtime_are_kept() -> None:
    """Where blocks of 16 channels cost the same, a width between two multiples gains nothing; a line would say so."""
    blocks = lambda i, o: i * -(-o // 16) * 16 * 1e-4  # noqa: E731
    found = grid(blocks)
    ms = found.ms_at(np.full(3, 128.0), np.array([40.0, 48.0, 56.0]))
    assert ms[0] == pytest.approx(ms[1])
    assert ms[2] == pytest.approx(ms[1] * 64 / 48)
    assert np.interp(40.0, [32, 64], [blocks(128, 32), blocks(128, 64)]) < 0.9 * ms[0]


@pytest.mark.parametrize(("block", "width"), [(16, 72), (16, 120), (32, 72), (32, 104)])
def test_steps_of_wide_layers_are_kept(block: int, width: int) -> None:
    """Up to 128 channels every multiple of 8 is timed: just above a step, all channels up to the next one are paid."""
    found = grid(lambda i, o: i * -(-o // block) * block * 1e-4)
    above = -(-width // block) * block
    ms = found.ms_at(np.full(2, 128.0), np.array([float(width), float(above)]))
    assert ms[0] == pytest.approx(ms[1])


@pytest.mark.parametrize(
    ("depthwise", "stride", "macs"),
    # 9 channels cost as much as 16; a stride of two halves both sides; a depthwise kernel reads one channel.
    [(False, 1, 9 * 400 * 16 * 24), (False, 2, 9 * 100 * 16 * 24), (True, 1, 9 * 400 * 24)],
)
def test_counted_convolutions(depthwise: bool, stride: int, macs: int) -> None:
    """Where layers can't be timed, the grid has their MACs, with widths rounded up to what is computed at once."""
    kind = LayerKind(
        kernel=(3, 3), stride=(stride, stride), padding=(1, 1), depthwise=depthwise, size=(20, 20), activation="silu"
    )
    found = computed_grid(kind, 9, 24, 8)
    assert found.is_computed
    assert found.ms_at(np.array([9.0]), np.array([24.0]))[0] == pytest.approx(macs / 1e9)


def test_what_is_unlike_the_network_is_told() -> None:
    """A counted table says so; where nothing was timed, nothing was timed with SiLU either."""
    timed, counted = table(), table()
    counted = counted.model_copy(
        update={"grids": tuple(one.model_copy(update={"is_computed": True}) for one in timed.grids)}
    )
    assert unlike_network(timed) == []
    assert ["multiply-accumulates" in line for line in unlike_network(counted)] == [True]


def test_depthwise_depends_on_one_width() -> None:
    """Only the output width counts, and the grid is a line."""
    kind = LayerKind(kernel=(3, 3), stride=(1, 1), padding=(1, 1), depthwise=True, size=(20, 20), activation="silu")
    found = grid(lambda _, o: o * 1e-3, kind)
    assert found.ms_at(np.array([1.0]), np.array([48.0]))[0] == pytest.approx(0.048)
    assert moved_mb(kind, 1, 48) == pytest.approx(2 * 48 * 400 * 4 / 1e6)
    assert weights_mb(kind, 1, 48) == pytest.approx(9 * 48 * 4 / 1e6)


def test_weights_need_both_widths() -> None:
    """A dense convolution has a weight for every pair of channels and place of the kernel."""
    assert weights_mb(KIND, 16, 48) == pytest.approx(9 * 16 * 48 * 4 / 1e6)


def test_fit_finds_the_line() -> None:
    """Networks that follow a line give its coefficients, and none is negative."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(1, 10, (9, 3))
    found = fitted([network(a, b, 1.2 * a + 0.3 * b + 0.2 * c + 0.7, weights_mb=c) for a, b, c in rows])
    coefficients = found.per_layer_ms, found.per_mb, found.per_weight_mb, found.constant_ms
    assert coefficients == pytest.approx((1.2, 0.3, 0.2, 0.7))
    without = fitted([network(a, b, a - 0.05 * b, weights_mb=c) for a, b, c in rows])
    assert (without.per_mb, without.per_weight_mb) == pytest.approx((0, 0), abs=1e-6)


def test_fit_of_terms_that_go_together() -> None:
    """Where what is moved and the weights grow with the convolutions, their own sum explains the time."""
    found = fitted([network(a, 2 * a, a, weights_mb=3 * a) for a in (1.0, 2.0, 4.0, 8.0)])
    assert found.per_layer_ms > 0.95


@pytest.mark.parametrize("weights", [lambda a, i: 0.5 * a * (1 + 1e-4 * (-1) ** i), lambda a, _: 2 * a - 1])
def test_weights_that_follow_the_convolutions_stay_out(weights: Callable[[float, int], float]) -> None:
    """Nearly in proportion or in a line with them, weights would take any share of their time; else they count."""
    noise = np.random.default_rng(0).normal(1, 0.01, 10)
    sums = np.linspace(1, 10, 10)
    found = fitted([network(a, 5.0, 1.1 * a * noise[i], weights_mb=weights(a, i)) for i, a in enumerate(sums)])
    assert found.per_weight_mb == 0
    assert found.per_layer_ms == pytest.approx(1.1, rel=0.05)
    apart = [network(a, 5.0, 1.1 * a + 0.3 * (i % 3), weights_mb=1 + i % 3) for i, a in enumerate(sums)]
    assert fitted(apart).per_weight_mb == pytest.approx(0.3, rel=0.1)


def test_weights_that_explain_little_count() -> None:
    """Weights, which trained networks lose most of, count even below the noise of a timing; what is moved doesn't."""
    rows = np.random.default_rng(1).uniform(5, 10, (10, 3))
    found = fitted([network(a, b, a + 0.02 * c, weights_mb=c) for a, b, c in rows])
    assert (found.per_weight_mb, found.per_mb) == (pytest.approx(0.02, rel=0.05), 0)
    swapped = fitted([network(a, c, a + 0.02 * c, weights_mb=b) for a, b, c in rows])
    assert swapped.per_mb == 0


def test_small_networks_take_some_time() -> None:
    """A line that starts far below 0 is bent up: half of the smallest network that was timed isn't free."""
    others = np.random.default_rng(1).uniform(5, 10, (5, 2))
    layers = (4.0, 5.0, 6.0, 7.0, 8.0)
    found = fitted([network(a, b, 2 * a - 5, weights_mb=c) for a, (b, c) in zip(layers, others, strict=True)])
    assert found.constant_ms == pytest.approx(-0.05 * 11, abs=0.01)
    assert found.ms(network(2.0, 5.0, 0.0, weights_mb=5.0).load) > 1


def test_error_is_of_networks_that_were_not_seen() -> None:
    """Those that the line was fitted to say nothing of it."""
    found = table().error
    assert (found.networks, found.median, found.worst) == (2, pytest.approx(0.125), pytest.approx(0.25))
    assert "12.5% median, 25.0% worst of 2 networks that it didn't see" in str(found)


def test_file_round_trip(tmp_path: Path) -> None:
    """What is written is read back, grids and all."""
    table().save(tmp_path / "latency.json")
    assert LatencyTable.load(tmp_path / "latency.json") == table()


def test_other_files_are_refused(tmp_path: Path) -> None:
    """No file, no JSON, a newer schema and a damaged table are named; none is a traceback."""
    path = tmp_path / "latency.json"
    with pytest.raises(SlimError, match="not found"):
        LatencyTable.load(path)
    path.write_text("{")
    with pytest.raises(SlimError, match="not JSON"):
        LatencyTable.load(path)
    write_json(path, table().to_json() | {"schema": 99})
    with pytest.raises(SlimError, match="not a latency table of schema 2"):
        LatencyTable.load(path)
    write_json(path, {key: value for key, value in table().to_json().items() if key != "fit"})
    with pytest.raises(SlimError, match="damaged or incomplete") as error:
        LatencyTable.load(path)
    assert "fit" in str(error.value)


def test_unknown_kind_is_named() -> None:
    """A layer whose kind was never timed is an error with its name."""
    other = LayerKind(kernel=(7, 7), stride=(1, 1), padding=(3, 3), depthwise=False, size=(40, 40), activation="silu")
    with pytest.raises(SlimError, match="no entry for a kind of layer") as error:
        grid_of(table().grids, other, "model.3.conv")
    assert "model.3.conv: 7x7, 40x40, silu" in str(error.value)
