"""4-D images, as nibabel writes and reads them, resampled as volumes of their own are."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from moved_points import bend_to, moved_by_itk

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.geometry import Affine
from maxca.io.images import read
from maxca.io.series import open_series
from maxca.io.transforms import write_transform
from maxca.registration.volumes import Motion, apply_series, transforms_of_volumes

SHAPE, COUNT = (14, 12, 10), 5
AFFINE = np.array([[-4.0, 0, 0.5, 28], [0, 4.5, 0, -30], [0.4, 0, 5, -25], [0, 0, 0, 1]])
DATA = np.random.default_rng(1).integers(0, 900, (*SHAPE, COUNT)).astype(np.int16)


def bold(path: Path, data: np.ndarray = DATA, scaled: bool = False) -> Path:
    kind = nib.MGHImage if path.suffix in (".mgz", ".mgh") else nib.Nifti1Image
    image = kind(data, AFFINE)
    if kind is nib.Nifti1Image:
        image.header.set_xyzt_units("mm", "msec")
        image.header["pixdim"][4], image.header["toffset"] = 720, 40
        image.header.set_intent("estimate", name="bold")
        if scaled:
            image.header.set_slope_inter(0.25, -3)
    else:
        image.header.set_zooms((*image.header.get_zooms()[:3], 720))
    nib.save(image, path)
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = phantoms.save(tmp_path / "reference.nii.gz", phantoms.image(phantoms.grid((6.0, 7.0, 8.0), flips="i")))
    image = nib.load(path)
    image.header.set_xyzt_units("mm")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.mgh", "a.img"])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.uint8])
def test_each_volume_is_resampled_as_an_image_of_its_own(
    tmp_path: Path, reference: Path, name: str, kind: type
) -> None:
    source, out, transform = bold(tmp_path / name, DATA.astype(kind)), tmp_path / "out.nii.gz", tmp_path / "t.h5"
    bend_to(transform)
    words = ["apply", "-i", source, "-r", reference, "-t", transform, "-o", out, "-q", "--interpolation", "linear"]
    assert main([*map(str, words)]) == 0
    after, wanted = nib.load(out), nib.load(reference)
    assert after.shape == (*wanted.shape, COUNT) and after.get_data_dtype() == kind
    np.testing.assert_allclose(after.affine, wanted.affine, atol=1e-5)
    assert after.header["pixdim"][4] == 720 and after.header.get_xyzt_units() == ("mm", "msec")
    fill = maxca.registration.interpolation.background(open_series(source).first)  # type: ignore[union-attr]
    for number in range(COUNT):
        alone = nib.Nifti1Image(DATA[..., number].astype(kind), nib.load(source).affine)
        expected = maxca.apply(alone, reference, transform, "linear", fill=fill)
        np.testing.assert_array_equal(np.asarray(after.dataobj)[..., number], expected.data)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_the_time_axis_and_the_intent_are_kept(tmp_path: Path, reference: Path, name: str) -> None:
    source, out = bold(tmp_path / "a.nii.gz"), tmp_path / f"out-{name}"
    apply_series(source, reference, Motion()).save(out)
    before, after = nib.load(source).header, nib.load(out).header
    for field in ("intent_code", "intent_p1", "intent_name", "toffset", "xyzt_units"):
        assert before[field] == after[field], field
    assert after["pixdim"][4] == 720
    assert after["sform_code"] == nib.load(reference).header["sform_code"]
    content = gzip.decompress(out.read_bytes()) if name.endswith(".gz") else out.read_bytes()
    assert len(content) == 352 + int(np.prod(nib.load(out).shape)) * 2


def test_scaled_values_become_floats(tmp_path: Path, reference: Path) -> None:
    source, out = tmp_path / "a.nii", tmp_path / "out.nii"
    bold(source, scaled=True)
    values = np.asarray(nib.load(source).dataobj)
    first = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)
    apply_series(source, first, Motion(), "nearest").save(out)
    assert nib.load(out).get_data_dtype() == np.float32
    np.testing.assert_allclose(np.asarray(nib.load(out).dataobj), values, rtol=1e-6)


def test_one_transform_per_volume_after_the_common_ones(tmp_path: Path) -> None:
    """A point of the reference passes through the common transform first, then through that of the volume."""
    first = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([4.0, 4, 4, 1]))
    image = nib.Nifti1Image(DATA.astype(np.int16), np.diag([4.0, 4, 4, 1]))
    nib.save(first, tmp_path / "reference.nii.gz")
    nib.save(image, tmp_path / "a.nii.gz")
    quarter = np.array([[0, -1.0, 0, 44], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_transform(maxca.Chain((Affine(quarter),)), tmp_path / "turn.tfm")
    (tmp_path / "each").mkdir()
    for number in range(COUNT):
        shift = np.eye(4)
        shift[0, 3] = 4 * (number - 2)
        write_transform(maxca.Chain((Affine(shift),)), tmp_path / "each" / f"volume{number + 8}.tfm")
    words = ["apply", "-i", "a.nii.gz", "-r", "reference.nii.gz", "-t", "turn.tfm", "-o", "out.nii.gz"]
    words = [str(tmp_path / word) if "." in word else word for word in words]
    assert main([*words, "--volume-transforms", str(tmp_path / "each"), "--interpolation", "nearest"]) == 0
    after = np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)
    where = np.indices(SHAPE).reshape(3, -1)
    for number in range(COUNT):
        i, j, k = 11 - where[1] + number - 2, where[0], where[2]
        inside = (i >= 0) & (i < SHAPE[0]) & (j < SHAPE[1])
        expected = np.where(inside, DATA[np.where(inside, i, 0), np.where(inside, j, 0), k, number], 0)
        np.testing.assert_array_equal(after[..., number].reshape(-1), expected)


def test_a_list_of_affines_in_one_file_of_itk(tmp_path: Path) -> None:
    """As fMRIPrep writes motion parameters: files of ITK, one after the other under one first line."""
    lines = ["#Insight Transform File V1.0"]
    for number in range(COUNT):
        itk = sitk.AffineTransform(3)
        itk.Translate((number * 2.0, -number, 0.5))
        itk.Rotate(0, 1, 0.05 * number)
        itk.SetCenter((1, 2, 3))
        sitk.WriteTransform(itk, str(tmp_path / f"{number}.tfm"))
        lines += [f"#Transform {number}", *(tmp_path / f"{number}.tfm").read_text().splitlines()[2:]]
    (tmp_path / "hmc_xfm.txt").write_text("\n".join(lines) + "\n")
    each = transforms_of_volumes(tmp_path / "hmc_xfm.txt")
    assert len(each) == COUNT
    points = np.random.default_rng(0).uniform(-30, 30, (9, 3))
    for number, chain in enumerate(each):
        np.testing.assert_allclose(
            chain.map_points(points), moved_by_itk(tmp_path / f"{number}.tfm", points), atol=1e-9
        )
    (tmp_path / "hmc_xfm.txt").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(MaxcaError, match=r"hmc_xfm\.txt: truncated"):
        transforms_of_volumes(tmp_path / "hmc_xfm.txt")


@pytest.mark.parametrize("common", [True, False])
def test_the_motion_of_afni_and_of_mcflirt_is_that_of_itk(tmp_path: Path, common: bool) -> None:
    """Each a translation per volume, made by hand in the convention of its tool, after a common transform or alone."""
    plumb = np.array([[-4.0, 0, 0, 28], [0, 4.5, 0, -30], [0, 0, 5, -25], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(DATA, plumb), tmp_path / "bold.nii.gz")
    # Where a common transform leads to it, the reference may have another grid.
    target = plumb @ np.diag([0.8, 0.8, 1.1, 1]) if common else plumb
    nib.save(nib.Nifti1Image(DATA[..., 0], target), tmp_path / "fixed.nii.gz")
    shifts = np.random.default_rng(0).uniform(-6, 6, (COUNT, 3))  # LPS mm
    for name in ("itk", "mcflirt"):
        (tmp_path / name).mkdir()
    for number, shift in enumerate(shifts):
        sitk.WriteTransform(sitk.TranslationTransform(3, shift.tolist()), str(tmp_path / "itk" / f"{number}.tfm"))
        matrix = np.eye(4)
        matrix[:3, 3] = -shift * (1, -1, 1)  # FSL's axes are those of the file, L A S, and it maps moving to fixed
        np.savetxt(tmp_path / "mcflirt" / f"MAT_{number:04d}", matrix, fmt="%.10f")
    rows = ["1 0 0 {:.9f} 0 1 0 {:.9f} 0 0 1 {:.9f}".format(*shift) for shift in shifts]
    (tmp_path / "motion.aff12.1D").write_text("\n".join(rows) + "\n")
    write_transform(maxca.Chain((Affine(np.diag([1.1, 1, 0.95, 1])),)), tmp_path / "common.tfm")
    words = ["apply", "-q", "-i", str(tmp_path / "bold.nii.gz"), "-r", str(tmp_path / "fixed.nii.gz")]
    words += ["-t", str(tmp_path / "common.tfm")] if common else []
    words += ["--interpolation", "linear", "--matrix-convention", "fsl"]
    moved = {}
    for place in ("itk", "mcflirt", "motion.aff12.1D"):
        out = tmp_path / f"by_{place[:3]}.nii.gz"
        assert main([*words, "--volume-transforms", str(tmp_path / place), "-o", str(out)]) == 0
        moved[place] = np.asarray(nib.load(out).dataobj).astype(int)
    assert moved["itk"].std() > 50
    for place in ("mcflirt", "motion.aff12.1D"):
        assert np.abs(moved[place] - moved["itk"]).max() <= 1, place


def test_transforms_of_volumes_are_ordered_by_number_or_listed(tmp_path: Path) -> None:
    for name in ("v10.tfm", "v9.tfm", "v011.tfm", ".hidden"):
        (tmp_path / name).touch()
    assert [each.name for each in transforms_of_volumes(tmp_path)] == ["v9.tfm", "v10.tfm", "v011.tfm"]
    (tmp_path / "list.txt").write_text("v10.tfm\n\nv9.tfm\n")
    assert [each.name for each in transforms_of_volumes(tmp_path / "list.txt")] == ["v10.tfm", "v9.tfm"]
    (tmp_path / "list.txt").write_text("missing.tfm\n")
    with pytest.raises(MaxcaError, match=r"missing\.tfm: no such file"):
        transforms_of_volumes(tmp_path / "list.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MaxcaError, match="no transforms there"):
        transforms_of_volumes(tmp_path / "empty")


def test_register_warps_a_series_with_the_moving_image(tmp_path: Path) -> None:
    where = phantoms.grid((4.0, 4.0, 4.0))
    fixed = phantoms.save(tmp_path / "fixed.nii.gz", phantoms.image(where, phantoms.bend))
    moving = phantoms.save(tmp_path / "moving.nii.gz", phantoms.image(where))
    volume = read(moving).data
    frames = nib.Nifti1Image(np.stack([volume, volume // 2], axis=3), read(moving).grid.affine)
    frames.header["pixdim"][4] = 2.5
    nib.save(frames, tmp_path / "bold.nii.gz")
    words = ["register", "-f", fixed, "-m", moving, "--apply", tmp_path / "bold.nii.gz", "-o", tmp_path / "out"]
    assert main([*map(str, words), "--effort", "fast", "--threads", "1", "-q"]) == 0
    after = nib.load(tmp_path / "out" / "warped_bold.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj)[..., 0], read(tmp_path / "out" / "warped.nii.gz").data)
    assert after.header["pixdim"][4] == 2.5 and after.shape[3] == 2
    result = maxca.Result.load(tmp_path / "out")
    result.save(tmp_path / "again")
    assert nib.load(tmp_path / "again" / "warped_bold.nii.gz").shape == after.shape
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "again" / "warped_bold.nii.gz").dataobj), np.asarray(after.dataobj)
    )


def test_voxels_that_are_not_finite_are_said_once(tmp_path: Path, reference: Path) -> None:
    data = DATA.astype(np.float32)
    data[:2, 0, 0, 1:] = np.nan
    source = bold(tmp_path / "a.nii.gz", data)
    (warning,) = apply_series(source, reference, Motion()).save(tmp_path / "out.nii.gz")
    assert "a.nii.gz: voxels are NaN" in warning and "4 volumes, the first of which is 2" in warning
    assert np.isfinite(np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)).all()


def test_what_is_refused_leaves_nothing(tmp_path: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, each = bold(tmp_path / "a.nii.gz"), tmp_path / "each"
    each.mkdir()
    (each / "v1.tfm").touch()
    content = bytearray(source.read_bytes())
    content[-6] ^= 1  # of the CRC
    (tmp_path / "crc.nii.gz").write_bytes(content)
    (tmp_path / "short.nii.gz").write_bytes(source.read_bytes()[:-400])
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2, 3), np.float32), np.eye(4)), tmp_path / "five.nii.gz")
    before = sorted(tmp_path.rglob("*"))
    for words, said in (
        ((source, "out.mha"), "out.mha: 4-D images are written as .nii or .nii.gz"),
        ((tmp_path / "crc.nii.gz", "out.nii.gz"), "crc.nii.gz: truncated or damaged"),
        ((tmp_path / "short.nii.gz", "out.nii.gz"), "short.nii.gz: truncated or damaged"),
        ((tmp_path / "five.nii.gz", "out.nii.gz"), "five.nii.gz: 5-D"),
        ((source, "out.nii.gz", "--volume-transforms", each), "5 volumes, but 1 transforms"),
        ((reference, "out.nii.gz", "--volume-transforms", each), "reference.nii.gz: not a 4-D image"),
    ):
        command = ["apply", "-i", words[0], "-r", reference, "-o", tmp_path / str(words[1]), *words[2:]]
        assert main([*map(str, command)]) == 1
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and said in shown
        assert sorted(tmp_path.rglob("*")) == before


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path: Path, reference: Path) -> None:
    peaks = []
    for count in (3, 40):
        source = bold(tmp_path / "a.nii.gz", np.zeros((40, 40, 40, count), np.int16))
        tracemalloc.start()
        apply_series(source, reference, Motion(), "linear").save(tmp_path / "out.nii.gz")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
