"""Smoothing over time: of values of the frames of a series, by penalised least squares."""

from __future__ import annotations

import numpy as np

HALF = float(np.sqrt(2 * np.log(2)))  # radians per frame at which a Gaussian of σ = 1 frame halves an oscillation
FASTEST = np.pi  # radians per frame: two frames are a cycle


def smoothing_over_time(count: int, sigma: float, *, cyclic: bool = False, still: int | None = None) -> np.ndarray:
    """(T, T): the matrix from values of T frames to smooth ones.

    The squared distance from the values plus λ times that of the second differences over time is minimised (Whittaker,
    1923; Hodrick and Prescott, 1997). λ is such that the same oscillation is halved as by a Gaussian; slow ones, as the
    beat of a heart, lose much less than by that Gaussian, and a motion of constant velocity nothing. A Gaussian of
    σ < 0.37 halves none: then the fastest one, of two frames, is damped as by the Gaussian.

    Args:
        count: of frames.
        sigma: of the Gaussian in frames; 0 does not smooth.
        cyclic: the last frame precedes the first.
        still: a frame whose value is 0, and stays so.
    """
    matrix = np.eye(count)
    if still is not None:
        matrix[still] = 0
    if sigma <= 0 or count < 3:
        return matrix
    weight = _weight(sigma)
    bends = np.eye(count, k=-1) - 2 * np.eye(count) + np.eye(count, k=1)
    if cyclic:
        bends[0, -1] += 1
        bends[-1, 0] += 1
    else:
        bends = bends[1:-1]
    normal = np.eye(count) + weight * bends.T @ bends
    free = [number for number in range(count) if number != still]
    matrix[np.ix_(free, free)] = np.linalg.inv(normal[np.ix_(free, free)])
    return matrix


def _weight(sigma: float) -> float:
    """λ: an oscillation of ω radians per frame is multiplied by 1 / (1 + λ (2 - 2 cos ω)²)."""
    if sigma * FASTEST >= HALF:
        return float((2 - 2 * np.cos(HALF / sigma)) ** -2)
    return float(np.expm1((sigma * FASTEST) ** 2 / 2) / 16)  # (1 / gain - 1) / (2 - 2 cos π)², with the Gaussian's gain
