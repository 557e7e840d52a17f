"""Application of transforms to files of points, surfaces and tractograms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.points import SUFFIXES as POINTS
from maxca.io.points import write_points
from maxca.io.space import Space
from maxca.io.stored import check_written
from maxca.io.surfaces import SUFFIXES as SURFACES
from maxca.io.surfaces import is_surface, read_surface
from maxca.io.surfaces.mesh import Mesh
from maxca.io.tractograms import SUFFIXES as TRACTOGRAMS
from maxca.io.tractograms import move_tractogram
from maxca.options import MatrixConvention
from maxca.registration.resampling import Transforms, apply_points, join

Kind = Literal["points", "surface", "tractogram"]
FORMATS: dict[Kind, tuple[str, ...]] = {"points": POINTS, "surface": SURFACES, "tractogram": TRACTOGRAMS}
KNOWN = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
Map = Callable[[np.ndarray], np.ndarray]
STEP = 1e-3  # of the extent of a surface: finite differences for its normals


class Moved(NamedTuple):
    """What was moved.

    Args:
        number: of points, vertices or streamlines.
        what: which of these.
        warnings: what was kept as stored, one line each.
    """

    number: int
    what: str
    warnings: tuple[str, ...] = ()


def apply_geometry(
    source: str | Path,
    out: str | Path,
    transforms: Transforms,
    space: Space | None = None,
    matrix_convention: MatrixConvention | None = None,
    images: tuple[Grid, Grid] | None = None,
) -> Moved:
    """Map the points, vertices or streamlines of a file from fixed space to moving space.

    To map a file in moving space into fixed space, pass the inverse transform. The output has the format of the input;
    everything in it but the positions and the normals is kept.

    Args:
        source: points, a surface or a tractogram.
        out: the file to write.
        transforms: as for ``maxca.apply``: a point passes through the first one first.
        space: ``"ras"`` or ``"lps"``, for a surface whose file does not declare its coordinates.
        matrix_convention: convention of a text file with a bare 4x4 matrix, as for ``maxca.apply``.
        images: the grids of the fixed and the moving image, for a transform of FSL or AFNI.

    Raises:
        MaxcaError: for files that cannot be read or written, or an output of another format.
    """
    source, out = Path(source), Path(out)
    kind = check_same_format(source, out)
    if space is not None and kind != "surface":
        raise MaxcaError(f"{source}: its format defines its coordinates; leave out space={space}")
    if kind == "points":
        points = apply_points(source, transforms, matrix_convention, images)
        write_points(points, out)
        return Moved(len(points.coordinates), "points")
    if kind == "tractogram":
        chain = join(transforms, matrix_convention, images)
        with atomic_path(out) as temporary:
            number, warnings = move_tractogram(source, temporary, chain.map_points)
        return Moved(number, "streamlines", tuple(f"{source}: {warning}" for warning in warnings))
    mesh = read_surface(source, space)
    content = moved_surface(mesh, join(transforms, matrix_convention, images))
    with atomic_path(out) as temporary:
        temporary.write_bytes(content)
        check_written(temporary, len(content), packed=False)
    return Moved(len(mesh.vertices), "vertices", tuple(f"{source}: {warning}" for warning in mesh.warnings))


def check_same_format(source: Path, out: Path) -> Kind:
    """Check before a computation that an output has the format of the input, and what that is.

    Raises:
        MaxcaError: for an unknown format, or an output with the suffix of another one.
    """
    suffix, wanted = full_suffix(source), full_suffix(out)
    kind = next((kind for kind, suffixes in FORMATS.items() if suffix in suffixes), None)
    if kind is not None:
        allowed = FORMATS[kind] if kind == "points" else (suffix,)
        if wanted not in allowed:
            listed = " or ".join(allowed)
            raise MaxcaError(f"{out}: the output ends in {listed}, like the input; use one of these suffixes")
        return kind
    if not is_surface(source):
        raise MaxcaError(
            f"{source}: not points, a surface or a tractogram ({', '.join(KNOWN)}, or a FreeSurfer surface); convert it"
        )
    if wanted in KNOWN:
        raise MaxcaError(f"{out}: the input is a FreeSurfer surface, and so is the output; choose another suffix")
    return "surface"


def moved_surface(mesh: Mesh, chain: Chain) -> bytes:
    """The content of a surface file with its vertices, and their normals, mapped from fixed to moving space."""
    frame = np.eye(4) if mesh.frame is None else mesh.frame
    back = np.linalg.inv(frame)

    def moved(points: np.ndarray) -> np.ndarray:
        return _affine(back, chain.map_points(_affine(frame, points)))

    normals = None
    if mesh.normals is not None:
        places = mesh.vertices if mesh.owners is None else mesh.vertices[mesh.owners]
        extent = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0))) if len(mesh.vertices) else 0.0
        normals = _moved_normals(moved, places, mesh.normals, STEP * (extent or 1.0))
    return mesh.written(moved(mesh.vertices), normals)


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _moved_normals(moved: Map, places: np.ndarray, normals: np.ndarray, step: float) -> np.ndarray:
    """Unit normals of the mapped surface: J⁻ᵀn, with the Jacobian J of the map by central differences.

    The cross product of two mapped tangents is det(J) J⁻ᵀn.

    Args:
        moved: the map of points.
        places: (M, 3) where the normals are.
        normals: (M, 3) of any length; those of length 0 stay.
        step: of the differences.
    """
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = normals / np.where(length > 0, length, 1)
    least = np.eye(3)[np.abs(unit).argmin(axis=1)]  # the axis that is least parallel
    first = np.cross(unit, least)
    first /= np.where(length > 0, np.linalg.norm(first, axis=1, keepdims=True), 1)
    along, second, third = (
        moved(places + step * way) - moved(places - step * way) for way in (first, np.cross(unit, first), unit)
    )
    mapped = np.cross(along, second)
    mapped *= np.sign((mapped * third).sum(axis=1, keepdims=True))
    size = np.linalg.norm(mapped, axis=1, keepdims=True)
    return np.where((length > 0) & (size > 0), mapped / np.where(size > 0, size, 1), 0)
