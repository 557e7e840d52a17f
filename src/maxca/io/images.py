"""Images and their grids: read from NIfTI, MGH, MHA, NRRD, DICOM, PNG and TIFF; written as NIfTI, MHA and NRRD."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import SpatialImage

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.geometry.grid import triple
from maxca.io.atomic import full_suffix
from maxca.io.containers import READERS, read_container
from maxca.io.form import Form
from maxca.io.itk import from_sitk, refuse_shear, to_sitk
from maxca.io.nifti import MGH_SUFFIXES, NIFTI_SUFFIXES, form_of, image_of, intent_of, open_nifti
from maxca.io.nifti_writing import as_nifti, save_nifti
from maxca.io.packed import write_packed
from maxca.io.pictures import SUFFIXES as PICTURE_SUFFIXES
from maxca.io.pictures import read_picture
from maxca.io.readers import READERS as MORE_READERS
from maxca.io.readers import read_by_plugin
from maxca.io.regular import check_regular
from maxca.io.stored import foreign
from maxca.io.voxels import cast, check_kind, plain

if TYPE_CHECKING:
    from maxca.io.dicom import Stored

ITK_SUFFIXES = tuple(READERS)
FILE_OF_THREE = Form()
WRITTEN_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
ImageLike = Any  # a path, a maxca.Image, an image of nibabel or SimpleITK, or (array, affine)


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels and their grid.

    Args:
        data: (I, J, K), an integer type as stored, float32, or float64 where float32 would merge integers; K = 1 for
            a 2-D image.
        grid: voxel to world, RAS+ mm.
        path: its file, if any.
        form: further header fields of its position.
        intent: NIfTI's intent code, 0 for none.
        warnings: corrections made on reading, one line each.

    Raises:
        ValueError: if data and grid have different shapes.
    """

    data: np.ndarray
    grid: Grid
    path: Path | None = None
    form: Form = FILE_OF_THREE
    intent: int = 0
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise ValueError(f"data of shape {self.data.shape} do not fit a grid of shape {self.grid.shape}")

    @property
    def dimension(self) -> int:
        """2 for an image whose file has two dimensions, otherwise 3, also for a single slice."""
        return self.form.dimension

    @property
    def dtype(self) -> np.dtype:
        """The type of the voxels."""
        return self.data.dtype

    @property
    def name(self) -> str:
        """The name of the image in messages."""
        return str(self.path) if self.path else "the image"

    def save(self, path: str | Path) -> None:
        """Write the image, its header in the form that it was read in; see ``write``."""
        write(self.data, self.grid, path, form=self.form, intent=self.intent)

    def to_nibabel(self) -> SpatialImage:
        """The image as nibabel has it, in RAS+ mm."""
        data = self.data[:, :, 0] if self.dimension == 2 else self.data
        return as_nifti(data, self.grid, self.intent or None, self.form)

    def to_sitk(self) -> sitk.Image:
        """The image as SimpleITK has it, in LPS mm.

        Raises:
            MaxcaError: for a sheared grid, which ITK cannot hold.
        """
        refuse_shear(self.grid, self.name)
        return to_sitk(self.data, self.grid, self.dimension)

    def __repr__(self) -> str:
        shape, spacing = " x ".join(map(str, self.data.shape)), " x ".join(f"{mm:.3g}" for mm in self.grid.spacing)
        return f"Image({shape} voxels of {self.dtype}, {spacing} mm, {self.name})"


def read(source: str | Path | Image | SpatialImage | sitk.Image | tuple[np.ndarray, np.ndarray]) -> Image:
    """Read an image.

    Args:
        source: a NIfTI, FreeSurfer (MGH), MHA or NRRD file; a DICOM file, or a folder that holds one DICOM series; PNG
            or TIFF, as a 2-D image; what a plugin reads; an image of nibabel, SimpleITK or this package; or a NumPy
            array (I, J, K) or (I, J) and its affine (4, 4), voxel to world in RAS+ mm.

    Returns:
        The image. Integers keep their stored type unless the file scales them; other values are float32, except
        integers that float32 would merge, which stay float64. Non-finite voxels become 0, with a warning.

    Raises:
        MaxcaError: for anything that is not one readable, oriented 2-D or 3-D image.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, sitk.Image):
        return _from_itk(source, None)
    if isinstance(source, tuple):
        return _from_array(*source)
    if isinstance(source, SpatialImage):
        name = source.get_filename()
        return _from_nifti(source, Path(name) if name else None)
    path = Path(source)
    if (read_there := read_by_plugin(path)) is not None:
        return replace(read(read_there), path=path)
    suffix = full_suffix(path)
    if path.is_dir():
        from maxca.io.dicom import read_series  # pydicom takes a quarter of a second

        return _from_dicom(path, read_series(path))
    check_regular(path)
    if suffix in NIFTI_SUFFIXES + MGH_SUFFIXES:
        return _from_nifti(open_nifti(path), path)
    if suffix in ITK_SUFFIXES:
        return _from_container(path)
    if suffix in PICTURE_SUFFIXES:
        picture = read_picture(path)
        return finished(plain(picture.data), picture.grid, path, picture.warnings, Form(dimension=2))
    with path.open("rb") as file:
        what = foreign(file.read(512)) or ""
    if suffix in (".dcm", ".ima") or "DICOM" in what:
        from maxca.io.dicom import read_file

        return _from_dicom(path, read_file(path))
    known = ", ".join((*NIFTI_SUFFIXES, *MGH_SUFFIXES, *ITK_SUFFIXES, *PICTURE_SUFFIXES, ".dcm", *MORE_READERS))
    raise MaxcaError(f"{path}: unknown kind of image; give one of {known}, or a folder with a DICOM series")


def write(
    data: np.ndarray,
    grid: Grid,
    path: str | Path,
    dtype: np.dtype | type | str | None = None,
    form: Form | None = None,
    intent: int = 0,
) -> None:
    """Write an image: NIfTI (``.nii``, ``.nii.gz``), ``.mha`` or ``.nrrd``.

    Args:
        data: (I, J, K).
        grid: voxel to world, RAS+ mm.
        path: the suffix chooses the format.
        dtype: type of the voxels in the file, by default that of ``data``; integers are rounded and clipped.
        form: dimension, unit and codes of the header, such as those of a reference; see ``Form``.
        intent: NIfTI's intent code.

    Raises:
        MaxcaError: for an unknown suffix, a sheared grid in MHA or NRRD, or a path that cannot be written.
    """
    path = Path(path)
    data = cast(data, np.dtype(dtype or data.dtype))
    suffix = full_suffix(path)
    if suffix not in WRITTEN_SUFFIXES:
        raise MaxcaError(f"{path}: images are written as {', '.join(WRITTEN_SUFFIXES)}; use one of these suffixes")
    form = form or FILE_OF_THREE
    if suffix in NIFTI_SUFFIXES:
        save_nifti(data[:, :, 0] if form.dimension == 2 else data, grid, path, intent or None, form)
        return
    write_packed(data, grid, path, form.dimension)


def check_grid(path: str | Path, grid: Grid) -> None:
    """Check before a computation that the format of an output can represent a grid.

    Raises:
        MaxcaError: for a sheared grid in MHA or NRRD.
    """
    if full_suffix(Path(path)) not in NIFTI_SUFFIXES:
        refuse_shear(grid, path)


def check_contrast(image: Image) -> None:
    """Reject an image with a single value.

    Raises:
        MaxcaError: for a constant image.
    """
    low, high = image.data.min(), image.data.max()
    if low == high:
        raise MaxcaError(
            f"{image.name}: every voxel is {low}, so there is nothing to register; check how it was created"
        )


def _from_array(data: np.ndarray, affine: np.ndarray) -> Image:
    data = np.asarray(data)
    if data.ndim not in (2, 3) or not data.size:
        raise MaxcaError(f"an array of shape {data.shape} is not an image; give (I, J, K) or (I, J) voxels")
    try:
        grid = Grid(triple((*data.shape, 1)[:3]), np.asarray(affine, dtype=float))
        voxels = plain(data.reshape(grid.shape))
    except (TypeError, ValueError) as error:
        raise MaxcaError(f"an array and its affine make no image: {error}") from error
    return finished(voxels, grid, None, form=Form(dimension=data.ndim))


def _from_nifti(nifti: SpatialImage, path: Path | None) -> Image:
    data, grid, warnings = image_of(nifti, path)
    return replace(finished(data, grid, path, warnings, form_of(nifti)), intent=intent_of(nifti))


def finished(
    data: np.ndarray, grid: Grid, path: Path | None, warnings: tuple[str, ...] = (), form: Form | None = None
) -> Image:
    """An image of voxels as read: those that are not finite become 0, with a warning."""
    if data.dtype.kind == "f" and (count := int(data.size - np.isfinite(data).sum())):
        data = np.where(np.isfinite(data), data, data.dtype.type(0))
        warnings += (f"{path or 'the image'}: {count} voxels are NaN or infinite; they are treated as background (0)",)
    return Image(data, grid, path, form or FILE_OF_THREE, warnings=warnings)


def _from_dicom(path: Path, found: Stored) -> Image:
    return finished(found.data, found.grid, path, found.warnings, Form(dimension=found.dimension))


def _from_container(path: Path) -> Image:
    found = read_container(path)
    try:
        data = plain(found.data)
    except ValueError as error:
        raise MaxcaError(f"{path}: {error}") from error
    return finished(data, found.grid, path, found.layout.warnings, Form(dimension=found.dimension))


def _from_itk(image: sitk.Image, path: Path | None) -> Image:
    size = _without_single_volumes(image.GetSize())
    check_kind(path, size, image.GetNumberOfComponentsPerPixel(), image.GetPixelIDTypeAsString())
    if len(size) < image.GetDimension():  # one volume of a series, as in NIfTI
        image = sitk.Extract(
            image, [*size, 0], [0] * (len(size) + 1), sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        )
    try:
        data, grid = from_sitk(image)
    except ValueError as error:
        raise MaxcaError(f"{path or 'the image'}: {error}; repair the header or convert the image again") from error
    return finished(plain(data), grid, path, form=Form(dimension=image.GetDimension()))


def _without_single_volumes(size: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of an image, without a fourth axis of one volume."""
    return size[:3] if len(size) == 4 and size[3] == 1 else size
