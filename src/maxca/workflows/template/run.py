"""``maxca.build_template``: the mean intensity and shape of scans, by repeated registration on workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.alone import alone_in
from maxca.io.atomic import atomic_path, folders_of
from maxca.io.images import Image, read
from maxca.io.pairs import Pair
from maxca.io.transforms import write_transform
from maxca.options import RegistrationOptions
from maxca.runtime import tuned
from maxca.version import installed_version
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.planning import memory_of
from maxca.workflows.template.average import BRIGHTEST, Estimate, mean_of, overlap, sharpness, warped
from maxca.workflows.template.options import TemplateOptions
from maxca.workflows.template.outputs import ITERATIONS, TRANSFORMS, check_free, clear, fingerprint_of
from maxca.workflows.template.record import RECORD, Iteration, TemplateRecord
from maxca.workflows.template.registrations import (
    Iterate,
    Progress,
    Registered,
    Warn,
    channel_name,
    save,
    starts_of,
)
from maxca.workflows.template.scans import TemplateScan, read_scans
from maxca.workflows.template.shape import MeanShape, after, mean_shape, mirror_of, points_of, without
from maxca.workflows.template.symmetry import made_symmetric

MARGIN = 0.1  # of the extent of the first scan, on each side of its grid
SETTLED, UNCHANGED = 0.2, 0.01  # convergence: mean motion of the scans in voxels, and change of the template


@dataclass(frozen=True, eq=False)
class Template:
    """A template.

    Args:
        channels: float32; bright tissue has 1000.
        chains: by the name of each scan, template world points → scan world points.
        record: content of ``template.json``.
        folder: of the output.
    """

    channels: tuple[Image, ...]
    chains: Mapping[str, Chain]
    record: TemplateRecord
    folder: Path

    @property
    def image(self) -> Image:
        """The first channel."""
        return self.channels[0]


def build_template(
    scans: Sequence[str | Path],
    folder: str | Path,
    options: TemplateOptions | None = None,
    registration: RegistrationOptions | None = None,
    where: CohortOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda _stage, _share: None,
    warn: Warn = lambda _line: None,
) -> Template:
    """Build a template that has the mean shape and the mean intensity of scans, and register each of them to it.

    The same call resumes after an interruption: registrations that are done are not repeated, and those that failed are
    tried again. More iterations continue a template.

    Args:
        scans: files, or one CSV list with the columns image and, optionally, image_2, … (channels), labels and mask.
        folder: of the output.
        options: of the template.
        registration: options of the registrations; by default those of ``options.effort``, without a network.
        where: the workers.
        overwrite: replace a template of other scans or options in the folder.
        progress: called with the stage and its completed fraction.
        warn: called with one line for each notice.

    Raises:
        MaxcaError: for scans or options that cannot be used, or a folder with another template, before anything is
            written.
    """
    options, folder, where = options or TemplateOptions(), Path(folder), where or CohortOptions()
    listed = read_scans(scans)
    initial = _initial(listed, options)
    registration = registration or RegistrationOptions(effort=options.effort, model="none")
    threads = registration.threads or 1
    registration = replace(registration, threads=threads)
    record = _record(listed, options, registration)
    replaced = check_free(folder, record, overwrite)
    try:
        from maxca.workflows.cohort.cluster import Needed, connected
    except ImportError as error:
        raise MaxcaError("a template needs additional packages: pip install 'maxca[cohort]'") from error
    memory = max(memory_of(Pair(options.reference or scan.image, scan.image), registration) for scan in listed)
    needed = Needed(threads, memory, len(listed))
    with (
        folders_of(folder / RECORD),
        alone_in(folder, "another maxca template"),
        connected(where, needed, folder, warn),  # for the cohorts of all iterations
        torch.no_grad(),
    ):
        record.write(folder)
        clear(folder, iterations=replaced)
        return _Run(listed, folder, options, registration, record, progress, warn).build(initial)


def _initial(scans: Sequence[TemplateScan], options: TemplateOptions) -> Image:
    """The initial template: the reference, or the first scan with a margin."""
    if options.reference is not None:
        image = read(options.reference)
        grid = image.grid
    else:
        image = read(scans[0].image)
        extra = [round(MARGIN * n) if n > 1 else 0 for n in image.grid.shape]
        grid = image.grid.box([-n for n in extra], [n + more for n, more in zip(image.grid.shape, extra, strict=True)])
    return Image(BRIGHTEST * warped(image, Chain(), grid).numpy(), grid, form=image.form)


def _record(
    scans: Sequence[TemplateScan], options: TemplateOptions, registration: RegistrationOptions
) -> TemplateRecord:
    """The record of a template without iterations."""
    given, plain = _plain(asdict(options)), _plain(_shallow(registration))
    return TemplateRecord(installed_version(), given, plain, fingerprint_of(scans, given, plain))


class _Run:
    """Registers all scans again and again, and keeps the record."""

    def __init__(
        self,
        scans: Sequence[TemplateScan],
        folder: Path,
        options: TemplateOptions,
        registration: RegistrationOptions,
        record: TemplateRecord,
        progress: Progress,
        warn: Warn,
    ) -> None:
        self.folder, self.options, self.registration, self.warn = folder, options, registration, warn
        self.record = record
        self.iterate = Iterate(scans, CohortOptions(save="none", retry="failed"), progress, self._warn)

    def build(self, initial: Image) -> Template:
        """Iterate from an initial template until it converges."""
        template = Estimate((initial,), np.ones(initial.grid.shape, bool))
        mirror = mirror_of(initial.grid) if self.options.symmetric else None
        before: Mapping[str, Chain] = {}
        starts: Mapping[Path, Chain] = {}
        for number in range(self.options.iterations):
            begin = time.perf_counter()
            place = self.folder / ITERATIONS / f"{number:02d}"
            found = self.iterate(template, place, self._effort(number), starts)
            with tuned(self.registration.threads):
                symmetric = mirror if number else None  # before, the template is that of any place and pose
                shape = mean_shape(found.chains.values(), template.grid, template.content, symmetric)
                chains = {name: self._unbiased(chain, shape, number) for name, chain in found.chains.items()}
                files = {name: scan.channels for name, scan in found.scans.items()}
                if number == 0 and mirror is not None:
                    chains = made_symmetric(mean_of(files, chains, initial), chains, mirror)
                new = mean_of(files, chains, initial, mirror=mirror, sharpen=self.options.sharpen)
                change = new.change(template) if number else 1.0
                one = self._iteration(number, shape, change, new, replace(found, chains=chains), before)
                starts = starts_of(new, found.scans, chains)
            template, before = new, chains
            self._note(found, replace(one, seconds=round(time.perf_counter() - begin, 1)))
            if _settled(one, template):
                self.record = replace(self.record, converged=True)
                break
        return self._finished(template, before, mirror)

    def _effort(self, number: int) -> RegistrationOptions:
        """The options of an iteration: first an affine, then a quick deformation to what is still blurred."""
        if number == 0:
            return replace(self.registration, transform="affine", model="none")
        return replace(self.registration, effort="fast") if number == 1 else self.registration

    def _unbiased(self, chain: Chain, shape: MeanShape, number: int) -> Chain:
        """A transform without the mean shape and, the first time without a reference, without the mean pose."""
        unbiased = without(shape, chain)
        if number == 0 and self.options.reference is None:
            return after(shape.pose.inverse()[0], unbiased)
        return unbiased

    def _iteration(
        self,
        number: int,
        shape: MeanShape,
        change: float,
        template: Estimate,
        found: Registered,
        before: Mapping[str, Chain],
    ) -> Iteration:
        labels = [read(scan.labels) for scan in found.scans.values() if scan.labels is not None]
        dice = self._dice(labels, list(found.chains.values()), template.grid, number) if labels else None
        first = template.channels[0]
        sharp = sharpness(first.data, first.grid, template.covered)
        moved = _moved(points_of(template.grid, template.content), found.chains, before)
        return Iteration(number, shape.mean_mm, shape.max_mm, moved, change, sharp, dice)

    def _dice(self, labels: Sequence[Image], chains: Sequence[Chain], grid: Grid, number: int) -> float | None:
        found = overlap(labels, chains, grid)
        if found.apart and number == 0:
            self._warn(f"Dice without {found.apart} of {found.pairs} pairs of scans, which have no label in common")
        return found.dice

    def _note(self, found: Registered, one: Iteration) -> None:
        scans = {name: str(scan.image) for name, scan in found.scans.items()}
        self.record = replace(self.record, scans=scans, iterations=[*self.record.iterations, one])
        self.record.write(self.folder)

    def _finished(self, template: Estimate, chains: Mapping[str, Chain], mirror: Affine | None) -> Template:
        for name, chain in chains.items():
            for ending, each in (("", chain), ("_inverse", chain.inverse()[0])):
                with atomic_path(self.folder / TRANSFORMS / f"{name}{ending}.h5") as unfinished:
                    write_transform(each, unfinished)
        bias = mean_shape(chains.values(), template.grid, template.content, mirror).mean_mm
        self.record = replace(self.record, bias_mm=bias)
        for number, channel in enumerate(template.channels, start=1):
            save(channel, self.folder / channel_name(number))
        self.record.write(self.folder)
        return Template(template.channels, chains, self.record, self.folder)

    def _warn(self, line: str) -> None:
        self.warn(line)
        self.record = replace(self.record, warnings=[*self.record.warnings, line])


def _moved(points: np.ndarray, chains: Mapping[str, Chain], before: Mapping[str, Chain]) -> float | None:
    """Mean distance in mm between the points that transforms map to, and those before; None the first time."""
    known = chains.keys() & before.keys()
    if not known:
        return None
    far = [np.linalg.norm(chains[name].map_points(points) - before[name].map_points(points), axis=1) for name in known]
    return float(np.mean(far))


def _settled(one: Iteration, template: Estimate) -> bool:
    if one.moved_mm is None or one.number < 2:  # the first deformation is a quick one
        return False
    return one.moved_mm < SETTLED * template.grid.smallest_spacing and one.change < UNCHANGED


def _shallow(options: RegistrationOptions) -> dict[str, Any]:
    return {each.name: getattr(options, each.name) for each in fields(options)}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a record: files and objects by name."""
    kept = (str, int, float, list, type(None))
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {name: value if isinstance(value, kept) else str(value) for name, value in values.items()}
