"""Draw images/coordinates.png: resampling of an image through a transform from fixed to moving points.

python docs/figures/coordinates.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

OUT = Path(__file__).parents[1] / "images" / "coordinates.png"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#9aa0a6"
NODES = np.linspace(-10, 10, 9)
POINT = np.array([2.5, 5.0])


def bent(points: np.ndarray) -> np.ndarray:
    """Fixed → moving."""
    x, y = points[..., 0], points[..., 1]
    turned = np.stack([0.96 * x - 0.22 * y, 0.22 * x + 0.96 * y], axis=-1)
    return turned + np.stack([1.2 * np.sin(y / 4), 1.2 * np.cos(x / 4) - 1], axis=-1)


def shape(points: np.ndarray) -> np.ndarray:
    """The content of the moving image."""
    x, y = points[..., 0], points[..., 1]
    radius = np.hypot(x / 1.15, y)
    return (0.85 - 0.35 * np.sin(x / 2.2) * np.cos(y / 2.6)) / (1 + np.exp(3 * (radius - 7.2)))


def main() -> None:
    """Draw and save."""
    figure = Figure(figsize=(10.5, 4.9), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.12, top=0.86, wspace=0.22)
    fixed, moving = figure.subplots(1, 2)
    fine = np.stack(np.meshgrid(np.linspace(-12, 12, 300), np.linspace(-12, 12, 300)), axis=-1)
    lines = np.linspace(-10, 10, 100)
    for axes, image, move in ((fixed, shape(bent(fine)), lambda p: p), (moving, shape(fine), bent)):
        axes.imshow(image, cmap="gray", origin="lower", extent=(-12, 12, -12, 12), vmin=0, vmax=1.25)
        for at in NODES:
            for way in (np.stack([lines, np.full(100, at)], -1), np.stack([np.full(100, at), lines], -1)):
                axes.plot(*move(way).T, color=BLUE, linewidth=0.8, alpha=0.8)
        axes.set_xlim(-12, 12)
        axes.set_ylim(-12, 12)
        axes.axis("off")
    there = bent(POINT)
    fixed.plot(*POINT, "o", color=ORANGE, markersize=9, markeredgecolor="white")
    moving.plot(*there, "o", color=ORANGE, markersize=9, markeredgecolor="white")
    for start, end, curve, style, colour in (
        ((POINT, fixed), (there, moving), -0.25, "-|>", ORANGE),
        ((there, moving), (POINT, fixed), -0.25, "-|>", GREY),
    ):
        figure.add_artist(
            ConnectionPatch(
                xyA=tuple(start[0]),
                coordsA=start[1].transData,
                xyB=tuple(end[0]),
                coordsB=end[1].transData,
                arrowstyle=style,
                connectionstyle=f"arc3,rad={curve}",
                linewidth=2.2,
                linestyle="-" if colour == ORANGE else "--",
                color=colour,
                mutation_scale=18,
                shrinkA=7,
                shrinkB=7,
            )
        )
    fixed.set_title("fixed image: the grid of the result", fontsize=12)
    moving.set_title("moving image: the same grid, mapped", fontsize=12)
    figure.text(
        0.5,
        0.03,
        "transform.h5 maps x to φ(x), solid; the value at φ(x) becomes that of voxel x, dashed",
        ha="center",
        fontsize=11,
    )
    figure.text(0.5, 0.815, "φ", ha="center", fontsize=16, color=ORANGE)
    figure.savefig(OUT)


if __name__ == "__main__":
    main()
