"""The two sides of a registration: images with what belongs to them, read and checked before any work starts."""

from __future__ import annotations

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
from maxca.io.points import Points, read_points
from maxca.io.transforms import read_transform
from maxca.io.transforms.matrix import MatrixConvention

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
    if mask_image is not None and not mask_image.data.any():
        raise MaxcaError(f"{mask_image.name}: the {name} mask is empty; mark the region to align with non-zero voxels")
    return Side(
        image=scan,
        mask=None if mask_image is None else mask_image.data != 0,
        labels=None if label_image is None else as_labels(label_image),
        points=_points(points),
        sources={
            role: Path(p)
            for role, p in (("image", image), ("mask", mask), ("labels", labels), ("points", points))
            if isinstance(p, str | Path)
        },
    )


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


def check_pair(fixed: Side, moving: Side, start: Chain, *, must_overlap: bool) -> None:
    """Refuse a pair that cannot be registered.

    Args:
        fixed: the fixed side.
        moving: the moving side.
        start: where the registration starts, fixed world points → moving world points.
        must_overlap: refuse images that share no point of world space.

    Raises:
        MaxcaError: for a 2-D with a 3-D image, landmarks for one image only, or images apart in world space.
    """
    if len(fixed.image.grid.thin_axes) != len(moving.image.grid.thin_axes):
        slices = [side.image.name for side in (fixed, moving) if side.image.grid.thin_axes]
        raise MaxcaError(
            f"{' and '.join(slices)} is a single slice and the other image a volume, and the two are not registered; "
            "extract the matching slice first (in nibabel: image.slicer[:, :, k : k + 1])"
        )
    if (fixed.points is None) != (moving.points is None):
        raise MaxcaError("landmarks were given for one image only; pass --fixed-points and --moving-points")
    if must_overlap and not _overlap(fixed.image.grid, moving.image, start):
        raise MaxcaError(
            f"{fixed.image.name} and {moving.image.name} do not overlap in world space; check their headers, or pass "
            "--initial-transform center to put their centres of mass on each other"
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
            f"bring them there first: maxca apply -i {image.name} -r {scan.name} --interpolation nearest -o OUT"
        )
    return image


def _text(grid: Grid) -> str:
    size = "x".join(str(n) for n in grid.shape)
    spacing = "x".join(f"{s:.3g}" for s in grid.spacing)
    origin = ", ".join(f"{o:.4g}" for o in grid.origin)
    return f"{size} voxels of {spacing} mm from ({origin})"


def _points(points: str | Path | np.ndarray | Points | None) -> Points | None:
    if points is None or isinstance(points, Points):
        return points
    return read_points(points) if isinstance(points, str | Path) else Points(np.asarray(points))


def _overlap(fixed: Grid, moving: Image, start: Chain) -> bool:
    axes = [np.unique(np.linspace(0, n - 1, 24)) for n in fixed.shape]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    index = moving.grid.to_voxel(start.map_points(fixed.to_world(nodes)))
    index[:, list(moving.grid.thin_axes)] = 0
    shape = np.array(moving.grid.shape)
    return bool(((index >= -0.5) & (index <= shape - 0.5)).all(axis=1).any())
