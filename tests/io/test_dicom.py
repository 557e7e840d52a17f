"""A DICOM series is read as the volume it shows, or refused where its slices make none."""

from __future__ import annotations

import locale
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from refusals import refused

from maxca.io.images import read


def write_series(folder: Path, positions: np.ndarray, uid: str = "1.2.3", slope: float = 1.0) -> np.ndarray:
    """A series of coronal-like slices at LPS positions; the voxels (I, J, K) in the order of the positions."""
    folder.mkdir(exist_ok=True)
    row, column = np.array([1.0, 0, 0]), np.array([0, 0.6, -0.8])
    data = np.random.default_rng(0).integers(0, 900, (6, 5, len(positions))).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    # File names run against the positions: only the header tells the order.
    for number, position in enumerate(positions):
        piece = sitk.GetImageFromArray(data[:, :, number : number + 1].T)
        piece.SetSpacing((0.5, 0.75, 1.0))
        tags = {
            "0008|0060": "CT", "0020|000d": "1.2", "0020|000e": uid, "0008|103e": f"series {uid}",
            "0008|0018": f"{uid}.{number + 1}", "0020|0013": str(number + 1), "0020|0052": "1.2.9",
            "0020|0032": "\\".join(map(str, position)), "0020|0037": "\\".join(map(str, [*row, *column])),
            "0028|1052": "0", "0028|1053": str(slope),
        }  # fmt: skip
        for key, value in tags.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}-{99 - number}.dcm"))
        spoken = locale.setlocale(locale.LC_ALL)
        writer.Execute(piece)
        locale.setlocale(locale.LC_ALL, spoken)  # ITK leaves it changed where it has written DICOM
    return data


NORMAL = np.array([0, 0.8, 0.6])
START = np.array([10.0, -20, 30])
STEPS = np.arange(7)[:, None]


def test_an_even_series_is_read_in_order_and_in_its_place(tmp_path: Path) -> None:
    positions = START + STEPS * 2.5 * NORMAL
    data = write_series(tmp_path / "ct", positions)
    image = read(tmp_path / "ct")
    np.testing.assert_array_equal(image.data, data)
    np.testing.assert_allclose(image.grid.spacing, [0.5, 0.75, 2.5], atol=1e-5)
    for number, position in enumerate(positions):
        at = image.grid.to_world(np.array([0, 0, number])) * (-1, -1, 1)
        np.testing.assert_allclose(at, position, atol=1e-4)
    corner = image.grid.to_world(np.array([5, 4, 0])) * (-1, -1, 1)
    np.testing.assert_allclose(corner, START + np.array([2.5, 3 * 0.6, -3 * 0.8]), atol=1e-4)


def test_a_single_slice_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", START[None])
    image = read(tmp_path / "ct")
    assert image.dimension == 3 and image.grid.shape == (6, 5, 1)


def test_uneven_slices_are_refused_with_their_distances(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", START + np.where(STEPS > 3, STEPS * 2.5 + 1, STEPS * 2.5) * NORMAL)
    refused(tmp_path / "ct", "ct: the slices", "2.50 to 3.50 mm apart", "dcm2niix")


def test_a_missing_slice_is_uneven(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.delete(START + STEPS * 2.5 * NORMAL, 3, axis=0))
    refused(tmp_path / "ct", "2.50 to 5.00 mm apart")


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path) -> None:
    tilt = np.radians(15)
    step = np.cos(tilt) * NORMAL + np.sin(tilt) * np.array([0, 0.6, -0.8])
    write_series(tmp_path / "ct", START + STEPS * 2.5 * step)
    message = refused(tmp_path / "ct", "tilted by 15.0 degrees")
    assert "unevenly" not in message


def test_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", START + STEPS // 2 * 2.5 * NORMAL)
    refused(tmp_path / "ct", "several slices at one position")


def test_two_series_in_one_folder_are_listed(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", START + STEPS * 2.5 * NORMAL)
    write_series(tmp_path / "ct", START + STEPS[:3] * 2.5 * NORMAL, uid="1.2.4")
    refused(tmp_path / "ct", "2 DICOM series", "series 1.2.3, 7 files", "series 1.2.4, 3 files", "move the one")


def test_a_folder_without_dicom_and_a_single_file_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", START + STEPS * 2.5 * NORMAL)
    refused(next((tmp_path / "ct").iterdir()), "pass the folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty: no DICOM series")


def test_the_real_tilted_series_is_refused(data_folder: Callable[[str], Path]) -> None:
    refused(data_folder("dicom_ct"), "unevenly spaced", "tilted by 18.5 degrees", "dcm2niix")
