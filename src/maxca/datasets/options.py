"""Options of the preparation of scans for training. This module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from maxca.fields import About, OptionError, check
from maxca.options import PairKind

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class PreparationOptions:
    """How scans of a list are prepared for training."""

    kind: Annotated[
        PairKind,
        About(
            "inter: pairs are of two subjects, aligned by an affine; intra: of one subject, as the files place them."
        ),
    ] = "inter"
    spacing: Annotated[
        str, About("Spacing in mm along the three axes, such as 1x1x1.5; keep is that of the scan: 1.5x1.5xkeep.")
    ] = "keepxkeepxkeep"
    shape: Annotated[
        str,
        About("Voxels along the three axes, to which images are cropped or padded around the middle: 96x96xkeep."),
    ] = "keepxkeepxkeep"
    intensity: Annotated[
        str | None,
        About(
            "Range LOW,HIGH of intensities, such as -1000,400 for lungs in CT; by default the range of the tissue of "
            "each image, as maxca register takes it."
        ),
    ] = None
    label_names: Annotated[
        Any,
        About(
            "Names of the labels: a table (.tsv, .csv) with the columns index and name, as maxca label --table writes "
            "it, or a color table of FreeSurfer, 3D Slicer or ITK-SNAP. Where both sides of each label are named (left "
            "kidney, right kidney; not of the heart), segmentation networks also learn from mirrored scans."
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        _ = self.spacing_mm, self.shape_voxels, self.window

    @property
    def spacing_mm(self) -> tuple[float | None, float | None, float | None]:
        """Of each axis; None keeps that of the scan."""
        i, j, k = self._axes("spacing", float)
        return i, j, k

    @property
    def shape_voxels(self) -> tuple[int | None, int | None, int | None]:
        """Of each axis; None keeps that of the scan."""
        i, j, k = self._axes("shape", int)
        return i, j, k

    @property
    def window(self) -> tuple[float, float] | None:
        """Lowest and highest intensity; None for the range of the tissue."""
        if self.intensity is None:
            return None
        try:
            low, high = (float(word) for word in self.intensity.split(","))
        except ValueError as error:
            raise OptionError("intensity", self.intensity, "give two numbers, such as -1000,400") from error
        if not -math.inf < low < high < math.inf:
            raise OptionError("intensity", self.intensity, "the first number is the lower one")
        return low, high

    def _axes(self, name: str, kind: Callable[[str], Number]) -> list[Number | None]:
        text = getattr(self, name)
        words = text.split("x")
        try:
            values = [None if word == "keep" else kind(word) for word in words]
        except ValueError:
            values = []
        if len(values) != 3 or not all(value is None or 0 < value < 1e5 for value in values):
            raise OptionError(name, text, "give three positive numbers, or keep, with x between, such as 1x1xkeep")
        return values
