"""What a person would simply have done is done, and said; what cannot be done is refused before the work."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import Image, check_grid, read
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.resampling import apply, compose

WHERE = phantoms.grid((4.0, 4.0, 4.0))
QUICK = {"effort": "fast", "threads": 1, "model": "none"}


def sheared(amount: float = 0.25, where: Grid = WHERE) -> Grid:
    shear = np.eye(4)
    shear[0, 1], shear[1, 2] = amount, amount / 2
    return Grid(where.shape, shear @ where.affine)


# A sheared fixed image: its field lies on an orthogonal grid


@settings(max_examples=30, deadline=None)
@given(
    amounts=st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3),
    spacing=st.lists(st.floats(0.3, 6), min_size=3, max_size=3),
    unit=st.sampled_from([1e-3, 1.0, 1e2]),
    flip=st.sampled_from([-1, 1]),
)
def test_an_upright_grid_covers_a_sheared_one_with_voxels_as_large(
    amounts: list[float], spacing: list[float], unit: float, flip: int
) -> None:
    affine = np.eye(4)
    affine[0, 1], affine[0, 2], affine[1, 2] = amounts
    affine[:3, :3] *= np.array(spacing) * unit
    affine[:, 0] *= flip
    affine[:3, 3] = np.array([7.0, -90, 3]) * unit
    grid = Grid((9, 7, 11), affine)
    upright = grid.upright
    assert not upright.is_sheared
    np.testing.assert_allclose(upright.spacing, grid.spacing, rtol=1e-9)
    index = upright.to_voxel(grid.corners)
    assert (index > -1e-5).all() and (index < np.array(upright.shape) - 1 + 1e-5).all()
    assert np.linalg.det(upright.affine) * np.linalg.det(grid.affine) > 0
    assert upright.upright is upright


def test_a_sheared_fixed_image_is_registered_as_well_as_an_upright_one(tmp_path: Path) -> None:
    moving, grid = phantoms.image(WHERE), sheared()
    straight = maxca.register(phantoms.image(WHERE, phantoms.bend), moving, **QUICK)
    result = maxca.register(phantoms.image(grid, phantoms.bend), moving, **QUICK)
    assert phantoms.error(result.chain) < phantoms.error(straight.chain) + 0.3
    assert any("not orthogonal" in warning for warning in result.warnings)
    assert result.warped.grid == grid
    result.save(tmp_path / "out", save_field=True)
    for name in ("transform.h5", "displacement.nii.gz"):
        again = apply(moving, result.warped, [tmp_path / "out" / name])
        np.testing.assert_allclose(again.data, result.warped.data, atol=1)
    assert nib.load(tmp_path / "out" / "warped.nii.gz").header["qform_code"] == 0


def test_a_chain_is_sampled_on_an_upright_grid_around_a_sheared_reference(tmp_path: Path) -> None:
    reference = Image(np.zeros(WHERE.shape, np.int16), sheared())
    matrix = np.eye(4)
    matrix[:3, 3] = 3, -2, 1
    sampled = compose([Chain((Affine(matrix),))], reference)
    write_transform(sampled, tmp_path / "t.h5")
    points = reference.grid.corners
    np.testing.assert_allclose(
        read_transform(tmp_path / "t.h5").map_points(points), points + np.array([3, -2, 1]), atol=1e-3
    )


# Outputs are checked before the work


def test_a_format_that_cannot_hold_the_result_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    phantoms.save(Path("sheared.nii.gz"), Image(np.ones(WHERE.shape, np.int16), sheared()))
    phantoms.save(Path("scan.nii.gz"), phantoms.image(WHERE))
    write_transform(Chain((DenseField(torch.zeros(3, *WHERE.shape), WHERE),)), "field.h5")
    before = sorted(tmp_path.iterdir())

    def never(*_: object, **__: object) -> None:
        pytest.fail("the work has begun")

    monkeypatch.setattr(Chain, "inverse", never)
    monkeypatch.setattr(Chain, "resample", never)
    monkeypatch.setattr(Chain, "field_on", never)
    for words in (
        "transform invert -i field.h5 -o back.mat",
        "apply -i scan.nii.gz -r sheared.nii.gz -o out.mha",
        "transform jacobian -t field.h5 -r sheared.nii.gz -o out.nrrd",
    ):
        assert main(words.split()) == 1, words
        assert words.split()[-1] in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    check_grid("out.nii", sheared())


def test_folders_of_an_output_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phantoms.save(Path("scan.nii.gz"), phantoms.image(WHERE))
    assert main(["apply", "-i", "scan.nii.gz", "-r", "scan.nii.gz", "-o", "study/subject/out.nii.gz", "-q"]) == 0
    np.testing.assert_array_equal(read("study/subject/out.nii.gz").data, read("scan.nii.gz").data)
    assert main(["apply", "-i", "none.nii.gz", "-r", "scan.nii.gz", "-o", "other/subject/out.nii.gz", "-q"]) == 1
    assert not Path("other").exists()


def test_the_folders_of_a_table_and_its_figures_are_checked_before_and_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    phantoms.save(Path("scan.nii.gz"), phantoms.image(WHERE))
    phantoms.save(Path("labels.nii.gz"), phantoms.image(WHERE, what=phantoms.regions))
    Path("pairs.csv").write_text(
        "fixed,moving,fixed_labels,moving_labels\nscan.nii.gz,scan.nii.gz,labels.nii.gz,labels.nii.gz\n"
    )
    Path("file").touch()
    words = ["evaluate", "--pairs", "pairs.csv", "--methods", "unmoved", "-q"]
    for wrong in (["-o", "file/a.csv"], ["-o", "new/a.csv", "--figure", "file/a.png"]):
        assert main([*words, *wrong]) == 1
        assert not Path("new").exists()
    flipped = nib.load("labels.nii.gz").as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nib.save(flipped, "labels.nii.gz")
    assert main([*words, "-o", "new/a.csv", "--figure", "drawn/a.png"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "on another grid" in line] == said[-2:]  # of the fixed and of the moving side
    assert {path.name for path in Path("new").iterdir()} == {"a.csv", "a-labels.csv", "a-summary.csv", "a.md"}
    assert Path("drawn/a.png").stat().st_size > 0


# What was chosen is said


def test_further_images_of_one_name_get_numbers(tmp_path: Path) -> None:
    scan = phantoms.image(WHERE)
    paths = []
    for n, folder in enumerate(("a", "b", "c")):
        (tmp_path / folder).mkdir()
        paths.append(phantoms.save(tmp_path / folder / "T2.nii.gz", Image(scan.data + np.int16(n), WHERE)))
    labels = phantoms.save(tmp_path / "labels.nii.gz", phantoms.image(WHERE, what=phantoms.regions))
    result = maxca.register(scan, scan, transform="rigid", apply=[*paths, labels], **QUICK)
    result.save(tmp_path / "out")
    names = ["T2.nii.gz", "T2_2.nii.gz", "T2_3.nii.gz", "labels_2.nii.gz"]
    assert list(result.applied) == names == list(json.loads((tmp_path / "out/result.json").read_text())["applied"])
    for n, name in enumerate(names[:3]):
        assert np.median(result.applied[name].data.astype(int) - result.applied["T2.nii.gz"].data) == n
    said = [warning for warning in result.warnings if "so it is named" in warning]
    assert [f"warped_{name}" in warning for name, warning in zip(names[1:], said, strict=True)] == [True] * 3


def test_an_image_that_misses_the_reference_is_a_warning() -> None:
    far = np.eye(4)
    far[:3, 3] = 500
    scan = phantoms.image(WHERE)
    assert any("no part of it falls" in warning for warning in apply(scan, scan, [Chain((Affine(far),))]).warnings)
    assert apply(scan, scan, [Chain()]).warnings == ()


# Slices


def plane(axis: int, at: float = 0.0) -> Image:
    """A slice across an axis of the world, as a volume of one slice stores it."""
    shape = [16] * 3
    shape[axis] = 1
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -30
    affine[axis, 3] = at
    return phantoms.image(Grid((shape[0], shape[1], shape[2]), affine))


@pytest.mark.parametrize("axis", range(3))
def test_slices_of_one_orientation_are_registered_wherever_they_lie(axis: int) -> None:
    result = maxca.register(plane(axis), plane(axis, at=4.0), **QUICK)
    assert result.metrics.similarity.after > 0.8


@pytest.mark.parametrize("shape", [(40, 1, 1), (1, 40, 1), (1, 1, 40)])
def test_a_line_of_voxels_is_named(shape: tuple[int, int, int]) -> None:
    line = Image(np.arange(40.0, dtype=np.float32).reshape(shape), Grid(shape, np.eye(4)), Path("line.nii.gz"))
    for pair in ((line, line), (line, plane(2)), (plane(2), line)):
        with pytest.raises(MaxcaError, match=r"line\.nii\.gz: .* a single line"):
            maxca.register(*pair, **QUICK)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 0)])
def test_slices_across_each_other_and_slices_with_volumes_are_refused(first: int, second: int) -> None:
    with pytest.raises(MaxcaError, match="differ by 90 degrees"):
        maxca.register(plane(first), plane(second), **QUICK)
    with pytest.raises(MaxcaError, match="single slice"):
        maxca.register(phantoms.image(WHERE), plane(first), **QUICK)
