"""Images and the grids they lie on: NIfTI, MHA, NRRD and DICOM series in; NIfTI, MHA and NRRD out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError, SpatialImage

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.itk import from_sitk, grid_from_patient, is_sheared, quiet_itk, to_sitk

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
WRITTEN_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
DEFLATE_LIMIT = 1032  # no gzip stream grows more than this: https://zlib.net/zlib_tech.html
UNIT_MM = {"meter": 1000.0, "micron": 0.001}
POSITION, ORIENTATION, PIXEL_SPACING, FRAMES = "0020|0032", "0020|0037", "0028|0030", "0028|0008"
DESCRIPTION, SLOPE = "0008|103e", "0028|1053"
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels and where they lie.

    Args:
        data: (I, J, K), an integer type as stored, or float32; K = 1 for a 2-D image.
        grid: voxel to world, RAS+ mm.
        path: the file it came from.
        dimension: 3, or 2 for a single slice.
        warnings: what was mended on reading, one line each.

    Raises:
        ValueError: when data and grid have different shapes.
    """

    data: np.ndarray
    grid: Grid
    path: Path | None = None
    dimension: int = 3
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise ValueError(f"data of shape {self.data.shape} do not fit a grid of shape {self.grid.shape}")

    @property
    def dtype(self) -> np.dtype:
        """The type of the voxels."""
        return self.data.dtype

    @property
    def name(self) -> str:
        """What to call the image in a message."""
        return str(self.path) if self.path else "the image"


def read(source: str | Path | Image | SpatialImage | sitk.Image) -> Image:
    """Read an image.

    Args:
        source: a NIfTI, MHA or NRRD file; a folder that holds one DICOM series; or an image of nibabel, SimpleITK or
            this package.

    Returns:
        The image. Integers keep their stored type unless the file scales them; all else is float32. Voxels that are
        not finite become 0, with a warning.

    Raises:
        MaxcaError: naming the file and what to do, for anything that is not one readable, oriented 2-D or 3-D image.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, sitk.Image):
        return _from_itk(source, None)
    if isinstance(source, SpatialImage):
        name = source.get_filename()
        return _from_nifti(source, Path(name) if name else None)
    path = Path(source)
    suffix = full_suffix(path)
    if not path.exists():
        raise MaxcaError(f"{path}: no such file; check the path")
    if path.is_dir():
        return _read_dicom(path)
    if suffix in NIFTI_SUFFIXES:
        return _from_nifti(open_nifti(path), path)
    if suffix in ITK_SUFFIXES:
        return _read_itk(path)
    if suffix in (".dcm", ".ima"):
        raise MaxcaError(f"{path}: a single DICOM file; pass the folder that holds its series: {path.parent}")
    known = ", ".join(NIFTI_SUFFIXES + ITK_SUFFIXES)
    raise MaxcaError(f"{path}: unknown kind of image; give one of {known}, or a folder with a DICOM series")


def write(
    data: np.ndarray, grid: Grid, path: str | Path, dtype: np.dtype | type | str | None = None, dimension: int = 3
) -> None:
    """Write an image: NIfTI (``.nii``, ``.nii.gz``), ``.mha`` or ``.nrrd``.

    Args:
        data: (I, J, K).
        grid: voxel to world, RAS+ mm.
        path: the suffix chooses the format.
        dtype: type of the voxels in the file, that of ``data`` unless given; integers are rounded and clipped.
        dimension: 2 writes a single slice as a 2-D image.

    Raises:
        MaxcaError: for an unknown suffix, a sheared grid in MHA or NRRD, or a place that cannot be written.
    """
    path = Path(path)
    data = _cast(data, np.dtype(dtype or data.dtype))
    suffix = full_suffix(path)
    if suffix not in WRITTEN_SUFFIXES:
        raise MaxcaError(f"{path}: images are written as {', '.join(WRITTEN_SUFFIXES)}; name it so")
    if suffix in NIFTI_SUFFIXES:
        save_nifti(data[:, :, 0] if dimension == 2 else data, grid, path)
        return
    image = to_sitk(data, grid, dimension)
    with atomic_path(path) as temporary:
        try:
            with quiet_itk():
                sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise MaxcaError(f"cannot write {path}: ITK failed; is the disc full?") from error


def check_contrast(image: Image) -> None:
    """Refuse an image that has one value everywhere.

    Raises:
        MaxcaError: for a constant image.
    """
    low, high = image.data.min(), image.data.max()
    if low == high:
        raise MaxcaError(f"{image.name}: every voxel is {low}, so there is nothing to align; check how it was made")


def open_nifti(path: Path) -> Any:
    """Read the header of a NIfTI file and hold it against the size of the file; the voxels are not read yet.

    Raises:
        MaxcaError: for a file that is no NIfTI, or smaller than its header claims.
    """
    try:
        with LoggingOutputSuppressor():
            nifti: Any = nib.load(path, mmap=False)
            spacing = _stored_spacing(nifti)
    except READ_ERRORS as error:
        raise MaxcaError(f"{path}: not a NIfTI image, or damaged; copy or convert it again") from error
    if 0 in spacing:
        raise MaxcaError(f"{path}: a voxel size of 0 mm: {spacing}; repair the header or convert the image again")
    stored = Path(nifti.file_map["image"].filename or path)
    claimed = int(np.prod([int(n) for n in nifti.shape], dtype=object)) * nifti.get_data_dtype().itemsize
    growth = DEFLATE_LIMIT if stored.suffix.lower() in (".gz", ".bz2") else 1
    _check_size(path, claimed, stored.stat().st_size, growth)
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
        affine[:3] *= UNIT_MM.get(header.get_xyzt_units()[0], 1.0)
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
    return _plain(data)


def save_nifti(data: np.ndarray, grid: Grid, path: Path, intent: str | None = None) -> None:
    """Write an array whose first axes are those of the grid; sform and, but for a sheared grid, qform have code 1.

    Raises:
        MaxcaError: when the file cannot be written.
    """
    nifti = nib.Nifti1Image(data, grid.affine, dtype=data.dtype)
    nifti.set_sform(grid.affine, code=1)
    nifti.set_qform(grid.affine, code=0 if is_sheared(grid) else 1)
    nifti.header.set_xyzt_units("mm")
    if intent:
        nifti.header.set_intent(intent)
    with atomic_path(path) as temporary:
        nib.save(nifti, temporary)


def _stored_spacing(nifti: Any) -> list[float]:
    """The voxel size in the file where the qform needs it: nibabel takes 0 for 1 on loading, without an error."""
    if not hasattr(nifti.header, "get_sform") or nifti.header["sform_code"] > 0:
        return []
    holder = nifti.file_map.get("header") or nifti.file_map["image"]
    with holder.get_prepare_fileobj("rb") as file:
        raw = type(nifti.header).from_fileobj(file, check=False)
    return [float(size) for size in raw["pixdim"][1 : 1 + min(3, len(nifti.shape))]]


def _from_nifti(nifti: SpatialImage, path: Path | None) -> Image:
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
    return _finished(load_nifti(nifti, path).reshape(grid.shape), grid, path, _disagreement(nifti, grid, name))


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


def _finished(data: np.ndarray, grid: Grid, path: Path | None, warnings: tuple[str, ...] = ()) -> Image:
    if data.dtype.kind == "f" and (count := int(data.size - np.isfinite(data).sum())):
        data = np.where(np.isfinite(data), data, np.float32(0))
        warnings += (f"{path or 'the image'}: {count} voxels are NaN or infinite; they are treated as background (0)",)
    return Image(data, grid, path, 2 if grid.shape[2] == 1 else 3, warnings)


def _plain(data: np.ndarray) -> np.ndarray:
    """Native byte order; bool as uint8; any float as float32."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    if data.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return data.astype(np.float32, copy=False)
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _check_size(path: Path, claimed: int, stored: int, growth: int) -> None:
    """Refuse before allocating: a header that claims more bytes than the file can hold, or than fit into memory."""
    if claimed > stored * growth:
        raise MaxcaError(
            f"{path}: truncated or damaged: the header claims {_amount(claimed)}, the file holds {_amount(stored)}; "
            "copy or convert it again"
        )
    free = psutil.virtual_memory().available
    if claimed > free:
        raise MaxcaError(f"{path}: needs {_amount(claimed)} of memory, {_amount(free)} are free; crop or downsample it")


def _amount(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _read_itk(path: Path) -> Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
            _check_itk_header(reader, path)
            return _from_itk(reader.Execute(), path)
    except RuntimeError as error:
        raise MaxcaError(f"{path}: not a readable image, or truncated; copy or convert it again") from error


def _check_itk_header(reader: sitk.ImageFileReader, path: Path) -> None:
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    _check_itk_kind(path, reader.GetSize(), reader.GetNumberOfComponents(), kind)
    # At least one byte a voxel; a detached header (.mhd, .nhdr) is smaller than the voxels it speaks of.
    stored = path.stat().st_size if path.suffix.lower() in (".mha", ".nrrd") else 1 << 62
    _check_size(path, int(np.prod(reader.GetSize(), dtype=object)), stored, DEFLATE_LIMIT)


def _check_itk_kind(path: Path | None, size: Sequence[int], components: int, kind: str) -> None:
    name = path or "the image"
    if len(size) not in (2, 3):
        shape = tuple(size)
        raise MaxcaError(f"{name}: {len(size)}-D, shape {shape}, where a 3-D image is meant; extract one volume first")
    if components != 1 or "complex" in kind:
        raise MaxcaError(f"{name}: voxels are {kind} ({components} numbers each); convert it to one grey value")


def _from_itk(image: sitk.Image, path: Path | None) -> Image:
    _check_itk_kind(path, image.GetSize(), image.GetNumberOfComponentsPerPixel(), image.GetPixelIDTypeAsString())
    try:
        data, grid = from_sitk(image)
    except ValueError as error:
        raise MaxcaError(f"{path or 'the image'}: {error}; repair the header or convert the image again") from error
    return _finished(_plain(data), grid, path)


def _cast(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """To a type that the formats know, integers rounded and clipped."""
    stored: dict[str, type] = {"?": np.uint8, "e": np.float32}
    dtype = np.dtype(stored.get(dtype.char, dtype))
    if dtype.kind not in "iu" or data.dtype == dtype:
        return data.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if data.dtype.kind in "iub":
        own = np.iinfo(np.uint8 if data.dtype.kind == "b" else data.dtype)
        return np.clip(data.astype(own.dtype), max(limits.min, own.min), min(limits.max, own.max)).astype(dtype)
    # In float64, the largest int64 rounds up to a number that no int64 holds.
    highest = float(limits.max) if int(float(limits.max)) <= limits.max else np.nextafter(float(limits.max), 0)
    return np.clip(np.rint(np.nan_to_num(data.astype(np.float64))), float(limits.min), highest).astype(dtype)


def _read_dicom(folder: Path) -> Image:
    with quiet_itk():
        files = _only_series(folder)
        headers = [_dicom_header(file) for file in files]
        order, grid = _stack(headers, folder)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([files[index] for index in order])
        if len({header.get(SLOPE, "1") for header in headers}) > 1:
            reader.SetOutputPixelType(sitk.sitkFloat32)  # ITK takes the first slice's type for all
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise MaxcaError(f"{folder}: this DICOM series cannot be read; copy or export it again") from error
    _check_itk_kind(folder, image.GetSize(), image.GetNumberOfComponentsPerPixel(), image.GetPixelIDTypeAsString())
    return _finished(_plain(sitk.GetArrayFromImage(image).T), grid, folder)


def _only_series(folder: Path) -> tuple[str, ...]:
    """The files of the one DICOM series in a folder."""
    reader = sitk.ImageSeriesReader
    series = {uid: reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))}
    if not series:
        raise MaxcaError(f"{folder}: no DICOM series in this folder; pass a folder of DICOM slices, or an image file")
    if len(series) > 1:
        listed = "; ".join(_described(uid, files) for uid, files in series.items())
        raise MaxcaError(f"{folder}: holds {len(series)} DICOM series ({listed}); move the one you mean to a folder")
    return next(iter(series.values()))


def _described(uid: str, files: Sequence[str]) -> str:
    return f"{_dicom_header(files[0]).get(DESCRIPTION, '').strip() or 'unnamed'}, {len(files)} files, {uid}"


def _dicom_header(file: str) -> dict[str, str]:
    """The tags of one slice, and its size under ``"size"``."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise MaxcaError(f"{file}: not a readable DICOM file; copy or export the series again") from error
    header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    return header | {"size": "\\".join(map(str, reader.GetSize()))}


def _stack(headers: list[dict[str, str]], folder: Path) -> tuple[list[int], Grid]:
    """The order of the slices along their normal and the grid they make, refused unless it is an upright, even one."""
    if any(int(header.get(FRAMES, "1")) > 1 for header in headers):
        raise MaxcaError(f"{folder}: multi-frame DICOM is not read; convert it to NIfTI first, e.g. with dcm2niix")
    if any(key not in header for header in headers for key in (POSITION, ORIENTATION, PIXEL_SPACING)):
        raise MaxcaError(f"{folder}: slices do not say where they lie; export the series again with its positions")
    layouts = np.array([_numbers(h, ORIENTATION) + _numbers(h, PIXEL_SPACING) + _numbers(h, "size") for h in headers])
    if np.abs(layouts - layouts[0]).max() > 1e-3:
        raise MaxcaError(f"{folder}: slices differ in orientation, size or spacing; keep one stack in the folder")
    row, column, (high, wide) = layouts[0, :3], layouts[0, 3:6], layouts[0, 6:8]
    normal = np.cross(row, column)
    positions = np.array([_numbers(header, POSITION) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    gap = _even_gap(positions[order], normal, folder) if len(headers) > 1 else _thickness(headers[0])
    size = (*(int(n) for n in layouts[0, 8:10]), len(headers))
    direction = np.stack([row, column, normal], axis=1).ravel()
    return order.tolist(), grid_from_patient(size, (wide, high, gap), positions[order[0]].tolist(), direction.tolist())


def _even_gap(positions: np.ndarray, normal: np.ndarray, folder: Path) -> float:
    """Distance of the slices in mm, refused when it varies or when they slide sideways on the way up."""
    depths = positions @ normal
    gaps = np.diff(depths)
    if gaps.min() < 1e-3:
        raise MaxcaError(f"{folder}: several slices at one position (time points, echoes?); keep one stack of them")
    faults = []
    gap = float((depths[-1] - depths[0]) / len(gaps))
    if np.abs(depths - depths[0] - gap * np.arange(len(depths))).max() > max(0.02, 0.01 * gap):
        faults.append(f"unevenly spaced ({gaps.min():.2f} to {gaps.max():.2f} mm apart)")
    along = positions[-1] - positions[0]
    sideways = float(np.linalg.norm(along - normal * (along @ normal)))
    if sideways > max(0.1, 0.001 * float(np.linalg.norm(along))):
        tilt = np.degrees(np.arctan2(sideways, depths[-1] - depths[0]))
        faults.append(f"tilted by {tilt:.1f} degrees against the gantry")
    if faults:
        raise MaxcaError(
            f"{folder}: the slices of this DICOM series are {' and '.join(faults)}; resample it to an even, upright "
            "stack first, for instance with dcm2niix, and pass the NIfTI file"
        )
    return gap


def _thickness(header: dict[str, Any]) -> float:
    return float(header.get("0018|0050", "").strip() or 1.0)


def _numbers(header: dict[str, str], key: str) -> list[float]:
    return [float(number) for number in header[key].split("\\")]
