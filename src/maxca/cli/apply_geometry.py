"""``maxca apply-geometry``: map points, surfaces and tractograms with transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, TransformFiles, Transforms, from_options
from maxca.cli.terminal import report, warn
from maxca.io.space import HELP, Space

EXAMPLE = "Example:  maxca apply-geometry -i lh.pial.surf.gii -t OUTDIR/inverse_transform.h5 -o on_fixed.surf.gii"
FORMATS = "Points: .csv with columns x,y,z (RAS mm), .fcsv or .mrk.json. Surfaces: .surf.gii, FreeSurfer, .vtk, .vtp, "
FORMATS += ".ply, .stl or .obj. Tractograms: .trk, .tck or .trx."


@from_options()
def apply_geometry(
    files: TransformFiles,
    source: Annotated[Path, typer.Option("--input", "-i", help=FORMATS)],
    transforms: Transforms,
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write, in the format of the input.")],
    space: Annotated[Space | None, typer.Option("--space", help=HELP)] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Map points, surfaces and tractograms with existing transforms.

    Points are mapped in the opposite direction to images: transform.h5 maps points of the [bold]fixed[/bold] image to
    the moving one. To map those of the [bold]moving[/bold] image into fixed space, pass inverse_transform.h5.

    Positions and normals change; faces, scalars, names and headers are kept.
    """
    from maxca.io.atomic import check_new_file, full_suffix
    from maxca.registration.resampling import grids_of
    from maxca.registration.shapes import apply_geometry as run
    from maxca.registration.shapes import check_same_format

    check_same_format(source, out)
    check_new_file(out, (full_suffix(out),), overwrite)
    images = grids_of(files.fixed, files.moving)
    moved = run(source, out, transforms, space, files.matrix_convention, images)
    warn(moved.warnings)
    report(f"{out}: {moved.number} {moved.what}", quiet=quiet)
