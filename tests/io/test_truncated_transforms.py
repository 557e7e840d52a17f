"""A file of another tool that is cut off or changed is read completely, or refused in one line that names it."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import AFFINE, bend, grids, nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from test_freesurfer import lta, morph, of_type

from maxca.errors import MaxcaError
from maxca.geometry import Affine, BSpline, Chain, DenseField
from maxca.io.transforms import read_transform, write_transform

IMAGES = grids("oblique LAS", "RAS")
AT = nodes(IMAGES[0])[3:-3:3, 3:-3:3, 3:-3:3]
quick = settings(max_examples=40, deadline=None)


def field() -> Chain:
    vectors = np.moveaxis(bend(nodes(IMAGES[0])) - nodes(IMAGES[0]), -1, 0)
    return Chain((DenseField(torch.from_numpy(np.ascontiguousarray(vectors, np.float32)), IMAGES[0]),))


def by_tool(tool: str, chain: Chain) -> Callable[[Path], None]:
    return lambda path: write_transform(chain, path, tool=tool, images=IMAGES)  # type: ignore[arg-type]


def spline(path: Path) -> None:
    """A B-spline of elastix, by the description of its grid that a linear transform shares."""
    write_transform(Chain((Affine(AFFINE),)), path, tool="elastix", images=IMAGES)
    numbers = " ".join(f"{value:.4f}" for value in np.random.default_rng(0).normal(size=3 * 5**3))
    lines = [line for line in path.read_text().splitlines() if "Parameters " not in line and "(Transform " not in line]
    lines += ['(Transform "BSplineTransform")', "(NumberOfParameters 375)", f"(TransformParameters {numbers})"]
    lines += ["(GridSize 5 5 5)", "(GridIndex 0 0 0)", "(GridSpacing 20 20 20)", "(GridOrigin -40 -40 -40)"]
    path.write_text("\n".join([*lines, "(GridDirection 1 0 0 0 1 0 0 0 1)", ""]))


AFFINES = Chain((Affine(AFFINE),))
FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "FLIRT": ("t.mat", by_tool("fsl", AFFINES)),
    "FNIRT": ("t.nii", by_tool("fsl", field())),
    "LTA": ("t.lta", lambda path: lta(path, 0, of_type(0, *IMAGES), *IMAGES) and None),
    "morph": ("t.m3d", lambda path: path.write_bytes(morph(*IMAGES)) and None),
    "packed morph": ("t.m3z", lambda path: path.write_bytes(gzip.compress(morph(*IMAGES))) and None),
    "SPM": ("t.nii", by_tool("spm", field())),
    "NiftyReg": ("t.nii.gz", by_tool("niftyreg", field())),
    "AFNI matrix": ("t.aff12.1D", by_tool("afni", AFFINES)),
    "AFNI warp": ("t.nii", by_tool("afni", field())),
    "elastix": ("t.txt", by_tool("elastix", AFFINES)),
    "elastix spline": ("t.txt", spline),
    "X5": ("t.x5", by_tool("x5", Chain((*field().steps, Affine(AFFINE))))),
}
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # what NumPy would print
each = pytest.mark.parametrize("name", FILES)


def read(path: Path) -> np.ndarray:
    return read_transform(path, "fsl" if path.suffix == ".mat" else None, IMAGES).map_points(AT)


def refused(path: Path) -> bool:
    """Whether a file is refused, as every error of a user is: one line that begins with its path."""
    try:
        read(path)
    except MaxcaError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error) and len(str(error)) < 600 + len(str(path))
        return True
    return False


@each
@quick
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_or_complete(name: str, share: float) -> None:
    file, write = FILES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        write(path)
        whole, content = read(path), path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        if not refused(path):  # what follows the numbers may be missing
            np.testing.assert_allclose(read(path), whole, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name][0].endswith((".mat", ".lta", ".1D", ".txt"))])
def test_text_cut_anywhere_in_its_end_is_refused_or_complete(name: str, tmp_path: Path) -> None:
    file, write = FILES[name]
    path = tmp_path / file
    write(path)
    whole, content = read(path), path.read_bytes()
    for end in range(max(0, len(content) - 250), len(content)):
        path.write_bytes(content[:end])
        if not refused(path):
            np.testing.assert_allclose(read(path), whole, atol=1e-6)


@each
@quick
@given(seed=st.integers(0, 2**31), count=st.integers(1, 6))
def test_a_changed_file_is_refused_or_finite(name: str, seed: int, count: int) -> None:
    file, write = FILES[name]
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        write(path)
        content = bytearray(path.read_bytes())
        for at in generator.integers(0, min(len(content), 4000), count):  # headers rather than numbers
            content[at] = generator.choice([0, 255, 45, 46, 57, content[at] ^ 1, content[at] ^ 128])
        path.write_bytes(bytes(content))
        if not refused(path):
            assert np.isfinite(read(path)).all()


def test_a_spline_in_the_test_is_one(tmp_path: Path) -> None:
    spline(tmp_path / "t.txt")
    (step,) = read_transform(tmp_path / "t.txt").steps
    assert isinstance(step, BSpline)
