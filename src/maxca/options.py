"""Options: vocabularies, and frozen dataclasses that validate themselves. This module does not import torch.

The command line, the keywords of ``maxca.register``, ``result.json`` and the method strings of ``maxca evaluate`` are
all generated from the classes of this module.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from maxca.errors import MaxcaError

TransformName = Literal["deformable", "affine", "rigid"]
EffortName = Literal["fast", "balanced", "accurate"]
DeviceName = Literal["auto", "cpu", "cuda"]
MatrixConvention = Literal["ras", "fsl"]

TRANSFORMS: tuple[TransformName, ...] = get_args(TransformName)
EFFORTS: tuple[EffortName, ...] = get_args(EffortName)
MODELS = ("auto", "none")
IMAGES, METHOD, REGIONS, MACHINE = "Images", "Method", "Masks, labels and points", "Machine"
PAIRS = "Pairs"

Kind = TypeVar("Kind")
_vocabularies: dict[str, list[str]] = {"similarity": ["lncc", "mi", "mse"]}


class OptionError(MaxcaError, ValueError):
    """An invalid option; ``field`` is its name, to which the command line adds its dashes."""

    def __init__(self, field: str, value: object, advice: str) -> None:
        super().__init__(f"{field}={value}: {advice}")
        self.field, self.value, self.advice = field, value, advice


class About(NamedTuple):
    """Annotation of a field, for ``--help``, docstrings and validation.

    Args:
        help: one or two sentences.
        panel: its heading in ``--help``.
        short: the option of one letter.
        vocabulary: of a name that plugins may add to, see ``vocabulary``.
        above: a number must be larger than this.
        least: a number must be at least this.
        unit: of a number.
        in_python: addition to docstrings: values available in Python only.
    """

    help: str
    panel: str = METHOD
    short: str | None = None
    vocabulary: str | None = None
    above: float | None = None
    least: float | None = None
    unit: str = ""
    in_python: str = ""


class Option(NamedTuple):
    """A field of a class of options.

    Args:
        name: of the field, of the keyword, and with dashes of the option.
        type: without its annotations.
        default: ``dataclasses.MISSING`` if it is required.
        about: its annotation.
    """

    name: str
    type: Any
    default: Any
    about: About

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed names; empty for other types."""
        if self.about.vocabulary:
            return vocabulary(self.about.vocabulary)
        kinds = get_args(self.type) if get_origin(self.type) in (Union, type(int | None)) else (self.type,)
        return tuple(name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind))


def vocabulary(name: str) -> tuple[str, ...]:
    """The allowed names of an option, including those of plugins."""
    return tuple(_vocabularies[name])


def add_choice(name: str, value: str) -> None:
    """Add a name to a vocabulary."""
    if value not in _vocabularies[name]:
        _vocabularies[name].append(value)


def remove_choice(name: str, value: str) -> None:
    """Remove a name from a vocabulary."""
    if value in _vocabularies[name]:
        _vocabularies[name].remove(value)


def options_of(kind: type) -> tuple[Option, ...]:
    """The fields of a class of options, in order."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for each in fields(kind):
        plain, about = get_args(hints[each.name])
        found.append(Option(each.name, plain, each.default, about))
    return tuple(found)


def check(options: Any) -> None:
    """Validate every field of an object of options against its annotation.

    Raises:
        OptionError: for the first invalid field.
    """
    for each in options_of(type(options)):
        value = getattr(options, each.name)
        if value is None and each.default is None:
            continue
        if each.choices and value not in each.choices:
            raise OptionError(each.name, value, f"choose one of {', '.join(each.choices)}")
        for one in value if isinstance(value, tuple) else (value,):
            _check_bounds(each, one)


def _check_bounds(option: Option, value: Any) -> None:
    above, least = option.about.above, option.about.least
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if above is not None and not (number and above < value < math.inf):
        unit = f" of {option.about.unit}" if option.about.unit else ""
        raise OptionError(option.name, value, f"give a positive number{unit}")
    if least is not None and not (number and value >= least):
        raise OptionError(option.name, value, f"give at least {least:g}")


def read_options(kind: type[Kind], text: str, without: Collection[str] = ()) -> Kind:
    """Options from ``name=value,name=value``, with values converted to the types of the fields.

    Args:
        kind: a class of options.
        text: may be empty; other fields keep their defaults.
        without: names that are not allowed.

    Raises:
        OptionError: for another name, or an invalid value.
    """
    known = {each.name: each for each in options_of(kind) if each.name not in without}
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise OptionError(name, value, f"no such option; choose from {', '.join(known)}")
        kinds = get_args(known[name].type) or (known[name].type,)
        number = float if float in kinds else int if int in kinds else None
        try:
            values[name] = value if number is None else number(value)
        except ValueError as error:
            raise OptionError(name, value, "give a number") from error
    return kind(**values)


@dataclass(frozen=True)
class RegistrationInputs:
    """The images of a pair with masks, labels and points; each is a path or an object."""

    fixed: Annotated[
        Any,
        About(
            "The fixed image: its space and grid are kept.",
            IMAGES,
            "-f",
            in_python="A path (NIfTI, FreeSurfer, MHA, NRRD, a folder with one DICOM series), an image of nibabel or "
            "SimpleITK, a ``maxca.Image``, or a NumPy array and its affine, ``(array, affine)``.",
        ),
    ]
    moving: Annotated[Any, About("The moving image: it is warped onto the fixed one.", IMAGES, "-m")]
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
    fixed_labels: Annotated[
        Any, About("Labels of the fixed image, to measure Dice; not used to register.", REGIONS)
    ] = None
    moving_labels: Annotated[
        Any, About("Labels of the moving image, which are warped; not used to register.", REGIONS)
    ] = None
    fixed_points: Annotated[
        Any,
        About(
            "Landmarks of the fixed image (.csv, .fcsv, .mrk.json), to measure the error in mm; not used to register.",
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
            "A trained network whose prediction is then refined on the pair: a file (.safetensors), the name of a "
            "bundled model (see maxca models list) or hf://OWNER/NAME on Hugging Face; none: the pair is optimised "
            "from scratch; auto: the first bundled model that was trained on such images and passes the acceptance "
            "check on the pair.",
            in_python="Or a loaded ``Model``.",
        ),
    ] = "auto"
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
            "Similarity measure that the deformation maximises: lncc (images of one contrast), mi (two contrasts, such "
            "as T1 and T2) or mse (same scanner and units). The affine supports all of them.",
            vocabulary="similarity",
        ),
    ] = "lncc"
    smoothness: Annotated[
        float | None,
        About(
            "Regularisation: Gaussian σ of the update, in mm; larger is smoother. By default three times the smallest "
            "spacing, and nine times between different contrasts.",
            above=0,
            unit="millimetres",
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
        check(self)


@dataclass(frozen=True)
class EvaluationOptions:
    """Selection of pairs, threads and jobs of an evaluation."""

    name: Annotated[
        str | None, About("Name of this set of pairs in the table; by default that of the list's folder.", PAIRS)
    ] = None
    group: Annotated[str | None, About("Only pairs of this group.", PAIRS)] = None
    pair: Annotated[
        tuple[int, ...], About("Only the pair of this number, from 0; may be repeated.", PAIRS, least=0)
    ] = ()
    limit: Annotated[int | None, About("Only the first pairs, this many.", PAIRS, least=1)] = None
    threads: Annotated[int, About("CPU threads of each registration.", MACHINE, least=1)] = 2
    jobs: Annotated[
        int,
        About(
            "Registrations that run at once; above 1, the times say little about a single registration.",
            MACHINE,
            "-j",
            least=1,
        ),
    ] = 1

    def __post_init__(self) -> None:
        check(self)
