"""``maxca apply``: warp an image with transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from maxca.cli.options import Fill, MatrixConvention, OptionalTransforms, Overwrite, Quiet
from maxca.cli.terminal import note, report, warn

EXAMPLE = (
    "Example:  maxca apply -i patient_FLAIR.nii.gz -r atlas_T1.nii.gz -t OUTDIR/transform.h5 -o flair_on_atlas.nii.gz"
)


def apply(
    image: Annotated[Path, typer.Option("--input", "-i", help="The image to warp, in moving space.")],
    reference: Annotated[Path, typer.Option("--reference", "-r", help="An image that defines the grid of the result.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .nii, .nii.gz, .mha or .nrrd.")],
    transforms: OptionalTransforms = None,
    interpolation: Annotated[
        Literal["auto", "linear", "nearest", "labels", "bspline"],
        typer.Option(
            help="linear, nearest, bspline (cubic, for images), or labels (integers; smoother than nearest). "
            "auto: labels for a detected label map, otherwise linear; the choice is printed."
        ),
    ] = "auto",
    fill: Fill = None,
    matrix_convention: MatrixConvention = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Warp an image with existing transforms and one interpolation; without transforms, by the headers alone.

    transform.h5 warps images in moving space onto the fixed grid; inverse_transform.h5 warps images in fixed space onto
    the moving grid.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.images import WRITTEN_SUFFIXES, check_grid, read, write
    from maxca.registration.interpolation import choose
    from maxca.registration.resampling import apply as run

    check_new_file(out, WRITTEN_SUFFIXES, overwrite)
    target = read(reference)
    check_grid(out, target.grid)
    source = read(image)
    choice = choose(source, interpolation)
    warped = run(source, target, transforms or (), choice.interpolation, matrix_convention, fill)
    write(warped.data, warped.grid, out, form=warped.form, intent=warped.intent)
    warn([*source.warnings, *warped.warnings])
    if interpolation == "auto":
        note(f"interpolation: {choice.interpolation}, {choice.reason}", quiet=quiet)
    report(str(out), quiet=quiet)
