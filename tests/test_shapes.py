"""Annotated shapes are checked at every call while the tests run."""

from __future__ import annotations

import numpy as np
import pytest
import shapes
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

from maxca.engine.volume import normalise
from maxca.geometry import DenseField, Grid
from maxca.losses.similarity import LocalNCC, local_window
from maxca.networks.parts import compose, halved


def test_sizes_of_one_name_agree_within_a_call() -> None:
    assert compose(torch.zeros(1, 3, 4, 5, 6), torch.zeros(1, 3, 4, 5, 6)).shape == (1, 3, 4, 5, 6)
    with pytest.raises(BeartypeCallHintViolation, match="parameter second"):
        compose(torch.zeros(1, 3, 4, 5, 6), torch.zeros(1, 3, 4, 5, 7))


def test_the_fields_of_a_dataclass_are_checked() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="parameter displacement"):
        DenseField(torch.zeros(3, 4, 5), Grid((4, 5, 6), np.eye(4)))


def test_a_method_is_checked() -> None:
    measure = LocalNCC(torch.rand(8, 8, 8), local_window(Grid((8, 8, 8), np.eye(4)), 125))
    with pytest.raises(BeartypeCallHintViolation, match="parameter warped"):
        measure(torch.rand(1, 8, 8, 8))


def test_results_are_checked() -> None:
    @shapes.check
    def turned(x: Float[Tensor, "i j"]) -> Float[Tensor, "j i"]:
        return x if len(x) == 3 else x.T

    assert turned(torch.zeros(2, 4)).shape == (4, 2)
    assert turned(torch.zeros(3, 3)).shape == (3, 3)
    with pytest.raises(BeartypeCallHintViolation, match="return"):
        turned(torch.zeros(3, 4))


def test_a_later_call_is_checked_as_the_first_was() -> None:
    @shapes.check
    def cut(x: Float[Tensor, "i j"], size: int, y: Float[Tensor, "*any j"] | None = None) -> Float[Tensor, "i"]:
        return x[:size, 0]

    for _ in range(3):
        assert cut(torch.zeros(4, 2), 4).shape == cut(torch.zeros(4, 2), 4, y=torch.zeros(5, 2)).shape == (4,)
        with pytest.raises(BeartypeCallHintViolation, match="return"):
            cut(torch.zeros(4, 2), 3)
        with pytest.raises(BeartypeCallHintViolation, match="parameter x"):
            cut(torch.zeros(4, 2).int(), 4)
        with pytest.raises(BeartypeCallHintViolation, match="parameter y"):
            cut(torch.zeros(4, 2), 4, y=torch.zeros(5, 3))


def test_what_has_no_shape_is_left_as_it_is() -> None:
    assert not hasattr(normalise, "__wrapped__")
    assert hasattr(halved, "__wrapped__")
