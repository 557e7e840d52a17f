"""The commands of ``maxca``. Neither this module nor the top level of a command's module imports torch."""

from __future__ import annotations

from typing import Annotated

import typer

from maxca.cli import (
    apply,
    apply_geometry,
    bids,
    cohort,
    demo,
    evaluate,
    info,
    label,
    models,
    prepare,
    register,
    report,
    series,
    template,
    train,
    transform,
)
from maxca.cli.options import help_of

SUMMARY = """Register medical images: warp a moving scan onto a fixed one, with a transform that ANTs and 3D Slicer
read.

Start with [bold]maxca demo[/bold], or with two of your own scans:
[bold]maxca register -f FIXED -m MOVING -o OUTDIR[/bold]
"""


def _version(wanted: bool) -> None:
    if wanted:
        from maxca.version import installed_version

        print(f"maxca {installed_version()}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            help="A Python file, or the name of an installed plugin, that adds blocks, networks, recipes, similarity "
            "measures or image readers; may be repeated.",
        ),
    ] = None,
) -> None:
    """The options of all commands; ``main`` takes ``--debug`` and ``--plugin`` before."""


app = typer.Typer(
    name="maxca",
    help=SUMMARY,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_options)
for name, command, example in (
    ("register", register.register, register.EXAMPLE),
    ("apply", apply.apply, apply.EXAMPLE),
    ("apply-geometry", apply_geometry.apply_geometry, apply_geometry.EXAMPLE),
    ("series", series.series, series.EXAMPLE),
    ("label", label.label, label.EXAMPLE),
    ("template", template.template, template.EXAMPLE),
    ("prepare", prepare.prepare, prepare.EXAMPLE),
    ("train", train.train, train.EXAMPLE),
    ("evaluate", evaluate.evaluate, evaluate.EXAMPLE),
    ("report", report.report, report.EXAMPLE),
    ("demo", demo.demo, demo.EXAMPLE),
    ("info", info.info, info.EXAMPLE),
):
    app.command(name, help=help_of(command), epilog=example)(command)
app.command("apply-points", hidden=True, help="The earlier name of apply-geometry.", epilog=apply_geometry.EXAMPLE)(
    apply_geometry.apply_geometry
)
app.add_typer(cohort.app, name="cohort")
app.command("bids", cls=bids.AsBidsApps, help=help_of(bids.bids), epilog=bids.EXAMPLE)(bids.bids)
app.add_typer(transform.app, name="transform")
app.add_typer(models.app, name="models")
