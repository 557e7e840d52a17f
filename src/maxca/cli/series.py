"""``maxca series``: motion of the frames of a 4-D image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, from_options
from maxca.cli.register import _with_report
from maxca.cli.repeat import anywhere, repeated
from maxca.cli.terminal import note, progress_bar, report, warn
from maxca.workflows.series.options import SeriesInputs, SeriesOptions

EXAMPLE = "Example:  maxca series -i bold.nii.gz -o corrected --to mean --report"


@from_options()
def series(
    context: typer.Context,
    image: Annotated[
        Path, typer.Option("--input", "-i", help="The series: a 4-D image, NIfTI or MGH.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--output", "-o", help="The output folder; nothing else is written.", show_default=False),
    ],
    inputs: SeriesInputs,
    options: SeriesOptions,
    html_report: Annotated[
        bool,
        typer.Option(
            "--report", callback=_with_report, help="Also write report.html, with the curves and images of the motion."
        ),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Correct the motion of the frames of a 4-D image: fMRI, diffusion, dynamic PET, perfusion.

    The output folder contains corrected.nii.gz (every frame on the grid of the reference, interpolated once),
    motion.tsv (a row per frame: motion parameters, framewise displacement, DVARS, outliers), transforms (a file per
    frame, from reference to frame, for maxca apply --volume-transforms, ITK and ANTs), reference.nii.gz, mean.nii.gz
    and result.json.

    One frame is in memory at a time.
    """
    from maxca.workflows.series.run import series as run

    finish: Callable[..., object] | None = None
    if html_report:
        from maxca.report.series import write_page

        finish = write_page
    command = repeated(context, {"to": _reference}, overwrite=True)
    with progress_bar(quiet=quiet) as progress:
        result = run(
            image,
            out,
            options,
            inputs=inputs,
            overwrite=overwrite,
            progress=progress,
            command=command,
            finish=finish,
        )
    warn(result.record.warnings)
    motion = result.record.motion
    if motion.other_contrast:
        note(f"{motion.other_contrast} frames have another contrast than the reference", quiet=quiet)
    report(
        f"{out}: {motion.frames} frames, framewise displacement {motion.mean_fd_mm:.2f} mm (largest "
        f"{motion.max_fd_mm:.2f}), {len(motion.outliers)} outliers, {result.record.seconds:.1f} s",
        quiet=quiet,
    )


def _reference(text: str) -> str:
    return text if text.isdecimal() else anywhere("first", "mean")(text)
