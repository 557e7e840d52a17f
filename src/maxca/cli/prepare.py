"""``maxca prepare``: prepare a data set as downloaded, or a list of scans, for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Quiet, from_options
from maxca.cli.terminal import progress_bar, report, warn
from maxca.datasets.options import PreparationOptions

EXAMPLE = "Example:  maxca prepare scans.csv -o ready --spacing 1.5x1.5x1.5"
LISTS = (".csv",)


@from_options()
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A list of scans (.csv), or the name of a data set; see above.",
            metavar="LIST|DATASET",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The output folder; an interrupted run can be repeated.", show_default=False
        ),
    ],
    options: PreparationOptions,
    source: Annotated[Path | None, typer.Argument(help="The folder of a named data set.", show_default=False)] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of parallel processes.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Prepare scans for training: alignment, spacing, intensities.

    A list is a CSV file with the columns image and, optionally, labels, subject, split (train or val) and group; its
    paths are relative to it. --kind, --spacing, --shape and --intensity define the preparation of its scans.

    Named data sets have fixed settings: bids takes any BIDS folder of skull-stripped T1w brains, at 2 mm;
    hippocampus is Task04 of the Medical Segmentation Decathlon; acdc takes the hearts as downloaded; adni, abide,
    adhd200, ixi, mindboggle, buckner40 and neurite-oasis are T1w brains as their archives provide them, on the grid of
    the paper (144 x 192 x 160, 1 mm); paper-cardiac is acdc on the grid of the paper.

    The folder then contains manifest.json (the processing of each file) and a file per scan, for maxca train.
    Unreadable scans are reported and skipped.
    """
    from maxca.datasets.prepare import DATASETS, LISTED, listed_plan
    from maxca.datasets.prepare import prepare as run
    from maxca.datasets.prepared import read_prepared

    listed = dataset.lower().endswith(LISTS)
    if not listed and dataset not in DATASETS:
        raise typer.BadParameter(f"{dataset} is not a list (.csv), nor one of {', '.join(DATASETS)}")
    if listed and source is not None:
        raise typer.BadParameter(f"{source}: a list contains its scans; remove the folder")
    if not listed and source is None:
        raise typer.BadParameter(f"{dataset}: pass the folder of the data set too")
    if not listed and options != PreparationOptions():
        raise typer.BadParameter(f"{dataset} has its own spacing, shape and intensities; use a list to choose others")
    with progress_bar(quiet=quiet) as progress:
        if listed:
            noticed = run(LISTED, dataset, out, jobs=jobs, plan=listed_plan(options), progress=progress)
        else:
            assert source is not None
            noticed = run(dataset, source, out, jobs=jobs, progress=progress)
    warn(noticed)
    data = read_prepared(out)
    counts = {split: len(data.pairs(split)) for split in ("train", "val")}
    report(
        f"{out}: {len(data.scans)} scans, {counts['train']} pairs to train on, {counts['val']} to validate on",
        quiet=quiet,
    )
