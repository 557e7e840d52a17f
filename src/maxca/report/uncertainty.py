"""The uncertainty of a deformation in a report: over the fixed image, with a scale, and of each label."""

from __future__ import annotations

import numpy as np

from maxca.geometry import Chain
from maxca.io.images import read
from maxca.registration.measures import Uncertainty
from maxca.registration.result import UNCERTAINTY
from maxca.report import pictures
from maxca.report.case import Case
from maxca.report.lengths import length
from maxca.report.parts import Group, Picture, Shown, Table
from maxca.report.planes import Plane, sampled

BRIGHTEST = 99.0  # percentile of the values in the pictures at the end of the colour scale


def of_uncertainty(case: Case, summary: Uncertainty, middle: list[tuple[Shown, Plane]]) -> Group:
    """The uncertainty in the middle slices, its summary, and that of each label.

    Args:
        case: the registration; without its map, only numbers are shown.
        summary: of the map.
        middle: the images of the case, and the middle slice of each plane.
    """
    drawn = []
    if (case.folder / UNCERTAINTY).is_file():
        image = read(case.folder / UNCERTAINTY)
        found = [plane.pictures(sampled(image.data, image.grid, Chain(), plane))[0] for _, plane in middle]
        seen = np.concatenate([values[values > 0] for values in found])
        most = float(np.percentile(seen, BRIGHTEST)) if seen.size else 1.0
        for (one, plane), values in zip(middle, found, strict=True):
            drawn.append(Picture(pictures.overlaid(one.middle("fixed"), values, most), f"uncertainty, {plane.name}"))
        drawn.append(Picture(pictures.scale_bar(), f"scale, from 0 to {length(most)} mm and more"))
    names = case.record.label_names
    rows: list[tuple[str, ...]] = [
        (f"{label}, {names[label]}" if label in names else label, length(mm)) for label, mm in summary.by_label.items()
    ]
    return Group(
        "uncertainty",
        "Uncertainty of the deformation",
        f"The standard deviation of the displacement over {summary.runs} runs with noise added and the smoothness "
        f"changed: mean {length(summary.mean_mm)} mm, below {length(summary.p95_mm)} mm in 95 % of the content. Runs "
        "that agree may be wrong alike, so that a small value is no proof of accuracy; the affine is not repeated.",
        drawn,
        Table("Mean uncertainty in each label of the fixed image", ("label", "mm"), rows) if rows else None,
    )
