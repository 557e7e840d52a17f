"""Similarity measures written as plain functions of the warped volume: autograd takes the gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from maxca.geometry.grid import Grid
from maxca.losses.score import Score, Similarity
from maxca.losses.similarity import Build

Measured = Callable[[Tensor], Tensor | Score]


def differentiated(build: Callable[..., Measured]) -> Build:
    """What builds a ``Similarity``, from what builds a function of the warped volume.

    Args:
        build: (fixed, grid, mask, window) → a function: warped (I, J, K) → the similarity as a tensor with one element,
            or already a ``Score``.
    """

    def built(fixed: Tensor, grid: Grid, mask: Tensor | None, window: int) -> Similarity:
        return Differentiated(build(fixed, grid, mask, window))

    return built


class Differentiated:
    """A similarity and its gradient by autograd.

    Args:
        measure: warped (I, J, K) → the similarity as a tensor with one element, or a ``Score``.
    """

    def __init__(self, measure: Measured) -> None:
        self.measure = measure

    def __call__(self, warped: Tensor) -> Score:
        """See ``Similarity``.

        Raises:
            ValueError: for a similarity that is not one number, or does not depend on the warped volume.
        """
        with torch.enable_grad():
            leaf = warped.detach().requires_grad_()
            value = self.measure(leaf)
            if isinstance(value, Score):
                return value
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise ValueError(
                    f"a similarity measure returns one number that depends on the warped volume, not {value!r}"
                )
            (gradient,) = torch.autograd.grad(value.reshape(()), leaf)
        return Score(value.detach().reshape(()), gradient * warped.numel())
