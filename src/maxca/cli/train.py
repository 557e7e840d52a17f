"""``maxca train``: train a network on prepared scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Quiet, from_options
from maxca.cli.terminal import report, warn
from maxca.training.options import TrainingOptions

EXAMPLE = "Example:  maxca train hippocampus --data hippocampus-ready -o run"


@from_options()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="The recipe: hippocampus, cardiac_cine, brain_t1, synth, segmentation, segmentation_any_contrast, "
            "segmentation_maxca, paper_brain or paper_cardiac.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The folder of the run.", show_default=False)],
    options: TrainingOptions,
    data: Annotated[
        Path | None, typer.Option("--data", help="An output folder of maxca prepare.", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder; --steps N extends it.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a registration or segmentation network by a recipe.

    The recipes segmentation, segmentation_any_contrast and segmentation_maxca train on labelled scans of any organ;
    their models guide maxca register --model, and label scans with maxca label --model.

    The folder contains run.json (configuration, code version, data), log.csv (for its columns see the page
    reference/training of the documentation), TensorBoard events, a checkpoint to continue from (--resume), and
    last.safetensors and best.safetensors for maxca register --model; for a segmentation network also last.tsv and
    best.tsv, the Dice of each label.
    """
    from maxca.cli.terminal import training_table
    from maxca.models.segmentation_file import is_segmenter
    from maxca.training.start import train_in

    noticed: list[str] = []
    with training_table(quiet=quiet) as show:
        folder = train_in(recipe, data, out, options, resume=resume, report=show, warn=noticed.append)
    warn(noticed)
    best = folder / "best.safetensors"
    more = f", or maxca label --model {best}" if is_segmenter(best) else ""
    report(f"{folder}: trained; try maxca register --model {best}{more}", quiet=quiet)
