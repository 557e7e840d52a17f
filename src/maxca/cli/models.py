"""``maxca models``: what networks come along, and what is known about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, help_of
from maxca.cli.terminal import report

app = typer.Typer(no_args_is_help=True, help="Trained networks: which come along, and what is known about them.")


def list_models() -> None:
    """Name the models that come along, with the first line of their cards."""
    from maxca.models.zoo import card, shipped

    names = shipped()
    for name in names:
        title = next((line for line in card(name).splitlines() if line and not line.startswith("#")), "")
        report(f"{name:<16} {title}")
    if not names:
        report("none come along yet; register --model takes a file too")


def show(name: Annotated[str, typer.Argument(help="As in the list.", show_default=False)]) -> None:
    """Print a model's card: what for, how it was trained, licence, figures, and what it fails on."""
    from maxca.models.zoo import card

    report(card(name))


def pack(
    source: Annotated[Path, typer.Argument(help="A model of maxca train, such as run/best.safetensors.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write: NAME.safetensors.")],
    refine: Annotated[
        int | None,
        typer.Option(
            "--refine",
            min=0,
            help="Steps of optimisation that register takes after the network; 0 where it learnt from labels and knows "
            "better. By default what the effort asks.",
            show_default=False,
        ),
    ] = None,
    mirror: Annotated[
        str,
        typer.Option(
            "--mirror",
            help="Axes along which the pair is shown to it mirrored too, for the mean of the answers: x for left and "
            "right, xy for front and back besides.",
            show_default=False,
        ),
    ] = "",
    by_name: Annotated[
        bool,
        typer.Option("--by-name", help="For those who ask for it by name only: --model auto passes it by."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a model ready to be given away: half the size, and with what register is to do after it."""
    from dataclasses import replace

    from maxca.io.atomic import check_new_file
    from maxca.models.load import load_model
    from maxca.models.zoo import SUFFIX

    check_new_file(out, (SUFFIX,), overwrite)
    if not set(mirror) <= set("xyz"):
        raise typer.BadParameter(f"--mirror {mirror}: give some of x, y and z")
    model = load_model(source)
    axes = tuple(sorted("xyz".index(letter) for letter in set(mirror))) or model.mirror
    packed = replace(model, refine=model.refine if refine is None else refine, mirror=axes)
    if by_name:
        packed = replace(packed, domain=None, likeness=None)
    packed.save(out, half=True)
    report(f"{out}: {out.stat().st_size / 1e6:.1f} MB", quiet=quiet)


for name, command, example in (
    ("list", list_models, "Example:  maxca models list"),
    ("show", show, "Example:  maxca models show hippocampus"),
    ("pack", pack, "Example:  maxca models pack run/best.safetensors -o mine.safetensors"),
):
    app.command(name, help=help_of(command), epilog=example)(command)
