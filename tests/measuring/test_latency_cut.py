"""What a table has to predict of a cut, by earlier cuts."""

from __future__ import annotations

import pytest

from yolo_slim.measuring.latency_cut import table_ms_for


def test_one_cut_says_how_far_off_the_table_is() -> None:
    """A network that took a tenth less than predicted may be predicted a tenth slower."""
    assert table_ms_for(9.0, [(10.0, 9.0)]) == pytest.approx(10.0)
    assert table_ms_for(9.9, [(10.0, 9.0)]) == pytest.approx(11.0)


def test_two_cuts_are_interpolated() -> None:
    """Between a cut that was too fast and one that was too slow; the third one doesn't matter."""
    found = [(10.0, 9.0), (11.0, 10.4), (20.0, 20.0)]
    assert table_ms_for(9.7, found) == pytest.approx(10.5)


def test_no_network_takes_less_than_nothing() -> None:
    """Far outside of what was timed a steep line would end below zero."""
    assert table_ms_for(10.0, [(10.0, 20.0), (5.0, 15.0)]) == pytest.approx(10.0 * 5.0 / 15.0)


@pytest.mark.parametrize("second", [(11.0, 9.01), (10.2, 9.8), (11.0, 8.9), (11.0, 9.0)])
def test_noise_makes_no_line(second: tuple[float, float]) -> None:
    """Negative control: of two cuts that took nearly the same, or in the wrong order, the nearest alone decides."""
    found = [(10.0, 9.0), second]
    nearest = min(found, key=lambda one: abs(one[1] - 9.4))
    assert table_ms_for(9.4, found) == pytest.approx(9.4 * nearest[0] / nearest[1])
