"""NIfTI and FreeSurfer's MGH files: grid and voxels, with headers checked against the size of the file."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import imageglobals
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.form import Form
from maxca.io.stored import beginning, foreign, holder, is_gzip, read_to_end
from maxca.io.voxels import DEFLATE_LIMIT, check_memory, check_stored, plain

PAIR_SUFFIXES = (".hdr", ".img")
NIFTI_SUFFIXES = (".nii", ".nii.gz", *PAIR_SUFFIXES)
MGH_SUFFIXES = (".mgz", ".mgh")
UNIT_MM = {"meter": 1000.0, "micron": 0.001}
APART = 0.1  # of the smallest spacing: sform and qform agree within this distance
MGH_VERSION = b"\0\0\0\1"
READ_ERRORS = (
    *(OSError, EOFError, ValueError, OverflowError, KeyError, TypeError, struct.error),
    *(zlib.error, ImageFileError, HeaderDataError, MGHError),
)


def image_of(nifti: SpatialImage, path: Path | None) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Voxels (I, J, K), grid and warnings of a NIfTI image of two or three dimensions.

    Raises:
        MaxcaError: for more dimensions, colours or complex numbers, a header without a position, a damaged file.
    """
    name = path or "the image"
    shape = tuple(int(n) for n in nifti.shape)
    if len(shape) < 2 or min(shape) < 1:
        raise MaxcaError(f"{name}: not an image, its shape is {shape}; convert it again")
    if any(n > 1 for n in shape[3:]):
        raise MaxcaError(
            f"{name}: {len(shape)}-D, shape {shape}, but a 3-D image is expected; extract one of its "
            f"{int(np.prod(shape[3:]))} volumes first (the first one in nibabel: {_first_volume(len(shape))})"
        )
    if nifti.get_data_dtype().kind not in "iufb":
        raise MaxcaError(f"{name}: voxels are {_type_name(nifti)}, not real numbers; convert it to one grey value")
    grid, warnings = grid_and_warnings(nifti, path)
    return load_nifti(nifti, path).reshape(grid.shape), grid, warnings


def open_nifti(path: Path, whole: bool = True) -> Any:
    """Read the header of a NIfTI or MGH file and check it against the size of the file, without reading the voxels.

    Args:
        path: the file.
        whole: whether all volumes are to be in memory, or one at a time.

    Raises:
        MaxcaError: for a file that is neither, or smaller than its header claims.
    """
    try:
        with _silent():
            nifti: Any = _opened(path)
            spacing = _stored_spacing(nifti)
            placed = _says_where(nifti)
    except (*READ_ERRORS, MemoryError) as error:  # the latter: an extension that claims gigabytes
        raise MaxcaError(f"{path}: not a {_kind(path)} image, or damaged; copy or convert it again") from error
    if not placed:
        raise MaxcaError(
            f"{path}: the header does not define the position of the image (goodRASFlag is not 1); convert it again"
        )
    if 0 in spacing:
        raise MaxcaError(f"{path}: a voxel size of 0 mm: {spacing}; repair the header or convert the image again")
    _check_claim(nifti, path, whole)
    return nifti


def grid_and_warnings(nifti: SpatialImage, path: Path | None) -> tuple[Grid, tuple[str, ...]]:
    """The grid of a NIfTI image, as ``nifti_grid``, and warnings if sform and qform differ or one is invalid.

    Raises:
        MaxcaError: if neither is valid.
    """
    name = path or "the image"
    grid, by_sform = _where(nifti, path)
    if not by_sform:
        return grid, (f"{name}: the sform is singular; the qform is used",)
    return grid, _disagreement(nifti, grid, name)


def nifti_grid(nifti: SpatialImage, path: Path | None) -> Grid:
    """The grid of a NIfTI image, from its sform, or its qform if the sform is unset or singular.

    Raises:
        MaxcaError: if neither is valid.
    """
    return _where(nifti, path)[0]


def _where(nifti: SpatialImage, path: Path | None) -> tuple[Grid, bool]:
    """The grid, and whether it comes from the qform because the sform is singular."""
    name = path or "the image"
    header: Any = nifti.header
    is_nifti = hasattr(header, "get_sform")
    if is_nifti and header["sform_code"] == 0 and header["qform_code"] == 0:
        raise MaxcaError(
            f"{name}: the header does not define the position of the image (sform and qform code are 0); copy "
            "the header of a sister image, or set the sform once you know the orientation (nibabel: "
            "image.set_sform(affine, 1))"
        )
    if not is_nifti and not isinstance(nifti, nib.MGHImage):
        raise MaxcaError(f"{name}: an Analyze image does not define its position; convert its original to NIfTI")
    affine = np.array(nifti.affine, dtype=np.float64)
    if is_nifti:
        affine[:3] *= UNIT_MM.get(_unit(header, name), 1.0)
    shape = (*nifti.shape, 1, 1)[:3]
    if shape[2] == 1 and not affine[:3, 2].any() and np.isfinite(affine).all() and affine[:3, :2].any(axis=0).all():
        # A 2-D file may omit the third axis.
        i, j = (axis / np.linalg.norm(axis) for axis in affine[:3, :2].T)
        affine[:3, 2] = np.cross(i, j)
    try:
        return Grid((shape[0], shape[1], shape[2]), affine), True
    except ValueError as error:
        other = _qform_grid(nifti, shape, name)
        if other is None:
            raise MaxcaError(f"{name}: {error}; repair the header or convert the image again") from error
        return other, False


def _qform_grid(nifti: SpatialImage, shape: tuple[int, ...], name: object) -> Grid | None:
    """The grid of the qform of a NIfTI image; None if it is unset or invalid."""
    header: Any = nifti.header
    if not hasattr(header, "get_sform") or header["qform_code"] == 0:
        return None
    try:
        affine = np.array(header.get_qform(), dtype=np.float64)
        affine[:3] *= UNIT_MM.get(_unit(header, name), 1.0)
        return Grid((shape[0], shape[1], shape[2]), affine)
    except (ValueError, HeaderDataError):
        return None


def load_nifti(nifti: SpatialImage, path: Path | None) -> np.ndarray:
    """The voxels of a NIfTI image, read to the end of its files: integers as stored, unless the file scales them.

    Other values are float32, except integers that float32 would merge, which are float64.

    Raises:
        MaxcaError: for a truncated or damaged file, or values that no supported type can represent.
    """
    voxels: Any = nifti.dataobj
    proxy = nib.is_proxy(voxels)
    slope, inter = (float(voxels.slope), float(voxels.inter)) if proxy else (1.0, 0.0)
    try:
        data = voxels.get_unscaled() if proxy else np.asanyarray(voxels)
        if proxy:
            read_to_end(nifti)
    except READ_ERRORS as error:
        raise MaxcaError(f"{path or 'the image'}: truncated or damaged; copy or convert it again") from error
    try:
        return plain(data, slope, inter)
    except ValueError as error:
        raise MaxcaError(f"{path or 'the image'}: {error}") from error


def form_of(nifti: Any) -> Form:
    """The position fields of a NIfTI or MGH header; a missing form gets the code of the other."""
    dimension = 2 if len(nifti.shape) == 2 else 3
    header: Any = nifti.header
    if not hasattr(header, "get_sform"):
        return Form(dimension)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    return Form(dimension, _unit(header), sform or qform or 1, qform or sform or 1)


def intent_of(nifti: Any) -> int:
    """The intent code of a NIfTI file, 0 for others."""
    return int(nifti.header["intent_code"]) if hasattr(nifti.header, "get_sform") else 0


def _unit(header: Any, name: object = "the image") -> str:
    """The unit of length of a NIfTI header.

    Raises:
        MaxcaError: for a code that is not in NIfTI.
    """
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError as error:
        raise MaxcaError(
            f"{name}: the header's unit of length (xyzt_units {int(header['xyzt_units'])}) is not one of NIfTI's; "
            "repair it (nibabel: image.header.set_xyzt_units('mm'))"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress nibabel's log messages on headers; problems are reported as errors.

    Its own ``LoggingOutputSuppressor`` removes the handlers, and Python then prints to standard error.
    """
    before, imageglobals.logger.disabled = imageglobals.logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        imageglobals.logger.disabled = before


def _opened(path: Path) -> Any:
    """Open a NIfTI, MGH or Analyze file by its content; its name only distinguishes a pair from a single file.

    Raises:
        MaxcaError: for a file with the first bytes of another kind.
    """
    pair = path.suffix.lower() in PAIR_SUFFIXES
    names = nib.Nifti1Pair.filespec_to_file_map(path) if pair else {}
    files = {role: holder(Path(str(file.filename))) for role, file in names.items()} or {"image": holder(path)}
    content = beginning(files.get("header", files["image"]))
    if pair:
        known: tuple[Any, ...] = (nib.Nifti1Pair, nib.Nifti2Pair, nib.AnalyzeImage)
    else:
        known = (nib.Nifti1Image, nib.Nifti2Image)
    kind = next((each for each in known if each.header_class.may_contain_header(content)), None)
    if kind is None and not pair and content[:4] == MGH_VERSION:
        kind = nib.MGHImage
    if kind is None:
        what = foreign(content)
        if what is None:
            raise ImageFileError("no known header")
        raise MaxcaError(f"{path}: not a {_kind(path)} image but {what}")
    if not pair and kind is not nib.MGHImage and b"ni" in (content[344:346], content[4:6]):
        raise MaxcaError(f"{path}: the header of a pair of files without its voxels; rename them to .hdr and .img")
    return kind.from_file_map(files, mmap=False)


def _check_claim(nifti: Any, path: Path, whole: bool) -> None:
    """Check the size claimed by a header against the file and the free memory.

    Raises:
        MaxcaError: for a file that is truncated, or an image that is too large.
    """
    stored = Path(nifti.file_map["image"].filename or path)
    count = int(np.prod([int(n) for n in nifti.shape], dtype=object))
    dtype = nifti.get_data_dtype()
    packed = is_gzip(stored)
    check_stored(path, count * dtype.itemsize, stored.stat().st_size, DEFLATE_LIMIT if packed else 1, packed)
    count = count if whole else count // max(1, int(np.prod([int(n) for n in nifti.shape[3:]], dtype=object)))
    scaled = (nifti.dataobj.slope, nifti.dataobj.inter) != (1.0, 0.0)
    check_memory(path, count * (dtype.itemsize + (4 if scaled or dtype.itemsize > 4 else 0)))


def _stored_spacing(nifti: Any) -> list[float]:
    """The voxel size in the file if the qform needs it: nibabel silently replaces 0 by 1 on loading."""
    if not hasattr(nifti.header, "get_sform") or nifti.header["sform_code"] > 0:
        return []
    holder = nifti.file_map.get("header") or nifti.file_map["image"]
    with holder.get_prepare_fileobj("rb") as file:
        raw = type(nifti.header).from_fileobj(file, check=False)
    return [float(size) for size in raw["pixdim"][1 : 1 + min(3, len(nifti.shape))]]


def _first_volume(dimensions: int) -> str:
    """The nibabel expression for the first volume; NIfTI keeps singleton axes."""
    return f"image.slicer[:, :, :{', 0:1' * (dimensions - 3)}]"


def _kind(path: Path) -> str:
    return "FreeSurfer" if path.suffix.lower() in MGH_SUFFIXES else "NIfTI"


def _says_where(nifti: Any) -> bool:
    """Whether an MGH file defines its position; otherwise nibabel invents one."""
    if not isinstance(nifti, nib.MGHImage):
        return True
    with nifti.file_map["image"].get_prepare_fileobj("rb") as file:
        return int.from_bytes(file.read(30)[28:], "big") == 1


def _type_name(nifti: SpatialImage) -> str:
    dtype = nifti.get_data_dtype()
    return "RGB colours" if dtype.fields else str(dtype)


def _disagreement(nifti: SpatialImage, grid: Grid, name: object) -> tuple[str, ...]:
    """A warning if sform and qform differ: other programs may use the other one."""
    header: Any = nifti.header
    if not hasattr(header, "get_sform") or header["sform_code"] == 0 or header["qform_code"] == 0:
        return ()
    other = _qform_grid(nifti, grid.shape, name)
    if other is None:
        return (f"{name}: the qform is invalid; the sform is used",)
    apart = float(np.abs(other.corners - grid.corners).max())
    if apart <= APART * grid.smallest_spacing:
        return ()
    return (f"{name}: sform and qform differ by up to {apart:.3g} mm; the sform is used",)
