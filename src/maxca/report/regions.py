"""The regions of a report that the registration treated differently from the rest."""

from __future__ import annotations

import numpy as np

from maxca.geometry import Chain
from maxca.report import pictures
from maxca.report.case import Case
from maxca.report.lengths import length
from maxca.report.parts import Group, Picture, Shown, Table
from maxca.report.planes import Plane, sampled

KINDS = {"rigid": "rigid", "volume": "affine, of constant volume"}


def of_excluded(case: Case, planes: list[Plane]) -> Group:
    """Outlines of the excluded regions on both images, through the middle of one, and their volumes."""
    sides = ((case.fixed, Chain(), case.inverse), (case.moving, case.chain, Chain()))
    centre = next(
        to_fixed.map_points(side.image.grid.to_world(np.argwhere(side.excluded).mean(axis=0)))
        for side, _, to_fixed in reversed(sides)
        if side.excluded is not None
    )
    drawn: dict[str, list[Picture]] = {"fixed": [], "warped": []}
    for plane in (each.through(centre) for each in planes):
        shown = Shown(case, plane)
        outlines = [
            np.zeros(shown.middle("fixed").shape)
            if side.excluded is None
            else plane.pictures(sampled(side.excluded, side.image.grid, chain, plane, "nearest"))[0]
            for side, chain, _ in sides
        ]
        for name, pictured in drawn.items():
            pictured.append(Picture(pictures.outlined(shown.middle(name), *outlines), f"{name}, {plane.name}"))
    rows: list[tuple[str, ...]] = [
        (name, f"{each.ml:.3g}", f"{each.mapped_ml:.3g}", f"{100 * (each.mapped_ml / each.ml - 1):+.1f}")
        for name, each in case.record.metrics.excluded.items()
    ]
    return Group(
        "excluded",
        "Excluded regions",
        "The regions that the registration ignored, of the fixed image in orange and of the moving image in blue, on "
        "the fixed and on the warped image. Their volume before is that in their own image, after registration that in "
        "the other one.",
        drawn["fixed"] + drawn["warped"],
        Table("Volume of the excluded regions", ("of the image", "before, ml", "after, ml", "change, %"), rows),
    )


def of_bodies(case: Case, planes: list[Plane]) -> Group:
    """Outlines of the rigid bodies on both images, through the middle of the largest, and their motion."""
    drawn: dict[str, list[Picture]] = {"fixed": [], "warped": []}
    labels, grid = case.fixed.bodies, case.fixed.image.grid
    if labels is not None:
        largest = int(np.bincount(labels[labels > 0].astype(np.int64)).argmax())
        centre = grid.to_world(np.argwhere(labels == largest).mean(axis=0))
        for plane in (each.through(centre) for each in planes):
            shown = Shown(case, plane)
            lines = plane.pictures(sampled(labels, grid, Chain(), plane, "nearest"))[0]
            for name, pictured in drawn.items():
                outlined = pictures.outlined(shown.middle(name), lines, np.zeros_like(lines))
                pictured.append(Picture(outlined, f"{name}, {plane.name}"))
    rows: list[tuple[str, ...]] = [
        (
            name,
            KINDS[each.kind],
            f"{each.ml:.3g}",
            length(each.mm),
            f"{each.degrees:.1f}",
            f"{each.departure_voxels:.2g}",
        )
        for name, each in case.record.metrics.bodies.items()
    ]
    return Group(
        "bodies",
        "Parts that do not bend",
        "Rigid bodies of the fixed image in orange, on the fixed and on the warped image. The departure is the largest "
        "distance of the transform from the motion of a part at its voxels, in voxels of the fixed image.",
        drawn["fixed"] + drawn["warped"],
        Table("Motion of the parts", ("part", "motion", "ml", "centre moved, mm", "rotation, °", "departure"), rows),
    )
