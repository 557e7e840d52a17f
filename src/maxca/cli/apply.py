"""``maxca apply``: warp an image with transforms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from maxca.cli.options import OptionalTransforms, Overwrite, Quiet, from_options
from maxca.cli.terminal import note, report, warn
from maxca.fields import About, about
from maxca.options import MatrixConvention, RegistrationOptions

EXAMPLE = (
    "Example:  maxca apply -i patient_FLAIR.nii.gz -r atlas_T1.nii.gz -t OUTDIR/transform.h5 -o flair_on_atlas.nii.gz"
)


@dataclass(frozen=True)
class Resampling:
    """How an image is warped."""

    interpolation: Annotated[
        Literal["auto", "linear", "nearest", "labels", "bspline"],
        About(
            "linear, nearest, bspline (cubic, for images), or labels (integers; smoother than nearest). auto: labels "
            "for a detected label map, otherwise linear; the choice is printed."
        ),
    ] = "auto"
    fill: Annotated[float | None, about(RegistrationOptions, "fill")] = None
    matrix_convention: Annotated[MatrixConvention | None, about(RegistrationOptions, "matrix_convention")] = None
    modulate: Annotated[
        bool,
        About(
            "Multiply the result by the determinant of the Jacobian, so that the integral of the image is kept: for "
            "the signal of a distorted EPI, or for volumes of tissue."
        ),
    ] = False


@from_options()
def apply(
    image: Annotated[
        Path, typer.Option("--input", "-i", help="The image to warp, in moving space: 2-D, 3-D, or 4-D (NIfTI, MGH).")
    ],
    reference: Annotated[Path, typer.Option("--reference", "-r", help="An image that defines the grid of the result.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .nii, .nii.gz, .mha or .nrrd.")],
    how: Resampling,
    transforms: OptionalTransforms = None,
    volume_transforms: Annotated[
        Path | None,
        typer.Option(
            "--volume-transforms",
            help="Of a 4-D image: a folder with one transform per volume, in the order of their names, a text file "
            "that lists them, or one of ITK (fMRIPrep) or AFNI with an affine per volume. A point of the reference "
            "passes through them after those of -t.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Warp an image with existing transforms and one interpolation; without transforms, by the headers alone.

    transform.h5 warps images in moving space onto the fixed grid; inverse_transform.h5 warps images in fixed space onto
    the moving grid.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.images import WRITTEN_SUFFIXES
    from maxca.registration.image_files import warp_file
    from maxca.registration.volumes import Motion, transforms_of_volumes

    check_new_file(out, WRITTEN_SUFFIXES, overwrite)
    each = transforms_of_volumes(volume_transforms) if volume_transforms else ()
    motion = Motion(transforms or (), each, how.matrix_convention)
    choice, warnings = warp_file(image, reference, out, motion, how.interpolation, how.fill, modulate=how.modulate)
    warn(warnings)
    if how.interpolation == "auto":
        note(f"interpolation: {choice.interpolation}, {choice.reason}", quiet=quiet)
    report(str(out), quiet=quiet)
