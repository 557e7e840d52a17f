"""Options: vocabularies, and frozen dataclasses that validate themselves. This module does not import torch.

The command line, the keywords of ``maxca.register``, ``result.json`` and the method strings of ``maxca evaluate`` are
all generated from the classes of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from maxca.fields import About, OptionError, check, weights, words

TransformName = Literal["deformable", "affine", "rigid"]
EffortName = Literal["fast", "balanced", "accurate"]
DeviceName = Literal["auto", "cpu", "cuda"]
MatrixConvention = Literal["ras", "fsl"]
TransformTool = Literal["itk", "ants", "fsl", "freesurfer", "spm", "niftyreg", "afni", "elastix", "x5"]
PairKind = Literal["inter", "intra"]
PresetName = Literal["longitudinal"]
SearchName = Literal["auto", "on", "off"]
GuideName = Literal["labels", "points"]
FilledName = Literal["smooth", "volume", "rigid"]

TRANSFORMS: tuple[TransformName, ...] = get_args(TransformName)
EFFORTS: tuple[EffortName, ...] = get_args(EffortName)
GUIDES: tuple[GuideName, ...] = get_args(GuideName)
MODELS = ("auto", "none")
AUTO = "auto"  # similarity that follows from the pair, see ``engine.support``
IMAGES, REGIONS, MACHINE = "Images", "Masks, labels and points", "Machine"
PAIRS = "Pairs"


@dataclass(frozen=True)
class RegistrationInputs:
    """The images of a pair with masks, labels and points; each is a path or an object."""

    fixed: Annotated[
        Any,
        About(
            "The fixed image: its space and grid are kept. Repeated for several channels, such as T1 and T2 of one "
            "patient, on any grids; the grid of the first is kept.",
            IMAGES,
            "-f",
            repeated=True,
            in_python="A path (NIfTI, FreeSurfer, MHA, NRRD, DICOM, PNG, TIFF), an image of nibabel or "
            "SimpleITK, a ``maxca.Image``, or a NumPy array and its affine, ``(array, affine)``; a list for several "
            "channels.",
        ),
    ]
    moving: Annotated[
        Any,
        About(
            "The moving image: it is warped onto the fixed one. Repeated for several channels, in the order of the "
            "fixed ones; all of them are warped.",
            IMAGES,
            "-m",
            repeated=True,
            in_python="A list for several channels.",
        ),
    ]
    apply: Annotated[
        Any,
        About(
            "An additional image in moving space to warp; may be repeated. Label maps are detected, as printed in the "
            "log; FILE:labels (or linear, nearest, bspline) sets the interpolation.",
            IMAGES,
            in_python="A sequence of images, or of pairs of an image and its interpolation; see "
            "``maxca.registration.interpolation.choose``.",
        ),
    ] = ()
    fixed_mask: Annotated[
        Any, About("Mask of the fixed image: non-zero where the similarity is computed.", REGIONS)
    ] = None
    moving_mask: Annotated[
        Any, About("Mask of the moving image: non-zero where the similarity is computed.", REGIONS)
    ] = None
    fixed_exclude: Annotated[
        Any,
        About(
            "Region of the fixed image that the registration ignores, such as a lesion, a resection or an artefact: "
            "non-zero voxels. The deformation continues into it from its surroundings, see exclude_as.",
            REGIONS,
        ),
    ] = None
    moving_exclude: Annotated[
        Any, About("Region of the moving image that the registration ignores: non-zero voxels.", REGIONS)
    ] = None
    rigid: Annotated[
        Any,
        About(
            "Parts of the fixed image that do not bend, such as bones or an implant: labels, each of which moves "
            "rigidly within the deformation.",
            REGIONS,
        ),
    ] = None
    fixed_labels: Annotated[
        Any, About("Labels of the fixed image, to measure Dice; with guide=labels also to register.", REGIONS)
    ] = None
    moving_labels: Annotated[
        Any, About("Labels of the moving image, which are warped; with guide=labels also used to register.", REGIONS)
    ] = None
    fixed_points: Annotated[
        Any,
        About(
            "Landmarks of the fixed image (.csv, .fcsv, .mrk.json), to measure the error in mm; with guide=points also "
            "to register, by their column weight, if any.",
            REGIONS,
            in_python="Or (N, 3) world points, RAS+ mm.",
        ),
    ] = None
    moving_points: Annotated[
        Any,
        About(
            "The same landmarks in the moving image: by name where both files name them, otherwise row by row.", REGIONS
        ),
    ] = None


@dataclass(frozen=True)
class RegistrationOptions:
    """Options of a registration."""

    model: Annotated[
        Any,
        About(
            "A trained network whose prediction is then refined on the pair, or whose labels guide the optimisation: a "
            "file (.safetensors), the name of a bundled model (see maxca models list) or hf://OWNER/NAME on Hugging "
            "Face; none: the pair is optimised from scratch; auto: the first bundled model that was trained on such "
            "images and passes the acceptance check on the pair.",
            in_python="Or a loaded ``Model`` or ``Segmenter``.",
        ),
    ] = "auto"
    preset: Annotated[
        PresetName | None,
        About(
            "Settings for a kind of images. longitudinal: one subject at two times. A rigid transform takes the place "
            "of the affine, both images are treated alike (halfway space), no model is used by default, and the change "
            "of volume in percent is written too (volume_change.nii.gz)."
        ),
    ] = None
    transform: Annotated[
        TransformName,
        About("Transform model: rigid, affine, or deformable, which is an affine and a deformation field."),
    ] = "deformable"
    initial_transform: Annotated[
        Any,
        About(
            "Initial transform: a file (fixed world points → moving world points), header (the positions in the "
            "files) or center (aligned centres of mass). By default the latter two are tried.",
            in_python="Or a ``Chain``.",
        ),
    ] = None
    search: Annotated[
        SearchName,
        About(
            "Search for the initial rotation among all rotations. on: always; off: never; auto: if none of up to 50° "
            "from the headers fits, and neither initial_transform (a file or header) nor guide=points gives one."
        ),
    ] = "auto"
    matrix_convention: Annotated[
        MatrixConvention | None,
        About(
            "Convention of a text file with a bare 4x4 matrix. ras: fixed to moving, RAS mm (greedy, "
            "NiftyReg). fsl: FLIRT's -omat."
        ),
    ] = None
    effort: Annotated[EffortName, About("Trade-off between time and accuracy.")] = "balanced"
    similarity: Annotated[
        str,
        About(
            "Similarity measure that the deformation maximises: lncc (images of one contrast), mind or mi (two "
            "contrasts, such as T1 and T2; mind takes longer) or mse (same scanner and units). auto: lncc, with mi "
            "where the contrasts differ or coarse trials increase the smoothness. The affine supports all of them. Of "
            "several channels, one for all or one for each: lncc,mi.",
            vocabulary="similarity",
            or_else=(AUTO,),
            in_python="Or a sequence of names.",
        ),
    ] = AUTO
    channel_weights: Annotated[
        tuple[float, ...],
        About(
            "Weight of each of several channels, such as 1,0.5; equal by default. The weighted sum of their "
            "similarities is maximised; if they have different similarity measures, the forces of these are scaled to "
            "one size first. A channel of weight 0 is only warped.",
            in_python="A sequence of numbers.",
        ),
    ] = ()
    guide: Annotated[
        tuple[GuideName, ...],
        About(
            "Given data of both images that guide the deformation together with the similarity, instead of only being "
            "measured; may be repeated. labels: those of fixed_labels and moving_labels, few or many. points: "
            "fixed_points and moving_points, from which the affine also starts.",
            in_python="A sequence of names.",
        ),
    ] = ()
    label_table: Annotated[
        Any,
        About(
            "Names of the labels, for the report and messages: a BIDS look-up table (.tsv), a .csv with the columns "
            "index and name, or a color table of FreeSurfer, 3D Slicer or ITK-SNAP. A column weight, from 0 up, says "
            "how much each label guides with guide=labels.",
        ),
    ] = None
    exclude_as: Annotated[
        FilledName,
        About(
            "How the deformation fills what fixed_exclude and moving_exclude exclude. smooth: by what its surroundings "
            "do. volume: its volume is kept, by an affine map of it. rigid: it is moved and rotated only.",
        ),
    ] = "smooth"
    restrict: Annotated[
        str | None,
        About(
            "Axes of the fixed grid along which the deformation moves points, 1 for yes and 0 for no: 0x1x0 moves them "
            "along the second axis only, such as the phase-encoding axis of an EPI. No affine is estimated then: the "
            "initial transform, by default the headers, is kept.",
        ),
    ] = None
    max_displacement: Annotated[
        float | None,
        About(
            "Largest displacement of the deformation, in mm: no point moves farther from where the affine puts it.",
            above=0,
            unit="millimetres",
        ),
    ] = None
    smoothness: Annotated[
        float | None,
        About(
            "Regularisation: Gaussian σ of the update, in mm; larger is smoother. By default twice the smallest "
            "spacing, in a slice three times; three times as much between different contrasts, twice as much with the "
            "longitudinal preset; and two or four times as much if coarse trials without a model or guides show that "
            "the pair does not support the default.",
            above=0,
            unit="millimetres",
        ),
    ] = None
    uncertainty: Annotated[
        int | None,
        About(
            "Number of further runs of the deformation with noise added and the smoothness changed, such as 8; how "
            "much they agree is written as a map in mm (uncertainty.nii.gz).",
            least=2,
        ),
    ] = None
    fill: Annotated[
        float | None,
        About(
            "Value outside the field of view of the moving image; by default its background (0 in most MR images, "
            "-1024 in CT). Labels are always 0 there.",
            IMAGES,
        ),
    ] = None
    device: Annotated[DeviceName, About("auto uses the GPU if there is one.", MACHINE)] = "auto"
    threads: Annotated[int | None, About("CPU threads; by default one for each core.", MACHINE, least=1)] = None
    seed: Annotated[
        int,
        About("Random seed of the sampling; output is reproducible for a given seed and number of threads.", MACHINE),
    ] = 0

    def __post_init__(self) -> None:
        given: Any = self.guide
        object.__setattr__(self, "guide", tuple(dict.fromkeys(given.split("+") if isinstance(given, str) else given)))
        object.__setattr__(self, "similarity", "+".join(words(self.similarity)))
        object.__setattr__(self, "channel_weights", weights("channel_weights", self.channel_weights))
        check(self)
        _ = self.axes
        if self.exclude_as != "smooth" and (self.transform != "deformable" or self.restrict is not None):
            other = f"transform={self.transform}" if self.restrict is None else f"restrict={self.restrict}"
            raise OptionError("exclude_as", self.exclude_as, f"is for a free deformation, not for {other}")
        if self.max_displacement is not None and (self.transform != "deformable" or self.exclude_as != "smooth"):
            other = self.transform if self.transform != "deformable" else f"exclude_as={self.exclude_as}"
            raise OptionError("max_displacement", self.max_displacement, f"limits a free deformation, not {other}")
        if self.uncertainty is not None and self.transform != "deformable":
            raise OptionError("uncertainty", self.uncertainty, f"is that of a deformation, not of {self.transform}")
        if self.preset == "longitudinal":
            self._check_longitudinal()
        if "labels" in self.guide and self.transform != "deformable":
            raise OptionError(
                "guide", "labels", f"labels guide a deformation; use transform=deformable, not {self.transform}"
            )

    def _check_longitudinal(self) -> None:
        against = {
            "transform": self.transform == "affine",
            "guide": bool(self.guide),
            "exclude_as": self.exclude_as != "smooth",
            "max_displacement": self.max_displacement is not None,
            "restrict": self.restrict is not None,
            "initial_transform": self.initial_transform == "center",
        }
        for name in (name for name, refused in against.items() if refused):
            raise OptionError(name, getattr(self, name), "not supported with preset=longitudinal; remove one of both")
        if isinstance(self.model, str) and self.model == "auto":
            object.__setattr__(self, "model", "none")

    @property
    def axes(self) -> tuple[bool, bool, bool]:
        """Along which axes of the fixed grid the deformation moves points."""
        if self.restrict is None:
            return True, True, True
        words = self.restrict.split("x") if isinstance(self.restrict, str) else []
        if len(words) != 3 or set(words) - {"0", "1"} or "1" not in words:
            raise OptionError("restrict", self.restrict, "give 0 or 1 for each axis with x between, such as 0x1x0")
        if self.transform != "deformable":
            raise OptionError("restrict", self.restrict, f"restricts a deformation, not transform={self.transform}")
        if self.search == "on":
            raise OptionError("search", self.search, "restrict keeps the initial transform; leave one of the two out")
        i, j, k = (word == "1" for word in words)
        return i, j, k

    def similarities(self, channels: int) -> tuple[str, ...]:
        """The similarity measure of each channel, that of the affine and of models; for ``AUTO`` local NCC.

        Raises:
            OptionError: if they are more than one, and not as many as the channels.
        """
        names = tuple("lncc" if name == AUTO else name for name in self.similarity.split("+"))
        if len(names) not in (1, channels):
            raise OptionError("similarity", self.similarity, f"give one, or one for each of {channels} channels")
        return names * (channels if len(names) == 1 else 1)

    def weights(self, channels: int) -> tuple[float, ...]:
        """The weight of each channel; all equal by default.

        Raises:
            OptionError: if they are not as many as the channels.
        """
        given = self.channel_weights or (1.0,) * channels
        if len(given) != channels:
            text = ",".join(f"{weight:g}" for weight in given)
            raise OptionError("channel_weights", text, f"give one for each channel, of which there are {channels}")
        return given
