"""The two sides of a registration: images, masks, labels and points, read and validated before the computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.images import Image, ImageLike, check_contrast, read
from maxca.io.landmarks import paired
from maxca.io.points import SAY_SPACE, Points, read_points
from maxca.io.transforms import read_transform
from maxca.options import MatrixConvention
from maxca.registration.bodies import bodies_of
from maxca.registration.channels import listed, read_channels
from maxca.registration.exclusion import exclusion_of, filled, remaining
from maxca.registration.labels import labels_of
from maxca.registration.masks import mask_of
from maxca.registration.placement import placed

ROLES = ("image", "mask", "labels", "points", "exclude", "rigid")  # of the files of a side
ACROSS = 45.0  # degrees: largest angle between the planes of two slices


@dataclass(frozen=True, eq=False)
class SideInputs:
    """One image of a pair with its mask, labels and points, as files or objects to read.

    Args:
        image: argument of ``maxca.read_image``, or a list of these: several channels.
        mask: an image, non-zero where the similarity is computed.
        labels: an image of integers.
        points: a file, or (N, 3) world points in RAS+ mm.
        exclude: an image, non-zero where the image is ignored.
        rigid: an image of labels, each a rigid body; for the fixed image.
    """

    image: ImageLike | Sequence[ImageLike]
    mask: ImageLike | None = None
    labels: ImageLike | None = None
    points: str | Path | np.ndarray | Points | None = None
    exclude: ImageLike | None = None
    rigid: ImageLike | None = None


@dataclass(frozen=True, eq=False)
class Side:
    """One image of a pair with its mask, labels and points.

    Args:
        image: the scan; of several channels, the first.
        mask: (I, J, K) bool on its grid: where the similarity is computed, except in what is excluded.
        labels: (I, J, K) integers on its grid.
        points: landmarks in its world space.
        sources: the files of these, under the names of ``ROLES``, and further channels under ``"2"``, ``"3"``, ….
        warnings: corrections and suspicious properties, one line each.
        labels_given: the labels on their original grid, if that is another, so that they are interpolated once.
        excluded: (I, J, K) bool on its grid: what is ignored.
        bodies: (I, J, K) integers on its grid: labels of rigid bodies.
        further: the channels after the first, on their own grids.
    """

    image: Image
    mask: np.ndarray | None = None
    labels: np.ndarray | None = None
    points: Points | None = None
    sources: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    labels_given: Image | None = None
    excluded: np.ndarray | None = None
    bodies: np.ndarray | None = None
    further: tuple[Image, ...] = ()

    @property
    def compared(self) -> np.ndarray | None:
        """(I, J, K) bool: where the similarity is computed; None for everywhere."""
        return remaining(self.mask, self.excluded, self.image)

    @property
    def values(self) -> np.ndarray:
        """(I, J, K) float32: the image, with what is excluded replaced by its surroundings."""
        return filled(self.image.data.astype(np.float32), self.excluded, self.image.grid.spacing)

    @property
    def label_image(self) -> Image | None:
        """The labels to warp, as an image."""
        if self.labels_given is not None or self.labels is None:
            return self.labels_given
        return replace(self.image, data=self.labels)


def read_side(
    name: str,
    image: ImageLike | Sequence[ImageLike],
    mask: ImageLike | None = None,
    labels: ImageLike | None = None,
    points: str | Path | np.ndarray | Points | None = None,
    exclude: ImageLike | None = None,
    rigid: ImageLike | None = None,
) -> Side:
    """Read one side of a pair.

    Args:
        name: ``"fixed"`` or ``"moving"``, for messages.
        image: argument of ``maxca.read_image``, or a list of these: several channels.
        mask: non-zero where the similarity is computed; resampled onto the grid of ``image`` if necessary.
        labels: integers; resampled onto the grid of ``image`` if necessary.
        points: a file, or (N, 3) world points in RAS+ mm.
        exclude: non-zero where the image is ignored; resampled onto the grid of ``image`` if necessary.
        rigid: labels of rigid bodies; resampled onto the grid of ``image`` if necessary.

    Raises:
        MaxcaError: for invalid input.
    """
    images = listed(image)
    scan = read(images[0])
    check_contrast(scan)
    further = read_channels(name, images[1:], scan)
    warnings = [line for each in (scan, *further) for line in each.warnings]
    inside = names = given = left_out = bodies = None
    if mask is not None:
        on_scan = placed(f"{name} mask", read(mask), scan)
        inside, doubts = mask_of(on_scan, name, scan)
        warnings += [*on_scan.warnings, *doubts]
    if exclude is not None:
        on_scan = placed(f"{name} exclusion", read(exclude), scan)
        left_out, doubts = exclusion_of(on_scan, name, scan)
        remaining(inside, left_out, scan)
        warnings += [*on_scan.warnings, *doubts]
    if rigid is not None:
        on_scan = placed("rigid labels", read(rigid), scan)
        bodies, doubts = bodies_of(on_scan, scan)
        warnings += [*on_scan.warnings, *doubts]
    if labels is not None:
        found = read(labels)
        on_scan = placed(f"{name} labels", found, scan)
        names = labels_of(on_scan)
        given = replace(found, data=labels_of(found))
        warnings += on_scan.warnings
    files = dict(zip(ROLES, (images[0], mask, labels, points, exclude, rigid), strict=True))
    files |= {str(number): each for number, each in enumerate(images[1:], start=2)}
    return Side(
        image=scan,
        mask=inside,
        labels=names,
        points=_points(points, name),
        sources={role: Path(p) for role, p in files.items() if isinstance(p, str | Path)},
        warnings=tuple(warnings),
        labels_given=given,
        excluded=left_out,
        bodies=bodies,
        further=further,
    )


def source_names(side: str) -> dict[str, str]:
    """The names of the files of a side in ``result.json``, by role: ``"fixed"``, ``"fixed_mask"``, …, ``"rigid"``.

    Args:
        side: ``"fixed"`` or ``"moving"``, which has no rigid bodies.
    """
    names = {"image": side} | {role: f"{side}_{role}" for role in ROLES if role not in ("image", "rigid")}
    return names | ({"rigid": "rigid"} if side == "fixed" else {})


def paired_points(fixed: Side, moving: Side) -> tuple[Side, Side]:
    """The two sides with corresponding landmarks: row n of one corresponds to row n of the other.

    Raises:
        MaxcaError: for landmarks that cannot be paired, see ``maxca.io.landmarks.paired``.
    """
    if fixed.points is None or moving.points is None:
        return fixed, moving
    files = fixed.sources.get("points", "the fixed points"), moving.sources.get("points", "the moving points")
    found = paired(fixed.points, moving.points, files)
    return (
        replace(fixed, points=found.fixed, warnings=(*fixed.warnings, *found.warnings)),
        replace(moving, points=found.moving),
    )


def check_pair(fixed: Side, moving: Side) -> None:
    """Reject a pair that cannot be registered.

    Raises:
        MaxcaError: for a line of voxels, a slice with a volume, or two slices of different orientation.
    """
    for image in (fixed.image, moving.image):
        if len(image.grid.thin_axes) > 1:
            size = "x".join(map(str, image.grid.shape))
            raise MaxcaError(f"{image.name}: {size} voxels, a single line, but an image or a slice is expected")
    slices = [side.image for side in (fixed, moving) if side.image.grid.thin_axes]
    if len(slices) == 1:
        raise MaxcaError(
            f"{slices[0].name} is a single slice and the other image a volume, which cannot be registered; "
            "extract the matching slice first (in nibabel: image.slicer[:, :, k : k + 1])"
        )
    if slices:
        first, second = (image.grid.direction[:, image.grid.thin_axes[0]] for image in slices)
        degrees = float(np.degrees(np.arccos(min(1.0, abs(float(first @ second))))))
        if degrees > ACROSS:
            raise MaxcaError(
                f"{slices[0].name} and {slices[1].name} are slices whose planes differ by {degrees:.0f} degrees, "
                "but a slice is registered in its plane only; extract slices of one orientation"
            )


def noticed(fixed: Side, moving: Side) -> list[str]:
    """Warnings on the two sides: corrections, suspicious properties, and what cannot be measured."""
    warnings = [*fixed.warnings, *moving.warnings]
    if fixed.image.grid.is_sheared:
        warnings.append(
            f"{fixed.image.name}: its axes are not orthogonal; the deformation is defined on an orthogonal grid around "
            "it"
        )
    warnings += [*_strayed(fixed, "fixed"), *_strayed(moving, "moving")]
    for what, one, other in (
        ("landmarks", fixed.points, moving.points),
        ("labels", fixed.labels, moving.labels),
    ):
        here, there = ("fixed", "moving") if other is None else ("moving", "fixed")
        if (one is None) == (other is None) or (what == "labels" and here == "moving"):
            continue  # moving labels are warped anyway
        role = "points" if what == "landmarks" else what
        file = (fixed if here == "fixed" else moving).sources.get(role, f"the {here} {role}")
        warnings.append(
            f"{file}: {what} of the {here} image alone cannot be compared; add those of the other image, {there}_{role}"
        )
    return warnings


def _strayed(side: Side, name: str) -> list[str]:
    """A warning about landmarks outside their image, whose coordinates are often not RAS."""
    if side.points is None:
        return []
    grid = side.image.grid
    index = grid.to_voxel(side.points.coordinates)
    index[:, list(grid.thin_axes)] = 0
    out = int(((index < -1) | (index > np.array(grid.shape))).any(axis=1).sum())
    if not out:
        return []
    file = side.sources.get("points", f"the {name} points")
    return [
        f"{file}: {out} of {len(index)} landmarks are outside {side.image.name}; check that they are in RAS mm "
        f"({SAY_SPACE})"
    ]


def checked_start(fixed: Side, moving: Side, initial: Chain, start: str) -> tuple[str, list[str]]:
    """The initialisation, and a warning if the images do not overlap according to their headers.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        initial: initial transform, fixed world points → moving world points.
        start: ``"auto"``, ``"header"``, ``"center"`` or ``"given"``, see ``read_initial``.

    Raises:
        MaxcaError: for images that do not overlap after an initialisation chosen by the user.
    """
    if start == "center" or _overlap(fixed.image.grid, moving.image, initial):
        return start, []
    apart = f"{fixed.image.name} and {moving.image.name} do not overlap in world space"
    if start == "auto":
        return "center", [f"{apart}, so their centres of mass were aligned first; inspect the result"]
    raise MaxcaError(
        f"{apart} with that initialisation; check their headers and the transform, or remove initial_transform"
    )


def read_initial(
    initial: str | Path | Chain | None,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> tuple[Chain, str]:
    """The initial chain, and the kind of initialisation: ``"auto"``, ``"header"`` or ``"center"``.

    Args:
        initial: a file, a chain, one of these words, or None.
        matrix_convention: convention of a bare 4x4 matrix, see ``maxca.io.transforms.read_transform``.
        images: the grids of the fixed and the moving image.
    """
    if initial is None:
        return Chain(), "auto"
    if isinstance(initial, Chain):
        return initial.simplified(), "given"
    if str(initial) in ("header", "center"):
        return Chain(), str(initial)
    return read_transform(initial, matrix_convention, images).simplified(), "given"


def _points(points: str | Path | np.ndarray | Points | None, name: str) -> Points | None:
    if points is None:
        return None
    if isinstance(points, str | Path):
        found = read_points(points)
    else:
        found = points if isinstance(points, Points) else Points(np.asarray(points))
    if not len(found.coordinates):
        source = points if isinstance(points, str | Path) else f"the {name} points"
        raise MaxcaError(f"{source}: contains no points; add landmarks, or remove the option")
    return found


def _overlap(fixed: Grid, moving: Image, start: Chain) -> bool:
    axes = [np.unique(np.linspace(0, n - 1, 24)) for n in fixed.shape]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    index = moving.grid.to_voxel(start.map_points(fixed.to_world(nodes)))
    index[:, list(moving.grid.thin_axes)] = 0
    shape = np.array(moving.grid.shape)
    return bool(((index >= -0.5) & (index <= shape - 0.5)).all(axis=1).any())
