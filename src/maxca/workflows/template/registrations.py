"""The registrations of one iteration: every scan to the template, as a cohort."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain
from maxca.geometry.fit import fitted_affine
from maxca.io.atomic import atomic_path
from maxca.io.images import Image, write
from maxca.io.pairs import Pair
from maxca.io.transforms import read_transform, write_transform
from maxca.options import RegistrationOptions
from maxca.registration.result import TRANSFORM
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.run import cohort
from maxca.workflows.template.average import Estimate
from maxca.workflows.template.scans import TemplateScan
from maxca.workflows.template.shape import points_of

TEMPLATE, MASK, STARTS, REGISTRATIONS = "template.nii.gz", "mask.nii.gz", "starts", "registrations"
Progress = Callable[[str, float], None]
Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Registered:
    """The scans that could be registered.

    Args:
        scans: by name.
        chains: template world points → scan world points, by name.
    """

    scans: Mapping[str, TemplateScan]
    chains: Mapping[str, Chain]


@dataclass(frozen=True)
class Iterate:
    """Registers all scans to a template.

    Args:
        scans: to register.
        where: the workers.
        progress: called with the stage and its completed fraction.
        warn: called with a line for each notice.
    """

    scans: Sequence[TemplateScan]
    where: CohortOptions
    progress: Progress
    warn: Warn

    def __call__(
        self, template: Estimate, place: Path, options: RegistrationOptions, starts: Mapping[Path, Chain]
    ) -> Registered:
        """Register, or resume.

        Args:
            template: the fixed image.
            place: folder of the iteration.
            options: of all registrations.
            starts: initial affine by the file of the scan, as far as known.

        Raises:
            MaxcaError: if fewer than two scans can be registered.
        """
        affine = options.transform == "affine"
        fixed = [save(each, place / channel_name(n)) for n, each in enumerate(template.channels, start=1)]
        mask = None
        if not template.covered.all():
            first = template.channels[0]
            mask = save(Image(template.covered.astype(np.uint8), first.grid, form=first.form), place / MASK)
        pairs = [
            Pair(
                fixed[0],
                scan.image,
                moving_labels=scan.labels,
                fixed_mask=mask,
                moving_mask=scan.mask,
                initial_transform=_stored(starts.get(scan.image), place / STARTS / f"{number:04d}.tfm"),
                further=() if affine else tuple(zip(fixed[1:], scan.further, strict=True)),
            )
            for number, scan in enumerate(self.scans)
        ]
        plan = cohort(pairs, place / REGISTRATIONS, options, self.where, progress=self.progress, warn=self.warn)
        for pair in plan.pairs:
            if pair.state != "done":
                self.warn(f"left out of iteration {place.name}: {pair.inputs['moving'].path}: {pair.error}")
        done = {p.name: scan for p, scan in zip(plan.pairs, self.scans, strict=True) if p.state == "done"}
        if len(done) < 2:
            raise MaxcaError(f"fewer than two scans could be registered, the first for: {plan.pairs[0].error}")
        return Registered(done, {name: read_transform(place / REGISTRATIONS / name / TRANSFORM) for name in done})


def starts_of(template: Estimate, scans: Mapping[str, TemplateScan], chains: Mapping[str, Chain]) -> dict[Path, Chain]:
    """The affine parts of the transforms within the content, from which the next registrations start."""
    points = points_of(template.grid, template.content)
    return {
        scan.image: Chain((fitted_affine(points, chains[name].map_points(points)),), chains[name].dimension)
        for name, scan in scans.items()
    }


def channel_name(number: int) -> str:
    """The file of a channel, counted from 1."""
    return TEMPLATE if number == 1 else TEMPLATE.replace(".", f"_{number}.", 1)


def save(image: Image, path: Path) -> Path:
    """Write an image, atomically."""
    with atomic_path(path) as unfinished:
        write(image.data, image.grid, unfinished, form=image.form)
    return path


def _stored(start: Chain | None, path: Path) -> Path | None:
    if start is None:
        return None
    with atomic_path(path) as unfinished:
        write_transform(start, unfinished)
    return path
