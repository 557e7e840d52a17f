"""``maxca prepare``: a data set as downloaded in, a folder to train on out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from maxca.cli.options import Quiet
from maxca.cli.terminal import progress_bar, report, warn

DatasetName = Literal[
    "bids", "hippocampus", "acdc", "adni", "abide", "adhd200", "ixi", "mindboggle", "buckner40", "neurite-oasis",
    "paper-cardiac",
]  # fmt: skip
EXAMPLE = "Example:  maxca prepare hippocampus Task04_Hippocampus -o hippocampus-ready"


def prepare(
    dataset: Annotated[
        DatasetName, typer.Argument(help="How the data set is laid out; see above.", show_default=False)
    ],
    source: Annotated[Path, typer.Argument(help="The folder of the data set.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to fill; run again, it goes on.", show_default=False)
    ],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Scans to work on at once.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Bring a data set onto the grid a network trains on: affine or crop, spacing, intensities.

    bids takes any BIDS folder of T1w brains without skull, at 2 mm; hippocampus is Task04 of the Medical Segmentation
    Decathlon; acdc takes the hearts as downloaded; the others are T1w brains as their archives hand them out, brought
    to the grid of the paper (144 x 192 x 160, 1 mm). paper-cardiac is acdc on the grid of the paper.

    The folder then holds manifest.json (what was done to which file) and a file for each scan, for maxca train. A scan
    that cannot be read is named and left out.
    """
    from maxca.datasets.prepare import prepare as run
    from maxca.datasets.prepared import read_prepared

    with progress_bar(quiet=quiet) as progress:
        noticed = run(dataset, source, out, jobs=jobs, progress=progress)
    warn(noticed)
    data = read_prepared(out)
    counts = {split: len(data.pairs(split)) for split in ("train", "val")}
    report(
        f"{out}: {len(data.scans)} scans, {counts['train']} pairs to train on, {counts['val']} to validate on",
        quiet=quiet,
    )
