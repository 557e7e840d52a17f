"""Options of a template. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from maxca.fields import About, check
from maxca.options import IMAGES, EffortName

TEMPLATE = "Template"


@dataclass(frozen=True)
class TemplateOptions:
    """How a template is built."""

    reference: Annotated[
        Any,
        About(
            "The initial template, which defines the grid and the pose, but neither shape nor intensities; by default "
            "the first scan, with a margin, and the mean pose of all scans.",
            IMAGES,
        ),
    ] = None
    iterations: Annotated[
        int,
        About(
            "At most this many registrations of each scan, the first one affine. It ends earlier, as soon as the "
            "transforms move by less than a fifth of a voxel on average, and the template changes by less than 1 % "
            "(1 minus the correlation).",
            TEMPLATE,
            least=1,
        ),
    ] = 8
    sharpen: Annotated[bool, About("Sharpen the mean (unsharp masking) after each iteration.", TEMPLATE)] = False
    symmetric: Annotated[
        bool,
        About("A template with equal halves: every scan is averaged with its mirror image, left for right.", TEMPLATE),
    ] = False
    effort: Annotated[EffortName, About("Trade-off between time and accuracy of the registrations.", TEMPLATE)] = "fast"

    def __post_init__(self) -> None:
        check(self)
