"""Options of a series. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from maxca.fields import About, OptionError, about, check
from maxca.options import IMAGES, REGIONS, RegistrationOptions

SeriesTransform = Literal["rigid", "affine"]
SeriesSimilarity = Literal["auto", "ncc", "cr"]
SeriesInterpolation = Literal["bspline", "linear"]
OUTLIERS = "Outliers"


@dataclass(frozen=True)
class SeriesInputs:
    """What belongs to a series; each is a file."""

    mask: Annotated[
        Any,
        About("Mask on the grid of the reference: non-zero where motion is estimated, such as the brain.", REGIONS),
    ] = None
    bvec: Annotated[
        Any,
        About(
            "Gradient directions of a diffusion series, in FSL's format. They are rotated with the frames and written "
            "as corrected.bvec.",
            IMAGES,
        ),
    ] = None


@dataclass(frozen=True)
class SeriesOptions:
    """How the frames of a series are registered."""

    to: Annotated[
        Any,
        About(
            "The reference. first: the first frame; mean: the mean of all aligned frames in their mean position, which "
            "favours none of them; a number: that frame, the first of which is 0; or a 3-D image, such as a reference "
            "scan of the same session.",
        ),
    ] = "first"
    transform: Annotated[
        SeriesTransform,
        About("Transform model: rigid, or affine (also scales and shears, such as of eddy currents)."),
    ] = "rigid"
    similarity: Annotated[
        SeriesSimilarity,
        About(
            "ncc: correlation, for frames of one contrast. cr: correlation ratio, for frames of different contrasts, "
            "such as diffusion weightings. auto: the correlation ratio for the frames that need it."
        ),
    ] = "auto"
    interpolation: Annotated[
        SeriesInterpolation, About("Of the corrected series: bspline (cubic), or linear, which blurs.")
    ] = "bspline"
    radius: Annotated[
        float,
        About(
            "Radius of the sphere on which rotations become the mm of the framewise displacement: 50 for an adult's "
            "head (Power et al., 2012).",
            OUTLIERS,
            above=0,
            unit="mm",
        ),
    ] = 50.0
    fd_threshold: Annotated[
        float,
        About("A frame is an outlier if its framewise displacement is larger.", OUTLIERS, above=0, unit="mm"),
    ] = 0.5
    dvars_threshold: Annotated[
        float,
        About(
            "A frame is an outlier if its DVARS, over the median of the series, is larger; not counted in series of "
            "several contrasts.",
            OUTLIERS,
            above=0,
        ),
    ] = 1.5
    threads: Annotated[int | None, about(RegistrationOptions, "threads")] = None

    def __post_init__(self) -> None:
        check(self)
        if isinstance(self.to, bool) or not str(self.to):
            raise OptionError("to", self.to, "give first, mean, the number of a frame, or a 3-D image")

    @property
    def frame(self) -> int | None:
        """The number of the reference frame, None for a mean or an image."""
        if str(self.to) == "first":
            return 0
        return int(str(self.to)) if str(self.to).isdecimal() else None
