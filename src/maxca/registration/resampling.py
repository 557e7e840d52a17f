"""Application of transforms to images and points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid, Interpolation
from maxca.geometry.jacobian import jacobian_determinant
from maxca.io.atomic import full_suffix
from maxca.io.form import Form
from maxca.io.images import Image, ImageLike, read
from maxca.io.nifti import MGH_SUFFIXES, NIFTI_SUFFIXES, nifti_grid, open_nifti
from maxca.io.points import Points, read_points
from maxca.io.regular import check_regular
from maxca.io.transforms import read_transform
from maxca.io.voxels import cast
from maxca.options import MatrixConvention
from maxca.registration.interpolation import InterpolationChoice, background, choose
from maxca.registration.labels import as_labels

OneTransform = str | Path | Chain | Affine | DenseField
Transforms = OneTransform | Sequence[OneTransform]


def apply(
    image: ImageLike,
    reference: ImageLike,
    transforms: Transforms,
    interpolation: InterpolationChoice = "auto",
    matrix_convention: MatrixConvention | None = None,
    fill: float | None = None,
    modulate: bool = False,
) -> Image:
    """Resample an image onto a reference grid through one or several transforms, interpolating it once.

    Args:
        image: to resample, in moving space; see ``maxca.read_image``.
        reference: an image in fixed space that defines the grid of the result.
        transforms: a file, a chain, an affine or a field, or several of these, each fixed world points → moving
            world points, in the order of ``antsApplyTransforms`` (``-t warp -t affine``): a point of the reference
            passes through the first one first.
        interpolation: ``"linear"``, ``"nearest"``, ``"labels"`` (integers, each label interpolated linearly, the
            largest weight wins), ``"bspline"`` (cubic), or ``"auto"``: ``"labels"`` for a detected label map,
            otherwise ``"linear"``; see ``maxca.registration.interpolation.choose``.
        matrix_convention: convention of a text file with a bare 4x4 matrix: ``"ras"`` (fixed to moving, RAS mm) or
            ``"fsl"`` (FLIRT, for this image and this reference; then the only transform).
        fill: the value outside the image's field of view; by default the background of the image (0 for labels, −1024
            in a CT image).
        modulate: multiply the result by the determinant of the Jacobian, so that the integral of the image over any
            region is kept: for the signal of a distorted EPI, or for volumes of tissue.

    Returns:
        The image on the reference grid, in its own data type, with the header fields of the reference.

    Raises:
        MaxcaError: for files that cannot be read, or labels that should be modulated.
    """
    source, target = read(image), read(reference)
    chain = join(transforms, matrix_convention, (target.grid, source.grid))
    chosen = choose(source, interpolation).interpolation
    return resample(source, target.grid, chain, chosen, fill, target.form, modulate=modulate)


def apply_points(
    points: str | Path | np.ndarray | Points,
    transforms: Transforms,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> Points:
    """Map points from fixed space to moving space.

    To map points of the moving image into fixed space, pass the inverse transform.

    Args:
        points: a file, or (N, 3) world points in RAS+ mm.
        transforms: as for ``apply``: a point passes through the first one first.
        matrix_convention: convention of a text file with a bare 4x4 matrix, as for ``apply``.
        images: the grids of the fixed and the moving image, for a transform of FSL or AFNI; see ``grids_of``.

    Raises:
        MaxcaError: for files that cannot be read.
    """
    if not isinstance(points, Points):
        points = Points(points) if isinstance(points, np.ndarray) else read_points(points)
    return points.moved_to(join(transforms, matrix_convention, images).map_points(points.coordinates))


def compose(
    transforms: Transforms,
    reference: ImageLike | None = None,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> Chain:
    """One chain from several files or chains, in the order of ``apply``.

    Args:
        transforms: each fixed world points → moving world points.
        reference: an image in fixed space; the chain becomes one displacement field on its grid, or on an orthogonal
            one around it if it is sheared.
        matrix_convention: convention of a text file with a bare 4x4 matrix, as for ``apply``.
        images: the grids of the fixed and the moving image, for a transform of FSL or AFNI; see ``grids_of``.
    """
    chain = join(transforms, matrix_convention, images)
    return chain if reference is None else Chain((chain.field_on(read(reference).grid.upright),), chain.dimension)


def grids_of(fixed: ImageLike | None, moving: ImageLike | None) -> tuple[Grid, Grid] | None:
    """The grids of the two images of a transform; None where they are not given.

    Raises:
        MaxcaError: for one image without the other, or one that cannot be read.
    """
    if fixed is None and moving is None:
        return None
    if fixed is None or moving is None:
        raise MaxcaError("a transform has a fixed and a moving image; pass fixed=FILE and moving=FILE, or neither")
    return grid_of(fixed), grid_of(moving)


def grid_of(image: ImageLike) -> Grid:
    """The grid of an image; of a file in NIfTI or MGH only the header is read, and it may be a series."""
    if isinstance(image, str | Path) and full_suffix(Path(image)) in (*NIFTI_SUFFIXES, *MGH_SUFFIXES):
        check_regular(Path(image))
        return nifti_grid(open_nifti(Path(image)), Path(image))
    return read(image).grid


class JacobianSummary(NamedTuple):
    """Jacobian determinants over a grid: mm³ of moving space per mm³ of fixed space."""

    min: float
    mean: float
    max: float
    nonpositive_percent: float


def jacobian(
    transforms: Transforms,
    reference: ImageLike,
    matrix_convention: MatrixConvention | None = None,
) -> tuple[Image, JacobianSummary]:
    """The determinant of the Jacobian of the fixed → moving map at each voxel of a reference image in fixed space."""
    image = read(reference)
    values = jacobian_determinant(join(transforms, matrix_convention), image.grid).numpy()
    summary = (values.min(), values.mean(dtype=np.float64), values.max(), 100 * (values <= 0).mean())
    return Image(values, image.grid, form=image.form), JacobianSummary(*map(float, summary))


def join(
    transforms: Transforms,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> Chain:
    """One chain from several files or chains; the first of the list is applied to the fixed point first.

    Args:
        transforms: each fixed world points → moving world points.
        matrix_convention: of a bare 4x4 matrix, see ``read_transform``.
        images: the grids of the fixed and the moving image; with several transforms, a file of
            FSL or AFNI is not supported, because it need not be between these two.
    """
    given = [transforms] if isinstance(transforms, OneTransform) else list(transforms)
    images = images if len(given) == 1 else None
    chain = Chain()
    for transform in given:
        if isinstance(transform, str | Path):
            each = read_transform(transform, matrix_convention, images)
        else:
            each = transform if isinstance(transform, Chain) else Chain((transform,))
        chain = each @ chain
    return chain.simplified()


def resample(
    image: Image,
    reference: Grid,
    chain: Chain,
    interpolation: Interpolation = "linear",
    fill: float | None = None,
    form: Form | None = None,
    *,
    modulate: bool = False,
) -> Image:
    """Resample an image onto a grid through a chain, fixed world points → moving world points.

    Args:
        image: in moving space.
        reference: the grid of the result, in fixed space.
        chain: fixed world points → moving world points.
        interpolation: see ``apply``.
        fill: see ``apply``.
        form: header fields of the reference, for the result.
        modulate: see ``apply``.

    Returns:
        The image on the reference grid, in its own type; a warning if no part of it falls onto the grid.
    """
    data = as_labels(image) if interpolation == "labels" else image.data
    counted = interpolation in ("labels", "nearest")
    if modulate and counted:
        raise MaxcaError(f"{image.name}: only intensities are modulated; use linear or bspline, not {interpolation}")
    volume = torch.from_numpy(np.ascontiguousarray(_for_torch(data, counted)))
    outside = fill_of(image, interpolation) if fill is None else fill
    check_fill(outside, image)
    warped = chain.resample(volume[None], image.grid, reference, interpolation, outside)[0].numpy()
    if modulate:
        warped = warped * jacobian_determinant(chain, reference).numpy()
    # uint64 is processed as the int64 of the same bits: such values are compared and copied, never added.
    values = warped.view(np.uint64) if counted and data.dtype == np.uint64 else cast(warped, image.dtype)
    nothing = bool((values == cast(np.array(outside), values.dtype)).all())
    missed = f"{image.name}: no part of it falls onto the reference; check the transform, its direction and the headers"
    warnings = (missed,) if nothing and image.data.min() < image.data.max() else ()
    return Image(values, reference, form=form or Form(), intent=image.intent, warnings=warnings)


def fill_of(image: Image, interpolation: Interpolation) -> float:
    """The value outside the field of view of an image: 0 for labels, otherwise its background."""
    counted = interpolation == "labels" or (interpolation == "nearest" and choose(image).interpolation == "labels")
    return 0.0 if counted else background(image)


def check_fill(fill: float, image: Image) -> None:
    """Reject a fill value outside the range of the voxel type.

    Raises:
        MaxcaError: for a value outside the range of its type.
    """
    if image.dtype.kind in "iu" and not np.iinfo(image.dtype).min <= fill <= np.iinfo(image.dtype).max:
        raise MaxcaError(f"fill {fill:g}: {image.name} has voxels of type {image.dtype}, which cannot represent it")


def _for_torch(data: np.ndarray, counted: bool) -> np.ndarray:
    """Convert unsigned types that torch does not support."""
    if data.dtype == np.uint64:
        return data.view(np.int64) if counted else data.astype(np.float64)
    wider = {"uint16": np.int32, "uint32": np.int64}
    return data.astype(wider[data.dtype.name]) if data.dtype.name in wider else data
