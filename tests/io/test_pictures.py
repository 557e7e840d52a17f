"""PNG and TIFF as Pillow and SimpleITK write them are 2-D images, with the size of their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from PIL import Image as Picture

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.io.images import read

GREY = np.random.default_rng(3).integers(0, 256, (20, 31)).astype(np.uint8)  # rows, columns
COLOUR = np.random.default_rng(4).integers(0, 256, (20, 31, 3)).astype(np.uint8)
KINDS = [np.uint8, np.uint16, np.float32]


def saved(path: Path, values: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Picture.fromarray(values)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options", "spacing"),
    [
        ("a.png", {"dpi": (254, 127)}, (0.1, 0.2)),
        ("a.tif", {"dpi": (254, 127)}, (0.1, 0.2)),
        ("a.tiff", {"resolution": 100, "resolution_unit": "cm"}, (0.1, 0.1)),
        ("lzw.tif", {"dpi": (254, 127), "compression": "tiff_lzw"}, (0.1, 0.2)),
        ("deflate.tif", {"dpi": (254, 127), "compression": "tiff_adobe_deflate"}, (0.1, 0.2)),
        ("packbits.tif", {"dpi": (254, 127), "compression": "packbits"}, (0.1, 0.2)),
    ],
)
def test_the_resolution_is_the_distance_of_the_pixels(
    tmp_path: Path, name: str, options: dict[str, Any], spacing: tuple[float, float]
) -> None:
    image = read(saved(tmp_path / name, GREY, **options))
    np.testing.assert_array_equal(image.data, GREY.T[:, :, None])
    assert image.dimension == 2 and image.warnings == () and image.dtype == np.uint8
    np.testing.assert_allclose(image.grid.spacing[:2], spacing, rtol=1e-3)  # PNG stores whole pixels per metre
    itk = image.to_sitk()
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((30, 19)), np.multiply((30, 19), spacing), rtol=1e-3)
    assert itk.GetOrigin() == (0, 0) and itk.GetDirection() == (1, 0, 0, 1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_simpleitk_writes(tmp_path: Path, suffix: str, kind: type) -> None:
    if suffix == ".png" and kind is np.float32:
        pytest.skip("PNG holds integers")
    path, values = tmp_path / f"a{suffix}", (GREY.astype(float) * 101).astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    image, theirs = read(path), sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(image.data[:, :, 0], theirs.T)
    assert image.dtype == kind


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_without_a_resolution_a_pixel_has_1_mm(tmp_path: Path, name: str) -> None:
    image = read(saved(tmp_path / name, GREY))
    (warning,) = image.warnings
    assert warning == f"{tmp_path / name}: does not define the size of its pixels; 1 mm is assumed"
    assert image.grid.spacing.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_become_luminance_with_a_warning(tmp_path: Path, name: str) -> None:
    image = read(saved(tmp_path / name, COLOUR, dpi=(100, 100)))
    expected = np.rint(0.2126 * COLOUR[..., 0] + 0.7152 * COLOUR[..., 1] + 0.0722 * COLOUR[..., 2])
    np.testing.assert_array_equal(image.data[:, :, 0], expected.T)
    assert [each.split(": ")[1] for each in image.warnings] == ["its colours are replaced by their luminance"]
    same = read(saved(tmp_path / f"same-{name}", GREY, "RGBA", dpi=(100, 100)))
    np.testing.assert_array_equal(same.data[:, :, 0], GREY.T)
    assert same.warnings == ()


def test_transparency_is_ignored_with_a_warning(tmp_path: Path) -> None:
    image = read(saved(tmp_path / "a.png", np.dstack([COLOUR, GREY]), dpi=(100, 100)))
    assert [each.split(": ")[1] for each in image.warnings][1:] == ["its transparency is ignored"]


def test_two_values_are_kept(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        values = read(saved(tmp_path / name, GREY, "1", dpi=(100, 100))).data[:, :, 0]
        expected = np.asarray(Picture.open(tmp_path / name))
        np.testing.assert_array_equal(values > 0, expected.T)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.png", lambda path: saved(path, GREY, "P"), "its colours are numbers of a palette"),
        ("a.tif", lambda path: saved(path, GREY, "P"), "its colours are numbers of a palette"),
        ("a.png", lambda path: saved(path, GREY, "LA"), "transparency, which are not supported|cannot be decoded"),
        (
            "a.tif",
            lambda path: saved(path, GREY, save_all=True, append_images=[Picture.fromarray(GREY)]),
            "has several pages",
        ),
        ("a.tif", lambda path: saved(path, GREY, tiffinfo={274: 6}), "rotated or mirrored"),
        ("a.tif", lambda path: saved(path, GREY, big_tiff=True), "a BigTIFF file"),
        ("a.png", lambda path: path.write_text("notes"), "neither PNG nor TIFF"),
        ("a.png", lambda path: path.write_bytes(saved(path, GREY).read_bytes()[:-80]), "damaged"),
        ("a.tif", lambda path: path.write_bytes(saved(path, GREY).read_bytes()[:60]), "damaged"),
    ],
)
def test_pictures_that_are_refused(tmp_path: Path, name: str, make: Callable[[Path], Any], words: str) -> None:
    make(tmp_path / name)
    with pytest.raises(MaxcaError, match=words) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", GREY)
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    with pytest.raises(MaxcaError, match=r"a\.png: truncated or damaged: the header claims 3\.6 GB"):
        read(path)


def test_damaged_pictures_are_refused_or_read(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for name in ("a.png", "a.tif"):
        whole = saved(tmp_path / name, GREY, dpi=(100, 100)).read_bytes()
        for _ in range(6):
            content = bytearray(whole)
            for place in chance.integers(0, 200, 3).tolist():
                content[min(place, len(content) - 1)] = int(chance.integers(256))
            (tmp_path / name).write_bytes(content)
            try:
                read(tmp_path / name)
            except MaxcaError as error:
                assert name in str(error) and "\n" not in str(error) and len(str(error)) < 500


def test_two_pictures_are_registered_in_the_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2-D in, 2-D out: the transform is one of ITK's 2-D images, in the mm of the file's resolution."""
    plane = phantoms.grid((1.0, 1.0, 66.0))
    pair = {"fixed": lambda x: x + np.array([5.0, -3, 0]), "moving": lambda x: x}
    for name, through in pair.items():
        values = phantoms.image(plane, through).data[:, :, 0].T
        saved(tmp_path / f"{name}.png", (values / 4).clip(0, 255).astype(np.uint8), dpi=(127, 127))  # 0.2 mm
    words = ["register", "-f", tmp_path / "fixed.png", "-m", tmp_path / "moving.png", "-o", tmp_path / "out"]
    words += ["--transform", "rigid", "--effort", "fast", "--model", "none", "--threads", "1"]
    assert main([*map(str, words)]) == 0, capsys.readouterr().err
    result = maxca.Result.load(tmp_path / "out")
    assert result.warped.dimension == 2 and result.warped.dtype == np.uint8
    itk = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    assert itk.GetDimension() == 2
    middle = (33 * 0.2, 33 * 0.2)
    np.testing.assert_allclose(np.subtract(itk.TransformPoint(middle), middle), (1.0, -0.6), atol=0.04)
    fixed, moving = (sitk.GetImageFromArray(read(tmp_path / f"{n}.png").data[:, :, 0].T) for n in pair)
    for image in (fixed, moving):
        image.SetSpacing((0.2, 0.2))
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, itk, sitk.sitkLinear, 0.0))
    assert np.abs(warped.T[4:-4, 4:-4] - result.warped.data[4:-4, 4:-4, 0].astype(float)).max() <= 1
