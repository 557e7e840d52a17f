"""``maxca apply-points``: map points with transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import MatrixConvention, Overwrite, Quiet, Transforms
from maxca.cli.terminal import report

EXAMPLE = "Example:  maxca apply-points -i moving_landmarks.csv -t OUTDIR/inverse_transform.h5 -o on_fixed.csv"


def apply_points(
    points: Annotated[
        Path, typer.Option("--input", "-i", help="Points: .csv with columns x,y,z (RAS mm), .fcsv or .mrk.json.")
    ],
    transforms: Transforms,
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .csv, .fcsv or .mrk.json.")],
    matrix_convention: MatrixConvention = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Map points with existing transforms.

    Points are mapped in the opposite direction to images: transform.h5 maps points of the [bold]fixed[/bold] image to
        the
    moving one. To map points of the [bold]moving[/bold] image into fixed space, pass inverse_transform.h5.
    """
    from maxca.io.atomic import check_new_file
    from maxca.io.points import SUFFIXES, write_points
    from maxca.registration.resampling import apply_points as run

    check_new_file(out, SUFFIXES, overwrite)
    moved = run(points, transforms, matrix_convention)
    write_points(moved, out)
    report(f"{out}: {len(moved.coordinates)} points", quiet=quiet)
