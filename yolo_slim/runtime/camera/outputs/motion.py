"""Where boxes will be: a Kalman filter of constant velocity, for frames whose distance in time varies.

A state is (N, 5, 4): position, velocity, and their variances and covariance, of centre x, centre y, width, height.
The four don't depend on each other, so no matrix is inverted. One time step of 1/30 s equals the filter of
Ultralytics (``KalmanFilterXYWH``), which is ByteTrack's for width instead of aspect ratio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS_PER_S = 30.0
"""The noise below is one of a frame at this rate."""
POSITION_NOISE, VELOCITY_NOISE = 1 / 20, 1 / 160
"""Standard deviations, as shares of the box's width or height."""
_POSITION, _VELOCITY, _P, _C, _V = range(5)


def started(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """States of boxes that stand still as far as is known; boxes: (N, 4) xyxy."""
    centers = _centers(boxes)
    size = _size(centers)
    nothing = np.zeros_like(centers)
    variances = [(2 * POSITION_NOISE * size) ** 2, nothing, (10 * VELOCITY_NOISE * size) ** 2]
    return np.stack([centers, nothing, *variances], axis=1)


def moved(motion: NDArray[np.float64], seconds: float, is_lost: NDArray[np.bool_]) -> NDArray[np.float64]:
    """States after some time. The size of a lost object stays: it can't be seen to grow."""
    steps = seconds * STEPS_PER_S
    position, velocity, p, c, v = _parts(motion)
    size = _size(position)
    velocity = velocity.copy()
    velocity[is_lost, 2:] = 0
    return np.stack(
        [
            position + velocity * steps,
            velocity,
            p + 2 * steps * c + steps**2 * v + steps * (POSITION_NOISE * size) ** 2,
            c + steps * v,
            v + steps * (VELOCITY_NOISE * size) ** 2,
        ],
        axis=1,
    )


def observed(motion: NDArray[np.float64], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """States corrected by the boxes that were found; boxes: (N, 4) xyxy."""
    position, velocity, p, c, v = _parts(motion)
    error = _centers(boxes) - position
    total = p + (POSITION_NOISE * _size(position)) ** 2
    gain, velocity_gain = p / total, c / total
    return np.stack(
        [
            position + gain * error,
            velocity + velocity_gain * error,
            p - gain * p,
            c - gain * c,
            v - velocity_gain * c,
        ],
        axis=1,
    )


def predicted_boxes(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) xyxy of the states."""
    position = motion[:, _POSITION]
    half = position[:, 2:] / 2
    return np.concatenate([position[:, :2] - half, position[:, :2] + half], axis=1)


def _parts(motion: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return tuple(motion[:, part] for part in (_POSITION, _VELOCITY, _P, _C, _V))


def _centers(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    boxes = boxes.astype(np.float64)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def _size(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width, height, width, height: what the noise of each of the four grows with."""
    return np.maximum(position[:, [2, 3, 2, 3]], 1.0)
