"""Recipes by name: functions that return the configuration of a run, each derived from a base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from maxca.networks import FlowOptions, NetworkConfig
from maxca.training.augmentation import Augmentation
from maxca.training.config import Losses, Optimiser, RunConfig, SegmentationConfig, TrainingConfig
from maxca.training.synthesis import Synth
from maxca.training.variation import Variation

# The flow is found at half resolution, where a step takes a third of the time, and is a diffeomorphism by construction.
SMALL = {"encoder_channels": 8, "decoder_channels": 16, "levels": 4, "region": 4}
HALF = SMALL | {"flow": FlowOptions(finest=1, velocity=True)}


OURS = TrainingConfig(
    recipe="ours",
    network=NetworkConfig("corrxca", dict(HALF)),
    losses=Losses(window=343, image=0.1, diffusion=0.02, overlap=2.0),
    optimiser=Optimiser(rate=3e-4, warmup=200, cosine=True, clip=1.0),
    steps=5_000,
    validate=500,
    save=100,
    average=0.99,
)
PAPER = TrainingConfig(
    recipe="paper",
    network=NetworkConfig("corrxca", {}),
    losses=Losses(window=729, image=1.0, diffusion=1.0),
    optimiser=Optimiser(rate=1e-4),
    precision="bf16-mixed",
    steps=100_000,
    validate=1_000,
)


def hippocampus() -> TrainingConfig:
    """Small crops of the medial temporal lobe, 1 mm, inter-subject, with labels; the flow is found at 2 mm."""
    return replace(
        OURS,
        recipe="hippocampus",
        augmentation=Augmentation(flips=(0,), rotate=8, scale=0.08, shift=1.5, bias=0.2, gamma=0.2, noise=0.03),
        spacing=(1.0, 1.0, 1.0),
    )


def cardiac_cine() -> TrainingConfig:
    """Short-axis cine MR, end-diastole to end-systole and back, with labels; slice thickness is preserved."""
    return replace(
        OURS,
        recipe="cardiac_cine",
        network=NetworkConfig("corrxca", SMALL | {"flow": FlowOptions(finest=1, velocity=True, flat=2)}),
        losses=replace(OURS.losses, segmentation=0.5),
        augmentation=Augmentation(
            flips=(0, 1), turn=180, zoom=0.2, rotate=3, scale=0.04, shift=1.5, bias=0.2, gamma=0.2, noise=0.02
        ),
        spacing=(1.5, 1.5, None),
        shape=(112, 112, None),
        precision="bf16-mixed",
    )


def brain_t1() -> TrainingConfig:
    """T1-weighted brains at 2 mm, inter-subject, with labels; the flow is found at 4 mm."""
    return replace(
        OURS,
        recipe="brain_t1",
        losses=replace(OURS.losses, image=0.3, diffusion=0.05, lattice=2, segmentation=0.5),
        # Not mirrored: left and right have different labels, and a convolution covers both sides anyway.
        augmentation=Augmentation(rotate=3, scale=0.04, shift=2.0, warp=1.5, bias=0.2, gamma=0.2, noise=0.02),
        spacing=(2.0, 2.0, 2.0),
        precision="bf16-mixed",
        validation_pairs=8,
    )


def synth() -> TrainingConfig:
    """Shapes from noise, and label maps if there is data, in random contrasts, at 2 mm, for images of any contrast."""
    return replace(
        OURS,
        recipe="synth",
        losses=replace(OURS.losses, similarity="mi", window=729, image=0.0, diffusion=0.05, lattice=2),
        synth=Synth(),
        spacing=(2.0, 2.0, 2.0),
        precision="bf16-mixed",
        validation_pairs=8,
    )


def paper_brain() -> TrainingConfig:
    """The published brain experiment: 1 mm, 144 x 192 x 160, no labels, 100 000 steps of one pair."""
    return replace(PAPER, recipe="paper_brain", spacing=(1.0, 1.0, 1.0), shape=(144, 192, 160))


def paper_cardiac() -> TrainingConfig:
    """The published cardiac experiment: 1.5 x 1.5 x 3.15 mm, 128 x 128 x 32, no labels, 100 000 steps of one pair."""
    return replace(PAPER, recipe="paper_cardiac", spacing=(1.5, 1.5, 3.15), shape=(128, 128, 32))


def segmentation() -> SegmentationConfig:
    """A segmentation network for labelled scans of any organ and spacing, of the contrast of the scans."""
    return SegmentationConfig(
        recipe="segmentation",
        optimiser=Optimiser(rate=2e-3, decay=0.01, warmup=100, cosine=True, clip=5.0),
        steps=4_000,
        batch=2,
        validate=500,
        save=100,
        validation_pairs=10,
        average=0.998,
    )


def segmentation_any_contrast() -> SegmentationConfig:
    """A segmentation network for other contrasts too: inverted or random curves of intensities, painted labels."""
    return replace(
        segmentation(),
        recipe="segmentation_any_contrast",
        variation=Variation(inverted=0.2, curve=0.2, painted=0.12),
        steps=6_000,
    )


def segmentation_maxca() -> SegmentationConfig:
    """A segmentation network with multi-axis cross-covariance attention at the finest level."""
    return replace(segmentation(), recipe="segmentation_maxca", finest={"name": "maxca", "heads": 2, "region": 8})


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "hippocampus": hippocampus,
    "cardiac_cine": cardiac_cine,
    "brain_t1": brain_t1,
    "synth": synth,
    "segmentation": segmentation,
    "segmentation_any_contrast": segmentation_any_contrast,
    "segmentation_maxca": segmentation_maxca,
    "paper_brain": paper_brain,
    "paper_cardiac": paper_cardiac,
}
