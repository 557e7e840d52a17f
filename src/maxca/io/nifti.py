"""NIfTI and FreeSurfer's MGH files: where an image lies and its voxels; nothing is believed that a file cannot hold."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError, SpatialImage

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.atomic import atomic_path
from maxca.io.form import Form
from maxca.io.voxels import DEFLATE_LIMIT, check_size, plain

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
MGH_SUFFIXES = (".mgz", ".mgh")
COMPRESSED = (".gz", ".bz2", ".mgz")
UNIT_MM = {"meter": 1000.0, "micron": 0.001}
LARGEST_SIZE = 2**15 - 1  # of an axis in NIfTI-1
SHEAR_TOLERANCE = 1e-4
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


def image_of(nifti: SpatialImage, path: Path | None) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Voxels (I, J, K), grid and warnings of a NIfTI image of two or three dimensions.

    Raises:
        MaxcaError: for more dimensions, colours or complex numbers, a header without a place, a damaged file.
    """
    name = path or "the image"
    shape = tuple(int(n) for n in nifti.shape)
    if len(shape) < 2 or min(shape) < 1:
        raise MaxcaError(f"{name}: a shape of {shape} is not an image; convert it again")
    if any(n > 1 for n in shape[3:]):
        raise MaxcaError(
            f"{name}: {len(shape)}-D, shape {shape}, where a 3-D image is meant; extract one of its "
            f"{int(np.prod(shape[3:]))} volumes first (the first one in nibabel: image.slicer[:, :, :, 0])"
        )
    if nifti.get_data_dtype().kind not in "iufb":
        raise MaxcaError(f"{name}: voxels are {_type_name(nifti)}, not real numbers; convert it to one grey value")
    grid = nifti_grid(nifti, path)
    return load_nifti(nifti, path).reshape(grid.shape), grid, _disagreement(nifti, grid, name)


def open_nifti(path: Path) -> Any:
    """Read the header of a NIfTI or MGH file and hold it against the size of the file; the voxels are not read yet.

    Raises:
        MaxcaError: for a file that is neither, or smaller than its header claims.
    """
    try:
        with LoggingOutputSuppressor():
            nifti: Any = nib.load(path, mmap=False)
            spacing = _stored_spacing(nifti)
            placed = _says_where(nifti)
    except READ_ERRORS as error:
        raise MaxcaError(f"{path}: not a {_kind(path)} image, or damaged; copy or convert it again") from error
    if not placed:
        raise MaxcaError(
            f"{path}: the header does not say where the image lies (goodRASFlag is not 1); convert it again"
        )
    if 0 in spacing:
        raise MaxcaError(f"{path}: a voxel size of 0 mm: {spacing}; repair the header or convert the image again")
    stored = Path(nifti.file_map["image"].filename or path)
    claimed = int(np.prod([int(n) for n in nifti.shape], dtype=object)) * nifti.get_data_dtype().itemsize
    growth = DEFLATE_LIMIT if stored.suffix.lower() in COMPRESSED else 1
    check_size(path, claimed, stored.stat().st_size, growth)
    return nifti


def nifti_grid(nifti: SpatialImage, path: Path | None) -> Grid:
    """The grid of a NIfTI image, from its sform, else its qform.

    Raises:
        MaxcaError: when it has neither, or one that is singular.
    """
    name = path or "the image"
    header: Any = nifti.header
    is_nifti = hasattr(header, "get_sform")
    if is_nifti and header["sform_code"] == 0 and header["qform_code"] == 0:
        raise MaxcaError(
            f"{name}: the header does not say where the image lies (sform and qform code are 0); copy the header of "
            "a sister image, or set the sform once you know the orientation (nibabel: image.set_sform(affine, 1))"
        )
    if not is_nifti and not isinstance(nifti, nib.MGHImage):
        raise MaxcaError(f"{name}: an Analyze image does not say where it lies; convert its original to NIfTI")
    affine = np.array(nifti.affine, dtype=np.float64)
    if is_nifti:
        affine[:3] *= UNIT_MM.get(_unit(header, name), 1.0)
    shape = (*nifti.shape, 1, 1)[:3]
    if shape[2] == 1 and not affine[:3, 2].any() and affine[:3, :2].any(axis=0).all():
        # A 2-D file may leave out the third axis.
        i, j = (axis / np.linalg.norm(axis) for axis in affine[:3, :2].T)
        affine[:3, 2] = np.cross(i, j)
    try:
        return Grid((shape[0], shape[1], shape[2]), affine)
    except ValueError as error:
        raise MaxcaError(f"{name}: {error}; repair the header or convert the image again") from error


def load_nifti(nifti: SpatialImage, path: Path | None) -> np.ndarray:
    """The voxels of a NIfTI image: integers as stored unless the file scales them, all else float32.

    Raises:
        MaxcaError: for a truncated or damaged file, or an image that does not fit into memory.
    """
    voxels: Any = nifti.dataobj
    scaled = nib.is_proxy(voxels) and (voxels.slope, voxels.inter) != (1.0, 0.0)
    kind = nifti.get_data_dtype().kind if nib.is_proxy(voxels) else np.asanyarray(voxels).dtype.kind
    try:
        if kind in "iub" and not scaled:
            data = np.asanyarray(voxels)
        else:
            data = nifti.get_fdata(dtype=np.float32, caching="unchanged")
    except READ_ERRORS as error:
        raise MaxcaError(f"{path}: truncated or damaged; copy or convert it again") from error
    return plain(data)


def form_of(nifti: Any) -> Form:
    """How a NIfTI or MGH file says where its image lies; a form that is missing gets the code of the other."""
    dimension = 2 if len(nifti.shape) == 2 else 3
    header: Any = nifti.header
    if not hasattr(header, "get_sform"):
        return Form(dimension)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    return Form(dimension, _unit(header), sform or qform or 1, qform or sform or 1)


def intent_of(nifti: Any) -> int:
    """The intent code of a NIfTI file, 0 for others."""
    return int(nifti.header["intent_code"]) if hasattr(nifti.header, "get_sform") else 0


def save_nifti(
    data: np.ndarray, grid: Grid, path: Path, intent: str | int | None = None, form: Form | None = None
) -> None:
    """Write an array whose first axes are those of the grid; sform and, but for a sheared grid, qform say the same.

    Args:
        data: (I, J), (I, J, K) or more.
        grid: voxel to world, RAS+ mm.
        path: where to.
        intent: of NIfTI, by code or name.
        form: unit and codes of the header.

    Raises:
        MaxcaError: when the file cannot be written.
    """
    form = form or Form()
    affine = grid.affine.copy()
    affine[:3] /= UNIT_MM.get(form.unit, 1.0)
    large = max(data.shape) > LARGEST_SIZE
    nifti = (nib.Nifti2Image if large else nib.Nifti1Image)(data, affine, dtype=data.dtype)
    nifti.set_sform(affine, code=form.sform)
    nifti.set_qform(affine, code=0 if is_sheared(grid) else form.qform)
    nifti.header.set_xyzt_units(form.unit)
    if intent:
        nifti.header.set_intent(intent)
    with atomic_path(path) as temporary:
        nib.save(nifti, temporary)


def is_sheared(grid: Grid) -> bool:
    """Whether the axes of a grid are not at right angles, which ITK and a NIfTI qform cannot hold."""
    return bool(np.abs(grid.direction.T @ grid.direction - np.eye(3)).max() > SHEAR_TOLERANCE)


def _unit(header: Any, name: object = "the image") -> str:
    """The unit of length of a NIfTI header.

    Raises:
        MaxcaError: for a code that NIfTI does not know.
    """
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError as error:
        raise MaxcaError(
            f"{name}: the header's unit of length (xyzt_units {int(header['xyzt_units'])}) is not one of NIfTI's; "
            "repair it (nibabel: image.header.set_xyzt_units('mm'))"
        ) from error


def _stored_spacing(nifti: Any) -> list[float]:
    """The voxel size in the file where the qform needs it: nibabel takes 0 for 1 on loading, without an error."""
    if not hasattr(nifti.header, "get_sform") or nifti.header["sform_code"] > 0:
        return []
    holder = nifti.file_map.get("header") or nifti.file_map["image"]
    with holder.get_prepare_fileobj("rb") as file:
        raw = type(nifti.header).from_fileobj(file, check=False)
    return [float(size) for size in raw["pixdim"][1 : 1 + min(3, len(nifti.shape))]]


def _kind(path: Path) -> str:
    return "FreeSurfer" if path.suffix.lower() in MGH_SUFFIXES else "NIfTI"


def _says_where(nifti: Any) -> bool:
    """Whether an MGH file holds its place: where it does not, nibabel makes one up."""
    if not isinstance(nifti, nib.MGHImage):
        return True
    with nifti.file_map["image"].get_prepare_fileobj("rb") as file:
        return int.from_bytes(file.read(30)[28:], "big") == 1


def _type_name(nifti: SpatialImage) -> str:
    dtype = nifti.get_data_dtype()
    return "RGB colours" if dtype.fields else str(dtype)


def _disagreement(nifti: SpatialImage, grid: Grid, name: object) -> tuple[str, ...]:
    """A warning when the file places the image twice, and differently: other programs may take the other place."""
    header: Any = nifti.header
    if not hasattr(header, "get_sform") or header["sform_code"] == 0 or header["qform_code"] == 0:
        return ()
    try:
        other = Grid(grid.shape, header.get_qform())
    except (ValueError, HeaderDataError):
        return (f"{name}: the qform is not usable; the sform is used",)
    apart = float(np.abs(other.corners - Grid(grid.shape, header.get_sform()).corners).max())
    return (f"{name}: sform and qform place it up to {apart:.1f} mm apart; the sform is used",) if apart > 0.1 else ()
