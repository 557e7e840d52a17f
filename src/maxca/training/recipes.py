"""Recipes by name: functions that return what a run is. Change a copy with ``dataclasses.replace``."""

from __future__ import annotations

from collections.abc import Callable

from maxca.data.augment import Augmentation
from maxca.networks import NetworkConfig
from maxca.training.config import Losses, Optimiser, TrainingConfig


def hippocampus() -> TrainingConfig:
    """Small crops of the medial temporal lobe, 1 mm, inter-subject, with labels."""
    return TrainingConfig(
        recipe="hippocampus",
        network=NetworkConfig("corrxca", {"encoder_channels": 8, "decoder_channels": 16, "levels": 3, "region": 4}),
        losses=Losses(window=343, image=1.0, diffusion=0.5, folding=10.0, overlap=1.0),
        optimiser=Optimiser(rate=4e-4, warmup=100, cosine=True, clip=1.0),
        augmentation=Augmentation(flips=(0,), rotate=8, scale=0.08, shift=1.5, bias=0.2, gamma=0.2, noise=0.03),
        spacing=(1.0, 1.0, 1.0),
        steps=12_000,
        validate=500,
        save=100,
        average=0.999,
    )


RECIPES: dict[str, Callable[[], TrainingConfig]] = {
    "hippocampus": hippocampus,
}
