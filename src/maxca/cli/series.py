"""``maxca series``: motion of the frames of a 4-D image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maxca.cli.options import Overwrite, Quiet, from_options
from maxca.cli.register import _model, _with_report
from maxca.cli.repeat import absolute, anywhere, repeated
from maxca.cli.terminal import note, progress_bar, report, warn
from maxca.options import MODELS
from maxca.workflows.series.options import SeriesInputs, SeriesOptions

if TYPE_CHECKING:
    from maxca.workflows.series.organ.run import OrganResult
    from maxca.workflows.series.run import SeriesResult

MOST_NAMED = 4  # labels on the last line
EXAMPLE = "Example:  maxca series -i bold.nii.gz -o corrected --to mean --report"


@from_options(model=_model)
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
    """Correct the motion of the frames of a 4-D image, or follow the motion of an organ.

    Motion correction is for fMRI, diffusion, dynamic PET and perfusion; the motion of an organ for cine MR of a heart
    or 4-D CT of a lung.

    The output folder contains corrected.nii.gz (every frame on the grid of the reference, interpolated once), a table
    with a row per frame (motion.tsv: motion parameters, framewise displacement, DVARS, outliers), transforms (a file
    per frame, from reference to frame, for maxca apply --volume-transforms, ITK and ANTs), reference.nii.gz,
    mean.nii.gz and result.json.

    With --transform deformable, each frame has a deformation field, smooth over time, and the table is frames.tsv.
    --labels and --points are carried to every frame: labels.nii.gz, labels.tsv (volumes, strain), points.tsv.

    One frame is in memory at a time. After an interruption, the same command resumes.
    """
    finish: Callable[..., object] | None = None
    organ = options.transform == "deformable"
    if html_report:
        from maxca.report import organ as organ_page
        from maxca.report import series as series_page

        finish = organ_page.write_page if organ else series_page.write_page
    names = {"to": _reference, "label_table": absolute, "model": _model_anywhere}
    given: dict[str, Any] = {
        "inputs": inputs,
        "overwrite": overwrite,
        "command": repeated(context, names, overwrite=True),
        "finish": finish,
    }
    with progress_bar(quiet=quiet) as progress:
        if organ:
            from maxca.workflows.series.organ.run import organ_motion

            line, warnings = _organ(organ_motion(image, out, options, progress=progress, **given))
        else:
            from maxca.workflows.series.run import series as run

            line, warnings = _rigid(run(image, out, options, progress=progress, **given), quiet=quiet)
    warn(warnings)
    report(f"{out}: {line}", quiet=quiet)


def _rigid(result: SeriesResult, *, quiet: bool) -> tuple[str, list[str]]:
    """What is said of a corrected motion, and its warnings."""
    motion = result.record.motion
    if motion.other_contrast:
        note(f"{motion.other_contrast} frames have another contrast than the reference", quiet=quiet)
    line = (
        f"{motion.frames} frames, framewise displacement {motion.mean_fd_mm:.2f} mm (largest {motion.max_fd_mm:.2f}), "
        f"{len(motion.outliers)} outliers, {result.record.seconds:.1f} s"
    )
    return line, result.record.warnings


def _organ(result: OrganResult) -> tuple[str, list[str]]:
    """What is said of the motion of an organ, and its warnings."""
    motion = result.record.motion
    parts = [
        f"{motion.frames} frames, displacement up to {motion.displacement_max_mm:.1f} mm",
        f"lncc {motion.similarity_before:.3f} → {motion.similarity:.3f}",
        f"folding {motion.ndv_percent:.2g} %",
        f"model {motion.model}",
    ]
    parts += [
        f"{each.name or f'label {each.label}'} {each.largest_ml:.3g} → {each.smallest_ml:.3g} ml "
        f"({each.ejection_fraction_percent:.0f} %)"
        for each in motion.labels[:MOST_NAMED]
        if each.ejection_fraction_percent is not None
    ]
    return ", ".join([*parts, f"{result.record.seconds:.1f} s"]), result.record.warnings


def _reference(text: str) -> str:
    return text if text.isdecimal() else anywhere("first", "mean")(text)


def _model_anywhere(name: str) -> str:
    from maxca.models.zoo import shipped

    return name if name in (*MODELS, *shipped()) or name.startswith("hf://") else absolute(name)
