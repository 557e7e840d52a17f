"""ITK's transforms and images: the only place where LPS, ITK's and DICOM's world, exists.

ITK's x and y point to the patient's left and back where ours point to the right and front, so points, vectors and
directions change the sign of their first two components on the way in and out.
"""

from __future__ import annotations

import io
import locale
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import SimpleITK as sitk
import torch
from scipy.io import savemat

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.grid import triple
from maxca.geometry.transforms import Transform
from maxca.io.atomic import atomic_path, full_suffix
from maxca.io.nifti import SHEAR_TOLERANCE, is_sheared, load_nifti, nifti_grid, open_nifti, save_nifti

FLIP = np.array([-1.0, -1.0, 1.0])  # LPS ↔ RAS
TEXT_SUFFIXES = (".tfm", ".txt")
AFFINE_SUFFIXES = (*TEXT_SUFFIXES, ".mat")
COMPOSITE_SUFFIXES = (".h5", ".hdf5")
FIELD_SUFFIXES = (".nii", ".nii.gz")
TRANSFORM_SUFFIXES = COMPOSITE_SUFFIXES + AFFINE_SUFFIXES + FIELD_SUFFIXES
DISPLACEMENT_RAS, DISPLACEMENT_LPS = 1006, 1007  # NIfTI intents DISPVECT and VECTOR
CHUNK = 1 << 18  # numbers that HDF5 compresses at a time


def read_transform(path: str | Path) -> Chain:
    """Read a transform from fixed to moving world points.

    ``.h5``, ``.tfm``, ``.txt`` and ``.mat`` hold what ITK, ANTs, elastix and Slicer write: affine transforms with their
    centre, displacement fields, and composites of them; those of 2-D images move nothing along the third axis. A text
    file that is just a 4x4 matrix is taken for greedy's or NiftyReg's: RAS mm, fixed to moving. FSL's matrices look
    the same and mean something else: convert them first (``c3d_affine_tool -fsl2ras``).

    A displacement NIfTI is 5-D (X, Y, Z, 1, 3), in mm. With intent 1007 (VECTOR), as ANTs and ITK write it, its
    vectors are LPS. With intent 1006 (DISPVECT) they are RAS: SimpleITK 2.5 (ITK 5.4) changes the sign of their x and y
    on reading, which it does not do for 1007.

    Returns:
        The chain of its steps, RAS+ mm; ``steps[0]`` meets the fixed point first.

    Raises:
        MaxcaError: for a file that is missing, damaged, singular, not finite, or of a kind that is not supported.
    """
    path = Path(path)
    suffix = full_suffix(path)
    if not path.is_file():
        raise MaxcaError(f"{path}: no such file; check the path of the transform")
    try:
        if suffix in FIELD_SUFFIXES:
            return Chain((_read_field(path),))
        if suffix in AFFINE_SUFFIXES and (matrix := _plain_matrix(path)) is not None:
            return Chain((Affine(matrix),))
        if suffix in AFFINE_SUFFIXES + COMPOSITE_SUFFIXES:
            return Chain(tuple(_step(part) for part in _read_parts(path)))
    except ValueError as error:
        raise MaxcaError(f"{path}: {error}; write the transform again") from error
    known = ", ".join(TRANSFORM_SUFFIXES)
    raise MaxcaError(f"{path}: a transform ends in one of {known}; convert it to one of these")


def write_transform(chain: Chain, path: str | Path, grid: Grid | None = None) -> None:
    """Write a chain from fixed to moving world points for ITK, ANTs and Slicer.

    ``.h5`` holds any chain: one ITK composite of affines and float32 fields, compressed. ``.tfm``, ``.txt`` and
    ``.mat`` hold an affine. ``.nii`` and ``.nii.gz`` hold one displacement field: 5-D, intent 1007, LPS mm.

    Args:
        chain: fixed to moving world points, RAS+ mm.
        path: the suffix chooses the format.
        grid: where a displacement NIfTI has its nodes, in fixed space; the grid of the first field unless given.

    Raises:
        MaxcaError: when the format cannot hold the chain, or the file cannot be written.
    """
    path = Path(path)
    suffix = full_suffix(path)
    if suffix in COMPOSITE_SUFFIXES:
        for step in chain.steps:
            if isinstance(step, DenseField):
                _refuse_shear(step.grid, path)
        with atomic_path(path) as temporary:
            _write_composite(chain, temporary)
    elif suffix in AFFINE_SUFFIXES:
        _write_affine(chain, path)
    elif suffix in FIELD_SUFFIXES:
        _write_field(chain, path, grid)
    else:
        known = ", ".join(TRANSFORM_SUFFIXES)
        raise MaxcaError(f"{path}: a transform ends in one of {known}; name it so")


def from_sitk(image: sitk.Image) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K) and grid of a SimpleITK image of one component, 2-D or 3-D.

    Raises:
        ValueError: for spacing or directions that make no grid.
    """
    data = sitk.GetArrayFromImage(image).T
    grid = grid_from_sitk(image)
    return data.reshape(grid.shape), grid


def to_sitk(data: np.ndarray, grid: Grid, dimension: int = 3) -> sitk.Image:
    """A SimpleITK image of voxels (I, J, K) on a grid.

    Args:
        data: (I, J, K).
        grid: its grid.
        dimension: 2 for a 2-D image; a single slice that lies askew in world space becomes a 3-D one nevertheless.

    Raises:
        MaxcaError: for a sheared grid, which ITK cannot hold.
    """
    _refuse_shear(grid, "the image")
    flat = dimension == 2 and _is_plane(grid)
    image = sitk.GetImageFromArray(data[:, :, 0].T if flat else data.T)
    n = 2 if flat else 3
    image.SetOrigin((grid.origin * FLIP)[:n].tolist())
    image.SetSpacing(grid.spacing[:n].tolist())
    image.SetDirection((grid.direction * FLIP[:, None])[:n, :n].ravel().tolist())
    return image


def grid_from_sitk(image: sitk.Image) -> Grid:
    """The grid of a 2-D or 3-D SimpleITK image; a 2-D one lies at z = 0.

    Raises:
        ValueError: for spacing or directions that make no grid.
    """
    return grid_from_patient(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def grid_from_patient(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """A grid from its description in the patient's LPS coordinates, as ITK and DICOM have it.

    Args:
        size: voxels per axis, two or three.
        spacing: mm per axis.
        origin: world position of the first voxel.
        direction: the matrix whose columns are the axes, row by row.

    Raises:
        ValueError: for spacing or directions that make no grid.
    """
    n = len(size)
    affine = np.eye(4)
    affine[:n, :n] = np.reshape(direction, (n, n)) * np.asarray(spacing)
    affine[:n, 3] = origin
    affine[:3] *= FLIP[:, None]
    if n == 2:
        affine[2, 2] = 1.0
    return Grid(triple([*size, 1][:3]), affine)


@contextmanager
def guarded_itk() -> Iterator[None]:
    """Keep what ITK and its libraries print off the terminal, and its files free of decimal commas.

    What matters is reported as an error of one line. MetaIO and HDF5 know no switch for what they print, so the error
    stream itself is put aside for as long. NRRD is read and written with the decimal sign of the locale, which programs
    with Qt set (ITK issue 5683): 3.5 mm would be 3 in half of Europe.
    """
    before, spoken = sitk.ProcessObject.GetGlobalWarningDisplay(), locale.setlocale(locale.LC_ALL)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    terminal = os.dup(2)
    locale.setlocale(locale.LC_NUMERIC, "C")
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        locale.setlocale(locale.LC_ALL, spoken)
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read_parts(path: Path) -> list[sitk.Transform]:
    """The simple transforms in a file, in the order in which they meet a point."""
    try:
        with guarded_itk():
            parts = list(_parts(sitk.ReadTransform(str(path))))
    except RuntimeError as error:
        raise MaxcaError(f"{path}: not a transform that ITK can read, or damaged; copy or write it again") from error
    if full_suffix(path) in TEXT_SUFFIXES:
        _check_complete(path, parts)
    return parts


def _parts(transform: Any, depth: int = 0) -> Iterator[sitk.Transform]:
    # SimpleITK wraps a kind that it has no class for, like MatrixOffsetTransformBase, into a composite of itself: the
    # first condition stops at the linear ones, the second at the others.
    inner = transform.GetNumberOfTransforms() if isinstance(transform, sitk.CompositeTransform) else 0
    if inner == 0 or (inner == 1 and transform.IsLinear()):
        yield transform
    elif depth > 20:
        raise ValueError("it holds a transform that is not supported; make it affines and displacement fields")
    else:
        for index in reversed(range(inner)):
            yield from _parts(transform.GetNthTransform(index), depth + 1)


def _check_complete(path: Path, parts: list[sitk.Transform]) -> None:
    """Hold a text file against what ITK made of it: ITK fills up the parameters of a truncated one."""
    lines = path.read_text(encoding="latin-1").splitlines()
    stored = sum(len(line.split()) - 1 for line in lines if line.startswith("Parameters:"))
    ended = sum(line.startswith("FixedParameters:") for line in lines)
    if stored != sum(len(part.GetParameters()) for part in parts) or ended < len(parts):
        raise MaxcaError(f"{path}: truncated, parameters are missing; copy or write it again")


def _step(transform: sitk.Transform) -> Transform:
    """One simple ITK transform as ours."""
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return _field_of(transform.GetDisplacementField())
    if transform.IsLinear():
        return Affine(_matrix_of(transform))
    raise ValueError(
        f"a {transform.GetName()} is not supported; sample it on the fixed image first (in SimpleITK: "
        "TransformToDisplacementField)"
    )


def _matrix_of(transform: sitk.Transform) -> np.ndarray:
    """The RAS matrix of a linear transform, from where it puts points: so no parameter or centre is overlooked."""
    n = transform.GetDimension()
    at_zero = np.array(transform.TransformPoint([0.0] * n))
    columns = [np.array(transform.TransformPoint(unit.tolist())) - at_zero for unit in np.eye(n)]
    matrix = np.eye(4)
    matrix[:n, :n] = np.stack(columns, axis=1)
    matrix[:n, 3] = at_zero
    return _flipped(matrix)


def _flipped(matrix: np.ndarray) -> np.ndarray:
    """The same (4, 4) map between the other kind of coordinates: LPS for RAS, RAS for LPS."""
    signs = np.append(FLIP, 1.0)
    return matrix * signs[:, None] * signs


def _field_of(image: sitk.Image) -> DenseField:
    grid = grid_from_sitk(image)
    vectors = sitk.GetArrayViewFromImage(image).T.reshape(-1, *grid.shape)
    displacement = np.zeros((3, *grid.shape), dtype=np.float32)
    displacement[: len(vectors)] = vectors
    return DenseField(torch.from_numpy(displacement * FLIP.astype(np.float32).reshape(3, 1, 1, 1)), grid)


def _plain_matrix(path: Path) -> np.ndarray | None:
    """The matrix in a text file of four lines of four numbers and nothing else."""
    content = path.read_bytes()[:10_000]
    if b"\0" in content:
        return None
    rows = [re.split(r"[\s,]+", line.strip()) for line in content.decode("latin-1").splitlines() if line.strip()]
    if [len(row) for row in rows] != [4] * 4:
        return None
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        return None


def _read_field(path: Path) -> DenseField:
    # Not through ITK, which reads a truncated NIfTI as zeros without a word.
    nifti = open_nifti(path)
    intent = int(nifti.header["intent_code"])
    if len(nifti.shape) != 5 or nifti.shape[3:] != (1, 3) or intent not in (DISPLACEMENT_RAS, DISPLACEMENT_LPS):
        raise MaxcaError(
            f"{path}: a displacement field has the shape (X, Y, Z, 1, 3) and intent 1007 (LPS mm) or 1006 (RAS mm), "
            f"this file has {nifti.shape} and intent {intent}; convert it to one of these"
        )
    grid = nifti_grid(nifti, path)
    vectors = load_nifti(nifti, path).astype(np.float32, copy=False)[:, :, :, 0]
    if intent == DISPLACEMENT_LPS:
        vectors = vectors * FLIP.astype(np.float32)
    return DenseField(torch.from_numpy(np.ascontiguousarray(np.moveaxis(vectors, -1, 0))), grid)


def _write_composite(chain: Chain, path: Path) -> None:
    """Through h5py: ITK's own writer stores float64 fields uncompressed, and equal transforms as unequal files.

    HDF5 crashes the process when the disc fills, so the file is made in memory.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _put_text(file, "ITKVersion", "5.4.0")
        _put_text(file, "HDFVersion", h5py.version.hdf5_version)
        _put_text(file, "TransformGroup/0/TransformType", "CompositeTransform_double_3_3")
        # ITK applies the last transform of a composite first.
        for number, step in enumerate(reversed(chain.steps or (Affine.identity(),)), start=1):
            kind, fixed, parameters = _itk_parameters(step)
            group = f"TransformGroup/{number}"
            _put_text(file, f"{group}/TransformType", f"{kind}_double_3_3")
            file.create_dataset(f"{group}/TransformFixedParameters", data=fixed)
            chunks = (min(CHUNK, parameters.size),)
            file.create_dataset(
                f"{group}/TransformParameters", data=parameters, chunks=chunks, compression="gzip", compression_opts=1,
                shuffle=True,
            )  # fmt: skip
    path.write_bytes(buffer.getbuffer())


def _put_text(file: h5py.File, name: str, text: str) -> None:
    file.create_dataset(name, data=[text], dtype=h5py.string_dtype("ascii"))


def _itk_parameters(step: Transform) -> tuple[str, np.ndarray, np.ndarray]:
    """ITK's name, fixed parameters and parameters of a step."""
    if isinstance(step, Affine):
        matrix = _flipped(step.matrix)
        return "AffineTransform", np.zeros(3), np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]])
    if isinstance(step, DenseField):
        grid = step.grid
        direction = (grid.direction * FLIP[:, None]).ravel()
        fixed = np.concatenate([grid.shape, grid.origin * FLIP, grid.spacing, direction])
        return "DisplacementFieldTransform", fixed, _itk_vectors(step).transpose(2, 1, 0, 3).ravel()
    raise MaxcaError(f"a {type(step).__name__} cannot be written; put it on a grid with Chain.field_on first")


def _itk_vectors(field: DenseField) -> np.ndarray:
    """Displacements (I, J, K, 3), LPS mm, float32."""
    vectors = field.displacement.detach().float().cpu().numpy() * FLIP.astype(np.float32).reshape(3, 1, 1, 1)
    return np.moveaxis(vectors, 0, -1)


def _write_affine(chain: Chain, path: Path) -> None:
    if not chain.is_affine:
        raise MaxcaError(f"{path}: this format holds an affine transform only; name the file .h5 to keep the field too")
    step = Chain((Affine.identity(), *chain.steps)).simplified().steps[0]
    kind, fixed, parameters = _itk_parameters(step)
    # Not through ITK, which writes half a file to a full disc without a word.
    with atomic_path(path) as temporary:
        if full_suffix(path) in TEXT_SUFFIXES:
            lines = ["#Insight Transform File V1.0", "#Transform 0", f"Transform: {kind}_double_3_3"]
            lines += [f"Parameters: {_spaced(parameters)}", f"FixedParameters: {_spaced(fixed)}", ""]
            temporary.write_text("\n".join(lines), encoding="ascii")
        else:
            columns = {f"{kind}_double_3_3": parameters[:, None], "fixed": fixed[:, None]}
            savemat(temporary, columns, format="4")


def _spaced(numbers: np.ndarray) -> str:
    return " ".join(map(repr, numbers.tolist()))


def _write_field(chain: Chain, path: Path, grid: Grid | None) -> None:
    fields = [step for step in chain.steps if isinstance(step, DenseField)]
    if grid is None and not fields:
        raise MaxcaError(f"{path}: an affine has no grid to sample a field on; name the file .h5, .tfm or .mat")
    grid = fields[0].grid if grid is None else grid
    _refuse_shear(grid, path)
    alone = len(chain.steps) == 1 and len(fields) == 1 and fields[0].grid == grid
    field = fields[0] if alone else chain.field_on(grid)
    save_nifti(_itk_vectors(field)[:, :, :, None], grid, path, intent="vector")


def _is_plane(grid: Grid) -> bool:
    """Whether a grid is one slice at z = 0, as ITK's 2-D images are."""
    askew = np.abs(grid.direction[2, :2]).max() + np.abs(grid.direction[:2, 2]).max() + abs(grid.origin[2])
    return grid.shape[2] == 1 and bool(askew < SHEAR_TOLERANCE)


def _refuse_shear(grid: Grid, what: object) -> None:
    if is_sheared(grid):
        raise MaxcaError(f"{what}: ITK cannot hold a sheared grid; resample to one with axes at right angles")
