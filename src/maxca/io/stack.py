"""Validation of the geometry of a stack of DICOM slices. All limits are fractions of slice distance or pixel size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.dicomfile import Slice

EVEN = 0.01  # of the gap: largest deviation of a slice from its position
DOUBLE = 0.01  # of the median gap: slices closer than this are at one position
ASIDE = 0.1, 0.001  # of a pixel, and of the distance through the stack: largest lateral shift of slices
ALIKE = 1e-3  # largest difference of directions, and relative difference of pixel sizes


class Stack(NamedTuple):
    """Sorted slices.

    Args:
        order: indices of the slices along the normal.
        normal: (3,) unit vector, LPS.
        gap: distance of two slices in mm.
        warnings: assumptions.
    """

    order: list[int]
    normal: np.ndarray
    gap: float
    warnings: tuple[str, ...]


def stacked(slices: Sequence[Slice], folder: Path) -> Stack:
    """The order of slices along their normal.

    Raises:
        MaxcaError: for slices that differ, share a position, are unevenly spaced or tilted.
    """
    first = slices[0]
    for each in slices:
        turned = np.abs(each.rows - first.rows).max() > ALIKE
        stretched = np.abs(np.divide(each.spacing, first.spacing) - 1).max() > ALIKE
        if turned or stretched or each.size != first.size:
            what = "orientation" if turned else "spacing" if stretched else "size"
            raise MaxcaError(
                f"{folder}: slices differ in {what} ({first.path.name[:60]} and {each.path.name[:60]}); keep one stack "
                "in the folder"
            )
    normal = np.cross(*first.rows)
    normal /= np.linalg.norm(normal)
    positions = np.array([each.position for each in slices])
    order = np.argsort(positions @ normal, kind="stable")
    if len(slices) > 1:
        return Stack(order.tolist(), normal, _even_gap(positions[order], normal, min(first.spacing), folder), ())
    gap = _thickness(first)
    if gap is None:
        gap = min(first.spacing)
        return Stack([0], normal, gap, (f"{folder}: a single slice without a thickness; {gap:g} mm are assumed",))
    return Stack([0], normal, gap, ())


def _even_gap(positions: np.ndarray, normal: np.ndarray, pixel: float, folder: Path) -> float:
    """Distance of the slices in mm; raises an error if it varies or if they are shifted laterally."""
    depths = (positions - positions[0]) @ normal
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    if gaps.min() <= DOUBLE * usual or usual < ALIKE * pixel:
        raise MaxcaError(f"{folder}: several slices at one position (time points, echoes?); keep one stack of them")
    # A line fitted to all positions: one through the ends would double the effect of rounding.
    gap, start = np.polyfit(np.arange(len(depths)), depths, 1)
    faults, endings = [], []
    if np.abs(depths - start - gap * np.arange(len(depths))).max() > EVEN * gap:
        faults.append(f"unevenly spaced ({gaps.min():#.3g} to {gaps.max():#.3g} mm apart)")
        endings.append("_Eq")
    aside = positions - positions[0] - depths[:, None] * normal
    slope = depths @ aside / (depths @ depths)
    limit = max(ASIDE[0] * pixel, ASIDE[1] * float(np.linalg.norm(positions[-1] - positions[0])))
    if np.linalg.norm(aside - depths[:, None] * slope, axis=1).max() > limit:
        raise MaxcaError(
            f"{folder}: slices of this DICOM series are shifted laterally, so one or more do not "
            "belong; keep one stack in the folder, or export the series again"
        )
    if np.linalg.norm(aside, axis=1).max() > limit:
        faults.append(f"tilted by {np.degrees(np.arctan(np.linalg.norm(slope))):.1f} degrees against the gantry")
        endings.insert(0, "_Tilt")
    if faults:
        raise MaxcaError(
            f"{folder}: the slices of this DICOM series are {' and '.join(faults)}; is one missing? If not, run "
            f"dcm2niix on it and pass its output that ends in {''.join(endings)}_1.nii, not the uncorrected one"
        )
    return float(gap)


def _thickness(only: Slice) -> float | None:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = abs(float(only.header.get(name) or 0))
        except (TypeError, ValueError):
            continue
        if 0 < value < np.inf:
            return value
    return None
