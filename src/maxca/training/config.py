"""Configuration of a training run, stored in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from maxca.losses.similarity import SIMILARITIES
from maxca.networks import NetworkConfig, network_from_plain
from maxca.options import Precision
from maxca.origins import UnknownName, origin
from maxca.training.augmentation import Augmentation
from maxca.training.synthesis import Synth

CropShape = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class Losses:
    """Weights of the terms of the loss; 0 disables a term.

    Args:
        similarity: measure of the fixed and the warped image.
        window: voxels in a window of local NCC: 729 is 9 along each axis.
        image: weight of the negative similarity.
        diffusion: weight of the mean squared gradient of the flow.
        bending: weight of its bending energy.
        folding: weight of the folded fraction of the volume.
        overlap: weight of 1 minus the Dice of the labels, which are used in training only.
        lattice: stride of the voxels at which overlap is measured, with a random offset in each step, and of those of
            the segmentation heads, halved at each coarser level.
        segmentation: weight of the loss of auxiliary segmentation heads on the network's features, discarded after
            training. Coarse-to-fine networks only.
        consistency: weight of the mean squared round-trip error of both directions, in voxels.
    """

    similarity: str = "lncc"
    window: int = 729
    image: float = 1.0
    diffusion: float = 1.0
    bending: float = 0.0
    folding: float = 0.0
    overlap: float = 0.0
    lattice: int = 1
    segmentation: float = 0.0
    consistency: float = 0.0


@dataclass(frozen=True)
class Optimiser:
    """AdamW; the learning rate increases over ``warmup`` steps, and decreases to 0 along a cosine if ``cosine``."""

    rate: float = 1e-4
    decay: float = 0.0
    warmup: int = 0
    cosine: bool = False
    clip: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """The configuration of a run.

    Args:
        recipe: its name.
        network: to train.
        losses: of the training.
        optimiser: of the training.
        augmentation: of the pairs.
        synth: train on synthetic images instead of scans.
        spacing: required spacing of the prepared data in mm; None for any.
        shape: of the crops.
        steps: of the optimiser.
        batch: pairs in a step, over all processes and accumulations.
        accumulate: number of parts in which a process computes its share of a batch.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        seed: of weights, order and augmentation.
        validate: steps between validations.
        validation_pairs: number of validation pairs.
        save: steps between checkpoints.
        average: decay of the moving average of the weights, which is validated and saved; 0 for none.
    """

    recipe: str
    network: NetworkConfig
    losses: Losses = field(default_factory=Losses)
    optimiser: Optimiser = field(default_factory=Optimiser)
    augmentation: Augmentation = field(default_factory=Augmentation)
    synth: Synth | None = None
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    shape: CropShape = (None, None, None)
    steps: int = 10_000
    batch: int = 1
    accumulate: int = 1
    precision: Precision = "32-true"
    seed: int = 0
    validate: int = 500
    validation_pairs: int = 20
    save: int = 200
    average: float = 0.0

    def as_plain(self) -> dict[str, Any]:
        """The configuration as plain data, with the plugins of its names."""
        network = self.network.as_plain()
        named = {origin("recipe", self.recipe), origin("similarity", self.losses.similarity)} - {None}
        plugins = sorted({*map(str, named), *network.get("plugins", ())})
        return asdict(self) | {"network": network} | ({"plugins": plugins} if plugins else {})


def config_from_plain(plain: Mapping[str, Any]) -> TrainingConfig:
    """The configuration from the output of ``as_plain``.

    Raises:
        UnknownName: for a similarity measure of a plugin that is not loaded.
        TypeError: for invalid data.
        KeyError: for missing fields.
    """
    network = network_from_plain(plain["network"])
    parts = {"losses": Losses, "optimiser": Optimiser, "augmentation": Augmentation}
    nested: dict[str, Any] = {name: kind(**_with_tuples(plain[name])) for name, kind in parts.items()}
    if (similarity := nested["losses"].similarity) not in SIMILARITIES:
        raise UnknownName("similarity measure", similarity, SIMILARITIES).from_plugins(plain.get("plugins", ()))
    synth = plain.get("synth")
    nested["synth"] = None if synth is None else Synth(**_with_tuples(synth))
    known = {f.name for f in fields(TrainingConfig)}
    rest = {k: v for k, v in plain.items() if k in known and k not in nested and k != "network"}
    return TrainingConfig(network=network, **nested, **_with_tuples(rest))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
