"""``maxca models``: what networks come along, and what is known about them."""

from __future__ import annotations

from typing import Annotated

import typer

from maxca.cli.terminal import report

app = typer.Typer(no_args_is_help=True, help="Trained networks: which come along, and what is known about them.")


@app.command("list")
def list_models() -> None:
    """Name the models that come along, with the first line of their cards."""
    from maxca.zoo.find import card, shipped

    names = shipped()
    for name in names:
        title = next((line for line in card(name).splitlines() if line and not line.startswith("#")), "")
        report(f"{name:<16} {title}")
    if not names:
        report("none come along yet; register --model takes a file too")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="As in the list.", show_default=False)]) -> None:
    """Print a model's card: what for, how it was trained, licence, figures, and what it fails on."""
    from maxca.zoo.find import card

    report(card(name))
