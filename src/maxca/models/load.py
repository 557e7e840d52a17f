"""A trained network and the grid it was trained on, from and to one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maxca.errors import MaxcaError
from maxca.losses.similarity import SIMILARITIES
from maxca.models.checkpoint import read_checkpoint, read_description, save_checkpoint
from maxca.models.description import check_description, check_weights
from maxca.models.distribution import TrainingDistribution
from maxca.models.domain import Domain
from maxca.networks import NetworkConfig, network_from_plain
from maxca.origins import UnknownName, origin

FORMAT = 1
SEGMENTATION = "segmentation"  # kind of the other models; see ``maxca.models.segmentation``
COMPARED_MM = 2.0  # mm between the samples of the similarities in a domain's gain: a model has a physical scale
KEPT_AS = "likeness"  # key of the distribution of the training images in files
Spacing = tuple[float | None, float | None, float | None]
CropShape = tuple[int | None, int | None, int | None]


@dataclass(frozen=True)
class Model:
    """A network that can register.

    Args:
        network: ``network(fixed, moving)`` → ``Prediction``, for intensities in [0, 1] (see
            ``maxca.engine.volume.normalise``).
        config: of the network.
        spacing: mm of its grid to the right, anterior and superior; None for that of the fixed image.
        name: of the model.
        refine: steps of the optimisation that follow at full resolution; None for those of the effort. For
            a network trained with labels, each step reduces the overlap of labels.
        domain: intended pairs; None for a model that is used only when named explicitly.
        mirror: axes of its grid along which the pair is mirrored; the prediction is the mean over all mirrorings.
        distribution: of its training images, for the in-distribution check.
        shape: voxels of its input along each axis; a larger pair is cropped to the part where the two images
            differ most. None for an axis of any size.
        source: the ``"path"`` of its file and its ``"sha256"``; None if created in Python.
    """

    network: nn.Module
    config: NetworkConfig
    spacing: Spacing | None = None
    name: str = "model"
    refine: int | None = None
    domain: Domain | None = None
    mirror: tuple[int, ...] = ()
    distribution: TrainingDistribution | None = None
    shape: CropShape = (None, None, None)
    source: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        parameters = sum(each.numel() for each in self.network.parameters())
        return f"Model({self.name}: {self.config.name}, {parameters / 1e6:.2f} million parameters)"

    def on(self, device: torch.device) -> Model:
        """The model on a device, for evaluation."""
        return replace(self, network=self.network.eval().to(device))

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write one safetensors file.

        Args:
            path: ends in ``.safetensors``.
            half: store float16, half the size; it is converted to float32 when read.

        Raises:
            MaxcaError: when the file cannot be written.
            ValueError: for a block without a name.
        """
        about = {
            "format": FORMAT,
            "network": self.config.as_plain(),
            "spacing": self.spacing,
            "refine": self.refine,
            "domain": None if self.domain is None else _plain_domain(self.domain),
            "mirror": self.mirror,
            "shape": self.shape,
            KEPT_AS: None if self.distribution is None else self.distribution.limit,
        }
        state = self.network.state_dict()
        if self.distribution is not None:
            state |= {
                f"maxca.{KEPT_AS}.descriptors": self.distribution.descriptors,
                f"maxca.{KEPT_AS}.scale": self.distribution.scale,
            }
        if half:
            state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        save_checkpoint(path, state, about)


def gain(similarity: Mapping[str, float]) -> float:
    """The fraction of the dissimilarity (1 minus similarity) under the affine that a network removes.

    Args:
        similarity: under ``"affine"`` and under ``"network"``.
    """
    before, after = similarity["affine"], similarity["network"]
    return (after - before) / max(1 - before, 1e-6)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Read a model; the weights must fit the network exactly.

    Args:
        path: a file written by ``Model.save``.
        device: of the network.

    Raises:
        MaxcaError: for any other file.
    """
    path = Path(path)
    state, about, digest = read_checkpoint(path)
    with named(path):
        if about.get("kind") == SEGMENTATION:
            raise MaxcaError(f"{path}: a segmentation model; a registration model is needed here")
        check_description(path, about)
        config, spacing, refine, domain = _config(about), _spacing(about), _refine(about), _domain(about)
        mirror, distribution, shape = _mirror(about), _distribution(about, state), _shape(about)
        check_weights(config.build, config.arguments, state)
        network = config.build()
        network.load_state_dict(state, strict=True)
    source = {"path": str(path.resolve()), "sha256": digest}
    return Model(
        network.eval().to(device), config, spacing, path.stem, refine, domain, mirror, distribution, shape, source
    )


def read_domain(path: str | Path) -> Domain | None:
    """The domain of a model, without loading the weights; raises like ``load_model``."""
    with named(Path(path)):
        about = read_description(path)
        check_description(Path(path), about)
        return _domain(about)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except UnknownName as error:
        raise MaxcaError(f"{path}: {error}") from error
    except MaxcaError:
        raise
    except Exception as error:  # constructors of networks raise various errors for invalid arguments
        raise MaxcaError(f"{path}: this model does not fit maxca: {_one_line(error)}") from error


def _config(about: Mapping[str, Any]) -> NetworkConfig:
    if about.get("format") != FORMAT:
        raise ValueError(f"its format is {about.get('format')!r}, this version supports {FORMAT}")
    return network_from_plain(about["network"])


def _spacing(about: Mapping[str, Any]) -> Spacing | None:
    if about.get("spacing") is None:
        return None
    i, j, k = (None if mm is None else float(mm) for mm in about["spacing"])
    if not all(mm is None or 0 < mm < float("inf") for mm in (i, j, k)):
        raise ValueError(f"its spacing is {about['spacing']}")
    return i, j, k


def _refine(about: Mapping[str, Any]) -> int | None:
    steps = about.get("refine")
    if steps is not None and not (isinstance(steps, int) and steps >= 0):
        raise ValueError(f"its refinement steps are {steps!r}")
    return steps


def _plain_domain(domain: Domain) -> dict[str, Any]:
    plugin = origin("similarity", domain.similarity)
    return asdict(domain) | ({"plugin": plugin} if plugin else {})


def _domain(about: Mapping[str, Any]) -> Domain | None:
    held = about.get("domain")
    if held is None:
        return None
    extents = tuple((float(least), float(most)) for least, most in held["extent_mm"])
    if held["similarity"] not in SIMILARITIES and (plugin := held.get("plugin")):
        raise UnknownName("similarity measure", held["similarity"], SIMILARITIES).from_plugins([plugin])
    if len(extents) != 3 or held["similarity"] not in SIMILARITIES:
        raise ValueError(f"its domain is {held}")
    return Domain(extents, held["similarity"], float(held["gain"]))


def _mirror(about: Mapping[str, Any]) -> tuple[int, ...]:
    axes = tuple(about.get("mirror", ()))
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        raise ValueError(f"its mirror axes are {axes}")
    return axes


def _shape(about: Mapping[str, Any]) -> CropShape:
    i, j, k = about.get("shape") or (None, None, None)
    if not all(n is None or (isinstance(n, int) and n > 0) for n in (i, j, k)):
        raise ValueError(f"its input shape is {about['shape']}")
    return i, j, k


def _distribution(about: Mapping[str, Any], state: dict[str, Tensor]) -> TrainingDistribution | None:
    """Remove the distribution from ``state``, which then contains the network only."""
    if about.get(KEPT_AS) is None:
        return None
    descriptors, scale = (state.pop(f"maxca.{KEPT_AS}.{name}").float() for name in ("descriptors", "scale"))
    if descriptors.ndim != 2 or scale.shape != descriptors.shape[1:]:
        raise ValueError(f"its training images are described by {tuple(descriptors.shape)}, {tuple(scale.shape)}")
    return TrainingDistribution(descriptors, scale, float(about[KEPT_AS]))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
