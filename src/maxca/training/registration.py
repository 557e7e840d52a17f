"""The training of a registration network on pairs of scans, or on synthetic pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from maxca.datasets.prepared import Prepared
from maxca.errors import MaxcaError
from maxca.models.load import Model, load_model
from maxca.models.zoo import find_model
from maxca.training.config import TrainingConfig
from maxca.training.guide import guided, label_names
from maxca.training.loader import Pairs, Scans, SyntheticPairs
from maxca.training.objective import objective
from maxca.training.task import Validated
from maxca.training.validation import Validation


class RegistrationTask:
    """A network that predicts the deformation of a pair; see ``Task``.

    Args:
        config: of the run.
        data: prepared scans.
    """

    def __init__(self, config: TrainingConfig, data: Prepared) -> None:
        self.config, self.data = config, data
        self.scans = Scans(data)
        self.names = label_names(self.scans) if config.losses.segmentation else []
        self.validation = Validation(config, self.scans)

    def warnings(self) -> Sequence[str]:
        """Whether validation pairs are missing."""
        if self.validation.numbers:
            return []
        return [
            "there are no validation pairs, so the last network counts as the best; assign some subjects to the split "
            "val (maxca prepare LIST.csv, column split)"
        ]

    def network(self) -> nn.Module:
        """The network of the configuration."""
        return self.config.network.build()

    def trained(self, network: nn.Module) -> nn.Module:
        """The network, with auxiliary segmentation heads if its loss has them."""
        heads = len(self.names)
        return guided(network, heads, self.config.losses.lattice) if heads else network

    def weights(self, init: str | Path) -> dict[str, Tensor]:
        """All weights of a model of the same network."""
        model = load_model(find_model(init))
        theirs: dict[str, Any] = model.config.as_plain()
        ours = self.config.network.as_plain()
        if theirs != ours:
            raise MaxcaError(f"{init}: is a {theirs}, but the recipe {self.config.recipe} trains a {ours}")
        return dict(model.network.state_dict())

    def samples(self) -> Pairs | SyntheticPairs:
        """Training pairs."""
        if self.config.synth is not None:
            return SyntheticPairs(self.scans, self.config.synth, self.config.seed)
        pairs = Pairs(self.scans, "train", self.config.augmentation, self.config.seed, self.config.shape)
        if not len(pairs):
            raise MaxcaError(
                f"{self.data.folder}: contains no pairs to train on; assign at least two subjects to the split train"
            )
        return pairs

    def terms(self, model: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Similarity, regularity and overlap; see ``objective``."""
        return objective(model, batch, self.config.losses, chosen=step, names=self.names)

    def validate(self, network: nn.Module, fabric: Fabric) -> Validated:
        """Register the validation pairs."""
        row = self.validation(network, fabric)
        domain, distribution = self.validation.known(network, row["gain"]) if row else (None, None)
        config = self.config

        def save(path: Path) -> None:
            Model(
                network,
                config.network,
                config.spacing,
                path.stem,
                domain=domain,
                distribution=distribution,
                shape=config.shape,
            ).save(path)

        return Validated(row, save)
