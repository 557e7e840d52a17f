"""Whether a pair supports the default smoothness: trials on coarse levels, judged by a measure they do not maximise.

Local NCC increases wherever noise, ribs or stains can be warped onto each other. Mutual information does not follow
where the deformation is wrong: a smoother one then increases it as much or more, and is nearer to the truth. See
docs/decisions/2026-11-28-smoothness-by-trials.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from maxca.engine.channels import Channel
from maxca.engine.comparison import similarity_of
from maxca.engine.deformable import optimise
from maxca.engine.settings import Settings
from maxca.engine.terms import ChannelTerm, ImageTerm
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain

FACTORS = (1, 2, 4)  # of the default smoothness
LARGEST = 100_000  # voxels of the finest level of a trial: a few percent of the time of a brain
AS_MUCH = 0.95  # of the gain of the trial before: a smoother one that gains less is not taken
NOTABLE = 0.01  # smallest gain of a smoother trial that is taken
MAXIMISED, JUDGE = "lncc", "mi"
WEIGHTS = {MAXIMISED: 1.0, JUDGE: 3.0}  # of the forces of both measures together


@dataclass(frozen=True)
class Support:
    """The trials of a pair and what follows from them.

    Args:
        default: σ of the update in mm before the trials.
        smoothness: σ of the update in mm that was chosen.
        gains: increase of mutual information over the affine, relative to that under the affine, of each trial;
            the first is at the default, and each further one at twice the smoothness of the one before.
    """

    default: float
    smoothness: float
    gains: tuple[float, ...]

    @property
    def smoother(self) -> bool:
        """Whether more than the default was chosen."""
        return self.smoothness > self.default


def supported(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    settings: Settings,
    progress: Callable[[str], None] = lambda _: None,
) -> Support:
    """The smoothness that a pair supports: doubled as long as mutual information then increases as much.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points.
        settings: of the optimisation, at the default smoothness.
        progress: called with a message before each trial.
    """
    coarse = coarse_levels(fixed, settings)
    mm = coarse.levels[-1].factor * fixed.grid.smallest_spacing
    gains: list[float] = []
    chosen = settings.smoothness
    for factor in FACTORS:
        trial = replace(coarse, smoothness=factor * settings.smoothness)
        progress(f"trying a smoothness of {trial.smoothness:.3g} mm")
        field, _ = optimise(fixed, moving, affine, trial)
        chains = {"before": Chain((affine,)), "after": Chain((field, affine))}
        found = similarity_of(fixed, moving, JUDGE, chains, mm)
        gains.append(found["after"] / max(found["before"], 1e-9) - 1)
        if len(gains) > 1:
            if gains[-1] < max(NOTABLE, AS_MUCH * gains[-2]):
                break
            chosen = trial.smoothness
    return Support(settings.smoothness, chosen, tuple(gains))


def image_term(fixed: Volume, moving: Volume, affine: Affine, settings: Settings) -> ImageTerm | ChannelTerm:
    """The similarity of two images: that of the settings, or ``"lncc+mi"``, both measures with ``WEIGHTS``.

    Args:
        fixed: prepared fixed image.
        moving: prepared moving image.
        affine: fixed world points → moving world points, applied after the field.
        settings: of the optimisation.
    """
    names = settings.similarity.split("+")
    if len(names) == 1:
        return ImageTerm(fixed, moving, affine, settings.similarity)
    return ChannelTerm([Channel(fixed, moving, name, WEIGHTS[name]) for name in names], affine)


def fitted(settings: Settings, support: Support | None) -> Settings:
    """Settings that follow from the trials of a pair, if any: the smoothness, and both measures where needed."""
    if support is not None:
        settings = replace(settings, smoothness=support.smoothness)
    doubted = settings.combine == "smoother" and support is not None and support.smoother
    if settings.similarity == MAXIMISED and (doubted or settings.combine == "always"):
        return replace(settings, similarity="+".join(WEIGHTS))
    return settings


def coarse_levels(fixed: Volume, settings: Settings) -> Settings:
    """Settings of the trials: the levels of at most ``LARGEST`` voxels, and of several levels never the finest."""
    coarse = settings.levels[:-1] or settings.levels
    few = tuple(level for level in coarse if level.voxels(fixed.grid) <= LARGEST)
    return replace(settings, levels=few or coarse[:1])
