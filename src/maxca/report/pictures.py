"""Figures from arrays: checkerboards, differences, deformed grids, outlines."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image

QUALITY = 82  # JPEG quality: half the bytes of 92, without a visible difference at this size
SQUARES = 8  # squares of a checkerboard along the shorter side
FIRST, SECOND, FOLD = (
    (230, 159, 0),
    (86, 180, 233),
    (213, 0, 120),
)  # distinguishable with colour blindness (Okabe and Ito)
DIFFERENCES, CHANGES = "PuOr_r", "PuOr_r"
AMOUNTS, OPACITY = "inferno", 0.6
BAR = 20, 240  # height and width of a colour scale, pixels
MOST_CHANGE = np.log(4.0)  # of volume, at the ends of the colour scale


def gray(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(H, W) as (H, W) uint8, black at the lower and white at the upper end of the window."""
    low, high = window
    return (np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def window(values: np.ndarray) -> tuple[float, float]:
    """The intensity window of an image."""
    seen = values[values > values.min()]
    if not seen.size:
        return 0.0, 1.0
    return float(min(0.0, np.percentile(seen, 1))), float(np.percentile(seen, 99.5))


def checkerboard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Checkerboard of two images."""
    side = max(2, min(first.shape) // SQUARES)
    row, column = np.indices(first.shape) // side
    return np.where((row + column) % 2 == 0, first, second)


def difference(fixed: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W, 3): orange where the other is brighter, purple where it is darker, white where they agree."""
    apart = (other.astype(np.float32) - fixed.astype(np.float32)) / 255
    return _coloured(0.5 + 0.5 * apart, DIFFERENCES)


def bent_grid(base: np.ndarray, positions: np.ndarray, mm: float) -> np.ndarray:
    """Grid lines of moving space, ``mm`` apart, drawn over a picture.

    Args:
        base: (H, W) uint8.
        positions: (H, W, 2) mapped position of each pixel, in mm.
        mm: distance between lines.
    """
    cell = np.floor(positions / mm)
    lines = np.zeros(base.shape, dtype=bool)
    lines[:, 1:] |= (np.diff(cell, axis=1) != 0).any(axis=-1)
    lines[1:] |= (np.diff(cell, axis=0) != 0).any(axis=-1)
    return _marked(base, lines, SECOND)


def volume_change(log_determinant: np.ndarray, folded: np.ndarray) -> np.ndarray:
    """(H, W, 3): orange for expansion towards the moving image, purple for compression, and folds marked."""
    return _marked(_coloured(0.5 + log_determinant / (2 * MOST_CHANGE), CHANGES), folded, FOLD)


def percent_change(percent: np.ndarray, most: float) -> np.ndarray:
    """(H, W, 3): orange for growth, purple for shrinkage, darkest at ``most`` percent."""
    return _coloured(0.5 + percent / (2 * most), CHANGES)


def overlaid(base: np.ndarray, values: np.ndarray, most: float) -> np.ndarray:
    """(H, W, 3): values from 0 to ``most`` in colours over a picture, where they are positive."""
    colours = OPACITY * _coloured(values / max(most, 1e-9), AMOUNTS) + (1 - OPACITY) * base[..., None].astype(float)
    return np.where((values > 0)[..., None], colours, base[..., None]).astype(np.uint8)


def scale_bar() -> np.ndarray:
    """(H, W, 3): the colours of ``overlaid`` over gray, from 0 at the left to the most at the right."""
    return overlaid(np.full((BAR[0], BAR[1]), 128, np.uint8), np.tile(np.linspace(1e-6, 1, BAR[1]), (BAR[0], 1)), 1.0)


def outlined(base: np.ndarray, fixed: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Outlines of the labels of the fixed image, and of others, over a picture."""
    return _marked(_marked(base, outline(fixed), FIRST), outline(other), SECOND)


def outline(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels adjacent to another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return edge


def dotted(picture: np.ndarray, places: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Small crosses at (N, 2) rows and columns."""
    marks = np.zeros(picture.shape[:2], dtype=bool)
    for row, column in np.rint(places).astype(int):
        marks[max(0, row - 3) : row + 4, max(0, column) : column + 1] = True
        marks[max(0, row) : row + 1, max(0, column - 3) : column + 4] = True
    return _marked(picture, marks, colour)


def as_address(picture: np.ndarray) -> str:
    """A picture as ``data:`` URL: JPEG for grey values, PNG for colours."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if picture.ndim == 2:
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image.quantize(128).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def as_movie(frames: Sequence[np.ndarray], milliseconds: int) -> str:
    """Pictures (H, W, 3) that follow each other as ``data:`` URL: an animated GIF that repeats.

    Args:
        frames: of one size.
        milliseconds: between them.
    """
    buffer = io.BytesIO()
    images = [Image.fromarray(np.ascontiguousarray(frame)).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, disposal=1)
    return f"data:image/gif;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _coloured(values: np.ndarray, name: str) -> np.ndarray:
    return (colormaps[name](np.clip(values, 0, 1))[..., :3] * 255).astype(np.uint8)


def _marked(base: np.ndarray, where: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    picture = np.repeat(base[..., None], 3, axis=-1) if base.ndim == 2 else base.copy()
    picture[where] = colour
    return picture
