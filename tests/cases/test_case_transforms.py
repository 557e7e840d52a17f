"""Transforms of other tools in containers that look alike: converted, or refused for the true reason, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from maxca.errors import MaxcaError
from maxca.geometry import Grid
from maxca.io.images import Image
from maxca.io.transforms import read_transform
from maxca.io.transforms.matrix import affine_of
from maxca.registration.resampling import apply

SHAPE = (6, 7, 8)
AFFINE = np.array([[-2.0, 0, 0, 5], [0, 1.5, 0, -4], [0, 0, 3, 6], [0, 0, 0, 1]])
NODES = Grid(SHAPE, AFFINE).to_world(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
SHIFT = np.array([2.0, -1.0, 3.0])  # RAS, mm
MIDDLE = NODES[3, 3, 4]


def field_file(path: Path, vectors: np.ndarray, **header: Any) -> Path:
    """A 5-D NIfTI of vectors (3,) or (I, J, K, 3) with fields of its header, and units."""
    units = header.pop("units", "mm")
    image = nib.Nifti1Image(np.broadcast_to(vectors, (*SHAPE, 3))[:, :, :, None].astype(np.float32), AFFINE)
    image.set_sform(AFFINE, 2)
    image.header.set_xyzt_units(units)
    for name, value in ({"intent_code": 1007} | header).items():
        image.header[name] = value
    nib.save(image, path)
    return path


def refused(path: Path | str, *words: str, **options: Any) -> None:
    with pytest.raises(MaxcaError) as caught:
        read_transform(path, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 + len(str(path))
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("vectors", "header"),
    [
        (NODES + SHIFT, {"intent_name": "Mapping"}),  # SPM's y_*.nii
        (NODES + SHIFT, {"descrip": "Deformation"}),
        (NODES + SHIFT, {"intent_name": "NREG_TRANS", "intent_p1": 0}),
        (SHIFT, {"intent_name": "NREG_TRANS", "intent_p1": 1}),
        (SHIFT, {"intent_code": 1006}),
        (SHIFT * (-1, -1, 1), {}),  # ANTs
        (SHIFT * (-1, -1, 1), {"units": "unknown"}),
    ],
)
def test_a_field_means_what_its_header_says(tmp_path: Path, vectors: np.ndarray, header: dict[str, Any]) -> None:
    path = field_file(tmp_path / "field.nii.gz", vectors, **header)
    np.testing.assert_allclose(read_transform(path).map_points(MIDDLE), MIDDLE + SHIFT, atol=1e-5)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"intent_name": "NREG_TRANS", "intent_p1": 2}, "B-splines"),
        ({"intent_name": "NREG_TRANS", "intent_p1": 3}, "velocity field"),
        ({"intent_name": "NREG_TRANS", "intent_p1": 5}, "velocities"),
        ({"intent_name": "NREG_CPP_FILE"}, "NiftyReg"),
        ({"intent_name": "something"}, "'something'"),
        ({"intent_code": 2006}, "FSL has the shape (X, Y, Z, 3)"),
        ({"intent_code": 2007}, "coefficients of FNIRT"),
        ({"intent_code": 0}, "intent 0"),
        ({"descrip": "Velocity field"}, "velocity field"),
        ({"units": "micron"}, "microns"),
        ({"units": "meter"}, "meters"),
    ],
)
def test_a_field_of_another_meaning_is_refused_for_it(tmp_path: Path, header: dict[str, Any], words: str) -> None:
    refused(field_file(tmp_path / "field.nii.gz", SHIFT, **header), "field.nii.gz", words)


def test_a_field_of_two_dimensions_is_read_as_ants_writes_it(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 6, 2))
    image = sitk.GetImageFromArray(vectors.astype(np.float32), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "1Warp.nii.gz"))
    assert nib.load(tmp_path / "1Warp.nii.gz").shape == (6, 7, 1, 1, 2)
    expected = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64)).TransformPoint((2.5, 3.25))
    moved = read_transform(tmp_path / "1Warp.nii.gz").map_points(np.array([-2.5, -3.25, 0]))
    np.testing.assert_allclose(moved, [-expected[0], -expected[1], 0], atol=1e-5)


@pytest.mark.parametrize("name", ["d.mha", "d.mhd", "d.nrrd", "d.nhdr", "d.nii.gz"])
@pytest.mark.parametrize("n", [2, 3])
def test_fields_are_read_from_every_container_alike(tmp_path: Path, name: str, n: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(8, 7, 6, 3)[3 - n :])[..., :n]
    image = sitk.GetImageFromArray(vectors.astype(np.float32), isVector=True)
    image.SetSpacing((1.0, 2.0, 3.0)[:n])
    image.SetOrigin((4.0, -5.0, 6.0)[:n])
    sitk.WriteImage(image, str(tmp_path / name))
    at = np.array(image.TransformContinuousIndexToPhysicalPoint((2.5, 3.25, 4.5)[:n]))
    expected = sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64)).TransformPoint(at.tolist())
    flip = np.array([-1, -1, 1])
    moved = read_transform(tmp_path / name).map_points(np.append(at, [0.0] * (3 - n)) * flip) * flip
    np.testing.assert_allclose(moved[:n], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("left-posterior-superior", "right-anterior-superior", "right-anterior-superior"),
        ("encoding:", 'space units: "um" "um" "um"\nencoding:', "um"),
        ("encoding:", "measurement frame: (0,1,0) (1,0,0) (0,0,1)\nencoding:", "measurement frame"),
    ],
)
def test_a_nrrd_whose_vectors_have_another_basis_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    image = sitk.GetImageFromArray(np.ones((4, 4, 4, 3), np.float32), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "d.nrrd"))
    content = (tmp_path / "d.nrrd").read_bytes()
    (tmp_path / "d.nrrd").write_bytes(content.replace(old.encode(), new.encode()))
    refused(tmp_path / "d.nrrd", words)


def test_an_image_is_no_field(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(tmp_path / "image.mha"))
    refused(tmp_path / "image.mha", "1 numbers")
    colours = sitk.Compose(*[sitk.Image(4, 4, 4, sitk.sitkUInt8)] * 3)
    sitk.WriteImage(colours, str(tmp_path / "colours.nrrd"))
    refused(tmp_path / "colours.nrrd", "uint8")


def fsl_grid(draw: st.DrawFn) -> Grid:
    """A grid, oblique or flipped, of any spacing."""
    numbers = np.array(draw(st.lists(st.floats(-1, 1), min_size=9, max_size=9)))
    rotation = np.linalg.qr(numbers.reshape(3, 3) + 2 * np.eye(3))[0]
    spacing = np.array(draw(st.lists(st.floats(0.5, 3), min_size=3, max_size=3)))
    signs = np.array(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * signs
    affine[:3, 3] = draw(st.lists(st.floats(-50, 50), min_size=3, max_size=3))
    return Grid(SHAPE, affine)


@settings(max_examples=40, deadline=None)
@given(st.composite(fsl_grid)(), st.composite(fsl_grid)())
def test_a_matrix_of_flirt_that_maps_voxel_to_voxel_maps_voxel_to_voxel(fixed: Grid, moving: Grid) -> None:
    """FSL's coordinates: voxels by their size, the first axis from its other end where the header is right-handed."""

    def scaled(grid: Grid, voxel: np.ndarray) -> np.ndarray:
        handed = np.linalg.det(grid.affine[:3, :3]) > 0
        first = grid.shape[0] - 1 - voxel[:1] if handed else voxel[:1]
        return np.concatenate([first, voxel[1:]]) * grid.spacing

    corners = np.array([[0.0, 0, 0], [5, 0, 0], [0, 6, 0], [0, 0, 7]])
    start = np.array([np.append(scaled(moving, voxel), 1) for voxel in corners]).T
    end = np.array([np.append(scaled(fixed, voxel), 1) for voxel in corners]).T
    matrix = end @ np.linalg.inv(start)
    affine = affine_of(matrix, "fsl", (fixed, moving))
    at = np.array([2.0, 3.5, 1.25])
    np.testing.assert_allclose(affine.map_points(fixed.to_world(at)), moving.to_world(at), atol=1e-6)


def test_a_bare_matrix_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "flirt.mat"
    path.write_text("1  0  0  0  \n0  1  0  5  \n0  0  1  0  \n0  0  0  1  \n")
    refused(path, "matrix_convention=ras", "matrix_convention=fsl")
    refused(path, "maxca transform convert", "--fixed", matrix_convention="fsl")
    refused(path, "received 'itk'", matrix_convention="itk")
    at = np.array([10.0, 15, 10])
    np.testing.assert_allclose(read_transform(path, "ras").map_points(at), [10, 20, 10])
    grid = Grid((20, 20, 20), np.eye(4))
    np.testing.assert_allclose(read_transform(path, "fsl", (grid, grid)).map_points(at), [10, 10, 10])
    ramp = Image(np.broadcast_to(np.arange(20, dtype=np.float32)[:, None], grid.shape).copy(), grid)
    assert apply(ramp, ramp, [path], matrix_convention="fsl").data[10, 15, 10] == ramp.data[10, 10, 10]
    with pytest.raises(MaxcaError, match="maxca transform convert"):
        apply(ramp, ramp, [path, path], matrix_convention="fsl")


def test_the_inverse_of_an_affine_can_be_asked_for_as_in_ants(tmp_path: Path) -> None:
    affine = sitk.AffineTransform(3)
    affine.SetTranslation((1, 2, 3))
    sitk.WriteTransform(affine, str(tmp_path / "a.tfm"))
    np.testing.assert_allclose(read_transform(f"[{tmp_path / 'a.tfm'},1]").map_points(np.zeros(3)), [1, 2, -3])
    np.testing.assert_allclose(read_transform(f"[{tmp_path / 'a.tfm'}, 0]").map_points(np.zeros(3)), [-1, -2, 3])
    refused(f"[{field_file(tmp_path / 'field.nii', SHIFT)},1]", "maxca transform invert")
    refused(f"[{tmp_path / 'none.tfm'},1]", "none.tfm", "no such file")


@pytest.mark.parametrize("kind", ["external", "link", "soft", "virtual", "unwritten", "chunks"])
def test_a_composite_that_lies_elsewhere_or_claims_more_than_it_holds_is_refused(tmp_path: Path, kind: str) -> None:
    np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 42, 43, 44.0]).tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["numbers"] = np.zeros(12)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.create_group("TransformGroup/0")
        group.create_dataset("TransformType", data=["AffineTransform_double_3_3"], dtype=h5py.string_dtype("ascii"))
        group["TransformFixedParameters"] = [0.0, 0, 0]
        name = "TransformParameters"
        if kind == "external":
            group.create_dataset(name, (12,), "f8", external=[(str(tmp_path / "secret.bin"), 0, 96)])
        elif kind == "link":
            group[name] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "numbers")
        elif kind == "soft":
            group[name] = h5py.SoftLink("/TransformGroup/0/TransformFixedParameters")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((12,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "numbers", (12,))
            group.create_virtual_dataset(name, layout)
        elif kind == "unwritten":
            group.create_dataset(name, (1 << 30,), "f8")
        else:
            group.create_dataset(name, (1 << 30,), "f8", chunks=(1 << 27,), compression="gzip")
    refused(tmp_path / "x.h5", "x.h5")


def test_a_transform_under_a_name_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    for name in (b"caf\xe9.h5", b"caf\xe9.tfm"):
        plain = tmp_path / f"plain{Path(name.decode('latin-1')).suffix}"
        sitk.WriteTransform(sitk.TranslationTransform(3, (1, 2, 3)), str(plain))
        odd = Path(str(tmp_path)) / name.decode("utf-8", "surrogateescape")
        plain.rename(odd)
        np.testing.assert_allclose(read_transform(odd).map_points(np.zeros(3)), [-1, -2, 3])
