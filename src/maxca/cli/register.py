"""``maxca register``: register two scans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxca.cli.options import Overwrite, from_options
from maxca.cli.repeat import absolute, anywhere, repeated
from maxca.cli.terminal import note, progress_bar, report, warn
from maxca.fields import About
from maxca.options import MODELS, RegistrationInputs, RegistrationOptions

if TYPE_CHECKING:
    from maxca.registration.record import Record

EXAMPLE = "Example:  maxca register -f atlas_T1.nii.gz -m patient_T1.nii.gz -o patient_on_atlas"
OUTPUT = "Output"


def _model(name: str) -> str:
    from maxca.errors import MaxcaError
    from maxca.models.zoo import find_model

    if name in MODELS or name.startswith("hf://"):
        return name
    try:
        find_model(name)
    except MaxcaError as error:
        raise typer.BadParameter(str(error)) from error
    return name


def _with_report(wanted: bool) -> bool:
    from importlib.util import find_spec

    if wanted and not all(map(find_spec, ("jinja2", "matplotlib"))):
        raise typer.BadParameter("a report needs additional dependencies: pip install 'maxca[report]'")
    return wanted


@dataclass(frozen=True)
class Printing:
    """What is printed."""

    verbose: Annotated[bool, About("Print each stage as it begins.", OUTPUT, "-v")] = False
    quiet: Annotated[bool, About("Print errors and warnings only.", OUTPUT, "-q")] = False


@from_options(model=_model)
def register(
    context: typer.Context,
    inputs: RegistrationInputs,
    out: Annotated[
        Path,
        typer.Option("--output", "-o", help="The output folder; nothing else is written.", rich_help_panel=OUTPUT),
    ],
    options: RegistrationOptions,
    shown: Printing,
    save_field: Annotated[
        bool,
        typer.Option("--save-field", rich_help_panel=OUTPUT, help="Also write displacement.nii.gz on the fixed grid."),
    ] = False,
    html_report: Annotated[
        bool,
        typer.Option(
            "--report",
            callback=_with_report,
            rich_help_panel=OUTPUT,
            help="Also write report.html, with the verdict on the result and its images.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Warp a [bold]moving[/bold] image (-m) onto a [bold]fixed[/bold] one (-f).

    Images are NIfTI, MGH, MHA, NRRD, DICOM (a file, or a folder with one series), PNG or TIFF; 3-D, or 2-D, registered
    in the plane.

    The output folder contains warped.nii.gz (the moving image on the fixed grid), transform.h5 (resamples moving onto
    fixed in antsApplyTransforms, SimpleITK and Slicer), inverse_transform.h5 (its inverse) and result.json (settings
    and quality measures); with labels also warped_labels.nii.gz, and warped_NAME for each --apply.
    """
    from maxca.io.atomic import output_folder
    from maxca.registration.additional import parse_additional
    from maxca.registration.inputs import SideInputs
    from maxca.registration.monitor import Monitor
    from maxca.registration.register import register as run

    with output_folder(out, overwrite) as place, progress_bar(quiet=shown.quiet, verbose=shown.verbose) as progress:
        result = run(
            SideInputs(
                inputs.fixed,
                inputs.fixed_mask,
                inputs.fixed_labels,
                inputs.fixed_points,
                inputs.fixed_exclude,
                inputs.rigid,
            ),
            SideInputs(
                inputs.moving,
                inputs.moving_mask,
                inputs.moving_labels,
                inputs.moving_points,
                inputs.moving_exclude,
            ),
            options,
            apply=[parse_additional(each) for each in inputs.apply or ()],
            monitor=Monitor(progress),
        )
        record = replace(result.record, command=_again(context, result.record.settings.threads))
        progress("writing", 0.99)
        replace(result, record=record).write_into(place, save_field=save_field)
        if html_report:
            from maxca.report.case import read_case
            from maxca.report.html import REPORT, write_report

            progress("reporting", 0.995)
            verdict = write_report(read_case(place, name=out.resolve().name), place / REPORT)
    warn(record.warnings)
    for name, how in record.applied.items():
        note(f"warped_{name}: interpolation {how.interpolation}, {how.reason}", quiet=shown.quiet)
    if shown.verbose:
        _explain(record, quiet=shown.quiet)
    report(_summary(out, record), quiet=shown.quiet)
    if html_report:
        report(f"{out / REPORT}: {verdict.state}", quiet=shown.quiet)


def _explain(record: Record, *, quiet: bool) -> None:
    """Print the reasons for what was chosen."""
    if record.affine is not None:
        note(f"affine: {record.affine.reason}", quiet=quiet)
        if record.affine.searched is not None:
            note(f"search: {record.affine.searched}", quiet=quiet)
        note(f"model: {record.model_reason}", quiet=quiet)
    if record.smoothness is not None:
        note(f"smoothness: {record.smoothness.reason}", quiet=quiet)


def _again(context: typer.Context, threads: int | None) -> str:
    """The command that repeats the registration, from any folder."""
    from maxca.models.zoo import shipped
    from maxca.registration.additional import parse_additional

    def model(name: str) -> str:
        return name if name in (*MODELS, *shipped()) or name.startswith("hf://") else absolute(name)

    def additional(text: str) -> str:
        path = parse_additional(text)[0]
        return absolute(path) + text[len(path) :]

    start = anywhere("header", "center")
    names = {"model": model, "apply": additional, "initial_transform": start, "label_table": absolute}
    return repeated(context, names, overwrite=True, threads=threads)


def _summary(out: Path, record: Record) -> str:
    """A summary line: output folder and quality measures."""
    metrics = record.metrics
    score = metrics.similarity
    parts = [f"{score.name} {score.before:.3f} → {score.after:.3f}"]
    for title, before, after, unit in (
        ("Dice", metrics.dice_before, metrics.dice_after, ""),
        ("predicted Dice", metrics.predicted_dice_before, metrics.predicted_dice_after, ""),
        ("HD95", metrics.hd95_mm_before, metrics.hd95_mm_after, " mm"),
        ("landmarks", metrics.tre_mm_before, metrics.tre_mm_after, " mm"),
    ):
        if before is not None and after is not None and before.mean is not None and after.mean is not None:
            parts.append(f"{title} {before.mean:.3g} → {after.mean:.3g}{unit}")
    for side, each in metrics.excluded.items():
        parts.append(f"excluded {side} {each.ml:.3g} → {each.mapped_ml:.3g} ml")
    if metrics.bodies:
        parts.append(f"{len(metrics.bodies)} bodies within {metrics.largest_departure:.2g} voxels")
    if metrics.uncertainty is not None:
        parts.append(f"uncertainty {metrics.uncertainty.mean_mm:.2g} mm")
    parts.append(f"folding {metrics.folding.ndv_percent:.2g} %")
    if record.network is not None and record.settings.model != "none":
        parts.append(f"model {record.network.name}{'' if record.network.accepted else ' (not accepted)'}")
    if record.guide is not None:
        parts.append(f"guided by {record.guide.name}")
    parts += [f"guided by {len(each.used)} {each.kind}" for each in record.guidance]
    parts.append(f"{sum(record.seconds.values()):.1f} s")
    return f"{out}: {', '.join(parts)}"
