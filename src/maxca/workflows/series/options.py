"""Options of a series. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from maxca.fields import About, OptionError, about, check, options_of
from maxca.options import IMAGES, REGIONS, DeviceName, EffortName, RegistrationOptions

SeriesTransform = Literal["rigid", "affine", "deformable"]
SeriesSimilarity = Literal["auto", "ncc", "cr"]
SeriesInterpolation = Literal["bspline", "linear"]
OUTLIERS = "Outliers"
RIGID = ("similarity", "radius", "fd_threshold", "dvars_threshold")
ORGAN = "Motion of an organ (with transform deformable)"


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
    labels: Annotated[
        Any,
        About(
            "Labels of the reference, or of the frame given by labels_frame: they are carried to every frame, with "
            "their volumes and strain (with transform deformable).",
            REGIONS,
        ),
    ] = None
    points: Annotated[
        Any,
        About("Points of the same frame (.csv, .fcsv, .mrk.json), which are carried to every frame.", REGIONS),
    ] = None
    label_table: Annotated[
        Any,
        About(
            "Names of the labels: a BIDS look-up table (.tsv), a .csv with the columns index and name, or a color "
            "table of FreeSurfer, 3D Slicer or ITK-SNAP.",
            ORGAN,
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
        About(
            "Transform model: rigid; affine (also scales and shears, such as of eddy currents); or deformable, for the "
            "motion of an organ, such as a heart or a lung: a deformation field for each frame."
        ),
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
    cyclic: Annotated[
        bool, About("The last frame precedes the first, as of a gated heart: fields are smooth across both.", ORGAN)
    ] = False
    time_smoothness: Annotated[
        float,
        About(
            "Smoothness of the fields over time: oscillations are damped as by a Gaussian of this σ in frames, and "
            "slower ones less; 0 for none.",
            ORGAN,
            least=0,
        ),
    ] = 0.7
    labels_frame: Annotated[
        int | None,
        About("The number of the frame that labels and points belong to; by default the reference.", ORGAN, least=0),
    ] = None
    model: Annotated[
        Any,
        About(
            "A registration network that predicts the fields: the name of a bundled model (see maxca models list), a "
            "file, or hf://OWNER/NAME; none: fields are optimised; auto: a bundled model if it passes the acceptance "
            "check on the frame that differs most from the reference.",
            ORGAN,
        ),
    ] = "auto"
    effort: Annotated[EffortName, About("Trade-off between time and accuracy, without a model.", ORGAN)] = "balanced"
    smoothness: Annotated[
        float | None,
        About(
            "Regularisation without a model: Gaussian σ of the update, in mm; larger is smoother.",
            ORGAN,
            above=0,
            unit="millimetres",
        ),
    ] = None
    device: Annotated[DeviceName, about(RegistrationOptions, "device")] = "auto"
    threads: Annotated[int | None, about(RegistrationOptions, "threads")] = None

    def __post_init__(self) -> None:
        check(self)
        organ = {each.name for each in options_of(SeriesOptions) if each.about.panel == ORGAN}
        for each in options_of(SeriesOptions):
            changed = getattr(self, each.name) != each.default
            if self.transform != "deformable" and each.name in organ and changed:
                given = getattr(self, each.name)
                raise OptionError(each.name, given, "is for the motion of an organ; add transform=deformable")
            if self.transform == "deformable" and each.name in RIGID and changed:
                raise OptionError(each.name, getattr(self, each.name), "is for rigid and affine motion; leave it out")
        if isinstance(self.to, bool) or not str(self.to):
            raise OptionError("to", self.to, "give first, mean, the number of a frame, or a 3-D image")

    def check_inputs(self, inputs: SeriesInputs) -> None:
        """Check that the inputs are of use with these options.

        Raises:
            OptionError: for the first that is not.
        """
        if self.transform == "deformable" and inputs.bvec is not None:
            raise OptionError("bvec", inputs.bvec, "gradient directions turn with a rigid motion; use transform=rigid")
        for name in ("labels", "points", "label_table"):
            if self.transform != "deformable" and getattr(inputs, name) is not None:
                raise OptionError(
                    name, getattr(inputs, name), "is carried by the motion of an organ; add transform=deformable"
                )
        if inputs.label_table is not None and inputs.labels is None:
            raise OptionError("label_table", inputs.label_table, "describes labels, but there are none; add labels")
        carried = inputs.labels is not None or inputs.points is not None
        if carried and str(self.to) == "mean" and self.labels_frame is None:
            raise OptionError("to", self.to, "say which frame labels and points belong to, with labels_frame")
        if self.labels_frame is not None and not carried:
            raise OptionError("labels_frame", self.labels_frame, "there are no labels or points; add them")

    @property
    def frame(self) -> int | None:
        """The number of the reference frame, None for a mean or an image."""
        if str(self.to) == "first":
            return 0
        return int(str(self.to)) if str(self.to).isdecimal() else None
