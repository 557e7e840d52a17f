"""``maxca train``: prepared scans in, a network out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from maxca.cli.options import Quiet, Threads
from maxca.cli.terminal import report
from maxca.options import MACHINE

EXAMPLE = "Example:  maxca train hippocampus --data hippocampus-ready -o run"


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="What to train: hippocampus, cardiac_cine, brain_t1, synth, paper_brain or paper_cardiac.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The folder of the run.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option("--data", help="The folder that maxca prepare made.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            help="Start from a model, a file or one that maxca models list knows, instead of random weights.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Instead of the steps of the recipe.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Instead of the seed of the recipe.", show_default=False)
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="Pairs in a step, instead of those of the recipe.", show_default=False),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option("--accumulate", min=1, help="Parts a batch is done in, to save memory.", show_default=False),
    ] = None,
    precision: Annotated[
        Literal["32-true", "bf16-mixed", "16-mixed"] | None,
        typer.Option("--precision", help="Instead of the precision of the recipe.", show_default=False),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(rich_help_panel=MACHINE, help="auto takes the GPU if there is one."),
    ] = "auto",
    devices: Annotated[
        int, typer.Option("--devices", min=1, rich_help_panel=MACHINE, help="GPUs, or processes on a CPU.")
    ] = 1,
    workers: Annotated[
        int, typer.Option("--workers", min=0, rich_help_panel=MACHINE, help="Processes that prepare the samples.")
    ] = 0,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train a registration network by a recipe.

    The folder holds run.json (configuration, code version, data), log.csv, TensorBoard events, a checkpoint to go on
    from (--resume), and last.safetensors and best.safetensors for maxca register --model.
    """
    from maxca.cli.terminal import training_table
    from maxca.training.start import train_in

    with training_table(quiet=quiet) as show:
        folder = train_in(
            recipe,
            data,
            out,
            resume=resume,
            init=init,
            steps=steps,
            seed=seed,
            batch=batch,
            accumulate=accumulate,
            precision=precision,
            device=device,
            devices=devices,
            workers=workers,
            threads=threads,
            report=show,
        )
    report(f"{folder}: trained; try maxca register --model {folder / 'best.safetensors'}", quiet=quiet)
