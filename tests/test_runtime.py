"""What the process is set to is the same after a call as before, and a length shows digits that say something."""

from __future__ import annotations

import locale
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch

import maxca
from maxca import Affine, Chain, MaxcaError
from maxca.cli.main import main
from maxca.evaluate.figures import against_time
from maxca.report.lengths import length
from maxca.runtime import environment, seeded, thread_limit

COARSE = phantoms.grid((6.0, 6.0, 6.0))
START = Chain((Affine.identity(),))


def state() -> dict[str, Any]:
    """All that a library could leave changed; the imports of SciPy change filters and environment."""
    import matplotlib
    import scipy.io
    import scipy.special  # noqa: F401

    return {
        "threads": torch.get_num_threads(),
        "threads of ITK": sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        "warnings of ITK": sitk.ProcessObject.GetGlobalWarningDisplay(),
        "gradients": torch.is_grad_enabled(),
        "type": torch.get_default_dtype(),
        "random numbers": torch.random.get_rng_state().tolist(),
        "NumPy's": str(np.random.get_state()),
        "floating point": np.geterr(),
        "warnings": list(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "backend": matplotlib.get_backend(),
        "figures": sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else [],
    }


def registered(**options: Any) -> object:
    image = phantoms.image(COARSE)
    return maxca.register(image, image, model="none", effort="fast", initial_transform=START, threads=1, **options)


def refused() -> None:
    with pytest.raises(MaxcaError, match="2 fixed and 1 moving"):
        registered(fixed_points=np.zeros((2, 3)), moving_points=np.zeros((1, 3)))


def drawn(folder: Path) -> None:
    row = {"method": "a", "set": "s", "pair": "p", "label": "", "seconds": "1.5", "dice": "0.5", "error": ""}
    against_time([row], folder / "time.png")
    assert (folder / "time.png").stat().st_size > 0


def commanded(folder: Path) -> None:
    for name in ("f", "m"):
        phantoms.save(folder / f"{name}.nii.gz", phantoms.image(COARSE))
    words = ["register", "-f", folder / "f.nii.gz", "-m", folder / "m.nii.gz", "-o", folder / "out"]
    options = ["--transform", "rigid", "--initial-transform", "header", "--effort", "fast", "--threads", 1, "-q"]
    assert main([str(word) for word in [*words, *options, "--report"]]) == 0
    assert main(["info"]) == 0


@pytest.mark.parametrize(
    "work",
    [lambda _: registered(), lambda _: refused(), drawn, commanded],
    ids=["register", "refusal", "figure", "cli"],
)
def test_nothing_leaks(work: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with thread_limit(2):
        before = state()
        work(tmp_path)
        assert state() == before


def test_threads_are_limited_meanwhile_and_put_back_after_an_error() -> None:
    before = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    with pytest.raises(KeyError), thread_limit(1):
        assert (torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()) == (1, 1)
        raise KeyError
    assert (torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()) == before
    with thread_limit(None):
        assert torch.get_num_threads() == before[0]


def test_the_record_says_how_many_threads_were_used() -> None:
    assert registered().record.settings.threads == 1  # type: ignore[attr-defined]


def test_random_numbers_are_drawn_from_a_seed_meanwhile() -> None:
    before = torch.random.get_rng_state()
    with seeded(4):
        first = torch.rand(3)
    with seeded(4):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_variables_that_are_set_are_kept_and_others_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXCA_GIVEN", "1")
    monkeypatch.delenv("MAXCA_MISSING", raising=False)
    with environment(MAXCA_GIVEN="2", MAXCA_MISSING="3"):
        assert (os.environ["MAXCA_GIVEN"], os.environ["MAXCA_MISSING"]) == ("1", "3")
    assert os.environ["MAXCA_GIVEN"] == "1" and "MAXCA_MISSING" not in os.environ


def test_limits_of_torch_alone_need_no_simpleitk() -> None:
    code = "import sys; from maxca.runtime import torch_thread_limit as limit\nwith limit(1): pass\n"
    code += "print('SimpleITK' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "mm, text",
    [
        (12.345, "12.35"),
        (0.4, "0.40"),
        (0.0123456, "0.0123"),
        (0.000056789, "0.0000568"),
        (0.0, "0.00"),
        (-0.002, "-0.00200"),
    ],
)
def test_short_lengths_show_three_digits(mm: float, text: str) -> None:
    assert length(mm) == text
