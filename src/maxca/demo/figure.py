"""The figure of the demo: one slice before and after, with the true error and the estimated deformation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from maxca.demo.case import DemoCase
from maxca.geometry import Chain, Grid, Interpolation
from maxca.io.images import Image
from maxca.registration.result import Result

PIXEL = 0.6  # spacing of the figure in mm
AROUND = 6.0  # margin around the brain in mm
HEIGHT = 6.0  # mm of the slice above the middle of the brain: through the ventricles and the deep nuclei
OUTLINE = 0.6  # of the brightest: around the brain and its ventricles
LINES = 8.0  # mm between the lines of the grid
ERRORS = "viridis"  # distinguishable with colour blindness, and in grey
EDGE, LINE = "#ffb000", "#56b4e9"


def draw(case: DemoCase, result: Result, distances: dict[str, np.ndarray], path: Path) -> None:
    """One slice of the pair before and after registration, with the errors and the estimated deformation.

    Args:
        case: the pair.
        result: its registration.
        distances: (I, J, K) errors in mm ``"before"`` and ``"after"``, on the grid of the fixed image.
        path: the PNG to write.
    """
    # The object-oriented interface: no global state and no window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Picture
    from PIL.PngImagePlugin import PngInfo

    view = _View(case)
    before, after = (float(distances[name][case.brain].mean()) for name in ("before", "after"))
    figure = Figure(figsize=(10.2, 8.9), dpi=110, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(f"A known deformation recovered: true error from {before:.1f} mm to {after:.1f} mm", fontsize=15)
    upper, lower = figure.subplots(2, 3)
    view.image(upper[0], case.fixed, Chain(), "fixed\na brain: deformed, with bias field and noise")
    view.image(upper[1], case.moving, Chain(), "moving, before\nthe original brain")
    view.image(upper[2], case.moving, result.chain, "moving, after\nwarped by maxca")
    top = float(np.ceil(np.percentile(distances["before"][case.brain], 98)))
    view.error(lower[0], distances["before"], top, f"true error before\n{before:.2f} mm on average")
    colours = view.error(lower[1], distances["after"], top, f"true error after\n{after:.2f} mm on average")
    bar = figure.colorbar(colours, ax=list(lower[:2]), location="bottom", shrink=0.6, aspect=35, pad=0.02)
    bar.set_label("distance to the true position (mm)")
    view.deformation(
        lower[2],
        result.chain,
        case.truth,
        f"deformation, lines {LINES:.0f} mm apart\nestimated (blue) and true (dotted)",
    )
    canvas.draw()
    picture = Picture.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    said = PngInfo()
    said.add_text("Description", f"true error {before:.2f} to {after:.2f} mm")
    picture.quantize(256).save(path, optimize=True, pnginfo=said)  # with a palette: a third of the bytes


class _View:
    """An axial slice of the fixed space, finely sampled, to draw on."""

    def __init__(self, case: DemoCase) -> None:
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
        """A slice of an image resampled through a chain, with the outlines of the fixed image."""
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
        """Straight lines of moving space, mapped into fixed space."""
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
