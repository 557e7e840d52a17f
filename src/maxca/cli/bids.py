"""``maxca bids``: a BIDS App."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from maxca.cli.cohort import SHOWN, can_draw
from maxca.cli.options import Quiet, from_options
from maxca.cli.register import _model
from maxca.cli.terminal import progress_bar, report, warn
from maxca.options import RegistrationOptions
from maxca.workflows.bids.options import BidsOptions

EXAMPLE = "Example:  maxca bids DATASET derivatives/maxca participant --participant-label 01 02 --n-cpus 4"
SEVERAL = ("--participant-label", "--session-label")


class AsBidsApps(typer.core.TyperCommand):
    """Takes the options of BIDS Apps: ``--participant_label 01 02``, with underscores, and several labels in a row."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write each label as an option of its own."""
        return super().parse_args(ctx, separate(args))


def separate(args: list[str]) -> list[str]:
    """Arguments with one option for each label, and dashes for underscores in names of options."""
    separated: list[str] = []
    option = ""
    for arg in args:
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            name = name.replace("_", "-")
            option = name if name in SEVERAL and not equals else ""
            separated += [] if option else [name + equals + value]
        elif option and not arg.startswith("-"):
            separated += [option, arg]
        else:
            option = ""
            separated.append(arg)
    return separated


@from_options(model=_model)
def bids(
    dataset: Annotated[Path, typer.Argument(metavar="BIDS", help="The root of a BIDS dataset.", show_default=False)],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The folder of the derivatives.", show_default=False),
    ],
    level: Annotated[
        Literal["participant", "group"],
        typer.Argument(help="participant: register the scans; group: a page and a table of all.", show_default=False),
    ],
    scans: BidsOptions,
    options: RegistrationOptions,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Whether to judge the results and to write reports.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Register the scans of a BIDS dataset to a template, as a BIDS App.

    participant writes for each scan the transforms in both directions, the scan on the grid of the template, and its
    labels, if the dataset has them in its derivatives. Several scans of a participant (sessions, runs) are averaged
    first, without preferring one. The same command resumes after an interruption. group writes group_T1w.html, a page
    of all participants, those without a result first, and group_T1w.tsv.
    """
    pages = can_draw("report", wanted=page, quiet=quiet)
    failed = _participant(dataset, out, options, scans, pages, quiet) if level == "participant" else {}
    failed |= _group(dataset, out, scans, pages, quiet) if level == "group" else {}
    for name, why in list(failed.items())[:SHOWN]:
        report(f"  {name}: {why}", quiet=quiet)
    if len(failed) > SHOWN:
        report(f"  and {len(failed) - SHOWN} more", quiet=quiet)
    if failed:
        raise typer.Exit(1)


def _participant(
    dataset: Path, out: Path, options: RegistrationOptions, scans: BidsOptions, pages: bool, quiet: bool
) -> dict[str, str]:
    from maxca.workflows.bids.run import participant_level

    finish = None
    if pages:
        from maxca.report.cohort import prepare_page

        finish = prepare_page
    with progress_bar(quiet=quiet) as progress:
        failed = participant_level(
            dataset, out, options, scans, progress=progress, warn=lambda line: warn([line]), finish=finish
        )
    report(f"{out}: {'all registered' if not failed else f'{len(failed)} not registered'}", quiet=quiet)
    return failed


def _group(dataset: Path, out: Path, scans: BidsOptions, pages: bool, quiet: bool) -> dict[str, str]:
    from maxca.workflows.bids.derivatives import SPEC
    from maxca.workflows.bids.run import group_level

    missing = group_level(dataset, out, scans)
    if pages:
        from maxca.report.cohort import write_cohort

        name = SPEC["group"]["page"].format(suffix=scans.suffix)
        with progress_bar(quiet=quiet) as progress:
            write_cohort(out, progress=progress, page=name, missing=missing)
        report(str(out / name), quiet=quiet)
    return missing
