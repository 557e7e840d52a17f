"""Uncertainty of a deformation: how much repeated estimates from perturbed images and settings agree.

Each run adds noise to both images and changes the smoothness; the affine is kept. Where the images determine the
deformation the runs agree; where they show nothing, it depends on noise and regularisation. Sources: Kybic, IEEE TIP
19(1), 2010, and Hub et al., IEEE TMI 28(11), 2009, who perturb the images and the transform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from maxca.engine.settings import Settings, level_steps, settings_for
from maxca.engine.volume import FAINT, Volume
from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.registration.inputs import Side
from maxca.registration.measures import Uncertainty
from maxca.registration.monitor import Monitor
from maxca.registration.pair import PreparedPair
from maxca.registration.volume_change import measured_content

# Chosen on training pairs with known maps; see docs/decisions/2026-11-28-uncertainty.md.
NOISE = 1 / 3  # of the estimated noise of an image, which contains some of its finest structure
SMOOTHNESS = 2**0.5  # most that the smoothness is multiplied or divided by
MAD = 0.6745  # median absolute value of standard normal numbers

Estimate = Callable[[PreparedPair, Settings], Chain]


@dataclass(frozen=True)
class Runs:
    """Repeated runs.

    Args:
        count: number of them, at least 2.
        seed: of their perturbations.
    """

    count: int
    seed: int

    def perturbed(self, volumes: PreparedPair, settings: Settings) -> Iterator[tuple[PreparedPair, Settings]]:
        """The pair and the settings of each run, the levels those of ``effort=fast``.

        The factors of the smoothness are evenly spaced in their logarithm and in random order.
        """
        levels = settings_for(volumes.upright.grid, "fast").levels
        factors = SMOOTHNESS ** np.linspace(-1, 1, self.count)
        random = np.random.default_rng(self.seed)
        for number, factor in enumerate(random.permutation(factors)):
            # On the CPU, whose random numbers do not depend on the device of the images.
            generator = torch.Generator().manual_seed(int(random.integers(2**62)) + number)
            smoothness = float(factor) * settings.smoothness
            yield with_noise(volumes, generator), replace(settings, levels=levels, smoothness=smoothness)


def disagreement(estimate: Estimate, volumes: PreparedPair, settings: Settings, runs: Runs, monitor: Monitor) -> Volume:
    """Standard deviation of the displacement over the runs: the root of the summed variances of its components.

    Only the mean and the sum of squares are kept.

    Args:
        estimate: (volumes, settings) → the map of a run, fixed world points → moving world points.
        volumes: of the pair.
        settings: of the optimisation of the result.
        runs: their number and seed.
        monitor: told about each run.

    Returns:
        In mm of moving space, on the grid of the finest level of the runs over the prepared fixed image.
    """
    fixed = volumes.upright.grid
    mean, squares, grid = torch.zeros(()), torch.zeros(()), fixed
    for number, (each, changed) in enumerate(runs.perturbed(volumes, settings), start=1):
        monitor.step(f"repeating with perturbations, run {number} of {runs.count}", number - 1, runs.count)
        grid = fixed.every(level_steps(fixed, changed.levels[-1].factor))
        found = estimate(each, changed).field_on(grid).displacement.double().cpu()
        apart = found - mean
        mean = mean + apart / number
        squares = squares + (apart * (found - mean)).sum(dim=0)
    return Volume((squares / (runs.count - 1)).clamp(min=0).sqrt().float(), grid)


def uncertainty_of(deviation: Volume, fixed: Side, runs: Runs) -> tuple[Image, Uncertainty]:
    """The map on the fixed grid, and its summary over the content inside the mask.

    Args:
        deviation: mm, see ``disagreement``.
        fixed: the fixed side, with labels if given.
        runs: of which it is.

    Returns:
        (I, J, K) mm, 0 beyond the margin around the content, where the deformation is 0; and the summary.
    """
    image = fixed.image
    mm = Chain().resample(deviation.channels, deviation.grid, image.grid)[0].numpy()
    found = mm[measured_content(fixed)]
    by_label = {}
    if fixed.labels is not None:
        for label in np.unique(fixed.labels[fixed.labels != 0]):
            by_label[str(label)] = float(mm[fixed.labels == label].mean())
    summary = Uncertainty(runs.count, float(found.mean()), float(np.percentile(found, 95)), by_label)
    return Image(mm.astype(np.float32), image.grid, form=image.form), summary


def with_noise(volumes: PreparedPair, generator: torch.Generator) -> PreparedPair:
    """The pair with independent noise in the content of each image and channel."""
    if not volumes.channels:
        fixed, moving = (_noisy(each, generator) for each in (volumes.upright, volumes.moving))
        return replace(volumes, upright=fixed, moving=moving)
    channels = tuple(
        replace(each, fixed=_noisy(each.fixed, generator), moving=_noisy(each.moving, generator))
        for each in volumes.channels
    )
    return replace(volumes, upright=channels[0].fixed, moving=channels[0].moving, channels=channels)


def _noisy(volume: Volume, generator: torch.Generator) -> Volume:
    """A volume with noise where it is not background, which stays empty."""
    sd = NOISE * noise_level(volume)
    noise = torch.randn(volume.channels.shape, generator=generator).to(volume.device)
    channels = volume.channels + sd * noise * (volume.channels > FAINT)
    return replace(volume, channels=channels.clamp_(0, 1))


def noise_level(volume: Volume) -> float:
    """The standard deviation of the noise of the first channel, from differences along all axes in turn.

    The median of their size, which edges hardly change. Source: Donoho, IEEE Trans. Information Theory 41(3), 1995.
    """
    values, axes = volume.values, [axis for axis, n in enumerate(volume.grid.shape) if n > 1]
    for axis in axes:
        n = values.shape[axis]
        values = values.narrow(axis, 1, n - 1) - values.narrow(axis, 0, n - 1)
    content = volume.values[tuple(slice(0, n) for n in values.shape)] > FAINT
    if not content.any():
        return 0.0
    return float(values[content].abs().median()) / MAD / 2 ** (len(axes) / 2)
