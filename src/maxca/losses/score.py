"""A similarity and its derivative, and the interface of a measure built for a fixed volume."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Score(NamedTuple):
    """A similarity and its derivative."""

    value: Tensor
    gradient: Tensor


class Similarity(Protocol):
    """The interface of a similarity measure."""

    def __call__(self, warped: Tensor) -> Score:
        """Similarity of ``warped`` (I, J, K) to the fixed volume, and its gradient of the same shape."""
        ...
