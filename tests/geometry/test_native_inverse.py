"""The inverse that is compiled is that of torch, whatever the number of threads, and nothing needs a compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import KINDS, grid, smooth_field

from maxca import native
from maxca.geometry import DenseField, Grid
from maxca.geometry.transforms import Residual

ROOT = Path(__file__).parents[2]
compiled = pytest.mark.skipif(native.compiled() is None, reason="no compiled loops: install a C compiler")


def by_torch(field: DenseField, monkeypatch: pytest.MonkeyPatch, **how: object) -> tuple[DenseField, Residual]:
    with monkeypatch.context() as patched:
        patched.setenv(native.SWITCH, "0")
        assert native.compiled() is None
        return field.inverse(**how)  # type: ignore[arg-type]


def test_where_there_is_a_compiler_there_is_a_library() -> None:
    assert (native.compiled() is not None) == (shutil.which("cc") is not None)


@compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warm", [False, True])
def test_it_is_that_of_torch(kind: str, warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    field = smooth_field(grid(kind), amplitude=3.0)
    guess = field.inverse(tolerance=0.3)[0] if warm else None
    theirs, _ = by_torch(field, monkeypatch, tolerance=1e-4, guess=guess)
    ours, residual = field.inverse(tolerance=1e-4, guess=guess)
    smallest = field.grid.smallest_spacing
    assert residual.max <= 1.01e-4 * smallest or residual.max <= 1e-5 * field.grid.extent  # float32
    assert (ours.displacement - theirs.displacement).abs().max() < 2e-3 * smallest


@compiled
@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 7), (1, 12, 8), (12, 9, 1), (2, 2, 2), (3, 40, 2)])
def test_thin_grids(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    where = Grid(shape, np.diag([1.0, 2.0, 1.5, 1.0]))
    waves = torch.sin(torch.arange(int(np.prod(shape)), dtype=torch.float32) / 7).view(shape)
    moves = torch.stack([waves * (0.4 if n > 1 else 0) for n in shape])
    field = DenseField(moves, where).faded()
    theirs, _ = by_torch(field, monkeypatch, tolerance=1e-3)
    ours, residual = field.inverse(tolerance=1e-3)
    assert residual.max <= 2.1e-3
    torch.testing.assert_close(ours.displacement, theirs.displacement, atol=0.01, rtol=0)


@compiled
def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    field = smooth_field(grid("oblique LAS"), amplitude=4.0)
    found = []
    for threads in (1, 2, 3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        found.append(field.inverse()[0].displacement)
    assert all(torch.equal(found[0], each) for each in found[1:])


@compiled
def test_what_newton_does_not_reach_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    field = DenseField(60 * smooth_field(grid("RAS")).displacement, grid("RAS"))  # folds
    theirs, ours = by_torch(field, monkeypatch)[1], field.inverse()[1]
    assert ours.mean <= theirs.mean + 1e-6 and ours.max > 1


def test_without_a_compiler_nothing_is_compiled_and_nothing_fails(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from hatch_build import SOURCE, compiled\n"
        "print(compiled(Path(sys.argv[1]) / SOURCE, Path(sys.argv[2]) / 'kernels.so'))"
    )
    for compiler in ("no-such-compiler", "false"):
        made = tmp_path / "kernels.so"
        made.write_bytes(b"of an earlier build")
        command = [sys.executable, "-c", script, str(ROOT), str(tmp_path)]
        done = subprocess.run(command, env={"CC": compiler, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False" and "torch computes them" in done.stdout, done.stderr
        assert not list(tmp_path.iterdir())
