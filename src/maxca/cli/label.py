"""``maxca label``: label a scan by a segmentation model, or by labelled scans that are registered to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.dashes import flag
from maxca.cli.options import Overwrite, Quiet, from_options
from maxca.cli.terminal import progress_bar, report, warn
from maxca.fields import About, about, options_of
from maxca.options import DeviceName, RegistrationOptions
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.labelling.options import LabellingOptions

EXAMPLE = "Example:  maxca label -i patient_T1.nii.gz --model brain-names -o labels.nii.gz --table labels.tsv"


@dataclass(frozen=True)
class Machine:
    """Where the network or the registrations run."""

    device: Annotated[DeviceName, about(RegistrationOptions, "device")] = "auto"
    threads: Annotated[int | None, about(RegistrationOptions, "threads")] = None
    workers: Annotated[int | None, about(CohortOptions, "workers")] = None
    scheduler: Annotated[str | None, about(CohortOptions, "scheduler")] = None


@dataclass(frozen=True)
class Labels:
    """Of which labels, and what is written."""

    model: Annotated[
        str | None,
        About(
            "A segmentation model: the name of a bundled one (brain-names: regions of a skull-stripped brain), a "
            "file (.safetensors), or hf://OWNER/NAME."
        ),
    ] = None
    table: Annotated[
        Path | None,
        About("With a model: also write a table (.tsv) of the labels: number, name and volume in mm³."),
    ] = None


@from_options()
def label(
    image: Annotated[Path, typer.Option("--input", "-i", help="The scan to label.")],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="With a model: the label map to write, on the grid of the scan. With atlases: the output folder.",
        ),
    ],
    labels: Labels,
    atlases: LabellingOptions,
    machine: Machine,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Label a scan by a segmentation model, or by atlases: labelled scans that are registered to it.

    --model: a scan that is not like those the model was trained on gives a warning.

    --atlases: the output folder contains labels.nii.gz, confidence.nii.gz (the share of the votes for the label of
    each voxel), volumes.tsv, atlases.tsv, labelling.json and the registrations. The same command resumes, and another
    --fusion uses the same registrations.
    """
    _check(labels, atlases)
    if labels.model is not None:
        _by_model(image, out, labels, machine, overwrite=overwrite, quiet=quiet)
    else:
        _by_atlases(image, out, atlases, machine, quiet=quiet)


def _check(labels: Labels, atlases: LabellingOptions) -> None:
    """Reject options of the other way to label."""
    if (labels.model is None) == (atlases.atlases is None):
        raise typer.BadParameter("give one of them: a segmentation model, or atlases", param_hint="--model, --atlases")
    if labels.model is not None and atlases != LabellingOptions():
        name = next(each.name for each in options_of(LabellingOptions) if getattr(atlases, each.name) != each.default)
        raise typer.BadParameter("is for --atlases, not for --model; leave one of them out", param_hint=flag(name))
    if labels.model is None and labels.table is not None:
        raise typer.BadParameter("is for --model; --atlases writes volumes.tsv", param_hint="--table")


def _by_model(image: Path, out: Path, labels: Labels, machine: Machine, *, overwrite: bool, quiet: bool) -> None:
    from maxca.io.atomic import atomic_path, check_new_file
    from maxca.io.images import WRITTEN_SUFFIXES, write
    from maxca.registration.labelling import label as run
    from maxca.registration.labelling import table

    assert labels.model is not None
    check_new_file(out, WRITTEN_SUFFIXES, overwrite)
    if labels.table is not None:
        check_new_file(labels.table, (".tsv",), overwrite)
    found = run(image, labels.model, machine.device, machine.threads)
    write(found.image.data, found.image.grid, out, form=found.image.form)
    if labels.table is not None:
        with atomic_path(labels.table) as unfinished:
            unfinished.write_text(table(found), encoding="utf-8")
    warn(found.warnings)
    present = len(set(found.image.data.ravel().tolist()) - {0})
    report(f"{out}: {present} labels, mean probability {found.confidence:.3f}", quiet=quiet)


def _by_atlases(image: Path, out: Path, atlases: LabellingOptions, machine: Machine, *, quiet: bool) -> None:
    from maxca.workflows.labelling.run import label_by_atlases

    options = RegistrationOptions(effort=atlases.effort, device=machine.device, threads=machine.threads)
    where = CohortOptions(workers=machine.workers, scheduler=machine.scheduler)
    with progress_bar(quiet=quiet) as progress:
        found = label_by_atlases(
            image, out, atlases, options, where, progress=progress, warn=lambda line: warn([line])
        ).record
    used = sum(atlas.used for atlas in found.atlases)
    report(
        f"{out}: {found.labels} labels from {used} atlases, mean confidence {found.mean_confidence:.3f}, "
        f"{sum(found.seconds.values()):.1f} s",
        quiet=quiet,
    )
