"""``maxca models``: the bundled models and their cards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, help_of
from maxca.cli.terminal import report

app = typer.Typer(no_args_is_help=True, help="Bundled models and their cards.")


def list_models() -> None:
    """List the bundled models with the first line of their cards."""
    from maxca.models.zoo import card, shipped

    names = shipped()
    for name in names:
        title = next((line for line in card(name).splitlines() if line and not line.startswith("#")), "")
        report(f"{name:<16} {title}")
    if not names:
        report("no bundled models; register --model also takes a file")


def show(name: Annotated[str, typer.Argument(help="A name from maxca models list.", show_default=False)]) -> None:
    """Print a model card: purpose, training, licence, figures and limitations."""
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
            help="Refinement steps of register after the prediction; 0 for a network trained with labels. By default "
            "that of the effort.",
            show_default=False,
        ),
    ] = None,
    mirror: Annotated[
        str,
        typer.Option(
            "--mirror",
            help="Axes along which predictions for mirror images are averaged: x for left and "
            "right, xy to include anterior and posterior.",
            show_default=False,
        ),
    ] = "",
    by_name: Annotated[
        bool,
        typer.Option("--by-name", help="Use the model only when named explicitly; --model auto ignores it."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Pack a model for distribution: half precision, with the settings of register after the prediction."""
    from dataclasses import replace

    from maxca.io.atomic import check_new_file
    from maxca.models.load import load_model
    from maxca.models.zoo import SUFFIX

    check_new_file(out, (SUFFIX,), overwrite)
    if not set(mirror) <= set("xyz"):
        raise typer.BadParameter(f"--mirror {mirror}: use a combination of x, y and z")
    model = load_model(source)
    axes = tuple(sorted("xyz".index(letter) for letter in set(mirror))) or model.mirror
    packed = replace(model, refine=model.refine if refine is None else refine, mirror=axes)
    if by_name:
        packed = replace(packed, domain=None, distribution=None)
    packed.save(out, half=True)
    report(f"{out}: {out.stat().st_size / 1e6:.1f} MB", quiet=quiet)


for name, command, example in (
    ("list", list_models, "Example:  maxca models list"),
    ("show", show, "Example:  maxca models show hippocampus"),
    ("pack", pack, "Example:  maxca models pack run/best.safetensors -o mine.safetensors"),
):
    app.command(name, help=help_of(command), epilog=example)(command)
