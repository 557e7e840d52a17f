"""Draw docs/images/maxca_block.png, the figure of docs/concepts/maxca.md.

python docs/figures/maxca_block.py
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

SIDE, REGION = 9, 3
COLOURS = matplotlib.color_sequences["tab10"][:9]
INK, PALE = "#222222", "#e8e8e8"


def main() -> None:
    figure = plt.figure(figsize=(12, 6.4), dpi=150)
    tokens(
        figure.add_axes((0.02, 0.53, 0.2, 0.37)),
        regional,
        "Regional: one colour, one attention.\nNeighbours, fine detail",
    )
    tokens(
        figure.add_axes((0.02, 0.03, 0.2, 0.37)),
        dilated,
        "Dilated: one colour, one attention.\nThe same place in every region",
    )
    attention(figure.add_axes((0.27, 0.05, 0.3, 0.86)))
    block(figure.add_axes((0.61, 0.05, 0.38, 0.86)))
    figure.savefig(Path(__file__).parents[1] / "images" / "maxca_block.png")


def regional(i: int, j: int) -> int:
    return (i // REGION) * REGION + j // REGION


def dilated(i: int, j: int) -> int:
    return (i % REGION) * REGION + j % REGION


def tokens(axes: Axes, group: Callable[[int, int], int], title: str) -> None:
    for i in range(SIDE):
        for j in range(SIDE):
            axes.add_patch(Rectangle((j, SIDE - 1 - i), 1, 1, color=(*COLOURS[group(i, j)], 0.75), ec="white", lw=0.8))
    for line in range(0, SIDE + 1, REGION):
        axes.plot([line, line], [0, SIDE], color=INK, lw=1.6)
        axes.plot([0, SIDE], [line, line], color=INK, lw=1.6)
    axes.set(xlim=(-0.1, SIDE + 0.1), ylim=(-0.1, SIDE + 0.1), aspect="equal")
    axes.axis("off")
    axes.set_title(title, fontsize=10, color=INK)


def attention(axes: Axes) -> None:
    axes.set(xlim=(0, 10), ylim=(0, 14), aspect="equal")
    axes.axis("off")
    axes.set_title("Attention between channels,\nnot between voxels", fontsize=10, color=INK)
    matrix(axes, 0.3, 7.6, 4, 1.6, "q", "C channels", "tokens of one colour")
    matrix(axes, 0.3, 4.4, 4, 1.6, "k", "", "")
    matrix(axes, 0.3, 1.2, 4, 1.6, "v", "", "")
    heat = np.random.default_rng(3).random((6, 6)) ** 2 + np.eye(6)
    axes.imshow(heat, extent=(6.1, 8.9, 5.9, 8.7), cmap="Blues", zorder=3)
    axes.add_patch(Rectangle((6.1, 5.9), 2.8, 2.8, fill=False, ec=INK, zorder=4))
    axes.text(7.5, 9.1, "C × C weights", ha="center", fontsize=9)
    axes.text(7.5, 5.4, "softmax(τ · q̂ k̂ᵀ)", ha="center", va="top", fontsize=9)
    arrow(axes, (4.5, 8.4), (6.0, 7.6))
    arrow(axes, (4.5, 5.2), (6.0, 6.6))
    arrow(axes, (7.5, 4.7), (7.5, 2.9))
    arrow(axes, (4.5, 2.0), (5.5, 2.0))
    matrix(axes, 5.6, 1.2, 4, 1.6, "out", "", "")
    axes.text(5, 0.2, "Work: C² per voxel, however many voxels.", ha="center", fontsize=9)


def matrix(axes: Axes, x: float, y: float, width: float, height: float, name: str, left: str, above: str) -> None:
    axes.add_patch(Rectangle((x, y), width, height, fc=PALE, ec=INK))
    for row in range(1, 6):
        axes.plot([x, x + width], [y + row * height / 6] * 2, color="white", lw=1)
    axes.text(x + width / 2, y + height / 2, name, ha="center", va="center", fontsize=13)
    axes.text(x - 0.15, y + height / 2, left, ha="right", va="center", rotation=90, fontsize=8)
    axes.text(x + width / 2, y + height + 0.15, above, ha="center", va="bottom", fontsize=8)


def block(axes: Axes) -> None:
    axes.set(xlim=(0, 12), ylim=(0, 22))
    axes.axis("off")
    axes.set_title("The block: shape in = shape out", fontsize=10, color=INK)
    box(axes, 6, 20.8, 5, "x   (N, C, I, J, K)", "white")
    box(axes, 6, 18.2, 6, "LayerNorm, Linear, GELU", PALE)
    box(axes, 3, 15.0, 4.6, "dilated XCA", "#cfe3f6")
    box(axes, 9, 15.0, 4.6, "regional XCA", "#f9dcc4")
    box(axes, 6, 11.8, 6, "concatenate, Linear", PALE)
    plus(axes, 6, 9.7)
    box(axes, 6, 7.3, 8.6, "LayerNorm, conv 3³, LeakyReLU, conv 3³", PALE)
    box(axes, 6, 5.0, 6, "channel gate", "#d9ead3")
    plus(axes, 6, 3.0)
    plus(axes, 6, 1.5)
    for start, end in (
        ((6, 20.1), (6, 18.9)),
        ((5, 17.5), (3.4, 15.7)),
        ((7, 17.5), (8.6, 15.7)),
        ((3.4, 14.3), (5, 12.5)),
        ((8.6, 14.3), (7, 12.5)),
        ((6, 11.1), (6, 10.1)),
        ((6, 9.3), (6, 8.0)),
        ((6, 6.6), (6, 5.7)),
        ((6, 4.3), (6, 3.4)),
        ((6, 2.6), (6, 1.9)),
        ((6, 1.1), (6, 0.2)),
    ):
        arrow(axes, start, end)
    skip(axes, 0.45, 20.8, 3.5, 9.7)
    skip(axes, 1.2, 9.0, 6.0, 3.0)
    skip(axes, 11.6, 20.8, 8.5, 1.5)


def box(axes: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    place = (x - width / 2, y - 0.7)
    axes.add_patch(FancyBboxPatch(place, width, 1.4, boxstyle="round,pad=0.02,rounding_size=0.25", fc=colour, ec=INK))
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5)


def plus(axes: Axes, x: float, y: float) -> None:
    axes.text(x, y, "+", ha="center", va="center", fontsize=12, bbox={"boxstyle": "circle,pad=0.12", "fc": "white"})


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1})


def skip(axes: Axes, x: float, top: float, entry: float, bottom: float) -> None:
    """A residual connection along the side, from ``top`` to the plus at ``bottom``."""
    axes.plot([entry, x, x], [top, top, bottom], color=INK, lw=1, ls="--", zorder=0)
    arrow(axes, (x, bottom), (5.6 if x < 6 else 6.4, bottom))


if __name__ == "__main__":
    main()
