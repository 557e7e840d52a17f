"""``maxca template``: the mean intensity and shape of scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, from_options
from maxca.cli.register import _with_report
from maxca.cli.terminal import note, progress_bar, report, warn
from maxca.fields import about
from maxca.options import DeviceName, RegistrationOptions
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.template.options import TemplateOptions

EXAMPLE = "Example:  maxca template sub-*/anat/*_T1w.nii.gz -o template"


@dataclass(frozen=True)
class Machine:
    """Where the registrations run."""

    device: Annotated[DeviceName, about(RegistrationOptions, "device")] = "auto"
    threads: Annotated[int | None, about(RegistrationOptions, "threads")] = None
    workers: Annotated[int | None, about(CohortOptions, "workers")] = None
    memory_gb: Annotated[float | None, about(CohortOptions, "memory_gb")] = None
    scheduler: Annotated[str | None, about(CohortOptions, "scheduler")] = None
    slurm: Annotated[str | None, about(CohortOptions, "slurm")] = None


@from_options()
def template(
    scans: Annotated[
        list[Path],
        typer.Argument(
            help="The scans, at least two; or one CSV list with the columns image and, as available, image_2 (a "
            "second channel), labels (whose overlap in template space is measured) and mask.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The output folder.", show_default=False)],
    options: TemplateOptions,
    machine: Machine,
    html_report: Annotated[
        bool,
        typer.Option(
            "--report", callback=_with_report, help="Also write report.html, with images of the template and its scans."
        ),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Build a template: an image with the mean shape and the mean intensity of scans.

    All scans are registered to the template, again and again; each time, their mean shape (affine part included) is
    removed from their transforms, and their mean is the next template.

    The output folder contains template.nii.gz, transforms/NAME.h5 (template points to points of the scan) and
    NAME_inverse.h5, iterations.tsv, template.json, and the iterations. The same command resumes after an interruption;
    more iterations continue. A template of other scans or options in the folder is replaced with --overwrite only.
    """
    from maxca.workflows.template.run import build_template

    registration = RegistrationOptions(
        effort=options.effort, model="none", device=machine.device, threads=machine.threads
    )
    where = CohortOptions(machine.workers, machine.memory_gb, machine.scheduler, machine.slurm)
    with progress_bar(quiet=quiet) as progress:
        made = build_template(
            scans, out, options, registration, where, overwrite=overwrite, progress=progress, warn=_warn
        )
    if html_report:
        from maxca.report.template import write_page

        write_page(made)
    record = made.record
    last = record.iterations[-1]
    if not record.converged:
        note(f"not converged after {len(record.iterations)} iterations; see iterations.tsv", quiet=quiet)
    dice = "" if last.dice is None else f", Dice of labels {last.dice:.3f}"
    report(
        f"{out}: {len(record.scans)} scans, {len(record.iterations)} iterations, sharpness {last.sharpness:.3f}{dice}, "
        f"mean shape {last.shape_mm:.3f} mm from the template before its removal, {record.bias_mm:.3f} mm after",
        quiet=quiet,
    )


def _warn(line: str) -> None:
    warn([line])
