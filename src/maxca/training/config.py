"""What a training run is: frozen, comparable, and written into its folder."""

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
    """What is minimised: a sum of terms with these weights; a weight of 0 leaves the term out.

    Args:
        similarity: of the fixed and the warped image.
        window: voxels in a window of local NCC: 729 is 9 along each axis.
        image: weight of minus the similarity.
        diffusion: of the mean squared gradient of the flow.
        bending: of its bending energy.
        folding: of the share of the volume that is turned inside out.
        overlap: of 1 minus the Dice of the labels. Labels are used in training alone.
        lattice: overlap is measured at every so-manieth voxel along each axis, others from step to step; and features
            are asked for labels at every so-manieth of their own, half that at each coarser level.
        segmentation: of how badly the labels can be told from the network's features, by heads that are trained with it
            and thrown away: it learns faster what belongs together. Coarse-to-fine networks only.
        consistency: of the mean squared distance, in voxels, by which the way there and back misses.
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
    """AdamW; the rate rises over ``warmup`` steps, and falls to 0 along a cosine if ``cosine``."""

    rate: float = 1e-4
    decay: float = 0.0
    warmup: int = 0
    cosine: bool = False
    clip: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """A run.

    Args:
        recipe: what it was made from.
        network: what is trained.
        losses: what it minimises.
        optimiser: how.
        augmentation: how pairs vary.
        synth: train on made-up images instead of scans.
        spacing: mm of the grid that the data must have been prepared on; None for any.
        shape: what images are cut to.
        steps: of the optimiser.
        batch: pairs in a step, over all processes and accumulations.
        accumulate: a process takes its share of a batch in so many parts.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        seed: decides weights, order and variation.
        validate: steps between validations.
        validation_pairs: how many pairs are validated on.
        save: steps between checkpoints.
        average: share of the old weights in the moving average that is validated and shipped; 0 for none.
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
        """Numbers, names, lists and dicts only, and the plugins that some of the names are of."""
        network = self.network.as_plain()
        named = {origin("recipe", self.recipe), origin("similarity", self.losses.similarity)} - {None}
        plugins = sorted({*map(str, named), *network.get("plugins", ())})
        return asdict(self) | {"network": network} | ({"plugins": plugins} if plugins else {})


def config_from_plain(plain: Mapping[str, Any]) -> TrainingConfig:
    """The configuration that ``as_plain`` wrote.

    Raises:
        UnknownName: for a similarity measure of a plugin that is not loaded.
        TypeError: for what it cannot have written.
        KeyError: likewise.
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
