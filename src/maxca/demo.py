"""A registration whose answer is known: a template brain, and a copy of it that was deformed on purpose.

The brain is the MNI152 template that nilearn carries in its package, so nothing is downloaded. The *fixed* image is the
copy: it is sampled from the template through a known map, fixed world points → moving world points, and that is the
direction in which a registration answers. Nothing has to be inverted: the truth is exact wherever one asks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid, Interpolation
from maxca.io.atomic import output_folder
from maxca.io.images import Image, write
from maxca.registration import Progress, register
from maxca.result import Result

RESOLUTION = 2  # mm between the voxels of the template
TILT = (4.0, -3.0, 5.0)  # degrees around the axes of the world
SCALE = 1.03
SHIFT = (3.0, -4.0, 2.0)  # mm
WARP = 9.0  # mm, the longest velocity of the deformation, which makes its largest motion
SMOOTHNESS = 14.0  # mm, σ of the noise behind it
LATTICE = 3.0  # mm between its nodes
SQUARINGS = 7  # a velocity of 9 mm starts as steps of less than 0.1 mm
MARGIN = 12.0  # mm between the field of view of the template and that of the copy
BRIGHTEST = 1000  # scanners write whole numbers
NOISE = 0.02  # of the brightest
GAMMA = 0.75
BIAS, BIAS_REACH = 0.35, 45.0  # share of the intensity, and mm over which it changes
BIAS_NODES = 15.0  # mm

PIXEL = 0.6  # mm in the picture
AROUND = 6.0  # mm around the brain
HEIGHT = 6.0  # mm of the slice above the middle of the brain: through the ventricles and the deep nuclei
OUTLINE = 0.6  # of the brightest: around the brain and its ventricles
LINES = 8.0  # mm between the lines of the grid
ERRORS = "viridis"  # readable for the colour-blind, and in grey
EDGE, LINE = "#ffb000", "#56b4e9"


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo found.

    Args:
        error_before_mm: mean distance between where a point of the brain lies and where it belongs, before.
        error_affine_mm: the same after the affine alone.
        error_after_mm: the same after the whole registration.
        folder: the output folder.
        figure: the picture in it.
        seconds: the whole run, and ``registration_seconds`` of it for the registration.
        registration_seconds: see ``seconds``.
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
        """The share of the error that is gone, at most 1."""
        return 1 - self.error_after_mm / self.error_before_mm


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of images and the truth about it.

    Args:
        fixed: the deformed copy, with bias field, changed contrast and noise.
        moving: the template.
        truth: fixed world points → moving world points.
        brain: (I, J, K) bool on the grid of ``fixed``.
    """

    fixed: Image
    moving: Image
    truth: Chain
    brain: np.ndarray


def run_demo(
    out: Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    seed: int = 0,
    resolution: int = RESOLUTION,
    progress: Progress = lambda _stage, _share: None,
) -> DemoOutcome:
    """Register the template brain onto a deformed copy of itself, and measure the error that remains.

    Args:
        out: the output folder: that of ``Result.save``, with ``fixed.nii.gz``, ``moving.nii.gz`` and ``demo.png``.
        overwrite: replace an earlier output.
        threads: CPU threads; torch's default unless given.
        seed: decides the deformation, the bias field and the noise.
        resolution: mm between the voxels of the template, a whole number.
        progress: called with the stage and the share of the work done.

    Returns:
        Mean errors at the voxels of the brain in mm, and where the output is.

    Raises:
        MaxcaError: when nilearn or matplotlib is missing, or the folder cannot be written.
    """
    begin = time.perf_counter()
    _need_extras()
    if resolution < 1:
        raise MaxcaError(f"a resolution of {resolution} mm: the template has one voxel per mm, give at least 1")
    with output_folder(out, overwrite) as place:
        progress("making a pair with a known answer", 0.0)
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
        replace(result, record={**result.record, "true_error_mm": _summary(case, distances)}).write_into(place)
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


def make_case(seed: int = 0, resolution: int = RESOLUTION) -> Case:
    """The template, a copy of it deformed by a known diffeomorphism, and that diffeomorphism.

    Args:
        seed: decides the deformation, the bias field and the noise.
        resolution: mm between the voxels of the template, a whole number.
    """
    random = np.random.default_rng(seed)
    template, mask, grid = _template(resolution)
    copy_grid = _copy_grid(grid)
    truth = Chain((known_warp(copy_grid, random), _known_affine(grid.center)))
    sharp = truth.resample(torch.from_numpy(template)[None], grid, copy_grid, "bspline")[0].numpy()
    brain = truth.resample(torch.from_numpy(mask)[None], grid, copy_grid)[0].numpy() > 0.5
    scanned = _as_scanned(sharp, copy_grid, random)
    moving = Image(np.rint(template * BRIGHTEST).astype(np.int16), grid)
    return Case(Image(scanned, copy_grid), moving, truth, brain)


def known_warp(grid: Grid, random: np.random.Generator) -> DenseField:
    """A smooth diffeomorphism: the exponential of Gaussian noise, by scaling and squaring.

    Args:
        grid: where it shall be, fixed world space; it fades out towards the borders.
        random: draws the noise.

    Returns:
        The field, linear between nodes ``LATTICE`` mm apart.
    """
    lattice = grid.every([max(1, round(LATTICE / s)) for s in grid.spacing])
    sigma = SMOOTHNESS / lattice.spacing
    noise = random.standard_normal((3, *lattice.shape))
    fade = [int(np.ceil(1.5 * s)) for s in sigma]
    inner = np.pad(
        np.ones([max(1, n - 2 * f) for n, f in zip(lattice.shape, fade, strict=True)]), [(f, f) for f in fade]
    )
    velocity = np.stack([gaussian_filter(channel * inner, sigma, mode="constant") for channel in noise])
    velocity *= WARP / np.linalg.norm(velocity, axis=0).max()
    field = DenseField(torch.from_numpy(velocity / 2**SQUARINGS).float(), lattice)
    for _ in range(SQUARINGS):
        field = Chain((field, field)).field_on(lattice)
    return field


def true_error(case: Case, chain: Chain) -> np.ndarray:
    """(I, J, K) distance in mm between where ``chain`` sends the voxels of the fixed image and where they belong."""
    grid = case.fixed.grid
    wrong = chain.field_on(grid).displacement - case.truth.field_on(grid).displacement
    return wrong.norm(dim=0).numpy()


def _need_extras() -> None:
    try:
        import matplotlib  # noqa: F401
        import nilearn.datasets  # noqa: F401
    except ImportError as error:
        raise MaxcaError(f"the demo needs {error.name}; run: pip install 'maxca[demo]'") from error


def _template(resolution: int) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The MNI152 brain in [0, 1], its mask, both float32, and their grid."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    image: Any = load_mni152_template(resolution=resolution)
    mask: Any = load_mni152_brain_mask(resolution=resolution)
    brain = (mask.get_fdata() > 0.5).astype(np.float32)
    values = image.get_fdata(dtype=np.float32) * brain
    return np.clip(values / values.max(), 0, 1), brain, Grid(image.shape, image.affine)


def _copy_grid(grid: Grid) -> Grid:
    """Another grid around the same place, as another scanner would choose it: LAS, and thicker along the last axis."""
    spacing = grid.spacing * (1.0, 1.0, 1.2)
    shape = np.ceil((np.array(grid.shape) * grid.spacing + MARGIN) / spacing).astype(int)
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = grid.center - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _known_affine(center: np.ndarray) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = SCALE * Rotation.from_euler("xyz", TILT, degrees=True).as_matrix()
    matrix[:3, 3] = center + SHIFT - matrix[:3, :3] @ center
    return Affine(matrix)


def _as_scanned(values: np.ndarray, grid: Grid, random: np.random.Generator) -> np.ndarray:
    """Another contrast, an uneven coil, and the noise of a magnitude image; whole numbers."""
    real, imaginary = NOISE * random.standard_normal((2, *grid.shape), dtype=np.float32)
    signal = np.clip(values, 0, 1) ** GAMMA * _bias(grid, random)
    return np.rint(BRIGHTEST * np.hypot(signal + real, imaginary)).astype(np.int16)


def _bias(grid: Grid, random: np.random.Generator) -> np.ndarray:
    """Slow waves around 1, made on few nodes."""
    coarse = grid.every([max(1, round(BIAS_NODES / s)) for s in grid.spacing])
    waves = gaussian_filter(random.standard_normal(coarse.shape), BIAS_REACH / coarse.spacing, mode="reflect")
    waves *= BIAS / np.abs(waves).max()
    return 1 + Chain().resample(torch.from_numpy(waves).float()[None], coarse, grid)[0].numpy()


def _candidates(result: Result) -> dict[str, Chain]:
    affine = Affine(np.asarray(result.record["affine"]["affine"]))
    return {"before": Chain(), "affine": Chain((affine,)), "after": result.chain}


def _summary(case: Case, distances: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of the voxels of the brain."""
    summary: dict[str, Any] = {}
    for name, distance in distances.items():
        inside = distance[case.brain].astype(np.float64)
        summary[name] = {"mean": inside.mean(), "p95": np.percentile(inside, 95), "max": inside.max()}
    return {name: {key: round(float(v), 4) for key, v in row.items()} for name, row in summary.items()}


def _write_inputs(case: Case, place: Path) -> None:
    write(case.fixed.data, case.fixed.grid, place / "fixed.nii.gz")
    write(case.moving.data, case.moving.grid, place / "moving.nii.gz")


def draw(case: Case, result: Result, distances: dict[str, np.ndarray], path: Path) -> None:
    """One slice of the pair, before and after, with the errors and the grid that was found.

    Args:
        case: the pair.
        result: its registration.
        distances: (I, J, K) errors in mm ``"before"`` and ``"after"``, on the grid of the fixed image.
        path: the PNG to write.
    """
    # The object-oriented interface: no global state, and no window system is asked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Picture
    from PIL.PngImagePlugin import PngInfo

    view = _View(case)
    before, after = (float(distances[name][case.brain].mean()) for name in ("before", "after"))
    figure = Figure(figsize=(10.2, 8.9), dpi=110, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(
        f"A known deformation, found again: from {before:.1f} mm to {after:.1f} mm of true error", fontsize=15
    )
    upper, lower = figure.subplots(2, 3)
    view.image(upper[0], case.fixed, Chain(), "fixed\na brain: deformed, unevenly bright, noisy")
    view.image(upper[1], case.moving, Chain(), "moving, before\nthe same brain as it was")
    view.image(upper[2], case.moving, result.chain, "moving, after\nwarped by maxca")
    top = float(np.ceil(np.percentile(distances["before"][case.brain], 98)))
    view.error(lower[0], distances["before"], top, f"true error before\n{before:.2f} mm on average")
    colours = view.error(lower[1], distances["after"], top, f"true error after\n{after:.2f} mm on average")
    bar = figure.colorbar(colours, ax=list(lower[:2]), location="bottom", shrink=0.6, aspect=35, pad=0.02)
    bar.set_label("distance to the true place (mm)")
    view.deformation(
        lower[2], result.chain, case.truth, f"deformation, lines {LINES:.0f} mm apart\nfound (blue) and true (dotted)"
    )
    canvas.draw()
    picture = Picture.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    said = PngInfo()
    said.add_text("Description", f"true error {before:.2f} to {after:.2f} mm")
    picture.quantize(256).save(path, optimize=True, pnginfo=said)  # a palette: a third of the bytes


class _View:
    """An axial slice of the fixed space, finely sampled, and what to draw on it."""

    def __init__(self, case: Case) -> None:
        grid = case.fixed.grid
        where = grid.to_world(np.argwhere(case.brain))
        low, high = where.min(0) - AROUND, where.max(0) + AROUND
        affine = np.diag([PIXEL, PIXEL, 1.0, 1.0])
        affine[:3, 3] = (low[0], low[1], where[:, 2].mean() + HEIGHT)
        width, height = np.ceil((high - low)[:2] / PIXEL).astype(int)
        self.plane = Grid((int(width), int(height), 1), affine)
        index = np.stack(np.meshgrid(*map(np.arange, self.plane.shape), indexing="ij"), axis=-1)
        self.nodes = self.plane.to_world(index)[:, :, 0]
        self.grid = grid
        self.extent = (low[0], high[0], low[1], high[1])
        self.brain = self._slice(case.brain, grid, Chain(), "linear") > 0.5
        self.edges = gaussian_filter(self._slice(case.fixed.data, grid, Chain()), 1.2 / PIXEL)

    def image(self, axes: Any, image: Image, chain: Chain, title: str) -> None:
        """A slice of an image through a chain, with the outlines of the fixed one."""
        pixels = self._slice(image.data, image.grid, chain)
        axes.imshow(pixels.T, cmap="gray", origin="lower", extent=self.extent, vmin=0, vmax=np.percentile(pixels, 99.7))
        level = OUTLINE * np.percentile(self.edges, 99)
        axes.contour(self.edges.T, levels=[level], colors=EDGE, linewidths=1.0, extent=self.extent)
        self._finish(axes, title)

    def error(self, axes: Any, distance: np.ndarray, top: float, title: str) -> Any:
        """Distances inside the brain, in colours from 0 to ``top`` mm."""
        pixels = np.where(self.brain, self._slice(distance, self.grid, Chain(), "linear"), np.nan)
        from matplotlib import colormaps

        steps = colormaps[ERRORS].resampled(round(2 * top))  # one colour for each half millimetre
        drawn = axes.imshow(pixels.T, cmap=steps, origin="lower", extent=self.extent, vmin=0, vmax=top)
        self._finish(axes, title)
        return drawn

    def deformation(self, axes: Any, found: Chain, truth: Chain, title: str) -> None:
        """Straight lines of the moving space as they lie in the fixed one."""
        shade = np.where(self.brain, 0.94, 1.0)
        axes.imshow(shade.T, cmap="gray", origin="lower", extent=self.extent, vmin=0, vmax=1)
        dotted = {"colors": "black", "linewidths": 0.9, "linestyles": "dotted"}
        for chain, style in ((found, {"colors": LINE, "linewidths": 1.8}), (truth, dotted)):
            moved = chain.map_points(self.nodes)
            for axis in range(2):
                place = np.where(self.brain, moved[..., axis], np.nan)
                levels = np.arange(np.nanmin(place) // LINES, np.nanmax(place) // LINES + 1) * LINES
                axes.contour(place.T, levels=levels, extent=self.extent, **style)
        self._finish(axes, title)

    def _slice(
        self, values: np.ndarray, grid: Grid, chain: Chain, interpolation: Interpolation = "bspline"
    ) -> np.ndarray:
        volume = torch.from_numpy(values.astype(np.float32))
        return chain.resample(volume[None], grid, self.plane, interpolation)[0, :, :, 0].numpy()

    def _finish(self, axes: Any, title: str) -> None:
        axes.set_title(title, fontsize=11)
        axes.set_aspect("equal")
        axes.axis("off")
