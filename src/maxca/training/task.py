"""What a training loop trains: a network, on samples, by a loss, with a validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset

from maxca.training.loader import Sample


class Validated(NamedTuple):
    """The result of a validation.

    Args:
        row: for the log, with ``score``, which is highest for the best network; empty without validation scans.
        save: writes the validated network to a file, as a model for ``register --model``.
    """

    row: dict[str, float]
    save: Callable[[Path], None]


class Task(Protocol):
    """What a run trains: registration of pairs, or segmentation of scans."""

    def warnings(self) -> Sequence[str]:
        """What the user should know of the data before the training, one line each."""

    def network(self) -> nn.Module:
        """A network with random weights; it is averaged, validated and saved."""

    def trained(self, network: nn.Module) -> nn.Module:
        """The network with the parts that are discarded after the training."""

    def weights(self, init: str | Path) -> dict[str, Tensor]:
        """Initial weights of the network from a model; those left out remain random.

        Raises:
            MaxcaError: if the model has another network.
        """

    def samples(self) -> Dataset[Sample]:
        """The samples by number: each a pure function of it, with a ``"name"`` for errors.

        Raises:
            MaxcaError: if there are none.
        """

    def terms(self, model: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of the loss of a batch and their sum, ``"loss"``; each a mean over the samples.

        Args:
            model: the output of ``trained``.
            batch: of ``samples``, on the device of the model.
            step: number of steps done.
        """

    def validate(self, network: nn.Module, fabric: Fabric) -> Validated:
        """Measure the network, or its average."""
