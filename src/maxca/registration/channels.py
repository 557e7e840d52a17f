"""Several channels of a pair, such as T1 and T2 of two patients: reading, validation and preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maxca.engine.volume import foreground
from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.images import Image, ImageLike, check_contrast, read
from maxca.registration.placement import share_inside

PARALLEL = 0.02  # largest sine of the angle between two slices of one plane
COVERED = 0.9  # fraction of the foreground of the first channel that another one normally shows


def listed(image: ImageLike | Sequence[ImageLike]) -> tuple[ImageLike, ...]:
    """The channels of a side: a list of images, or a single image.

    Raises:
        MaxcaError: for an empty list.
    """
    images = tuple(image) if isinstance(image, list) else (image,)
    if not images:
        raise MaxcaError("an empty list of channels; give at least one fixed and one moving image")
    return images


def read_channels(name: str, images: Sequence[ImageLike], first: Image) -> tuple[Image, ...]:
    """Read the channels of a side after the first.

    Args:
        name: ``"fixed"`` or ``"moving"``, for messages.
        images: arguments of ``maxca.read_image``.
        first: the first channel.

    Returns:
        The images on their own grids, with a warning if a part of the content of the first is outside them.

    Raises:
        MaxcaError: for an image that is constant, of another dimension, or at another position.
    """
    found = []
    for number, source in enumerate(images, start=2):
        image = read(source)
        check_contrast(image)
        role = f"channel {number} of the {name} image"
        found.append(_placed(role, _in_plane(role, image, first), first))
    return tuple(found)


def check_counts(fixed: int, moving: int) -> None:
    """Reject two sides with different numbers of channels.

    Raises:
        MaxcaError: for different numbers.
    """
    if fixed != moving:
        raise MaxcaError(
            f"the fixed image has {fixed} channel{'s' * (fixed != 1)} and the moving one {moving}; give the same "
            "number on both sides, in the same order, such as T1 and T2 of each"
        )


def _in_plane(role: str, image: Image, first: Image) -> Image:
    """The image; a slice is moved along its normal exactly into the plane of the first channel.

    Raises:
        MaxcaError: for a slice with a volume, or a slice of another plane.
    """
    slices = [bool(each.grid.thin_axes) for each in (image, first)]
    if slices[0] != slices[1]:
        kinds = ["a single slice" if each else "a volume" for each in slices]
        raise MaxcaError(
            f"{image.name}: {role} is {kinds[0]}, and its first channel, {first.name}, {kinds[1]}; "
            "channels show the same object in the same dimensions"
        )
    if not slices[0]:
        return image
    grid = image.grid
    normal, other = (each.direction[:, each.thin_axes[0]] for each in (first.grid, grid))
    apart = float(normal @ (first.grid.origin - grid.origin))
    thickness = [each.spacing[each.thin_axes[0]] for each in (first.grid, grid)]
    if float(np.linalg.norm(np.cross(normal, other))) > PARALLEL or abs(apart) > sum(thickness) / 2:
        raise MaxcaError(
            f"{image.name}: {role} is a slice of another plane than its first channel, {first.name}; "
            "extract the same slice"
        )
    affine = grid.affine.copy()
    affine[:3, 3] += normal * apart
    return replace(image, grid=Grid(grid.shape, affine))


def _placed(role: str, image: Image, first: Image) -> Image:
    """The image, with a warning if a part of the content of the first channel is outside it.

    Raises:
        MaxcaError: if all of it is.
    """
    share = share_inside(replace(first, data=foreground(first.data)), image.grid)
    if share == 0:
        raise MaxcaError(
            f"{image.name}: {role} does not overlap its first channel, {first.name}, in world space; "
            "check both headers, or register one to the other first"
        )
    if share >= COVERED:
        return image
    text = (
        f"{image.name}: {role} shows {100 * share:.0f} % of the content of {first.name}; elsewhere the other "
        "channels alone are compared"
    )
    return replace(image, warnings=(*image.warnings, text))
