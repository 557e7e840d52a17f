"""Random changes of a training pair: what scanners, heads and readers vary, and a network should not care about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEGREE = 0.017453292519943295


@dataclass(frozen=True)
class Augmentation:
    """How much may vary; 0 leaves a thing as it is. Each image of a pair varies by itself, except for flips.

    Args:
        flips: axes along which a pair may be mirrored.
        rotate: degrees around each axis.
        scale: share by which each axis may be longer or shorter.
        shift: voxels along each axis.
        warp: voxels that a smooth warp moves points, about the greatest standard deviation.
        bias: coefficient of a slow change of intensity across the image.
        gamma: greatest share by which the exponent of the intensities may change.
        noise: greatest standard deviation of Gaussian noise.
    """

    flips: tuple[int, ...] = ()
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    bias: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether it moves anything."""
        return max(self.rotate, self.scale, self.shift, self.warp) > 0


def augmented(pair: Mapping[str, Tensor], how: Augmentation, seed: int) -> dict[str, Tensor]:
    """A random variant of a pair.

    Args:
        pair: ``fixed`` and ``moving`` (I, J, K) in [0, 1]; perhaps ``fixed_labels`` and ``moving_labels``.
        how: what may vary.
        seed: the same seed gives the same variant.
    """
    from monai.transforms import Compose

    pieces = {name: tensor.unsqueeze(0) for name, tensor in pair.items()}
    together = Compose(_flips(tuple(pieces), how))
    together.set_random_state(seed)
    out = _plain(together(pieces))
    for number, side in enumerate(("fixed", "moving"), start=1):
        labels = f"{side}_labels" if f"{side}_labels" in pieces else None
        change = Compose(_changes(side, labels, how))
        change.set_random_state((seed + 7919 * number) % 2**32)
        out |= _plain(change({name: out[name] for name in (side, labels) if name}))
        out[side] = out[side].clamp(0, 1)
    return {name: tensor[0] for name, tensor in out.items()}


def _flips(names: tuple[str, ...], how: Augmentation) -> list[Any]:
    from monai.transforms import RandFlipd

    return [RandFlipd(names, prob=0.5, spatial_axis=axis) for axis in how.flips]


def _changes(side: str, labels: str | None, how: Augmentation) -> list[Any]:
    from monai.transforms import Rand3DElasticd, RandAdjustContrastd, RandAffined, RandBiasFieldd, RandGaussianNoised

    changes: list[Any] = []
    keys, modes = ([side], ["bilinear"]) if labels is None else ([side, labels], ["bilinear", "nearest"])
    affine: dict[str, Any] = {
        "rotate_range": [how.rotate * DEGREE] * 3,
        "scale_range": [how.scale] * 3,
        "translate_range": [how.shift] * 3,
        "mode": modes,
        "padding_mode": "zeros",
        "prob": 1.0,
    }
    if how.warp:
        # Uniform noise of magnitude m, smoothed with σ, has a standard deviation of m / √3 · (2√π σ)^(-3/2).
        changes.append(Rand3DElasticd(keys, sigma_range=(4, 6), magnitude_range=(0, 120 * how.warp), **affine))
    elif how.moves:
        changes.append(RandAffined(keys, **affine))
    if how.bias:
        changes.append(RandBiasFieldd([side], prob=0.5, coeff_range=(-how.bias, how.bias)))
    if how.gamma:
        changes.append(RandAdjustContrastd([side], prob=0.5, gamma=(1 - how.gamma, 1 + how.gamma)))
    if how.noise:
        changes.append(RandGaussianNoised([side], prob=0.5, std=how.noise))
    return changes


def _plain(pieces: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Without MONAI's tensor subclass and its history."""
    return {str(name): torch.as_tensor(getattr(t, "as_tensor", lambda t=t: t)()) for name, t in pieces.items()}
