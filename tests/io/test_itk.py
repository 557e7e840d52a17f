"""Transforms of ITK, ANTs and greedy are read as they meant them, and bad ones are refused in one line."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.itk import from_sitk, to_sitk
from maxca.io.transforms import read_transform, write_transform

FLIP = np.array([-1.0, -1.0, 1.0])
GRID = Grid((6, 7, 8), np.array([[-2.0, 0, 0, 5], [0, 2.5, 0, -8], [0, 0, 3, -10], [0, 0, 0, 1]]))
POINTS = GRID.to_world(np.random.default_rng(0).uniform(0.5, 4.5, (50, 3)))
MATRIX = np.array([[1.1, 0.1, 0, 3], [-0.2, 0.9, 0.05, -4], [0, 0.1, 1.2, 5], [0, 0, 0, 1]])


def field(grid: Grid = GRID) -> DenseField:
    return DenseField(torch.randn(3, *grid.shape, generator=torch.Generator().manual_seed(0)), grid)


def itk_points(transform: sitk.Transform) -> np.ndarray:
    """Where ITK puts POINTS, in RAS."""
    n = transform.GetDimension()
    moved = [list(transform.TransformPoint(point[:n].tolist())) + point[n:].tolist() for point in POINTS * FLIP]
    return np.array(moved) * FLIP


def itk_field(grid: Grid = GRID) -> sitk.DisplacementFieldTransform:
    vectors = np.random.default_rng(1).normal(size=(*grid.shape[::-1], 3))
    image = sitk.GetImageFromArray(vectors, isVector=True)
    image.CopyInformation(to_sitk(np.zeros(grid.shape), grid))
    return sitk.DisplacementFieldTransform(image)


def linear_transforms() -> dict[str, sitk.Transform]:
    centre = (10.0, -20.0, 30.0)
    euler = sitk.Euler3DTransform(centre, 0.1, -0.2, 0.3, (1, 2, 3))
    zyx = sitk.Euler3DTransform(euler)
    zyx.SetComputeZYX(True)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(MATRIX[:3, :3].ravel().tolist())
    affine.SetCenter(centre)
    affine.SetTranslation((4, 5, 6))
    return {
        "identity": sitk.Transform(3, sitk.sitkIdentity),
        "translation": sitk.TranslationTransform(3, (1, 2, 3)),
        "euler": euler,
        "euler ZYX": zyx,
        "versor": sitk.VersorRigid3DTransform((0.1, 0.2, 0.05, 0.97), (1, 2, 3), centre),
        "similarity": sitk.Similarity3DTransform(1.2, (0, 0, 1), 0.3, (1, 2, 3), centre),
        "scale": sitk.ScaleTransform(3, (1.1, 0.9, 1.3)),
        "scale versor": sitk.ScaleVersor3DTransform((1.1, 0.9, 1.2), (0, 1, 0), 0.2, (1, 2, 3), centre),
        "affine": affine,
        "euler 2-D": sitk.Euler2DTransform((3, 4), 0.3, (1, 2)),
    }


def refused(path: Path, *words: str) -> None:
    with pytest.raises(MaxcaError) as caught:
        read_transform(path)
    assert "\n" not in str(caught.value)
    for word in (path.name, *words):
        assert word in str(caught.value)


# Reading


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5", ".mat"])
@pytest.mark.parametrize("name", linear_transforms())
def test_linear_transforms_of_itk_are_read_with_their_centre(tmp_path: Path, name: str, suffix: str) -> None:
    transform = linear_transforms()[name]
    sitk.WriteTransform(transform, str(tmp_path / f"t{suffix}"))
    chain = read_transform(tmp_path / f"t{suffix}")
    assert chain.is_affine
    np.testing.assert_allclose(chain.map_points(POINTS), itk_points(transform), atol=1e-9)


def test_the_old_name_of_affines_in_ants_is_read(tmp_path: Path) -> None:
    path = tmp_path / "Affine.txt"
    sitk.WriteTransform(linear_transforms()["affine"], str(path))
    path.write_text(path.read_text().replace("AffineTransform", "MatrixOffsetTransformBase"))
    expected = itk_points(linear_transforms()["affine"])
    np.testing.assert_allclose(read_transform(path).map_points(POINTS), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["greedy.mat", "niftyreg.txt"])
def test_a_plain_matrix_is_taken_as_it_is_where_that_is_said(tmp_path: Path, name: str) -> None:
    np.savetxt(tmp_path / name, MATRIX)
    refused(tmp_path / name, "matrix_convention=ras", "matrix_convention=fsl")
    (step,) = read_transform(tmp_path / name, "ras").steps
    assert isinstance(step, Affine)
    np.testing.assert_allclose(step.matrix, MATRIX)


def test_a_nested_composite_of_itk_keeps_its_order(tmp_path: Path) -> None:
    inner = sitk.CompositeTransform([linear_transforms()["affine"], itk_field()])
    outer = sitk.CompositeTransform(3)
    outer.AddTransform(linear_transforms()["euler"])
    outer.AddTransform(inner)
    outer.FlattenTransform()
    outer.AddTransform(linear_transforms()["scale"])
    sitk.WriteTransform(outer, str(tmp_path / "composite.h5"))
    chain = read_transform(tmp_path / "composite.h5")
    assert [type(step) for step in chain.steps] == [Affine, DenseField, Affine, Affine]
    np.testing.assert_allclose(chain.map_points(POINTS), itk_points(outer), atol=1e-4)


def test_a_composite_tfm_keeps_its_order(tmp_path: Path) -> None:
    composite = sitk.CompositeTransform([linear_transforms()["euler"], linear_transforms()["scale"]])
    sitk.WriteTransform(composite, str(tmp_path / "composite.tfm"))
    expected = itk_points(composite)
    np.testing.assert_allclose(read_transform(tmp_path / "composite.tfm").map_points(POINTS), expected, atol=1e-9)


@pytest.mark.parametrize(("intent", "in_lps"), [(1007, True), (1006, False)])
def test_a_displacement_nifti_means_what_simpleitk_reads(tmp_path: Path, intent: int, in_lps: bool) -> None:
    vectors = np.random.default_rng(2).normal(size=(*GRID.shape, 1, 3)).astype(np.float32)
    stored = nib.Nifti1Image(vectors, GRID.affine)
    stored.set_sform(GRID.affine, 1)
    stored.set_qform(GRID.affine, 1)
    stored.header.set_intent(intent)
    nib.save(stored, tmp_path / "field.nii.gz")
    (step,) = read_transform(tmp_path / "field.nii.gz").steps
    assert isinstance(step, DenseField)
    expected = vectors[..., 0, :] * (FLIP if in_lps else 1)
    np.testing.assert_allclose(step.displacement.permute(1, 2, 3, 0).numpy(), expected, rtol=1e-6)
    image = sitk.Cast(sitk.ReadImage(str(tmp_path / "field.nii.gz")), sitk.sitkVectorFloat64)
    itk = itk_points(sitk.DisplacementFieldTransform(image))
    np.testing.assert_allclose(step.map_points(POINTS), itk, atol=1e-4)


def test_a_two_dimensional_field_moves_nothing_along_the_third_axis(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(3).normal(size=(7, 6, 2)), isVector=True)
    transform = sitk.DisplacementFieldTransform(sitk.Image(image))
    sitk.WriteTransform(transform, str(tmp_path / "flat.h5"))
    (step,) = read_transform(tmp_path / "flat.h5").steps
    at = np.array([2.3, 3.1])
    moved = step.map_points(np.append(at, 0.0) * FLIP) * FLIP
    np.testing.assert_allclose(moved, [*transform.TransformPoint(at.tolist()), 0], atol=1e-5)


# Writing


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat", ".h5", ".hdf5"])
def test_itk_reads_our_affines(tmp_path: Path, suffix: str) -> None:
    chain = Chain((Affine(MATRIX), Affine(MATRIX)))
    write_transform(chain, tmp_path / f"t{suffix}")
    read_back = sitk.ReadTransform(str(tmp_path / f"t{suffix}")) if suffix != ".hdf5" else None
    if read_back:
        np.testing.assert_allclose(itk_points(read_back), chain.map_points(POINTS), atol=1e-9)
    np.testing.assert_allclose(read_transform(tmp_path / f"t{suffix}").map_points(POINTS), chain.map_points(POINTS))


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_an_empty_chain_is_written_as_the_identity(tmp_path: Path, suffix: str) -> None:
    write_transform(Chain(), tmp_path / f"t{suffix}")
    np.testing.assert_allclose(itk_points(sitk.ReadTransform(str(tmp_path / f"t{suffix}"))), POINTS)


def test_equal_transforms_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5", "a.nii.gz", "b.nii.gz"):
        write_transform(Chain((field(),)), tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_displacement_nifti_follows_the_convention_of_ants(tmp_path: Path) -> None:
    write_transform(Chain((field(),)), tmp_path / "field.nii.gz")
    stored = nib.load(tmp_path / "field.nii.gz")
    assert stored.shape == (*GRID.shape, 1, 3)
    assert stored.header["intent_code"] == 1007
    assert stored.get_data_dtype() == np.float32
    image = sitk.Cast(sitk.ReadImage(str(tmp_path / "field.nii.gz")), sitk.sitkVectorFloat64)
    itk = itk_points(sitk.DisplacementFieldTransform(image))
    np.testing.assert_allclose(itk, field().map_points(POINTS), atol=1e-4)


def test_a_whole_chain_is_flattened_into_a_displacement_nifti(tmp_path: Path) -> None:
    chain = Chain((field(), Affine(MATRIX)))
    write_transform(chain, tmp_path / "all.nii.gz")
    (step,) = read_transform(tmp_path / "all.nii.gz").steps
    np.testing.assert_allclose(step.map_points(POINTS), chain.map_points(POINTS), atol=1e-4)
    write_transform(Chain((Affine(MATRIX),)), tmp_path / "affine.nii", grid=GRID)
    moved = read_transform(tmp_path / "affine.nii").map_points(POINTS)
    np.testing.assert_allclose(moved, Affine(MATRIX).map_points(POINTS), atol=1e-4)


def test_a_chain_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    sheared = GRID.affine.copy()
    sheared[0, 1] = 0.5
    cases = [
        (Chain((field(),)), "t.tfm", r"t\.tfm: .* write the file as \.h5"),
        (Chain((Affine(MATRIX),)), "t.nii.gz", "no grid"),
        (Chain((field(Grid(GRID.shape, sheared)),)), "t.h5", "sheared"),
        (Chain((field(Grid(GRID.shape, sheared)),)), "t.nii.gz", "sheared"),
        (Chain((field(), Affine(MATRIX))), "t.mat", r"t\.mat: .* write the file as \.h5"),
        (Chain(), "t.xfm", "a transform ends in one of"),
        (Chain((field(),)), "t.lta", r"t\.lta: .* affine transform only"),
    ]
    for chain, name, message in cases:
        with pytest.raises(MaxcaError, match=message):
            write_transform(chain, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".h5", ".nii.gz", ".tfm"])
def test_a_disc_that_fills_while_writing_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    chain = Chain((Affine(MATRIX),)) if suffix == ".tfm" else Chain((field(),))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(MaxcaError, match="cannot write"):
            write_transform(chain, tmp_path / f"t{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


# Bad input


def test_a_missing_transform_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.h5", "no such file")


@pytest.mark.parametrize("name", ["t.h5", "t.tfm", "t.mat", "t.nii.gz"])
def test_a_truncated_transform_is_refused(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    write_transform(Chain((field(),) if name in ("t.h5", "t.nii.gz") else (Affine(MATRIX),)), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    refused(tmp_path / name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["t.h5", "t.tfm", "t.txt", "t.mat", "t.nii", "t.nii.gz", "t.lta"])
def test_a_text_file_is_no_transform(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("these are my notes\n" * 30)
    refused(tmp_path / name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", ["nan", "inf", "singular"])
def test_a_transform_that_is_singular_or_not_finite_is_refused(tmp_path: Path, value: str) -> None:
    matrix = MATRIX.copy()
    matrix[0] = matrix[1] if value == "singular" else float(value)
    np.savetxt(tmp_path / "greedy.mat", matrix)
    with pytest.raises(MaxcaError, match=r"greedy\.mat: "):
        read_transform(tmp_path / "greedy.mat", "ras")
    write_transform(Chain((Affine(MATRIX),)), tmp_path / "itk.tfm")
    lines = (tmp_path / "itk.tfm").read_text().splitlines()
    numbers = "0 0 0 0 1 0 0 0 1" if value == "singular" else f"{value} 0 0 0 1 0 0 0 1"
    lines[3] = f"Parameters: {numbers} 0 0 0"
    (tmp_path / "itk.tfm").write_text("\n".join(lines) + "\n")
    refused(tmp_path / "itk.tfm")


def test_a_field_with_nan_is_refused(tmp_path: Path) -> None:
    vectors = np.full((*GRID.shape, 1, 3), np.nan, np.float32)
    stored = nib.Nifti1Image(vectors, GRID.affine)
    stored.header.set_intent(1007)
    nib.save(stored, tmp_path / "nan.nii.gz")
    refused(tmp_path / "nan.nii.gz", "NaN")


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3), (4, 5, 6, 1, 3), (4, 5, 6, 1, 2)])
def test_an_image_or_a_field_of_another_convention_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "other.nii.gz")
    refused(tmp_path / "other.nii.gz", "intent 1007 (LPS mm) or 1006 (RAS mm)")


def test_a_transform_of_another_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    bspline = sitk.BSplineTransformInitializer(sitk.Image(8, 8, 8, sitk.sitkFloat32), [2, 2, 2])
    sitk.WriteTransform(bspline, str(tmp_path / "spline.tfm"))
    text = (tmp_path / "spline.tfm").read_text()
    (tmp_path / "kernel.tfm").write_text(text.replace("BSplineTransform", "ThinPlateSplineKernelTransform"))
    words = ("ThinPlateSplineKernelTransform is not supported", "TransformToDisplacementField")
    refused(tmp_path / "kernel.tfm", *words)


# Images


def test_images_go_to_simpleitk_and_back() -> None:
    data = np.random.default_rng(0).integers(0, 9, GRID.shape).astype(np.int16)
    back, grid = from_sitk(to_sitk(data, GRID))
    np.testing.assert_array_equal(back, data)
    assert grid.same_as(GRID)


def test_a_slice_askew_in_space_becomes_a_three_dimensional_image() -> None:
    askew = Grid((4, 5, 1), np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    image = to_sitk(np.zeros(askew.shape), askew, dimension=2)
    assert image.GetDimension() == 3
    assert from_sitk(image)[1].same_as(askew)
