"""A pair as read, and as prepared for the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from maxca.engine.affine import Start
from maxca.engine.channels import Channel
from maxca.engine.settings import Settings
from maxca.engine.volume import Volume, content_box, crop, margin_of, normalise, resampled
from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.geometry import Affine, Chain, Grid, Interpolation
from maxca.io.digest import sha256
from maxca.io.images import Image, ImageLike
from maxca.io.label_table import LabelEntry, read_label_table
from maxca.options import RegistrationOptions
from maxca.registration.additional import AdditionalImage, read_additional
from maxca.registration.bodies import BodyPart
from maxca.registration.channels import check_counts
from maxca.registration.exclusion import box_of, filled
from maxca.registration.guidance import Guidance, read_guidance
from maxca.registration.inputs import (
    Side,
    SideInputs,
    check_pair,
    checked_start,
    noticed,
    paired_points,
    read_initial,
    read_side,
    source_names,
)
from maxca.registration.record import Source

BORDER = 2  # voxels of the field around a body
BYTES_PER_VOXEL = 250  # per voxel of the finest level: measured peak, with reserve
BYTES_PER_CHANNEL_VOXEL = 80  # the same for each further channel
INSIDE = 0.999  # of a voxel within a field of view: all of it, but for rounding
BYTES_PER_IMAGE_VOXEL = 40  # per voxel of the two images: as read, normalised and warped


@dataclass(frozen=True, eq=False)
class LoadedPair:
    """The validated input of a registration.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        additional: additional images in moving space, by name.
        initial: initial transform, fixed world points → moving world points.
        start: kind of initialisation, see ``engine.affine.align``.
        guidance: what guides the deformation.
        bodies: what does not bend.
        label_table: names and weights of labels, by number.
        sources: files and their hashes, by role.
        warnings: for the user, one line each.
        measures: the similarity measure of each channel.
        weights: of the channels.
    """

    fixed: Side
    moving: Side
    additional: Mapping[str, AdditionalImage]
    initial: Chain
    start: Start
    guidance: Guidance
    bodies: tuple[BodyPart, ...]
    label_table: Mapping[int, LabelEntry]
    sources: Mapping[str, Source]
    warnings: tuple[str, ...]
    measures: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def dimension(self) -> int:
        """2 if both images are 2-D, otherwise 3."""
        return 2 if {self.fixed.image.dimension, self.moving.image.dimension} == {2} else 3


def read_pair(
    fixed: SideInputs, moving: SideInputs, options: RegistrationOptions, apply: Sequence[ImageLike] = ()
) -> LoadedPair:
    """Read both sides, and check that they can be registered.

    Raises:
        MaxcaError: for invalid input.
    """
    sides = {
        name: read_side(name, one.image, one.mask, one.labels, one.points, one.exclude, one.rigid)
        for name, one in (("fixed", fixed), ("moving", moving))
    }
    fixed_side, moving_side = paired_points(sides["fixed"], sides["moving"])
    sources = {**_sources("fixed", fixed_side), **_sources("moving", moving_side)}
    additional = read_additional(apply, options.fill, moving_side.further)
    grids = fixed_side.image.grid, moving_side.image.grid
    initial, word = read_initial(options.initial_transform, options.matrix_convention, grids)
    check_pair(fixed_side, moving_side)
    word, apart = checked_start(fixed_side, moving_side, initial, word)
    channels = 1 + len(fixed_side.further)
    check_counts(channels, 1 + len(moving_side.further))
    measures, weights = options.similarities(channels), options.weights(channels)
    if channels > 1 and options.preset is not None:
        raise OptionError("preset", options.preset, "registers one channel; give one fixed and one moving image")
    start: Start = "header" if word == "header" else "center" if word == "center" else "auto"
    table = _label_table(options.label_table, fixed_side, moving_side)
    if options.label_table is not None:
        sources["label_table"] = _source(Path(options.label_table))
    guidance = read_guidance(options.guide, fixed_side, moving_side, table)
    bodies = _bodies(fixed_side, moving_side, initial, options)
    warnings = (*apart, *noticed(fixed_side, moving_side), *guidance.warnings)
    files = (additional, initial, start, guidance, bodies, table, sources, warnings)
    return LoadedPair(fixed_side, moving_side, *files, measures, weights)


@dataclass(frozen=True)
class PreparedPair:
    """A pair prepared for the engine.

    Args:
        fixed: the fixed volume, cropped to its content.
        upright: the same on orthogonal axes, on which fields are defined; masked to the known region.
        moving: the moving volume, resampled by the fields of ``known``, if any.
        guess: initial affine, fixed world points → moving world points.
        known: an initial transform that is more than an affine: it is composed with the result.
        channels: all channels, if there are several; of the first, the volumes above.
    """

    fixed: Volume
    upright: Volume
    moving: Volume
    guess: Affine | None
    known: Chain
    channels: tuple[Channel, ...] = ()


def prepare(pair: LoadedPair, device: torch.device) -> PreparedPair:
    """Normalise and crop both images, and apply an initial transform with fields to the moving one.

    Further fixed channels are resampled onto the grid of the first, further moving ones keep their grids.
    """
    affine = pair.initial.is_affine
    guess = pair.initial.as_affine() if affine and pair.initial.steps else None
    known = Chain() if affine else pair.initial
    fixed = _cropped(prepared_volume(pair.fixed, device), [part.region for part in pair.bodies if not part.moving])
    upright = moved_onto(fixed, fixed.grid.upright, Chain()) if fixed.grid.is_sheared else fixed
    moving = prepared_volume(pair.moving, device)
    moving = moved_onto(moving, fixed.grid, known) if known.steps else _cropped(moving)
    prepared = PreparedPair(fixed, upright, moving, guess, known)
    return replace(prepared, channels=_channels(pair, prepared, device)) if pair.fixed.further else prepared


def _channels(pair: LoadedPair, prepared: PreparedPair, device: torch.device) -> tuple[Channel, ...]:
    """All channels with their measures and weights."""
    pairs = [(prepared.upright, prepared.moving)]
    for fixed, moving in zip(pair.fixed.further, pair.moving.further, strict=True):
        grid, known = prepared.fixed.grid, prepared.known
        moved = _channel(moving, pair.moving, device)
        moved = moved_onto(moved, grid, known) if known.steps else _cropped(moved)
        pairs.append((_on_grid_of(prepared.upright, _channel(fixed, pair.fixed, device)), moved))
    return tuple(Channel(*both, name, w) for both, name, w in zip(pairs, pair.measures, pair.weights, strict=True))


def _channel(image: Image, side: Side, device: torch.device) -> Volume:
    """A channel after the first with normalised intensities, what is excluded, and the mask of its side."""

    def here(region: np.ndarray, interpolation: Interpolation) -> torch.Tensor:
        values = torch.as_tensor(region, dtype=torch.float32)[None]
        return Chain().resample(values, side.image.grid, image.grid, interpolation)[0]

    excluded = None if side.excluded is None else here(side.excluded, "nearest").numpy() > 0
    values = torch.as_tensor(filled(image.data.astype(np.float32), excluded, image.grid.spacing)).to(device)
    mask = None if side.compared is None else here(side.compared, "linear").to(device)
    return Volume(normalise(values), image.grid, mask)


def _on_grid_of(first: Volume, channel: Volume) -> Volume:
    """A channel on the grid of the first one, masked to its field of view and to the mask of the first."""
    values = resampled(channel, first.grid, Chain())
    seen = Chain().resample(torch.ones_like(channel.channels), channel.grid, first.grid)[0]
    mask = seen if first.mask is None else seen * first.mask
    return Volume(values, first.grid, None if bool((mask > INSIDE).all()) else mask)


def check_memory(pair: LoadedPair, upright: Grid, settings: Settings) -> None:
    """Reject a pair that does not fit into memory.

    Raises:
        MaxcaError: if less memory is free than needed.
    """
    images = [image.grid for side in (pair.fixed, pair.moving) for image in (side.image, *side.further)]
    needed = memory_needed(settings.levels[-1].voxels(upright), *images)
    free = psutil.virtual_memory().available / 1e9
    if needed > free:
        raise MaxcaError(
            f"this pair needs about {needed:.1f} GB of memory and {free:.1f} GB are free; use effort=fast, crop the "
            "images, or free memory"
        )


def memory_needed(finest: int, *images: Grid) -> float:
    """The memory that a registration needs, in GB.

    Args:
        finest: voxels of the finest level of the optimisation.
        images: grids of the two images, and of further channels of both.
    """
    voxels = sum(int(np.prod(grid.shape)) for grid in images)
    each = BYTES_PER_VOXEL + BYTES_PER_CHANNEL_VOXEL * (len(images) // 2 - 1)
    return (finest * each + voxels * BYTES_PER_IMAGE_VOXEL) / 1e9


def _sources(name: str, side: Side) -> dict[str, Source]:
    """The files by role, ``"fixed"``, ``"fixed_labels"``, ``"fixed_2"``, …, and their hashes."""
    names = source_names(name)
    return {names.get(role, f"{name}_{role}"): _source(path) for role, path in side.sources.items()}


def _source(path: Path) -> Source:
    return Source(str(path.resolve()), sha256(path))


def _bodies(fixed: Side, moving: Side, initial: Chain, options: RegistrationOptions) -> tuple[BodyPart, ...]:
    """What does not bend: the labels of rigid bodies, and what is excluded unless it is filled smoothly.

    Raises:
        OptionError: for other options that contradict it.
    """
    parts = []
    if fixed.bodies is not None:
        names = np.unique(fixed.bodies[fixed.bodies != 0])
        parts += [BodyPart(str(name), fixed.bodies == name, fixed.image.grid) for name in names]
    kept = options.exclude_as
    if kept != "smooth":
        if fixed.excluded is None and moving.excluded is None:
            raise OptionError("exclude_as", kept, "nothing is excluded; add fixed_exclude or moving_exclude")
        for name, side in (("fixed", fixed), ("moving", moving)):
            if side.excluded is not None:
                part = BodyPart(f"{name} exclude", side.excluded, side.image.grid, kept, moving=name == "moving")
                parts.append(part)
    field = "rigid" if fixed.bodies is not None else "exclude_as"
    given = fixed.sources.get("rigid", "labels") if fixed.bodies is not None else kept
    against = ""
    if options.transform != "deformable":
        against = f"is for parts of a deformation; use transform=deformable, not {options.transform}"
    elif options.max_displacement is not None:
        against = f"cannot be combined with max_displacement={options.max_displacement:g}: a body moves as a whole"
    elif options.restrict is not None:
        against = f"cannot be combined with restrict={options.restrict}: a body that rotates moves along every axis"
    elif options.preset is not None:
        against = f"cannot be combined with preset={options.preset}"
    elif not initial.is_affine:
        against = "needs an affine initial transform, because a deformation before it would bend the parts"
    elif _overlapping(parts):
        against = "a rigid body and what is excluded overlap; exclude it with exclude_as=smooth, or apart from the body"
    if parts and against:
        raise OptionError(field, given, against)
    return tuple(parts)


def _overlapping(parts: Sequence[BodyPart]) -> bool:
    fixed = [part.region for part in parts if not part.moving]
    return bool(fixed) and bool((np.sum(fixed, axis=0, dtype=np.int16) > 1).any())


def _label_table(path: str | Path | None, fixed: Side, moving: Side) -> Mapping[int, LabelEntry]:
    if path is None:
        return {}
    if fixed.labels is None and moving.labels is None:
        raise OptionError(
            "label_table", path, "describes labels, but there are none; add fixed_labels or moving_labels"
        )
    return read_label_table(path)


def prepared_volume(side: Side, device: torch.device) -> Volume:
    """An image with normalised intensities and its mask, for the engine."""
    values = normalise(torch.as_tensor(side.values).to(device))
    mask = None if side.compared is None else torch.as_tensor(side.compared, dtype=torch.float32, device=device)
    return Volume(values, side.image.grid, mask)


def _cropped(volume: Volume, regions: Sequence[np.ndarray] = ()) -> Volume:
    """The content of a volume with a margin, and all of the regions."""
    low, high = content_box(volume, margin_of(volume.grid))
    for box in (box_of(region, BORDER) for region in regions):
        low = [min(a, side.start) for a, side in zip(low, box, strict=True)]
        high = [max(b, side.stop) for b, side in zip(high, box, strict=True)]
    return crop(volume, low, high)


def moved_onto(volume: Volume, grid: Grid, chain: Chain) -> Volume:
    """A volume and its mask on a grid, whose points the chain maps to those of the volume."""
    channels = chain.resample(volume.channels, volume.grid, grid)
    mask = torch.ones_like(volume.values) if volume.mask is None else volume.mask
    return Volume(channels, grid, chain.resample(mask[None], volume.grid, grid)[0])
