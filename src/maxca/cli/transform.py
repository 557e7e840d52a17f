"""``maxca transform``: compose, invert, convert and measure transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import (
    EXTENSIONS,
    READ_EXTENSIONS,
    MatrixConvention,
    Overwrite,
    Quiet,
    TransformFiles,
    Transforms,
    from_options,
    help_of,
)
from maxca.cli.terminal import report
from maxca.options import TransformTool

COMPOSE = "Example:  maxca transform compose -t warp.nii.gz -t affine.mat -o both.h5"
INVERT = "Example:  maxca transform invert -i OUTDIR/transform.h5 -o inverse.h5"
CONVERT = "Example:  maxca transform convert sub_1Warp.nii.gz sub_0GenericAffine.mat -o both.x5"
JACOBIAN = "Example:  maxca transform jacobian -t OUTDIR/transform.h5 -r fixed.nii.gz -o determinant.nii.gz"

app = typer.Typer(
    help="Compose, invert, convert and measure transforms.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Input = Annotated[Path, typer.Option("--input", "-i", help=f"A transform: {READ_EXTENSIONS}.")]
Output = Annotated[Path, typer.Option("--output", "-o", help=f"The file to write: {EXTENSIONS}.")]
Sampled = Annotated[
    Path | None,
    typer.Option(
        "--reference", "-r", help="An image in fixed space: sample everything as one displacement field on its grid."
    ),
]


def compose(
    transforms: Transforms,
    out: Output,
    reference: Sampled = None,
    matrix_convention: MatrixConvention = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compose several transforms into one.

    The order is that of maxca apply and antsApplyTransforms: a point of the fixed image passes through the first -t
        first.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.transforms import TRANSFORM_SUFFIXES, write_transform
    from maxca.registration.resampling import compose as run

    check_new_file(out, TRANSFORM_SUFFIXES, overwrite)
    write_transform(run(transforms, reference, matrix_convention), out)
    report(str(out), quiet=quiet)


def invert(
    source: Input,
    out: Output,
    matrix_convention: MatrixConvention = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Invert a transform: the result maps moving points to fixed points.

    The residual is the round-trip error of points.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.transforms import TRANSFORM_SUFFIXES, check_format, write_transform
    from maxca.registration.resampling import join

    check_new_file(out, TRANSFORM_SUFFIXES, overwrite)
    chain = join([source], matrix_convention)
    check_format(chain, out)
    inverse, residual = chain.inverse()
    write_transform(inverse, out)
    report(f"{out}: residual {residual.mean:.3g} mm on average, {residual.max:.3g} mm at most", quiet=quiet)


@from_options()
def convert(
    files: TransformFiles,
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help=f"The file to write: {EXTENSIONS}; for ants a prefix, such as OUTDIR/sub-1_."
        ),
    ],
    sources: Annotated[list[Path] | None, typer.Argument(metavar="TRANSFORM", show_default=False)] = None,
    given: Annotated[
        list[Path] | None,
        typer.Option("--input", "-i", help="The same, as an option.", show_default=False),
    ] = None,
    tool: Annotated[
        TransformTool | None,
        typer.Option(
            help="The tool that reads the output; by default itk, except for .lta, .1D and .x5.", show_default=False
        ),
    ] = None,
    reference: Sampled = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a transform, or several in the order of antsApplyTransforms, for another tool.

    The suffix chooses the format. .h5 and .x5 store any transform; .tfm, .txt, .mat, .lta and .1D an affine; .nii and
    .nii.gz a displacement field on the grid of the field in the input, or of the reference.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.transforms import write_transform, written_files
    from maxca.registration.resampling import compose as run
    from maxca.registration.resampling import grids_of

    transforms = [*(sources or ()), *(given or ())]
    if not transforms:
        raise typer.BadParameter("no transform; give one or several files: maxca transform convert FILE -o OUTPUT")
    for path, suffixes in written_files(out, tool):
        check_new_file(path, suffixes, overwrite)
    images = grids_of(files.fixed, files.moving)
    write_transform(run(transforms, reference, files.matrix_convention, images), out, tool=tool, images=images)
    report(str(out), quiet=quiet)


def jacobian(
    transforms: Transforms,
    reference: Annotated[
        Path, typer.Option("--reference", "-r", help="An image in fixed space with the grid to measure on.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The map to write: .nii, .nii.gz, .mha or .nrrd.")],
    matrix_convention: MatrixConvention = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compute the Jacobian determinant: volume in moving space per volume in fixed space.

    Above 1 the moving structure is larger, below 1 smaller, and at or below 0 the transform folds.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.images import WRITTEN_SUFFIXES, check_grid, read, write
    from maxca.registration.resampling import jacobian as run

    check_new_file(out, WRITTEN_SUFFIXES, overwrite)
    target = read(reference)
    check_grid(out, target.grid)
    image, summary = run(transforms, target, matrix_convention)
    write(image.data, image.grid, out, form=image.form)
    numbers = f"min {summary.min:.3f}, mean {summary.mean:.3f}, max {summary.max:.3f}"
    report(f"{out}: {numbers}, {summary.nonpositive_percent:.3g} % at or below 0", quiet=quiet)


for command, example in ((compose, COMPOSE), (invert, INVERT), (convert, CONVERT), (jacobian, JACOBIAN)):
    app.command(help=help_of(command), epilog=example)(command)
