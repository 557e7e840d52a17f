"""FreeSurfer's .lta and .m3z: written by nitransforms, or byte by byte from the definition of the format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from foreign import AFFINE, DIRECTIONS, bend, grids, images, inner_points, mapped, nodes

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.resampling import grids_of

kinds = pytest.mark.parametrize("kind", DIRECTIONS)


def header(grid: Grid) -> nib.freesurfer.MGHImage:
    """What nibabel knows of the volume as a file of FreeSurfer."""
    return nib.MGHImage(np.zeros(grid.shape, np.float32), grid.affine)


def geometry(grid: Grid, valid: int = 1) -> list[str]:
    about = header(grid).header
    directions = np.asarray(about["Mdc"], dtype=float)
    center = grid.affine[:3] @ [*(np.array(grid.shape) / 2), 1]
    return [
        f"valid = {valid}  # volume info {'' if valid else 'in'}valid",
        "filename = /subjects/one # two/mri/orig.mgz",
        "volume = {} {} {}".format(*grid.shape),
        "voxelsize = {:.15e} {:.15e} {:.15e}".format(*about.get_zooms()[:3]),
        *(
            "{}   = {:.15e} {:.15e} {:.15e}".format(name, *axis)
            for name, axis in zip(("xras", "yras", "zras"), directions, strict=True)
        ),
        "cras   = {:.15e} {:.15e} {:.15e}".format(*center),
    ]


def lta(path: Path, kind: int, numbers: np.ndarray, fixed: Grid, moving: Grid, valid: int = 1) -> Path:
    """As FreeSurfer's LTAprint: source (moving) and destination (fixed)."""
    lines = ["# transform file x.lta", "# created by me on Friday", "", f"type      = {kind} # SOME", "nxforms   = 1"]
    lines += ["mean      = 0.0000 0.0000 0.0000", "sigma     = 1.0000", "1 4 4"]
    lines += [" ".join(f"{value:18.15e}" for value in row) + " " for row in numbers]
    lines += ["src volume info", *geometry(moving, valid), "dst volume info", *geometry(fixed, valid)]
    path.write_text("\n".join([*lines, "subject bert", "fscale 0.150000", ""]))
    return path


def fsl(grid: Grid) -> np.ndarray:
    """Voxels to FSL's coordinates."""
    out = np.diag([*np.linalg.norm(grid.affine[:3, :3], axis=0), 1.0])
    if np.linalg.det(grid.affine) > 0:
        out = out @ np.array([[-1, 0, 0, grid.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return out


def of_type(kind: int, fixed: Grid, moving: Grid) -> np.ndarray:
    """The matrix of a type for the map ``AFFINE``, fixed to moving."""
    back = np.linalg.inv(AFFINE)  # moving to fixed
    voxels = np.linalg.inv(fixed.affine) @ back @ moving.affine
    scale = [np.diag([*np.linalg.norm(each.affine[:3, :3], axis=0), 1.0]) for each in (fixed, moving)]
    tkregister = [np.asarray(header(each).header.get_vox2ras_tkr()) for each in (fixed, moving)]
    return {
        0: voxels,
        1: back,
        2: scale[0] @ voxels @ np.linalg.inv(scale[1]),
        14: tkregister[1] @ np.linalg.inv(voxels) @ np.linalg.inv(tkregister[0]),
        15: fsl(fixed) @ voxels @ np.linalg.inv(fsl(moving)),
    }[kind]


@pytest.mark.parametrize("code", [0, 1, 2, 14, 15])
@kinds
def test_a_linear_transform_of_any_type_maps_points(kind: str, code: int, tmp_path: Path) -> None:
    fixed, moving = grids(kind, "LAS")
    path = lta(tmp_path / "register.lta", code, of_type(code, fixed, moving), fixed, moving)
    np.testing.assert_allclose(read_transform(path).map_points(nodes(fixed)), mapped(AFFINE, nodes(fixed)), atol=1e-3)


@kinds
def test_what_nitransforms_writes_is_read_and_what_is_written_it_reads(kind: str, tmp_path: Path) -> None:
    linear = pytest.importorskip("nitransforms.linear")
    fixed, moving = images(tmp_path, kind, "PIR")
    linear.Affine(AFFINE, reference=fixed).to_filename(tmp_path / "theirs.lta", fmt="fs", moving=moving)
    at = inner_points(grids(kind)[0])
    np.testing.assert_allclose(read_transform(tmp_path / "theirs.lta").map_points(at), mapped(AFFINE, at), atol=1e-4)
    write_transform(Chain((Affine(AFFINE),)), tmp_path / "ours.lta", images=grids_of(fixed, moving))
    theirs = linear.load(tmp_path / "ours.lta", fmt="fs", reference=fixed, moving=moving)
    np.testing.assert_allclose(theirs.map(at), mapped(AFFINE, at), atol=1e-4)


@kinds
def test_the_geometry_that_is_written_is_that_of_the_images(kind: str, tmp_path: Path) -> None:
    io = pytest.importorskip("nitransforms.io")
    pair = grids(kind, "LPS")
    write_transform(Chain((Affine(AFFINE),)), tmp_path / "ours.lta", images=pair)
    read = io.lta.FSLinearTransform.from_filename(tmp_path / "ours.lta")
    for name, grid in zip(("dst", "src"), pair, strict=True):
        np.testing.assert_allclose(read[name].as_affine(), grid.affine, atol=1e-5)
        np.testing.assert_array_equal(read[name]["volume"], grid.shape)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("nxforms   = 1", "nxforms   = 2"), "2 transforms"),
        (("type      = 0", "type      = 21"), "type 21"),
        (("1 4 4", "1 3 3"), "1 4 4"),
        (("dst volume info", ""), "dst volume info is missing"),
        (("cras ", "cross "), "cras is missing"),
        (("volume = 16", "volume = many"), "not made of numbers"),
        (("volume = 16", "volume = 0"), "positive sizes"),
    ],
)
def test_a_damaged_linear_transform_is_refused(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    fixed, moving = grids("LAS")
    path = lta(tmp_path / "register.lta", 0, of_type(0, fixed, moving), fixed, moving)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(MaxcaError, match="register.lta: .*" + words):
        read_transform(path)


def test_voxels_without_a_valid_geometry_are_refused(tmp_path: Path) -> None:
    fixed, moving = grids("LAS")
    path = lta(tmp_path / "register.lta", 0, of_type(0, fixed, moving), fixed, moving, valid=0)
    with pytest.raises(MaxcaError, match=r"register\.lta: .*geometry of both volumes.*lta_convert"):
        read_transform(path)
    ras = lta(tmp_path / "ras.lta", 1, of_type(1, fixed, moving), fixed, moving, valid=0)
    np.testing.assert_allclose(read_transform(ras).as_affine().matrix, AFFINE, atol=1e-9)


# Morphs


def volume_of(grid: Grid, valid: int = 1) -> bytes:
    about = header(grid).header
    center = grid.affine[:3] @ [*(np.array(grid.shape) / 2), 1]
    numbers = [*about.get_zooms()[:3], *np.asarray(about["Mdc"]).ravel(), *center]
    return struct.pack(">4i15f512s", valid, *grid.shape, *numbers, b"orig.mgz")


def morph(atlas: Grid, image: Grid, spacing: int = 2, unit: int | None = 2, invalid: int = 0) -> bytes:
    """The map ``bend`` on every ``spacing``-th voxel of the atlas, as FreeSurfer's gcamorph writes it."""
    shape = [(n + spacing - 1) // spacing for n in atlas.shape]
    index = np.moveaxis(np.indices(shape), 0, -1) * spacing
    world = bend(mapped(atlas.affine, index.astype(float)))
    position = world if unit == 1 else mapped(np.linalg.inv(image.affine), world)
    nodes_ = np.zeros((*shape, 9), ">f4")
    nodes_[..., 3:6] = position
    nodes_[..., :3] = position + 0.25
    nodes_[:invalid, ..., :6] = 0
    nodes_.view(">i4")[..., 6:] = index
    content = struct.pack(">f4if", 1.0, *shape, spacing, 20.0) + nodes_.tobytes()
    content += struct.pack(">i", 10) + volume_of(image) + volume_of(atlas)
    content += b"" if unit is None else struct.pack(">2i", 11, unit)
    content += struct.pack(">i", 12) + np.zeros(shape, ">i4").tobytes()
    return content + struct.pack(">iiq", 31, 0, 1600) + b"Matrix 1 0 0 0".ljust(1600, b"\0")


@pytest.mark.parametrize("unit", [1, 2, None])
@pytest.mark.parametrize("suffix", [".m3z", ".m3d"])
@kinds
def test_a_morph_maps_the_nodes_of_the_atlas(kind: str, suffix: str, unit: int | None, tmp_path: Path) -> None:
    atlas, image = grids(kind, "LAS")
    content = morph(atlas, image, unit=unit)
    path = tmp_path / f"talairach{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".m3z" else content)
    at = nodes(atlas)[2:14:2, 2:12:2, 2:11:2]
    np.testing.assert_allclose(read_transform(path).map_points(at), bend(at), atol=2e-3)


def test_invalid_nodes_move_like_their_neighbours(tmp_path: Path) -> None:
    atlas, image = grids("LAS")
    (tmp_path / "t.m3d").write_bytes(morph(atlas, image, invalid=2))
    chain = read_transform(tmp_path / "t.m3d")
    at = nodes(atlas)
    moved = chain.map_points(at[0:3:2, 4:9:2, 4:9:2]) - at[0:3:2, 4:9:2, 4:9:2]
    neighbours = bend(at[4, 4:9:2, 4:9:2]) - at[4, 4:9:2, 4:9:2]
    np.testing.assert_allclose(moved, np.broadcast_to(neighbours, moved.shape), atol=2e-3)


@pytest.mark.parametrize("kept", [0, 10, 27, 28, 500, 5000, 12000])
def test_a_truncated_morph_is_refused(kept: int, tmp_path: Path) -> None:
    content = morph(*grids("LAS"))
    assert len(content) > 12000
    for name, stored in (
        ("a.m3d", content[:kept]),
        ("b.m3z", gzip.compress(content[:kept])),
        ("c.m3z", gzip.compress(content)[:kept]),
    ):
        if len(stored) < 8000 or name == "a.m3d":
            (tmp_path / name).write_bytes(stored)
            with pytest.raises(MaxcaError, match=name):
                read_transform(tmp_path / name)


def test_a_morph_that_claims_more_nodes_than_it_can_hold_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = struct.pack(">f4if", 1.0, 30000, 30000, 30000, 1, 1.0) + bytes(1 << 20)
    (tmp_path / "bomb.m3z").write_bytes(gzip.compress(bomb))
    with pytest.raises(MaxcaError, match=r"bomb\.m3z: truncated or damaged: \d+ bytes of nodes"):
        read_transform(tmp_path / "bomb.m3z")
