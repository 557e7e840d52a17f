"""The two sides of a registration: images with what belongs to them, read and checked before any work starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.digest import sha256
from maxca.io.images import Image, check_contrast, read
from maxca.io.landmarks import paired
from maxca.io.nifti import is_sheared
from maxca.io.points import Points, read_points
from maxca.io.transforms import read_transform
from maxca.io.transforms.matrix import MatrixConvention

LEAST_EXTENT = 4  # voxels of a mask along each axis: fewer hold nothing to align by
LARGEST_LABEL = 2**53  # up to here every whole number has a float64 of its own
ImageLike = Any  # a path, a maxca.Image, or an image of nibabel or SimpleITK


@dataclass(frozen=True, eq=False)
class Side:
    """One image of a pair and what lies in its space.

    Args:
        image: the scan.
        mask: (I, J, K) bool on its grid: where the similarity counts.
        labels: (I, J, K) whole numbers on its grid.
        points: landmarks in its world space.
        sources: the files all this came from, under ``"image"``, ``"mask"``, ``"labels"`` and ``"points"``.
    """

    image: Image
    mask: np.ndarray | None = None
    labels: np.ndarray | None = None
    points: Points | None = None
    sources: Mapping[str, Path] = field(default_factory=dict)


def read_side(
    name: str,
    image: ImageLike,
    mask: ImageLike | None = None,
    labels: ImageLike | None = None,
    points: str | Path | np.ndarray | Points | None = None,
) -> Side:
    """Read one side of a pair.

    Args:
        name: ``"fixed"`` or ``"moving"``, for messages.
        image: what ``maxca.read_image`` takes.
        mask: non-zero where the similarity counts; on the grid of ``image``.
        labels: whole numbers; on the grid of ``image``.
        points: a file, or (N, 3) world points in RAS+ mm.

    Raises:
        MaxcaError: naming the file and what is wrong with it.
    """
    scan = read(image)
    check_contrast(scan)
    mask_image = None if mask is None else _on_same_grid(f"{name} mask", read(mask), scan)
    label_image = None if labels is None else _on_same_grid(f"{name} labels", read(labels), scan)
    return Side(
        image=scan,
        mask=None if mask_image is None else _mask_of(mask_image, name),
        labels=None if label_image is None else _labels_of(label_image),
        points=_points(points, name),
        sources={
            role: Path(p)
            for role, p in (("image", image), ("mask", mask), ("labels", labels), ("points", points))
            if isinstance(p, str | Path)
        },
    )


def _mask_of(image: Image, name: str) -> np.ndarray:
    """Where a mask is not zero: enough of the image to align by."""
    mask = image.data != 0
    if not mask.any():
        raise MaxcaError(f"{image.name}: the {name} mask is empty; mark the region to align with non-zero voxels")
    found = np.argwhere(mask)
    extent = found.max(axis=0) - found.min(axis=0) + 1
    short = [axis for axis, n in enumerate(mask.shape) if extent[axis] < min(n, LEAST_EXTENT)]
    if short:
        size = "x".join(map(str, extent))
        raise MaxcaError(
            f"{image.name}: the {name} mask covers {len(found)} voxels, {size} along the axes, too few to align by; "
            f"mark a region of at least {LEAST_EXTENT} voxels along each axis, or leave the mask out"
        )
    return mask


def _labels_of(image: Image) -> np.ndarray:
    labels = as_labels(image)
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise MaxcaError(
            f"{image.name}: holds the label {labels.min()}, and labels are whole numbers from 0, the background, up; "
            "give that region another number"
        )
    return labels


def as_labels(image: Image) -> np.ndarray:
    """Voxels as whole numbers.

    Raises:
        MaxcaError: when a voxel is not a whole number.
    """
    if np.issubdtype(image.data.dtype, np.integer):
        return image.data
    rounded = np.rint(image.data)
    if not np.allclose(rounded, image.data, rtol=0, atol=1e-3):
        raise MaxcaError(f"{image.name}: labels must be whole numbers; pass an image of labels, not of intensities")
    largest = float(np.abs(rounded).max())
    if largest > LARGEST_LABEL:
        raise MaxcaError(
            f"{image.name}: labels up to {largest:.3g}, which a float cannot tell apart; use an integer type"
        )
    return rounded.astype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def paired_points(fixed: Side, moving: Side) -> tuple[Side, Side]:
    """The two sides with their landmarks in one order: row n of one is row n of the other.

    Raises:
        MaxcaError: for landmarks that do not pair up, see ``maxca.io.landmarks.paired``.
    """
    if fixed.points is None or moving.points is None:
        return fixed, moving
    files = fixed.sources.get("points", "the fixed points"), moving.sources.get("points", "the moving points")
    ours, theirs = paired(fixed.points, moving.points, files)
    return replace(fixed, points=ours), replace(moving, points=theirs)


def check_pair(fixed: Side, moving: Side, *, deformable: bool) -> None:
    """Refuse a pair that cannot be registered.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        deformable: whether a field will be written on the grid of the fixed image.

    Raises:
        MaxcaError: for a slice with a volume, landmarks for one image only, or a sheared grid that no field lies on.
    """
    if deformable and is_sheared(fixed.image.grid):
        raise MaxcaError(
            f"{fixed.image.name}: its axes are not at right angles, and ITK's displacement fields cannot lie on such a "
            "grid; resample it to an upright one, or use --transform affine"
        )
    if len(fixed.image.grid.thin_axes) != len(moving.image.grid.thin_axes):
        slices = [side.image.name for side in (fixed, moving) if side.image.grid.thin_axes]
        raise MaxcaError(
            f"{' and '.join(slices)} is a single slice and the other image a volume, and the two are not registered; "
            "extract the matching slice first (in nibabel: image.slicer[:, :, k : k + 1])"
        )
    if (fixed.points is None) != (moving.points is None):
        raise MaxcaError("landmarks were given for one image only; pass --fixed-points and --moving-points")


def checked_start(fixed: Side, moving: Side, initial: Chain, start: str) -> tuple[str, list[str]]:
    """How to search around the start, and a warning where the headers put the images apart.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        initial: where the registration starts, fixed world points → moving world points.
        start: ``"auto"``, ``"header"``, ``"center"`` or ``"given"``, see ``read_initial``.

    Raises:
        MaxcaError: for images apart in world space where the user decided for a start.
    """
    if start == "center" or _overlap(fixed.image.grid, moving.image, initial):
        return start, []
    apart = f"{fixed.image.name} and {moving.image.name} do not overlap in world space"
    if start == "auto":
        return "center", [f"{apart}, so their centres of mass were put on each other first; look at the result"]
    raise MaxcaError(
        f"{apart} from that start; check their headers and the transform, or leave --initial-transform out"
    )


def read_initial(
    initial: str | Path | Chain | None,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> tuple[Chain, str]:
    """The chain to start from, and how to search around it: ``"auto"``, ``"header"`` or ``"center"``.

    Args:
        initial: a file, a chain, one of these words, or nothing.
        matrix_convention: what a file with a bare 4x4 matrix means, see ``maxca.io.transforms.read_transform``.
        images: the grids of the fixed and the moving image.
    """
    if initial is None:
        return Chain(), "auto"
    if isinstance(initial, Chain):
        return initial.simplified(), "given"
    if str(initial) in ("header", "center"):
        return Chain(), str(initial)
    return read_transform(initial, matrix_convention, images).simplified(), "given"


def identified(path: Path) -> dict[str, str]:
    """Where a file or folder is, and its SHA-256."""
    return {"path": str(path.resolve()), "sha256": sha256(path)}


def _on_same_grid(name: str, image: Image, scan: Image) -> Image:
    if not image.grid.same_as(scan.grid):
        raise MaxcaError(
            f"{image.name}: the {name} lie on a grid of {_text(image.grid)}, their image on {_text(scan.grid)}; "
            f"bring them there first: {_command(image.name, scan.name)}"
        )
    return image


def _command(image: str, reference: str) -> str:
    """What resamples an image by its header onto the grid of another."""
    return shlex.join(
        ["maxca", "apply", "-i", image, "-r", reference, "--interpolation", "nearest", "-o", "regridded.nii.gz"]
    )


def _text(grid: Grid) -> str:
    size = "x".join(str(n) for n in grid.shape)
    spacing = "x".join(f"{s:.3g}" for s in grid.spacing)
    origin = ", ".join(f"{o:.4g}" for o in grid.origin)
    return f"{size} voxels of {spacing} mm from ({origin})"


def _points(points: str | Path | np.ndarray | Points | None, name: str) -> Points | None:
    if points is None:
        return None
    if isinstance(points, str | Path):
        found = read_points(points)
    else:
        found = points if isinstance(points, Points) else Points(np.asarray(points))
    if not len(found.coordinates):
        source = points if isinstance(points, str | Path) else f"the {name} points"
        raise MaxcaError(f"{source}: holds no points; add landmarks, or leave it out")
    return found


def _overlap(fixed: Grid, moving: Image, start: Chain) -> bool:
    axes = [np.unique(np.linspace(0, n - 1, 24)) for n in fixed.shape]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    index = moving.grid.to_voxel(start.map_points(fixed.to_world(nodes)))
    index[:, list(moving.grid.thin_axes)] = 0
    shape = np.array(moving.grid.shape)
    return bool(((index >= -0.5) & (index <= shape - 0.5)).all(axis=1).any())
