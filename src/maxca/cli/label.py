"""``maxca label``: label a scan by a segmentation model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, from_options
from maxca.cli.terminal import report, warn
from maxca.fields import About, about
from maxca.options import DeviceName, RegistrationOptions

EXAMPLE = "Example:  maxca label -i patient_T1.nii.gz --model brain-names -o labels.nii.gz --table labels.tsv"


@dataclass(frozen=True)
class Machine:
    """Where the network runs."""

    device: Annotated[DeviceName, about(RegistrationOptions, "device")] = "auto"
    threads: Annotated[int | None, about(RegistrationOptions, "threads")] = None


@dataclass(frozen=True)
class Labels:
    """What is written."""

    table: Annotated[Path | None, About("Also write a table (.tsv) of the labels: number, name and volume in mm³.")] = (
        None
    )


@from_options()
def label(
    image: Annotated[Path, typer.Option("--input", "-i", help="The scan to label.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The label map to write, on the grid of the scan.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="A segmentation model: the name of a bundled one (brain-names: regions of a skull-stripped brain), a "
            "file (.safetensors), or hf://OWNER/NAME.",
        ),
    ],
    labels: Labels,
    machine: Machine,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Label a scan by a segmentation model.

    A scan that is not like those the model was trained on gives a warning.
    """
    from maxca.io.atomic import atomic_path, check_new_file
    from maxca.io.images import WRITTEN_SUFFIXES, write
    from maxca.registration.labelling import label as run
    from maxca.registration.labelling import table

    check_new_file(out, WRITTEN_SUFFIXES, overwrite)
    if labels.table is not None:
        check_new_file(labels.table, (".tsv",), overwrite)
    found = run(image, model, machine.device, machine.threads)
    write(found.image.data, found.image.grid, out, form=found.image.form)
    if labels.table is not None:
        with atomic_path(labels.table) as unfinished:
            unfinished.write_text(table(found), encoding="utf-8")
    warn(found.warnings)
    present = len(set(found.image.data.ravel().tolist()) - {0})
    report(f"{out}: {present} labels, mean probability {found.confidence:.3f}", quiet=quiet)
