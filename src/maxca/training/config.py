"""Configuration of a training run, stored in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from maxca.losses.similarity import SIMILARITIES
from maxca.networks import NetworkConfig, network_from_plain
from maxca.origins import UnknownName, origin
from maxca.training.augmentation import Augmentation
from maxca.training.options import Precision
from maxca.training.synthesis import Synth
from maxca.training.variation import Variation

SEGMENTATION = "segmentation"  # kind of a configuration without a moving image, in files
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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the configurations of all runs have in common.

    Args:
        recipe: its name.
        optimiser: of the training.
        spacing: required spacing of the prepared data in mm; None for any.
        steps: of the optimiser.
        batch: samples in a step, over all processes and accumulations: pairs, or scans of a segmentation network.
        accumulate: number of parts in which a process computes its share of a batch.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        seed: of weights, order and augmentation.
        validate: steps between validations.
        validation_pairs: number of validation pairs, or validation scans of a segmentation network.
        save: steps between checkpoints.
        average: decay of the moving average of the weights, which is validated and saved; 0 for none.
    """

    recipe: str
    optimiser: Optimiser = field(default_factory=Optimiser)
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    steps: int = 10_000
    batch: int = 1
    accumulate: int = 1
    precision: Precision = "32-true"
    seed: int = 0
    validate: int = 500
    validation_pairs: int = 20
    save: int = 200
    average: float = 0.0

    @property
    def needs_scans(self) -> bool:
        """Whether there is nothing to train on without prepared data."""
        return True

    def as_plain(self) -> dict[str, Any]:
        """The configuration as plain data, with the plugins of its names."""
        plugins = sorted(self._plugins())
        return asdict(self) | ({"plugins": plugins} if plugins else {})

    def _plugins(self) -> set[str]:
        return {str(name) for name in [origin("recipe", self.recipe)] if name}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """The configuration of a run that trains a registration network; see also ``RunConfig``.

    Args:
        network: to train.
        losses: of the training.
        augmentation: of the pairs.
        synth: train on synthetic images instead of scans.
        shape: of the crops.
    """

    network: NetworkConfig
    losses: Losses = field(default_factory=Losses)
    augmentation: Augmentation = field(default_factory=Augmentation)
    synth: Synth | None = None
    shape: CropShape = (None, None, None)

    @property
    def needs_scans(self) -> bool:
        """Whether there is nothing to train on without prepared data."""
        return self.synth is None

    def as_plain(self) -> dict[str, Any]:
        """The configuration as plain data, with the plugins of its names."""
        return super().as_plain() | {"network": self.network.as_plain()}

    def _plugins(self) -> set[str]:
        measure = origin("similarity", self.losses.similarity)
        return super()._plugins() | ({measure} if measure else set()) | {*self.network.as_plain().get("plugins", ())}


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(RunConfig):
    """The configuration of a run that trains a segmentation network; see also ``RunConfig``.

    Strides and classes of the network, and the shape of its training images, follow from the prepared data; see
    ``maxca.training.architecture``.

    Args:
        channels: of the levels of the network, finest first; fewer levels for small images.
        finest: block at the finest level, by its name or its name and arguments; None for convolutions.
        variation: augmentation of the scans.
        crop: most voxels of a training image.
        voxels: of each training image at which the loss is computed.
    """

    channels: tuple[int, ...] = (24, 48, 96, 192)
    finest: str | dict[str, Any] | None = None
    variation: Variation = field(default_factory=Variation)
    crop: int = 2_500_000
    voxels: int = 50_000

    def as_plain(self) -> dict[str, Any]:
        """The configuration as plain data, with the plugins of its names."""
        return {"kind": SEGMENTATION} | super().as_plain()

    def _plugins(self) -> set[str]:
        name = self.finest.get("name") if isinstance(self.finest, dict) else self.finest
        block = origin("block", name) if name else None
        return super()._plugins() | ({block} if block else set())


def config_from_plain(plain: Mapping[str, Any]) -> RunConfig:
    """The configuration from the output of ``as_plain``.

    Raises:
        UnknownName: for a similarity measure of a plugin that is not loaded.
        TypeError: for invalid data.
        KeyError: for missing fields.
    """
    kind = kind_of(plain)
    parts: dict[str, Any] = {"optimiser": Optimiser}
    nested: dict[str, Any] = {}
    if kind is TrainingConfig:
        nested["network"] = network_from_plain(plain["network"])
        parts |= {"losses": Losses, "augmentation": Augmentation} | ({"synth": Synth} if plain.get("synth") else {})
    else:
        parts |= {"variation": Variation}
    nested |= {name: make(**_with_tuples(plain[name])) for name, make in parts.items()}
    if "losses" in nested and (similarity := nested["losses"].similarity) not in SIMILARITIES:
        raise UnknownName("similarity measure", similarity, SIMILARITIES).from_plugins(plain.get("plugins", ()))
    known = {f.name for f in fields(kind)}
    rest = {k: v for k, v in plain.items() if k in known and k not in nested}
    return kind(**nested, **_with_tuples(rest))


def kind_of(plain: Mapping[str, Any]) -> type[TrainingConfig] | type[SegmentationConfig]:
    """The class of a configuration as plain data."""
    return SegmentationConfig if plain.get("kind") == SEGMENTATION else TrainingConfig


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
