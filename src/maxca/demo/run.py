"""Register the pair of the demo, and measure the remaining error."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maxca.demo.case import RESOLUTION, DemoCase, make_case, true_error
from maxca.demo.figure import draw
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain
from maxca.io.atomic import output_folder
from maxca.io.images import write
from maxca.io.records import encode
from maxca.registration.facade import register
from maxca.registration.monitor import Progress
from maxca.registration.result import Result

ERRORS = "true_error_mm.json"


@dataclass(frozen=True)
class DemoOutcome:
    """The result of the demo.

    Args:
        error_before_mm: mean registration error over the brain, before registration.
        error_affine_mm: after the affine alone.
        error_after_mm: after the whole registration.
        folder: the output folder.
        figure: the figure in it.
        seconds: of the whole run.
        registration_seconds: of the registration.
    """

    error_before_mm: float
    error_affine_mm: float
    error_after_mm: float
    folder: Path
    figure: Path
    seconds: float
    registration_seconds: float

    @property
    def fall(self) -> float:
        """The relative reduction of the error, at most 1."""
        return 1 - self.error_after_mm / self.error_before_mm


def run_demo(
    out: Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    seed: int = 0,
    resolution: int = RESOLUTION,
    progress: Progress = lambda _stage, _share: None,
) -> DemoOutcome:
    """Register the template brain onto a deformed copy of itself, and measure the remaining error.

    Args:
        out: the output folder: that of ``Result.save``, with both images, ``true_error_mm.json`` and ``demo.png``.
        overwrite: replace an earlier output.
        threads: CPU threads; by default torch's.
        seed: of the deformation, the bias field and the noise.
        resolution: spacing of the template in mm, an integer.
        progress: called with the stage and the completed fraction.

    Returns:
        Mean errors over the brain in mm, and the paths of the output.

    Raises:
        MaxcaError: if nilearn or matplotlib is missing, or the folder cannot be written.
    """
    begin = time.perf_counter()
    _need_extras()
    if resolution < 1:
        raise MaxcaError(f"a resolution of {resolution} mm: the template has voxels of 1 mm, pass at least 1")
    with output_folder(out, overwrite) as place:
        progress("creating a pair with a known deformation", 0.0)
        case = make_case(seed, resolution)
        registering = time.perf_counter()
        result = register(
            case.fixed,
            case.moving,
            threads=threads,
            seed=seed,
            progress=lambda stage, share: progress(stage, 0.1 + 0.8 * share),
        )
        registration_seconds = time.perf_counter() - registering
        progress("measuring the true error", 0.9)
        distances = {name: true_error(case, chain) for name, chain in _candidates(result).items()}
        means = {name: float(distance[case.brain].mean()) for name, distance in distances.items()}
        progress("drawing", 0.93)
        _write_inputs(case, place)
        result.write_into(place)
        (place / ERRORS).write_text(encode(_summary(case, distances)), encoding="utf-8")
        draw(case, result, distances, place / "demo.png")
    progress("done", 1.0)
    return DemoOutcome(
        error_before_mm=means["before"],
        error_affine_mm=means["affine"],
        error_after_mm=means["after"],
        folder=Path(out),
        figure=Path(out) / "demo.png",
        seconds=time.perf_counter() - begin,
        registration_seconds=registration_seconds,
    )


def _need_extras() -> None:
    try:
        import matplotlib  # noqa: F401
        import nilearn.datasets  # noqa: F401
    except ImportError as error:
        raise MaxcaError(f"the demo needs {error.name}; run: pip install 'maxca[demo]'") from error


def _candidates(result: Result) -> dict[str, Chain]:
    assert result.record.affine is not None
    affine = Affine(np.asarray(result.record.affine.affine))
    return {"before": Chain(), "affine": Chain((affine,)), "after": result.chain}


def _summary(case: DemoCase, distances: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean over the voxels of the brain."""
    summary: dict[str, Any] = {}
    for name, distance in distances.items():
        inside = distance[case.brain].astype(np.float64)
        summary[name] = {"mean": inside.mean(), "p95": np.percentile(inside, 95), "max": inside.max()}
    return {name: {key: round(float(v), 4) for key, v in row.items()} for name, row in summary.items()}


def _write_inputs(case: DemoCase, place: Path) -> None:
    write(case.fixed.data, case.fixed.grid, place / "fixed.nii.gz")
    write(case.moving.data, case.moving.grid, place / "moving.nii.gz")
