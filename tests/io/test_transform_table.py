"""The table of docs/reference/transforms.md is computed: what each tool's file holds, without our readers.

One translation and one field of it are written for every tool. The numbers in the files show the direction (the sign of
the third component, which all tools share) and the coordinates (the signs of the other two).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from foreign import AFFINE, bend, grids, inner_points, mapped, nodes

from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.transforms import read_transform, write_transform
from maxca.options import TransformTool

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "transforms.md"
SHIFT = np.array([2.0, 3.0, 5.0])  # RAS mm, fixed to moving
COORDINATES = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1), "scaled voxels": (-1, 1, 1)}  # the last for axes L, A, S
IMAGES = (Grid((9, 9, 9), np.diag([-2.0, 2, 2, 1])), Grid((9, 9, 9), np.diag([-2.0, 2, 2, 1])))
MIDDLE = np.array([-8.0, 8.0, 8.0])  # the node (4, 4, 4)


def field_of(path: Path) -> np.ndarray:
    """The vector of the middle node of a field in a NIfTI."""
    return nib.load(path).get_fdata().squeeze()[4, 4, 4]


def last_column(path: Path) -> np.ndarray:
    return np.loadtxt(path)[:3, 3]


def lta(path: Path) -> np.ndarray:
    rows = path.read_text().split("1 4 4\n")[1].splitlines()[:3]
    return np.array([float(row.split()[3]) for row in rows])


def elastix(path: Path) -> np.ndarray:
    return np.array(re.search(r"\(TransformParameters ([^)]*)\)", path.read_text())[1].split(), float)[9:]  # type: ignore[index]


def x5(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        stored = file["TransformGroup/0/Transform"][()]
    return stored[4, 4, 4] if stored.ndim == 4 else stored[:3, 3]


def composite(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        numbers = file["TransformGroup/1/TransformParameters"][()]
    return numbers[9:] if len(numbers) == 12 else numbers.reshape(9, 9, 9, 3)[4, 4, 4]


def tfm(path: Path) -> np.ndarray:
    return np.array(sitk.ReadTransform(str(path)).GetParameters())[9:]


def pair(path: Path) -> np.ndarray:
    return tfm(path.with_name(f"{path.name}0GenericAffine.mat"))


# Tool, the file as its tool names it, what is written, its name for the writer, and how the numbers are found in it.
Row = tuple[str, str, bool, TransformTool, str, Callable[[Path], np.ndarray]]
ROWS: tuple[Row, ...] = (
    ("ITK, 3D Slicer", "`.h5`", False, "itk", "t.h5", composite),
    ("ITK, 3D Slicer", "`.h5`", True, "itk", "t.h5", composite),
    ("ITK, 3D Slicer", "`.tfm`, `.txt`", False, "itk", "t.tfm", tfm),
    ("ANTs", "`0GenericAffine.mat`", False, "ants", "t_", pair),
    ("ANTs", "`1Warp.nii.gz`", True, "itk", "t.nii.gz", field_of),
    ("elastix", "`TransformParameters.0.txt`", False, "elastix", "t.txt", elastix),
    ("FSL FLIRT", "`-omat`", False, "fsl", "t.mat", last_column),
    ("FSL FNIRT", "`--fout`", True, "fsl", "t.nii.gz", field_of),
    ("FreeSurfer", "`.lta`", False, "freesurfer", "t.lta", lta),
    ("SPM", "`y_*.nii`", True, "spm", "t.nii", field_of),
    ("NiftyReg", "`reg_aladin -aff`", False, "niftyreg", "t.txt", last_column),
    ("NiftyReg", "`reg_transform -disp`", True, "niftyreg", "t.nii.gz", field_of),
    ("AFNI", "`.aff12.1D`", False, "afni", "t.1D", lambda path: np.loadtxt(path).reshape(3, 4)[:, 3]),
    ("AFNI 3dQwarp", "`_WARP.nii`", True, "afni", "t.nii", field_of),
    ("nitransforms", "`.x5`", False, "x5", "t.x5", x5),
    ("nitransforms", "`.x5`", True, "x5", "t.x5", x5),
)  # fmt: skip


def write(row: Row, folder: Path) -> Path:
    _, _, is_field, tool, name, _ = row
    step: Affine | DenseField
    if is_field:
        vectors = np.broadcast_to(SHIFT.reshape(3, 1, 1, 1), (3, 9, 9, 9)).astype(np.float32)
        step = DenseField(torch.from_numpy(vectors.copy()), IMAGES[0])
    else:
        step = Affine(np.block([[np.eye(3), SHIFT[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]))
    write_transform(Chain((step,)), folder / name, tool=tool, images=IMAGES)
    return folder / name


def described(row: Row, folder: Path) -> str:
    """A row of the table, deduced from the numbers in the file."""
    tool, file, is_field, *_, numbers = row
    stored = numbers(write(row, folder))
    found = [
        (content, direction, name)
        for (content, start), (direction, sign), (name, signs) in product(
            (("displacements", np.zeros(3)), ("positions", MIDDLE)),
            (("fixed → moving", 1), ("moving → fixed", -1)),
            COORDINATES.items(),
        )
        if np.allclose(stored, np.array(signs) * (start + sign * SHIFT), atol=1e-5)
    ]
    assert len(found) == 1, (tool, stored, found)
    content, direction, name = found[0]
    return f"| {tool} | {file} | {content if is_field else 'matrix'} | {direction} | {name}, mm |"


def table(folder: Path) -> str:
    lines = ["| tool | file | holds | maps points | coordinates |", "|---|---|---|---|---|"]
    for number, row in enumerate(ROWS):
        (folder / str(number)).mkdir()
        lines.append(described(row, folder / str(number)))
    return "\n".join(lines)


def test_the_table_on_the_page_is_what_the_files_hold(tmp_path: Path) -> None:
    assert table(tmp_path) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
@pytest.mark.parametrize("kind", ["RAS", "LAS", "LPS", "oblique LAS"])
def test_every_file_comes_back_within_a_hundredth_of_a_millimetre(kind: str, row: Row, tmp_path: Path) -> None:
    _, _, is_field, tool, name, _ = row
    images = grids(kind, "LPS")
    vectors = np.moveaxis(bend(nodes(images[0])) - nodes(images[0]), -1, 0)
    field = DenseField(torch.from_numpy(np.ascontiguousarray(vectors, np.float32)), images[0])
    at = inner_points(images[0])
    expected = bend(at) if is_field else mapped(AFFINE, at)
    write_transform(Chain((field if is_field else Affine(AFFINE),)), tmp_path / name, tool=tool, images=images)
    path = tmp_path / (f"{name}0GenericAffine.mat" if tool == "ants" else name)
    convention = {"fsl": "fsl", "niftyreg": "ras"}.get(tool)
    chain = read_transform(path, convention, images)  # type: ignore[arg-type]
    np.testing.assert_allclose(chain.map_points(at), expected, atol=0.01)


def test_the_order_in_a_file_is_that_on_the_page(tmp_path: Path) -> None:
    """A composite of ITK applies its last part first, a chain of X5 its first."""
    field = DenseField(torch.full((3, 9, 9, 9), 1.0), IMAGES[0])
    chain = Chain((field, Affine(AFFINE)))
    write_transform(chain, tmp_path / "t.h5")
    write_transform(chain, tmp_path / "t.x5")
    with h5py.File(tmp_path / "t.h5") as file:
        kinds = [file[f"TransformGroup/{number}/TransformType"][0].decode().split("_")[0] for number in (1, 2)]
    assert kinds == ["AffineTransform", "DisplacementFieldTransform"]
    with h5py.File(tmp_path / "t.x5") as file:
        kinds = [file[f"TransformGroup/{number}"].attrs["Type"] for number in (0, 1)]
        assert file["TransformChain/0"][()] == b"0/1"
    assert kinds == ["nonlinear", "linear"]


@pytest.mark.parametrize("row", [row for row in ROWS if row[2]], ids=lambda row: f"{row[0]} {row[1]}")
def test_a_field_on_one_slice_comes_back(row: Row, tmp_path: Path) -> None:
    """A file of one slice is a 3-D image; a map of the plane stays one where the format has two dimensions."""
    _, _, _, tool, name, _ = row
    flat = Grid((21, 17, 1), np.array([[-2.0, 0, 0, 20], [0, -1.5, 0, 12], [0, 0, 4, 0], [0, 0, 0, 1]]))
    x, y, _ = np.moveaxis(nodes(flat), -1, 0)
    vectors = np.stack([np.sin(y / 5), np.cos(x / 6), 0 * x]).astype(np.float32)
    at = nodes(flat)[1:-1, 1:-1].reshape(-1, 3)
    expected = at + np.moveaxis(vectors, 0, -1)[1:-1, 1:-1].reshape(-1, 3)
    for dimension in (2, 3):
        chain = Chain((DenseField(torch.from_numpy(vectors), flat),), dimension)
        path = tmp_path / f"{dimension}{name}"
        write_transform(chain, path, tool=tool, images=(flat, flat))
        back = read_transform(path, images=(flat, flat))
        np.testing.assert_allclose(back.map_points(at), expected, atol=1e-4)
        assert back.dimension == (dimension if tool in ("itk", "niftyreg") else 3)
